"""What the claims of Theorem 3 are judged on when a network was really fine-tuned.

Most of them look at the full update, that of a `Full` fine-tuning; those on rivals of the truncation look at
LoRA beside it; those on what training makes of a rank look at sweeps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ...models import tree
from ...models.methods import Full, LoRA
from ...models.methods.targets import matrices
from ...models.mlp import MLPConfig
from ...models.tasks import Split
from ...models.training import cross_entropy, hashable
from .. import memo
from ..claims import MissingIngredient
from ..rademacher import Ball, lower_bound, sampled, upper_bound
from .critical import critical_rank, joint_critical_rank
from .decay import Decay
from .instances.alignments import Alignment
from .instances.layers import Layer, Trained
from .instances.observations import (
    FurtherRanks,
    LayerRanks,
    RankGains,
    SampledSigns,
    SmoothSegment,
    TrainedSegment,
    TwoRanks,
)
from .instances.spectra import Decaying, Decomposed
from .lipschitz import segment_change
from .segment import segment_identity, segment_profile
from .spectrum import Spectrum, spectrum
from .truncation import Truncations, truncations
from .whitened import second_moment

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning
    from ...models.network import Network

SHARE = 0.1
"""ε is this share of the energy of the update."""
_PIECES = 4
_INPUTS = 24
_EXAMPLES = 200


@dataclass(frozen=True, eq=False)
class Update:
    """The full update of a network, decomposed layer by layer, with the rank that all layers need together.

    Attributes:
        kernels: the updates of the matrices, by path.
        spectra: their singular values.
        eps: ε, a tenth of the energy of all layers.
        rank: the smallest rank of all layers alike that leaves less than ε.
    """

    kernels: dict[str, np.ndarray]
    spectra: dict[str, Spectrum]
    eps: float
    rank: int

    def tail(self, rank: int) -> float:
        """What is left at a rank of all layers."""
        return sum(one.tail(rank) for one in self.spectra.values())

    @property
    def largest(self) -> int:
        """The largest rank that a layer can have."""
        return max(len(one.values) for one in self.spectra.values())


def whole_update(tuning: FineTuning) -> bool:
    """Whether this is full fine-tuning, of all parameters."""
    return isinstance(tuning.method, Full) and tuning.reparameterization.k == tuning.network.d


def update_of(params: Any, network: Any) -> Update:
    """Decompose the difference of fully fine-tuned parameters and the base."""
    base, tuned = tree.paths(network.params), tree.paths(params)
    paths = matrices(network, "*kernel")
    kernels = {path: np.asarray(tuned[path]) - np.asarray(base[path]) for path in paths}
    found = {path: spectrum(kernel, path) for path, kernel in kernels.items()}
    eps = SHARE * sum(one.energy for one in found.values())
    return Update(kernels, found, eps, joint_critical_rank(found, SHARE).rank)


@memo.latest
def full_update(tuning: FineTuning) -> Update:
    """The update of the full fine-tuning beside a fine-tuning, or of itself.

    Raises:
        MissingIngredient: no full fine-tuning is known.
    """
    if tuning.full is None:
        raise MissingIngredient("the fully fine-tuned parameters are not known: give FineTuning its full")
    return update_of(tuning.full, tuning.network)


def decomposed(tuning: FineTuning) -> Iterable[Decomposed]:
    """Each layer of the full update, at the critical rank of a tenth of its energy."""
    if whole_update(tuning):
        update = full_update(tuning)
        for path, kernel in update.kernels.items():
            found = update.spectra[path]
            yield Decomposed(kernel, critical_rank(found, SHARE * found.energy).rank, note=path)


def layer_ranks(tuning: FineTuning) -> Iterable[LayerRanks]:
    """The critical ranks of the layers of the full update that moved."""
    if whole_update(tuning):
        update = full_update(tuning)
        moved = {path: one for path, one in update.spectra.items() if one.energy}
        yield LayerRanks({path: update.kernels[path] for path in moved}, moved, "all layers, 10 % and 1 %")


def printed_ranks(tuning: FineTuning) -> Iterable[Decomposed]:
    """The layers of the full update beside LoRA of rank r, with r_c = rank(Φ) = r, as (34) permits it."""
    for path, kernel, _, rank in _beside_lora(tuning):
        yield Decomposed(kernel, rank, rank, f"full update of {path}, r_c = rank(Φ) = {rank}")


def _beside_lora(tuning: FineTuning) -> Iterable[tuple[str, np.ndarray, np.ndarray, int]]:
    """Full update, LoRA's update and its rank, by layer; nothing for other methods."""
    if type(tuning.method) is LoRA:
        update, trained = full_update(tuning), tree.paths(tuning.delta)
        for path, factor in tree.paths(tuning.phi).items():
            if path.endswith("/A"):
                layer = path.removesuffix("/A")
                yield layer, update.kernels[layer], np.asarray(trained[layer]), factor.shape[1]


