"""Low-rank adaptation: each linear kernel gets an update that is a product of two thin matrices."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from .. import tree
from ..network import Batch, Layer, Network, Outputs
from .base import Method, Phi, Reparameterization, intercepted, shapes


@dataclasses.dataclass(frozen=True)
class LoRA(Method):
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

    def __post_init__(self) -> None:
        ranks = self.ranks.items() if isinstance(self.ranks, Mapping) else self.ranks or ()
        # Tuples, so that a method can be hashed and serve as a key.
        object.__setattr__(self, "ranks", tuple((pattern, rank) for pattern, rank in ranks))
        if not isinstance(self.targets, str):
            object.__setattr__(self, "targets", tuple(self.targets))
        for pattern, rank in (("rank", self.rank), *self.ranks):
            if isinstance(rank, bool) or int(rank) != rank or rank < 1:
                raise ValueError(
                    f"rank: got {rank} for {pattern!r}, needs a positive integer; leave a layer out "
                    "with targets"
                )
        if self.scale == 0 or not math.isfinite(self.scale):
            raise ValueError(f"scale: got {self.scale}, needs a finite number other than 0")

    @property
    def name(self) -> str:
        """``lora-r<rank>``, followed by the settings that are not the default ones."""
        targets = self.targets if isinstance(self.targets, str) else ",".join(self.targets)
        others = [f"scale={self.scale:g}"] if self.scale != 1 else []
        others += [f"targets={targets}"] if targets != "*kernel" else []
        others += [f"{pattern}={rank}" for pattern, rank in self.ranks]
        return f"lora-r{self.rank}" + (f"[{';'.join(others)}]" if others else "")

    def reparameterize(self, network: Network) -> Reparameterization:
        """The map (A, B) ↦ scale · A B on each target.

        Φ is the tree of θ with each target replaced by ``{"A": (in, r), "B": (r, out)}``, without
        the rest.

        Raises:
            ValueError: a pattern matches nothing, a target is not a matrix, or a rank exceeds min(in, out).
        """
        base = shapes(network.params)
        ranks = self._ranks_of(network)
        leaves = tree.paths(base)
        template = {}
        for path, rank in ranks.items():
            (fan_in, fan_out), dtype = leaves[path].shape, leaves[path].dtype
            template[f"{path}/A"] = jax.ShapeDtypeStruct((fan_in, rank), dtype)
            template[f"{path}/B"] = jax.ShapeDtypeStruct((rank, fan_out), dtype)

        def changes(phi: Phi) -> dict[str, Array]:
            flat = tree.paths(phi)
            return {path: self.scale * (flat[f"{path}/A"] @ flat[f"{path}/B"]) for path in ranks}

        def draw(key: PRNGKeyArray) -> Phi:
            flat = {path: jnp.zeros(leaf.shape, leaf.dtype) for path, leaf in template.items()}
            for path, one in zip(ranks, jax.random.split(key, len(ranks)), strict=True):
                A = template[f"{path}/A"]
                flat[f"{path}/A"] = jax.random.normal(one, A.shape, A.dtype) / math.sqrt(A.shape[0])
            return tree.from_paths(flat)

        return Reparameterization(self, tree.from_paths(template), base, tuple(ranks), changes, draw)

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with a side branch scale · (x @ A) @ B at each target.

        Raises:
            ValueError: the network has no `Network.wrapped`, or Φ has the wrong structure.
        """
        tree.check_like(phi, self.reparameterize(network).template, "phi")

        flat = tree.paths(phi)
        targets = {path.removesuffix("/kernel"): path for path in self._ranks_of(network)}

        def wrap(name: str, layer: Layer, x: Array) -> Array:
            if name not in targets:
                return layer(x)
            A, B = flat[f"{targets[name]}/A"], flat[f"{targets[name]}/B"]
            return layer(x) + self.scale * ((x @ A) @ B)

        return intercepted(self, network, wrap, targets)

    def _ranks_of(self, network: Network) -> dict[str, int]:
        leaves = tree.paths(network.params)
        targets = tree.match(network.params, self.targets)
        for pattern, _ in self.ranks:
            tree.match_names(targets, pattern, "target of LoRA")
        ranks = {}
        for path in targets:
            if leaves[path].ndim != 2:
                raise ValueError(
                    f"targets: {path!r} has shape {leaves[path].shape}, needs two axes; "
                    f"narrow the pattern {self.targets!r} to matrices"
                )
            rank = next((r for pattern, r in self.ranks if fnmatchcase(path, pattern)), self.rank)
            if rank > min(leaves[path].shape):
                raise ValueError(
                    f"rank: got {rank} for {path!r} of shape {leaves[path].shape}, needs at most "
                    f"{min(leaves[path].shape)}; lower it, or set the rank of this layer with ranks="
                    f"{{{path!r}: ...}}"
                )
            ranks[path] = int(rank)
        return ranks
