r"""Pictures of frozen networks: the increments as in the paper's Figure 1, and what disturbances cost.

As in all pictures of the project: draw on the Axes given or on new ones, return them, show nothing, and carry
every meaning by marker, line or place as well as by colour (palette of Okabe and Ito).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..comparison import ERRORS
from ..drawing import axes, legend_below
from .frozen import Robustness
from .instances.frozen_pairs import clear
from .spread import Spread, entries_of, of_entries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP<>"
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
_INK = "0.25"
_BINS = 1000
_DEPTH = 3000.0  # the axis of densities goes that far down from the highest
_SHOWN = 0.998  # of the entries of the widest update; the axis ends there
_BAR = 2  # standard errors


def plot_spreads(
    updates: Mapping[str, Any], ax: Axes | None = None, *, pattern: str | Sequence[str] = "*"
) -> Axes:
    """Draw how the entries of each update are distributed, as the paper's Figure 1 does for single matrices.

    A density on a logarithmic axis, smoothed with a Gaussian kernel (Silverman's rule for its width).
    Entries that are exactly zero have no density: the area under a curve is the share of the others.  The
    legend has the share of zeros, and the standard deviation and excess kurtosis of all entries.

    Args:
        updates: by name of the method, what `spread` takes: an array, or a pytree of which `pattern` selects.
        ax: where to draw; None makes a new figure.
        pattern: shell pattern on the paths (or several); for a single matrix its path.

    Raises:
        ValueError: no update, none that moved, and as `spread`.
    """
    values = {name: entries_of(update, pattern) for name, update in updates.items()}
    found = {name: of_entries(one, name=name) for name, one in values.items()}
    moved = {name: one for name, one in found.items() if one.zeros < one.count}
    if not moved:
        raise ValueError(f"updates: got {', '.join(updates) or 'none'}, needs at least one that moved")
    ax = axes(ax)
    edge = max(float(np.quantile(np.abs(values[name]), _SHOWN)) for name in moved)
    highest = 0.0
    for (name, one), (colour, line) in zip(found.items(), _looks(found, _LINES), strict=True):
        if name not in moved:
            ax.plot([], [], " ", label=f"{name}: nothing moved here")
            continue
        at, density = _density(values[name], edge)
        highest = max(highest, float(density.max()))
        ax.plot(at, density, color=colour, linestyle=line, linewidth=1.6, label=_described(one))
    ax.set_ylim(highest / _DEPTH, 2 * highest)
    ax.set(yscale="log", xlim=(-edge, edge), xlabel="increment $\\Delta\\theta_i$ (units of the weights)")
    ax.set_ylabel("density (per unit of the weights)")
    order = sorted(moved.values(), key=lambda one: one.sd)
    ax.set_title(
        _extremes(order) if len(order) > 1 else f"Increments of {order[0].name}: sd {order[0].sd:.3g}"
    )
    legend_below(ax, drop=0.2)
    return ax


def plot_frozen(
    results: Sequence[Robustness],
    ax: Axes | None = None,
    *,
    quantity: Literal["loss", "accuracy"] = "loss",
) -> Axes:
    """Draw by how much each method loses more than full fine-tuning, disturbance by disturbance.

    Right of the line full fine-tuning is the more robust.  Bars go two standard errors to each side; the
    title and the legend count what is beyond five.

    Args:
        results: of one method or several, as `robustness` gives them, under the same disturbances.
        ax: where to draw; None makes a new figure.
        quantity: the increase of the loss, or the fall of the accuracy.

    Raises:
        ValueError: no result, results under different disturbances, or an unknown quantity.
    """
    if quantity not in _UNITS:
        raise ValueError(f"quantity: got {quantity!r}, needs 'loss' or 'accuracy'")
    if not results or len({one.names for one in results}) > 1:
        raise ValueError(f"results: got {len(results)}, needs at least one, all under the same disturbances")
    ax, names = axes(ax), results[0].names
    places = np.arange(len(names), dtype=float)
    offsets = np.linspace(-0.3, 0.3, len(results)) if len(results) > 1 else np.zeros(1)
    ax.axvline(0, color=_INK, linewidth=1)
    for place in places[:-1] + 0.5:
        ax.axhline(place, color="0.9", linewidth=0.8, zorder=0)
    for one, offset, (colour, marker) in zip(results, offsets, _looks(results, _MARKERS), strict=True):
        excess = getattr(one, quantity)
        ax.errorbar(excess.value, places + offset, xerr=_BAR * excess.error, fmt=marker, color=colour,
                    markersize=5, linewidth=1.2, capsize=2, label=_counted(one, quantity))  # fmt: skip
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.set(xlabel=_UNITS[quantity], ylabel="disturbance of the test data")
    more, less = np.sum([clear(getattr(one, quantity)) for one in results], axis=0)
    total = len(results) * len(names)
    ax.set_title(
        f"More lost than by full in {more} of {total} comparisons, less in {less}\n"
        f"(counted beyond {ERRORS} standard errors; bars are ± {_BAR})"
    )
    legend_below(ax, drop=0.2)
    return ax


_UNITS = {
    "loss": f"increase of the loss, method less full\n(nats, ± {_BAR} standard errors)",
    "accuracy": f"fall of the accuracy, method less full\n(share of the examples, ± {_BAR} standard errors)",
}


def _density(values: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the entries that moved, with their share as its area; from fine bins, however many entries."""
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415  (as matplotlib below)

    moved = values[values != 0]
    count, bins = np.histogram(moved, np.linspace(-1.2 * edge, 1.2 * edge, _BINS + 1))
    step = bins[1] - bins[0]
    first, third = np.quantile(moved, (0.25, 0.75))
    sizes = [size for size in (float(moved.std()), float(third - first) / 1.34) if size > 0]
    width = max(0.9 * min(sizes, default=0.0) * len(moved) ** -0.2, step)
    smooth = gaussian_filter1d(count.astype(float), width / step, mode="constant")
    return (bins[1:] + bins[:-1]) / 2, smooth / (len(values) * step)


def _described(one: Spread) -> str:
    zeros = f", {100 * one.zeros / one.count:.0f} % zeros" if one.zeros else ""
    return f"{one.name}: sd {one.sd:.3g}, excess kurtosis {one.kurtosis:.3g}{zeros}"


def _extremes(order: Sequence[Spread]) -> str:
    narrow, wide = order[0], order[-1]
    return f"Narrowest increments: {narrow.name} (sd {narrow.sd:.3g}), widest: {wide.name} ({wide.sd:.3g})"


def _counted(one: Robustness, quantity: str) -> str:
    more, less = clear(getattr(one, quantity))
    return f"{one.method}: more in {more}, less in {less}"


def _looks(drawn: Sequence | Mapping, second: Sequence) -> list[tuple[str, Any]]:
    return list(islice(zip(cycle(_COLOURS), cycle(second), strict=False), len(drawn)))
