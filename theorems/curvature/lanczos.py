r"""Extreme eigenvectors from products alone, every copy of a repeated eigenvalue among them.

A Krylov space holds one vector of each eigenspace: however often an eigenvalue is repeated, Lanczos' method
sees it once. So what has converged is locked, and the search starts again from a random vector of its
complement, until such a search finds nothing that belongs to the wanted set. Full reorthogonalisation keeps
rounding from bringing back as a "ghost" what is known already.

The basis grows by a few vectors at a time. With orthonormal B and $A B = B G + r h^T$, the vectors Q of
Lanczos' method for $(I - BB^T) A (I - BB^T)$ from the unit vector r satisfy

$$A\,[B\;Q] = [B\;Q] \begin{pmatrix} G & h e_1^T \\ e_1 h^T & T \end{pmatrix} + r' \beta e_m^T,$$

which has the same form. Restarting with the best Ritz vectors in place of B keeps it too, and bounds memory.

Sources: Lanczos, J. Res. Nat. Bur. Standards 45, 1950. Wu and Simon, *Thick-restart Lanczos method for large
symmetric eigenvalue problems*, SIAM J. Matrix Anal. Appl. 22, 2000.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float
from matfree.decomp import tridiag_sym

from .. import linalg

CHUNK = 16
"""Vectors by which a basis grows before its convergence is looked at."""
SAFETY = 16
"""Residuals are brought this much below the tolerance, as what is locked is taken as exact."""
CHANCE = 1e-6
"""With which the bound on what a search may have missed is too low."""
KEYS: dict[str, Callable] = {"largest": np.positive, "smallest": np.negative, "magnitude": np.abs}
"""Ways of being extreme: the wanted eigenvalues have the largest keys."""


@dataclass(frozen=True)
class Krylov:
    r"""A basis B with $A B = B G + r h^T$; rows past `size` are zeros.

    Attributes:
        rows: Bᵀ, shape (room, d).
        projected: G, shape (size, size).
        residual: r, a unit vector, shape (d,).
        coupling: h, shape (size,); zero if the space is invariant and r a new start.
    """

    rows: Any
    projected: Float[np.ndarray, "n n"]
    residual: Any
    coupling: Float[np.ndarray, " n"]

    @property
    def size(self) -> int:
        """The number of basis vectors."""
        return len(self.coupling)

    @property
    def d(self) -> int:
        """The length of the vectors."""
        return self.rows.shape[1]

    def ritz(self, vectors: Float[np.ndarray, "n c"]) -> Any:
        """The vectors with these coordinates, to a row, shape (c, d)."""
        padded = np.zeros((len(self.rows), vectors.shape[1]))
        padded[: self.size] = vectors
        return _combined(self.rows, padded)


@dataclass(frozen=True)
class Search:
    r"""What a search ended with.

    Attributes:
        vectors: the wanted Ritz vectors, shape (d, count).
        products: how many were made.
        converged: whether the residual estimates of all are within the tolerance.
        ceiling: no eigenvalue outside of the set has a larger key than this, except with a probability of
            twice `CHANCE`; infinite if the search did not come to its end.
    """

    vectors: Float[np.ndarray, "d count"]
    products: int
    converged: bool
    ceiling: float


def search(
    linear: Partial, d: int, count: int, which: str, *, tolerance: float, most: int, room: int, seed: int
) -> Search:
    """The wanted Ritz vectors, until a search from a new start changes none of their values.

    Args:
        linear: the product.
        d: the number of rows, more than count.
        count: how many are wanted.
        which: a key of `KEYS`.
        tolerance: of residuals, relative to the largest Ritz value.
        most: products that may be made.
        room: vectors that may be held, at least count + 3 `CHUNK`.
        seed: of the starts.
    """
    key, rng = KEYS[which], np.random.default_rng(seed)
    state = _started(jnp.zeros((2 * CHUNK, d)), np.zeros((0, 0)), rng)
    known, products, steps, straight = None, 0, 0, True
    while True:
        state, made = _extended(linear, state)
        products, steps = products + made, steps + made * straight
        values, vectors = np.linalg.eigh(state.projected)
        order = np.argsort(-key(values), kind="stable")
        values, vectors = values[order], vectors[:, order]
        off, slack = np.abs(state.coupling @ vectors), tolerance / SAFETY * float(np.abs(values).max())
        wanted = values[:count]
        whole = state.size == d
        settled = whole or (len(values) >= count and bool(np.all(off[:count] <= slack)))
        if settled and (whole or (known is not None and np.allclose(wanted, known, rtol=0, atol=2 * slack))):
            rest = _next(key(values), off, count, slack)
            if whole or rest < math.inf:
                ceiling = -math.inf if whole else _ceiling(rest, values[count:], steps, d)
                return Search(np.asarray(state.ritz(vectors[:, :count])).T, products, True, ceiling)
            settled = False
        if products >= most and len(values) >= count:
            return Search(np.asarray(state.ritz(vectors[:, :count])).T, products, False, math.inf)
        if settled:
            known, steps, straight = wanted, 0, True
            state = _started(_padded(state.ritz(vectors[:, :count])), np.diag(wanted), rng)
        elif not state.coupling.any():  # only a new start leads out of an invariant space
            steps, straight = 0, True
            state = _started(state.rows, state.projected, rng)
        elif state.size + CHUNK > room:
            keep, straight = vectors[:, : count + CHUNK], False
            state = Krylov(
                _padded(state.ritz(keep)),
                np.diag(values[: count + CHUNK]),
                state.residual,
                state.coupling @ keep,
            )


def _next(keys: Float[np.ndarray, " n"], off: Float[np.ndarray, " n"], count: int, slack: float) -> float:
    """The key of the best vector outside of the wanted set; infinite if it may yet come to belong there."""
    if len(keys) == count:
        return -math.inf
    inside = keys[count] + off[count] < keys[count - 1] or off[count] <= slack
    return float(keys[count]) if inside else math.inf


def _ceiling(best: float, rest: Float[np.ndarray, " n"], steps: int, d: int) -> float:
    r"""What no eigenvalue of the complement has a larger key than, except with a small probability.

    After k steps from a random vector the largest Ritz value is below $\lambda_{\max}$ by more than
    $\epsilon (\lambda_{\max} - \lambda_{\min})$ with probability at most
    $1.648 \sqrt d\, e^{-\sqrt\epsilon (2k - 1)}$, and so at the other end.

    Source: Kuczyński and Woźniakowski, *Estimating the largest eigenvalue by the power and Lanczos algorithms
    with a random start*, SIAM J. Matrix Anal. Appl. 13, 1992, theorem 4.2.
    """
    if not len(rest):
        return math.inf
    epsilon = (math.log(1.648 * math.sqrt(d) / CHANCE) / (2 * steps - 1)) ** 2
    if epsilon >= 0.5:
        return math.inf
    return best + epsilon / (1 - 2 * epsilon) * float(rest.max() - rest.min())


def _started(rows: Any, projected: Float[np.ndarray, "n n"], rng: np.random.Generator) -> Krylov:
    """A basis of an invariant space, and a random vector to leave it by."""
    return Krylov(rows, projected, rng.normal(size=rows.shape[1]), np.zeros(len(projected)))


def _padded(rows: Any) -> Any:
    """Rows with zeros behind them, up to one of few sizes, so that few programs are compiled."""
    room = 2 * CHUNK
    while room < len(rows) + CHUNK:
        room *= 2
    return jnp.zeros((room, rows.shape[1])).at[: len(rows)].set(rows)


def _extended(linear: Partial, state: Krylov) -> tuple[Krylov, int]:
    """The basis with up to `CHUNK` more vectors, and their number."""
    n, steps = state.size, min(CHUNK, state.d)
    new, diagonal, off, residual, left, overlap = _chunk(linear, state.rows, state.residual, steps)
    diagonal, off = np.asarray(diagonal), np.append(np.asarray(off), float(left))
    rounding = math.sqrt(state.d) * linalg.EPS
    size = np.nanmax(np.abs(np.concatenate([state.projected.ravel(), diagonal, off[:1]])))
    # What is left of a vector that lay in the span is rounding, and so is every vector after it.
    alive = off > 100 * rounding * size
    made = min(steps if alive.all() else int(np.argmin(alive)) + 1, state.d - n)
    ended = made < steps or not alive[-1]
    # A vector of which little was left is not clean: it becomes the residual, to be cleaned and tried again.
    clean = np.asarray(overlap)[1:made] <= 1e3 * rounding
    if not clean.all():
        made, ended = int(np.argmin(clean)) + 1, False
        residual = new[made]
    projected, coupling = np.zeros((n + made, n + made)), np.zeros(n + made)
    projected[:n, :n] = state.projected
    projected[n:, n:] = np.diag(diagonal[:made]) + np.diag(off[: made - 1], 1) + np.diag(off[: made - 1], -1)
    projected[:n, n] = projected[n, :n] = state.coupling
    coupling[-1] = 0.0 if ended else off[made - 1]
    rows = state.rows if n + steps <= len(state.rows) else _padded(state.rows)
    return Krylov(_set(rows, new, n, made), projected, residual, coupling), made


@partial(jax.jit, static_argnums=3)
def _chunk(linear: Partial, rows: Any, start: Any, steps: int) -> tuple[Any, ...]:
    """Lanczos' method in the complement of the rows; last, how much each vector overlaps with them."""

    def product(v: Any) -> Any:
        # The component ε of v in the span, which is rounding, would come back as −α ε / β, larger each time,
        # when the method subtracts α v and divides by β; so α ε is left in the product, α = vᵀAv.
        w = linear(v)
        first, inside = (rows @ jnp.stack([w, v], axis=1)).T
        w = w - first @ rows
        return w - (rows @ w - (v @ w) * inside) @ rows  # twice: once leaves rounding of the size of w

    start = start / jnp.linalg.norm(start)
    for _ in range(2):
        start = start - (rows @ start) @ rows
    lanczos = tridiag_sym(steps, materialize=False, custom_vjp=False)
    vectors, (diagonal, off), residual, _ = lanczos(product, start)
    left = jnp.linalg.norm(residual)
    overlap = jnp.max(jnp.abs(vectors @ rows.T), axis=1)
    return vectors, diagonal, off, residual / left, left, overlap


@partial(jax.jit, donate_argnums=0)
def _set(rows: Any, new: Any, at: Any, made: Any) -> Any:
    new = jnp.where(jnp.arange(len(new))[:, None] < made, new, 0.0)  # NaN past the end of an invariant space
    return jax.lax.dynamic_update_slice(rows, new, (at, jnp.zeros_like(at)))


@jax.jit
def _combined(rows: Any, coordinates: Any) -> Any:
    return coordinates.T @ rows
