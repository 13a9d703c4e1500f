r"""The claims of Theorem 2 as the paper prints them, each with its judgement and what refutes it.

Equations 24 to 30 are the printed proof, line by line; 6 and 30 are the theorem; 20 is its reading in words;
T2.a to T2.d are claims made in running text.
"""

from __future__ import annotations

import numpy as np

from ...models.activations import ACTIVATIONS
from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement, MissingIngredient
from . import bounds, instances, observed, strategies
from .comparisons import bias_free, chain_form, deviation_at_most, keeps_zero, untuned_biases
from .feedforward import FeedForward, chain
from .instances import Coefficients, Extents, TwoPoints, UpdateNorms


def _counterexamples() -> dict[str, FeedForward]:
    return {
        "W=(1,1), Φ=(1,1), x=1": chain([1, 1], [1, 1], 1, activations="identity"),
        "W=(1,1), Φ=(1,1), x=1, relu": chain([1, 1], [1, 1], 1, activations="relu"),
        "only the last layer tuned, W=(2,2), Φ=(0,1)": chain([2, 2], [0, 1], 1, activations="relu"),
        "a contraction, W=(1/2,1/2), Φ=(1,1)": chain(["1/2", "1/2"], [1, 1], 1, activations="identity"),
    }


def _one_layer(pair: FeedForward) -> Comparison:
    """‖f − f₀‖ ≤ L‖Φx‖ ≤ L‖Φ‖‖x‖: both steps at once."""
    if pair.depth != 1:
        raise MissingIngredient(f"equation 25 speaks of one layer; this chain has {pair.depth}")
    L, phi = pair.lipschitz[0], pair.update_norms[0]
    middle = L * linalg.norm(pair.x @ pair.updates[0].T)
    lhs = np.concatenate([pair.deviation, middle])
    rhs = np.concatenate([middle, L * phi * linalg.norm(pair.x)])
    scale = None if pair.is_exact else np.concatenate([pair.scale, pair.scale])
    return Comparison(lhs, "<=", rhs if pair.is_exact else rhs + 2 * linalg.gamma(pair.operations) * scale,
                      scale=scale, operations=pair.operations)  # fmt: skip


def _one_layer_uniform(pair: FeedForward) -> Comparison:
    if pair.depth != 1:
        raise MissingIngredient(f"equation 26 speaks of one layer; this chain has {pair.depth}")
    return deviation_at_most(bounds.printed_layerwise)(pair)


def _recursion(pair: FeedForward, inputs: str = "tuned") -> Comparison:
    """Equation 28 for every layer of the chain at once."""
    gaps = [linalg.norm(a - b) for a, b in zip(pair.tuned, pair.base, strict=True)]
    sizes = [linalg.norm(x) for x in getattr(pair, inputs)]
    rhs = [
        L * (W * gap + phi * size)
        for L, W, phi, gap, size in zip(
            pair.lipschitz, pair.weight_norms, pair.update_norms, gaps, sizes, strict=False
        )
    ]
    lhs, rhs = np.concatenate(gaps[1:]), np.concatenate(rhs)
    if pair.is_exact:
        return Comparison(lhs, "<=", rhs)
    scale = np.tile(_running_scale(pair), pair.depth)
    allowance = 2 * linalg.gamma(pair.operations) * scale
    return Comparison(lhs, "<=", rhs + allowance, scale=scale, operations=pair.operations)


def _running_scale(pair: FeedForward) -> np.ndarray:
    """The largest magnitude in any layer, which rounding in the recursion is relative to."""
    largest = [np.linalg.norm(x, axis=-1) for x in (*pair.tuned, *pair.base)]
    norms = [np.linalg.norm(w) + np.linalg.norm(u) for w, u in zip(pair.weights, pair.updates, strict=True)]
    scales = np.max([prefix.scale for prefix in pair.prefixes], axis=0)  # a later layer may contract
    return np.max(largest, axis=0) * (1 + max(norms)) * max(1.0, *pair.lipschitz) + scales


def _lower_half(pair: FeedForward) -> Comparison:
    """f₀(x) ≤ f(x), which needs an order and hence scalar outputs."""
    if pair.tuned[-1].shape[-1] != 1:
        raise MissingIngredient("the outputs are vectors, and equation 20 orders them: no order is given")
    return Comparison(
        pair.base[-1][:, 0], "<=", pair.tuned[-1][:, 0], scale=pair.scale, operations=pair.operations
    )