def trained_rivals(tuning: FineTuning) -> Iterable[Trained]:
    """What LoRA trained, as a rival of the truncated full update."""
    for path, kernel, trained, rank in _beside_lora(tuning):
        yield Trained(kernel, trained, rank, f"{path}: truncation of the full update, and LoRA's update")


def first_layer(tuning: FineTuning) -> Iterable[Layer]:
    """The first layer of a perceptron, whose inputs are the data, with LoRA's update as a rival."""
    if isinstance(tuning.network.architecture, MLPConfig):
        for path, kernel, trained, rank in _beside_lora(tuning):
            if path == "layers/0/kernel":
                moment = second_moment(tuning.task.new.train.x)
                yield Layer(kernel, moment, rank, trained, f"{path}: LoRA's update as a rival")


def decays(tuning: FineTuning) -> Iterable[Decaying]:
    """The layers of the full update whose singular values decide something.

    Raises:
        MissingIngredient: no layer does.
    """
    if not whole_update(tuning):
        return
    every = [Decaying(one) for one in full_update(tuning).spectra.values()]
    decided = [one for one in every if one.verdict.outcome is not Decay.UNDECIDED]
    if not decided:
        raise MissingIngredient("a layer whose singular values decide between the laws")
    note = f"{len(decided)} of {len(every)} layers decide"
    for one in decided:
        yield Decaying(one.spectrum, f"{one.spectrum.name}: {one.verdict.outcome}; {note}")


@memo.latest
def curves(tuning: FineTuning) -> Truncations:
    """Train and test loss of the truncated full update, at every rank."""
    return truncations(tuning.network, tuning.task.new, tuning.delta, parts=("train", "test"))


def truncated(tuning: FineTuning, rank: int) -> Any:
    """The fully fine-tuned parameters with the updates of all matrices truncated."""
    leaves, base = dict(tree.paths(tuning.theta)), tree.paths(tuning.network.params)
    for path, kernel in full_update(tuning).kernels.items():
        u, s, vt = np.linalg.svd(kernel, full_matrices=False)
        leaves[path] = np.asarray(base[path]) + (u[:, :rank] * s[:rank]) @ vt[:rank]
    return tree.from_paths({path: np.asarray(leaf) for path, leaf in leaves.items()})


def _segments(tuning: FineTuning) -> dict[str, TrainedSegment]:
    """From the fully fine-tuned parameters to the truncation at the critical rank, by split."""
    return _found_segments(tuning)


@memo.latest
def _found_segments(tuning: FineTuning) -> dict[str, TrainedSegment]:
    update, loss = full_update(tuning), curves(tuning).joint.loss
    first, second = tuning.theta, truncated(tuning, update.rank)
    made, distance = {}, float(np.sqrt(update.tail(update.rank)))
    for part in ("train", "test"):
        split = getattr(tuning.task.new, part)
        _, constant = segment_change(tuning.network, split, first, second, pieces=_PIECES)
        ends = [_gradient_norm(tuning.network, params, split) for params in (first, second)]
        made[part] = TrainedSegment(
            reached=float(loss[part][update.rank]),
            optimum=float(loss[part][-1]),
            constant=float(constant),
            steepest=max(ends),
            distance=distance,
            tail=distance**2,
            eps=update.eps,
            note=f"{part} loss, update truncated to rank {update.rank} of {update.largest}, certified L",
        )
    return made


def segments(tuning: FineTuning) -> Iterable[TrainedSegment]:
    """Train and test loss along the segment from the full update to its truncation at r_c; perceptrons only.

    Raises:
        MissingIngredient: a network for which no Lipschitz constant is certified.
    """
    if whole_update(tuning):
        yield from _segments(tuning).values()


def segments_of_test_loss(tuning: FineTuning) -> Iterable[TrainedSegment]:
    """The same for the test loss alone, of which equation 7 speaks."""
    if whole_update(tuning):
        yield _segments(tuning)["test"]


@memo.latest
def _smooth_segment(tuning: FineTuning) -> SmoothSegment:
    update = full_update(tuning)
    first, second = tuning.theta, truncated(tuning, update.rank)
    train = tuning.task.new.train
    split = Split(train.x[:_EXAMPLES], train.y[:_EXAMPLES])
    identity = segment_identity(tuning.network, split, first, second)
    profile = segment_profile(tuning.network, split, first, second)
    return SmoothSegment(
        reached=float(profile.loss[-1]),
        optimum=float(profile.loss[0]),
        at_optimum=float(profile.gradient_norm[0]),
        beta=float(profile.smoothness),
        tail=update.tail(update.rank),
        expansion=identity.linear + identity.curvature,
        error=10 * identity.error,
        note=f"loss of {len(split)} training examples, update truncated to rank {update.rank}; β on a grid",
    )


def smooth_segments(tuning: FineTuning) -> Iterable[SmoothSegment]:
    """Slope and curvature of the training loss along that segment.

    Raises:
        MissingIngredient: activations with kinks.
    """
    if whole_update(tuning):
        yield _smooth_segment(tuning)


