"""Sums of Kronecker products: parameterized hypercomplex multiplication, and its low-rank form Compacter."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from .. import tree
from ..network import Batch, Layer, Network, Outputs
from .base import Method, Phi, Reparameterization, intercepted, shapes
from .descent import nearest_by_descent
from .factored import low_rank_dimension, settings, truncated
from .image import Changes, Image
from .kronecker import kron_branch, rearranged, restored
from .targets import Patterns, matrices


@dataclasses.dataclass(frozen=True)
class PHM(Method):
    r"""The update $\sum_{i \le n} A_i \otimes B_i$ of a kernel, with n × n matrices A_i that targets share.

    Each B_i has shape (in / n, out / n) and starts at zero, the A_i start Gaussian. Zhang et al. (2021),
    arXiv 2102.08597; as a way of fine-tuning Mahabadi, Henderson and Ruder (2021), arXiv 2106.04647.

    Attributes:
        n: number of terms and side of the A_i; it divides both sides of each target.
        shared: whether all targets have the same A_i, or each its own.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: an n below 1.
    """

    n: int = 2
    shared: bool = True
    targets: Patterns = "*kernel"

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or int(self.n) != self.n or self.n < 1:
            raise ValueError(
                f"n: got {self.n}, needs a positive whole number that divides the sides of kernels"
            )

    @property
    def name(self) -> str:
        """``phm-n<n>``, followed by the settings that are not the default ones."""
        return f"phm-n{self.n}" + settings(self, "n")

    def factors(self, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Shapes of what makes up the B_i of one target."""
        return {"B": (self.n, *shape)}

    def second(self, parts: Mapping[str, Array]) -> Array:
        """The B_i of one target, (n, in / n, out / n)."""
        return parts["B"]

    def start(
        self, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> dict[str, Array]:
        """B = 0."""
        return {"B": jnp.zeros(sizes["B"], dtype)}

    def reparameterize(self, network: Network) -> Reparameterization:
        """The map from the A_i and B_i to the updates; Φ is ``{"shared": {"A"}, path: {"B"}}``, as a tree.

        Raises:
            ValueError: a pattern matches nothing, a target is not a matrix, or n does not divide its sides.
        """
        base, found = shapes(network.params), self._targets(network)
        n, dtype = self.n, network.dtype
        sizes = {path: self.factors((i // n, o // n)) for path, (i, o) in found.items()}
        owners = {path: "shared" if self.shared else path for path in found}
        template = {f"{owner}/A": jax.ShapeDtypeStruct((n, n, n), dtype) for owner in owners.values()}
        for path, parts in sizes.items():
            template |= {
                f"{path}/{name}": jax.ShapeDtypeStruct(shape, dtype) for name, shape in parts.items()
            }

        def changes(phi: Phi) -> dict[str, Array]:
            flat = tree.paths(phi)
            made = {}
            for path, parts in sizes.items():
                A, B = (
                    flat[f"{owners[path]}/A"],
                    self.second({name: flat[f"{path}/{name}"] for name in parts}),
                )
                made[path] = sum(jnp.kron(A[i], B[i]) for i in range(n))
            return made

        def draw(key: PRNGKeyArray) -> Phi:
            flat = {}
            for path, one in zip(found, jax.random.split(key, len(found)), strict=True):
                A_key, B_key = jax.random.split(one)
                flat[f"{owners[path]}/A"] = jax.random.normal(A_key, (n, n, n), dtype) / n
                flat |= {
                    f"{path}/{name}": part for name, part in self.start(B_key, sizes[path], dtype).items()
                }
            return tree.from_paths(flat)

        return Reparameterization(self, tree.from_paths(template), base, tuple(found), changes, draw)

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with a side branch per term, which folds its input into a matrix.

        Raises:
            ValueError: the network has no `Network.wrapped`, or Φ has the wrong structure.
        """
        tree.check_like(phi, self.reparameterize(network).template, "phi")
        flat = tree.paths(phi)
        targets = {path.removesuffix("/kernel"): path for path in self._targets(network)}

        def wrap(name: str, layer: Layer, x: Array) -> Array:
            if name not in targets:
                return layer(x)
            path, y = targets[name], layer(x)
            B = self.second({part: flat[f"{path}/{part}"] for part in self.factors((1, 1))})
            for A_i, B_i in zip(flat[f"{'shared' if self.shared else path}/A"], B, strict=True):
                y = y + kron_branch(x, A_i, B_i)
            return y

        return intercepted(self, network, wrap, targets)

    def image(self, network: Network) -> Image:
        r"""Rearranged, $\sum_i \mathrm{vec}(A_i)\,\mathrm{vec}(B_i)^T$: the matrices of rank at most s = n.

        With shared A_i the rearranged targets stand side by side in one matrix of n² rows; without, each has
        its own. At B = 0 the n independent A_i move the B_i in n directions for each of their entries.
        """
        found, n = self._targets(network), self.n
        columns = {path: (i // n) * (o // n) for path, (i, o) in found.items()}
        groups = [list(found)] if self.shared else [[path] for path in found]
        widths = [sum(columns[path] for path in group) for group in groups]
        ranks = [min(n, n * n, width) for width in widths]

        def project(target: Mapping[str, np.ndarray]) -> Changes:
            made = {}
            for group, rank in zip(groups, ranks, strict=True):
                stacked = [rearranged(np.asarray(target[path]), (n, n)) for path in group]
                ends = np.cumsum([part.shape[1] for part in stacked])[:-1]
                parts = np.split(truncated(np.concatenate(stacked, axis=1), rank), ends, axis=1)
                made |= {p: restored(part, (n, n), found[p]) for p, part in zip(group, parts, strict=True)}
            return made

        pairs = list(zip(widths, ranks, strict=True))
        return Image(
            dimension=sum(low_rank_dimension((n * n, width), rank) for width, rank in pairs),
            initial_rank=sum(n * width for width in widths),
            linear=False,
            formula="s(p + q − s), p = n², q the entries of B over the targets that share A",
            project=project,
        )

    def _targets(self, network: Network) -> dict[str, tuple[int, int]]:
        found = {path: leaf.shape for path, leaf in matrices(network, self.targets).items()}
        for path, shape in found.items():
            if any(side % self.n for side in shape):
                raise ValueError(
                    f"n: got {self.n} for {path!r} of shape {shape}, needs a divisor of both sides; choose "
                    "another one, or leave the layer out with targets"
                )
        return found


@dataclasses.dataclass(frozen=True)
class Compacter(PHM):
    r"""PHM whose B_i = U_i V_i have rank f: U_i (in / n, f) starts Gaussian, V_i (f, out / n) at zero.

    Mahabadi, Henderson and Ruder (2021), arXiv 2106.04647, who put such layers into adapters; here they are
    updates of the kernels themselves.

    Attributes:
        rank: f.
    """

    rank: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise ValueError(f"rank: got {self.rank}, needs a positive whole number")

    @property
    def name(self) -> str:
        """``compacter-n<n>``, followed by the settings that are not the default ones."""
        return f"compacter-n{self.n}" + settings(self, "n")

    def factors(self, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Shapes of the U_i and V_i."""
        rank = min(self.rank, *shape) if min(shape) else self.rank
        return {"U": (self.n, shape[0], rank), "V": (self.n, rank, shape[1])}

    def second(self, parts: Mapping[str, Array]) -> Array:
        """The products U_i V_i."""
        return parts["U"] @ parts["V"]

    def start(
        self, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> dict[str, Array]:
        """U ~ N(0, n / in), V = 0."""
        U = jax.random.normal(key, sizes["U"], dtype) / math.sqrt(sizes["U"][1])
        return {"U": U, "V": jnp.zeros(sizes["V"], dtype)}

    def image(self, network: Network) -> Image:
        """See `compacter_dimension`; at V = 0 each V_i moves in all its entries.

        No closed form of the nearest point is known, unless the B_i have full rank and this is PHM.
        """
        n, whole, made = self.n, super().image(network), self.reparameterize(network)
        cut = {path: (i // n, o // n) for path, (i, o) in self._targets(network).items()}
        ranks = {path: min(self.rank, *shape) for path, shape in cut.items()}
        full = all(ranks[path] == min(shape) for path, shape in cut.items())
        groups = [list(cut)] if self.shared else [[path] for path in cut]

        def project(target: Mapping[str, np.ndarray]) -> Changes:
            if full:
                return whole.project(target)
            return nearest_by_descent(made, target, [self._guess(cut, ranks, whole.project(target))])

        return Image(
            dimension=sum(
                compacter_dimension(n, [(cut[path], ranks[path]) for path in group]) for group in groups
            ),
            initial_rank=sum(n * ranks[path] * shape[1] for path, shape in cut.items()),
            linear=False,
            formula="(n² − n) min(n, q) + n (τ + min(n − 1, q − τ)), q entries of a B, τ of rank f",
            project=project,
            exact=full,
        )

    def _guess(
        self, cut: dict[str, tuple[int, int]], ranks: dict[str, int], nearest: Mapping[str, np.ndarray]
    ) -> Phi:
        """The nearest PHM with its B_i cut to rank f."""
        n, flat = self.n, {}
        rows = {path: rearranged(nearest[path], (n, n)) for path in cut}
        for group in [list(cut)] if self.shared else [[path] for path in cut]:
            u, _, _ = np.linalg.svd(np.concatenate([rows[path] for path in group], axis=1))
            A = u[:, :n]
            flat["shared/A" if self.shared else f"{group[0]}/A"] = A.T.reshape(n, n, n)
            for path in group:
                B = (A.T @ rows[path]).reshape(n, *cut[path])
                left, values, right = np.linalg.svd(B, full_matrices=False)
                flat[f"{path}/U"] = left[..., : ranks[path]] * values[:, None, : ranks[path]]
                flat[f"{path}/V"] = right[:, : ranks[path]]
        return tree.from_paths(flat)


def compacter_dimension(n: int, targets: list[tuple[tuple[int, int], int]]) -> int:
    r"""Generic dimension of the updates of targets that share A_i, from the shape and rank f of their B_i.

    $$(n^2 - n)\min(n, q) + n\,(\tau + \min(n - 1, q - \tau)),$$

    summed over the targets: q the entries of a B_i and τ = Σ f(m + n − f) the dimension of the matrices of
    rank f. If both minima are the first number, this is $n^3 - n + n\tau$: all parameters but f² per
    factorization and one scaling per term.

    Proof: write a tangent vector Σ dA_i ⊗ B_i + A_i ⊗ dB_i in a basis of the n × n matrices that extends the
    A_i, which generic ones allow. Its n² − n other coordinates are arbitrary combinations of the B_i, which
    span min(n, q) dimensions. Its coordinate at A_i is any dB_i tangent to the matrices of rank f at B_i,
    which B_i itself is, plus any combination of the n − 1 other B_j. These are generic matrices of rank f and
    such matrices span everything, so modulo the tangent space they fill min(n − 1, q − τ) dimensions.
    The coordinates do not constrain each other: their dimensions add up.
    """
    q = sum(rows * columns for (rows, columns), _ in targets)
    tangent = sum(low_rank_dimension(shape, rank) for shape, rank in targets)
    return (n * n - n) * min(n, q) + n * (tangent + min(n - 1, q - tangent))
