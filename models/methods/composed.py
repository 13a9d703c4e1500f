"""Compositions: several methods at once, each on leaves of its own, and S4's preset of them."""

import abc
import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import tree
from ..network import Batch, Network, Outputs, Wrap
from ..transformer import TransformerConfig
from ..tree import Params
from .adapter import SerialAdapter
from .base import Method, Phi, Reparameterization, Schedule, shapes
from .extension import Hooked, bottom
from .full import Full
from .image import Changes, Image
from .lora import LoRA
from .prefix import Prefix


class Composition(Method):
    """Methods that work side by side; subclasses say which, given a network."""

    @abc.abstractmethod
    def members(self, network: Network) -> tuple[Method, ...]:
        """The methods, for a network below all extensions.

        Raises:
            ValueError: the composition is not defined for the network.
        """

    def enlarge(self, network: Network) -> Network:
        """The network with the additions of all members that are extensions, one after the other.

        Raises:
            ValueError: what a member raises.
        """
        for member in self.members(bottom(network)):
            network = member.enlarge(network)
        return network

    def trainable(self, enlarged: Network) -> Reparameterization:
        """The sum of what the members change; Φ is ``{"0": Φ₀, "1": Φ₁, ...}``.

        Raises:
            ValueError: two members change one leaf, or what a member raises.
        """
        below = bottom(enlarged)
        made = [
            member.trainable(enlarged if not member.weight_space else below) for member in self.members(below)
        ]
        owner: dict[str, int] = {}
        for index, one in enumerate(made):
            for path in one.touched():
                if path in owner:
                    names = made[owner[path]].method.name, one.method.name
                    raise ValueError(
                        f"methods: {names[0]} and {names[1]} both change {path!r}; give each leaf to one of "
                        "them, with targets or a pattern"
                    )
                owner[path] = index
        base = shapes(enlarged.params)

        def changes(phi: Phi) -> dict[str, Array]:
            return {
                path: change
                for index, one in enumerate(made)
                for path, change in one.changes(phi[str(index)]).items()
            }

        def draw(key: PRNGKeyArray) -> Phi:
            keys = jax.random.split(key, len(made))
            return {str(i): one.init(k) for i, (one, k) in enumerate(zip(made, keys, strict=True))}

        template = {str(index): one.template for index, one in enumerate(made)}
        touched = tuple(path for path in tree.paths(base) if path in owner)
        return Reparameterization(self, template, base, touched, changes, draw)

    def reparameterize(self, network: Network) -> Reparameterization:
        """The sum of the members' maps g.

        Raises:
            ValueError: a member has no map g, two change one leaf, or what a member raises.
        """
        for member in self.members(network):
            if not member.weight_space:
                member.reparameterize(network)  # says why there is none
        return self.trainable(network)

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """All members the ordinary way, one inside the other.

        Extensions work on what the tuned layers return, so the members with a map g are nearest to the
        layers; among these the order does not matter, because they change different leaves.

        Raises:
            ValueError: Φ has the wrong structure, or what a member raises.
        """
        tree.check_like(phi, self.trainable(self.enlarge(network)).template, "phi")
        members = enumerate(self.members(network))
        for index, member in sorted(members, key=lambda one: one[1].weight_space):
            network = tuned(member, network, phi[str(index)])
        return network

    def image(self, network: Network) -> Image:
        """The product of the members' images: dimensions add up, and each projects its own leaves.

        Raises:
            ValueError: a member has no map g, or no closed form.
        """
        made = [(member.reparameterize(network), member.image(network)) for member in self.members(network)]

        def project(target: Mapping[str, np.ndarray]) -> Changes:
            return {
                path: near
                for one, image in made
                for path, near in image.project({p: target[p] for p in one.touched()}).items()
            }

        images = [image for _, image in made]
        return Image(
            dimension=sum(image.dimension for image in images),
            initial_rank=sum(image.initial_rank for image in images),
            linear=all(image.linear for image in images),
            formula=" + ".join(dict.fromkeys(image.formula for image in images)),
            project=project,
            exact=all(image.exact for image in images),
            at_most=sum(image.bound for image in images),
        )


