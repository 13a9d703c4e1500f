"""Entrywise products of low-rank matrices: HiRA with the kernel itself, LoHa with each other."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Layer
from .factored import Facts, Parts, Ranked, low_rank_dimension, truncated
from .lora import factors_of, split


@dataclasses.dataclass(frozen=True)
class HiRA(Ranked):
    r"""The update W₀ ⊙ (A B) of a kernel: entrywise as large as the kernel allows, and of any rank.

    Huang et al. (2025), *HiRA: parameter-efficient Hadamard high-rank adaptation*, ICLR.

    Attributes:
        rank: r of A (in, r) and B (r, out).
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a rank below 1.
    """

    stem: ClassVar[str] = "hira"
    formula: ClassVar[str] = "Σ r(m + n − r), where the kernel has no zeros"

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """A (in, r) and B (r, out)."""
        return factors_of(shape, self.rank)

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """A ~ N(0, 1), B = 0."""
        return {"A": jax.random.normal(key, sizes["A"], dtype), "B": jnp.zeros(sizes["B"], dtype)}

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = kernel ⊙ (A B)."""
        return kernel * (parts["A"] @ parts["B"])

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """One pass through the kernel per rank: layer(x) + Σ_s ((x ⊙ a_s) kernel) ⊙ b_s."""
        scaled = jnp.einsum("...i,is->...si", x, parts["A"])
        return layer(x) + jnp.einsum("...so,so->...o", scaled @ kernel, parts["B"])

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """Multiplying by a kernel without zeros is invertible: the dimensions are LoRA's.

        Zeros cut entries out; the rank that is left is then measured, at a generic and at the usual point. It
        is at most LoRA's, and at most the number of entries. The nearest point is a low-rank approximation
        with weights, for which no closed form is known.
        """
        rank, zeros = self.rank, kernel == 0
        if not zeros.any():
            dimension, initial = low_rank_dimension(kernel.shape, rank), rank * kernel.shape[1]
        else:
            rng = np.random.default_rng(0)
            A, B = rng.normal(size=(kernel.shape[0], rank)), rng.normal(size=(rank, kernel.shape[1]))
            dimension = masked_rank(A, B, ~zeros)
            initial = int(np.minimum(rank, (~zeros).sum(axis=0)).sum())
        project = (lambda D: np.where(zeros, 0.0, D)) if rank == min(kernel.shape) else None
        at_most = min(low_rank_dimension(kernel.shape, rank), int((~zeros).sum()))
        return Facts(dimension, initial, project, at_most)

    def guess(
        self, kernel: Float[np.ndarray, "i o"], target: Float[np.ndarray, "i o"]
    ) -> dict[str, np.ndarray]:
        """The best low-rank approximation of the quotient, which weighs all entries alike."""
        return split(np.divide(target, kernel, out=np.zeros_like(target), where=kernel != 0), self.rank)


def masked_rank(A: np.ndarray, B: np.ndarray, kept: np.ndarray) -> int:
    """The rank of (dA, dB) ↦ dA B + A dB seen on some entries only."""
    rows, columns = len(A), B.shape[1]
    jacobian = np.concatenate([np.kron(np.eye(rows), B.T), np.kron(A, np.eye(columns))], axis=1)
    return int(np.linalg.matrix_rank(jacobian[kept.ravel()]))


@dataclasses.dataclass(frozen=True)
class LoHa(Ranked):
    r"""The update (A₁ B₁) ⊙ (A₂ B₂) of a kernel, of rank up to r².

    Hyeon-Woo, Ye-Bin and Oh (2022), FedPara, arXiv 2108.06098; as an adapter Yeh et al. (2023), LyCORIS,
    arXiv 2309.14859.

    Attributes:
        rank: r of all four factors.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a rank below 1.
    """

    stem: ClassVar[str] = "loha"
    formula: ClassVar[str] = "Σ min(mn, 2r(m + n − r) − (m + n − 1))"

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """A1, A2 (in, r) and B1, B2 (r, out)."""
        A, B = (shape[0], self.rank), (self.rank, shape[1])
        return {"A1": A, "A2": A, "B1": B, "B2": B}

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """A₁, A₂ ~ N(0, 1/in), B₁ ~ N(0, 1), B₂ = 0."""
        keys = dict(zip(("A1", "A2", "B1"), jax.random.split(key, 3), strict=True))
        drawn = {name: jax.random.normal(one, sizes[name], dtype) for name, one in keys.items()}
        root = math.sqrt(sizes["A1"][0])
        return drawn | {
            "A1": drawn["A1"] / root,
            "A2": drawn["A2"] / root,
            "B2": jnp.zeros(sizes["B2"], dtype),
        }

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = (A₁ B₁) ⊙ (A₂ B₂)."""
        return (parts["A1"] @ parts["B1"]) * (parts["A2"] @ parts["B2"])

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """A branch of rank r², through the products of all pairs of columns and of rows."""
        A = jnp.einsum("is,it->ist", parts["A1"], parts["A2"]).reshape(parts["A1"].shape[0], -1)
        B = jnp.einsum("so,to->sto", parts["B1"], parts["B2"]).reshape(-1, parts["B1"].shape[1])
        return layer(x) + (x @ A) @ B

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """Two matrices of rank r, less the scalings u vᵀ that one can hand the other; generic, as computed.

        Rank-one scalings of rows and columns keep both ranks, which takes m + n − 1 away from twice
        r (m + n − r). At B₂ = 0 only dB₂ moves: r · out directions, as A₁ B₁ has no zeros. Entrywise products
        of matrices of rank 1 are the matrices of rank 1, and with a factor of full rank everything is
        reached: there the nearest point is known.
        """
        (m, n), r = kernel.shape, self.rank
        dimension = min(m * n, 2 * low_rank_dimension((m, n), r) - (m + n - 1))
        known = r == 1 or r == min(m, n)
        return Facts(dimension, r * n, (lambda D: truncated(D, r)) if known else None)
