"""The report as text: verdict first, at most 79 columns, nothing elided."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from importlib import import_module

from .claims import Claim, Evidence, Judgement, Outcome, Source
from .report import Report

WIDTH = 79
WORDS = {
    Outcome.HOLDS: "holds",
    Outcome.FAILS: "fails",
    Outcome.ASSUMPTION_VIOLATED: "unmet",
    Outcome.INCONCLUSIVE: "too close",
    Outcome.NOT_JUDGED: "not judged",
}
_ORDER = (Outcome.FAILS, Outcome.INCONCLUSIVE, Outcome.HOLDS, Outcome.NOT_JUDGED, Outcome.ASSUMPTION_VIOLATED)


def number(value: object) -> str:
    """Short text of a number: integers in full, everything else to three digits."""
    if value is None:
        return "-"
    value = float(value)
    if value == int(value) and abs(value) < 10**6:
        return str(int(value))
    return f"{value:.3g}"


def subject(evidence: Evidence) -> str:
    """Name what a record speaks of, in a few words."""
    if evidence.subject is None:
        return f"{evidence.source}"
    s = evidence.subject
    seed = f"{s['seeds']} seeds" if s.get("seed") is None else f"seed {s['seed']}"
    return f"{s['network']} {s['method']} {seed}"


def sides(evidence: Evidence) -> str:
    """Subject, both sides, margin and tolerance of a comparison."""
    if evidence.lhs is None:
        return f"{subject(evidence)}: {evidence.error or evidence.note}"
    tolerance = "exact" if evidence.tolerance == 0 else f"tolerance {number(evidence.tolerance)}"
    tolerance += " (what chance allows)" if evidence.by_chance else ""
    tolerance += "".join(f", {name} {number(value)}" for name, value in evidence.statistics.items())
    relation = f"{number(evidence.lhs)} {evidence.relation} {number(evidence.rhs)}"
    counts = (
        f" ({evidence.failing} of {evidence.count} fail)" if evidence.failing and evidence.count > 1 else ""
    )
    where = "" if evidence.subject is None else f"{subject(evidence)}: "
    return f"{where}{relation}{counts}, margin {number(evidence.margin)}, {tolerance}"


def folded(line: str) -> list[str]:
    """A line of progress in as many lines as the width needs, later ones below the outcomes."""
    whole = re.sub(r"(?<=\d) s$", "\N{NO-BREAK SPACE}s", line)  # a time stays with its unit
    folded = textwrap.wrap(whole, WIDTH, subsequent_indent=" " * 31, break_on_hyphens=False)
    return [part.replace("\N{NO-BREAK SPACE}", " ") for part in folded] or [""]


def tally(found: list[Evidence]) -> str:
    """Count outcomes: '5 fail, 41 hold'."""
    counts = Counter(e.outcome for e in found)
    return ", ".join(f"{counts[o]} {_verb(o, counts[o])}" for o in _ORDER if counts[o]) or "-"


def _verb(outcome: Outcome, count: int) -> str:
    word = WORDS[outcome]
    return word.removesuffix("s") if count != 1 and outcome in (Outcome.HOLDS, Outcome.FAILS) else word


def loudest(found: list[Evidence]) -> Evidence | None:
    """Pick the record that speaks most clearly: a failure by the widest margin, else the closest call."""
    judged = [e for e in found if e.margin is not None and e.outcome is not Outcome.ASSUMPTION_VIOLATED]
    if not judged:
        return found[0] if found else None
    return min(judged, key=lambda e: (_ORDER.index(e.outcome), _relative_margin(e)))


def _relative_margin(evidence: Evidence) -> float:
    size = max(abs(float(evidence.lhs)), abs(float(evidence.rhs)))
    return float(evidence.margin) / size if size else float("inf")


def claim_rows(report: Report, claim: Claim) -> list[str]:
    """Lines on one claim: what each source says, why it is refuted, the record that speaks loudest."""
    if claim.compare is None:
        row = f"{claim.id:<8}{claim.judgement!s:<13}{claim.reason.split(':')[0]}"
        return textwrap.wrap(row, WIDTH, subsequent_indent=" " * 21, break_on_hyphens=False)
    cells = [tally(report.of(claim, source)) for source in Source]
    observed = report.of(claim, Source.OBSERVED)
    shown = loudest([e for e in observed if e.lhs is not None]) or loudest(report.of(claim, Source.EXACT))
    rows = [f"{claim.id:<8}{claim.judgement!s:<13}{cells[0]:<10}{cells[1]:<10}{cells[2]}"]
    if claim.judgement.refuted:
        rows += textwrap.wrap(claim.reason, WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    if shown is not None:
        rows += textwrap.wrap(sides(shown), WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return rows


def theorem_table(report: Report, theorem: str) -> list[str]:
    """The table of one theorem: refuted claims first, then what stands, definitions last."""
    module = import_module(f".{theorem}", __package__)
    claims = report.ledger.of(theorem)
    heading = textwrap.wrap(f"{module.TITLE}: {len(claims)} claims", WIDTH)
    lines = [
        *heading,
        "-" * WIDTH,
        f"{'claim':<8}{'judgement':<13}{'exact':<10}{'search':<10}observed on trained networks",
    ]
    lines.append("-" * WIDTH)
    for claim in sorted(claims, key=_refuted_first):
        lines += claim_rows(report, claim)
    return [*lines, "-" * WIDTH]


def _refuted_first(claim: Claim) -> int:
    if claim.judgement.refuted or claim.judgement.stands:
        return 0 if claim.judgement.refuted else 1
    return 2 if claim.judgement is Judgement.EMPIRICAL else 3


def theorem_tables(report: Report, theorem: str) -> list[str]:
    """The table of claims, then what else the theorem has to show of its evidence."""
    module = import_module(f".{theorem}", __package__)
    lines = theorem_table(report, theorem)
    for table in getattr(module, "TABLES", ()):
        lines += ["", *found] if (found := table(report)) else []
    return lines


def summary(report: Report) -> list[str]:
    """The verdict in plain words, with the next command to run."""
    claims = list(report.ledger)
    refuted = [c for c in claims if c.judgement.refuted]
    stands = [c for c in claims if c.judgement.stands]
    subjects = {tuple(e.subject.items()) for e in report.evidence if e.subject}
    sweeps = sum(dict(one).get("seed") is None for one in subjects)
    empirical = sum(c.judgement is Judgement.EMPIRICAL for c in claims)
    paragraphs = [
        f"{len(refuted)} claims are refuted, {len(stands)} stand (repairs included), "
        f"{sum(c.judgement is Judgement.DEFINITION for c in claims)} are definitions"
        + (f", {empirical} empirical; " if empirical else "; ")
        + f"looked at on {len(subjects) - sweeps} fine-tuned networks"
        + (f" and {sweeps} sweeps of them." if sweeps else ".")
    ]
    paragraphs += [_trained_counterexample(report, c) for c in refuted if _fails_in_training(report, c)][:1]
    complaints = report.complaints()
    if complaints:
        paragraphs.append(f"{len(complaints)} outcomes are NOT what the ledger says they must be:")
        paragraphs += [f"  {e.claim}: {text}; {sides(e)}" for e, text in complaints]
    else:
        paragraphs.append(
            "Every outcome is what the ledger says it must be, and every negative control was rejected."
        )
    if not report.complete:
        paragraphs.append("Interrupted: what was finished is kept; the same command goes on from there.")
    first = complaints[0][0].claim.rstrip("~") if complaints else next((c.id for c in refuted), claims[0].id)
    paragraphs.append(f"Next: peftproof explain {first}")
    return [line for p in paragraphs for line in textwrap.wrap(p, WIDTH, break_on_hyphens=False)]


def _fails_in_training(report: Report, claim: Claim) -> list[Evidence]:
    return [e for e in report.of(claim, Source.OBSERVED) if e.outcome is Outcome.FAILS]


def _trained_counterexample(report: Report, claim: Claim) -> str:
    worst = loudest(_fails_in_training(report, claim))
    return (
        f"Training itself refutes {claim.id}: {subject(worst)} has {number(worst.lhs)} where at most "
        f"{number(worst.rhs)} is claimed, in {worst.failing} of {worst.count} comparisons."
    )


def explanation(claim: Claim, repairs: list[Claim]) -> list[str]:
    """Everything the ledger knows of a claim, worked out for a reader without the paper."""
    equation = f", equation {claim.equation}" if claim.equation else ""
    lines = [f"{claim.id}{equation}: {claim.judgement}", "-" * WIDTH]

    def block(title: str, text: str) -> None:
        if text:
            lines.extend(
                textwrap.wrap(f"{title}: {text}", WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            )

    block("In words", claim.plain)
    block("Statement", claim.statement)
    block("Assumes", "; ".join(a.name for a in claim.assumes))
    block("Why", claim.reason)
    block("Worked out", claim.worked)
    for label, instance in (claim.exact() if claim.exact else {}).items():
        evidence = claim.judge(instance, Source.EXACT)
        left, right = (number(x) if isinstance(x, float) else x for x in (evidence.lhs, evidence.rhs))
        block("Exact", f"{label}: {left} {evidence.relation} {right}, {WORDS[evidence.outcome]}")
    if claim.control is not None:
        empirical = claim.judgement is Judgement.EMPIRICAL
        title = "Planted the other way" if empirical else "Negative control"
        end = "it is not seen" if empirical else "it is rejected"
        block(title, f"{claim.control.broken}; {end}")
    for repair in repairs:
        block(f"Repaired by {repair.id}", f"{repair.statement}  ({repair.reason})")
    if claim.strategy is not None:
        lines.append(f"Next: peftproof falsify {claim.id}")
    return lines
