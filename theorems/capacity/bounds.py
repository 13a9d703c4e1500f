r"""Upper bounds on ‖f(x) − f₀(x)‖ for a chain of layers: the printed one, and the repaired ones.

All are written once and run on floats and on exact numbers alike.  With floats each result is an upper
estimate of its formula: norms come from `linalg.spectral_norm` and the sum is enlarged by its own rounding.
Notation: L_k Lipschitz constant of σ_k, ‖·‖ the spectral norm, s_k = ‖σ_k(0)·1‖.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import linalg

if TYPE_CHECKING:
    from .feedforward import FeedForward


def printed(pair: FeedForward) -> np.ndarray:
    r"""Equation 6 (= 30) as printed: $\sum_k M^{N-k} L^{N-k} \alpha_k \|x\|$, $\alpha_k = L\|\Phi_k\|$.

    $M = \max_k \|W_k\|$ and $L = \max_k L_k$ are the smallest constants that the theorem's hypotheses admit.
    It is **not** an upper bound of the deviation: see claim T2.6.

    Returns:
        One value per input, shape (p,).
    """
    M, L = max(pair.weight_norms), max(pair.lipschitz)
    N = pair.depth
    factor = sum((M * L) ** (N - k) * L * phi for k, phi in enumerate(pair.update_norms, 1))
    return _upward(factor * linalg.norm(pair.x), pair)


def printed_layerwise(pair: FeedForward) -> np.ndarray:
    r"""Equation 29 as printed: $\sum_k [\prod_{j>k} L_j\|W_j\|]\, L_k\|\Phi_k\|\,\|x\|$; no upper bound."""
    factors = products_above(pair.lipschitz, pair.weight_norms)
    total = sum(
        above * L * phi for above, L, phi in zip(factors, pair.lipschitz, pair.update_norms, strict=True)
    )
    return _upward(total * linalg.norm(pair.x), pair)


def base_weights(pair: FeedForward, norms: Sequence[linalg.Upper] | None = None) -> np.ndarray:
    r"""Bound (A), base weights and tuned activations.

    $$\|f - f_0\| \le \sum_k \Big[\prod_{j>k} L_j\|W_j\|\Big] L_k \|\Phi_k x^{k-1} + \beta_k\|$$

    Holds for any Lipschitz activations, with biases and σ(0) ≠ 0.  Attained when only the last layer is
    tuned and its activation is the identity, and by positive scalar linear chains.  Needs one run of the
    tuned network.

    Args:
        pair: the chain before and after tuning.
        norms: upper estimates of ‖W_j‖ to use instead of the computed ones.

    Returns:
        One value per input, shape (p,).

    Raises:
        ValueError: `norms` that are not upper estimates.
    """
    return accumulate(pair, pair.weight_norms if norms is None else _checked(norms, pair), pair.tuned)


def tuned_weights(pair: FeedForward, norms: Sequence[linalg.Upper] | None = None) -> np.ndarray:
    r"""Bound (B), tuned weights and base activations.

    $$\|f - f_0\| \le \sum_k \Big[\prod_{j>k} L_j\|W_j + \Phi_j\|\Big] L_k \|\Phi_k x_0^{k-1} + \beta_k\|$$

    Holds and is attained as (A); it needs one run of the *base* network, so the same run serves any update.

    Args:
        pair: the chain before and after tuning.
        norms: upper estimates of ‖W_j + Φ_j‖ to use instead of the computed ones.

    Returns:
        One value per input, shape (p,).

    Raises:
        ValueError: `norms` that are not upper estimates.
    """
    return accumulate(pair, pair.tuned_norms if norms is None else _checked(norms, pair), pair.base)


def contributions(
    pair: FeedForward, weight_norms: Sequence, activations: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Terms of the sum in (A) or (B), one array of shape (p,) per layer: which layer the bound blames."""
    factors = products_above(pair.lipschitz, weight_norms)
    terms = []
    for k, update in enumerate(pair.updates):
        pushed = activations[k] @ update.T + pair.vector(pair.bias_updates, k)
        terms.append(factors[k] * pair.lipschitz[k] * linalg.norm(pushed))
    return terms


def a_priori(pair: FeedForward) -> np.ndarray:
    r"""Bound (C), from norms alone: the envelope of the tuned run minus the envelope of the base run.

    $$\|f - f_0\| \le m_N - n_N,\qquad
      n_k = L_k(\|W_k\| n_{k-1} + \|b_k\|) + s_k,\quad
      m_k = L_k((\|W_k\|+\|\Phi_k\|) m_{k-1} + \|b_k\| + \|\beta_k\|) + s_k,\quad n_0 = m_0 = \|x\|.$$

    Without biases and with σ(0) = 0 it is $[\prod_k L_k(\|W_k\|+\|\Phi_k\|) - \prod_k L_k\|W_k\|]\,\|x\|$.
    No smaller function of these norms is a bound: positive scalar chains σ_k(z) = L_k z + s_k attain it.

    Returns:
        One value per input, shape (p,).
    """
    biases = [linalg.norm(pair.vector(pair.biases, k)[None])[0] for k in range(pair.depth)]
    shifts = [linalg.norm(pair.vector(pair.bias_updates, k)[None])[0] for k in range(pair.depth)]
    gap = envelope_gap(
        linalg.norm(pair.x),
        pair.lipschitz,
        pair.weight_norms,
        pair.update_norms,
        biases,
        shifts,
        pair.offsets,
    )
    return _upward(gap, pair)


