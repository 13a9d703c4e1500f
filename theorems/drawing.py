"""What the pictures of several theorems share: axes, and a legend below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes(ax: Axes | None) -> Axes:
    """The Axes given, or new ones."""
    if ax is None:
        import matplotlib.pyplot as plt  # noqa: PLC0415  (who draws nothing need not wait for it)

        _, ax = plt.subplots(layout="constrained", figsize=(6.8, 5))
    return ax


def legend_below(ax: Axes, columns: int = 1, drop: float = 0.16) -> None:
    """Below the axes nothing is hidden.

    Args:
        ax: where the curves are.
        columns: of the legend.
        drop: how far below, as a share of the height of the axes.
    """
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -drop), frameon=False, ncols=columns)
