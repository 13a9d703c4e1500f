r"""The last part of Theorem 4's printed proof, (59) to (66), line by line: the two terms in ε_⊥.

In (60) to (66) the paper writes π for ∇L and x for ε_⊥.  Two parameters and P = e₁ are the smallest room for
an ε_⊥; with H a multiple of the unit matrix all happens in one coordinate, which is what `worked` shows.
"""

from __future__ import annotations

from dataclasses import replace

from ..claims import Claim, Comparison, Control, Judgement, relation
from . import observed
from .comparisons import balance, definite, moving, outside
from .instances import rooted, tilts
from .instances.tilted import Tilted, plane, skewed


def _half() -> Tilted:
    """H = I/2: curvature below 1."""
    made = plane((0, 1), (0, 0))
    return replace(made, hessian=made.hessian / 2)


def _halved() -> tuple:
    return (tilts.small(least=2, largest=2).map(lambda made: replace(made, hessian=made.hessian / 2)),)


def _square(i: Tilted) -> tuple:
    """What (59) puts in the place of its left side, with its two factors of a half."""
    return (i.slope_curved / 2, -i.shifted_square / 2)


def _unshifted(i: Tilted) -> tuple:
    """The same with x − π for x − Hπ."""
    x = i.orthogonal - i.gradient
    return (i.slope_curved / 2, -(x @ i.solved(x)) / 2)


def _left_of_59(i: Tilted) -> tuple:
    return (i.orthogonal_slope, -i.orthogonal_full / 2)


def _left_of_61(i: Tilted) -> tuple:
    return (i.slope_curved / 2, -i.orthogonal_full / 2, i.mixed_curved, -i.slope_curved / 2)


