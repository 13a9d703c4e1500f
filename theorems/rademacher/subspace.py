r"""Subspaces of a linear class, and how much smaller their complexity is."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from .. import linalg, rational
from ..ranks import from_values
from .linear import LinearClass

_CLEAR = 1e-4  # squares of singular values from here on may be read off the Gram matrix


def subspace(
    x: Float[np.ndarray, "rows d"],
    basis: Float[np.ndarray, "d k"],
    *,
    outputs: int = 1,
    radius: float | Fraction = 1.0,
) -> LinearClass:
    r"""The class $\{x \mapsto \langle w, x\rangle : w \in \mathrm{range}\,P,\ \|w\| \le B\}$.

    Its kernel matrix is $X\Pi X^T$ with Π the orthogonal projector on the range: the columns of P need not be
    orthonormal or independent, and the ball is one of w and not of Φ in w = PΦ.  They are the same where
    $P^TP = I$; for a ball of Φ take ``LinearClass.of(x @ P)``.

    Args:
        x: features, one row to an output of an example, float64 or exact.
        basis: P, likewise.
        outputs: m.
        radius: B.

    Raises:
        ValueError: shapes that do not fit; a rank of P that no gap in its singular values decides.
    """
    if np.ndim(basis) != 2 or np.shape(x)[1:] != np.shape(basis)[:1]:
        raise ValueError(f"basis: got shape {np.shape(basis)}, needs ({np.shape(x)[-1]}, k)")
    if linalg.is_exact(x):
        return LinearClass(x @ rational.projector(basis) @ x.T, outputs, radius)
    linalg.require_judging_precision("basis", basis)
    return LinearClass.of(x @ range_basis(basis), outputs=outputs, radius=radius)


def range_basis(matrix: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m rank"]:
    """An orthonormal basis of the range of a matrix: the matrix times its `range_factor`."""
    return matrix @ range_factor(matrix)


def range_factor(matrix: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "n rank"]:
    r"""F such that the columns of GF are an orthonormal basis of the range of G.

    $F = V\Lambda^{-1/2}$ from $G^TG = V\Lambda V^T$.  That squares the singular values, which does no harm
    where those that count are within 100 of the largest and G itself, applied to the other directions, leaves
    nothing but rounding.  Otherwise G is decomposed.

    Raises:
        ValueError: a rank that no gap in the singular values decides.
    """
    lengths = np.linalg.norm(matrix, axis=0)
    moving = np.flatnonzero(lengths)
    chosen = np.zeros((matrix.shape[1], len(moving)))
    chosen[moving, range(len(moving))] = 1 / lengths[moving]
    if not len(moving) or np.count_nonzero(matrix, axis=1).max() <= 1:  # orthogonal: coordinates, scalings
        return chosen
    found = matrix[:, moving]
    values, vectors = np.linalg.eigh(found.T @ found)
    kept = values > _CLEAR * values[-1]
    left = np.linalg.norm(found @ vectors[:, ~kept], axis=0)
    if np.all(left <= 100 * max(matrix.shape) * linalg.EPS * np.sqrt(values[-1])):
        factor = np.zeros((matrix.shape[1], int(kept.sum())))
        factor[moving] = vectors[:, kept] / np.sqrt(values[kept])
        return factor
    _, values, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = from_values(values, matrix.shape, "dense SVD")
    if rank.rank is None:
        raise ValueError(f"matrix: got one of undecided rank, {rank!r}; of a Dg(Φ), move Φ a little")
    return vt[: rank.rank].T / values[: rank.rank]


@dataclass(frozen=True)
class KernelRatio:
    r"""The complexity of a part of a class over that of the whole, between bounds.

    Attributes:
        traces: $\sqrt{\mathrm{tr} K_{part} / \mathrm{tr} K}$, from which the ratio differs by a factor of at
            most √2.
        lower: a lower bound.
        upper: an upper bound.
    """

    traces: float
    lower: linalg.Lower
    upper: linalg.Upper


def kernel_ratio(whole: LinearClass, part: LinearClass) -> KernelRatio:
    r"""Bounds on the ratio of two complexities on the same inputs, from the two kernel matrices.

    $$c(K_{part})\sqrt{\frac{\mathrm{tr} K_{part}}{\mathrm{tr} K}} \le
    \frac{\hat R_{part}}{\hat R} \le \frac1{c(K)}\sqrt{\frac{\mathrm{tr} K_{part}}{\mathrm{tr} K}},\qquad
    c(K) = \max\Big\{\frac1{\sqrt2},\ 1-\frac{\sum_{i\ne j}K_{ij}^2}{(\mathrm{tr} K)^2}\Big\}$$

    For a subspace, $K_{part} = XPP^TX^T$, the ratio is at most 1 as well.

    Raises:
        ValueError: a whole class of zeros, or another number of examples, outputs or another radius.

    Source: T5.R14.
    """
    if (whole.kernel.shape, whole.outputs, whole.radius) != (part.kernel.shape, part.outputs, part.radius):
        raise ValueError(f"part: got {part!r}, needs the examples, outputs and radius of {whole!r}")
    bottom, top = float(whole.upper_bound()), float(whole.lower_bound())
    if bottom == 0:
        raise ValueError("whole: got zeros, of which all complexities are 0 and have no ratio")
    traces = float(part.size) / float(whole.size)
    rounding = 1 + linalg.gamma(4)
    return KernelRatio(
        traces,
        linalg.Lower(float(part.lower_bound()) / bottom / rounding),
        linalg.Upper(float(part.upper_bound()) / top * rounding),
    )
