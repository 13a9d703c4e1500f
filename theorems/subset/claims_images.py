r"""Repairs of Theorem 1, second part: the image of g, its measure, dimension and distances."""

from __future__ import annotations

from typing import Any

from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement, at_most
from . import curves, observed_images
from .counts import counts_of_lora, lora_counts
from .curves import Hilbert, Polynomial
from .lowrank import Factors, Target, factor_pairs, targets


def _boxes(instance: Any) -> Comparison:
    return Comparison(instance.met, "<=", instance.allowed)


def _hoelder(exponent: int) -> Any:
    def compare(instance: Hilbert) -> Comparison:
        return Comparison(instance.squared_distance, "<=", 6 * instance.separation**exponent)

    return compare


def _jacobian_rank(overlap: int) -> Any:
    """M rank A + n rank B − rank A rank B, against the Jacobian; `overlap` = 0 forgets the last term."""

    def compare(instance: Factors) -> Comparison:
        m, n, _ = instance.shape
        b, a = instance.ranks
        return Comparison(instance.rank, "==", m * a + n * b - overlap * a * b)

    return compare


def _same(left: str, right: str) -> Any:
    def compare(instance: Any) -> Comparison:
        sides = (getattr(instance, name) for name in (left, right))
        return Comparison(next(sides), "==", next(sides))

    return compare


def _nearest(instance: Any) -> Comparison:
    if isinstance(instance.nearest, float):
        # Equal where the method itself goes to the nearest point, as PERU does.
        return at_most(
            instance.nearest, instance.reached, scale=instance.scale, operations=instance.operations
        )
    return Comparison(instance.nearest, "<=", instance.squared_distance)


def _one_rank_less(instance: Target) -> Comparison:
    """The tail with one singular value too many: as if nothing could be kept."""
    return Comparison(sum(instance.squared_singular_values), "<=", instance.squared_distance)


def _ball(which: int) -> Any:
    def compare(instance: Target) -> Comparison:
        radius = linalg.square_root(instance.squared_singular_values[which])
        return Comparison(radius, "<=", instance.spectral_distance)

    return compare


_THIRD = Target(linalg.exact([[2, 0], [0, 1]]), linalg.exact([[2], [0]]), linalg.exact([[1, 0]]))
TRUE = Judgement.TRUE

