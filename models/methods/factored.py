"""Methods that give each target matrix factors of its own: what differs between them is one formula."""

import abc
import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .. import tree
from ..network import Batch, Layer, Network, Outputs
from .base import Method, Phi, Reparameterization, intercepted, shapes
from .descent import nearest_by_descent
from .image import Changes, Image
from .targets import Patterns, check_rank, matrices, ranks_of

Parts = dict[str, Array]
"""The factors of one target, by name."""
FEW = 4
"""Up to so many targets are searched one by one."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of the image at one target.

    Attributes:
        dimension: generic dimension there.
        initial_rank: rank of the Jacobian at the usual initialisation.
        project: maps an update to the nearest point; None if only a search can.
        at_most: as `Image.at_most`.
    """

    dimension: int
    initial_rank: int
    project: Callable[[Float[np.ndarray, "i o"]], Float[np.ndarray, "i o"]] | None = None
    at_most: int | None = None

    @property
    def bound(self) -> int:
        """The dimension, or what is proved to be no smaller."""
        return self.dimension if self.at_most is None else self.at_most


class Factored(Method):
    """A method with factors of its own for each target; subclasses give the formula and its side branch."""

    targets: Patterns
    formula: ClassVar[str]
    linear: ClassVar[bool] = False

    def parts(self, network: Network) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shapes of the factors by target and name.

        Raises:
            ValueError: the targets or settings do not fit the network.
        """
        return {path: self.sizes(path, leaf.shape) for path, leaf in self.matrices(network).items()}

    def matrices(self, network: Network) -> dict[str, jax.ShapeDtypeStruct]:
        """The targets with their shapes (in, out).

        Raises:
            ValueError: as `targets.matrices`.
        """
        return matrices(network, self.targets)

    @abc.abstractmethod
    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Shapes of the factors of one target of shape (in, out)."""

    @abc.abstractmethod
    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """The usual initialisation of the factors of one target."""

    @abc.abstractmethod
    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """The update Δkernel of one target."""

    @abc.abstractmethod
    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The tuned layer as the method is usually applied, without the updated kernel."""

    @abc.abstractmethod
    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """What is known of the image at one target."""

    def reparameterize(self, network: Network) -> Reparameterization:
        """The map from the factors of all targets to the updates of their kernels.

        Φ is the tree of θ with each target replaced by a dictionary of its factors, without the rest.

        Raises:
            ValueError: a pattern matches nothing, a target is not a matrix, or a setting does not fit it.
        """
        base, leaves, parts = shapes(network.params), tree.paths(network.params), self.parts(network)
        template = {
            f"{path}/{name}": jax.ShapeDtypeStruct(shape, leaves[path].dtype)
            for path, sizes in parts.items()
            for name, shape in sizes.items()
        }

        def changes(phi: Phi) -> dict[str, Array]:
            flat = tree.paths(phi)
            return {
                path: self.update(path, leaves[path], {name: flat[f"{path}/{name}"] for name in sizes})
                for path, sizes in parts.items()
            }

        def draw(key: PRNGKeyArray) -> Phi:
            flat = {}
            for (path, sizes), one in zip(parts.items(), jax.random.split(key, len(parts)), strict=True):
                drawn = self.start(path, one, sizes, leaves[path].dtype)
                flat |= {f"{path}/{name}": drawn[name] for name in sizes}
            return tree.from_paths(flat)

        return Reparameterization(self, tree.from_paths(template), base, tuple(parts), changes, draw)

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with each target called through the method's own branch.

        Raises:
            ValueError: the network has no `Network.wrapped`, or Φ has the wrong structure.
        """
        tree.check_like(phi, self.reparameterize(network).template, "phi")
        flat, leaves, parts = tree.paths(phi), tree.paths(network.params), self.parts(network)
        targets = {path.removesuffix("/kernel"): path for path in parts}

        def wrap(name: str, layer: Layer, x: Array) -> Array:
            if name not in targets:
                return layer(x)
            path = targets[name]
            own = {part: flat[f"{path}/{part}"] for part in parts[path]}
            return self.branch(path, layer, leaves[path], own, x)

        return intercepted(self, network, wrap, targets)

    def image(self, network: Network) -> Image:
        """The targets are independent: dimensions add up, and each is projected for itself."""
        leaves = tree.paths(network.params)
        facts = {path: self.facts(path, np.asarray(leaves[path], np.float64)) for path in self.parts(network)}
        exact = all(one.project is not None for one in facts.values())

        def project(target: Mapping[str, np.ndarray]) -> Changes:
            known = {
                path: one.project(np.asarray(target[path])) for path, one in facts.items() if one.project
            }
            rest = {path: target[path] for path in facts if path not in known}
            return known | (self.searched(network, rest) if rest else {})

        return Image(
            dimension=sum(one.dimension for one in facts.values()),
            initial_rank=sum(one.initial_rank for one in facts.values()),
            linear=self.linear,
            formula=self.formula,
            project=project,
            exact=exact,
            at_most=sum(one.bound for one in facts.values()),
        )

    def searched(self, network: Network, target: Mapping[str, np.ndarray]) -> Changes:
        """A near point of the image on the leaves of `target`, for which there is no projection.

        Where they are few, each is searched for itself: fewer parameters allow more starts.
        """
        if 1 < len(target) <= FEW:
            alone = (self.searched(network, {path: leaf}) for path, leaf in target.items())
            return {path: leaf for near in alone for path, leaf in near.items()}
        only = self if len(target) > 1 else dataclasses.replace(self, targets=next(iter(target)))
        leaves, made = tree.paths(network.params), only.reparameterize(network)
        own = tree.paths(made.init(jax.random.key(0)))
        guessed = {
            f"{path}/{name}": part
            for path in target
            for name, part in self.guess(
                np.asarray(leaves[path], np.float64), np.asarray(target[path])
            ).items()
        }
        near = nearest_by_descent(made, target, [tree.from_paths(own | guessed)] if guessed else ())
        return {path: near[path] for path in target}

    def guess(
        self, kernel: Float[np.ndarray, "i o"], target: Float[np.ndarray, "i o"]
    ) -> dict[str, np.ndarray]:
        """Factors of one target from where the search may start, besides random ones; nothing if none."""
        return {}


