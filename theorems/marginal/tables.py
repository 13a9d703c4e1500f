"""Learning curves of trained networks, what examples gain on them, and where they cross, as text."""

from __future__ import annotations

from ..claims import Evidence
from ..render import WIDTH
from ..report import Report

CURVE, RATIO, CROSSING = "T5.R22", "T5.R23", "T5.R24"
_TASKS = {"digits_rotated": "rotated", "digits_noisy": "noisy"}


def curve_table(report: Report) -> list[str]:
    """One row per network, task and method: exponent of the curve with its interval, limit, misfit."""
    head = f"{_subject_head()}{'exponent':>9}{'95 % interval':>14}{'limit':>7}{'p':>6}  verdict"
    title = ["learning curves: R(N) = a + c N^-exponent of the test loss, its limit a,"]
    title += ["p of a misfit; intervals are over seeds, which share one set of examples"]
    return _table(report, CURVE, title, head, _curve_cells)


def gain_table(report: Report) -> list[str]:
    """What an example gains for PEFT over full fine-tuning, beside the three predictions."""
    head = f"{_subject_head()}{'ratio':>7}{'95 % interval':>16}{'k/d':>8}{'√(k/d)':>8}{'bound':>8}"
    title = ["what an example gains, PEFT over full fine-tuning, over the whole range of N;"]
    title += ["bound: (1 + b²/σ²)k/d of the exact model, from the limits of both curves"]
    return _table(report, RATIO, title, head, _gain_cells)


def crossover_table(report: Report) -> list[str]:
    """Where full fine-tuning overtakes, or over which sizes it does not."""
    head = f"{_subject_head()}{'N*':>6}{'95 % interval':>15}{'between':>14}  outcome"
    title = ["where full fine-tuning overtakes PEFT in test loss; between: sizes at which"]
    title += ["it is established which of the two is better"]
    return _table(report, CROSSING, title, head, _crossing_cells)


def _table(report: Report, claim: str, title: list[str], head: str, cells: object) -> list[str]:
    rows = [
        f"{network:<12}{_task(e):<9}{method:<9}{cells(e)}"[:WIDTH]
        for (network, method), found in report.observed(claim).items()
        for e in found[claim]
    ]
    rule = "-" * WIDTH
    return [*title, rule, head, rule, *sorted(rows), rule] if rows else []


def _subject_head() -> str:
    return f"{'network':<12}{'task':<9}{'method':<9}"


def _task(evidence: Evidence) -> str:
    name = str((evidence.subject or {}).get("task", ""))
    return _TASKS.get(name, name)[:8]


def _curve_cells(evidence: Evidence) -> str:
    s = evidence.statistics
    verdict = evidence.note.split(":")[0]
    if "exponent" not in s:
        return f"  {evidence.error or verdict or evidence.note}"
    interval = f"{s['low']:.2f} to {s['high']:.2f}"
    return f"{s['exponent']:>9.2f}{interval:>14}{s['limit']:>7.2f}{s['p']:>6.2f}  {verdict}"


def _gain_cells(evidence: Evidence) -> str:
    s = evidence.statistics
    if "low" not in s:
        return f"  {evidence.error or evidence.note}"
    interval = f"{s['low']:.3f} to {s['high']:.3f}"
    bound = float(evidence.rhs)
    return f"{float(evidence.lhs):>7.3f}{interval:>16}{s['k/d']:>8.3f}{s['root']:>8.3f}{bound:>8.3f}"


def _crossing_cells(evidence: Evidence) -> str:
    s = evidence.statistics
    if "seeds" not in s:
        return f"  {evidence.error or evidence.note}"
    between = f"{s['from']:g} to {s['to']:g}" if "from" in s else "-"
    if "crossover" not in s:
        return f"{'-':>6}{'-':>15}{between:>14}  none" if "from" in s else "  several"
    low, high = (f"{s[name]:.0f}" if name in s else "open" for name in ("low", "high"))
    outcome = "found" if evidence.lhs == 1 else "PEFT overtakes"
    return f"{s['crossover']:>6.0f}{f'{low} to {high}':>15}{between:>14}  {outcome}"
