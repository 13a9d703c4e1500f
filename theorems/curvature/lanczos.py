r"""Extreme eigenvectors from products alone, every copy of a repeated eigenvalue among them.

A Krylov space holds one vector of each eigenspace: however often an eigenvalue is repeated, Lanczos' method
sees it once. So what has converged is locked, and the search starts again from a random vector of its
complement, until such a search finds nothing that belongs to the wanted set. Each new vector is
orthogonalised against all others, twice, which keeps rounding from bringing back as a "ghost" what is known.

The products A Q with all basis vectors Q are kept. So the projected matrix $Q^T A Q$ is computed and not
recurred, residuals $A x - \theta x$ of Ritz vectors $x = Q s$ are $(A Q) s - \theta Q s$ without a further
product, and so it stays when the basis is replaced by its best Ritz vectors, which bounds memory.

Sources: Lanczos, J. Res. Nat. Bur. Standards 45, 1950. Wu and Simon, *Thick-restart Lanczos method for large
symmetric eigenvalue problems*, SIAM J. Matrix Anal. Appl. 22, 2000.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax.tree_util import Partial
from jaxtyping import Float

from .. import linalg

CHUNK = 4
"""Vectors by which a basis grows at least before its convergence is looked at."""
FIRST = 48
"""Vectors that a basis has room for at first."""
KEPT = 16
"""Ritz vectors that are kept beyond the wanted ones where a basis has to be made smaller."""
ROOM = 128
"""Vectors that a search may hold where memory allows."""
CHANCE = 1e-6
"""With which the bound on what a search may have missed is too low."""
KEYS: dict[str, Callable] = {"largest": np.positive, "smallest": np.negative, "magnitude": np.abs}
"""Ways of being extreme: the wanted eigenvalues have the largest keys."""


def room_for(d: int, count: int, memory: int | None) -> int:
    """How many vectors a search may hold with their images, in a memory budget if there is one.

    At least what a search cannot do without, whatever the budget.
    """
    room = max(ROOM, 4 * count + 4 * CHUNK)
    if memory is None or 16 * d * room <= memory:
        return room
    return max(count + KEPT + 2 * CHUNK, memory // (16 * d))


class Basis(NamedTuple):
    """Orthonormal vectors and their images; rows past `size` are zeros.

    Attributes:
        rows: Qᵀ, (room, d).
        images: (A Q)ᵀ, (room, d).
        size: of the basis.
        direction: what to go on with, (d,): orthogonalised before it is used.
    """

    rows: Any
    images: Any
    size: int
    direction: Any


@dataclass(frozen=True)
class Search:
    """What a search ended with.

    Attributes:
        vectors: the wanted Ritz vectors, shape (d, count).
        images: A times them, shape (d, count).
        scale: the largest absolute Ritz value, about the norm of A.
        products: how many were made.
        converged: whether the residuals of all are within the tolerance.
        ceiling: no eigenvalue outside of the set has a larger key than this, except with a probability of
            twice `CHANCE`; infinite if the search did not come to its end.
    """

    vectors: Float[np.ndarray, "d count"]
    images: Float[np.ndarray, "d count"]
    scale: float
    products: int
    converged: bool
    ceiling: float


def search(
    linear: Partial,
    d: int,
    count: int,
    which: str,
    *,
    tolerance: float,
    most: int,
    room: int,
    seed: int,
    copies: bool = True,
) -> Search:
    """The wanted Ritz vectors, until a search from a new start changes none of their values.

    Args:
        linear: the product.
        d: the number of rows, more than count.
        count: how many are wanted.
        which: a key of `KEYS`.
        tolerance: of residuals, relative to the largest Ritz value.
        most: products that may be made.
        room: vectors that may be held together with their images, at least count + `KEPT` + `CHUNK`.
        seed: of the starts.
        copies: whether to search from new starts at all. If not, each eigenvalue is found once.
    """
    key, rng = KEYS[which], np.random.default_rng(seed)
    nothing = jnp.zeros((0, d))
    basis = _started(nothing, nothing, rng.normal(size=d), room)
    known, products, steps, straight, scale = None, 0, 0, True, 0.0
    more = 2 * count + 2 * CHUNK  # with less, ten vectors are hardly ever there
    while True:
        basis, projected, ended, made = _grown(linear, basis, more, room)
        products, steps = products + made, steps + made * straight
        # NumPy's would wake the threads of its BLAS, which spin for a while and slow the next products.
        values, turns = scipy.linalg.eigh(projected, driver="evd", check_finite=False)
        order = np.argsort(-key(values), kind="stable")
        values, turns = values[order], turns[:, order]
        scale = max(scale, float(np.abs(values).max()))
        slack, wanted = tolerance * scale, values[:count]
        whole, many = basis.size == d, len(values) >= count
        vectors, images, off = _ritz(basis, values, turns, count + 1)

        def found(converged: bool, ceiling: float) -> Search:
            chosen = (np.asarray(each)[:count].T for each in (vectors, images))  # noqa: B023
            return Search(*chosen, scale, products, converged, ceiling)  # noqa: B023

        settled = whole or (many and bool(np.all(off[:count] <= slack)))
        more = _steps_to(float(off[:count].max()) / slack if slack and many else math.inf, basis.size)
        if settled and (whole or (known is not None and np.allclose(wanted, known, rtol=0, atol=2 * slack))):
            rest = -math.inf if whole else _next(key(values), off, count, slack)
            # In an invariant space the search has seen all that its start had a part in.
            seen = whole or ended or rest == math.inf
            ceiling = rest if seen else _ceiling(rest, values[count:], steps, d)
            if ceiling < math.inf:
                return found(True, ceiling)
            settled = False
        if settled and not copies:
            return found(True, math.inf)
        if products >= most and many:
            return found(False, math.inf)
        if settled:
            known, steps, straight, more = wanted, 0, True, _least_steps(d)
            basis = _started(vectors[:count], images[:count], rng.normal(size=d), room)
        elif ended:  # only a new start leads out of an invariant space
            steps, straight = 0, True
            basis = basis._replace(direction=rng.normal(size=d))
        elif basis.size + CHUNK > room:
            straight = False
            vectors, images, _ = _ritz(basis, values, turns, count + KEPT)
            basis = _started(vectors, images, basis.direction, room)


def _steps_to(ratio: float, size: int) -> int:
    """How far to go before looking again where residuals are so much too large; in the end they fall fast."""
    digits = math.log10(ratio) if 1 < ratio < math.inf else 0
    return max(2 if digits else CHUNK, math.ceil(2 * digits), size // 16)


def _started(vectors: Any, images: Any, direction: Any, room: int) -> Basis:
    """A basis of Ritz vectors; the rooms are of few sizes, so that few programs are compiled."""
    size, rows = len(vectors), FIRST
    while rows < size + CHUNK:
        rows *= 2
    return Basis(*(_padded(each, min(rows, room)) for each in (vectors, images)), size, direction)


@partial(jax.jit, static_argnums=1)
def _padded(rows: Any, room: int) -> Any:
    return jnp.concatenate([rows, jnp.zeros((room - len(rows), rows.shape[1]))])


def _grown(
    linear: Partial, basis: Basis, more: int, room: int
) -> tuple[Basis, Float[np.ndarray, "n n"], bool, int]:
    """The basis with more vectors, QᵀAQ, whether the space is invariant, and the number of new vectors."""
    rows, images, size, direction = basis
    more = min(more, room - size)
    while size + more > len(rows):
        rows, images = (_padded(each, min(2 * len(rows), room)) for each in (rows, images))
    rows, images, direction, made, projected = _chunk(linear, rows, images, direction, size, more)
    made = int(made)
    projected = np.asarray(projected)[: size + made, : size + made]
    grown = Basis(rows, images, size + made, direction)
    return grown, (projected + projected.T) / 2, made < more, made


@partial(jax.jit, donate_argnums=(1, 2))
def _chunk(linear: Partial, rows: Any, images: Any, start: Any, size: Any, more: Any) -> tuple[Any, ...]:
    """Up to so many vectors more, each of them the image of the last one, orthogonalised and normed."""
    d = rows.shape[1]
    rounding = math.sqrt(d) * linalg.EPS

    def outside(rows: Any, v: Any) -> Any:
        def once(v: Any) -> Any:
            return v - (rows @ v) @ rows

        # Once leaves rounding of the size of what was removed, which matters where little is left.
        left = once(v)
        return jax.lax.cond(jnp.sum(left**2) < 0.25 * jnp.sum(v**2), once, lambda left: left, left)

    def cleaned(rows: Any, v: Any) -> tuple[Any, Any]:
        length = jnp.linalg.norm(v)
        v = outside(rows, v / jnp.where(length > 0, length, 1.0))
        left = jnp.linalg.norm(v)
        return v / jnp.where(left > 0, left, 1.0), left

    def going(carry: tuple) -> Any:
        # What is left of a vector that lay in the span is rounding, and so would be every vector after it.
        *_, left, number = carry
        return (left > 100 * rounding) & (number < more) & (size + number < d)

    def step(carry: tuple) -> tuple:
        rows, images, v, _, number = carry
        image, at = linear(v), (size + number, jnp.zeros_like(number))
        rows, images = (
            jax.lax.dynamic_update_slice(held, each[None], at) for held, each in ((rows, v), (images, image))
        )
        return rows, images, *cleaned(rows, image), number + 1

    start = *cleaned(rows, start), jnp.zeros_like(size)
    rows, images, v, _, made = jax.lax.while_loop(going, step, (rows, images, *start))
    return rows, images, v, made, rows @ images.T


def _ritz(
    basis: Basis, values: Float[np.ndarray, " n"], turns: Float[np.ndarray, "n n"], count: int
) -> tuple[Any, Any, Float[np.ndarray, " c"]]:
    """The first Ritz vectors and their images, to a row each, and the lengths of their residuals."""
    some = turns[:, :count]
    padded = np.zeros((len(basis.rows), some.shape[1]))
    padded[: basis.size] = some
    vectors, images, off = _combined(basis.rows, basis.images, padded, values[: some.shape[1]])
    return vectors, images, np.asarray(off)


@jax.jit
def _combined(rows: Any, images: Any, coordinates: Any, values: Any) -> tuple[Any, Any, Any]:
    vectors, images = coordinates.T @ rows, coordinates.T @ images
    return vectors, images, jnp.linalg.norm(images - values[:, None] * vectors, axis=1)


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
    if not len(rest) or not steps:
        return math.inf
    epsilon = (_logarithm(d) / (2 * steps - 1)) ** 2
    if epsilon >= 0.5:
        return math.inf
    return best + epsilon / (1 - 2 * epsilon) * float(rest.max() - rest.min())


def _least_steps(d: int) -> int:
    """With so many steps ε in `_ceiling` is at most 1/4: half of the spread above the largest value seen."""
    return math.ceil((2 * _logarithm(d) + 1) / 2)


def _logarithm(d: int) -> float:
    return math.log(1.648 * math.sqrt(d) / CHANCE)
