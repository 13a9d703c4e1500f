r"""Full fine-tuning against a method: the ratio of two complexities, and what k, d and the rank predict."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ...models import tree
from ...models.training import hashable
from .. import linalg
from .estimate import Complexity, controlled
from .linear import of_sampled
from .ranked import CHUNK
from .subspace import range_basis
from .tangent import BUDGET, Tangent, blocks, derivative, require_map

if TYPE_CHECKING:
    from ...models.methods import Phi, Reparameterization
    from ...models.network import Network
    from ...models.tree import Params

_TOGETHER = 16  # sign vectors


@dataclass(frozen=True)
class Compared:
    r"""The complexity of a method's tangent class over that of full fine-tuning, on the same inputs.

    Attributes:
        name: of the method.
        examples: N.
        d: parameters of the network.
        k: parameters of the method.
        rank: of Dg(Φ): the directions that it has.
        full: complexity of full fine-tuning.
        part: that of the method.
        traces: $\sqrt{\mathrm{tr} K_{part}/\mathrm{tr} K}$, from which the ratio differs by √2 at most.
    """

    name: str
    examples: int
    d: int
    k: int
    rank: int
    full: Complexity
    part: Complexity
    traces: float

    @property
    def ratio(self) -> float:
        """The method over full fine-tuning."""
        return self.part.value / self.full.value

    @property
    def interval(self) -> tuple[float, float]:
        """What the intervals of both leave for the ratio; where each misses with probability δ, 2δ."""
        return self.part.low / self.full.high, self.part.high / self.full.low

    @property
    def bounds(self) -> tuple[linalg.Lower, linalg.Upper]:
        """What the bounds of both leave for the ratio, for certain."""
        rounding = 1 + linalg.gamma(4)
        return (
            linalg.Lower(float(self.part.lower) / float(self.full.upper) / rounding),
            linalg.Upper(float(self.part.upper) / float(self.full.lower) * rounding),
        )

    @property
    def by_parameters(self) -> float:
        """√(k/d)."""
        return math.sqrt(self.k / self.d)

    @property
    def by_rank(self) -> float:
        """√(rank Dg/d): redundant parameters do not count."""
        return math.sqrt(self.rank / self.d)

    def record(self) -> dict[str, Any]:
        """All of it as one flat record."""
        return {
            "method": self.name,
            "N": self.examples,
            "d": self.d,
            "k": self.k,
            "rank": self.rank,
            "full": self.full.value,
            "part": self.part.value,
            "ratio": self.ratio,
            "ratio low": self.interval[0],
            "ratio high": self.interval[1],
            "ratio at least": float(self.bounds[0]),
            "ratio at most": float(self.bounds[1]),
            "√(tr/tr)": self.traces,
            "√(k/d)": self.by_parameters,
            "√(rank/d)": self.by_rank,
        }


def compared(
    classes: Tangent, key: PRNGKeyArray | None = None, *, draws: int = CHUNK, confidence: float = 0.99
) -> Compared:
    """Compare the two tangent classes; the same signs are drawn for both.

    Args:
        classes: from `tangent`.
        key: a JAX random key, needed beyond 16 signs.
        draws: of sign vectors, rounded up to a multiple of 1024.
        confidence: of each interval.

    Raises:
        ValueError: more than 16 signs and no key, or a derivative that vanishes on all inputs.
    """
    full, part = (
        one.complexity(key, draws=draws, confidence=confidence) for one in (classes.full, classes.part)
    )
    traces = _over(float(classes.part.size), float(classes.full.size))
    return Compared(
        classes.name, classes.full.examples, classes.d, classes.k, classes.rank, full, part, traces
    )


def curves(
    classes: Iterable[Tangent],
    counts: Iterable[int],
    key: PRNGKeyArray,
    *,
    draws: int = CHUNK,
    confidence: float = 0.99,
) -> list[dict[str, Any]]:
    """Complexities over N and over k: a record for each method and each number of inputs.

    Args:
        classes: of several methods or ranks, made by `tangent` on at least the largest count of inputs.
        counts: numbers N of inputs; the first N are taken.
        key: a JAX random key; the same signs are drawn for all methods.
        draws: as `compared` has it.
        confidence: likewise.

    Returns:
        Records as of `Compared.record`, methods in order of k, with √(k/d) and √(rank/d) beside the ratio.

    Raises:
        ValueError: a count below 1 or above the number of inputs.
    """
    classes, counts = sorted(classes, key=lambda one: one.k), tuple(counts)
    for one in classes:
        if not counts or min(counts) < 1 or max(counts) > one.full.examples:
            raise ValueError(
                f"counts: got {counts}, needs numbers from 1 to {one.full.examples}, the inputs of {one!r}"
            )
    return [
        compared(one.first(count), key, draws=draws, confidence=confidence).record()
        for one in classes
        for count in counts
    ]


def free_compared(
    network: Network,
    x: Float[Array, "N ..."],
    made: Reparameterization,
    phi: Phi,
    key: PRNGKeyArray,
    *,
    radius: float = 1.0,
    draws: int = 256,
    confidence: float = 0.99,
    budget_bytes: int = BUDGET,
) -> Compared:
    r"""The same without ever forming J: a draw is one product $J^Ts$, compiled once for all of them.

    The traces are summed exactly, some inputs at a time.  Of the kernel matrices nothing else is known, so
    that each complexity lies between F/√2 and F (times B/N).

    Args:
        network: float64, with θ₀.
        x: N inputs.
        made: the map g.
        phi: Φ.
        key: a JAX random key.
        radius: B.
        draws: number of sign vectors.
        confidence: of each interval.
        budget_bytes: what the derivative at some inputs may take; and a block of Dg(Φ).

    Raises:
        ValueError: another thing than a map for g; float32, NaN or infinity; a budget below the derivative at
            one input; a rank of Dg(Φ) that no gap decides; a derivative that vanishes on all inputs.
    """
    require_map(made)
    x, theta = np.asarray(x), made.apply(network.params, phi)
    found = {
        leaves: None if block is None else range_basis(block) for leaves, block in blocks(made, phi).items()
    }
    outputs = int(np.prod(jax.eval_shape(network.apply, theta, x[:1]).shape))
    batch = max(1, budget_bytes // (8 * outputs * made.d))
    rows = np.concatenate(
        [
            _row_squares(derivative(network, x[i : i + batch], theta, budget_bytes=budget_bytes)[0], found)
            for i in range(0, len(x), batch)
        ]
    )
    keys = jax.random.split(key, draws)
    squares = np.asarray(_products(hashable(network.apply), theta, jnp.asarray(x), found, keys))
    scale, sizes = radius / len(x), np.sqrt(rows.sum(axis=0))
    both = []
    longest = np.sqrt(rows).sum(axis=0).tolist()
    for lengths, size, most in zip(np.sqrt(squares.T), sizes.tolist(), longest, strict=True):
        drawn = controlled(lengths, size, most, scale=scale, confidence=confidence)
        rounding = linalg.gamma(4 * rows.size + 16)
        lower = linalg.Lower(scale * size * math.sqrt(0.5) * (1 - rounding))
        both.append(of_sampled(drawn, lower, linalg.Upper(scale * size * (1 + rounding))))
    rank = sum(
        sum(tree.paths(made.base)[leaf].size for leaf in leaves) if basis is None else basis.shape[1]
        for leaves, basis in found.items()
    )
    traces = _over(float(sizes[1]), float(sizes[0]))
    return Compared(made.method.name, len(x), made.d, made.k, rank, *both, traces)


def _over(part: float, full: float) -> float:
    if full == 0:
        raise ValueError("x: got inputs at which the derivative of all outputs vanishes; give others")
    return part / full


def _row_squares(
    pieces: dict[str, np.ndarray], found: Mapping[tuple[str, ...], np.ndarray | None]
) -> Float[np.ndarray, "rows 2"]:
    """Squared length of each row of J, and of JW with W the basis."""
    full = sum((piece**2).sum(axis=1) for piece in pieces.values())
    part = np.zeros_like(full)
    for leaves, basis in found.items():
        piece = np.concatenate([pieces[leaf] for leaf in leaves], axis=1)
        part += ((piece if basis is None else piece @ basis) ** 2).sum(axis=1)
    return np.stack([full, part], axis=1)


@functools.partial(jax.jit, static_argnums=0)
def _products(
    apply: Callable,
    theta: Params,
    x: Float[Array, "N ..."],
    found: dict[tuple[str, ...], Float[Array, "size rank"] | None],
    keys: PRNGKeyArray,
) -> Float[Array, "draws 2"]:
    """Squared lengths of Jᵀs and of WᵀJᵀs for a random s to a key."""
    outputs, pull = jax.vjp(lambda params: apply(params, x), theta)

    def one(key: PRNGKeyArray) -> Float[Array, " 2"]:
        pieces = tree.paths(pull(jax.random.rademacher(key, outputs.shape, outputs.dtype))[0])
        full = sum(jnp.sum(piece**2) for piece in pieces.values())
        part = jnp.zeros_like(full)
        for leaves, basis in found.items():
            moved = jnp.concatenate([pieces[leaf].ravel() for leaf in leaves])
            part += jnp.sum((moved if basis is None else basis.T @ moved) ** 2)
        return jnp.stack([full, part])

    return jax.lax.map(one, keys, batch_size=_TOGETHER)