def envelope_gap(
    size: np.ndarray,
    lipschitz: Sequence,
    weights: Sequence,
    updates: Sequence,
    biases: Sequence,
    bias_updates: Sequence,
    offsets: Sequence,
) -> np.ndarray:
    r"""Return $m_N - n_N$ of bound (C) from the norms, carried as the gap $e_k = m_k - n_k$ itself.

    $e_k = L_k\big((\|W_k\| + \|\Phi_k\|) e_{k-1} + \|\Phi_k\| n_{k-1} + \|\beta_k\|\big)$: no difference of
    large numbers is taken, so a small update does not drown in rounding.

    Args:
        size: ‖x‖, shape (p,).
        lipschitz: L_k.
        weights: ‖W_k‖.
        updates: ‖Φ_k‖, or budgets for them.
        biases: ‖b_k‖.
        bias_updates: ‖β_k‖, or budgets for them.
        offsets: s_k.

    Returns:
        The gap, shape (p,).
    """
    n, gap = size, size * 0
    for L, W, phi, b, beta, s in zip(lipschitz, weights, updates, biases, bias_updates, offsets, strict=True):
        gap = L * ((W + phi) * gap + phi * n + beta)
        n = L * (W * n + b) + s
    return gap


def uniform(pair: FeedForward) -> np.ndarray:
    r"""Bound (C) with one constant for all layers: $L^N[(M+\varphi)^N - M^N]\,\|x\|$.

    $M = \max\|W_k\|$, $\varphi = \max\|\Phi_k\|$, $L = \max L_k$; no biases, σ(0) = 0.  Every layer enters
    with the same first-order coefficient $L^N M^{N-1}$: the bound knows no "deeper layers matter more".
    """
    M, L, phi = max(pair.weight_norms), max(pair.lipschitz), max(pair.update_norms)
    N = pair.depth
    zeros = [0] * N
    return _upward(envelope_gap(linalg.norm(pair.x), [L] * N, [M] * N, [phi] * N, zeros, zeros, zeros), pair)


def paper_constants(pair: FeedForward) -> np.ndarray:
    r"""Equation 6 corrected, in its own constants: $[\prod_k (ML + \alpha_k) - (ML)^N]\,\|x\|$.

    It equals $\sum_k (ML)^{N-k} \alpha_k \prod_{j<k}(ML + \alpha_j)\,\|x\|$: the printed sum with the factors
    that the step from (28) to (29) lost.  No biases, σ(0) = 0.  Attained by positive scalar chains with equal
    weights.
    """
    M, L, N = max(pair.weight_norms), max(pair.lipschitz), pair.depth
    zeros = [0] * N
    gap = envelope_gap(linalg.norm(pair.x), [L] * N, [M] * N, pair.update_norms, zeros, zeros, zeros)
    return _upward(gap, pair)


def accumulate(pair: FeedForward, weight_norms: Sequence, activations: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of all layers' contributions, rounded upward."""
    return _upward(sum(contributions(pair, weight_norms, activations)), pair)


def products_above(lipschitz: Sequence, norms: Sequence) -> list:
    """Products over j > k of L_j ‖W_j‖, for every layer k."""
    products = [1]
    for L, norm in zip(reversed(lipschitz[1:]), reversed(norms[1:]), strict=True):
        products.append(products[-1] * L * norm)
    return products[::-1]


def _checked(norms: Sequence, pair: FeedForward) -> Sequence:
    linalg.require_upper("norms", norms)
    if len(norms) != pair.depth:
        raise ValueError(
            f"norms has {len(norms)} entries, but the chain has {pair.depth} layers: give one per layer"
        )
    return norms


def _upward(value: np.ndarray, pair: FeedForward) -> np.ndarray:
    """Enlarge a bound by what rounding can have taken off, and by what it can have added to the left side.

    A sum of non-negative terms falls short by a factor 1 + γ at most.  The forward pass that *measures* the
    deviation errs by γ_n times the chain's scale, and so do the activations that (A) and (B) are made of:
    twice that allowance is added, so that a bound which is attained is not called violated by rounding.
    """
    if pair.is_exact:
        return value
    steps = pair.operations + 8 * pair.depth
    return value * (1 + linalg.gamma(steps)) + 2 * linalg.gamma(steps) * pair.scale
