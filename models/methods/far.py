"""Freeze and reconfigure: train the feed-forward nodes that a first training changed most."""

import dataclasses

import numpy as np

from ..mlp import MLPConfig
from ..network import Network
from ..transformer import TransformerConfig
from ..tree import Params
from .factored import settings
from .sparse import Mask, changed, check_share, per_cent
from .staged import Staged


@dataclasses.dataclass(frozen=True)
class FAR(Staged):
    """Train the hidden nodes whose weights changed most: incoming weights, bias, outgoing weights.

    A node's score is the L1 norm of the change of its weights in the first stage; each hidden layer keeps the
    same share of its nodes. In a transformer the nodes are those between ``mlp/up`` and ``mlp/down`` of each
    block, in a perceptron those of the hidden layers; all other parameters are frozen. Vucetic et al. (2022),
    arXiv 2205.01541; there a node is an output of one linear layer, without the weights that lead away from
    it, and the first stage (priming) is a small part of the training instead of a whole one.

    Attributes:
        share: of the nodes of each hidden layer, in (0, 1]; at least one.

    Raises:
        ValueError: a share out of range.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        check_share(self.share)

    @property
    def name(self) -> str:
        """``far-<share in per cent>``."""
        return f"far-{per_cent(self.share)}" + settings(self, "share")

    def check(self, network: Network) -> None:
        """Raise what `hidden_layers` raises where there are no feed-forward nodes."""
        hidden_layers(network)

    def resolve(self, network: Network, update: Params) -> Mask:
        """The mask of the nodes with the largest changes.

        Raises:
            ValueError: an update with other leaves than θ or one that is not finite, or a network without
                hidden nodes.
        """
        leaves = changed(network, update)
        chosen: dict[str, list[np.ndarray]] = {}
        for before, after in hidden_layers(network):
            score = leaves[f"{before}/kernel"].sum(axis=0) + leaves[f"{after}/kernel"].sum(axis=1)
            if f"{before}/bias" in leaves:
                score = score + leaves[f"{before}/bias"]
            count = max(1, round(self.share * len(score)))
            nodes = np.argsort(-score, kind="stable")[:count]
            grids = {path: np.arange(leaf.size).reshape(leaf.shape) for path, leaf in leaves.items()}
            picked = {f"{before}/kernel": grids[f"{before}/kernel"][:, nodes]}
            picked |= {f"{after}/kernel": grids[f"{after}/kernel"][nodes, :]}
            if f"{before}/bias" in leaves:
                picked[f"{before}/bias"] = nodes
            for path, at in picked.items():
                chosen.setdefault(path, []).append(at.ravel())
        return Mask.of({path: np.unique(np.concatenate(at)) for path, at in chosen.items()}, self.name)


def hidden_layers(network: Network) -> list[tuple[str, str]]:
    """Pairs of the linear layers before and after the nodes of each hidden layer.

    Raises:
        ValueError: a perceptron without hidden layers, or a network that is none of ours.
    """
    match network.architecture:
        case MLPConfig(layers=count) if count > 1:
            return [(f"layers/{i}", f"layers/{i + 1}") for i in range(count - 1)]
        case MLPConfig():
            raise ValueError(
                f"network: {network.name!r} has one layer and so no hidden nodes for FAR to choose "
                "among; use LTSFT, which chooses entries, or Full"
            )
        case TransformerConfig(depth=depth):
            return [(f"blocks/{i}/mlp/up", f"blocks/{i}/mlp/down") for i in range(depth)]
        case _:
            raise ValueError(
                f"network: which nodes of {network.name!r} are feed-forward ones is not known; train the "
                "entries of your choice with Mask.of"
            )
