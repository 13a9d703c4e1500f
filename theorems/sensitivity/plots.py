r"""Pictures of Theorem 4: predicted and re-trained gaps, (58) reversed, and the clean loss.

As in all pictures of the project: draw on the Axes given or on new ones, return them, show nothing, and carry
every meaning by marker, line or place as well as by colour (palette of Okabe and Ito).  Frozen networks
are in `plots_spread`, rounding and spectra in `plots_numerics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np

from ..drawing import axes, legend_below
from .readaptation.results import WITHIN, Readaptation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP<>"  # one more than colours, so that a pair comes back only after 56
_INK, _FLOOR = "0.25", "0.88"
_SHARE = "t, share of the disturbed data"
Found = Readaptation | Sequence[Readaptation]


def plot_gaps(found: Found, ax: Axes | None = None) -> Axes:
    r"""Draw the gap against the share t of disturbed data, on logarithmic axes: predicted and re-trained.

    A line is what the quadratic model predicts, $t^2$ times the residual form: solid as far as it is right to
    10 %, dotted beyond.  Markers are what re-training left; hollow ones are no larger than their noise, which
    reaches up to the top of the grey area (of the method where it is largest).  Of several the first has the
    largest markers, so that all of them are seen where they coincide.  Gaps that are not positive
    have no place on the axis; they are counted in the legend.

    Args:
        found: one method under one disturbance, or several, as `readapt` gives them.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: nothing to draw, or no positive prediction.
    """
    every = _several(found)
    if zero := [_name(one, every) for one in every if not one.predicted > 0]:
        raise ValueError(
            f"found: {', '.join(zero)} has no predicted gap, for which a logarithmic axis has no place"
        )
    ax = axes(ax)
    for (one, name, (colour, marker)), size in zip(_drawn(every), _sizes(len(every)), strict=True):
        until = one.valid_until if one.valid_until > 0 else one.t[0]  # NaN > 0 is false
        inside, outside = np.array([one.t[0], until]), np.array([until, one.t[-1]])
        ax.plot(inside, inside**2 * one.predicted, "-", color=colour, linewidth=1.6)
        ax.plot(outside, outside**2 * one.predicted, ":", color=colour, linewidth=1.4)
        look = {"marker": marker, "linestyle": "none", "color": colour, "markersize": size}
        clear, positive = one.gap > one.noise, np.where(one.gap > 0, one.gap, np.nan)
        ax.plot(one.t, positive, fillstyle="none", label=f"{name}: {_described(one)}", **look)
        ax.plot(one.t[clear], one.gap[clear], markeredgecolor="white", markeredgewidth=0.6, **look)
    noise = np.max([one.noise for one in every], axis=0)
    lowest = min(float(one.t[0] ** 2 * one.predicted) for one in every) / 30
    highest = max(float(max(one.predicted, one.gap.max())) for one in every) * 10
    ax.fill_between(every[0].t, lowest, np.maximum(noise, lowest), color=_FLOOR, linewidth=0, zorder=0,
                    label="as small as rounding and what minima may miss")  # fmt: skip
    ax.plot(
        [], [], "-", color=_INK, label=f"the quadratic model, $t^2$ times T4.R3, right to {100 * WITHIN:g} %"
    )
    ax.plot([], [], ":", color=_INK, label="the same, off by more; markers are re-trained")
    ax.set(xscale="log", yscale="log", ylim=(lowest, highest), xlabel=_SHARE)
    ax.set_ylabel("gap: least loss of the method less\nthat of full fine-tuning (nats)")
    ax.set_title(
        f"The model is right to {100 * WITHIN:g} % up to t {_at([one.valid_until for one in every])}"
    )
    legend_below(ax)
    return ax


def plot_model_error(found: Found, ax: Axes | None = None) -> Axes:
    r"""Draw by how much the model is off, |re-trained / predicted − 1|, against t, on logarithmic axes.

    Of an error $O(t)$, which T4.R33 says it is, the slope is 1.  Points at which the noise of the gap hides
    it are left out.

    Args:
        found: as `plot_gaps`.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: nothing to draw.
    """
    every = _several(found)
    ax = axes(ax)
    for (one, name, (colour, marker)), size in zip(_drawn(every), _sizes(len(every)), strict=True):
        seen = one.seen
        off = np.abs(one.ratio - 1)[seen]
        ax.plot(one.t[seen], off, marker, linestyle="-", color=colour, markersize=size,
                markeredgecolor="white", markeredgewidth=0.6, linewidth=1.1,
                label=f"{name}: order {one.order:.2f}")  # fmt: skip
    ax.axhline(WITHIN, color=_INK, linewidth=0.9, linestyle="--")
    ax.annotate(f"{100 * WITHIN:g} %", (1, WITHIN), xytext=(-3, 3), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", color=_INK)  # fmt: skip
    firsts = [(one.t[one.seen][0], np.abs(one.ratio - 1)[one.seen][0]) for one in every if one.seen.any()]
    if firsts:  # a line of slope 1 above all of them, up to where the error is no small one any more
        steepest = 3 * max(off / t for t, off in firsts)
        ends = np.array([min(t for t, _ in firsts), 1 / steepest])
        ax.plot(ends, ends * steepest, ":", color=_INK, linewidth=1.2, label="slope 1, in proportion to t")
    ax.set(xscale="log", yscale="log", xlabel=_SHARE, ylabel="|re-trained / predicted gap − 1| (a ratio)")
    ax.set_title(f"As t falls, so does the model's error, with order {_span([one.order for one in every])}")
    legend_below(ax, columns=2)
    return ax


def plot_forms(found: Found, ax: Axes | None = None) -> Axes:
    r"""Draw both sides of (58) against each other: where it holds, points are on or above the diagonal.

    Printed is $\varepsilon_\parallel^TH_\Phi^+\varepsilon_\parallel \ge
    \varepsilon_\parallel^TH^{-1}\varepsilon_\parallel$; true is the opposite (T4.R19).

    Args:
        found: as `plot_gaps`.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: nothing to draw, or a disturbance without a part along the directions.
    """
    every = _several(found)
    right = np.array([one.forms.parallel_full for one in every])
    left = np.array([one.forms.parallel_restricted for one in every])
    if not (np.all(left > 0) and np.all(right > 0)):
        raise ValueError(
            "found: a disturbance with no part along the directions of its method, where (58) says 0 ≥ 0"
        )
    ax = axes(ax)
    low, high = min(left.min(), right.min()) / 3, max(left.max(), right.max()) * 3
    ax.fill_between([low, high], [low, high], high, color=_FLOOR, linewidth=0, label="where (58) would hold")
    ax.plot([low, high], [low, high], color=_INK, linewidth=1)
    names = list(dict.fromkeys(one.method for one in every))
    for name, (colour, marker) in zip(names, _looks(len(names)), strict=True):
        of = [one.method == name for one in every]
        ax.plot(right[of], left[of], marker, linestyle="none", color=colour, markersize=6, label=name)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    ax.set_xlabel("right side of (58): $\\varepsilon_\\parallel^TH^{-1}\\varepsilon_\\parallel$ (nats)")
    ax.set_ylabel("left side: $\\varepsilon_\\parallel^TPH_\\Phi^{-1}P^T\\varepsilon_\\parallel$ (nats)")
    wrong = left < right
    times = f", {_span(right[wrong] / left[wrong])} times" if wrong.any() else ""
    ax.set_title(f"(58) is reversed in {wrong.sum()} of {len(every)} cases{times}")
    legend_below(ax, columns=3)
    return ax


def plot_damage(found: Readaptation, ax: Axes | None = None) -> Axes:
    r"""Draw what re-training costs on the undisturbed data, the method's and full fine-tuning's, against t.

    Dotted lines are the quadratic model, in which full fine-tuning always loses more (T4.R16).  Rings are
    around the points where the method does; the grey area is rounding of the loss, where it reaches the axes.

    Args:
        found: one method under one disturbance.
        ax: where to draw; None makes a new figure.
    """
    ax = axes(ax)
    both = (("full fine-tuning", found.full), (found.method, found.peft))
    rounding = found.full.rounding + found.peft.rounding
    for (name, trace), (colour, marker) in zip(both, _looks(2), strict=True):
        ax.plot(found.t, found.t**2 * trace.quadratic, ":", color=colour, linewidth=1.3)
        rise = np.where(trace.clean > rounding, trace.clean, np.nan)
        ax.plot(found.t, rise, marker, linestyle="-", color=colour, markersize=5, linewidth=1.4, label=name)
    ends = [trace.quadratic for _, trace in both]
    lowest = float(found.t[0]) ** 2 * min(ends) / 10
    if np.any(rounding > lowest):
        ax.fill_between(found.t, lowest, np.maximum(rounding, lowest), color=_FLOOR, linewidth=0, zorder=0,
                        label="rounding of the loss")  # fmt: skip
    ax.plot([], [], ":", color=_INK, label="the quadratic model")
    more = found.peft.clean - found.full.clean > rounding
    if more.any():
        where = ", ".join(f"{t:g}" for t in found.t[more])
        ax.scatter(found.t[more], found.peft.clean[more], s=130, facecolors="none", edgecolors=_INK,
                   linewidths=1.4, zorder=3, label=f"{found.method} loses more: t = {where}")  # fmt: skip
    highest = max(*ends, *(trace.clean.max() for _, trace in both)) * 5
    ax.set(xscale="log", yscale="log", xlabel=_SHARE, ylim=(lowest, highest))
    ax.set_ylabel("rise of the loss on\nundisturbed data (nats)")
    end = f"for t < {found.flips_at:g}" if more.any() else "at every t"
    ax.set_title(f"{found.disturbance}: on clean data\nfull fine-tuning loses more {end}")
    legend_below(ax, columns=2)
    return ax


def _several(found: Found) -> list[Readaptation]:
    every = [found] if isinstance(found, Readaptation) else list(found)
    if not every:
        raise ValueError("found: got nothing to draw, needs at least one re-adaptation")
    if any(not np.array_equal(one.t, every[0].t) for one in every):
        raise ValueError("found: re-adaptations at different t; draw them on axes of their own")
    return every


def _drawn(every: Sequence[Readaptation]) -> list[tuple[Readaptation, str, tuple[str, str]]]:
    names = [_name(one, every) for one in every]
    return list(zip(every, names, _looks(len(every)), strict=True))


def _name(one: Readaptation, every: Sequence[Readaptation]) -> str:
    """What tells it from the others."""
    methods, shifts = ({getattr(other, part) for other in every} for part in ("method", "disturbance"))
    if len(shifts) == 1 and len(methods) == len(every) > 1:
        return one.method
    return (
        one.disturbance
        if len(methods) == 1 and len(shifts) == len(every) > 1
        else f"{one.method}, {one.disturbance}"
    )


def _described(one: Readaptation) -> str:
    hidden = int(np.sum(one.gap <= 0))
    missing = f", {hidden} not above 0" if hidden else ""
    return f"order {one.order:.2f}, to {_number(one.valid_until)}{missing}"


def _number(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.2g}"


def _span(values: Sequence[float]) -> str:
    """From the smallest to the largest of those that are known."""
    known = [float(one) for one in values if not math.isnan(one)]
    if not known:
        return "?"
    ends = list(dict.fromkeys(_number(one) for one in (min(known), max(known))))
    return " to ".join(ends)


def _at(values: Sequence[float]) -> str:
    span = _span(values)
    return f"between {span.replace(' to ', ' and ')}" if " to " in span else f"= {span}"


def _sizes(count: int) -> list[float]:
    """Of markers that are drawn one over the other: the first the largest, so that each is seen."""
    return [min(6 + 1.5 * (count - 1 - at), 12.0) for at in range(count)]


def _looks(count: int) -> list[tuple[str, str]]:
    return list(islice(zip(cycle(_COLOURS), cycle(_MARKERS), strict=False), count))
