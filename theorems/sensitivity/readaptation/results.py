r"""What re-training left to a method and not to full fine-tuning, along t, beside what was predicted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from ..fact import Fact
from ..reduction import Reduced
from .paths import Trace, at_zero

Steps = Float[np.ndarray, " T"]
_CLEAR = 10
WITHIN = 0.1
"""The model is called right where it is off by no more than this, relative to the prediction."""


@dataclass(frozen=True)
class Forms:
    r"""The quadratic forms of a disturbance ε at θ* of which (56) to (58) speak.

    Attributes:
        parallel_full: $\varepsilon_\parallel^TH^{-1}\varepsilon_\parallel$.
        parallel_restricted: $\varepsilon_\parallel^TP H_\Phi^{-1}P^T\varepsilon_\parallel$.
        mixed: $\varepsilon_\parallel^TH^{-1}\varepsilon_\perp$.
        orthogonal_full: $\varepsilon_\perp^TH^{-1}\varepsilon_\perp$.
    """

    parallel_full: float
    parallel_restricted: float
    mixed: float
    orthogonal_full: float

    @property
    def reversal(self) -> float:
        """How many times the right side of (58), which is printed as the smaller one, exceeds the left."""
        return self.parallel_full / self.parallel_restricted if self.parallel_restricted else math.inf

    @property
    def printed(self) -> float:
        """(57) at a stationary point."""
        return (self.parallel_restricted - self.parallel_full - self.orthogonal_full) / 2

    @property
    def repaired(self) -> float:
        """(57) as it should read."""
        return (self.parallel_full - self.parallel_restricted + self.orthogonal_full) / 2 + self.mixed


@dataclass(frozen=True, eq=False, repr=False)
class Readaptation:
    r"""One method under one disturbance, both from the same θ*.

    Attributes:
        method: its name.
        disturbance: its name.
        k: the number of parameters of the method.
        full: full fine-tuning along t.
        peft: the method along t.
        predicted: $\frac12\|(I-Q)H^{-1/2}u\|^2$ with $u = \nabla L_{D'} - \nabla L_D$: gap / t² for t → 0.
        error: of that, by rounding and to first order.
        start: ½∇FᵀH⁻¹∇F at θ*, which should be 0.
        forms: both sides of (56) to (58).
        reduced: the tilted quadratic as a small one; None where it was not asked for.
    """

    method: str
    disturbance: str
    k: int
    full: Trace
    peft: Trace
    predicted: float
    error: float
    start: float
    forms: Forms
    reduced: Reduced | None = field(default=None)

    @property
    def t(self) -> Steps:
        """The share of the disturbed data, ascending, shape (T,)."""
        return self.full.t

    @property
    def gap(self) -> Steps:
        """The re-trained min F_t over the method less that over all parameters, shape (T,)."""
        return self.peft.change - self.full.change

    @property
    def noise(self) -> Steps:
        """How far the gap may be off: rounding, both minima that may lie lower, and that θ* is not exact."""
        minima = self.full.decrement + self.peft.decrement
        crossed = 2 * self.t * np.sqrt(2 * self.start) * math.sqrt(2 * self.full.quadratic)
        return self.full.rounding + self.peft.rounding + minima + crossed

    @property
    def ratio(self) -> Steps:
        """Re-trained gap over predicted gap."""
        return self.gap / (self.t**2 * self.predicted)

    @property
    def seen(self) -> np.ndarray:
        """Where the error of the model is ten times larger than that of the gap, shape (T,)."""
        return np.abs(self.gap - self.t**2 * self.predicted) > _CLEAR * self.noise

    @property
    def orders(self) -> Float[np.ndarray, " T-1"]:
        """The slope of log |ratio − 1| against log t between neighbours; NaN where it is not seen."""
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.diff(np.log(np.abs(self.ratio - 1))) / np.diff(np.log(self.t))
        return np.where(self.seen[1:] & self.seen[:-1], slopes, np.nan)

    @property
    def order(self) -> float:
        """The first of them that is seen: with which power of t the prediction becomes right."""
        known = self.orders[np.isfinite(self.orders)]
        return float(known[0]) if known.size else math.nan

    @property
    def valid_until(self) -> float:
        """The largest t up to which the model is off by at most 10 %; 0 if it never is, NaN if no t tells.

        Between two t it is interpolated, log |ratio − 1| against log t.
        """
        off = np.abs(self.ratio - 1)
        known = [i for i in range(len(off)) if self.noise[i] < WITHIN * self.t[i] ** 2 * self.predicted]
        if not known:
            return math.nan
        outside = next((i for i in known if off[i] > WITHIN), None)
        if outside is None:
            return float(self.t[known[-1]])
        if outside == known[0]:
            return 0.0
        pair = [outside - 1, outside]
        return float(
            np.exp(np.interp(math.log(WITHIN), np.log(np.maximum(off[pair], 1e-300)), np.log(self.t[pair])))
        )

    @cached_property
    def limit(self) -> tuple[float, float]:
        """What gap / t² tends to for t → 0, from the re-trained gaps alone, and how far that may be off."""
        return at_zero(self.t, self.gap, self.noise)

    @property
    def flips_at(self) -> float:
        """The smallest t at which the method damages the undisturbed loss more than full does; ∞ if none."""
        order = self.peft.clean - self.full.clean
        over = order > self.full.rounding + self.peft.rounding
        return float(self.t[over][0]) if over.any() else math.inf

    def shown(self, t: float) -> int:
        """The place of a t.

        Raises:
            ValueError: not one of those at which there was re-training.
        """
        places = np.flatnonzero(np.isclose(self.t, t))
        if not places.size:
            raise ValueError(f"t: got {t}, needs one of {', '.join(f'{one:g}' for one in self.t)}")
        return int(places[0])

    @property
    def records(self) -> list[dict[str, Any]]:
        """A flat record for each t."""
        found, error = self.limit
        common = {
            "method": self.method,
            "disturbance": self.disturbance,
            "k": self.k,
            "predicted_per_t2": self.predicted,
            "limit_per_t2": found,
            "limit_error": error,
            "order": self.order,
            "valid_until": self.valid_until,
        }
        columns = {
            "t": self.t,
            "predicted_gap": self.t**2 * self.predicted,
            "gap": self.gap,
            "noise": self.noise,
            "ratio": self.ratio,
            "full_change": self.full.change,
            "peft_change": self.peft.change,
            "full_decrement": self.full.decrement,
            "peft_decrement": self.peft.decrement,
            "full_damage": self.full.clean,
            "peft_damage": self.peft.clean,
            "start_objective": self.full.base,
        }
        return [
            common | {name: float(column[i]) for name, column in columns.items()} for i in range(len(self.t))
        ]

    def __repr__(self) -> str:
        """Show prediction, limit and range."""
        found, error = self.limit
        return (
            f"Readaptation({self.method!r}, {self.disturbance!r}: predicted {self.predicted:.6g} t², "
            f"re-trained {found:.6g} ± {error:.1g} for t → 0, order {self.order:.2f}, within 10 % up to "
            f"t = {self.valid_until:.2g})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Readaptations:
    """All methods under all disturbances, from one stationary point.

    Attributes:
        network: its name.
        d: the number of parameters.
        ridge: λ.
        definiteness: whether the Hessian at θ* is definite, and the interval of its least eigenvalue.
        stationarity: whether θ* is stationary up to rounding.
        found: a `Readaptation` for each method and disturbance.
    """

    network: str
    d: int
    ridge: float
    definiteness: Fact
    stationarity: Fact
    found: tuple[Readaptation, ...]

    def __getitem__(self, names: tuple[str, str]) -> Readaptation:
        """The one of a method and a disturbance, by their names."""
        for one in self.found:
            if (one.method, one.disturbance) == names:
                return one
        known = sorted({one.method for one in self.found}), sorted({one.disturbance for one in self.found})
        raise ValueError(f"names: got {names}, needs a method of {known[0]} and a disturbance of {known[1]}")

    def __iter__(self) -> Iterator[Readaptation]:
        """One after the other."""
        return iter(self.found)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.found)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Flat records, one for each method, disturbance and t."""
        return [record for one in self.found for record in one.records]

    def table(self, t: Sequence[float] = (1e-4, 1.0)) -> str:
        """Predicted and re-trained gaps at two t, as text of at most 79 columns."""
        return "\n".join(lines(self.found, t))

    def __repr__(self) -> str:
        """Show what was proved of θ*, and the table."""
        head = f"Readaptations({self.network!r}, d={self.d}, ridge={self.ridge:g}; {self.definiteness.shown})"
        return f"{head}\n{self.table()}" if self.found else head


def lines(found: Sequence[Readaptation], t: Sequence[float] = (1e-4, 1.0)) -> list[str]:
    """A line for each method and disturbance: gaps at two t, the order, and where the model is right."""
    if not found:
        return []
    ends = [one for one in t if np.any(np.isclose(found[0].t, one))] or list(found[0].t[[0, -1]])
    top = f"{'':<27}" + "".join(f"{f'gap at t = {one:g}':^18}" for one in ends)
    names = f"{'method':<11}{'disturbance':<16}"
    rows = [
        top.rstrip(),
        names + f"{'by model':>9}{'measured':>9}" * len(ends) + f"{'order':>6}{'10 % to':>9}",
    ]
    for one in found:
        cells = "".join(f"{value:>9.2g}" for t in ends for value in _pair(one, t))
        name = f"{one.method:<11}{one.disturbance.rsplit('-', 1)[0]:<16}"
        rows.append(f"{name}{cells}{one.order:>6.2f}{one.valid_until:>9.1g}")
    return rows


def _pair(one: Readaptation, t: float) -> tuple[float, float]:
    at = one.shown(t)
    return float(t**2 * one.predicted), float(one.gap[at])


def lowered(one: Readaptation, changes: dict[int, float]) -> Readaptation:
    """The same where full fine-tuning was found to come lower at some t."""
    change = one.full.change.copy()
    for at, value in changes.items():
        change[at] = min(change[at], value)
    return replace(one, full=replace(one.full, change=change))
