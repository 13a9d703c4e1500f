r"""The claims of Theorem 1 and of its setting as the paper prints them, each with its judgement.

Equations 1 to 4 are the setting, 5, 22 and 23 the theorem; T1.a to T1.e are claims made in running text.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement
from . import curves, families, observed_functions, observed_images, outside, routes
from .comparisons import both_ways, fewer, something_is_missed, vanishes
from .counts import Counts, counts, counts_of_lora, lora_counts, varieties
from .curves import Crossing, Hilbert, Polynomial
from .families import ProductNetwork, ReluNeuron
from .logistic import Logistic, data_sets
from .lowrank import Factors, Variety, factor_pairs
from .outside import Adapter, NewBias, Prefix, ZeroPrefix
from .singular import Cusp, cusps


def _small_volume(instance: Any) -> Comparison:
    return Comparison(instance.volume, "<=", instance.epsilon)


def _minimizer_possible(instance: Any) -> Comparison:
    if isinstance(instance.margin, float):
        return Comparison(instance.margin, "<=", 0.0, scale=instance.scale, operations=instance.operations)
    return Comparison(instance.margin, "<=", 0)


def _dimension_is_k(instance: Any) -> Comparison:
    dimension = instance.rank if isinstance(instance, Factors) else instance.dimension
    return Comparison(dimension, "==", instance.k)


def _dimension_at_most(rank: str) -> Any:
    def compare(instance: Any) -> Comparison:
        return Comparison(instance.dimension, "<=", getattr(instance, rank))

    return compare


def _weight_space(instance: Any) -> tuple[bool, str]:
    inside = not isinstance(instance, Adapter | Prefix | ZeroPrefix | NewBias)
    return inside, "updates parameters that the network has" if inside else "adds parameters"


weight_space = Assumption("Φ acts through parameters that the network has", _weight_space)
_OUTSIDE = {
    "ReLU adapter: f(1) + f(-1) = 2 - 1": Adapter(1, 1, 1),
    "one prefix: sigmoid at 0, ln 2, 2 ln 2": Prefix(1, 1),
    "the zero prefix": ZeroPrefix(1, 1),
    "BitFit on a network without biases: f(0) = 1": NewBias((1, 1), (0, 1)),
}

CLAIMS = (
    Claim(
        id="T1.1",
        theorem="subset",
        equation="1",
        statement=r"\theta' = \arg\min_{\theta\in\mathbb{R}^d} \mathbb{E}[\mathcal{L}(f(x;\theta),y)]",
        judgement=Judgement.ILL_POSED,
        reason="the argmin may be empty: separable classes have no best θ, only better and better ones",
        plain=(
            "Full fine-tuning is defined as the minimizer of the expected loss. One example and the "
            "logistic loss "
            "have none, and neither has a network that classifies all its training examples rightly."
        ),
        compare=_minimizer_possible,
        repaired_by=("T1.R1",),
        exact=lambda: {"one example, z = 1: log(1 + exp(-w)) only falls": Logistic((1,))},
        worked=(
            "One example with y x = 1 and f = w x: L(w) = log(1 + e^{-w}) has slope −1/(1 + e^w) < 0 "
            "everywhere, "
            "so that inf L = 0 is not attained.  A minimizer can exist only if no direction classifies "
            "everything "
            "rightly: the best worst margin must be ≤ 0, and here it is 1."
        ),
        strategy=data_sets,
        observe=observed_functions.trained_margin,
    ),
    Claim(
        id="T1.2",
        theorem="subset",
        equation="2",
        statement=r"\mathcal{F}_{full} = \{f(\cdot;\theta) : \theta\in\Theta\}",
        judgement=Judgement.DEFINITION,
        reason="a definition: all functions that the architecture has",
    ),
    Claim(
        id="T1.3",
        theorem="subset",
        equation="3",
        statement=(
            r"\mathcal{F}_{peft} = \{f(\cdot;\theta_0;\Phi) : \Phi\in\mathbb{R}^k\subset\Theta=\mathbb{R}^d\}"
        ),
        judgement=Judgement.ILL_POSED,
        reason="ℝᵏ is no subset of ℝᵈ for k < d: its vectors have other lengths; read Φ ∈ ℝᵏ",
        plain=(
            "The parameters of PEFT are said to be a part of those of the network. LoRA's factors are not "
            "parameters of the network; only the update g(Φ) is. Most probably a slip."
        ),
        compare=lambda i: Comparison(i.k, "==", i.d),
        assumes=(Assumption("fewer parameters are trained", lambda i: (i.k < i.d, f"{i.k} < {i.d}")),),
        repaired_by=("T1.R2",),
        exact=lambda: {"f = w₂w₁x with w₁ trained": Counts(1, 2)},
        worked="For f(x) = w₂ w₁ x with only w₁ trained k = 1 and d = 2: a number is no point of the plane.",
        strategy=counts,
        observe=observed_images.parameter_counts,
        on_extensions=True,
    ),
    Claim(
        id="T1.4",
        theorem="subset",
        equation="4",
        statement=r"f(x;\theta_0;\Phi) = f(x;\theta_0+g(\Phi)),\quad g:\mathbb{R}^k\to\mathbb{R}^d",
        judgement=Judgement.CONDITIONAL,
        reason=(
            "holds for methods that update parameters the network has; that g be linear or sparse is not "
            "needed"
        ),
        plain=(
            "Fine-tuning with a method is the network at updated parameters. True for LoRA, IA3, masks and "
            "the "
            "like; adapters, prefixes and new biases change the network itself."
        ),
        compare=both_ways,
        assumes=(weight_space,),
        repaired_by=("T1.R17",),
        exact=lambda: {"LoRA on a ReLU layer": routes.example("lora"), "IA3": routes.example("ia3")},
        strategy=routes.routes,
        control=Control(
            "that the network has the parameters: dropped",
            exact=lambda: Adapter(1, 1, 1),
            strategy=outside.instances,
        ),
        observe=observed_functions.two_ways,
        on_extensions=True,
    ),
    Claim(
        id="T1.5",
        theorem="subset",
        equation="5",
        statement=(
            r"f(x;\theta_0;\Phi) = f(x;\theta_\Phi) \Rightarrow "
            r"f(\cdot;\theta_0;\Phi)\subset\mathcal{F}_{full}"
        ),
        judgement=Judgement.CONDITIONAL,
        reason=(
            "given (4), and with ∈ for ⊂, θ_Φ = θ₀ + g(Φ) is the witness; that g is not surjective plays no "
            "role"
        ),
        plain="Each tuned function is one of the functions of the network, at the parameters θ₀ + g(Φ).",
        compare=both_ways,
        assumes=(weight_space,),
        exact=lambda: {"BitFit where there is a bias": routes.example("bitfit")},
        strategy=routes.routes,
        control=Control("equation 4: dropped", exact=lambda: Prefix(1, 1), strategy=outside.instances),
        observe=observed_functions.two_ways,
        on_extensions=True,
    ),
    Claim(
        id="T1.22",
        theorem="subset",
        equation="22",
        statement=r"\mathrm{Im}(g) = \{g(\Phi)\in\mathbb{R}^d \mid \Phi\in\mathbb{R}^k\}",
        judgement=Judgement.DEFINITION,
        reason="a definition: the updates that a method can make",
    ),
    Claim(
        id="T1.23",
        theorem="subset",
        equation="23",
        statement=r"\mathrm{Im}(g) = g(\mathbb{R}^k) \subset \mathbb{R}^d",
        judgement=Judgement.CONDITIONAL,
        reason="the inclusion is trivial for every g; that it is strict needs g locally Lipschitz and k < d",
        plain=(
            "The updates of a method are not all updates. For LoRA the update with all singular values 1 is "
            "missed "
            "by a known distance; the update that full fine-tuning found is missed by every method."
        ),
        compare=something_is_missed,
        assumes=(fewer,),
        repaired_by=("T1.R4", "T1.R5"),
        exact=lambda: {"3 × 3 matrices, rank 1, the identity": Variety(3, 3, 1)},
        strategy=varieties,
        control=Control(
            "k < d: dropped", exact=lambda: Variety(2, 2, 2), strategy=lambda: varieties(fewer=False)
        ),
        observe=observed_images.full_update,
    ),
    Claim(
        id="T1.a",
        theorem="subset",
        statement=r"\text{every PEFT method (LoRA, Adapter, ...) is } \theta_0 + g(\Phi)",
        judgement=Judgement.FALSE,
        reason="nonlinear adapters, prefixes and biases where there were none give functions that no θ gives",
        plain=(
            "All methods are said to reparameterize the network. A ReLU adapter on f(x) = x gives f(1) = 2 "
            "and "
            "f(−1) = −1, while every function of the network is odd."
        ),
        compare=vanishes,
        repaired_by=("T1.4", "T1.R17"),
        exact=lambda: dict(_OUTSIDE),
        worked=(
            "Base f(x) = w x, adapter h + relu(h), w = 1: f(1) = 2 and f(−1) = −1.  Every f(x) = w x has "
            "f(1) + f(−1) = 0, but here the sum is 1.  A single prefix on a sequence of one token turns an "
            "affine "
            "function into a sigmoid: 1/2, 2/3, 4/5 at 0, ln 2, 2 ln 2, with second difference −1/30.  Even "
            "the "
            "zero prefix takes weight in the softmax."
        ),
        strategy=outside.instances,
        observe=observed_functions.homogeneity,
        on_extensions=True,
        must_fail_on=lambda s: s["network"] == "mlp-relu" and s["method"].startswith("serial-adapter"),
    ),
    Claim(
        id="T1.b",
        theorem="subset",
        statement=(
            r"\text{if } g \text{ has full rank, } \mathrm{Im}(g) \text{ is a } k\text{-dimensional "
            r"embedded submanifold}"
        ),
        judgement=Judgement.FALSE,
        reason=(
            "an immersion may cross itself: (t² − 1, t³ − t) has two tangents at 0; and LoRA's g has no "
            "full rank"
        ),
        plain=(
            "The reachable updates are said to form a smooth k-dimensional surface. A curve with everywhere "
            "non-zero velocity can cross itself; and LoRA reaches fewer dimensions than it has parameters."
        ),
        compare=_dimension_is_k,
        repaired_by=("T1.R11", "T1.R12"),
        exact=lambda: {
            "the node (t² − 1, t³ − t): two tangents at the origin": Crossing(-1, 1, (1, 0), (0, 1)),
            "the cusp (t², t³), injective and smooth: all of it on one side": Cusp(2, 3),
            "LoRA 3 × 3, rank 1, whose rank is never full: 5 of k = 6": Factors(
                linalg.exact([[1], [0], [0]]), linalg.exact([[1, 0, 0]])
            ),
        },
        worked=(
            "g(t) = (t² − 1, t³ − t) has g′(t) = (2t, 3t² − 1), which never vanishes.  g(−1) = g(1) = 0, "
            "with "
            "tangents (−2, 2) and (2, 2): they span the plane, but a curve that is a manifold has one "
            "tangent.  For "
            "LoRA the pairs (B T, T⁻¹ A) give the same update, so that r² parameters are lost: 3 + 3 − 1 = "
            "5 of 6."
        ),
        strategy=lambda: (curves.crossings(), cusps(), factor_pairs(deficient=False)),
        observe=observed_images.map_ranks,
    ),
    Claim(
        id="T1.c",
        theorem="subset",
        statement=(
            r"\text{by Sard's theorem, for } k \ll d,\ \mathrm{Im}(g) \text{ has Lebesgue measure zero}"
        ),
        judgement=Judgement.CONDITIONAL,
        reason=(
            "k < d is enough, and g need only be locally Lipschitz; a Hölder exponent of k/d is not enough"
        ),
        plain=(
            "A method with fewer parameters than the network reaches almost no update: true for every map "
            "that is "
            "locally Lipschitz, by covering with boxes. Hilbert's curve, one parameter for a plane, fills a "
            "square."
        ),
        compare=_small_volume,
        assumes=(
            Assumption("g is locally Lipschitz", lambda i: (not isinstance(i, Hilbert), "by its form")),
        ),
        repaired_by=("T1.R4",),
        exact=lambda: {
            "the cubic (t, t³), boxes of side 1/400": Polynomial((0, 1), (0, 0, 0, 1), 400),
            "a constant curve": Polynomial((1,), (1,), 10),
        },
        strategy=lambda: curves.polynomials(levels=(400,)),
        control=Control(
            "locally Lipschitz: dropped",
            exact=lambda: Hilbert(5),
            strategy=lambda: curves.hilbert_pairs(levels=(3, 5)),
        ),
        observe=observed_images.random_updates,
    ),
    Claim(
        id="T1.d",
        theorem="subset",
        statement=r"\mathcal{F}_{peft} \subsetneq \mathcal{F}_{full}",
        judgement=Judgement.FALSE,
        reason="freezing may lose parameters and no function: w₂w₁x with w₂ = 1 frozen still gives all c x",
        plain=(
            "Fewer parameters are said to mean fewer functions. In a product of scalars one trained factor "
            "gives "
            "them all; a ReLU neuron with weights on the unit circle, too."
        ),
        compare=something_is_missed,
        assumes=(fewer,),
        repaired_by=("T1.R6", "T1.R3"),
        exact=lambda: {
            "w₂w₁x, w₂ = 1 frozen": ProductNetwork((0, 1), (0,)),
            "a weight-normalised ReLU neuron": ReluNeuron(2, 3, Fraction(1, 2)),
        },
        worked=(
            "f(x) = w₂ w₁ x at θ₀ = (0, 1), training w₁ alone: k = 1 < d = 2 and Im g is a line in the "
            "plane.  But "
            "θ₀ + g(c) gives c x, for every c: all that full fine-tuning reaches.  Nonlinear: w₂ relu(w₁ x "
            "+ b) = "
            "ρ relu(cos φ x + sin φ) with two parameters for three."
        ),
        strategy=lambda: (families.products(), families.neurons()),
        observe=observed_functions.strictness,
    ),
    Claim(
        id="T1.e",
        theorem="subset",
        statement=r"\text{the conclusion is strengthened when } g \text{ is not of full rank}",
        judgement=Judgement.CONDITIONAL,
        reason="for smooth g, dim Im g ≤ max rank Dg < k; for merely C¹ maps only a weaker statement is true",
        plain=(
            "Where the Jacobian of g never has full rank, the image has even fewer dimensions than there are "
            "parameters: r (m + n − r) for LoRA instead of r (m + n)."
        ),
        compare=_dimension_at_most("largest_rank"),
        assumes=(
            Assumption(
                "g is not of full rank", lambda i: (i.largest_rank < i.k, f"{i.largest_rank} < {i.k}")
            ),
        ),
        repaired_by=("T1.R12",),
        exact=lambda: {"LoRA 3 × 3, rank 1": counts_of_lora(3, 3, 1)},
        strategy=lora_counts,
        control=Control(
            "the rank at the usual initialisation in place of the largest",
            compare=_dimension_at_most("initial_rank"),
            exact=lambda: counts_of_lora(3, 3, 1),
            assumes=(),
        ),
        observe=observed_images.image_counts,
    ),
)
