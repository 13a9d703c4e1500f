"""The matrices of a network that a method works on, and the ranks it may have there."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax

from .. import tree
from ..network import Network
from .base import shapes

Patterns = str | tuple[str, ...]


def matrices(network: Network, targets: str | Sequence[str]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes (in, out) and dtypes of the leaves that a pattern (or several) selects, by path.

    Raises:
        ValueError: a pattern matches nothing, or a leaf that is not a matrix.
    """
    leaves = tree.paths(shapes(network.params))
    found = {path: leaves[path] for path in tree.match(network.params, targets)}
    for path, leaf in found.items():
        if leaf.ndim != 2:
            raise ValueError(
                f"targets: {path!r} has shape {leaf.shape}, needs two axes; narrow the pattern {targets!r} "
                "to matrices"
            )
    return found


def check_rank(rank: int, name: str = "rank") -> None:
    """Require a positive whole number.

    Raises:
        ValueError: anything else.
    """
    if isinstance(rank, bool) or int(rank) != rank or rank < 1:
        raise ValueError(
            f"rank: got {rank} for {name!r}, needs a positive integer; leave a layer out with targets"
        )


def ranks_of(
    network: Network, targets: str | Sequence[str], rank: int, ranks: Sequence[tuple[str, int]] = ()
) -> dict[str, int]:
    """The rank of each target: that of the first pattern in `ranks` that matches it, else `rank`.

    Raises:
        ValueError: as `matrices`, or a rank above min(in, out).
    """
    found = matrices(network, targets)
    for pattern, _ in ranks:
        tree.match_names(found, pattern, "target of LoRA")
    chosen = {}
    for path, leaf in found.items():
        one = next((r for pattern, r in ranks if fnmatchcase(path, pattern)), rank)
        if one > min(leaf.shape):
            raise ValueError(
                f"rank: got {one} for {path!r} of shape {leaf.shape}, needs at most {min(leaf.shape)}; lower "
                f"it, or set the rank of this layer with ranks={{{path!r}: ...}}"
            )
        chosen[path] = int(one)
    return chosen
