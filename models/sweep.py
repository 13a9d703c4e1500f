"""Sweeps: LoRA at every rank, the top k layers for every k, and methods of one rank with different counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from . import tree
from .cache import Cache
from .finetuning import FineTuning, Job
from .fit import Progress
from .inputs import check_rates, check_seeds
from .methods import Full, LoRA, Method, TopLayers
from .methods.rank import capped
from .methods.targets import Patterns, matrices
from .mlp import MLPConfig
from .nested import nested
from .network import Network
from .tasks import Task, checked_part
from .training import Settings
from .transformer import TransformerConfig

SETTINGS = Settings(steps=1000, eval_every=200, patience=5)
RATES = (3e-3, 1e-2, 3e-2)
"""Of a sweep that is not told others; each run returns its best Φ on validation."""


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """Fine-tunings along one axis: V points × S seeds, each point at the learning rate best on validation.

    Losses and accuracies are those of f(x; θ₀ + g(Φ)) in float64. Seeds are paired: that of a seed decides
    the mini-batches, and of a nested sweep the start of Φ, at all points alike.

    Attributes:
        axis: what varies, such as "rank".
        values: its V values.
        seeds: S seeds.
        tunings: V × S fine-tuned networks.
    """

    axis: str
    values: tuple[int | str, ...]
    seeds: tuple[int, ...]
    tunings: tuple[tuple[FineTuning, ...], ...]

    @property
    def along(self) -> str:
        """The axis in one word: "rank", "layers" or "method"; what claims on sweeps ask for."""
        return self.axis.split()[-1]

    @property
    def subject(self) -> dict[str, str | int | None]:
        """What a record on the sweep says it speaks of."""
        one = self.tunings[0][0]
        return {
            "network": one.network.name,
            "task": one.task.name,
            "method": f"{self.axis} {self.values[0]}..{self.values[-1]}",
            "seed": None,
            "along": self.along,
            "seeds": len(self.seeds),
        }

    def tuning(self, value: int | str, seed: int) -> FineTuning:
        """The fine-tuned network of one value and seed.

        Raises:
            ValueError: a value or a seed that is not part of the sweep.
        """
        for argument, one, known in ((self.axis, value, self.values), ("seed", seed, self.seeds)):
            if one not in known:
                raise ValueError(f"{argument}: got {one!r}, needs one of {', '.join(map(str, known))}")
        return self.tunings[self.values.index(value)][self.seeds.index(seed)]

    def loss(self, part: str = "test") -> Float[np.ndarray, "V S"]:
        """Mean cross-entropy on the train, validation or test split, in nats."""
        return self._facts(f"{checked_part(part)}_loss")

    def accuracy(self, part: str = "test") -> Float[np.ndarray, "V S"]:
        """Share of the examples of a split that are classified rightly."""
        return self._facts(f"{checked_part(part)}_accuracy")

    def base_loss(self, part: str = "test") -> float:
        """The loss of the base network, before any fine-tuning: what rank 0 gives."""
        return float(self.tunings[0][0].facts[f"zero_shot_{checked_part(part)}_loss"])

    def base_accuracy(self, part: str = "test") -> float:
        """The accuracy of the base network."""
        return float(self.tunings[0][0].facts[f"zero_shot_{checked_part(part)}_accuracy"])

    @property
    def chosen_rates(self) -> tuple[float, ...]:
        """The learning rate that each point chose."""
        return tuple(float(row[0].facts["learning_rate"]) for row in self.tunings)

    @property
    def k(self) -> tuple[int, ...]:
        """The number of trained parameters of each point."""
        return tuple(row[0].trainable.k for row in self.tunings)

    @property
    def seconds(self) -> float:
        """Wall clock of all training, compilation included, as it was when it was done."""
        # The points that were trained together share their clock: they carry the same number.
        return sum({row[0].facts["seconds"] for row in self.tunings})

    def with_full(self, full: Sequence[FineTuning]) -> "Sweep":
        """The sweep with the fully fine-tuned θ of each seed at hand, as `FineTuning.full`.

        Raises:
            ValueError: a seed of the sweep is missing among them.
        """
        known = {one.seed: one.full for one in full}
        if missing := [seed for seed in self.seeds if known.get(seed) is None]:
            raise ValueError(
                f"full: got no full fine-tuning of seeds {missing}, needs one of each seed of the sweep; "
                f"use finetune(network, task, Full(), seeds={self.seeds})"
            )
        return self.beside(full)

    def beside(self, full: Sequence[FineTuning]) -> "Sweep":
        """The sweep with the fully fine-tuned θ at hand for those of its seeds that are among `full`."""
        known = {one.seed: one.full for one in full}
        rows = (tuple(replace(one, full=known.get(one.seed)) for one in row) for row in self.tunings)
        return replace(self, tunings=tuple(rows))

    def _facts(self, name: str) -> Float[np.ndarray, "V S"]:
        return np.array([[one.facts[name] for one in row] for row in self.tunings])

    def __repr__(self) -> str:
        loss = self.loss("test").mean(axis=1)
        points = ", ".join(f"{value}: {mean:.3g}" for value, mean in zip(self.values, loss, strict=True))
        return f"{type(self).__name__}({self.axis}, seeds={self.seeds}, test_loss={{{points}}})"


@dataclass(frozen=True, eq=False, repr=False)
class RankSweep(Sweep):
    """A sweep over the rank of LoRA."""

    @property
    def ranks(self) -> Int[np.ndarray, " V"]:
        """The ranks; a layer whose smaller side is below one of them has that instead."""
        return np.array(self.values)


def rank_sweep(
    network: Network,
    task: Task,
    ranks: Sequence[int],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    learning_rates: Sequence[float] = RATES,
    targets: Patterns = "*kernel",
    scale: float = 1.0,
    settings: Settings = SETTINGS,
    dtype: DTypeLike = "float32",
    at_once: int | None = None,
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RankSweep:
    """Fits LoRA at every rank, for each seed, and chooses a learning rate for each rank on validation.

    A is drawn once for each seed, for the largest rank; rank r has its first r columns. A layer whose smaller
    side is below r gets that for its rank. The scale is the same for all ranks.

    Args:
        network: the base network.
        task: trains on `task.new`.
        ranks: V ranks, ascending.
        seeds: S seeds.
        learning_rates: what to choose from.
        targets: as `LoRA` has it.
        scale: as `LoRA` has it.
        settings: of the training.
        dtype: what training computes in.
        at_once: how many ranks are trained together. By default one on a CPU, where more of them are not
            faster, and all of them elsewhere. It changes results by rounding only.
        cache: keeps an entry for each rank, as soon as it is known: a sweep that was interrupted goes on
            where it was, and one with further ranks up to the largest one finds those that it shares.
        progress: as in `fit`; an exception that it raises ends the sweep.

    Raises:
        ValueError: ranks that are not ascending whole numbers, or above min(in, out) of all targets, and all
            that `finetune` refuses.
    """
    ranks = tuple(ranks)
    whole = all(isinstance(rank, int | np.integer) and rank > 0 for rank in ranks)
    if not ranks or not whole or list(ranks) != sorted(set(ranks)):
        raise ValueError(f"ranks: got {ranks}, needs ascending whole numbers from 1 on, such as (1, 2, 4)")
    limit = max(min(leaf.shape) for leaf in matrices(network, targets).values())
    if ranks[-1] > limit:
        raise ValueError(
            f"ranks: got {ranks[-1]}, needs at most {limit}, the largest min(in, out) of a target"
        )
    points = [capped(network, LoRA(int(rank), scale, targets)) for rank in ranks]
    job = _job(network, task, points[-1], seeds, learning_rates, settings, dtype)
    return RankSweep("rank", ranks, job.seeds, nested(job, "rank", ranks, points, at_once, cache, progress))


def layer_sweep(
    network: Network,
    task: Task,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    learning_rates: Sequence[float] = (1e-3, 3e-3, 1e-2),
    settings: Settings = SETTINGS,
    dtype: DTypeLike = "float32",
    at_once: int | None = None,
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Sweep:
    """Trains the last k linear layers or blocks, for k = 1 up to the whole network.

    In a transformer the last value, one more than there are blocks, adds the embedding and the positions.

    Args:
        network: the base network, one of ours.
        task: trains on `task.new`.
        seeds: as `rank_sweep` has it, like all that follow.
        learning_rates: what to choose from.
        settings: of the training.
        dtype: what training computes in.
        at_once: how many points are trained together.
        cache: keeps an entry for each point.
        progress: as in `fit`.

    Raises:
        ValueError: a network whose layers are not known, and all that `finetune` refuses.
    """
    match network.architecture:
        case MLPConfig(layers=count):
            top = [TopLayers(k) for k in range(1, count)]
        case TransformerConfig(depth=count):
            top = [TopLayers(k) for k in range(1, count + 1)]
        case _:
            TopLayers().reparameterize(network)  # says what is missing
    points = [*top, Full()]
    values = tuple(range(1, len(points) + 1))
    job = _job(network, task, points[-1], seeds, learning_rates, settings, dtype)
    return Sweep("top layers", values, job.seeds, nested(job, "k", values, points, at_once, cache, progress))


def method_sweep(
    network: Network,
    task: Task,
    methods: Mapping[str, Method],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    learning_rates: Callable[[Method], Sequence[float]] | Sequence[float] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    settings: Settings = SETTINGS,
    dtype: DTypeLike = "float32",
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Sweep:
    """Fine-tunes with several methods, such as those of `methods_of_rank`, each by a program of its own.

    Args:
        network: the base network.
        task: trains on `task.new`.
        methods: by the names that become the values of the sweep.
        seeds: S seeds.
        learning_rates: what to choose from, or a function that says so for a method.
        settings: of the training.
        dtype: what training computes in.
        cache: as `finetune` has it.
        progress: as in `fit`.

    Raises:
        ValueError: no method at all, and all that `finetune` refuses.
    """
    if not methods:
        raise ValueError("methods: got none, needs at least one, such as methods_of_rank(network, 4)")
    rows = []
    for method in methods.values():
        rates = learning_rates(method) if callable(learning_rates) else learning_rates
        job = _job(network, task, method, seeds, rates, settings, dtype)
        rows.append(tuple(job.finetunings(cache, progress)))
    return Sweep("method", tuple(methods), job.seeds, tuple(rows))


def _job(
    network: Network,
    task: Task,
    method: Method,
    seeds: Sequence[int],
    rates: Sequence[float],
    settings: Settings,
    dtype: DTypeLike,
) -> Job:
    return Job(
        network=network.astype("float64"),
        task=task,
        method=method,
        seeds=check_seeds(seeds),
        learning_rates=check_rates(rates),
        settings=settings,
        dtype=tree.check_dtype(dtype).name,
        polish_to=None,
    )
