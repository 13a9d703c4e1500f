"""Singular values of an update, layer by layer, with what their computation may have lost."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Array, Float

from ...models import tree
from .. import linalg, ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..ranks import Rank

Matrix = Float[np.ndarray, "m n"]


@dataclass(frozen=True, eq=False, repr=False)
class LowRank:
    r"""An update in factors, $\Delta = s\,A B$, as LoRA trains it; the product is never formed.

    In the (in, out) convention of kernels; the literature's $\Delta W = s\,BA$ is the transpose, with the
    same singular values.

    Attributes:
        A: shape (m, r), float64.
        B: shape (r, n), float64.
        scale: the factor s; α / r in the literature.

    Raises:
        ValueError: factors that are no matrices or do not fit, another dtype than float64, NaN or infinity.
    """

    A: Float[Array | np.ndarray, "m r"]
    B: Float[Array | np.ndarray, "r n"]
    scale: float = 1.0

    def __post_init__(self) -> None:
        A, B = np.asarray(self.A), np.asarray(self.B)
        if A.ndim != 2 or B.ndim != 2 or A.shape[1] != B.shape[0]:
            raise ValueError(
                f"A, B: got shapes {A.shape} and {B.shape}, needs (m, r) and (r, n); for the literature's "
                "W + BA pass B first, or transpose both"
            )
        linalg.require_judging_precision("A", A)
        linalg.require_judging_precision("B", B)
        if not np.isfinite(self.scale):
            raise ValueError(f"scale: got {self.scale}, needs a finite number")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (m, n) of the product."""
        return self.A.shape[0], self.B.shape[1]

    def __repr__(self) -> str:
        """Show the shapes."""
        return f"LowRank(A={tree.short(self.A)}, B={tree.short(self.B)}, scale={self.scale:g})"


@dataclass(frozen=True, eq=False, repr=False)
class Spectrum:
    r"""The singular values $\sigma_1 \ge \sigma_2 \ge \dots$ of an update of one layer.

    Attributes:
        values: shape (s,), float64, in descending order; singular values beyond them are zero.
        shape: (m, n) of the update.
        name: of the layer.
        error: δ with $\sum_i (\sigma_i - \hat\sigma_i)^2 \le \delta^2$ for the computed $\hat\sigma_i$; 0 for
            values that are taken as they are.

    Raises:
        ValueError: values that are not float64, not finite, negative, not descending, or too many.
    """

    values: Float[np.ndarray, " s"]
    shape: tuple[int, int]
    name: str = ""
    error: float = 0.0

    def __post_init__(self) -> None:
        linalg.require_judging_precision("values", self.values)
        if self.values.ndim != 1 or len(self.values) > min(self.shape):
            raise ValueError(
                f"values: got shape {self.values.shape} for an update of shape {self.shape}, needs a vector "
                f"of at most {min(self.shape)} singular values"
            )
        if (self.values < 0).any() or (np.diff(self.values) > 0).any():
            raise ValueError("values: needs numbers >= 0 in descending order; pass np.sort(values)[::-1]")

    @functools.cached_property
    def tails(self) -> Float[np.ndarray, " s+1"]:
        r"""All tails, $\mathrm{tail}(r) = \sum_{i>r} \sigma_i^2$ for r = 0 … s."""
        return tails(self.values**2)

    def tail(self, rank: int) -> float:
        r"""Squared Frobenius distance to the nearest matrix of rank at most r, $\sum_{i>r} \sigma_i^2$.

        Raises:
            ValueError: a negative rank.

        Source: Eckart and Young 1936; T3.R1.  An equality.
        """
        if rank < 0:
            raise ValueError(f"rank: got {rank}, needs an integer >= 0")
        return float(self.tails[min(rank, len(self.values))])

    @property
    def energy(self) -> float:
        r"""$\|\Delta\|_F^2 = \mathrm{tail}(0)$."""
        return float(self.tails[0])

    def share(self, rank: int) -> float:
        r"""Share of the squared norm that rank r keeps, $1 - \mathrm{tail}(r)/\|\Delta\|_F^2$; 1 if Δ = 0."""
        return 1 - self.tail(rank) / self.energy if self.energy else 1.0

    @property
    def stable_rank(self) -> float:
        r"""$\|\Delta\|_F^2 / \|\Delta\|_2^2$, between 1 and the rank; 0 for Δ = 0.

        Source: Rudelson and Vershynin, *Sampling from large matrices*, J. ACM 54 (2007).
        """
        return float(((self.values / self.values[0]) ** 2).sum()) if self.energy else 0.0

    @property
    def effective_rank(self) -> float:
        r"""$\exp(-\sum_i p_i \log p_i)$ with $p_i = \sigma_i / \sum_j \sigma_j$; 0 for Δ = 0.

        Between 1 and the rank, which it equals if and only if all singular values other than 0 are equal.

        Source: Roy and Vetterli, *The effective rank*, EUSIPCO 2007, definition 1.
        """
        positive = self.values[self.values > 0]
        if not len(positive):
            return 0.0
        p = positive / positive[0]
        p = p / p.sum()
        return float(np.exp(-(p * np.log(np.maximum(p, np.finfo(float).tiny))).sum()))

    @property
    def numerical_rank(self) -> Rank:
        """The rank with the gap that justifies it, by the rule of `peftproof.theorems.ranks`."""
        return ranks.from_values(self.values, self.shape, "SVD")

    def __repr__(self) -> str:
        """Show the shape and what is asked most often."""
        name = f"{self.name}: " if self.name else ""
        return (
            f"Spectrum({name}{self.shape[0]}x{self.shape[1]}, norm {np.sqrt(self.energy):.3g}, "
            f"stable rank {self.stable_rank:.3g}, effective rank {self.effective_rank:.3g})"
        )


