"""The spectra of full updates layer by layer, and plateaus predicted and measured, as text."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..claims import Evidence
from ..render import WIDTH
from ..report import Report

LAYERS, PLATEAUS = "T3.R2", {"T3.R19": "LoRA, rank", "T3.R20": "top layers"}


def spectrum_table(report: Report) -> list[str]:
    """One row per network and layer: rank, critical ranks, effective and stable rank, and the law of decay.

    Medians over seeds; of the laws the one found most often.
    """
    rows = []
    for (network, _), found in report.observed(LAYERS).items():
        layers: dict[str, list[dict[str, Any]]] = {}
        for row in (row for e in found[LAYERS] for row in e.layers):
            layers.setdefault(row["layer"], []).append(row)
        rows += [_layer_row(network, name, same) for name, same in layers.items()]
    if not rows:
        return []
    head = f"{'network':<12}{'layer':<25}{'rank':>4}{'10 %':>6}{'1 %':>5}{'effect.':>8}{'stable':>7}  law"
    lines = ["spectrum of the full update: its rank, the critical ranks that leave less than"]
    lines += ["10 % and 1 % of the energy, effective and stable rank; medians over seeds"]
    return [*lines, "-" * WIDTH, head, "-" * WIDTH, *rows, "-" * WIDTH]


def _layer_row(network: str, name: str, rows: Sequence[dict[str, Any]]) -> str:
    def middle(key: str) -> float:
        return statistics.median(row[key] for row in rows if row[key] is not None)

    law, _ = Counter(row["law"] for row in rows).most_common(1)[0]
    numbers = f"{middle('rank'):>4g}{middle('critical_10'):>6g}{middle('critical_1'):>5g}"
    sizes = f"{middle('effective'):>8.1f}{middle('stable'):>7.1f}"
    return f"{network:<12}{name.removesuffix('/kernel'):<25}{numbers}{sizes}  {law}"


def plateau_table(report: Report) -> list[str]:
    """Where the benefit of rank and of further layers ends: predicted, and measured with an interval."""
    rows = [
        f"{network:<12}{PLATEAUS[claim]:<14}{_plateau_cells(e)}"
        for (network, _), claims in report.observed(*PLATEAUS).items()
        for claim, found in claims.items()
        for e in found
    ]
    if not rows:
        return []
    head = f"{'network':<12}{'axis':<14}{'by':>10}{'measured':>10}{'95 % interval':>16}{'seeds':>7}"
    lines = ["where the plateau of the test loss begins: 95 % of the gain of larger points;"]
    lines += ["by: the critical rank of the full update, or one layer less than all"]
    return [*lines, "-" * WIDTH, head, "-" * WIDTH, *rows, "-" * WIDTH]


def _plateau_cells(evidence: Evidence) -> str:
    s = evidence.statistics
    if not s:
        return f"  {evidence.error or evidence.note}"[: WIDTH - 26]
    interval = f"{s['low']:g} to {s['high']:g}"
    return f"{s['predicted']:>10g}{s['estimate']:>10g}{interval:>16}{s['seeds']:>7g}"