def further_ranks(tuning: FineTuning) -> Iterable[FurtherRanks]:
    """The test loss at the critical rank, and at the larger rank where it is least; certified on the segment.

    Raises:
        MissingIngredient: a network for which no Lipschitz constant is certified.
    """
    if not whole_update(tuning):
        return
    update, loss = full_update(tuning), curves(tuning).joint.loss["test"]
    best = update.rank + int(np.argmin(loss[update.rank :]))
    ends = [truncated(tuning, rank) for rank in (update.rank, best)]
    split = tuning.task.new.test
    _, constant = segment_change(tuning.network, split, *ends, pieces=_PIECES)
    yield FurtherRanks(
        here=float(loss[update.rank]),
        there=float(loss[best]),
        constant=float(constant),
        steepest=max(_gradient_norm(tuning.network, params, split) for params in ends),
        tail=update.tail(update.rank),
        eps=update.eps,
        note=f"test loss of the full update truncated to rank {update.rank}, and to rank {best}",
    )


def rising_bounds(tuning: FineTuning) -> Iterable[TwoRanks]:
    """Test losses beyond the critical rank, two ranks at a time, under the printed bound with O(·) read as 1.

    Raises:
        MissingIngredient: a network for which no Lipschitz constant is certified.
    """
    if not whole_update(tuning):
        return
    update, loss = full_update(tuning), curves(tuning).joint.loss["test"]
    fixed = float(loss[-1]) + _segments(tuning)["test"].constant * np.sqrt(update.eps)
    count = len(tuning.task.new.train)
    bound = fixed + np.sqrt(np.arange(len(loss)) / count)
    for rank in range(update.rank, update.largest):
        pair = [tuple(float(v) for v in values[rank : rank + 2]) for values in (loss, bound)]
        yield TwoRanks(*pair, note=f"test loss of the truncation, rank {rank} to {rank + 1}")


def gains(tuning: FineTuning) -> Iterable[RankGains]:
    """What each further rank of the truncation gains in test loss."""
    if whole_update(tuning):
        loss = curves(tuning).joint.loss["test"]
        yield RankGains(loss[:-1] - loss[1:], float(loss.max()), note="test loss of the truncation")


def distance_gains(tuning: FineTuning) -> Iterable[RankGains]:
    """What each further rank gains in half the squared distance from the full update, layer by layer."""
    if whole_update(tuning):
        update = full_update(tuning)
        for path, kernel in update.kernels.items():
            values = update.spectra[path].values
            V = [Decomposed(kernel, r).squared_distance / 2 for r in range(len(values) + 1)]
            yield RankGains(-np.diff(V), update.spectra[path].energy, values**2 / 2, path)


@functools.partial(jax.jit, static_argnums=0)
def _gradient(apply: Callable, params: Any, x: Any, y: Any) -> Any:
    return jax.grad(lambda theta: cross_entropy(apply, theta, (x, y))[0])(params)


def _gradient_norm(network: Network, params: Any, split: Split) -> float:
    """Of all parameters."""
    leaves = jax.tree.leaves(_gradient(hashable(network.apply), params, split.x, split.y))
    return float(np.sqrt(sum(float((np.asarray(leaf) ** 2).sum()) for leaf in leaves)))


@memo.latest
def _base_gradient(given: tuple[Any, Any]) -> dict[str, np.ndarray]:
    network, split = given
    found = _gradient(hashable(network.apply), network.params, split.x, split.y)
    return {path: np.asarray(leaf) for path, leaf in tree.paths(found).items()}


def gradient_alignments(tuning: FineTuning) -> Iterable[Alignment]:
    """How well LoRA's update aligns with the negative gradient at the base, among its rank and norm."""
    for path, _, trained, rank in _beside_lora(tuning):
        z = -_base_gradient((tuning.network, tuning.task.new.train))[path]
        ball = Ball("frobenius", float(np.linalg.norm(trained)), rank)
        yield Alignment(z, ball, trained, f"{path}: LoRA's update against the gradient at the base")


def input_signs(tuning: FineTuning) -> Iterable[SampledSigns]:
    """The complexity of the first layer of a perceptron on some training inputs, for rank 4."""
    if whole_update(tuning) and isinstance(tuning.network.architecture, MLPConfig):
        x, ball = tuning.task.new.train.x[:_INPUTS], Ball("frobenius", 1.0, 4)
        outputs = tuning.network.architecture.widths[1]
        found = sampled(x, outputs, ball, jax.random.key(0), draws=1024)
        low, high = (float(bound(x, outputs, ball)) for bound in (lower_bound, upper_bound))
        note = f"first layer, {_INPUTS} inputs, rank 4, Frobenius ball: mean of {found.draws} draws"
        yield SampledSigns(low, found.value, high, found.standard_error, high, note)