def _lipschitz_as_printed(points: TwoPoints) -> Comparison:
    L = ACTIVATIONS[points.activation].lipschitz
    lhs = abs(instances.scalar_value(points.activation, points.u) - points.v)
    rhs = abs(points.u - points.v) * (1 if L == 1 else L)
    return Comparison(lhs, "<=", rhs, scale=1 + abs(float(points.u)) + abs(float(points.v)), operations=32)


def _few_reach_less(extents: Extents) -> Comparison:
    return Comparison(extents.few, "<", extents.many, operations=64)


def _later_layers_weigh_more(constants: Coefficients) -> Comparison:
    values = constants.printed()
    return Comparison(values[:-1], "<", values[1:], operations=4 * constants.N)


def _full_norms_larger(norms: UpdateNorms) -> Comparison:
    return Comparison(norms.peft, "<=", norms.full, operations=64)


SUM = r"\sum_{k=1}^{N} M^{N-k} L^{N-k} \alpha_k \|x\|"
WORKED = (
    "Two scalar linear layers W = (1, 1), updates Φ = (1, 1), input x = 1.  Then f₀(x) = 1·1·1 = 1 and "
    "f(x) = 2·2·1 = 4, so |f − f₀| = 3.  The printed bound has M = L = 1, α = (1, 1): 1 + 1 = 2 < "
    "3.  The step from (28) to "
    "(29) replaces ‖x^{k-1}‖, here |x¹| = 2, by ‖x‖ = 1."
)
REPAIRS = ("T2.R24", "T2.R1", "T2.R2", "T2.R3", "T2.R6", "T2.R7")

# Equations 6, 29 and 30 are one statement in three forms: they assume the same and fail alike.
THE_THEOREM = {
    "assumes": (chain_form, bias_free, keeps_zero),
    "repaired_by": REPAIRS,
    "exact": _counterexamples,
    "worked": WORKED,
    "strategy": lambda: strategies.chains(biases=False, activations=strategies.ZERO_KEEPING),
    "must_fail_on": lambda s: s["method"] == "head" and s["network"] == "mlp-relu",
}

