"""Learning curves of several methods on the same examples, and each of them beside full fine-tuning."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jax.typing import DTypeLike

from .cache import Cache
from .curves import RATES, SEEDS, SETTINGS, LearningCurve, learning_curve
from .fit import Progress
from .methods import Method
from .network import Network
from .tasks import Task
from .training import Settings


@dataclass(frozen=True, eq=False, repr=False)
class LearningCurves:
    """The learning curves of several methods on one network and task, paired by seed.

    Attributes:
        curves: by name of the method, all with the same sizes and seeds.
    """

    curves: Mapping[str, LearningCurve]

    def __getitem__(self, method: str) -> LearningCurve:
        """The curve of a method.

        Raises:
            ValueError: a method without a curve.
        """
        if method not in self.curves:
            raise ValueError(f"method: got {method!r}, needs one of {', '.join(self.curves)}")
        return self.curves[method]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The V sample sizes."""
        return next(iter(self.curves.values())).sizes

    @property
    def seeds(self) -> tuple[int, ...]:
        """The S seeds."""
        return next(iter(self.curves.values())).seeds

    @cached_property
    def pairs(self) -> tuple["LearningPair", ...]:
        """Each method beside full fine-tuning; none where that is not among them."""
        if "full" not in self.curves:
            return ()
        full = self.curves["full"]
        return tuple(LearningPair(full, one) for name, one in self.curves.items() if name != "full")

    @property
    def subjects(self) -> tuple["LearningCurve | LearningPair", ...]:
        """What claims are judged on: every curve, then every pair."""
        return (*self.curves.values(), *self.pairs)

    def __repr__(self) -> str:
        first = next(iter(self.curves.values()))
        return (
            f"LearningCurves({first.network.name}, {first.task.name}, {', '.join(self.curves)}, "
            f"N = {', '.join(map(str, self.sizes))}, {len(self.seeds)} seeds)"
        )


@dataclass(frozen=True, eq=False, repr=False)
class LearningPair:
    """The curve of a method beside that of full fine-tuning: the same examples at each seed.

    Attributes:
        full: of full fine-tuning.
        peft: of the method.

    Raises:
        ValueError: curves of other sizes, seeds, tasks, networks or examples than each other.
    """

    full: LearningCurve
    peft: LearningCurve
    along = "examples"

    def __post_init__(self) -> None:
        for name in ("sizes", "seeds"):
            if (got := getattr(self.peft, name)) != (wanted := getattr(self.full, name)):
                raise ValueError(f"peft: got {name} {got}, needs those of full, {wanted}, to be paired")
        for name in ("task", "network"):
            got, wanted = (getattr(one, name).name for one in (self.peft, self.full))
            if got != wanted:
                raise ValueError(f"peft: got the {name} {got}, needs that of full, {wanted}, to be paired")
        if not all(map(np.array_equal, self.peft.subsets, self.full.subsets)):
            raise ValueError("peft: got other examples than full at the same seeds, needs the same ones")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The V sample sizes."""
        return self.full.sizes

    @property
    def subject(self) -> dict[str, str | int | None]:
        """What a record on the pair says it speaks of: the method."""
        return self.peft.subject

    def __repr__(self) -> str:
        return f"LearningPair({self.full!r}, {self.peft!r})"


def learning_curves(
    network: Network,
    task: Task,
    methods: Sequence[Method],
    *,
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] = SEEDS,
    learning_rates: Callable[[Method], Sequence[float]] | Sequence[float] = RATES,
    settings: Settings = SETTINGS,
    dtype: DTypeLike = "float32",
    at_once: int | None = None,
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> LearningCurves:
    """The learning curves of several methods, each by a program of its own, on the same examples.

    Args:
        network: the base network.
        task: as `learning_curve` has it, like all that is not mentioned here.
        methods: at least one, with different names; "full" is what the others are compared with.
        sizes: V sample sizes.
        seeds: S seeds.
        learning_rates: what to choose from, or a function that says so for a method.
        settings: of the training.
        dtype: what training computes in.
        at_once: how many sizes are trained together.
        cache: keeps an entry for each method and size.
        progress: as in `fit`.

    Raises:
        ValueError: no method, two of one name, and all that `learning_curve` refuses.
    """
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"methods: got {', '.join(names) or 'none'}, needs one or more of different names")
    common = {
        "sizes": sizes,
        "seeds": seeds,
        "settings": settings,
        "dtype": dtype,
        "at_once": at_once,
        "cache": cache,
        "progress": progress,
    }
    return LearningCurves(
        {
            method.name: learning_curve(
                network,
                task,
                method,
                learning_rates=learning_rates(method) if callable(learning_rates) else learning_rates,
                **common,
            )
            for method in methods
        }
    )
