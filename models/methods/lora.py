"""Low-rank adaptation: each linear kernel gets an update that is a product of two thin matrices."""

import dataclasses
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Layer, Network
from .factored import Factored, Facts, Parts, low_rank_dimension, truncated
from .targets import check_rank, ranks_of


@dataclasses.dataclass(frozen=True)
class LoRA(Factored):
    r"""Low-rank adaptation: the update of a kernel (in, out) is scale · A B with A (in, r) and B (r, out).

    The usual initialisation draws A from N(0, 1/in) and sets B to zero. Where the kernel is applied as
    y = x @ kernel, the update is a side branch y + scale · (x @ A) @ B. In the (out, in) convention of the
    literature (Hu et al. 2021, arXiv 2106.09685) its transpose reads ΔW = scale · Bᵀ Aᵀ.

    Attributes:
        rank: r, of each target that `ranks` does not name.
        scale: the factor, which the literature writes α / r.
        targets: a pattern on paths (or several); all leaves it matches must be matrices.
        ranks: other ranks, by pattern; the first pattern that matches a target decides.

    Raises:
        ValueError: a rank below 1 or a scale that is zero or not finite.
    """

    rank: int = 4
    scale: float = 1.0
    targets: str | tuple[str, ...] = "*kernel"
    ranks: Mapping[str, int] | tuple[tuple[str, int], ...] | None = None
    stem: ClassVar[str] = "lora"
    formula: ClassVar[str] = "Σ r(m + n − r)"

    def __post_init__(self) -> None:
        ranks = self.ranks.items() if isinstance(self.ranks, Mapping) else self.ranks or ()
        # Tuples, so that a method can be hashed and serve as a key.
        object.__setattr__(self, "ranks", tuple((pattern, rank) for pattern, rank in ranks))
        if not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(self.targets))
        for pattern, rank in (("rank", self.rank), *self.ranks):
            check_rank(rank, pattern)
        if self.scale == 0 or not math.isfinite(self.scale):
            raise ValueError(f"scale: got {self.scale}, needs a finite number other than 0")

    @property
    def name(self) -> str:
        """``<stem>-r<rank>``, followed by the settings that are not the default ones."""
        targets = self.targets if isinstance(self.targets, str) else ",".join(self.targets)
        others = [f"scale={self.scale:g}"] if self.scale != 1 else []
        others += [f"targets={targets}"] if targets != "*kernel" else []
        others += [f"{pattern}={rank}" for pattern, rank in self.ranks]
        return f"{self.stem}-r{self.rank}" + (f"[{';'.join(others)}]" if others else "")

    def scale_at(self, rank: int) -> float:
        """The factor of a target of that rank."""
        return self.scale

    def parts(self, network: Network) -> dict[str, dict[str, tuple[int, ...]]]:
        """A (in, r) and B (r, out) of each target.

        Raises:
            ValueError: a pattern matches nothing, a target is not a matrix, or a rank exceeds min(in, out).
        """
        shapes = self.matrices(network)
        ranks = ranks_of(network, self.targets, self.rank, self.ranks)
        return {path: factors_of(leaf.shape, ranks[path]) for path, leaf in shapes.items()}

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """A (in, r) and B (r, out), for the rank of targets that `ranks` does not name."""
        return factors_of(shape, self.rank)

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """A ~ N(0, 1/in), B = 0."""
        A, B = sizes["A"], sizes["B"]
        return {"A": jax.random.normal(key, A, dtype) / math.sqrt(A[0]), "B": jnp.zeros(B, dtype)}

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = scale · A B."""
        return self.scale_at(parts["A"].shape[1]) * (parts["A"] @ parts["B"])

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The layer with a side branch: layer(x) + scale · (x A) B."""
        return layer(x) + self.scale_at(parts["A"].shape[1]) * ((x @ parts["A"]) @ parts["B"])

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        r"""The matrices of rank at most r: a closed set of dimension r (m + n − r), A ↦ A T, B ↦ T⁻¹ B aside.

        At B = 0 only dB moves the product, A dB: r · out directions.
        """
        rank = next((r for pattern, r in self.ranks if fnmatchcase(path, pattern)), self.rank)
        return Facts(
            low_rank_dimension(kernel.shape, rank), rank * kernel.shape[1], lambda D: truncated(D, rank)
        )


def factors_of(shape: tuple[int, int], rank: int) -> dict[str, tuple[int, ...]]:
    """Shapes of A (in, r) and B (r, out)."""
    return {"A": (shape[0], rank), "B": (rank, shape[1])}


def split(update: Float[np.ndarray, "i o"], rank: int) -> dict[str, np.ndarray]:
    """Factors A and B of the nearest matrix of that rank, of the same size."""
    u, s, vt = np.linalg.svd(update, full_matrices=False)
    root = np.sqrt(s[:rank])
    return {"A": u[:, :rank] * root, "B": root[:, None] * vt[:rank]}


@dataclasses.dataclass(frozen=True)
class RsLoRA(LoRA):
    r"""LoRA with the factor α / √r, which keeps updates of one size when the rank changes: `scale` is α.

    Kalajdzievski (2023), arXiv 2312.03732.
    """

    stem: ClassVar[str] = "rslora"

    def scale_at(self, rank: int) -> float:
        """The factor α / √r."""
        return self.scale / math.sqrt(rank)
