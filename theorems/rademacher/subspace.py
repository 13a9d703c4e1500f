r"""Subspaces of a linear class, and how much smaller their complexity is."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy
from jaxtyping import Float
from scipy.linalg import lapack

from .. import linalg, rational
from ..ranks import from_values
from .linear import LinearClass

_CLEAR = 1e-6  # a column of which less is new, squared, may be a combination of the others


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

    $F = R^{-1}$ on independent columns of G, from a pivoted Cholesky factorisation $R^TR$ of their Gram
    matrix.  That squares the singular values; so it is used only if GF turns out orthonormal (on probes) and
    leaves nothing of the other columns but rounding.  Otherwise G itself is decomposed.

    Raises:
        ValueError: a rank that no gap in the singular values decides.
    """
    lengths = np.linalg.norm(matrix, axis=0)
    moving = np.flatnonzero(lengths)
    factor = np.zeros((matrix.shape[1], len(moving)))
    factor[moving, range(len(moving))] = 1 / lengths[moving]
    if not len(moving) or np.count_nonzero(matrix, axis=1).max() <= 1:  # orthogonal: coordinates, scalings
        return factor
    found = matrix[:, moving] / lengths[moving]
    gram = found.T @ found
    triangle, order, rank, _ = lapack.dpstrf(gram, tol=_CLEAR)
    kept, others = order[:rank] - 1, order[rank:] - 1
    inverse = scipy.linalg.solve_triangular(triangle[:rank, :rank], np.eye(rank))
    left = found[:, others] - found[:, kept] @ (inverse @ (inverse.T @ gram[np.ix_(kept, others)]))
    probes = np.random.default_rng(0).normal(size=(rank, 4))
    back = inverse.T @ (found[:, kept].T @ (found[:, kept] @ (inverse @ probes)))
    allowed = max(matrix.shape) * linalg.EPS / _CLEAR
    if max(np.abs(left).max(initial=0), np.abs(back - probes).max()) <= allowed:
        factor = np.zeros((matrix.shape[1], rank))
        factor[moving[kept]] = inverse / lengths[moving[kept], None]
        return factor
    _, values, vt = np.linalg.svd(matrix, full_matrices=False)
    numerical = from_values(values, matrix.shape, "dense SVD")
    if numerical.rank is None:
        raise ValueError(f"matrix: got one of undecided rank, {numerical!r}; of a Dg(Φ), move Φ a little")
    return vt[: numerical.rank].T / values[: numerical.rank]


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
