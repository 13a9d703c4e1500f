r"""A symmetric matrix that may be known by its products alone: what all of this package works on."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float

from ...models import derivatives
from .. import linalg
from .intervals import Spectrum, spectrum

BUDGET = 2**30
"""Bytes that a dense matrix may take; beyond, everything is done by products."""


@dataclass(frozen=True, eq=False, repr=False)
class Curvature:
    r"""A symmetric matrix $A \in \mathbb{R}^{d \times d}$, by its products with vectors.

    Attributes:
        linear: the linear function $v \mapsto A v$ of JAX arrays; a pytree, so that compiled programs take it
            as an argument.
        d: the number of rows.
        kind: what the matrix is, for reports.
        memory: bytes that the matrix may take if it is formed.
        operations: number of rounded operations behind an entry of a product.
        gradient: the gradient at the same point, where there is one.
        known: the matrix itself, where it was given.
        former: forms the matrix in a quicker way than column by column, and says how.
        restrictor: maps some P to PᵀAP in a quicker way than column by column, and all others to None.
        floor: a lower bound of the least eigenvalue that the structure tells; −∞ if it tells none.
    """

    linear: Partial
    d: int
    kind: str
    memory: int = BUDGET
    operations: int = 0
    gradient: Float[np.ndarray, " d"] | None = None
    known: Float[np.ndarray, "d d"] | None = None
    former: Callable[[], tuple[Float[np.ndarray, "d d"], str]] | None = None
    restrictor: Callable[[Float[np.ndarray, "d k"]], Float[np.ndarray, "k k"] | None] | None = None
    floor: float = -math.inf

    @property
    def dense(self) -> bool:
        """Whether the matrix fits into the budget."""
        return self.known is not None or 8 * self.d**2 <= self.memory

    @property
    def decided(self) -> str:
        """A sentence on which path is taken, and why."""
        size = _bytes(8 * self.d**2)
        if self.known is not None:
            return f"dense, {size}: the matrix was given"
        if self.dense:
            return f"dense, {size} of a budget of {_bytes(self.memory)}"
        return f"matrix-free: {size} would exceed the budget of {_bytes(self.memory)}"

    def product(self, vectors: Float[np.ndarray, " d"] | Float[np.ndarray, "d b"]) -> np.ndarray:
        """The products with one vector (d,) or with the columns of a block (d, b).

        Raises:
            ValueError: another shape, another dtype than float64, NaN or infinity.
        """
        vectors = np.asarray(vectors)
        if vectors.ndim not in (1, 2) or vectors.shape[0] != self.d:
            raise ValueError(
                f"vectors: got shape {vectors.shape}, needs ({self.d},) or ({self.d}, b), columns"
            )
        linalg.require_judging_precision("vectors", vectors)
        if self.known is not None:
            return self.known @ vectors
        if vectors.ndim == 1:
            return np.asarray(derivatives.apply(self.linear, vectors))
        out = np.empty(vectors.shape)
        for at, block in derivatives.blocks(vectors.T):
            rows = derivatives.apply_rows(self.linear, block)
            out[:, at] = np.asarray(rows)[: at.stop - at.start].T
        return out

    def matrix(self) -> Float[np.ndarray, "d d"]:
        """The matrix, symmetrised; formed once.

        Raises:
            ValueError: it does not fit into the budget.
        """
        if not self.dense:
            raise ValueError(
                f"memory: the matrix takes {_bytes(8 * self.d**2)}, more than the budget of "
                f"{_bytes(self.memory)}; use products, or give memory={8 * self.d**2}"
            )
        return self._formed[0]

    @functools.cached_property
    def spectrum(self) -> Spectrum:
        """The complete decomposition, with a proved radius; cubic cost.

        Raises:
            ValueError: the matrix does not fit into the budget.
        """
        return spectrum(self.matrix())

    @property
    def asymmetry(self) -> float:
        r"""$\|A - A^T\|_F / 2$ before it was symmetrised; zero if it was made symmetric, layer by layer."""
        return self._formed[1]

    @functools.cached_property
    def _formed(self) -> tuple[Float[np.ndarray, "d d"], float, str]:
        if self.known is not None:
            return self.known, 0.0, "given"
        if self.former is None:
            matrix, by = derivatives.transposed(self.linear, self.d), "columns"
        else:
            matrix, by = self.former()
        linalg.require_judging_precision(f"the {self.kind}", matrix)
        if by == "layers":  # symmetric as it was made
            matrix.setflags(write=False)
            return matrix, 0.0, by
        off = float(np.linalg.norm(matrix - matrix.T)) / 2
        matrix = (matrix + matrix.T) / 2
        matrix.setflags(write=False)
        return matrix, off, by

    @property
    def formed_by(self) -> str:
        """How the matrix was formed: "given", "layers" (see `peftproof.models.taps`) or "columns"."""
        return self._formed[2]

    def restricted(self, directions: Float[np.ndarray, "d k"]) -> Float[np.ndarray, "k k"]:
        r"""$P^T A P$, in batches of columns of P and without forming A.

        Args:
            directions: P, shape (d, k); its columns need not be orthonormal.

        Raises:
            ValueError: another shape, another dtype than float64, NaN or infinity.
        """
        P = np.asarray(directions)
        if P.ndim != 2 or P.shape[0] != self.d:
            raise ValueError(
                f"directions: got shape {P.shape}, needs ({self.d}, k), a direction to a column; transpose it"
            )
        linalg.require_judging_precision("directions", P)
        if self.known is not None or "_formed" in vars(self):
            found = P.T @ (self._formed[0] @ P)
            return (found + found.T) / 2
        if self.restrictor is not None and (quick := self.restrictor(P)) is not None:
            return quick
        rows, out = jnp.asarray(P.T), np.empty((P.shape[1], P.shape[1]))
        for at, block in derivatives.blocks(P.T):
            out[at] = np.asarray(_against(self.linear, rows, block))[: at.stop - at.start]
        return (out + out.T) / 2

    def shifted(self, shift: float) -> Curvature:
        """A + s I."""
        shift = float(shift)
        if not math.isfinite(shift):
            raise ValueError(f"shift: got {shift}, needs a finite number")

        def former() -> tuple[Float[np.ndarray, "d d"], str]:
            matrix, _, by = self._formed
            moved = matrix.copy()
            moved.flat[:: self.d + 1] += shift
            return moved, by

        def restrictor(P: Float[np.ndarray, "d k"]) -> Float[np.ndarray, "k k"] | None:
            found = None if self.restrictor is None else self.restrictor(P)
            return None if found is None else found + shift * (P.T @ P)

        return Curvature(
            linear=Partial(_plus_identity, self.linear, jnp.asarray(shift)),
            d=self.d,
            kind=f"{self.kind} + {shift:g} I",
            memory=self.memory,
            operations=self.operations + 2,
            gradient=self.gradient,
            known=None if self.known is None else former()[0],
            former=former,
            restrictor=restrictor,
            floor=self.floor + shift,
        )

    def __repr__(self) -> str:
        """Show what it is and which path is taken."""
        return f"Curvature({self.kind}, d={self.d}, {self.decided})"


@jax.jit
def _against(linear: Partial, rows: Any, block: Any) -> Any:
    return jax.vmap(linear)(block) @ rows.T


def _plus_identity(linear: Partial, shift: Any, v: Any) -> Any:
    return linear(v) + shift * v


def require_curvature(given: Any) -> None:
    """Refuse what is no `Curvature`, and say how to make one.

    Raises:
        ValueError: an array, or anything else.
    """
    if isinstance(given, Curvature):
        return
    what, fix = type(given).__name__, "make one with `hessian`, `gauss_newton`, `of_function` or `of_matrix`"
    if hasattr(given, "shape") or isinstance(given, list | tuple):
        what, fix = f"an array ({what})", "give curvature.of_matrix(A) for a symmetric matrix A"
    raise ValueError(f"curvature: got {what}, needs a Curvature; {fix}")


def of_matrix(matrix: Float[np.ndarray, "d d"]) -> Curvature:
    """A symmetric matrix that is given.

    Raises:
        ValueError: not square, not float64, NaN or infinity, or not symmetric up to rounding.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"matrix: got shape {matrix.shape}, needs a square one, (d, d) with d ≥ 1")
    linalg.require_judging_precision("matrix", matrix)
    off, size = float(np.abs(matrix - matrix.T).max()), float(np.abs(matrix).max())
    if off > linalg.gamma(4 * len(matrix)) * size:
        raise ValueError(
            f"matrix: its entries differ from those of its transpose by up to {off:.3g}, needs a "
            "symmetric one; symmetrise it with (A + A.T) / 2 if that is what was meant"
        )
    symmetric = (matrix + matrix.T) / 2
    symmetric.setflags(write=False)
    d = len(matrix)
    return Curvature(Partial(jnp.matmul, jnp.asarray(symmetric)), d, "matrix", operations=d, known=symmetric)


