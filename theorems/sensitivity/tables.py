"""What re-training left to methods beside what was predicted, as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..claims import Evidence
from ..render import WIDTH
from ..report import Report

ALONG, OWN, RISES = "T4.R33", "T4.R34", "T4.R35"


def readaptation_table(report: Report) -> list[str]:
    """A line for each method and disturbance: gaps at two t, predicted and re-trained, and the range."""
    rows = _rows(report, ALONG, _gaps)
    if not rows:
        return []
    ends = next(row for e in _evidence(report, ALONG) for row in e.layers)
    top = "".join(f"{f'gap at t = {ends[name]:g}':^18}" for name in ("t small", "t large"))
    head = (
        f"{'method':<11}{'disturbance':<16}"
        + f"{'by model':>9}{'measured':>9}" * 2
        + f"{'order':>6}{'10 % to':>9}"
    )
    lines = ["what re-adaptation leaves to a method and not to full fine-tuning, on a share"]
    lines += ["t of disturbed data: by the quadratic model, and re-trained; order in t of the"]
    lines += ["error, and the t up to which the model is off by at most 10 %"]
    return [*lines, "-" * WIDTH, f"{'':<27}{top}".rstrip(), head, "-" * WIDTH, *rows, "-" * WIDTH]


def forms_table(report: Report) -> list[str]:
    """A line for each method and disturbance: how far (58) is reversed, and where the damage flips."""
    rows = _rows(report, ALONG, _forms)
    if not rows:
        return []
    head = f"{'method':<11}{'disturbance':<16}{'(58) reversed by':>18}{'PEFT damages more from t =':>28}"
    lines = ["inequality 58: how many times its smaller side is the larger one; and from what"]
    lines += ["share t on PEFT, re-trained, damages the undisturbed loss more than full does"]
    return [*lines, "-" * WIDTH, head, "-" * WIDTH, *rows, "-" * WIDTH]


def own_table(report: Report) -> list[str]:
    """A line for each method at its own optimum: how far (50) is off, and the signs of the rises."""
    found = report.observed(OWN, RISES)
    rows = [_own(n, c) for (_, n), c in found.items() if OWN in c and c[OWN][0].statistics]
    if not rows:
        return []
    head = f"{'method':<14}{'(50) off by':>13}{'prediction off':>16}{'rises less':>13}{'more':>7}{'of':>5}"
    lines = ["methods from their own optimum: relative error of (50), and of what it says;"]
    lines += ["under how many disturbances the loss rises less, or more, than with full"]
    lines += ["fine-tuning"]
    return [*lines, "-" * WIDTH, head, "-" * WIDTH, *rows, "-" * WIDTH]


def _evidence(report: Report, claim: str) -> list[Evidence]:
    return [e for claims in report.observed(claim).values() for e in claims[claim] if e.layers]


def _rows(report: Report, claim: str, show: Callable[[dict[str, Any]], str]) -> list[str]:
    return [
        f"{name:<11}{row['disturbance'].rsplit('-', 1)[0]:<16}{show(row)}"
        for (_, name), claims in report.observed(claim).items()
        for e in claims[claim]
        for row in e.layers
    ]


def _gaps(row: dict[str, Any]) -> str:
    names = [f"{what} {end}" for end in ("small", "large") for what in ("predicted", "gap")]
    return (
        "".join(f"{row[name]:>9.2g}" for name in names)
        + f"{row['order']:>6.2f}{row['within 10 % up to']:>9.1g}"
    )


def _forms(row: dict[str, Any]) -> str:
    flips = row["damage flips at"]
    return f"{row['(58) reversed']:>18.1f}{f'{flips:g}' if math.isfinite(flips) else 'none':>28}"


def _own(name: str, claims: dict[str, list[Evidence]]) -> str:
    off = claims[OWN][0].statistics
    cells = f"{off['(50) off by']:>13.2g}{off['prediction by (50) off by']:>16.2g}"
    counts = claims[RISES][0].statistics if RISES in claims else {}
    shown = [counts.get(key) for key in ("smaller for PEFT", "larger", "of")]
    return f"{name:<14}{cells}" + "".join(
        f"{'-' if value is None else int(value):>{width}}"
        for value, width in zip(shown, (13, 7, 5), strict=True)
    )
