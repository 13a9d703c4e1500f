"""The main job: judge claims on exact instances, by search, and on networks that were really trained."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from .claims import Claim, Evidence, Judgement, MissingIngredient, Outcome, Source
from .search import EXAMPLES, falsify

if TYPE_CHECKING:
    from ..models.finetuning import FineTuning

    class Sweep(Protocol):
        """Many fine-tunings along one axis, observed as one."""

        along: str
        subject: dict[str, Any]


QUICK = 30  # instances per claim that holds; a refuted claim stops at its first counterexample anyway
THOROUGH = 1000
_LOUDEST = (
    Outcome.FAILS,
    Outcome.NOT_JUDGED,
    Outcome.INCONCLUSIVE,
    Outcome.HOLDS,
    Outcome.ASSUMPTION_VIOLATED,
)


def exact_evidence(claim: Claim) -> Iterator[Evidence]:
    """Judge a claim on each of its exact instances."""
    for label, instance in (claim.exact() if claim.exact else {}).items():
        yield replace(_guarded(claim, lambda i=instance: claim.judge(i, Source.EXACT)), note=label)


def control_evidence(claim: Claim) -> Evidence | None:
    """Judge the deliberately broken variant of a claim on its exact instance, where it must fail."""
    if claim.control is None:
        return None
    broken = claim.broken()
    instance = claim.control.exact()
    return replace(_guarded(broken, lambda: broken.judge(instance, Source.EXACT)), note=claim.control.broken)


def search_evidence(claim: Claim, *, examples: int | None = None, seed: int = 0) -> Evidence | None:
    """Search for a counterexample; None for rows that have nothing to search in."""
    if claim.strategy is None or claim.compare is None:
        return None
    budget = examples or claim.examples or (EXAMPLES if claim.judgement.refuted else QUICK)

    def run() -> Evidence:
        finding = falsify(claim, examples=budget, seed=seed)
        if finding.instance is None:
            return finding.evidence
        return replace(finding.evidence, note=f"minimal instance: {finding.instance!r}")

    return _guarded(claim, run, Source.SEARCH)


def observed_evidence(claim: Claim, tuning: FineTuning | Sweep) -> Evidence | None:
    """Judge a claim on a fine-tuned network, or on a sweep: its loudest instance, with counts over all.

    None where the claim has nothing to say: no trained instances at all, a map g that the method lacks, or
    another axis than that of the sweep.
    """
    if claim.observe is None or claim.compare is None or claim.along != getattr(tuning, "along", None):
        return None
    if not (claim.along or tuning.weight_space or claim.on_extensions):
        return None
    subject = subject_of(tuning)

    def run() -> Evidence | None:
        start = time.perf_counter()  # making the instances is most of the work
        try:
            found = [claim.judge(instance, Source.OBSERVED, subject) for instance in claim.observe(tuning)]
        except MissingIngredient as missing:
            return Evidence(claim.id, claim.theorem, Source.OBSERVED, subject, note=str(missing))
        return replace(_loudest(found), seconds=time.perf_counter() - start) if found else None

    return _guarded(claim, run, Source.OBSERVED, subject)


def subject_of(tuning: FineTuning | Sweep) -> dict[str, Any]:
    """What a record says it speaks of; a sweep says so itself."""
    if getattr(tuning, "along", None) is not None:
        return tuning.subject
    return {
        "network": tuning.network.name,
        "task": tuning.task.name,
        "method": tuning.method.name,
        "seed": int(tuning.seed),
    }


def _loudest(found: Iterable[Evidence]) -> Evidence:
    found = list(found)
    worst = min(
        found, key=lambda e: (_LOUDEST.index(e.outcome), float("inf") if e.margin is None else e.margin)
    )
    return replace(
        worst,
        count=sum(e.count for e in found),
        failing=sum(e.failing for e in found),
    )


def _guarded(
    claim: Claim, run: Callable[[], Any], source: Source = Source.EXACT, subject: dict[str, Any] | None = None
) -> Any:
    """Turn a crash into evidence that says so: it is never a pass, and it does not take the rest down."""
    try:
        return run()
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"crashed with {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        return Evidence(claim.id, claim.theorem, source, subject, error=text)


def complaint(claim: Claim, evidence: Evidence) -> str:
    """Say what is wrong with a piece of evidence, given what the ledger says; nothing if nothing is.

    A refuted claim must fail on its exact instances and in the search; training need not refute it, except on
    the subjects the claim names.  A claim that stands must hold wherever its assumptions are met.  Of an
    empirical one only the instrument is judged: it must see what was planted.
    """
    outcome, judgement = evidence.outcome, claim.judgement
    if evidence.error:
        return evidence.error
    if judgement.stands and outcome is Outcome.FAILS:
        return f"is judged {judgement} but fails"
    if evidence.source is Source.OBSERVED:
        missed = judgement.refuted and outcome is not Outcome.FAILS and claim.must_fail_on(evidence.subject)
        return f"training itself must refute it here, but did not ({outcome})" if missed else ""
    needed, text = Outcome.HOLDS, f"must hold on exact instances and in the search, but is {outcome}"
    if judgement.refuted:
        needed, text = Outcome.FAILS, f"is judged {judgement} but was not refuted ({outcome})"
    elif judgement is Judgement.EMPIRICAL:
        text = f"its instrument does not see what was planted ({outcome})"
    return "" if outcome is needed else text
