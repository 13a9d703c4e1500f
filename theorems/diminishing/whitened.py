r"""The truncation of an update that is best for the loss of a linear layer, not for the Frobenius norm.

With inputs x of second moment $\Sigma = E\,xx^T$ the least-squares loss of a layer with kernel update D,
beyond that of the optimum Δ, is $E\|x^T(D - \Delta)\|^2 = \|\Sigma^{1/2}(D - \Delta)\|_F^2$.  Kernels are
(in, out) here; in the (out, in) convention of the literature everything is transposed:
$[\Delta\Sigma^{1/2}]_r\Sigma^{-1/2}$.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg
from .spectrum import LowRank, Spectrum, spectrum

Moment = Float[np.ndarray, "m m"]
Kernel = Float[np.ndarray, "m n"]


@dataclass(frozen=True, eq=False, repr=False)
class Whitened:
    r"""The best update of rank at most r for given inputs.

    Attributes:
        update: $D_r = \Sigma^{+1/2} [\Sigma^{1/2}\Delta]_r$, shape (m, n).
        loss: $E\|x^T(D_r - \Delta)\|^2$, measured on `update` by the definition.
        tail: $\sum_{i>r} \sigma_i(\Sigma^{1/2}\Delta)^2$, the least loss at rank r; `loss`, to rounding.
        unique: whether no other update of that rank has the same loss.
        cut: directions of the inputs that were taken as zero.
        cutoff: relative to the largest eigenvalue of Σ, at or below which one counts as zero.
    """

    update: Kernel
    loss: float
    tail: float
    unique: bool
    cut: int
    cutoff: float

    def __repr__(self) -> str:
        """Show the loss."""
        unique = "unique" if self.unique else "not unique"
        return f"Whitened(loss {self.loss:.4g}, tail {self.tail:.4g}, {unique}, {self.cut} directions cut)"


@dataclass(frozen=True, eq=False)
class _Root:
    vectors: Moment
    roots: Float[np.ndarray, " m"]
    cut: int
    cutoff: float

    @property
    def half(self) -> Moment:
        return (self.vectors * self.roots) @ self.vectors.T

    @property
    def inverse(self) -> Moment:
        positive = self.roots > 0
        return (self.vectors * np.where(positive, 1 / np.where(positive, self.roots, 1), 0)) @ self.vectors.T


def second_moment(inputs: Float[np.ndarray, "N m"]) -> Moment:
    r"""$\Sigma = \frac1N \sum_i x_i x_i^T$ of inputs of a layer; other axes than the last are all samples.

    Raises:
        ValueError: no inputs, not float64, NaN or infinity.
    """
    x = np.asarray(inputs)
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"inputs: got shape {x.shape}, needs (N, in) with at least one input")
    linalg.require_judging_precision("inputs", x)
    x = x.reshape(-1, x.shape[-1])
    return x.T @ x / len(x)


def _root(moment: Moment, shape: tuple[int, ...]) -> _Root:
    """Eigenvectors and the roots of the eigenvalues; what is at rounding level is zero."""
    linalg.require_judging_precision("second_moment", moment)
    if len(shape) != 2 or moment.shape != (shape[0], shape[0]):
        raise ValueError(
            f"second_moment: got shape {moment.shape} for an update of shape {shape}, needs (in, in) of "
            "a kernel (in, out); transpose an update in the (out, in) convention"
        )
    largest = float(np.abs(moment).max(initial=0.0))
    cutoff = linalg.EPS * max(len(moment), 1)
    if np.abs(moment - moment.T).max(initial=0.0) > cutoff * largest:
        raise ValueError("second_moment: not symmetric; pass second_moment(inputs), or (S + S.T) / 2")
    squares, vectors = np.linalg.eigh((moment + moment.T) / 2)
    top = float(np.abs(squares).max(initial=0.0))
    if squares.min(initial=0.0) < -cutoff * top:
        raise ValueError(
            f"second_moment: has the eigenvalue {squares.min():.3g}, needs a positive semidefinite "
            "matrix: it is an average of x xᵀ"
        )
    kept = squares > cutoff * top
    return _Root(vectors, np.sqrt(np.where(kept, squares, 0.0)), int((~kept).sum()), cutoff)


def whitened_spectrum(update: Kernel | LowRank, second_moment: Moment, name: str = "") -> Spectrum:
    r"""The singular values of $\Sigma^{1/2}\Delta$, whose tails are the least excess losses at each rank.

    Args:
        update: Δ, shape (m, n), float64, m the inputs of the layer; factors stay factors.
        second_moment: Σ, shape (m, m), symmetric and positive semidefinite.
        name: of the layer.

    Raises:
        ValueError: shapes that do not fit, not float64, NaN, or Σ that is no second moment.

    Source: T3.R8.
    """
    if not isinstance(update, LowRank):
        update = np.asarray(update)
        linalg.require_judging_precision("update", update)
    half = _root(np.asarray(second_moment), update.shape).half
    if isinstance(update, LowRank):
        return spectrum(LowRank(half @ np.asarray(update.A), update.B, update.scale), name)
    return spectrum(half @ update, name)


def layer_loss(change: Kernel, update: Kernel, second_moment: Moment) -> float:
    r"""Excess loss of a change D of a linear layer whose least-squares optimum is Δ.

    $$E\|x^T(D-\Delta)\|^2 = \mathrm{tr}\,(D-\Delta)^T\Sigma(D-\Delta)$$

    Works for float64 and, without rounding, for exact arrays.
    """
    gap = change - update
    value = (gap * (second_moment @ gap)).sum()
    return value if linalg.is_exact(gap) else float(value)


def whitened_truncation(update: Kernel, second_moment: Moment, rank: int) -> Whitened:
    r"""The update of rank at most r with the least loss of the layer for inputs of second moment Σ.

    $$D_r = \Sigma^{+1/2}\,[\Sigma^{1/2}\Delta]_r,\qquad
    E\|x^T(D_r-\Delta)\|^2 = \sum_{i>r}\sigma_i(\Sigma^{1/2}\Delta)^2
    = \min_{\mathrm{rank} D \le r} E\|x^T(D-\Delta)\|^2,$$

    with the pseudo-inverse, so that a singular Σ is allowed.  For Σ = I it is the truncated singular value
    decomposition.  The minimisers with the same $\Sigma^{1/2}D$ are longer.

    Args:
        update: Δ, shape (m, n), float64, m the inputs of the layer.
        second_moment: Σ, shape (m, m), symmetric and positive semidefinite.
        rank: r ≥ 0.

    Returns:
        A `Whitened`; unique if r = 0, or if Σ is positive definite and
        $\sigma_r > \sigma_{r+1}$ or $\sigma_{r+1} = 0$ (to rounding).

    Raises:
        ValueError: as `whitened_spectrum`, or a negative rank.

    Source: T3.R8; Izenman 1975 (reduced-rank regression, identity weight on the outputs).  It is attained.
    """
    if rank < 0:
        raise ValueError(f"rank: got {rank}, needs an integer >= 0")
    update, moment = np.asarray(update), np.asarray(second_moment)
    linalg.require_judging_precision("update", update)
    root = _root(moment, update.shape)
    product = root.half @ update
    u, s, vt = np.linalg.svd(product, full_matrices=False)
    best = root.inverse @ ((u[:, :rank] * s[:rank]) @ vt[:rank])
    found = spectrum(product)
    gap, floor = _gap(s, rank), 2 * found.error
    unique = rank == 0 or (root.cut == 0 and (gap > floor or _gap(s, rank, 0) <= floor))
    return Whitened(
        best, layer_loss(best, update, moment), found.tail(rank), bool(unique), root.cut, root.cutoff
    )


def _gap(s: np.ndarray, rank: int, sign: int = 1) -> float:
    """σ_r − σ_{r+1}; just σ_{r+1} for sign 0."""
    padded = np.append(s, np.zeros(max(0, rank + 1 - len(s))))
    return float(sign * padded[rank - 1] - padded[rank]) if sign else float(padded[rank])