@dataclasses.dataclass(frozen=True)
class Ranked(Factored):
    """A factored method with one rank for all targets.

    Attributes:
        rank: r.
        targets: a pattern on paths (or several); all leaves it matches must be matrices.

    Raises:
        ValueError: a rank below 1.
    """

    rank: int = 4
    targets: Patterns = "*kernel"
    stem: ClassVar[str]

    def __post_init__(self) -> None:
        check_rank(self.rank)

    @property
    def name(self) -> str:
        """``<stem>-r<rank>``, followed by the settings that are not the default ones."""
        return f"{self.stem}-r{self.rank}" + settings(self, "rank")

    def parts(self, network: Network) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shapes of the factors by target and name.

        Raises:
            ValueError: a pattern matches nothing, a target is not a matrix, or a rank exceeds min(in, out).
        """
        ranks_of(network, self.targets, self.rank)
        return super().parts(network)


def linear_part(
    layer: Layer, x: Float[Array, "... i"]
) -> tuple[Float[Array, "... o"], Float[Array, "... o"]]:
    """A layer x ↦ x @ kernel + bias without its bias, and the bias with as many axes as x."""
    bias = layer(jnp.zeros_like(x[(slice(0, 1),) * (x.ndim - 1)]))
    return layer(x) - bias, bias


def truncated(update: Float[np.ndarray, "i o"], rank: int) -> Float[np.ndarray, "i o"]:
    """The nearest matrix of that rank in Frobenius norm (Eckart and Young 1936)."""
    u, s, vt = np.linalg.svd(update, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def low_rank_dimension(shape: tuple[int, int], rank: int) -> int:
    """The dimension r (m + n − r) of the matrices of rank r."""
    return rank * (sum(shape) - rank)


def gaussian(what: tuple, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Normal numbers that depend on `what` alone, the same in every program and on every machine."""
    return np.random.default_rng(zlib.crc32(repr(what).encode())).normal(size=shape)


def settings(method: Method, *shown: str) -> str:
    """The settings that are not the default ones, as names have them: ``[seed=1;targets=*0*]``."""
    others = []
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if field.name not in shown and value != field.default:
            others.append(f"{field.name}={','.join(value) if isinstance(value, tuple) else value}")
    return f"[{';'.join(others)}]" if others else ""
