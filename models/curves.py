"""Learning curves: a method trained on N of the training examples, for every N of a grid and every seed.

The examples of a seed are nested, and the same for every method: those of a smaller N are among those of a
larger one, and each prefix has the classes in the proportions of the whole, to within one example. So curves
are paired by seed. Nothing here draws new data: what varies between seeds is which N of the training examples
are seen, the start of Φ and the mini-batches; at N = all of them only the latter two.

*Validation.* The learning rate of each point and the step at which each run stops are chosen on the
validation split of the task, which has the same size whatever N is. A run on twenty examples that is stopped
by two hundred others has been told more than twenty examples say, of every method alike. `patience=None`
stops no run; the learning rate is chosen in any case, unless only one is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from . import tree
from .cache import Cache, Json, digest
from .finetuning import FineTuning, Job
from .fit import Progress, fit_masked
from .inputs import check_rates, check_seeds
from .methods import Method
from .methods.staged import Staged
from .nested import Found, chunks
from .network import Network
from .sizes import checked_sizes, log_sizes, nested_order
from .tasks import Split, Splits, Task, checked_part
from .training import Settings

SETTINGS = Settings(steps=1000, batch_size=20, eval_every=100, patience=10)
"""Of a curve that is not told others: each run returns the best Φ of all evaluations on validation."""
RATES = (3e-3, 1e-2, 3e-2)
SEEDS = tuple(range(10))


@dataclass(frozen=True, eq=False, repr=False)
class LearningCurve:
    """One method, trained on N of the training examples: S seeds × V sizes.

    Losses and accuracies are those of f(x; θ₀ + g(Φ)) in float64. Each size has the learning rate that is
    best on validation in the mean over the seeds.

    Attributes:
        job: what was trained and how; its `seeds` are the S seeds.
        sizes: V sample sizes N, ascending.
        subsets: for each size the rows of the training examples of each seed, `(S, N)`.
        points: for each size the Φ of all seeds by name of its leaves, and facts of each seed.
    """

    job: Job
    sizes: tuple[int, ...]
    subsets: tuple[Int[np.ndarray, "S N"], ...]
    points: tuple[Found, ...]
    along = "examples"

    @property
    def network(self) -> Network:
        """The base network."""
        return self.job.network

    @property
    def task(self) -> Task:
        """The task with all its training examples."""
        return self.job.task

    @property
    def method(self) -> Method:
        """The method."""
        return self.job.method

    @property
    def seeds(self) -> tuple[int, ...]:
        """The S seeds."""
        return self.job.seeds

    @property
    def d(self) -> int:
        """The number of parameters of the base network."""
        return self.network.d

    @cached_property
    def k(self) -> int:
        """The number of trained parameters."""
        return self.method.trainable(self.method.enlarge(self.network)).k

    def loss(self, part: str = "test") -> Float[np.ndarray, "S V"]:
        """Mean cross-entropy in nats; part "train" is the N examples that were seen."""
        return self._facts(f"{checked_part(part)}_loss")

    def accuracy(self, part: str = "test") -> Float[np.ndarray, "S V"]:
        """Share of the examples that are classified rightly."""
        return self._facts(f"{checked_part(part)}_accuracy")

    def base_loss(self, part: str = "test") -> float:
        """The loss of the base network, before any fine-tuning: what no example gives."""
        if checked_part(part) == "train":
            raise ValueError("part: got 'train', of which there is one for each size; needs another split")
        return float(self.points[0][1]["runs"][0][f"zero_shot_{part}_loss"])

    @property
    def chosen_rates(self) -> tuple[float, ...]:
        """The learning rate that each size chose."""
        return tuple(float(facts["runs"][0]["learning_rate"]) for _, facts in self.points)

    @property
    def steps(self) -> Int[np.ndarray, "S V"]:
        """The step that each run returns; 0 is the base network."""
        return self._facts("step").astype(int)

    @property
    def seconds(self) -> float:
        """Wall clock of all training, compilation included, as it was when it was done."""
        # The sizes that were trained together share their clock: they carry the same number.
        return sum({facts["runs"][0]["seconds"] for _, facts in self.points})

    @property
    def subject(self) -> dict[str, str | int | None]:
        """What a record on the curve says it speaks of."""
        return {
            "network": self.network.name,
            "task": self.task.name,
            "method": self.method.name,
            "seed": None,
            "along": self.along,
            "seeds": len(self.seeds),
        }

    def tuning(self, size: int, seed: int) -> FineTuning:
        """The network fine-tuned on N examples; the training split of its task is these.

        Raises:
            ValueError: a size or a seed that is not part of the curve.
        """
        for argument, one, known in (("size", size, self.sizes), ("seed", seed, self.seeds)):
            if one not in known:
                raise ValueError(f"{argument}: got {one!r}, needs one of {', '.join(map(str, known))}")
        at, row = self.sizes.index(size), self.seeds.index(seed)
        (phi, facts), new = self.points[at], self.task.new
        rows = self.subsets[at][row]
        splits = Splits(Split(new.train.x[rows], new.train.y[rows]), new.validation, new.test)
        part = replace(self.task, new=splits, name=f"{self.task.name}[{size}]")
        job = replace(self.job, task=part, seeds=(seed,))
        one = {name: leaf[row : row + 1] for name, leaf in phi.items()}
        return job.results(one, {"runs": facts["runs"][row : row + 1]})[0]

    def _facts(self, name: str) -> Float[np.ndarray, "S V"]:
        return np.array([[run[name] for run in facts["runs"]] for _, facts in self.points], float).T

    def __repr__(self) -> str:
        loss = self.loss().mean(axis=0)
        points = ", ".join(f"{size}: {mean:.3g}" for size, mean in zip(self.sizes, loss, strict=True))
        name = f"{self.network.name} {self.method.name}"
        return f"LearningCurve({name}, {len(self.seeds)} seeds, test_loss={{{points}}})"


def learning_curve(
    network: Network,
    task: Task,
    method: Method,
    *,
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] = SEEDS,
    learning_rates: Sequence[float] = RATES,
    settings: Settings = SETTINGS,
    dtype: DTypeLike = "float32",
    at_once: int | None = None,
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> LearningCurve:
    """Fine-tunes on N examples for every N and seed, in one compiled program: sizes enter as data.

    A point is what `fit` gives on its examples, with mini-batches of at most N.

    Args:
        network: the base network.
        task: trains on parts of `task.new.train`, and chooses learning rates and when to stop on the whole of
            `task.new.validation` (see the module).
        method: any but those in two stages.
        sizes: V sample sizes, ascending; by default `log_sizes(task)`.
        seeds: S seeds. For an error of the mean it takes two, for intervals by resampling ten.
        learning_rates: what each size chooses from.
        settings: of the training; the number of steps is the same for all sizes.
        dtype: what training computes in.
        at_once: how many sizes are trained together. By default one on a CPU, where more of them are not
            faster, and all of them elsewhere. It changes results by rounding only.
        cache: keeps an entry for each size, as soon as it is known: a curve that was interrupted goes on
            where it was, and one with further sizes finds those that it shares.
        progress: as in `fit`; an exception that it raises ends the curve.

    Raises:
        ValueError: sizes that are not ascending whole numbers from the number of classes up to that of the
            examples, a method in two stages, `at_once` out of range, and all that `finetune` refuses.
    """
    sizes = checked_sizes(task, log_sizes(task) if sizes is None else sizes)
    if at_once is not None and not (isinstance(at_once, int) and at_once > 0):
        raise ValueError(f"at_once: got {at_once!r}, needs a positive whole number or None")
    if isinstance(method, Staged):
        raise ValueError(
            f"method: {method.name!r} trains in two stages, needs one of a single stage: the second would "
            "be another program for every size and seed"
        )
    method.check(network)
    job = Job(
        network=network.astype("float64"),
        task=task,
        method=method,
        seeds=check_seeds(seeds),
        learning_rates=check_rates(learning_rates),
        settings=settings,
        dtype=tree.check_dtype(dtype).name,
        polish_to=None,
    )
    order = np.stack([nested_order(task.new.train.y, seed) for seed in job.seeds])
    subsets = tuple(order[:, :size] for size in sizes)
    return LearningCurve(job, sizes, subsets, _points(job, sizes, subsets, at_once, cache, progress))


def _points(
    job: Job,
    sizes: tuple[int, ...],
    subsets: tuple[Int[np.ndarray, "S N"], ...],
    at_once: int | None,
    cache: Cache | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[Found, ...]:
    """What the cache has, and for the rest one program, called for as many sizes at once as was asked for."""
    found: dict[int, Found] = {}
    keys = _keys(job, subsets) if cache is not None else []
    for index, key in enumerate(keys):
        if (entry := cache.get(key)) is not None:
            found[index] = entry
    network = job.network.astype(job.dtype)
    for chunk in chunks([index for index in range(len(sizes)) if index not in found], at_once):
        label = (
            f"{network.name} {job.method.name} N = {', '.join(str(sizes[i]) for i in dict.fromkeys(chunk))}"
        )
        fits = fit_masked(
            network,
            job.task.new,
            job.method,
            (None,),
            job.seeds,
            job.learning_rates,
            job.settings,
            progress,
            label,
            [subsets[index] for index in chunk],
        )
        for index, one in dict(zip(chunk, fits, strict=True)).items():
            found[index] = job.summary(one, subsets[index])
            if cache is not None:
                cache.put(keys[index], *found[index])
    return tuple(found[index] for index in range(len(sizes)))


def _keys(job: Job, subsets: Sequence[Int[np.ndarray, "S N"]]) -> list[Json]:
    whole = job.key()
    return [whole | {"kind": "learning curve", "examples": digest(rows)} for rows in subsets]
