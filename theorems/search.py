"""The search for a counterexample: Hypothesis draws instances, and shrinks the one that refutes.

`falsify(claim)` returns a `Finding`: the *minimal* failing instance with its margin, or how many instances of
which kinds were tried in vain.  The search is never given the known counterexample; it has the claim's
strategy, and nothing else.
"""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from .claims import Claim, Evidence, Outcome, Source

EXAMPLES = 300


@dataclass(frozen=True)
class Finding:
    """What a search came back with.

    Attributes:
        claim: the claim's id.
        evidence: of the minimal counterexample; of the closest call when there is none.
        instance: the minimal counterexample, or None.
        tried: how many instances of each kind were judged.
        unmet: how many of them say nothing: assumptions not met, or an ingredient missing.
    """

    claim: str
    evidence: Evidence
    instance: Any
    tried: dict[str, int] = field(default_factory=dict)
    unmet: int = 0

    @property
    def outcome(self) -> Outcome:
        """FAILS when one was found, NOT_JUDGED when nothing could be judged, INCONCLUSIVE on a near tie."""
        return self.evidence.outcome

    def snippet(self) -> str:
        """Python text that rebuilds the minimal counterexample."""
        return getattr(self.instance, "snippet", self.instance.__repr__)()

    def lines(self) -> list[str]:
        """Say what was found, as text for a terminal."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.tried.items())
        if self.instance is None:
            return [f"{self.claim}: no counterexample.", f"tried: {kinds}", self.evidence.note]
        e = self.evidence
        return [
            f"{self.claim} is refuted: {e.lhs} {e.relation} {e.rhs} is false, by {abs(float(e.margin)):.3g}.",
            "minimal instance:",
            *textwrap.wrap(self.snippet(), 79, initial_indent="    ", subsequent_indent=" " * 8),
            *textwrap.wrap(f"tried: {kinds} (shrinking included)", 79, subsequent_indent="    "),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the form that other programs may rely on."""
        e = self.evidence

        def number(value: Any) -> float | None:
            return None if value is None else float(value)

        return {
            "claim": self.claim,
            "outcome": str(e.outcome),
            "instance": None if self.instance is None else self.snippet(),
            "lhs": number(e.lhs),
            "relation": e.relation,
            "rhs": number(e.rhs),
            "margin": number(e.margin),
            "tried": self.tried,
        }

    @property
    def total(self) -> int:
        """How many instances were drawn."""
        return sum(self.tried.values())


def falsify(claim: Claim, *, examples: int = EXAMPLES, seed: int = 0) -> Finding:
    """Look for an instance that refutes a claim, and shrink it.

    Args:
        claim: any claim of the ledger with a strategy.
        examples: how many instances to draw at most before giving up.
        seed: the same seed draws the same instances.

    Returns:
        A `Finding`.

    Raises:
        ValueError: a claim that has nothing to search in, or examples below 1.
    """
    if claim.strategy is None or claim.compare is None:
        raise ValueError(
            f"{claim.id} is judged {claim.judgement} and has no search: "
            f"run 'peftproof explain {claim.id.rstrip('~')}' for what is known"
        )
    if examples < 1:
        raise ValueError(f"examples={examples} must be at least 1")
    start = time.perf_counter()
    tried: Counter[str] = Counter()
    unjudged: Counter[Outcome] = Counter()
    closest: list[Evidence] = []

    def refutes(instance: Any) -> bool:
        evidence = claim.judge(instance, Source.SEARCH)
        tried[getattr(instance, "kind", "") or type(instance).__name__] += 1
        if evidence.error:
            raise FloatingPointError(f"{claim.id}: {evidence.error}, on {instance!r}")
        if evidence.outcome in (Outcome.ASSUMPTION_VIOLATED, Outcome.NOT_JUDGED):
            unjudged[evidence.outcome] += 1
        elif not closest or _closeness(evidence) < _closeness(closest[0]):
            closest[:] = [evidence]
        return evidence.outcome is Outcome.FAILS

    strategies = claim.strategy()
    strategies = strategies if isinstance(strategies, tuple) else (strategies,)
    for strategy in strategies:
        budget = _settings(max(1, examples // len(strategies)))
        try:
            minimal = find(strategy, refutes, settings=budget, random=Random(seed))
        except NoSuchExample:
            continue
        evidence = replace(claim.judge(minimal, Source.SEARCH), seconds=time.perf_counter() - start)
        return Finding(claim.id, evidence, minimal, dict(tried), sum(unjudged.values()))
    found = _survived(claim, closest, dict(tried), sum(unjudged.values()))
    return replace(found, evidence=replace(found.evidence, seconds=time.perf_counter() - start))


def _survived(claim: Claim, closest: list[Evidence], tried: dict[str, int], unmet: int) -> Finding:
    """Report the closest call among the instances that were judged, with the count of all of them."""
    if not closest:
        note = (
            f"none of {sum(tried.values())} instances met the assumptions of {claim.id}: widen its strategy"
        )
        return Finding(
            claim.id, Evidence(claim.id, claim.theorem, Source.SEARCH, note=note), None, tried, unmet
        )
    best = closest[0]
    judged = sum(tried.values()) - unmet
    note = f"no counterexample among {judged} instances; the closest call is shown"
    evidence = replace(best, count=judged, note=note)
    return Finding(claim.id, evidence, None, tried, unmet)


def _closeness(evidence: Evidence) -> float:
    """Margin relative to the larger side: 0 is a tie, and 0 against 0 says nothing."""
    if evidence.outcome is Outcome.INCONCLUSIVE:  # must not hide behind a smaller margin that is clear
        return -1.0
    size = max(abs(float(evidence.lhs)), abs(float(evidence.rhs)))
    return float(evidence.margin) / size if size else float("inf")


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
