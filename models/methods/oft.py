"""Orthogonal fine-tuning: blocks of the inputs of each kernel are rotated."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Layer
from .factored import Factored, Facts, Parts, settings
from .targets import Patterns


@dataclasses.dataclass(frozen=True)
class OFT(Factored):
    r"""The kernel R W₀ with a block-diagonal rotation R = (I + S)(I − S)⁻¹ of its inputs, S skew-symmetric.

    Angles between the weights of different neurons within a block stay what they are. Qiu et al. (2023),
    arXiv 2306.07280.

    Attributes:
        block: side b of the blocks; it divides the number of inputs of each target.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a block below 2.
    """

    block: int = 4
    targets: Patterns = "*kernel"
    formula: ClassVar[str] = "Σ over blocks b(b − 1)/2 − (b − ρ)(b − ρ − 1)/2, ρ the rank of the block"

    def __post_init__(self) -> None:
        if isinstance(self.block, bool) or int(self.block) != self.block or self.block < 2:
            raise ValueError(
                f"block: got {self.block}, needs a whole number from 2 on: one input cannot turn"
            )

    @property
    def name(self) -> str:
        """``oft-b<block>``, followed by the settings that are not the default ones."""
        return f"oft-b{self.block}" + settings(self, "block")

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """S: the entries above the diagonal of each block.

        Raises:
            ValueError: the block does not divide the number of inputs.
        """
        if shape[0] % self.block:
            raise ValueError(
                f"block: got {self.block} for {path!r} with {shape[0]} inputs, needs a divisor of them; "
                f"choose "
                "another one, or leave the layer out with targets"
            )
        return {"S": (shape[0] // self.block, self.block * (self.block - 1) // 2)}

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """S = 0, that is R = I."""
        return {"S": jnp.zeros(sizes["S"], dtype)}

    def skew(self, entries: Float[Array, "blocks e"]) -> Float[Array, "blocks b b"]:
        """The skew-symmetric blocks with these entries above the diagonal."""
        above = np.triu_indices(self.block, 1)
        upper = jnp.zeros((len(entries), self.block, self.block), entries.dtype)
        upper = upper.at[:, above[0], above[1]].set(entries)
        return upper - upper.transpose(0, 2, 1)

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = (R − I) W₀, block by block."""
        S, eye = self.skew(parts["S"]), jnp.eye(self.block, dtype=kernel.dtype)[None]
        rotation = (eye + S) @ jnp.linalg.inv(eye - S)
        blocks = kernel.reshape(-1, self.block, kernel.shape[1])
        return ((rotation - eye) @ blocks).reshape(kernel.shape)

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The layer on rotated inputs x R, by solving (I − S)ᵀ y = (I + S)ᵀ x for each block."""
        S, eye = self.skew(parts["S"]), jnp.eye(self.block, dtype=x.dtype)[None]
        blocks = jnp.moveaxis(x.reshape(*x.shape[:-1], -1, self.block), -2, 0)  # (blocks, ..., b)
        right = jnp.einsum("nab,n...a->nb...", eye + S, blocks)
        solved = jax.vmap(jnp.linalg.solve)((eye - S).transpose(0, 2, 1), right.reshape(*right.shape[:2], -1))
        turned = jnp.moveaxis(solved.reshape(right.shape), 1, -1)
        return layer(jnp.moveaxis(turned, 0, -2).reshape(x.shape))

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """Rotations of b inputs, less those that fix what the block of the kernel spans.

        A block of rank ρ is fixed by the rotations of the other b − ρ dimensions. The image is the same at
        every Φ up to a rotation, so that the rank is the same everywhere. The nearest point is orthogonal
        Procrustes with determinant one (Schönemann 1966; Kabsch 1976), of the closure, since the Cayley
        transform leaves out the half turns. ρ is a numerical rank; rows and columns that are not zero bound
        it from above whatever the rounding.
        """
        b, blocks = self.block, kernel.reshape(-1, self.block, kernel.shape[1])

        def orbit(ranks: list[int]) -> int:
            return sum(b * (b - 1) // 2 - (b - rank) * (b - rank - 1) // 2 for rank in ranks)

        dimension = orbit([int(np.linalg.matrix_rank(one)) for one in blocks])
        at_most = orbit([min(int((one != 0).any(axis=axis).sum()) for axis in (0, 1)) for one in blocks])

        def project(update: Float[np.ndarray, "i o"]) -> Float[np.ndarray, "i o"]:
            u, _, vt = np.linalg.svd((blocks + update.reshape(blocks.shape)) @ blocks.transpose(0, 2, 1))
            signs = np.ones((len(blocks), b))
            signs[:, -1] = np.linalg.det(u @ vt)
            rotation = (u * signs[:, None, :]) @ vt
            return (rotation @ blocks - blocks).reshape(kernel.shape)

        return Facts(dimension, dimension, project, at_most)
