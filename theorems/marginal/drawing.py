"""What the pictures of Theorem 5 share: looks, and the two predictions that are always there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
"""The palette of Okabe and Ito."""
_MARKERS = "osD^vP<>"  # one more than colours, so that a pair comes back only after 56
INK, BAND = "0.25", "0.9"
FULL, EXAMPLES = "full fine-tuning", "N, number of examples"


def predictions(ax: Axes, share: float) -> None:
    """Draw what the paper says of a ratio of gains in words, k/d, and what its rate gives, √(k/d)."""
    ax.axhline(share, color=INK, linestyle="--", linewidth=1.2, label=f"$k/d$ = {share:.2g}")
    root = math.sqrt(share)
    ax.axhline(root, color=INK, linestyle=":", linewidth=1.6, label=f"$\\sqrt{{k/d}}$ = {root:.2g}")


def looks(drawn: Sequence | Mapping) -> list[tuple[str, str]]:
    """A colour and a marker for each."""
    return list(islice(zip(cycle(COLOURS), cycle(_MARKERS), strict=False), len(drawn)))


def plain(axis: Axis) -> None:
    """Write 0.5 and not 5 × 10⁻¹ on a logarithmic axis; the shorter the axis the more of them."""
    from matplotlib.ticker import LogLocator  # noqa: PLC0415  (who draws nothing need not wait for it)

    low, high = axis.get_view_interval()
    subs = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
