"""What the bounds are worth on trained networks, as text: bound over truth, per method and layer by layer."""

from __future__ import annotations

import statistics
import textwrap
from collections import Counter

from ..claims import Evidence, Outcome
from ..render import WIDTH
from ..report import Report

SLACK = {
    "T2.6": "(6)",
    "T2.R1": "(A)",
    "T2.R2": "(B)",
    "T2.R3": "(C)",
    "T2.R20": "chain",
    "T2.R21": "range",
}
LAYERED = {"T2.R1": "(A)", "T2.R2": "(B)", "T2.R20": "chain"}


def slack_table(report: Report) -> list[str]:
    """How many times larger each bound is than the truth, per network and method: the median over seeds.

    A printed bound below 1 is violated and marked with an exclamation mark.
    """
    rows = report.observed(*SLACK)
    if not rows:
        return []
    lines = ["bound / measured deviation at the input that comes closest (! = bound violated,"]
    lines += ["~ = not covered by the claim), median over seeds", "-" * WIDTH]
    lines.append(f"{'network':<12}{'method':<13}" + "".join(f"{name:>9}" for name in SLACK.values()))
    lines.append("-" * WIDTH)
    for (network, method), found in rows.items():
        cells = "".join(f"{_slack_cell(found.get(claim, [])):>9}" for claim in SLACK)
        lines.append(f"{network:<12}{method:<13}{cells}")
    return [*lines, "-" * WIDTH]


def _slack_cell(found: list[Evidence]) -> str:
    slacks = [e.slack for e in found if e.slack is not None]
    if not slacks:
        return "."
    mark = "!" if any(e.outcome is Outcome.FAILS for e in found) else ""
    mark = mark or ("~" if any(e.outcome is Outcome.ASSUMPTION_VIOLATED for e in found) else "")
    return f"{statistics.median(slacks):.3g}{mark}"


def layer_table(report: Report) -> list[str]:
    """Where a bound loses: its slack after each layer, the median over seeds.

    Of each network only the methods with the most seeds are shown.
    """
    found = {
        (*key, LAYERED[claim]): [e.layers for e in evidence if e.layers]
        for key, claims in report.observed(*LAYERED).items()
        for claim, evidence in claims.items()
    }
    most = Counter()
    for (network, *_), layers in found.items():
        most[network] = max(most[network], len(layers))
    rows = {key: layers for key, layers in found.items() if layers and len(layers) == most[key[0]]}
    if not rows:
        return []
    lines = ["slack after each layer (. = nothing moved there)", "-" * WIDTH]
    for (network, method, name), found in rows.items():
        cells = []
        for same_layer in zip(*found, strict=True):
            slacks = [row["slack"] for row in same_layer if row["slack"] is not None]
            cells.append(
                f"{same_layer[0]['layer']} {statistics.median(slacks):.3g}"
                if slacks
                else f"{same_layer[0]['layer']} ."
            )
        text = f"{network:<12}{method:<13}{name:<6}" + ", ".join(cells)
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * 31, break_on_hyphens=False)
    return [*lines, "-" * WIDTH]
