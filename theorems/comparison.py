"""Two sides, the relation between them, and what rounding or chance allows: the judge of one instance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from . import linalg


class Outcome(StrEnum):
    """What one instance says of a claim."""

    HOLDS = "HOLDS"
    FAILS = "FAILS"
    ASSUMPTION_VIOLATED = "ASSUMPTION_VIOLATED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_JUDGED = "NOT_JUDGED"


RELATIONS = ("<=", ">=", "<", ">", "==")
OPERATIONS = 8
ERRORS = 5
"""Standard errors that a mean over draws may be off: by chance once in 1.7 million times, for a known error.

Where it is estimated from a few seeds, whoever gives it has to enlarge it, as `error_of_mean` does."""
CHANCE = 1e-3
"""Probability, for normal differences, that means over seeds are told apart by chance."""


class MissingIngredient(ValueError):  # noqa: N818  (it is no failure of the library: it becomes NOT_JUDGED)
    """Raised by a comparison that cannot be made on an instance; its text names what is missing."""


def error_of_mean(values: Float[np.ndarray, " S"]) -> float:
    """Standard error of a mean over seeds, so large that `ERRORS` of them are Student's interval at `CHANCE`.

    From a few seeds the error itself is badly known: of five, a mean is off by five errors in 0.7 % of the
    cases, of three in 4 %.

    Raises:
        MissingIngredient: a single seed.
    """
    count = len(values)
    if count < 2:
        raise MissingIngredient("two seeds, for an error of their mean")
    wanted = float(stats.t.isf(CHANCE / 2, count - 1))
    return float(values.std(ddof=1) / math.sqrt(count)) * max(1.0, wanted / ERRORS)


@dataclass(frozen=True)
class Comparison:
    """Two sides and the relation that the claim says they have.

    Attributes:
        lhs: the measured side; a number, or an array when the claim speaks of many inputs at once.
        relation: one of <=, >=, <, >, ==.
        rhs: the side of the formula.
        scale: the largest magnitude that entered the difference (not the difference itself: where terms
            cancel, rounding is relative to what cancelled).  None takes max(|lhs|, |rhs|).
        operations: rounded operations on the longest path to either side; with `scale` and machine epsilon
            it makes the tolerance.
        extra: a further absolute error that is not rounding, such as that of a quadrature.
        standard_error: of lhs − rhs where a side is a mean over random draws; `ERRORS` of them are
            tolerated.
        rival: what a wrong formula says in place of rhs: where the tolerance cannot tell the two apart the
            outcome is INCONCLUSIVE, so that agreement means something.
        statistics: further numbers by name (estimates, ends of intervals, counts); shown, never judged.
    """

    lhs: Any
    relation: str
    rhs: Any
    scale: Any = None
    operations: int = OPERATIONS
    extra: Any = 0.0
    standard_error: Any = None
    rival: Any = None
    statistics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise ValueError(f"relation={self.relation!r} is unknown: use one of {', '.join(RELATIONS)}")
        if self.is_exact and np.any(np.asarray(self.extra) != 0):
            raise ValueError("extra: got an error beside two exact sides, which have none; leave it out")
        if self.rival is not None and self.relation != "==":
            raise ValueError(
                f"rival: got one beside {self.relation!r}, needs '=='; test the rival as a control"
            )

    @property
    def is_exact(self) -> bool:
        """Whether both sides are exact numbers (integers among them), so that no tolerance is due."""
        kinds = {np.asarray(side).dtype.kind for side in (self.lhs, self.rhs)}
        return self.standard_error is None and kinds <= set("Oiu")

    def worst(self) -> Verdict:
        """Judge every element and return the one that speaks loudest against the claim."""
        verdicts = self._exact() if self.is_exact else self._floating()
        order = (Outcome.FAILS, Outcome.NOT_JUDGED, Outcome.INCONCLUSIVE, Outcome.HOLDS)
        worst = min(verdicts, key=lambda v: (order.index(v.outcome), _loudness(v)))
        failing = sum(v.outcome is Outcome.FAILS for v in verdicts)
        return replace(worst, count=len(verdicts), failing=failing)

    def _margin(self, lhs: Any, rhs: Any) -> Any:
        if self.relation == "==":
            return -abs(lhs - rhs)
        return rhs - lhs if self.relation in ("<=", "<") else lhs - rhs

    def _exact(self) -> list[Verdict]:
        lhs, rhs = np.broadcast_arrays(_objects(self.lhs), _objects(self.rhs))
        verdicts = []
        for left, right in zip(lhs.ravel(), rhs.ravel(), strict=True):
            margin = self._margin(left, right)
            sign = linalg.sign(margin)
            holds = sign > 0 if self.relation in ("<", ">") else sign >= 0
            outcome = Outcome.HOLDS if holds else Outcome.FAILS
            verdicts.append(Verdict(left, right, margin, 0.0, outcome))
        return verdicts

    def _floating(self) -> list[Verdict]:
        lhs, rhs = (np.atleast_1d(np.asarray(side, dtype=np.float64)) for side in (self.lhs, self.rhs))
        scale = np.maximum(abs(lhs), abs(rhs)) if self.scale is None else np.asarray(self.scale, np.float64)
        tolerance = linalg.gamma(self.operations) * scale + np.asarray(self.extra, np.float64)
        if self.standard_error is not None:
            tolerance = tolerance + ERRORS * np.asarray(self.standard_error, np.float64)
        rival = np.asarray(np.inf if self.rival is None else self.rival, np.float64)
        columns = np.broadcast_arrays(lhs, rhs, scale, tolerance, rival)
        verdicts = []
        for left, right, size, slack, other in zip(*(a.ravel().tolist() for a in columns), strict=True):
            margin = self._margin(left, right)
            outcome = self._outcome(margin, slack, size)
            if outcome is Outcome.HOLDS and abs(right - other) <= 2 * slack:  # agrees with both: says nothing
                outcome = Outcome.INCONCLUSIVE
            verdicts.append(Verdict(left, right, margin, slack, outcome))
        return verdicts

    def _outcome(self, margin: float, tolerance: float, scale: float) -> Outcome:
        if np.isnan(margin) or not np.isfinite(tolerance):
            return Outcome.NOT_JUDGED
        if self.relation == "==":
            if margin < -tolerance:
                return Outcome.FAILS
            blind = tolerance > 0 and tolerance >= scale  # a tolerance as large as the numbers sees nothing
            return Outcome.INCONCLUSIVE if blind else Outcome.HOLDS
        if np.isinf(margin):  # an infinite bound is true, and says nothing
            return Outcome.INCONCLUSIVE if margin > 0 else Outcome.FAILS
        if margin < -tolerance:
            return Outcome.FAILS
        strict = self.relation in ("<", ">")
        clear = margin > tolerance or (tolerance == 0 and margin == 0 and not strict)
        return Outcome.HOLDS if clear else Outcome.INCONCLUSIVE


def _loudness(verdict: Verdict) -> Any:
    excess = verdict.margin - verdict.tolerance
    return -np.inf if verdict.outcome is Outcome.NOT_JUDGED else excess


@dataclass(frozen=True)
class Verdict:
    """The sides of a comparison at its worst element, and how many elements there were and failed."""

    lhs: Any
    rhs: Any
    margin: Any
    tolerance: float
    outcome: Outcome
    count: int = 1
    failing: int = 0


def _objects(value: Any) -> np.ndarray:
    """Exact numbers as an array of objects, integers as fractions."""
    array = np.atleast_1d(np.asarray(value, dtype=object))
    flat = [Fraction(v) if isinstance(v, int) else v for v in array.ravel()]
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    return out.reshape(array.shape)


def relation(lhs: Callable[[Any], Any], sign: str, rhs: Callable[[Any], Any]) -> Callable[[Any], Comparison]:
    """Compare two functions of an instance, such as ``lambda i: i.rank`` with ``lambda i: i.dimension``.

    The scale and the number of operations are those that the instance names.
    """
    return lambda i: Comparison(
        lhs(i), sign, rhs(i), getattr(i, "scale", None), getattr(i, "operations", OPERATIONS)
    )


def at_most(lhs: Any, bound: Any, *, scale: Any = None, operations: int = 8) -> Comparison:
    r"""$lhs \le bound$ for a bound that may be attained: rounded up, it is what is held to account.

    Without that, equality would be INCONCLUSIVE in floating point. Exact sides are compared as they are.
    """
    plain = Comparison(lhs, "<=", bound, scale, operations)
    if plain.is_exact:
        return plain
    size = np.maximum(np.abs(lhs), np.abs(bound)) if scale is None else scale
    return replace(plain, rhs=np.asarray(bound, np.float64) + 2 * linalg.gamma(operations) * np.asarray(size))
