"""VeRA: random factors that all layers share and that stay, and trained vectors that scale them."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Layer
from .factored import Facts, Parts, Ranked, gaussian


@dataclasses.dataclass(frozen=True)
class VeRA(Ranked):
    r"""The update A diag(d) B diag(b) of a kernel, A (in, r), B (r, out) frozen, d (r,), b (out,) trained.

    All targets share one A and one B, cut to size. Kopiczko, Blankevoort and Asano (2024), arXiv 2310.11454.

    Attributes:
        rank: r.
        seed: of the frozen factors.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a rank below 1.
    """

    seed: int = 0
    stem: ClassVar[str] = "vera"
    formula: ClassVar[str] = "Σ (out + r − 1)"

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The vectors b (out,) and d (r,)."""
        return {"b": (shape[1],), "d": (self.rank,)}

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """Constants d = 0.1 and b = 0, as in the paper."""
        return {"b": jnp.zeros(sizes["b"], dtype), "d": jnp.full(sizes["d"], 0.1, dtype)}

    def frozen(self, shape: tuple[int, int]) -> tuple[Float[np.ndarray, "i r"], Float[np.ndarray, "r o"]]:
        """A and B cut to size: the first rows of one, the first columns of the other."""
        A = gaussian((self.seed, "A"), (shape[0], self.rank)) / math.sqrt(self.rank)
        return A, gaussian((self.seed, "B"), (shape[1], self.rank)).T

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = A diag(d) B diag(b)."""
        A, B = (jnp.asarray(factor, kernel.dtype) for factor in self.frozen(kernel.shape))
        return (A * parts["d"][None, :]) @ (B * parts["b"][None, :])

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The layer with a side branch: layer(x) + (((x A) d) B) b."""
        A, B = (jnp.asarray(factor, x.dtype) for factor in self.frozen(kernel.shape))
        row = (1,) * (x.ndim - 1) + (-1,)
        return layer(x) + (((x @ A) * parts["d"].reshape(row)) @ B) * parts["b"].reshape(row)

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """All of out + r parameters but one: d and b may be scaled against each other.

        Since A is injective (r ≤ in), an update shows the products b_j d_s B_{sj}, and B has no zeros, so
        that it shows b dᵀ. At b = 0 only db moves, one direction per output. For r = 1 the updates are all
        a bᵀ with the one frozen column a: a subspace, with its projector.
        """
        a = self.frozen(kernel.shape)[0]
        project = (lambda D: a @ (a.T @ D) / (a**2).sum()) if self.rank == 1 else None
        return Facts(kernel.shape[1] + self.rank - 1, kernel.shape[1], project)
