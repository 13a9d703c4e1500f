"""Pairs of frozen networks on disturbed data, measured ones and planted ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...claims import MissingIngredient
from ...comparison import ERRORS
from ...pasteable import Pasteable
from ..frozen import Excess, Frozen, Robustness
from ..spread import Spread, beside, spread

_NORMAL_95 = 1.959963984540054  # quantile of the normal distribution: the intervals shown cover 95 %


@dataclass(frozen=True, eq=False, repr=False)
class FrozenPair(Pasteable):
    """What a method and full fine-tuning lose, in loss and in accuracy, averaged over disturbances.

    Attributes:
        robustness: both, measured.
    """

    robustness: Robustness
    note: str = ""
    kind = "frozen networks"

    @property
    def losing(self) -> np.ndarray:
        """Of the method: the increase of the loss in nats, and the fall of the accuracy."""
        return _lost(self.robustness.peft)

    @property
    def losing_full(self) -> np.ndarray:
        """Of full fine-tuning."""
        return _lost(self.robustness.full)

    @property
    def standard_error(self) -> np.ndarray:
        """Of the two differences, which are paired."""
        return np.concatenate([self.robustness.mean_loss.error, self.robustness.mean_accuracy.error])

    @property
    def statistics(self) -> dict[str, float]:
        """How often the method loses clearly more or less, and by how much in the mean over disturbances."""
        one = self.robustness
        shown = {"disturbances": float(len(one.names))}
        for name, excess, mean in (
            ("loss", one.loss, one.mean_loss),
            ("accuracy", one.accuracy, one.mean_accuracy),
        ):
            more, less = clear(excess)
            value, error = mean.value[0], _NORMAL_95 * mean.error[0]
            shown |= {
                f"more {name} lost": more,
                f"less {name} lost": less,
                f"excess {name}": value,
                f"excess {name} low": value - error,
                f"excess {name} high": value + error,
            }
        return {name: float(value) for name, value in shown.items()}

    def rows(self) -> tuple[dict[str, Any], ...]:
        """What there is to read of each disturbance."""
        return self.robustness.records()


@dataclass(frozen=True, eq=False, repr=False)
class Steepness(Pasteable):
    """The same pair in another order: first the network whose Δθ has the smaller spread, then the other.

    Attributes:
        pair: of the two networks.
        update: Δθ of the method.
        full: Δθ of full fine-tuning.
    """

    pair: FrozenPair
    update: Any
    full: Any
    note: str = ""
    kind = "increments of frozen networks"

    @cached_property
    def spreads(self) -> tuple[Spread, Spread]:
        """Of all entries of both updates, zeros included."""
        return spread(self.update, name="method"), spread(self.full, name="full")

    @property
    def method_is_steeper(self) -> bool:
        """Whether its spread is the smaller one.

        Raises:
            MissingIngredient: the spreads are equal, or full fine-tuning moved nothing.
        """
        ours, full = (one.sd for one in self.spreads)
        if full in (0, ours):
            raise MissingIngredient("two updates of different spread, that of full fine-tuning not zero")
        return ours < full

    @property
    def losing(self) -> np.ndarray:
        """Of the network with the steeper increments."""
        return self.pair.losing if self.method_is_steeper else self.pair.losing_full

    @property
    def losing_flat(self) -> np.ndarray:
        """Of the other one."""
        return self.pair.losing_full if self.method_is_steeper else self.pair.losing

    @property
    def standard_error(self) -> np.ndarray:
        """Of the differences."""
        return self.pair.standard_error

    @property
    def statistics(self) -> dict[str, float]:
        """The spreads, method over full, and how often the steeper one loses clearly more or less."""
        ours, full = self.spreads
        sign = 1 if self.method_is_steeper else -1
        moved = 0.0  # where the method moved nothing
        if ours.zeros < ours.count:
            moved = beside({"method": self.update, "full": self.full}, entries="moved")["method"]
        shown = {
            "spread ratio": ours.sd / full.sd,
            "spread ratio of moved entries": moved,
            "excess kurtosis": ours.kurtosis,
            "excess kurtosis of full": full.kurtosis,
            "disturbances": len(self.pair.robustness.names),
        }
        for name in ("loss", "accuracy"):
            more, less = clear(getattr(self.pair.robustness, name))[::sign]
            mean = getattr(self.pair.robustness, f"mean_{name}")
            shown |= {
                f"steeper loses more {name}": more,
                f"steeper loses less {name}": less,
                f"excess {name} of the steeper": sign * mean.value[0],
                f"standard error of excess {name}": mean.error[0],
            }
        return {name: float(value) for name, value in shown.items()}


def clear(excess: Excess) -> tuple[int, int]:
    """For how many disturbances the method loses more, and less, by over `ERRORS` standard errors."""
    size = ERRORS * excess.error
    return int((excess.value > size).sum()), int((excess.value < -size).sum())


def _lost(one: Frozen) -> np.ndarray:
    return np.array([one.increase.mean(), one.drop.mean()])


def planted(peft: tuple[float, ...], full: tuple[float, ...]) -> FrozenPair:
    """A pair with known margins: on D the first of each, then one for each disturbance.

    There are two classes.  The margin of each of 2000 examples is Gaussian around these numbers with standard
    deviation 1, the same draw throughout, and the loss is log(1 + exp(−margin)).
    """
    rng = np.random.default_rng(0)
    return FrozenPair(Robustness("planted", _planted(peft, rng), _planted(full, rng)))


def _planted(levels: tuple[float, ...], rng: np.random.Generator) -> Frozen:
    margins = np.array(levels)[:, None] + rng.normal(size=2000)
    loss, right = np.logaddexp(0, -margins), margins > 0
    names = tuple(f"disturbance {v}" for v in range(1, len(levels)))
    rows = np.broadcast_to(np.arange(margins.shape[1]), loss[1:].shape)
    return Frozen(names, loss[0], right[0], loss[1:], right[1:], rows)


def steep(pair: FrozenPair, ratio: float) -> Steepness:
    """A pair with updates of a known ratio of spreads, method over full."""
    update = np.random.default_rng(1).normal(size=1000)
    return Steepness(pair, ratio * update, update)
