"""LoRA with a frozen first factor: half of the parameters, and a map g that is linear."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Layer
from .factored import Facts, Parts, Ranked, gaussian


@dataclasses.dataclass(frozen=True)
class LoRAFA(Ranked):
    r"""The update A B of a kernel (in, out): a random A (in, r) stays, and B (r, out) is trained.

    Zhang et al. (2023), LoRA-FA, arXiv 2308.03303.

    Attributes:
        rank: r.
        seed: of the frozen A ~ N(0, 1/in), which belongs to the settings and not to Φ.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a rank below 1.
    """

    seed: int = 0
    stem: ClassVar[str] = "lora-fa"
    formula: ClassVar[str] = "Σ r · out"
    linear: ClassVar[bool] = True

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """B (r, out)."""
        return {"B": (self.rank, shape[1])}

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """B = 0."""
        return {"B": jnp.zeros(sizes["B"], dtype)}

    def frozen(self, path: str, fan_in: int) -> Float[np.ndarray, "i r"]:
        """The frozen A of a target: the same for the same seed and path."""
        return gaussian((self.seed, path), (fan_in, self.rank)) / math.sqrt(fan_in)

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = A B."""
        return jnp.asarray(self.frozen(path, kernel.shape[0]), kernel.dtype) @ parts["B"]

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The layer with a side branch: layer(x) + (x A) B."""
        return layer(x) + (x @ jnp.asarray(self.frozen(path, kernel.shape[0]), x.dtype)) @ parts["B"]

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """A subspace: all updates whose columns lie in the span of A, of dimension r · out.

        A Gaussian A has rank r with probability one; the projector on its span is A A⁺.
        """
        span, _ = np.linalg.qr(self.frozen(path, kernel.shape[0]))
        dimension = self.rank * kernel.shape[1]
        return Facts(dimension, dimension, lambda D: span @ (span.T @ D))
