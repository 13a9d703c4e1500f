"""Kronecker products as updates: KronA with two free factors, LoKr with a second factor of low rank."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Layer
from .factored import Factored, Facts, Parts, low_rank_dimension, settings, truncated
from .targets import Patterns, check_rank

Sides = tuple[tuple[int, int], tuple[int, int]]


def sides(shape: tuple[int, int]) -> Sides:
    """Shapes (m₁, n₁) and (m₂, n₂) of two factors, m₁ and n₁ the largest divisors up to the square roots."""
    small = tuple(max(i for i in range(1, math.isqrt(size) + 1) if size % i == 0) for size in shape)
    return small, (shape[0] // small[0], shape[1] // small[1])


def rearranged(update: Float[np.ndarray, "i o"], first: tuple[int, int]) -> Float[np.ndarray, "p q"]:
    """The matrix in which A ⊗ B becomes vec(A) vec(B)ᵀ, A of shape `first` (Van Loan and Pitsianis 1993)."""
    (m1, n1), (i, o) = first, update.shape
    return update.reshape(m1, i // m1, n1, o // n1).transpose(0, 2, 1, 3).reshape(m1 * n1, -1)


def restored(matrix: Float[np.ndarray, "p q"], first: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """The inverse of `rearranged`."""
    (m1, n1), (i, o) = first, shape
    return matrix.reshape(m1, n1, i // m1, o // n1).transpose(0, 2, 1, 3).reshape(shape)


def kron_branch(x: Float[Array, "... i"], A: Float[Array, "m1 n1"], B: Float[Array, "m2 n2"]) -> Array:
    """The product x (A ⊗ B) without the Kronecker product, one factor after the other."""
    folded = x.reshape(*x.shape[:-1], A.shape[0], B.shape[0])
    half = jnp.einsum("...ij,jq->...iq", folded, B)
    return jnp.einsum("...iq,ip->...pq", half, A).reshape(*x.shape[:-1], -1)


@dataclasses.dataclass(frozen=True)
class KronA(Factored):
    r"""The update A ⊗ B of a kernel (in, out), A (m₁, n₁) and B (m₂, n₂) with m₁ m₂ = in and n₁ n₂ = out.

    The factors are as near to square roots as divisors allow. A starts Gaussian and B at zero. Edalati et al.
    (2022), arXiv 2212.10650.

    Attributes:
        targets: a pattern on paths (or several).
    """

    targets: Patterns = "*kernel"
    formula: ClassVar[str] = "Σ (p + q − 1), p and q entries of the factors"

    @property
    def name(self) -> str:
        """``krona``, followed by the targets if they are given."""
        return "krona" + settings(self)

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """A (m₁, n₁) and B (m₂, n₂)."""
        A, B = sides(shape)
        return {"A": A, "B": B}

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """A ~ N(0, 1/m₁), B = 0."""
        A = jax.random.normal(key, sizes["A"], dtype) / math.sqrt(sizes["A"][0])
        return {"A": A, "B": jnp.zeros(sizes["B"], dtype)}

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = A ⊗ B."""
        return jnp.kron(parts["A"], parts["B"])

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The layer with a side branch that folds x into a matrix."""
        return layer(x) + kron_branch(x, parts["A"], parts["B"])

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """Rearranged, these are the matrices vec(A) vec(B)ᵀ of rank one: p + q − 1 dimensions; q at B = 0."""
        A, B = sides(kernel.shape)
        p, q = math.prod(A), math.prod(B)

        def project(update: Float[np.ndarray, "i o"]) -> Float[np.ndarray, "i o"]:
            return restored(truncated(rearranged(update, A), 1), A, update.shape)

        return Facts(p + q - 1, q, project)


@dataclasses.dataclass(frozen=True)
class LoKr(Factored):
    r"""The update A ⊗ (C D) of a kernel, with C D of low rank.

    A is Gaussian, as C, and D zero at the start. Yeh et al. (2023), LyCORIS, arXiv 2309.14859.

    Attributes:
        rank: r of C (m₂, r) and D (r, n₂).
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a rank below 1.
    """

    rank: int = 2
    targets: Patterns = "*kernel"
    formula: ClassVar[str] = "Σ (p + r(m₂ + n₂ − r) − 1)"

    def __post_init__(self) -> None:
        check_rank(self.rank)

    @property
    def name(self) -> str:
        """``lokr-r<rank>``, followed by the targets if they are given."""
        return f"lokr-r{self.rank}" + settings(self, "rank")

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """A (m₁, n₁), C (m₂, r) and D (r, n₂).

        Raises:
            ValueError: a rank above min(m₂, n₂).
        """
        A, (m2, n2) = sides(shape)
        if self.rank > min(m2, n2):
            raise ValueError(
                f"rank: got {self.rank} for {path!r}, whose second factor is {m2} × {n2}; needs at most "
                f"{min(m2, n2)}; lower it, or leave the layer out with targets"
            )
        return {"A": A, "C": (m2, self.rank), "D": (self.rank, n2)}

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """A ~ N(0, 1/m₁), C ~ N(0, 1/m₂), D = 0."""
        one, two = jax.random.split(key)
        A = jax.random.normal(one, sizes["A"], dtype) / math.sqrt(sizes["A"][0])
        C = jax.random.normal(two, sizes["C"], dtype) / math.sqrt(sizes["C"][0])
        return {"A": A, "C": C, "D": jnp.zeros(sizes["D"], dtype)}

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = A ⊗ (C D)."""
        return jnp.kron(parts["A"], parts["C"] @ parts["D"])

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The layer with a side branch that folds x into a matrix and passes it through C and then D."""
        A, C, D = (parts[name] for name in ("A", "C", "D"))
        inner = jnp.einsum("...ij,jr->...ir", x.reshape(*x.shape[:-1], A.shape[0], C.shape[0]), C)
        half = jnp.einsum("...ir,ip->...pr", inner, A)
        return layer(x) + jnp.einsum("...pr,rq->...pq", half, D).reshape(*x.shape[:-1], -1)

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """The factor A, the matrices of rank r, and one scaling between them; r · n₂ directions at D = 0.

        With a second factor of full rank this is KronA, with a number for a first one LoRA: there the nearest
        point is known.
        """
        A, (m2, n2) = sides(kernel.shape)
        r, project = self.rank, None
        if r == min(m2, n2):
            project = KronA(self.targets).facts(path, kernel).project
        elif math.prod(A) == 1:
            project = lambda D: truncated(D, r)  # noqa: E731  (as short as its siblings)
        return Facts(math.prod(A) + low_rank_dimension((m2, n2), r) - 1, r * n2, project)

    def guess(
        self, kernel: Float[np.ndarray, "i o"], target: Float[np.ndarray, "i o"]
    ) -> dict[str, np.ndarray]:
        """The nearest A ⊗ B, with B cut to rank r."""
        A, B = sides(kernel.shape)
        u, s, vt = np.linalg.svd(rearranged(target, A), full_matrices=False)
        left, values, right = np.linalg.svd(s[0] * vt[0].reshape(B), full_matrices=False)
        C, D = left[:, : self.rank] * values[: self.rank], right[: self.rank]
        return {"A": u[:, 0].reshape(A), "C": C, "D": D}
