"""PERU-LoRA: no training of its own, but the truncated singular value decomposition of a full update."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from .. import tree
from ..network import Network
from ..tree import Params
from .factored import Facts, Parts, settings
from .frozen import Frozen
from .lora import LoRA, split
from .staged import Staged
from .targets import Patterns, check_rank, ranks_of


@dataclasses.dataclass(frozen=True)
class PERU(Staged):
    r"""Fine-tune everything, then keep the best rank-r approximation of the update of each target.

    The other leaves, biases among them, go back to θ₀. Jiang et al. (2023), *Effective and
    parameter-efficient
    reusing fine-tuned models*, arXiv 2310.01886.

    Attributes:
        rank: r.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a rank below 1.
    """

    rank: int = 4
    targets: Patterns = "*kernel"
    retrains: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_rank(self.rank)

    @property
    def name(self) -> str:
        """``peru-r<rank>``, followed by the settings that are not the default ones."""
        return f"peru-r{self.rank}" + settings(self, "rank")

    def check(self, network: Network) -> None:
        """Raise what `ranks_of` raises where a rank or pattern does not fit."""
        ranks_of(network, self.targets, self.rank)

    def resolve(self, network: Network, update: Params) -> "FromUpdate":
        """LoRA that starts at the truncated decomposition of the update.

        Raises:
            ValueError: an update with other leaves than θ, or a rank that does not fit.
        """
        tree.check_like(update, network.params, "update")
        leaves = tree.paths(update)
        factors = []
        for path, rank in ranks_of(network, self.targets, self.rank).items():
            found = split(np.asarray(leaves[path], np.float64), rank)
            factors.append((path, Frozen(found["A"]), Frozen(found["B"])))
        return FromUpdate(rank=self.rank, targets=self.targets, factors=tuple(factors))


@dataclasses.dataclass(frozen=True)
class FromUpdate(LoRA):
    """LoRA whose Φ starts at given factors, so that g(Φ) is not zero at the start."""

    factors: tuple[tuple[str, Frozen, Frozen], ...] = ()
    stem: ClassVar[str] = "peru"

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """The given factors, whatever the key."""
        A, B = next((A, B) for name, A, B in self.factors if name == path)
        return {"A": jnp.asarray(A.array, dtype), "B": jnp.asarray(B.array, dtype)}

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """LoRA's image; the start is no exceptional point, unless the update has a lower rank there."""
        found = super().facts(path, kernel)
        A, B = next(
            (np.linalg.matrix_rank(one.array) for one in pair) for name, *pair in self.factors if name == path
        )
        return dataclasses.replace(found, initial_rank=int(kernel.shape[1] * A + kernel.shape[0] * B - A * B))
