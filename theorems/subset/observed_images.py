"""What the claims of Theorem 1 on the image of g are judged on when a network was really fine-tuned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ...models import tree
from ...models.methods import LoRA
from .. import memo, ranks
from ..claims import MissingIngredient
from ..pasteable import Pasteable
from .counts import Counts, MapCounts
from .distance import Distances, distances, within
from .observed_functions import operations_of

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning

_DRAWS = 8
_EPSILON = 0.25


def parameter_counts(tuning: FineTuning) -> Iterable[Counts]:
    """K and d."""
    yield Counts(tuning.trainable.k, tuning.network.d, "trained network")


@memo.latest
def map_counts(tuning: FineTuning) -> MapCounts:
    """The numbers of the trained map: ranks near the trained Φ and at the usual start.

    Raises:
        MissingIngredient: a method without a closed form, or ranks without a gap.
    """
    made, image = tuning.reparameterization, tuning.method.image(tuning.network)
    generic = ranks.jacobian_rank(made, _shaken(tuning.phi))
    start = generic if image.linear else ranks.jacobian_rank(made, made.init(jax.random.key(tuning.seed)))
    for name, found in (("a generic Φ", generic), ("the start", start)):
        if found.rank is None:
            raise MissingIngredient(f"no gap in the singular values of Dg at {name}: {found!r}")
    note = f"rank of Dg near the trained Φ: gap {generic.gap:.1e}, by {generic.how}"
    return MapCounts(
        made.k, made.d, image.dimension, generic.rank, start.rank, image.initial_rank, "trained network", note
    )


def _shaken(phi: Any) -> Any:
    """A point near the trained one: training may end where ranks are small, at pruned entries."""
    leaves, structure = jax.tree.flatten(phi)
    rng = np.random.default_rng(0)
    sizes = [np.abs(np.asarray(leaf)).mean() + 0.1 for leaf in leaves]
    return jax.tree.unflatten(
        structure,
        [
            np.asarray(leaf) + 0.3 * size * rng.normal(size=leaf.shape)
            for leaf, size in zip(leaves, sizes, strict=True)
        ],
    )


def image_counts(tuning: FineTuning) -> Iterable[MapCounts]:
    """k, d, dimensions and ranks of the map."""
    yield map_counts(tuning)


def map_ranks(tuning: FineTuning) -> Iterable[Counts]:
    """The rank of Dg against k, for methods with fewer parameters than the network."""
    if tuning.reparameterization.k < tuning.network.d:
        found = map_counts(tuning)
        yield replace(found, dimension=found.largest_rank)


@dataclass(frozen=True, eq=False, repr=False)
class Missed(Pasteable):
    """How far an update is from the image of a map, relative to its norm."""

    missed: float
    k: int
    d: int
    operations: int
    scale: float = 1.0
    kind: str = "trained network"
    note: str = ""


@memo.latest
def full_distances(tuning: FineTuning) -> Distances:
    """How far the fully fine-tuned update is from the image, per leaf.

    Raises:
        MissingIngredient: no full fine-tuning beside it.
    """
    if tuning.full is None:
        raise MissingIngredient("the fully fine-tuned parameters are not known: give FineTuning its full")
    update = jax.tree.map(np.subtract, tuning.full, tuning.network.params)
    return distances(tuning.method, tuning.network, update)


def full_update(tuning: FineTuning) -> Iterable[Missed]:
    """The relative distance of the fully fine-tuned update from the image."""
    _need_exact(tuning)
    found = full_distances(tuning)
    note = "distance of the fully fine-tuned update from Im g, relative to its norm"
    k, d = tuning.reparameterization.k, tuning.network.d
    yield Missed(found.relative, k, d, operations_of(tuning.network), note=note)


def _need_exact(tuning: FineTuning) -> None:
    if not tuning.method.image(tuning.network).exact:
        raise MissingIngredient(
            f"no nearest point of the image of {tuning.method.name} is known, only an upper estimate of the "
            f"distance"
        )


@dataclass(frozen=True, eq=False, repr=False)
class RandomUpdates(Pasteable):
    """The share of random updates that lie within a hair of the image."""

    volume: float
    epsilon: float = _EPSILON
    kind: str = "trained network"
    note: str = f"share of {_DRAWS} Gaussian updates within 1e-6 of their norm of Im g"


def random_updates(tuning: FineTuning) -> Iterable[RandomUpdates]:
    """The share of Gaussian updates near the image, for methods with k < d and a known projection."""
    _need_exact(tuning)
    if tuning.reparameterization.k < tuning.network.d:
        rng, base = np.random.default_rng(tuning.seed), tuning.network.params
        draws = (jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), base) for _ in range(_DRAWS))
        near = [within(tuning.method, tuning.network, update, 1e-6) for update in draws]
        yield RandomUpdates(float(np.mean(near)))


@dataclass(frozen=True, eq=False, repr=False)
class Nearest(Pasteable):
    """The distance of the full update from the image, and from the update that the method trained."""

    nearest: float
    reached: float
    scale: float
    operations: int
    kind: str = "trained network"
    note: str = "the full update: its distance from Im g, and from what the method trained"


def nearest_points(tuning: FineTuning) -> Iterable[Nearest]:
    """Distance to the nearest point against distance to g(Φ)."""
    _need_exact(tuning)
    if tuning.reparameterization.k >= tuning.network.d:
        return
    found = full_distances(tuning)
    update = jax.tree.map(np.subtract, tuning.full, tuning.network.params)
    gaps = jax.tree.leaves(
        jax.tree.map(lambda a, b: float(((a - np.asarray(b)) ** 2).sum()), update, tuning.delta)
    )
    reached = float(np.sqrt(sum(gaps)))
    yield Nearest(found.total, reached, max(found.norm, reached), operations_of(tuning.network))


@dataclass(frozen=True, eq=False, repr=False)
class TrainedFactors(Pasteable):
    """LoRA's Jacobian at the trained factors of one layer, with its numerical ranks."""

    rank: int
    ranks: tuple[int, int]
    shape: tuple[int, int, int]
    kind: str = "trained factors"
    note: str = ""


def trained_factors(tuning: FineTuning) -> Iterable[TrainedFactors]:
    """The Jacobian ranks of the layers of a LoRA fine-tuning; nothing for other methods."""
    if type(tuning.method) is not LoRA:
        return
    flat = tree.paths(tuning.phi)
    for path in (name.removesuffix("/A") for name in flat if name.endswith("/A")):
        A, B = np.asarray(flat[f"{path}/A"]), np.asarray(flat[f"{path}/B"])
        jacobian = np.concatenate([np.kron(np.eye(len(A)), B.T), np.kron(A, np.eye(B.shape[1]))], axis=1)
        found = [ranks.numerical_rank(matrix) for matrix in (jacobian, B, A)]
        if any(one.rank is None for one in found):
            raise MissingIngredient(f"no gap in the singular values at {path}: {found}")
        whole, b, a = (one.rank for one in found)
        yield TrainedFactors(whole, (b, a), (B.shape[1], len(A), A.shape[1]), note=f"factors of {path}")
