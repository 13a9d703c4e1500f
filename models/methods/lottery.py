"""Lottery-ticket sparse fine-tuning: train everything, keep what changed most, rewind, train that alone."""

import dataclasses

from .. import tree
from ..network import Network
from ..tree import Params
from .factored import settings
from .sparse import Mask, changed, check_share, largest, per_cent
from .staged import Staged
from .targets import Patterns


@dataclasses.dataclass(frozen=True)
class LTSFT(Staged):
    """Train the share of entries that a first full training changed most, starting again from θ₀.

    Ansell et al. (2022), arXiv 2110.07560. The second stage has the map g of a `Mask`, whose image is one
    coordinate subspace. As the data chose it, what the method can reach is the union of all coordinate
    subspaces of that dimension; `sparse_distance` is the distance to the union.

    Attributes:
        share: of the entries of all targets together, in (0, 1]; K of them, ties broken by position.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a share out of range.
    """

    share: float = 0.05
    targets: Patterns = "*"

    def __post_init__(self) -> None:
        check_share(self.share)

    @property
    def name(self) -> str:
        """``lt-sft-<share in per cent>``, followed by the settings that are not the default ones."""
        return f"lt-sft-{per_cent(self.share)}" + settings(self, "share")

    def check(self, network: Network) -> None:
        """Raise what `tree.match` raises where a pattern matches nothing."""
        tree.match(network.params, self.targets)

    def resolve(self, network: Network, update: Params) -> Mask:
        """The mask of the largest |Δθ|.

        Raises:
            ValueError: an update with other leaves than θ, or one that is not finite.
        """
        moved = changed(network, update)
        score = {path: moved[path] for path in tree.match(network.params, self.targets)}
        return Mask.of(largest(score, self.share), self.name)