CLAIMS = (
    Claim(
        id="T1.R4",
        theorem="subset",
        judgement=TRUE,
        statement=r"\#\{\text{boxes of side } 1/n \text{ that } g([0,1]^k) \text{ meets}\} \le (C+1)^d\, n^k",
        reason=(
            "(b) each of nᵏ cubes has an image of diameter ≤ C/n; the volume is ≤ (C+1)ᵈ n^{k−d} → 0 for k "
            "< d"
        ),
        plain="The image of a Lipschitz map fits into so few small boxes that its volume is zero.",
        compare=_boxes,
        assumes=(Assumption("g is Lipschitz", lambda i: (not isinstance(i, Hilbert), "by its form")),),
        exact=lambda: {"the cubic (t, t³)": Polynomial((0, 1), (0, 0, 0, 1), 30)},
        strategy=curves.polynomials,
        control=Control("Lipschitz: dropped", exact=lambda: Hilbert(5), strategy=curves.hilbert_pairs),
    ),
    Claim(
        id="T1.R5",
        theorem="subset",
        judgement=TRUE,
        statement=r"|H(s)-H(t)|_2^2 \le 6\,|s-t| \text{ and } H([0,1]) = [0,1]^2",
        reason="(b) is sharp: Hilbert's curve has Hölder exponent 1/2 = k/d and fills the square",
        plain="One parameter can fill a square if the map is a little rougher than Lipschitz.",
        compare=_hoelder(1),
        exact=lambda: {"neighbours at level 3": Hilbert(3, (21, 42))},
        strategy=curves.hilbert_pairs,
        control=Control(
            "Lipschitz: exponent 1 in place of 1/2", exact=lambda: Hilbert(5, (0, 8)), compare=_hoelder(2)
        ),
    ),
    Claim(
        id="T1.R11",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"\mathrm{rank}\,D(BA) = m\,\mathrm{rank}A + n\,\mathrm{rank}B - \mathrm{rank}A\,\mathrm{rank}B"
        ),
        reason="dB A fills m rank A dimensions, B dA n rank B, and they share rank A rank B",
        plain="The exact rank of LoRA's Jacobian at every point, r (m + n − r) at almost all of them.",
        compare=_jacobian_rank(1),
        exact=lambda: {
            "3 × 3, both of rank 1": Factors(linalg.exact([[1], [0], [0]]), linalg.exact([[1, 0, 0]])),
            "B = 0": Factors(linalg.exact([[0], [0], [0]]), linalg.exact([[1, 0, 0]])),
            "both 0": Factors(linalg.exact([[0], [0]]), linalg.exact([[0, 0]])),
        },
        strategy=factor_pairs,
        control=Control(
            "the overlap is forgotten, as in counting parameters",
            compare=_jacobian_rank(0),
            exact=lambda: Factors(linalg.exact([[1], [0], [0]]), linalg.exact([[1, 0, 0]])),
        ),
        observe=observed_images.trained_factors,
    ),
    Claim(
        id="T1.R12",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"\dim \mathrm{Im}(g) = \max_\Phi \mathrm{rank}\,Dg(\Phi) = \text{the closed form of the method}"
        ),
        reason=(
            "each method's dimension is derived on the theorem's page; r (m + n − r) for LoRA, the gauge "
            "does not count"
        ),
        plain="How many dimensions of updates a method really reaches, whatever its number of parameters.",
        compare=_same("largest_rank", "dimension"),
        exact=lambda: {
            f"LoRA {m} × {n}, rank {r}": counts_of_lora(m, n, r) for m, n, r in ((3, 3, 1), (4, 3, 2))
        },
        strategy=lora_counts,
        control=Control(
            "parameters are counted, not dimensions",
            compare=_same("largest_rank", "k"),
            exact=lambda: counts_of_lora(3, 3, 1),
        ),
        observe=observed_images.image_counts,
    ),
    Claim(
        id="T1.R13",
        theorem="subset",
        judgement=TRUE,
        statement=r"\mathrm{rank}\,Dg(\Phi_{init}) = \text{the closed form; } m r \text{ for LoRA at } B = 0",
        reason="where one factor is zero only the other one moves the product",
        plain="At the usual start a method can move in fewer directions than later on.",
        compare=_same("initial_rank", "initial_dimension"),
        exact=lambda: {"LoRA 3 × 3, rank 1": counts_of_lora(3, 3, 1)},
        strategy=lora_counts,
        control=Control(
            "the dimension of the image in its place",
            compare=_same("initial_rank", "dimension"),
            exact=lambda: counts_of_lora(3, 3, 1),
        ),
        observe=observed_images.image_counts,
    ),
    Claim(
        id="T1.R14",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"\mathrm{dist}(\Delta, \mathrm{Im}\,g)^2 = \textstyle\sum_{i>r}\sigma_i(\Delta)^2 \le \|\Delta "
            r"- g(\Phi)\|_F^2"
        ),
        reason="Eckart and Young for LoRA; each method has its own projection, see the table of methods",
        plain="How far the update of full fine-tuning lies from what a method can reach: no Φ comes nearer.",
        compare=_nearest,
        exact=lambda: {"diag(2, 1), rank 1: attained": _THIRD},
        strategy=targets,
        control=Control("one singular value too many", exact=lambda: _THIRD, compare=_one_rank_less),
        observe=observed_images.nearest_points,
    ),
    Claim(
        id="T1.R15",
        theorem="subset",
        judgement=TRUE,
        statement=(
            r"\|\Delta - \Delta'\|_2 \ge \sigma_{r+1}(\Delta) \text{ for all } \mathrm{rank}\,\Delta' \le r"
        ),
        reason=(
            "(d) the image of LoRA is closed and nowhere dense: a ball about every Δ of larger rank misses it"
        ),
        plain=(
            "A null set may still come arbitrarily near to everything; the image of LoRA does not. The same "
            "holds for "
            "all maps made of polynomials, ReLU, exp and tanh."
        ),
        compare=_ball(1),
        exact=lambda: {"diag(2, 1), rank 1: attained": _THIRD},
        strategy=targets,
        control=Control("σ_r in place of σ_{r+1}", exact=lambda: _THIRD, compare=_ball(0)),
    ),
)
