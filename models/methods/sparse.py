"""Sparse masks: only some entries of θ are trained, the others stay."""

import abc
import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import tree
from ..network import Batch, Network, Outputs
from ..tree import Params
from .base import Method, Phi, Reparameterization, shapes
from .factored import gaussian, settings
from .frozen import Frozen
from .image import Changes, Image
from .targets import Patterns


class Sparse(Method):
    """A method that trains some entries of some leaves; subclasses say which."""

    @abc.abstractmethod
    def entries(self, network: Network) -> dict[str, np.ndarray]:
        """Flat indices of the trained entries of each leaf that has any, by path, ascending.

        Raises:
            ValueError: the settings do not fit the network.
        """

    def reparameterize(self, network: Network) -> Reparameterization:
        """The inclusion of the trained entries; Φ is ``{"entries": (k,)}``, leaf after leaf.

        One vector: masks of k entries then have Φ of one shape, and runs whose masks differ can be stacked.

        Raises:
            ValueError: the settings do not fit the network.
        """
        base, chosen = shapes(network.params), self.entries(network)
        leaves, ends = tree.paths(base), np.cumsum([at.size for at in chosen.values()])
        template = {"entries": jax.ShapeDtypeStruct((int(ends[-1]),), network.dtype)}

        def changes(phi: Phi) -> dict[str, Array]:
            parts = jnp.split(phi["entries"], ends[:-1])
            return {
                path: jnp.zeros(leaves[path].size, leaves[path].dtype)
                .at[chosen[path]]
                .set(values)
                .reshape(leaves[path].shape)
                for path, values in zip(chosen, parts, strict=True)
            }

        def draw(_: Array) -> Phi:
            return {"entries": jnp.zeros(template["entries"].shape, network.dtype)}

        return Reparameterization(self, template, base, tuple(chosen), changes, draw)

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with the trained entries put in place, leaf by leaf."""
        tree.check_like(phi, self.reparameterize(network).template, "phi")
        leaves, used = dict(tree.paths(network.params)), 0
        for path, at in self.entries(network).items():
            rows = np.unravel_index(at, leaves[path].shape)
            leaves[path] = leaves[path].at[rows].add(phi["entries"][used : used + at.size])
            used += at.size
        params = tree.from_paths(leaves)
        return lambda x: network.apply(params, x)

    def image(self, network: Network) -> Image:
        """A coordinate subspace; projecting leaves out the other entries."""
        chosen = self.entries(network)

        def project(target: Mapping[str, np.ndarray]) -> Changes:
            made = {}
            for path, at in chosen.items():
                flat = np.zeros(target[path].size)
                flat[at] = np.asarray(target[path]).ravel()[at]
                made[path] = flat.reshape(target[path].shape)
            return made

        size = sum(len(at) for at in chosen.values())
        return Image(size, size, True, "number of trained entries", project)


@dataclasses.dataclass(frozen=True)
class Mask(Sparse):
    """Train the entries that are given.

    Attributes:
        at: pairs of a path and the flat indices of its trained entries, as `Frozen` arrays.
        name: how reports call it.

    Raises:
        ValueError: no entry at all, or indices that repeat.
    """

    at: tuple[tuple[str, Frozen], ...]
    name: str = "mask"

    def __post_init__(self) -> None:
        if not sum(indices.array.size for _, indices in self.at):
            raise ValueError("at: got no entry to train, needs at least one; choose a larger share")
        for path, indices in self.at:
            if len(np.unique(indices.array)) < indices.array.size:
                raise ValueError(f"at: indices of {path!r} repeat, needs each entry once")

    @classmethod
    def of(cls, chosen: Mapping[str, np.ndarray], name: str = "mask") -> "Mask":
        """The mask of flat indices by path; leaves without any are left out."""
        return cls(tuple((p, Frozen(np.sort(at))) for p, at in chosen.items() if np.size(at)), name)

    def entries(self, network: Network) -> dict[str, np.ndarray]:
        """The given entries.

        Raises:
            ValueError: a path that the network does not have, or an index beyond its leaf.
        """
        leaves = tree.paths(network.params)
        for path, indices in self.at:
            if path not in leaves:
                raise ValueError(
                    f"at: {network.name!r} has no leaf {path!r}; make the mask for one of {', '.join(leaves)}"
                )
            if indices.array.min() < 0 or indices.array.max() >= leaves[path].size:
                raise ValueError(
                    f"at: {path!r} has {leaves[path].size} entries, got indices from {indices.array.min()} "
                    f"to {indices.array.max()}; make the mask for this network"
                )
        given = dict(self.at)
        return {path: given[path].array for path in leaves if path in given}


@dataclasses.dataclass(frozen=True)
class RandomMask(Sparse):
    """Train a random share of the entries, drawn once and kept.

    Attributes:
        share: of the entries of all targets together, in (0, 1].
        seed: of the draw.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a share out of range.
    """

    share: float = 0.05
    seed: int = 0
    targets: Patterns = "*"

    def __post_init__(self) -> None:
        check_share(self.share)

    @property
    def name(self) -> str:
        """``mask-<share in per cent>``, followed by the settings that are not the default ones."""
        return f"mask-{per_cent(self.share)}" + settings(self, "share")

    def entries(self, network: Network) -> dict[str, np.ndarray]:
        """The drawn entries."""
        leaves = tree.paths(network.params)
        targets = {path: leaves[path] for path in tree.match(network.params, self.targets)}
        score = {path: gaussian((self.seed, path), leaf.shape) for path, leaf in targets.items()}
        return largest(score, self.share)


def changed(network: Network, update: Params) -> dict[str, np.ndarray]:
    """How far each entry moved, |Δθ|, by path.

    Raises:
        ValueError: an update with other leaves than θ, or with entries that are not finite.
    """
    tree.check_like(update, network.params, "update")
    moved = {path: np.abs(np.asarray(leaf, np.float64)) for path, leaf in tree.paths(update).items()}
    for path, leaf in moved.items():
        if not np.isfinite(leaf).all():
            raise ValueError(
                f"update: {path!r} has NaN or infinite entries, needs finite ones; train it again"
            )
    return moved


def largest(score: Mapping[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """Flat indices of the largest scores over all leaves: a share of them, at least one, ties by position."""
    flat = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in score.values()])
    count = max(1, round(share * flat.size))
    kept = np.sort(np.argsort(-flat, kind="stable")[:count])
    chosen, begin = {}, 0
    for path, leaf in score.items():
        at = kept[(kept >= begin) & (kept < begin + leaf.size)] - begin
        if len(at):
            chosen[path] = at
        begin += leaf.size
    return chosen


def sparse_distance(update: Params, count: int) -> float:
    r"""The distance of an update from those with at most `count` entries, whatever chose the mask.

    $$\mathrm{dist}^2 = \sum_{i > s} |\Delta|_{(i)}^2,$$ the sum of the d − s smallest squares.

    Args:
        update: Δθ, a tree of arrays.
        count: s.

    Raises:
        ValueError: a negative count.
    """
    if count < 0:
        raise ValueError(f"count: got {count}, needs a number of entries from 0 on")
    flat = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(update)])
    return float(np.linalg.norm(np.sort(np.abs(flat))[: max(0, flat.size - count)]))


def check_share(share: float) -> None:
    """Require a share in (0, 1].

    Raises:
        ValueError: anything else.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: got {share}, needs a number above 0 and at most 1, such as 0.05")


def per_cent(share: float) -> str:
    """A share as names have it: ``5%``."""
    return f"{100 * share:g}%"