def tails(squares: np.ndarray) -> np.ndarray:
    r"""All tails $\sum_{i>r} \sigma_i^2$, r = 0 … s, from descending squares; exact for fractions.

    Summed from the small end, so that each tail has a small relative error even where it is tiny.
    """
    squares = np.asarray(squares)
    zero = squares[:0].sum() if squares.dtype != object else 0
    return np.concatenate([np.cumsum(squares[::-1])[::-1], np.array([zero], squares.dtype)])


def spectrum(update: Matrix | LowRank | Array, name: str = "") -> Spectrum:
    r"""Singular values of one update, with a measured bound on their error.

    A matrix is decomposed as it is.  Of factors, thin QR decompositions $A = Q_A R_A$, $B^T = Q_B R_B$ leave
    the r × r core $s R_A R_B^T$, whose singular values are those of $sAB$.

    Args:
        update: shape (m, n), float64, or a `LowRank`.
        name: of the layer.

    Returns:
        A `Spectrum`; min(m, n) values, for factors at most r.  Its error is computed from the residual of
        the decomposition and from how far its factors are from orthogonal, so it is an upper bound.

    Raises:
        ValueError: not a matrix, not float64, NaN or infinity.

    Source: Mirsky 1960 for $\sum_i (\sigma_i(X) - \sigma_i(Y))^2 \le \|X - Y\|_F^2$.
    """
    if isinstance(update, LowRank):
        return _of_factors(update, name)
    matrix = np.asarray(update)
    if matrix.ndim != 2:
        raise ValueError(f"update: got shape {matrix.shape}, needs a matrix (m, n); reshape it to (in, out)")
    linalg.require_judging_precision(name or "update", matrix)
    values, error = _decompose(matrix)
    return Spectrum(values, matrix.shape, name, error)


def _decompose(matrix: Matrix) -> tuple[np.ndarray, float]:
    """Singular values, and a bound on their joint error from residual and orthogonality."""
    scale = float(np.abs(matrix).max(initial=0.0))
    if scale == 0:
        return np.zeros(min(matrix.shape)), 0.0
    a = matrix / scale
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    rounding = linalg.gamma(2 * max(a.shape) + 4)
    residual = np.linalg.norm(a - (u * s) @ vt) + rounding * (np.linalg.norm(s) * np.sqrt(len(s)) + 1)
    left, right = (_defect(q) for q in (u, vt.T))
    return s * scale, float((residual + s[0] * (left * (1 + right) + right)) * scale)


def _defect(q: Matrix) -> float:
    """At most how far Q is from a matrix with orthonormal columns, in Frobenius norm."""
    return float(np.linalg.norm(q.T @ q - np.eye(q.shape[1]))) + linalg.gamma(2 * max(q.shape)) * q.shape[1]