def of_function(
    product: Callable[[Any], Any],
    d: int,
    *,
    kind: str = "function",
    memory: int = BUDGET,
    operations: int | None = None,
    gradient: Float[np.ndarray, " d"] | None = None,
    former: Callable[[], tuple[Float[np.ndarray, "d d"], str]] | None = None,
    restrictor: Callable[[Float[np.ndarray, "d k"]], Float[np.ndarray, "k k"] | None] | None = None,
    floor: float = -math.inf,
) -> Curvature:
    r"""A symmetric matrix that is known by its products.

    Args:
        product: maps a JAX vector (d,) to A v and can be traced. Arrays that it uses are compiled into the
            program unless it is a `jax.tree_util.Partial` that has them as arguments.
        d: the number of rows.
        kind: what reports call it.
        memory: bytes that the matrix may take if it is formed.
        operations: number of rounded operations behind an entry of a product; d if not known.
        gradient: kept for the user.
        former: forms the matrix in a quicker way than column by column, and says how.
        restrictor: maps some P to PᵀAP in a quicker way than column by column, and all others to None.
        floor: a lower bound of the least eigenvalue that is known.

    Raises:
        ValueError: results of another shape or dtype, NaN or infinity, or an asymmetric function: for two
            random vectors $v^T (A w)$ and $w^T (A v)$ differ by more than rounding.
    """
    if d < 1:
        raise ValueError(f"d: got {d}, needs at least 1")
    linear = product if isinstance(product, Partial) else Partial(product)
    operations = d if operations is None else operations
    made = Curvature(linear, d, kind, memory, operations, gradient, None, former, restrictor, floor)
    _probe(made)
    return made


def _probe(curvature: Curvature) -> None:
    d = curvature.d
    v, w = np.random.default_rng(0).normal(size=(2, d)) / math.sqrt(d)
    Av, Aw = (np.asarray(derivatives.apply(curvature.linear, each)) for each in (v, w))
    if Av.shape != (d,):
        raise ValueError(
            f"product: maps a vector ({d},) to shape {Av.shape}, needs ({d},); return A v in the layout of v"
        )
    linalg.require_judging_precision(f"the product of the {curvature.kind} with a vector", Av, Aw)
    size = np.linalg.norm(Av) * np.linalg.norm(w) + np.linalg.norm(Aw) * np.linalg.norm(v)
    off = abs(float(v @ Aw - w @ Av))
    # Rounding grows with the root of the operations; products that cancel may lose some digits more.
    if off > 1e3 * linalg.gamma(curvature.operations + d) * size:
        raise ValueError(
            f"product: vᵀ(A w) and wᵀ(A v) differ by {off:.3g}, of {size:.3g}; needs a symmetric linear map, "
            "such as a Hessian; check that it is linear and that no stop_gradient cuts it"
        )


def _bytes(size: int) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}"
        size = size / 1000
    raise AssertionError
