"""A claim, and what it means to judge it on an instance.

A claim is one statement: of the paper, or a repaired one.  It is judged on *instances*, which come from three
sources (a small exact one, a search, a fine-tuned network), and the same comparison runs on all of them.  The
result is `Evidence`: both sides, the margin between them, the tolerance that rounding allows, the hypotheses
as they were met on this very instance, and an outcome.  Five outcomes exist and they are never merged:

    HOLDS                the two sides are in the stated relation, by more than rounding; a bound in floating
                         point is itself rounded up, and it is the rounded number that is held to account
    FAILS                they are not, by more than rounding
    ASSUMPTION_VIOLATED  a hypothesis is not met on this instance, whatever the two sides do
    INCONCLUSIVE         the margin lies inside the tolerance
    NOT_JUDGED           an ingredient is missing, and the note names it
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hypothesis.strategies import SearchStrategy

from .comparison import RELATIONS, Comparison, MissingIngredient, Outcome, Verdict, at_most, relation

__all__ = [
    "RELATIONS",
    "Assumption",
    "AssumptionCheck",
    "Claim",
    "Comparison",
    "Control",
    "Evidence",
    "Judgement",
    "MissingIngredient",
    "Outcome",
    "Source",
    "Strategies",
    "Verdict",
    "at_most",
    "relation",
]


class Judgement(StrEnum):
    """What the ledger says of a claim, once and for all."""

    TRUE = "TRUE"
    CONDITIONAL = "CONDITIONAL"
    FALSE = "FALSE"
    ILL_POSED = "ILL_POSED"
    DEFINITION = "DEFINITION"
    EMPIRICAL = "EMPIRICAL"

    @property
    def refuted(self) -> bool:
        """Whether exact and search instances must show the claim failing."""
        return self in (Judgement.FALSE, Judgement.ILL_POSED)

    @property
    def stands(self) -> bool:
        """Whether no instance that meets the assumptions may show the claim failing."""
        return self in (Judgement.TRUE, Judgement.CONDITIONAL)


class Source(StrEnum):
    """Where an instance comes from."""

    EXACT = "exact"
    SEARCH = "search"
    OBSERVED = "observed"


Strategies = SearchStrategy | tuple[SearchStrategy, ...]


@dataclass(frozen=True)
class Assumption:
    """A hypothesis of a claim, checked on each instance: `check` returns whether it is met, and a value."""

    name: str
    check: Callable[[Any], tuple[bool, Any]]


@dataclass(frozen=True)
class AssumptionCheck:
    """How a hypothesis fared on one instance."""

    name: str
    met: bool
    value: Any


@dataclass(frozen=True)
class Control:
    """A deliberately broken variant of a claim that holds: the same machinery must reject it.

    Attributes:
        broken: what was removed or tightened, in words.
        compare: the comparison of the broken variant; None keeps the claim's own (a hypothesis was dropped).
        assumes: the hypotheses that are kept.
        exact: one exact instance on which the broken variant fails.
        strategy: where a search for a failure looks; None takes the claim's own.
    """

    broken: str
    exact: Callable[[], Any]
    compare: Callable[[Any], Comparison] | None = None
    assumes: tuple[Assumption, ...] = ()
    strategy: Callable[[], Strategies] | None = None


@dataclass(frozen=True, repr=False)
class Claim:
    r"""One statement, with everything that is needed to judge it.

    Attributes:
        id: `T2.6` is equation 6, under theorem 2; `T2.a` a claim made in words; `T2.R1` the first repair.
        theorem: the name of the module that owns it.
        statement: LaTeX, as printed for the paper's own.
        judgement: what the ledger says.
        reason: one line that says why.
        plain: the claim and its fate in plain words, for readers without the paper.
        equation: the equation's number in the paper, where there is one.
        compare: instance -> Comparison; None for rows that only define something.
        assumes: hypotheses checked on each instance.
        repaired_by: ids of the statements that take its place.
        exact: exact instances by label: the counterexample of a refuted claim, witnesses of one that holds.
        worked: the counterexample (or the witness) worked out in numbers, for people.
        strategy: where the search looks; several strategies are searched in order, small exact ones first.
        control: the negative control of a claim that holds.
        observe: FineTuning -> instances, for networks that were really trained.
        along: of a claim on many fine-tunings at once the axis, such as "rank": it observes sweeps along it.
        on_extensions: whether it speaks of methods without a map g as well.
        must_fail_on: subjects on which training itself must produce a counterexample.
        examples: instances per search where they are dear; None leaves it to the caller.
        detail: observed instance -> rows (layer, measured, bound, slack), for claims that go layer by layer.
    """

    id: str
    theorem: str
    statement: str
    judgement: Judgement
    reason: str
    plain: str = ""
    equation: str | None = None
    compare: Callable[[Any], Comparison] | None = None
    assumes: tuple[Assumption, ...] = ()
    repaired_by: tuple[str, ...] = ()
    exact: Callable[[], dict[str, Any]] | None = None
    worked: str = ""
    strategy: Callable[[], Strategies] | None = None
    control: Control | None = None
    observe: Callable[[Any], Iterable[Any]] | None = None
    along: str | None = None
    on_extensions: bool = False
    must_fail_on: Callable[[dict[str, Any]], bool] = field(default=lambda _subject: False)
    detail: Callable[[Any], tuple[dict[str, Any], ...]] | None = None
    examples: int | None = None

    def __post_init__(self) -> None:
        if self.judgement.refuted and (self.exact is None or self.compare is None):
            raise ValueError(
                f"{self.id} is judged {self.judgement} and needs `exact` (its counterexample) and `compare`"
            )
        if self.judgement.stands and self.control is None:
            raise ValueError(f"{self.id} is judged {self.judgement} and needs a negative `control`")
        instrument = (self.compare, self.observe, self.exact, self.control)
        if self.judgement is Judgement.EMPIRICAL and (None in instrument or self.strategy is not None):
            raise ValueError(
                f"{self.id} is EMPIRICAL and needs `compare`, `observe`, `exact` (planted cases that it must "
                "see), a `control` (a planted case that it must not see) and no `strategy`"
            )

    def judge(
        self, instance: Any, source: Source = Source.OBSERVED, subject: dict[str, Any] | None = None
    ) -> Evidence:
        """Compare both sides on one instance; a missing ingredient is NOT_JUDGED, a crash stays one."""
        start = time.perf_counter()
        if self.compare is None:
            raise ValueError(f"{self.id} is a {self.judgement} row and has nothing to compare")
        try:
            checks = tuple(AssumptionCheck(a.name, *a.check(instance)) for a in self.assumes)
            comparison = self.compare(instance)
            verdict = comparison.worst()
        except MissingIngredient as missing:
            seconds = time.perf_counter() - start
            return Evidence(self.id, self.theorem, source, subject, seconds=seconds, note=str(missing))
        met = all(check.met for check in checks)
        return Evidence(
            claim=self.id,
            theorem=self.theorem,
            source=source,
            subject=subject,
            lhs=verdict.lhs,
            relation=comparison.relation,
            rhs=verdict.rhs,
            margin=verdict.margin,
            tolerance=verdict.tolerance,
            assumptions=checks,
            outcome=verdict.outcome if met else Outcome.ASSUMPTION_VIOLATED,
            count=verdict.count,
            failing=verdict.failing,
            seconds=time.perf_counter() - start,
            note=getattr(instance, "note", ""),
            error="a side of the comparison is not a number" if verdict.outcome is Outcome.NOT_JUDGED else "",
            by_chance=comparison.standard_error is not None,
            statistics=comparison.statistics,
            layers=self.detail(instance) if self.detail is not None and source is Source.OBSERVED else (),
        )

    def __repr__(self) -> str:
        """Show the id, the judgement and the reason."""
        return f"Claim({self.id}, {self.judgement}: {self.reason})"

    def broken(self) -> Claim:
        """Return the negative control as a claim of its own, which must turn out to fail."""
        if self.control is None:
            raise ValueError(f"{self.id} has no negative control: it is judged {self.judgement}")
        return Claim(
            id=f"{self.id}~",
            theorem=self.theorem,
            statement=self.statement,
            judgement=Judgement.FALSE,
            reason=self.control.broken,
            compare=self.control.compare or self.compare,
            assumes=self.control.assumes,
            exact=lambda: {"control": self.control.exact()},
            strategy=self.control.strategy or self.strategy,
        )


@dataclass(frozen=True, repr=False)
class Evidence:
    """What one instance says of one claim.

    `count` inputs were looked at and `failing` of them fail; `error` names a crash, which is never a pass.
    `by_chance` says that the tolerance is one of random draws, `statistics` are shown and not judged.
    """

    claim: str
    theorem: str
    source: Source
    subject: dict[str, Any] | None = None
    lhs: Any = None
    relation: str | None = None
    rhs: Any = None
    margin: Any = None
    tolerance: float | None = None
    assumptions: tuple[AssumptionCheck, ...] = ()
    outcome: Outcome = Outcome.NOT_JUDGED
    count: int = 0
    failing: int = 0
    seconds: float = 0.0
    note: str = ""
    error: str = ""
    layers: tuple[dict[str, Any], ...] = ()
    by_chance: bool = False
    statistics: Mapping[str, float] = field(default_factory=dict)

    @property
    def slack(self) -> float | None:
        """How many times larger the bound is than what it bounds, rhs / lhs; None where lhs is 0."""
        if self.lhs is None or float(self.lhs) == 0 or self.relation not in ("<=", "<"):
            return None
        return float(self.rhs) / float(self.lhs)

    def __repr__(self) -> str:
        """Show the outcome with both sides, or what is missing."""
        if self.relation is None:
            return f"Evidence({self.claim}, {self.source}: {self.outcome}, {self.error or self.note})"
        sides = f"{float(self.lhs):.6g} {self.relation} {float(self.rhs):.6g}"
        counts = f"{self.failing} of {self.count} fail"
        return f"Evidence({self.claim}, {self.source}: {self.outcome}, {sides}, {counts})"
