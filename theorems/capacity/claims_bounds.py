"""Repairs of Theorem 2, first part: the bounds (A), (B), (C), where they are tight, and where (6) is true.

Each has a negative control: the statement with one hypothesis dropped or one constant tightened, which the
same comparison must reject.  Proofs are on the theorem's page.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement
from . import bounds, layers, observed, sandwich, strategies
from .comparisons import bias_free, deviation_at_most, keeps_zero, untuned_biases
from .feedforward import FeedForward, chain


def _contraction(pair: FeedForward) -> tuple[bool, float]:
    rates = [
        L * (w + u) for L, w, u in zip(pair.lipschitz, pair.weight_norms, pair.update_norms, strict=True)
    ][:-1]
    worst = max(rates, default=0)
    return bool(worst <= 1), float(worst)


def _positive(pair: FeedForward) -> tuple[bool, None]:
    arrays = (*pair.weights, *pair.updates, *(pair.biases or ()), *(pair.bias_updates or ()), pair.x)
    return all(np.all(a >= 0) for a in arrays), None


def _frozen_linearisation(pair: FeedForward) -> Comparison:
    """The tempting mistake: base weights *and* base activations, which drops the products of updates."""
    return Comparison(
        pair.deviation,
        "<=",
        bounds.accumulate(pair, pair.weight_norms, pair.base),
        pair.scale,
        pair.operations,
    )


def _input_norm(pair: FeedForward) -> Comparison:
    """(B) with ‖Φ_k‖‖x‖ where ‖Φ_k x_0^{k-1}‖ stands: the slip of equation 29."""
    factors = bounds.products_above(pair.lipschitz, pair.tuned_norms)
    total = sum(f * L * u for f, L, u in zip(factors, pair.lipschitz, pair.update_norms, strict=True))
    return Comparison(pair.deviation, "<=", total * linalg.norm(pair.x), pair.scale, pair.operations)


def _first_order(pair: FeedForward) -> Comparison:
    """N M^{N-1} φ L^N ‖x‖: the uniform bound without its higher orders."""
    M, L, phi, N = max(pair.weight_norms), max(pair.lipschitz), max(pair.update_norms), pair.depth
    return Comparison(
        pair.deviation, "<=", N * M ** (N - 1) * phi * L**N * linalg.norm(pair.x), pair.scale, pair.operations
    )


def _without_biases(pair: FeedForward) -> Comparison:
    """(C) as a product, which forgets what biases add."""
    zeros = [0] * pair.depth
    gap = bounds.envelope_gap(
        linalg.norm(pair.x), pair.lipschitz, pair.weight_norms, pair.update_norms, zeros, zeros, zeros
    )
    return Comparison(pair.deviation, "<=", gap, pair.scale, pair.operations)


def _attained(pair: FeedForward) -> Comparison:
    return Comparison(
        pair.deviation, "==", bounds.a_priori(pair), scale=pair.scale, operations=8 * pair.operations
    )


def _shrunk(pair: FeedForward, weight: int | None = None, bias: int | None = None) -> FeedForward:
    """Halve the update of one layer's weight, or of its bias, or all updates if none is named."""
    half = Fraction(1, 2) if pair.is_exact else 0.5
    everything = weight is None and bias is None
    updates = [u * half if everything or k == weight else u for k, u in enumerate(pair.updates)]
    shifts = pair.bias_updates
    if shifts is not None:
        shifts = [b * half if everything or k == bias else b for k, b in enumerate(shifts)]
    return pair.with_updates(updates, bias_updates=shifts)


def _monotone(pair: FeedForward) -> Comparison:
    """Halve each budget on its own, and all of them together."""
    smaller = [_shrunk(pair)]
    for k in range(pair.depth):
        smaller.append(_shrunk(pair, weight=k))
        if pair.bias_updates is not None:
            smaller.append(_shrunk(pair, bias=k))
    lhs = np.concatenate([bounds.a_priori(one) for one in smaller])
    scale = None if pair.is_exact else np.tile(pair.scale, len(smaller))
    rhs = np.tile(bounds.a_priori(pair), len(smaller))
    if scale is not None:  # a budget that is zero already leaves both sides alike
        rhs = rhs + 2 * linalg.gamma(pair.operations) * scale
    return Comparison(lhs, "<=", rhs, scale=scale, operations=pair.operations)


