"""Methods whose updates have a given rank in every layer, however many parameters they have."""

import glob

import numpy as np

from ..network import Network
from .base import Method
from .full import Full
from .lora import LoRA
from .lora_frozen import LoRAFA
from .sparse import Mask
from .targets import Patterns, matrices


def capped(network: Network, lora: LoRA) -> LoRA:
    """LoRA with the rank of each layer lowered to its smaller side, where that is below the rank.

    Raises:
        ValueError: targets that match nothing or no matrix.
    """
    smaller = {path: min(leaf.shape) for path, leaf in matrices(network, lora.targets).items()}
    ranks = tuple((glob.escape(path), side) for path, side in smaller.items() if side < lora.rank)
    return LoRA(lora.rank, lora.scale, lora.targets, ranks or None)


def methods_of_rank(network: Network, rank: int, targets: Patterns = "*kernel") -> dict[str, Method]:
    """Methods whose updates have rank at most r in each layer, from the fewest to the most parameters.

    Rank is not a count: with kernels of n × n the first r entries of the diagonal are r parameters, LoRA with
    a frozen A has r n, LoRA 2 r n; at r = n the diagonal has n parameters and rank n, LoRA 2 n² and the
    kernels themselves n².

    Args:
        network: the network they are for.
        rank: r; a layer whose smaller side is below it has that instead.
        targets: which leaves, all of them matrices.

    Returns:
        "diagonal", "lora", "lora-fa" if no layer is smaller than r, and "full", the kernels themselves, if r
        limits no layer.

    Raises:
        ValueError: a rank below 1, or targets that match nothing or no matrix.
    """
    lora = capped(network, LoRA(rank, targets=targets))
    shapes = {path: leaf.shape for path, leaf in matrices(network, targets).items()}
    smaller = [min(shape) for shape in shapes.values()]
    # The flat index of entry (i, i) of a matrix with n columns is i (n + 1).
    at = {path: np.arange(min(rank, *shape)) * (shape[1] + 1) for path, shape in shapes.items()}
    found: dict[str, Method] = {"diagonal": Mask.of(at, name=f"diagonal-{rank}")}
    if rank <= min(smaller):
        found["lora-fa"] = LoRAFA(rank, targets=targets)
    if rank >= max(smaller):
        found["full"] = Full(tuple(map(glob.escape, shapes)), name="kernels")
    counts = {name: one.reparameterize(network).k for name, one in (found | {"lora": lora}).items()}
    return dict(sorted((found | {"lora": lora}).items(), key=lambda pair: counts[pair[0]]))
