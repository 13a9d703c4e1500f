"""What each method reaches, as text: parameters, dimensions, and how far full fine-tuning landed from it."""

from __future__ import annotations

import statistics

from ..claims import Evidence
from ..render import WIDTH
from ..report import Report

COUNTED, RANKED, STARTED, MISSED, LOST = "T1.3", "T1.R12", "T1.R13", "T1.23", "T1.d"


def image_table(report: Report) -> list[str]:
    """One row per network and method: counts, distance, and the share of functions lost."""
    rows = report.observed(COUNTED, RANKED, STARTED, MISSED, LOST)
    if not rows:
        return []
    lines = ["what each method reaches; distance: of the fully fine-tuned update from Im g,"]
    lines += ["relative; lost: share of functional dimensions it cannot have, at least"]
    lines += ["-" * WIDTH]
    lines += [
        f"{'network':<12}{'method':<18}{'k':>6}{'dim Im g':>10}{'gauge':>7}"
        f"{'at start':>10}{'distance':>9}{'lost':>7}"
    ]
    lines += ["-" * WIDTH]
    lines += [_row(*key, found) for key, found in rows.items()]
    return [*lines, "-" * WIDTH]


def _row(network: str, method: str, found: dict[str, list[Evidence]]) -> str:
    def side(claim: str, name: str) -> float | None:
        values = [float(getattr(e, name)) for e in found.get(claim, ()) if e.lhs is not None]
        return statistics.median(values) if values else None

    k, dimension = side(COUNTED, "lhs"), side(RANKED, "lhs")
    gauge = None if dimension is None else k - dimension
    whole = "".join(
        f"{_integer(value):>{width}}"
        for value, width in ((k, 6), (dimension, 10), (gauge, 7), (side(STARTED, "lhs"), 10))
    )
    shares = "".join(
        f"{'.' if value is None else format(value, '.3f'):>{width}}"
        for value, width in ((side(MISSED, "lhs"), 9), (side(LOST, "lhs"), 7))
    )
    return f"{network:<12}{method:<18}{whole}{shares}"


def _integer(value: float | None) -> str:
    return "." if value is None else str(int(value))