def _of_factors(update: LowRank, name: str) -> Spectrum:
    A, B = np.asarray(update.A), np.asarray(update.B)
    (q_a, r_a), (q_b, r_b) = np.linalg.qr(A), np.linalg.qr(B.T)
    values, error = _decompose(update.scale * (r_a @ r_b.T))
    a, b = np.linalg.norm(r_a), np.linalg.norm(r_b)
    rounding = linalg.gamma(2 * max(*A.shape, *B.shape) + 8)
    lost = [
        np.linalg.norm(F - q @ r) + rounding * np.linalg.norm(r) * (1 + np.sqrt(q.shape[1]))
        for F, q, r in ((A, q_a, r_a), (B.T, q_b, r_b))
    ]
    left, right = _defect(q_a), _defect(q_b)
    error += abs(update.scale) * (
        lost[0] * (b * (1 + right) + lost[1])
        + a * (1 + left) * lost[1]
        + a * b * (left * (1 + right) + right + 2 * rounding)
    )
    return Spectrum(values[: min(update.shape)], update.shape, name, float(error))


def lora_factors(phi: Mapping[str, Any], scale: float = 1.0) -> dict[str, LowRank]:
    """The factors in LoRA's Φ by layer: every node of it that holds just an A (in, r) and a B (r, out).

    Args:
        phi: nested dictionary, as `peftproof.models.methods.LoRA` trains it, float64.
        scale: the factor of the method, `LoRA.scale_at(rank)`; it is not stored in Φ.

    Raises:
        ValueError: nothing of that form in it.
    """
    leaves = tree.paths(phi)
    nodes = [path.removesuffix("/A") for path in leaves if path.endswith("/A")]
    found = {
        node: LowRank(np.asarray(leaves[f"{node}/A"]), np.asarray(leaves[f"{node}/B"]), scale)
        for node in nodes
        if f"{node}/B" in leaves
    }
    if not found:
        raise ValueError(
            f"phi: got the leaves {', '.join(leaves)}, needs pairs named A and B as LoRA has them"
        )
    return found


def layers(update: Any, pattern: str | Sequence[str] = "*") -> dict[str, Any]:
    """The matrices of a pytree by path, with `LowRank` and `Spectrum` as leaves; what `spectra` decomposes.

    Raises:
        ValueError: as `spectra`.
    """
    known = (LowRank, Spectrum)
    leaves = named(update, known)
    matrices = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, known) or np.ndim(leaf) >= 2}
    if not matrices:
        raise ValueError(f"update: got {', '.join(leaves) or 'no leaves'}, needs at least one matrix")
    chosen = tree.match_names(matrices, pattern, "matrix")
    for name in chosen:
        leaf = matrices[name]
        if not isinstance(leaf, known) and np.ndim(leaf) > 2:
            raise ValueError(
                f"update: {name!r} has shape {np.shape(leaf)}, needs a matrix; reshape it to (in, out), or "
                "leave it out with pattern="
            )
    return {name: matrices[name] for name in chosen}


def named(params: Any, leaves: tuple[type, ...] = ()) -> dict[str, Any]:
    """The leaves of any pytree by path, joined with slashes; a single leaf has the name "update"."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=lambda node: isinstance(node, leaves))
    return {jax.tree_util.keystr(path, simple=True, separator="/") or "update": leaf for path, leaf in flat}


def spectra(update: Any, *, pattern: str | Sequence[str] = "*") -> dict[str, Spectrum]:
    """Singular values of an update of a whole network, per layer.

    Args:
        update: a pytree whose leaves are updates, kernels (in, out); factors may stand in it as `LowRank`,
            finished results as `Spectrum`.  A single matrix, `LowRank` or `Spectrum` gets the name "update".
            Leaves with fewer than two axes (biases, gains) have no rank and are left out.
        pattern: shell pattern on the paths (or several) that selects layers.

    Returns:
        Spectra by path, such as ``layers/0/kernel``, in the order of the tree.

    Raises:
        ValueError: no matrix in it, a pattern that matches nothing, a leaf with three axes or more, or one
            that is not float64 or not finite.
    """
    return {
        name: leaf if isinstance(leaf, Spectrum) else spectrum(leaf, name)
        for name, leaf in layers(update, pattern).items()
    }