CLAIMS = (
    Claim(
        id="T2.6",
        theorem="capacity",
        equation="6",
        statement=(
            rf"\|f(x)-f_0(x)\| \le {SUM}, \quad \|W_{{0,k}}\| \le M,\ L_k \le L,\ \alpha_k = "
            rf"L\|\Phi_k\|"
        ),
        judgement=Judgement.FALSE,
        reason="drops ‖x^{k-1}‖/‖x‖: the tuned layer sees an activation that may be longer than the input",
        plain=(
            "The theorem: the output of a fine-tuned network moves by at most a sum over its layers. "
            "It fails for two "
            "scalar layers, and for ordinary linear probing of a bias-free network."
        ),
        compare=deviation_at_most(bounds.printed),
        observe=observed.feed_forward_or_transcript,
        **THE_THEOREM,
    ),
    Claim(
        id="T2.20",
        theorem="capacity",
        equation="20",
        statement=rf"f_0(x) \le f(x) \le {SUM} + f_0(x)",
        judgement=Judgement.ILL_POSED,
        reason=(
            "vectors are not ordered; for scalars the lower half is false (Φ = −1 gives f = 0 < f₀ = "
            "1) and the upper half is equation 6"
        ),
        plain=(
            "Fine-tuning is said to increase the output. Outputs are vectors, and even a scalar one "
            "may shrink."
        ),
        compare=_lower_half,
        repaired_by=("T2.R3",),
        exact=lambda: {"W=1, Φ=-1, x=1": chain([1], [-1], 1, activations="identity")},
        worked="One scalar layer W = 1, Φ = −1, x = 1: f₀ = 1, f = 0, so f₀ ≤ f reads 1 ≤ 0.",
        strategy=lambda: strategies.integer_chains(widths=(1, 1)),
        observe=observed.feed_forward,
    ),
    Claim(
        id="T2.24",
        theorem="capacity",
        equation="24",
        statement=r"f(x) = \sigma((W_0+\Phi)x)",
        judgement=Judgement.DEFINITION,
        reason="a definition: one tuned layer",
    ),
    Claim(
        id="T2.25",
        theorem="capacity",
        equation="25",
        statement=(
            r"\|f(x)-f_0(x)\| = \|\sigma(W_0x+\Phi x)-\sigma(W_0x)\| \le L\|\Phi x\| \le L\|\Phi\|\|x\|"
        ),
        judgement=Judgement.TRUE,
        reason="Lipschitz continuity, then the definition of the spectral norm; σ(0) plays no role",
        plain="For a single layer both inequalities hold, and a scalar linear layer attains them.",
        compare=_one_layer,
        assumes=(untuned_biases,),
        exact=lambda: {
            "W=1, Φ=2, x=3": chain([1], [2], 3, activations="identity"),
            "W=-1, Φ=3, x=1, relu": chain([-1], [3], 1, activations="relu"),
        },
        strategy=lambda: (
            strategies.integer_chains(depths=(1, 1)),
            strategies.float_chains(depths=(1, 1), biases=False),
        ),
        control=Control(
            "L‖Φ‖ is halved",
            compare=lambda p: Comparison(p.deviation, "<=", bounds.printed(p) / 2, p.scale, p.operations),
            exact=lambda: chain([1], [2], 3, activations="identity"),
        ),
        observe=observed.last_layer,
    ),
    Claim(
        id="T2.26",
        theorem="capacity",
        equation="26",
        statement=r"\forall x:\ \|f(x)-f_0(x)\| \le L\|\Phi\|\|x\|",
        judgement=Judgement.TRUE,
        reason="the two ends of equation 25",
        plain="The one-layer bound holds for every input.",
        compare=_one_layer_uniform,
        assumes=(untuned_biases,),
        exact=lambda: {"W=1, Φ=2, x=3": chain([1], [2], 3, activations="identity")},
        strategy=lambda: (
            strategies.integer_chains(depths=(1, 1)),
            strategies.float_chains(depths=(1, 1), biases=False),
        ),
        control=Control(
            "one layer: dropped",
            compare=deviation_at_most(bounds.printed_layerwise),
            exact=lambda: chain([1, 1], [1, 1], 1, activations="identity"),
            strategy=lambda: strategies.chains(biases=False, activations=strategies.ZERO_KEEPING),
        ),
        observe=observed.last_layer,
    ),
    Claim(
        id="T2.27",
        theorem="capacity",
        equation="27",
        statement=r"f(x) = \sigma_N((W_{0,N}+\Phi_N)\,\sigma_{N-1}(\cdots\sigma_1((W_{0,1}+\Phi_1)x)))",
        judgement=Judgement.DEFINITION,
        reason=(
            "a definition: no biases, no residuals, no attention; x^k = σ_k(W+Φ)x^{k-1} lacks a pair "
            "of brackets"
        ),
    ),
    Claim(
        id="T2.28",
        theorem="capacity",
        equation="28",
        statement=r"\|x^k-x_0^k\| \le L_k(\|W_{0,k}\|\|x^{k-1}-x_0^{k-1}\| + \|\Phi_k\|\|x^{k-1}\|)",
        judgement=Judgement.TRUE,
        reason="(W+Φ)x − Wx₀ = W(x−x₀) + Φx, where Φ meets the tuned activation",
        plain=(
            "The step from layer to layer is right: the update acts on the tuned activation, whose "
            "norm matters."
        ),
        compare=_recursion,
        assumes=(untuned_biases,),
        exact=lambda: {"W=(1,1), Φ=(1,1), x=1": chain([1, 1], [1, 1], 1, activations="identity")},
        strategy=lambda: (strategies.integer_chains(), strategies.float_chains(biases=False)),
        control=Control(
            "the update meets the base activation instead of the tuned one",
            compare=lambda p: _recursion(p, "base"),
            exact=lambda: chain([1, 1], [1, 1], 1, activations="identity"),
        ),
        observe=observed.feed_forward,
    ),
    Claim(
        id="T2.29",
        theorem="capacity",
        equation="29",
        statement=(
            r"\|f-f_0\| \le \sum_k [L_N\|W_{0,N}\|\cdots L_{k+1}\|W_{0,k+1}\| \times "
            r"L_k\|\Phi_k\|\|x\|]"
        ),
        judgement=Judgement.FALSE,
        reason="the step from (28) puts ‖x‖ where ‖x^{k-1}‖ stands",
        plain="The unrolled sum with layer-wise constants fails for the same reason as the theorem.",
        compare=deviation_at_most(bounds.printed_layerwise),
        observe=observed.feed_forward,
        **THE_THEOREM,
    ),
    Claim(
        id="T2.30",
        theorem="capacity",
        equation="30",
        statement=rf"\|f(x)-f_0(x)\| \le {SUM}",
        judgement=Judgement.FALSE,
        reason="equation 6 again, with its error",
        plain="The last line of the printed proof is the theorem itself.",
        compare=deviation_at_most(bounds.printed),
        observe=observed.feed_forward,
        **THE_THEOREM,
    ),
    Claim(
        id="T2.a",
        theorem="capacity",
        statement=r"\|\sigma(u)-v\| \le L\|u-v\| \text{ for all } u, v",
        judgement=Judgement.FALSE,
        reason="u = v forces σ to be the identity; read ‖σ(u) − σ(v)‖: a slip of typesetting",
        plain="The Lipschitz condition as printed. What was meant is T2.R12, which holds.",
        compare=_lipschitz_as_printed,
        repaired_by=("T2.R12",),
        exact=lambda: {"relu, u = v = -1": TwoPoints("relu", *linalg.exact([-1, -1]))},
        worked="relu at u = v = −1: |σ(u) − v| = |0 + 1| = 1, while L|u − v| = 0.",
        strategy=instances.two_points,
        observe=None,
    ),
    Claim(
        id="T2.b",
        theorem="capacity",
        statement=(
            r"\text{the number of tuned parameters directly constrains the maximum extent of "
            r"adaptation, through } \alpha_k"
        ),
        judgement=Judgement.FALSE,
        reason=(
            "α_k is a norm and counts nothing: a rank-one update reaches what the full one reaches, "
            "and one parameter moves f without limit"
        ),
        plain=(
            "Fewer parameters are said to reach less far. At any one input a rank-one update of no "
            "larger norm reaches "
            "exactly as far as the full update."
        ),
        compare=_few_reach_less,
        assumes=(Assumption("fewer parameters", lambda e: (e.k_few < e.k_many, f"{e.k_few} < {e.k_many}")),),
        repaired_by=("T2.R8", "T2.R9", "T2.R10", "T2.R11"),
        exact=lambda: {
            "W=I, Φ=I, x=(1,1)": instances.twin_extents(
                chain([[[1, 0], [0, 1]]], [[[1, 0], [0, 1]]], [[1, 1]], activations="identity")
            )
        },
        worked=(
            "One linear layer W = I₂ with update Φ = I₂ (4 parameters) at x = (1, 1) moves f by √2.  "
            "Its rank-one twin "
            "ΦΠ = [[½, ½], [½, ½]] (3 degrees of freedom, no larger norm) moves it by √2 too: "
            "√2 < √2 is false."
        ),
        strategy=instances.extents,
        observe=observed.extents,
    ),
    Claim(
        id="T2.c",
        theorem="capacity",
        statement=(
            r"\text{parameters closer to the output (larger } k) \text{ have greater impact, as } N-k "
            r"\text{ becomes smaller}"
        ),
        judgement=Judgement.FALSE,
        reason=(
            "(ML)^{N-k} falls with k when ML > 1; in the correct bound the layer index drops out altogether"
        ),
        plain=(
            "Later layers are said to matter more. In the printed bound they matter less as soon as ML "
            "> 1, and in the "
            "repaired one all layers have the same coefficient."
        ),
        compare=_later_layers_weigh_more,
        repaired_by=("T2.R13",),
        exact=lambda: {"M=2, L=1, N=2": Coefficients(*linalg.exact([2, 1]), 2)},
        worked="M = 2, L = 1, N = 2: the coefficients (ML)^{N-k} are 2 for layer 1 and 1 for layer 2.",
        strategy=instances.coefficients,
        observe=observed.coefficients,
    ),
    Claim(
        id="T2.d",
        theorem="capacity",
        statement=(
            r"N, M, \alpha_k \text{ are higher in FFT than in PEFT, so FFT has the stronger upper "
            r"bound}"
        ),
        judgement=Judgement.FALSE,
        reason=(
            "N and M belong to the base model; α_k of a trained PEFT solution may be the larger one; a "
            "larger upper bound proves no capacity"
        ),
        plain="Full fine-tuning is said to have larger update norms. Trained PEFT updates are often longer.",
        compare=_full_norms_larger,
        repaired_by=("T2.R14",),
        exact=lambda: {
            "H=[[1,3],[3,10]], target (0,1)": instances.least_squares_norms(((1, 3), (3, 10)), (0, 1))
        },
        worked=(
            "Minimise ½(θ−t)ᵀH(θ−t), H = [[1, 3], [3, 10]], t = (0, 1).  The full solution is t with "
            "norm 1; training the "
            "first coordinate alone gives (Ht)₁/H₁₁ = 3 > 1."
        ),
        strategy=instances.least_squares,
        observe=observed.update_norms,
    ),
)