@dataclasses.dataclass(frozen=True)
class Composed(Composition):
    """The methods given, each on leaves of its own: one for attention and another for the rest, say.

    Attributes:
        methods: two or more; extensions among them make the composition one.
        name: how reports call it; by default their names, joined by ``+``.

    Raises:
        ValueError: fewer than two methods.
    """

    methods: tuple[Method, ...]
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(self.methods))
        if len(self.methods) < 2:
            raise ValueError(
                f"methods: got {len(self.methods)}, needs two or more; use a single one as it is"
            )
        if self.name is None:
            object.__setattr__(self, "name", "+".join(member.name for member in self.methods))

    @property
    def weight_space(self) -> bool:
        """Whether all members have a map g."""
        return all(member.weight_space for member in self.methods)

    @property
    def neutral(self) -> bool:
        """Whether no extension among them changes the function where its Φ is zero."""
        return all(member.weight_space or member.neutral for member in self.methods)

    def members(self, network: Network) -> tuple[Method, ...]:
        """The methods given."""
        return self.methods

    def penalty(self, phi: Phi) -> Float[Array, ""] | None:
        """The sum of the members' terms, if any has one."""
        terms = (member.penalty(phi[str(index)]) for index, member in enumerate(self.methods))
        given = [term for term in terms if term is not None]
        return sum(given[1:], start=given[0]) if given else None

    def schedule(self) -> Schedule | None:
        """Those of the members, side by side, if any has one."""
        found = {str(index): member.schedule() for index, member in enumerate(self.methods)}
        given = {index: one for index, one in found.items() if one is not None}
        return SideBySide(given) if given else None


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """The schedules of some members, by their keys in Φ, each for the member's own part of it."""

    schedules: dict[str, Schedule]

    def start(self, phi: Phi) -> PyTree[Array]:
        """What each remembers, before the first step."""
        return {index: one.start(phi[index]) for index, one in self.schedules.items()}

    def after(
        self, phi: Phi, gradient: Phi, memory: PyTree[Array], progress: Float[Array, ""]
    ) -> tuple[Phi, PyTree[Array]]:
        """Φ and the memories after a step."""
        made = {
            index: one.after(phi[index], gradient[index], memory[index], progress)
            for index, one in self.schedules.items()
        }
        return phi | {i: new for i, (new, _) in made.items()}, {i: kept for i, (_, kept) in made.items()}


@dataclasses.dataclass(frozen=True)
class S4(Composition):
    r"""The design that a search over compositions ended with: a mix of methods for each group of blocks.

    The blocks are split into four groups, small at both ends (a spindle), and get adapters and LoRA; adapters
    and a prefix; adapters, a prefix and BitFit; a prefix, BitFit and LoRA. With fewer than four blocks the
    groups at the ends stay: for one block the last, for two the first and the last, for three all but the
    second. Chen et al. (2023), *Parameter-efficient fine-tuning design spaces*, arXiv 2301.01821.

    Attributes:
        rank: of LoRA, on the attention kernels.
        width: of the adapters.
        length: of the prefix.
    """

    rank: int = 2
    width: int = 4
    length: int = 2

    @property
    def name(self) -> str:
        """``s4``, followed by the settings that are not the default ones."""
        given = [
            f"{f.name}={getattr(self, f.name)}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return "s4" + (f"[{';'.join(given)}]" if given else "")

    @property
    def weight_space(self) -> bool:
        """False: it has prefixes."""
        return False

    @property
    def neutral(self) -> bool:
        """False: a prefix of zeros takes its share of the softmax."""
        return False

    def members(self, network: Network) -> tuple[Method, ...]:
        """Adapters, prefixes, BitFit and LoRA, each on the blocks of its groups.

        Raises:
            ValueError: a network that is no transformer of ours, or one without biases.
        """
        if not isinstance(network.architecture, TransformerConfig):
            raise ValueError(
                f"network: {network.name!r} is no transformer, and S4 needs attention for its prefixes; "
                "compose methods of your choice with Composed"
            )
        if not any(path.endswith("/bias") for path in tree.paths(network.params)):
            raise ValueError(
                f"network: {network.name!r} has no biases, and S4 needs those of its blocks for BitFit; "
                "build it with biases=True, or compose methods of your choice with Composed"
            )
        groups = spindle(network.architecture.depth)

        def blocks(*which: int) -> list[int]:
            return [block for group in which for block in groups.get(group, ())]

        adapted, prefixed, biased, low = blocks(1, 2, 3), blocks(2, 3, 4), blocks(3, 4), blocks(1, 4)
        found: list[Method] = []
        if adapted:
            places = tuple(f"blocks/{i}/{place}" for i in adapted for place in ("attention/out", "mlp/down"))
            found.append(SerialAdapter(width=self.width, layers=places))
        if prefixed:
            found.append(Prefix(length=self.length, blocks=tuple(f"blocks/{i}" for i in prefixed)))
        if biased:
            found.append(Full(tuple(f"blocks/{i}/*bias" for i in biased), name="bitfit"))
        found.append(LoRA(self.rank, targets=tuple(f"blocks/{i}/attention/*kernel" for i in low)))
        return tuple(found)


def tuned(member: Method, network: Network, phi: Phi) -> Network:
    """The network with a method applied the ordinary way, which other methods can still look into."""

    def run(params: Params, x: Batch, *wrap: Wrap) -> Outputs:
        inner = dataclasses.replace(network, params=params)
        if wrap:
            hooked = Hooked(inner, *wrap)
            inner = dataclasses.replace(inner, apply=hooked, wrapped=hooked)
        return member.ordinary(inner, phi)(x)

    return dataclasses.replace(network, apply=run, wrapped=None if network.wrapped is None else run)


def spindle(depth: int) -> dict[int, tuple[int, ...]]:
    """Blocks by group, 1 to 4: larger groups in the middle, and fewer groups of fewer than four blocks."""
    if depth < 4:
        kept = {1: (4,), 2: (1, 4), 3: (1, 3, 4)}[depth]
        return {group: (block,) for block, group in enumerate(kept)}
    end = max(1, depth // 6)
    middle = depth - 2 * end
    sizes = (end, middle - middle // 2, middle // 2, end)
    bounds = np.cumsum((0, *sizes)).tolist()
    return {g + 1: tuple(range(bounds[g], bounds[g + 1])) for g in range(4)}