def _deviation_monotone(pair: FeedForward) -> Comparison:
    return Comparison(
        _shrunk(pair).deviation, "<=", pair.deviation, scale=pair.scale, operations=pair.operations
    )


def _ones() -> FeedForward:
    return chain([1, 1], [1, 1], 1, activations="identity")


def _biased() -> FeedForward:
    return chain([1, 1], [0, 1], 0, activations="identity", biases=[1, 0], bias_updates=[0, 0])


def _positive_chain(pair: FeedForward) -> FeedForward:
    """Turn every number of a chain into its magnitude."""
    vectors = {
        n: None if getattr(pair, n) is None else [abs(b) for b in getattr(pair, n)]
        for n in ("biases", "bias_updates")
    }
    return replace(
        pair,
        weights=[abs(w) for w in pair.weights],
        updates=[abs(u) for u in pair.updates],
        x=abs(pair.x),
        **vectors,
    )


only_first = Assumption("only layer 1 is tuned", lambda p: (set(p.tuned_layers()) <= {1}, p.tuned_layers()))
contractive = Assumption("L_j(‖W_j‖ + ‖Φ_j‖) ≤ 1 below the last layer", _contraction)
scalar_layers = Assumption("scalar layers", lambda p: (all(w.shape == (1, 1) for w in p.weights), None))
positive = Assumption("nothing negative", _positive)
linear = Assumption("identity activations", lambda p: (set(p.activations) == {"identity"}, None))
TRUE, CONDITIONAL = Judgement.TRUE, Judgement.CONDITIONAL

