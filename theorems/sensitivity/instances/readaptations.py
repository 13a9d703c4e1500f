r"""What re-training on networks left, along t or at one t, with the attributes that the claims ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ...pasteable import Pasteable
from ..fact import Fact
from ..readaptation.own_optima import OwnReadaptation
from ..readaptation.results import Readaptation

Each = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False, repr=False)
class Readapted(Pasteable):
    """One method under n disturbances: gaps that re-training left, continued to t → 0, and predicted ones.

    Attributes:
        found: by disturbance.
        definiteness: of the whole Hessian.
        stationarity: of θ*.
        note: a sentence for the record.
    """

    found: tuple[Readaptation, ...]
    definiteness: Fact
    stationarity: Fact
    note: str = ""
    kind = "network re-trained along t"
    operations = 8

    @property
    def limit(self) -> Each:
        """What gap / t² tends to."""
        return np.array([one.limit[0] for one in self.found])

    @property
    def predicted(self) -> Each:
        """½‖(I − Q)H^(−1/2)u‖²."""
        return np.array([one.predicted for one in self.found])

    @property
    def error(self) -> Each:
        """Of both."""
        return np.array([one.limit[1] + one.error for one in self.found])

    @property
    def printed(self) -> Each:
        """(53) less (47) at a stationary point, types repaired."""
        return np.array([one.forms.printed for one in self.found])

    @property
    def scale(self) -> Each:
        """The size of what is compared: an error as large as that tells nothing."""
        return self.predicted

    @property
    def statistics(self) -> dict[str, float]:
        """The order of convergence, and where the model is off by 10 %: the least over the disturbances."""
        orders = [one.order for one in self.found if np.isfinite(one.order)]
        valid = [one.valid_until for one in self.found if np.isfinite(one.valid_until)]
        return {"order": min(orders, default=np.nan), "within 10 % up to t": min(valid, default=np.nan)}

    @property
    def optimum(self) -> Each:
        """The re-trained objective on D′ alone, less that at θ*: full fine-tuning."""
        return np.array([one.full.change[-1] for one in self.found])

    @property
    def reached(self) -> Each:
        """The same of the method."""
        return np.array([one.peft.change[-1] for one in self.found])

    @property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """A row for each disturbance: what the tables show."""
        return tuple(_row(one) for one in self.found)


_SHOWN = (1e-4, 1.0)


def _row(one: Readaptation) -> dict[str, Any]:
    ends = [int(np.argmin(np.abs(np.log(one.t / t)))) for t in _SHOWN]
    gaps = {}
    for name, at in zip(("small", "large"), ends, strict=True):
        t = float(one.t[at])
        gaps |= {f"t {name}": t, f"predicted {name}": t**2 * one.predicted, f"gap {name}": float(one.gap[at])}
    return {
        "disturbance": one.disturbance,
        **gaps,
        "order": one.order,
        "within 10 % up to": one.valid_until,
        "(58) reversed": one.forms.reversal,
        "damage flips at": one.flips_at,
    }


@dataclass(frozen=True, eq=False, repr=False)
class Ended(Readapted):
    """The same, asked for what holds on D′ alone, t = 1: errors are those of the minima."""

    kind = "network re-trained on D′"

    @property
    def error(self) -> Each:
        """How far either minimum may still be lower."""
        return np.array([one.noise[-1] for one in self.found])

    @property
    def scale(self) -> Each:
        """What rounding is relative to."""
        return np.array([one.full.base[-1] for one in self.found])


@dataclass(frozen=True, eq=False, repr=False)
class Damaged(Readapted):
    """The same, asked for what re-training did to the undisturbed loss, at a t where the model is right."""

    kind = "network re-trained for a small t"

    @property
    def _at(self) -> list[int]:
        """The largest t below the end of the range of the model, or the smallest t."""
        return [max(int(np.sum(one.t <= one.valid_until)) - 1, 0) for one in self.found]

    def _each(self, name: str, which: str) -> Each:
        return np.array(
            [getattr(getattr(one, which), name)[at] for one, at in zip(self.found, self._at, strict=True)]
        )

    @property
    def damage_full(self) -> Each:
        """The rise of the undisturbed objective, full fine-tuning."""
        return self._each("clean", "full")

    @property
    def damage_peft(self) -> Each:
        """The same of the method."""
        return self._each("clean", "peft")

    @property
    def disturbance_full(self) -> Each:
        """What rounding is relative to."""
        return self._each("base", "full")

    @property
    def error(self) -> Each:
        """How far the rises may be off: to first order by the tilt along what the minima missed."""
        quadratic = [one.full.quadratic for one in self.found]
        missed = self._each("decrement", "full") + self._each("decrement", "peft")
        t = np.array([one.t[at] for one, at in zip(self.found, self._at, strict=True)])
        return missed + 2 * t * np.sqrt(np.array(quadratic) * missed) + self._each("rounding", "full")

    @property
    def semidefiniteness(self) -> Fact:
        """Of the whole Hessian."""
        return self.definiteness

    @property
    def disturbance_range(self) -> Fact:
        """Every ε is in the range of a definite matrix."""
        return self.definiteness


@dataclass(frozen=True, eq=False, repr=False)
class OwnReadapted(Pasteable):
    """One method under n disturbances, from its own optimum.

    Attributes:
        found: by disturbance.
        definiteness: of H_Φ on what was not cut.
        stationarity: of Φ*.
        note: a sentence for the record.
    """

    found: tuple[OwnReadaptation, ...]
    definiteness: Fact
    stationarity: Fact
    note: str = ""
    kind = "network re-trained from its own optimum"
    operations = 8

    @property
    def limit(self) -> Each:
        """What −change / t² tends to."""
        return np.array([one.limit[0] for one in self.found])

    @property
    def predicted(self) -> Each:
        """½ũᵀH_Φ⁺ũ with ũ = Dgᵀu."""
        return np.array([one.own.quadratic for one in self.found])

    @property
    def printed(self) -> Each:
        """The same with (50)."""
        return np.array([one.printed for one in self.found])

    @property
    def error(self) -> Each:
        """Of the limit."""
        return np.array([one.limit[1] for one in self.found])

    @property
    def scale(self) -> Each:
        """What rounding is relative to."""
        return self.predicted

    @property
    def statistics(self) -> dict[str, float]:
        """How far (50) is off: the matrix, and the largest error of what it predicts."""
        off = np.abs(self.printed - self.predicted) / self.predicted
        return {"(50) off by": self.found[0].off, "prediction by (50) off by": float(off.max())}


@dataclass(frozen=True, eq=False, repr=False)
class Rises(Pasteable):
    """By how much the loss on D′, re-trained, exceeds that on D at the own optimum: n cases.

    Attributes:
        peft: of the method, shape (n,).
        full: of full fine-tuning, shape (n,).
        tolerance: below which a difference is a tie, shape (n,).
        note: a sentence for the record.
    """

    peft: np.ndarray
    full: np.ndarray
    tolerance: np.ndarray | float = 0.0
    note: str = ""
    kind = "rises over the own optimum"

    @classmethod
    def of(cls, found: tuple[OwnReadaptation, ...], note: str) -> Rises:
        """Of one method under several disturbances; ties by rounding and by what both minima may miss."""
        peft, full = np.array([one.rises for one in found]).T
        missed = [
            float(
                one.own.decrement[-1] + one.full.decrement[-1] + one.own.rounding[-1] + one.full.rounding[-1]
            )
            for one in found
        ]
        return cls(peft, full, np.array(missed), note)

    @property
    def smaller(self) -> int:
        """In how many cases the method rises less."""
        return int(np.sum(self.full - self.peft > self.tolerance))

    @property
    def larger(self) -> int:
        """In how many it rises more."""
        return int(np.sum(self.peft - self.full > self.tolerance))


@dataclass(frozen=True, eq=False, repr=False)
class Refused(Pasteable):
    """A network whose Hessian at rest is not definite: nothing is re-trained, and no number is a verdict.

    Attributes:
        definiteness: that it is not, with the interval of the offending eigenvalue.
        stationarity: whether it is at rest.
        note: a sentence for the record.
    """

    definiteness: Fact
    stationarity: Fact
    note: str = "the quadratic model has no minimum: nothing was re-trained"
    kind = "indefinite Hessian"
    limit = reached = damage_peft = 0.0
    predicted = np.inf
    optimum = damage_full = -np.inf
    disturbance_full = 0.0
    scale = 0.0
    rows = ()

    @property
    def semidefiniteness(self) -> Fact:
        """Not known either."""
        return self.definiteness

    @property
    def disturbance_range(self) -> Fact:
        """Without a definite matrix nothing is known."""
        return self.definiteness