CLAIMS = (
    Claim(
        id="T4.59",
        theorem="sensitivity",
        equation="59",
        statement=(
            r"\epsilon_\perp^T\nabla_\theta\mathcal{L}-\tfrac12\epsilon_\perp^TH^{-1}\epsilon_\perp="
            r"\tfrac12[\nabla_\theta\mathcal{L}^TH\nabla_\theta\mathcal{L}-(\epsilon_\perp-H"
            r"\nabla_\theta\mathcal{L})^TH^{-1}(\epsilon_\perp-H\nabla_\theta\mathcal{L})]"
        ),
        judgement=Judgement.TRUE,
        reason="completing the square; it shows that the left side is ½∇LᵀH∇L at most",
        plain="The square is completed correctly. Three lines on it is multiplied out again, and wrongly.",
        compare=balance(_left_of_59, "==", _square),
        assumes=(definite,),
        repaired_by=("T4.R27",),
        exact=lambda: {
            "H = 2 I, P = e₁, ∇L = ε = e₂": plane((0, 1), (0, 1), 2),
            "H = [[1, −1], [−1, 2]], P = e₁, ∇L = (1, 2), ε = (1, 1)": skewed((1, 2), (1, 1)),
        },
        worked="H = 2 and π = x = 1: 1 − 1/4 = 3/4, and (2 − (1 − 2)²/2)/2 = 3/4.",
        strategy=tilts.tilts,
        control=Control(
            "ε_⊥ − H∇L: replaced by ε_⊥ − ∇L",
            compare=balance(_left_of_59, "==", _unshifted),
            assumes=(definite,),
            exact=lambda: plane((0, 1), (0, 1), 2),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.60",
        theorem="sensitivity",
        equation="60",
        statement=(
            r"(x-H\pi)^TH^{-1}(x-H\pi)=x^TH^{-1}x-2\pi^TH^Tx+\pi^TH^TA\pi"
            r"=x^TH^{-1}x-2\pi^THx+\pi^TH\pi,\quad \pi=\nabla_\theta\mathcal{L},\ x=\epsilon_\perp"
        ),
        judgement=Judgement.FALSE,
        reason="the mixed term is −2πᵀx: the H of Hπ meets H⁻¹",
        plain=(
            "The square of (59) is multiplied out, with an H left standing in the mixed term. The A in the "
            "middle occurs nowhere else and is taken for a slip; the last form is judged."
        ),
        compare=balance(
            lambda i: (i.shifted_square,),
            "==",
            lambda i: (i.orthogonal_full, -2 * i.mixed_curved, i.slope_curved),
        ),
        assumes=(definite,),
        repaired_by=("T4.R28",),
        exact=lambda: {"H = 2 I, P = e₁, ∇L = ε = e₂": plane((0, 1), (0, 1), 2)},
        worked="H = 2 and π = x = 1: (1 − 2)²/2 = 1/2, but 1/2 − 2 · 2 + 2 = −3/2.",
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.61a",
        theorem="sensitivity",
        equation="61",
        statement=(r"\tfrac12[\pi^TH\pi-x^TH^{-1}x+2\pi^THx-\pi^TH\pi]=\tfrac12[2\pi^THx-x^TH^{-1}x]"),
        judgement=Judgement.TRUE,
        reason="πᵀHπ cancels",
        plain="(60) is put into (59). What the printed equation itself says is right: a term cancels.",
        compare=balance(_left_of_61, "==", lambda i: (i.reduced / 2,)),
        assumes=(definite,),
        exact=lambda: {"H = 2 I, P = e₁, ∇L = ε = e₂": plane((0, 1), (0, 1), 2)},
        worked="H = 2 and π = x = 1: both sides are (4 − 1/2)/2 = 7/4.",
        strategy=tilts.tilts,
        control=Control(
            "the second πᵀHπ: dropped",
            compare=balance(lambda i: _left_of_61(i)[:-1], "==", lambda i: (i.reduced / 2,)),
            assumes=(definite,),
            exact=lambda: plane((0, 1), (0, 1), 2),
        ),
        observe=observed.tilted,
    ),
    Claim(
        id="T4.61b",
        theorem="sensitivity",
        equation="61",
        statement=(
            r"\epsilon_\perp^T\nabla_\theta\mathcal{L}-\tfrac12\epsilon_\perp^TH^{-1}\epsilon_\perp="
            r"\tfrac12[2\pi^THx-x^TH^{-1}x]"
        ),
        judgement=Judgement.FALSE,
        reason="(61) is no longer (59): πᵀx has become πᵀHx in (60)",
        plain="The proof goes on with (61) in place of (59). They are different functions.",
        compare=balance(_left_of_59, "==", lambda i: (i.mixed_curved, -i.orthogonal_full / 2)),
        assumes=(definite,),
        repaired_by=("T4.R28",),
        exact=lambda: {"H = 2 I, P = e₁, ∇L = ε = e₂": plane((0, 1), (0, 1), 2)},
        worked="H = 2 and π = x = 1: (59) is 1 − 1/4 = 3/4, (61) is 2 − 1/4 = 7/4.",
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.62a",
        theorem="sensitivity",
        equation="62",
        statement=r"\nabla_y=H^{1/2}\pi-H^{-2}y=0\Rightarrow y^*=H^{5/2}\pi,\quad y=H^{1/2}x",
        judgement=Judgement.TRUE,
        reason="the stationary point of πᵀH^(1/2)y − ½yᵀH⁻²y is H^(5/2)π",
        plain="With y for H^(1/2)x the form of (61) is stationary at the printed point.",
        compare=lambda i: Comparison(i.peak_slopes, "==", 0 * i.peak_slopes),
        assumes=(definite,),
        exact=lambda: {"H = 4 I, P = e₁, ∇L = e₂": rooted.plane(2, 1, 0)},
        worked="H = 4 and π = 1: 2y − y²/32 is stationary at y = 32 = 4^(5/2).",
        strategy=rooted.rooteds,
        control=Control(
            "H^(5/2): replaced by H^(3/2)",
            compare=lambda i: Comparison(i.short_of_peak, "==", 0 * i.short_of_peak),
            assumes=(definite,),
            exact=lambda: rooted.plane(2, 1, 0),
        ),
    ),
    Claim(
        id="T4.62b",
        theorem="sensitivity",
        equation="62",
        statement=(
            r"\pi^TH^{1/2}y-\tfrac12y^TH^{-2}y \text{ is a convex quadratic function of } y "
            r"\text{, and its maximum occurs at } y^*"
        ),
        judgement=Judgement.FALSE,
        reason="concave: its Hessian is −H⁻²; a convex one would have no maximum",
        plain=(
            "The form is called convex. It is concave, which is why the stationary point is a maximum; most "
            "probably a slip of the pen. Convexity is judged, half-way between H^(1/2)ε_⊥ and y*."
        ),
        compare=relation(lambda i: i.middle_value, "<=", lambda i: i.mean_value),
        assumes=(definite,),
        repaired_by=("T4.R27",),
        exact=lambda: {"H = I, P = e₁, ∇L = 0, ε = e₂": rooted.plane(1, 0, 1)},
        worked="H = 1, π = 0: −y²/2 is −1/8 half-way between 0 and 1, above the mean −1/4 of its ends.",
        strategy=rooted.rooteds,
    ),
    Claim(
        id="T4.63a",
        theorem="sensitivity",
        equation="63",
        statement=r"\pi^TH^{1/2}y^*=\pi^TH^{1/2}H^{5/2}\pi=\pi^TH^3\pi",
        judgement=Judgement.TRUE,
        reason="powers of one matrix add up",
        plain="The linear part at the maximum.",
        compare=relation(lambda i: i.peak_linear, "==", lambda i: i.slope_cubed),
        assumes=(definite,),
        exact=lambda: {"H = 4 I, P = e₁, ∇L = e₂": rooted.plane(2, 1, 0)},
        worked="H = 4 and π = 1: 2 · 32 = 64 = 4³.",
        strategy=rooted.rooteds,
        control=Control(
            "H³: replaced by H²",
            compare=relation(
                lambda i: i.peak_linear, "==", lambda i: i.times(i.gradient) @ i.times(i.gradient)
            ),
            assumes=(definite,),
            exact=lambda: rooted.plane(2, 1, 0),
        ),
    ),
    Claim(
        id="T4.63b",
        theorem="sensitivity",
        equation="63",
        statement=r"(y^*)^TH^{-2}y^*=\pi^TH^{5/2}H^{-2}H^{5/2}\pi=\pi^THg",
        judgement=Judgement.FALSE,
        reason="5/2 − 2 + 5/2 = 3: it is πᵀH³π",
        plain=(
            "The square part at the maximum. The g at the end is read as π, a slip; the power of H is wrong, "
            "and with it the maximum."
        ),
        compare=relation(lambda i: i.peak_square, "==", lambda i: i.slope_curved),
        assumes=(definite,),
        repaired_by=("T4.R27",),
        exact=lambda: {"H = 4 I, P = e₁, ∇L = e₂": rooted.plane(2, 1, 0)},
        worked="H = 4 and π = 1: y* = 32 and 32²/16 = 64, not 4.  (H = 2: 8, not 2.)",
        strategy=rooted.rooteds,
    ),
    Claim(
        id="T4.64",
        theorem="sensitivity",
        equation="64",
        statement=r"\pi^THx-\tfrac12x^TH^{-1}x=\pi^TH^3\pi-\tfrac12\pi^TH\pi>0",
        judgement=Judgement.FALSE,
        reason="a value at ε_⊥ is replaced by a maximum, the maximum is ½πᵀH³π, and ε_⊥ may make it negative",
        plain=(
            "The form is said to equal what it is at its maximum. It does not, wherever ε_⊥ is not the "
            "maximiser; there it is ½πᵀH³π, because of (63); and it need not be positive. The equality is "
            "judged."
        ),
        compare=balance(
            lambda i: (i.mixed_curved, -i.orthogonal_full / 2),
            "==",
            lambda i: (i.slope_cubed, -i.slope_curved / 2),
        ),
        assumes=(definite,),
        repaired_by=("T4.R27",),
        exact=lambda: {
            "a value for a maximum: H = I, P = e₁, ∇L = e₂, ε = 0": plane((0, 1), (0, 0)),
            "a negative value: H = I, P = e₁, ∇L = e₂, ε = −e₂": plane((0, 1), (0, -1)),
            "at the maximum itself: H = 4 I, P = e₁, ∇L = e₂, ε = 16 e₂": plane((0, 1), (0, 16), 4),
        },
        worked=(
            "H = 1, π = 1, x = 0: 0 = 1/2 > 0.  With x = −1: −3/2 = 1/2 > 0.  At the maximum for H = 4, x = "
            "16: 64 − 32 = 32 against 64 − 2 = 62."
        ),
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.65",
        theorem="sensitivity",
        equation="65",
        statement=(
            r"H\succ0 \Rightarrow H^3\succ H:\ \pi^TH^3g>\pi^TH\pi\Rightarrow\pi^TH^3\pi-\tfrac12\pi^TH\pi>0"
        ),
        judgement=Judgement.FALSE,
        reason="H³ ≻ H means that every eigenvalue exceeds 1; nothing says that of a curvature",
        plain=(
            "A definite matrix is said to be less than its cube. Below 1 cubes are smaller, and eigenvalues "
            "of a Hessian change with the units of the loss. The g is read as π, a slip."
        ),
        compare=balance(lambda i: (i.slope_cubed,), ">", lambda i: (i.slope_curved,)),
        assumes=(definite, moving),
        repaired_by=("T4.R29",),
        exact=lambda: {"H = I/2, ∇L = e₂": _half()},
        worked="H = 1/2 and π = 1: 1/8 > 1/2 is false, and so is 1/8 − 1/4 > 0.",
        strategy=_halved,
        observe=observed.tilted,
    ),
    Claim(
        id="T4.66",
        theorem="sensitivity",
        equation="66",
        statement=(
            r"\epsilon_\perp^T\nabla_\theta\mathcal{L}-\tfrac12\epsilon_\perp^TH^{-1}\epsilon_\perp="
            r"\tfrac12[\nabla_\theta\mathcal{L}^TH\nabla_\theta\mathcal{L}-(\epsilon_\perp-H"
            r"\nabla_\theta\mathcal{L})^TH^{-1}(\epsilon_\perp-H\nabla_\theta\mathcal{L})]>0"
        ),
        judgement=Judgement.FALSE,
        reason="positive iff ε_⊥ᵀH⁻¹ε_⊥ < 2ε_⊥ᵀ∇L; at a stationary point never",
        plain=(
            "The last line: the two terms in ε_⊥ are positive. That depends on ε_⊥, and where training has "
            "come to rest, with ∇L = 0, they are never positive."
        ),
        compare=balance(_left_of_59, ">"),
        assumes=(definite, outside),
        repaired_by=("T4.R27", "T4.R3"),
        exact=lambda: {
            "H = I, P = e₁, ∇L = e₂, ε = −e₂": plane((0, 1), (0, -1)),
            "at a stationary point: H = I, P = e₁, ∇L = 0, ε = e₂": plane((0, 0), (0, 1)),
        },
        worked="H = 1, π = 1, x = −1: −1 − 1/2 = −3/2 > 0.  With π = 0 and x = 1: −1/2 > 0.",
        strategy=tilts.roomy,
        observe=observed.tilted,
    ),
)
