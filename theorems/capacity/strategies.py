r"""Where the search looks: chains of layers that are extreme on purpose.

Independent Gaussian weights almost never show equation 6 failing, although it is false: their activations
shrink and their updates point in random directions.  What shows it are *aligned* instances, in which the
weights, the updates and the input are non-negative and therefore push in the same direction.  The strategies
below draw from several kinds, small exact integers first, because Hypothesis shrinks towards the first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .. import linalg
from .feedforward import FeedForward

SMOOTH = ("tanh", "gelu", "gelu_tanh", "silu", "sigmoid", "softplus", "identity")
ZERO_KEEPING = ("relu", "tanh", "identity", "gelu", "silu", "elu", "gelu_tanh")
ALL = (*ZERO_KEEPING, "sigmoid", "softplus")

nonzero = st.integers(1, 4) | st.integers(-4, -1)


@st.composite
def integer_chains(
    draw: st.DrawFn,
    *,
    depths: tuple[int, int] = (1, 3),
    widths: tuple[int, int] = (1, 2),
    samples: tuple[int, int] = (1, 1),
    activations: tuple[str, ...] = ("relu", "identity"),
    entries: SearchStrategy = nonzero,
    update_entries: SearchStrategy | None = None,
    biases: bool = False,
) -> FeedForward:
    """Exact chains of small integers; base weights are non-zero, so that no instance is trivially dead."""
    depth = draw(st.integers(*depths))
    sizes = [draw(st.integers(*widths)) for _ in range(depth + 1)]
    update_entries = st.integers(-3, 3) if update_entries is None else update_entries

    def matrix(rows: int, columns: int, source: SearchStrategy) -> np.ndarray:
        return linalg.exact([[draw(source) for _ in range(columns)] for _ in range(rows)])

    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    vectors = {}
    if biases and draw(st.booleans()):
        for name in ("biases", "bias_updates"):
            vectors[name] = [matrix(1, m, st.integers(-2, 2))[0] for m, _ in shapes]
    return FeedForward(
        weights=[matrix(m, n, entries) for m, n in shapes],
        updates=[matrix(m, n, update_entries) for m, n in shapes],
        x=matrix(draw(st.integers(*samples)), sizes[0], st.integers(1, 3) | st.integers(-3, 3)),
        activations=draw(st.sampled_from(activations)),
        kind="small integers",
        **vectors,
    )


def spectrum_matrix(
    rng: np.random.Generator, shape: tuple[int, int], log10_singular_values: list[float]
) -> np.ndarray:
    """Return a matrix with given singular values: better extremes than raw floats give."""
    rank = min(shape)
    u, v = (np.linalg.qr(rng.normal(size=(n, rank)))[0] for n in shape)
    return (u * 10.0 ** np.resize(log10_singular_values, rank)) @ v.T


@st.composite
def float_chains(
    draw: st.DrawFn,
    *,
    kinds: tuple[str, ...] = ("aligned", "spectrum", "gaussian", "diagonal"),
    activations: tuple[str, ...] = ALL,
    biases: bool = True,
    samples: int = 3,
    depths: tuple[int, int] = (1, 4),
) -> FeedForward:
    """Chains in float64: non-negative aligned ones, given spectra, i.i.d. Gaussians, diagonals."""
    kind, seed = draw(st.sampled_from(kinds)), draw(st.integers(0, 2**32 - 1))
    depth, width = draw(st.integers(*depths)), draw(st.sampled_from((1, 2, 5)))
    size = 10.0 ** draw(st.integers(-6, 1))
    rng = np.random.default_rng(seed)
    sizes = [width] + [int(n) for n in rng.integers(1, width + 2, depth)]
    if kind == "diagonal":
        sizes = [width] * (depth + 1)
    spectra = draw(st.lists(st.floats(-3, 1), min_size=1, max_size=3))

    def matrix(shape: tuple[int, int]) -> np.ndarray:
        if kind == "aligned":
            return abs(rng.normal(size=shape))
        if kind == "spectrum":
            return spectrum_matrix(rng, shape, spectra)
        return np.diag(rng.normal(size=shape[0])) if kind == "diagonal" else rng.normal(size=shape)

    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    weights = [matrix(s) for s in shapes]
    updates = [size * (w if kind == "aligned" else matrix(s)) for w, s in zip(weights, shapes, strict=True)]
    vectors = {}
    if biases and draw(st.booleans()):
        vectors = {
            "biases": [rng.normal(size=m) for m, _ in shapes],
            "bias_updates": [size * rng.normal(size=m) for m, _ in shapes],
        }
    x = rng.normal(size=(samples, sizes[0])) * 10.0 ** draw(st.integers(-3, 2))
    x = abs(x) if kind == "aligned" else x
    return FeedForward(weights, updates, x, draw(st.sampled_from(activations)), kind=kind, **vectors)


def chains(*, biases: bool = True, activations: tuple[str, ...] = ALL) -> tuple[SearchStrategy, ...]:
    """Both, small integers first."""
    return integer_chains(biases=biases), float_chains(biases=biases, activations=activations)


def first_layer_only(pair: FeedForward) -> FeedForward:
    """Keep the update of layer 1 alone."""
    updates = [u if k == 0 else u * 0 for k, u in enumerate(pair.updates)]
    shifts = pair.bias_updates
    if shifts is not None:
        shifts = [b if k == 0 else b * 0 for k, b in enumerate(shifts)]
    return pair.with_updates(updates, bias_updates=shifts)


def contracted(pair: FeedForward) -> FeedForward:
    """Rescale a float chain until L_k(‖W_k‖ + ‖Φ_k‖) ≤ 1 in every layer but the last."""
    norms = zip(pair.lipschitz, pair.weight_norms, pair.update_norms, strict=True)
    factors = [1 / max(1.0, L * (w + u) * (1 + 1e-9)) for L, w, u in norms]
    factors[-1] = 1.0
    weights = tuple(w * s for w, s in zip(pair.weights, factors, strict=True))
    updates = [u * s for u, s in zip(pair.updates, factors, strict=True)]
    return pair.with_updates(updates, weights=weights)


def mapped(
    strategies: tuple[SearchStrategy, ...], change: Callable[[FeedForward], FeedForward]
) -> tuple[SearchStrategy, ...]:
    """Put every instance of some strategies into the special form that a claim assumes."""
    return tuple(strategy.map(change) for strategy in strategies)