CLAIMS = (
    Claim(
        id="T2.R1",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\|f-f_0\| \le \sum_k \big[\prod_{j>k} L_j\|W_j\|\big] L_k \|\Phi_k x^{k-1} + \beta_k\|",
        reason="(A): base weights, tuned activations; any biases, any σ(0)",
        plain="Bound (A), repaired: the update of a layer acts on the activation that really arrives there.",
        compare=deviation_at_most(bounds.base_weights),
        detail=layers.slack(bounds.base_weights),
        exact=lambda: {"W=Φ=(1,1), x=1: attained": _ones(), "a bias, x=0": _biased()},
        strategy=strategies.chains,
        observe=observed.feed_forward,
        control=Control(
            "base activations in place of tuned ones", exact=_ones, compare=_frozen_linearisation
        ),
    ),
    Claim(
        id="T2.R2",
        theorem="capacity",
        judgement=TRUE,
        statement=(
            r"\|f-f_0\| \le \sum_k \big[\prod_{j>k} L_j\|W_j+\Phi_j\|\big] L_k \|\Phi_k x_0^{k-1} + "
            r"\beta_k\|"
        ),
        reason="(B): tuned weights, base activations; one base run serves every update",
        plain="Bound (B), repaired: needs the base network's activations only.",
        compare=deviation_at_most(bounds.tuned_weights),
        detail=layers.slack(bounds.tuned_weights),
        exact=lambda: {"W=Φ=(1,1), x=1: attained": _ones(), "a bias, x=0": _biased()},
        strategy=strategies.chains,
        observe=observed.feed_forward,
        control=Control(
            "‖Φ_k‖‖x‖ in place of ‖Φ_k x_0^{k-1}‖, the slip of (29)",
            compare=_input_norm,
            exact=lambda: chain([2, 2], [0, 1], 1, activations="identity"),
        ),
    ),
    Claim(
        id="T2.R3",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\|f-f_0\| \le m_N - n_N,\ n_k = L_k(\|W_k\|n_{k-1}+\|b_k\|)+s_k,\ "
        r"m_k = L_k((\|W_k\|+\|\Phi_k\|)m_{k-1}+\|b_k\|+\|\beta_k\|)+s_k",
        reason="(C): norms alone, with biases and σ(0) ≠ 0; without them [∏L(‖W‖+‖Φ‖) − ∏L‖W‖]‖x‖",
        plain=(
            "Bound (C), repaired: what can be said before training, from norms alone; no smaller "
            "function of them is a bound."
        ),
        compare=deviation_at_most(bounds.a_priori),
        detail=layers.slack(bounds.a_priori),
        exact=lambda: {"W=Φ=(1,1), x=1: attained": _ones(), "a bias, x=0: attained": _biased()},
        strategy=strategies.chains,
        observe=observed.feed_forward,
        control=Control("the product form on a network with biases", exact=_biased, compare=_without_biases),
    ),
    Claim(
        id="T2.R4",
        theorem="capacity",
        judgement=CONDITIONAL,
        statement=r"\|f-f_0\| \le L^N[(M+\varphi)^N - M^N]\,\|x\|,\quad b=\beta=0,\ \sigma(0)=0",
        reason="(C) with one constant for all layers; needs a bias-free network with σ(0) = 0",
        plain="The repaired theorem with one norm M, one φ and one L for all layers.",
        compare=deviation_at_most(bounds.uniform),
        assumes=(bias_free, keeps_zero),
        exact=lambda: {"W=Φ=(1,1), x=1: attained": _ones()},
        strategy=lambda: strategies.chains(biases=False, activations=strategies.ZERO_KEEPING),
        observe=observed.feed_forward,
        control=Control(
            "first order only: N M^{N-1} φ L^N ‖x‖",
            exact=_ones,
            compare=_first_order,
            assumes=(bias_free, keeps_zero),
        ),
    ),
    Claim(
        id="T2.R5",
        theorem="capacity",
        judgement=CONDITIONAL,
        statement=r"\|f-f_0\| = m_N - n_N \text{ for scalar linear chains without negative numbers}",
        reason="(C) is attained, with biases too: the best function of its norms",
        plain="Bound (C) cannot be improved: non-negative scalar chains reach it.",
        compare=_attained,
        assumes=(scalar_layers, positive, linear),
        exact=lambda: {
            "W=(2,3,4), Φ=(1,2,3), x=2": chain([2, 3, 4], [1, 2, 3], 2, activations="identity"),
            "with biases": chain(
                [2, 1], [1, 1], 1, activations="identity", biases=[1, 2], bias_updates=[3, 1]
            ),
        },
        strategy=lambda: strategies.mapped(
            (strategies.integer_chains(widths=(1, 1), activations=("identity",), biases=True),),
            _positive_chain,
        ),
        control=Control(
            "signs: negative numbers allowed",
            exact=lambda: chain([1, 1], [-1, 1], 1, activations="identity"),
            assumes=(scalar_layers, linear),
            strategy=lambda: strategies.integer_chains(widths=(1, 1), activations=("identity",)),
        ),
    ),
    Claim(
        id="T2.R6",
        theorem="capacity",
        judgement=CONDITIONAL,
        statement=r"\text{(6) holds when only layer 1 is tuned (in particular for } N=1)",
        reason="‖x⁰‖ = ‖x‖: nothing was dropped; any σ(0), any untuned biases",
        plain="Where equation 6 is right: when only the first layer is tuned.",
        compare=deviation_at_most(bounds.printed),
        assumes=(only_first, untuned_biases),
        exact=lambda: {"W=(1,2), Φ=(3,0), x=1: attained": chain([1, 2], [3, 0], 1, activations="identity")},
        strategy=lambda: strategies.mapped(strategies.chains(biases=False), strategies.first_layer_only),
        control=Control(
            "only layer 1: dropped",
            exact=_ones,
            strategy=lambda: strategies.chains(biases=False, activations=strategies.ZERO_KEEPING),
        ),
        observe=observed.first_layer_alone,
    ),
    Claim(
        id="T2.R7",
        theorem="capacity",
        judgement=CONDITIONAL,
        statement=(
            r"\text{(6) holds when } L_j(\|W_j\|+\|\Phi_j\|) \le 1 \text{ for } j<N,\ b=\beta=0,\ "
            r"\sigma(0)=0"
        ),
        reason="then ‖x^{k-1}‖ ≤ ‖x‖, which is what the printed step needs",
        plain="Where equation 6 is right: when no layer below the last can lengthen its input.",
        compare=deviation_at_most(bounds.printed),
        assumes=(contractive, bias_free, keeps_zero),
        exact=lambda: {"W=(1/2,1), Φ=(1/2,1), x=1": chain(["1/2", 1], ["1/2", 1], 1, activations="identity")},
        strategy=lambda: strategies.mapped(
            (strategies.float_chains(biases=False, activations=strategies.ZERO_KEEPING),),
            strategies.contracted,
        ),
        control=Control(
            "contraction: dropped",
            exact=lambda: chain(["1/2", "1/2"], [1, 1], 1, activations="identity"),
            assumes=(bias_free, keeps_zero),
            strategy=lambda: strategies.chains(biases=False, activations=strategies.ZERO_KEEPING),
        ),
        observe=observed.contracted,
    ),
    Claim(
        id="T2.R14",
        theorem="capacity",
        judgement=TRUE,
        statement=(
            r"\varphi' \le \varphi,\ \beta' \le \beta \Rightarrow (C)(\varphi',\beta') \le "
            r"(C)(\varphi,\beta)"
        ),
        reason=(
            "every term of (C) grows with every budget: it is the supremum over a larger class that is "
            "larger, not a trained solution"
        ),
        plain="What is monotone is the bound over a class, not the norm of what training finds in it.",
        compare=_monotone,
        exact=lambda: {"W=Φ=(1,1), halved": _ones()},
        strategy=strategies.chains,
        control=Control(
            "the deviation of one update in place of the bound",
            compare=_deviation_monotone,
            exact=lambda: chain([1, 1], [-2, -2], 1, activations="identity"),
            strategy=lambda: strategies.integer_chains(widths=(1, 1), activations=("identity",)),
        ),
        observe=observed.feed_forward,
    ),
    Claim(
        id="T2.R16",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\text{attack} \le \sup\{\|f-f_0\| : \|\Phi_k\| \le \varphi_k\} \le (C)(\varphi)",
        reason="the attack returns an update within the budgets; (C) bounds all of them",
        plain="The truth lies between what an attack reaches and what (C) allows for the same norms.",
        compare=sandwich.compare,
        exact=lambda: {"W=(1,1), budgets (1,1), x=1: attained": sandwich.within_budgets(_ones())},
        strategy=lambda: strategies.mapped(strategies.chains(), sandwich.within_budgets),
        control=Control(
            "(C) to first order only",
            compare=lambda s: _first_order(replace(s.pair, measured=s.lower)),
            exact=lambda: sandwich.within_budgets(_ones()),
            strategy=lambda: strategies.mapped(
                strategies.chains(biases=False, activations=strategies.ZERO_KEEPING), sandwich.within_budgets
            ),
        ),
        observe=sandwich.attacked,
    ),
    Claim(
        id="T2.R24",
        theorem="capacity",
        judgement=CONDITIONAL,
        statement=(
            r"\|f-f_0\| \le \Big[\prod_{k=1}^N (ML + \alpha_k) - (ML)^N\Big]\|x\|,\quad b=\beta=0,\ "
            r"\sigma(0)=0"
        ),
        reason="equation 6 with its lost factors ∏_{j<k}(ML + α_j) put back, in the paper's own constants",
        plain="What equation 6 should have been, in the paper's own M, L and α_k.",
        compare=deviation_at_most(bounds.paper_constants),
        assumes=(bias_free, keeps_zero),
        exact=lambda: {"W=Φ=(1,1), x=1: attained": _ones()},
        strategy=lambda: strategies.chains(biases=False, activations=strategies.ZERO_KEEPING),
        observe=observed.feed_forward,
        control=Control(
            "the factors ∏_{j<k}(ML + α_j) lost again: equation 6",
            exact=_ones,
            compare=deviation_at_most(bounds.printed),
            assumes=(bias_free, keeps_zero),
        ),
    ),
)
