"""Pictures of Theorem 2: bounds against the truth, slack layer by layer, and the sandwich.

Each function draws on the Axes it is given, or on new ones, and returns them; none shows a figure or touches
a setting of matplotlib.  What a point means is carried by its marker as well as by its colour (the palette of
Okabe and Ito, safe for colour-blind readers), and a bound looks the same in every picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import bounds as formulas
from .comparisons import deviation_at_most
from .layers import Bound

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .feedforward import FeedForward
    from .sandwich import Sandwich

BOUNDS: dict[str, Bound] = {
    "(6) as printed": formulas.printed,
    "(A)": formulas.base_weights,
    "(B)": formulas.tuned_weights,
    "(C)": formulas.a_priori,
}
"""What is drawn unless something else is asked for: equation 6 and the three repairs."""

_LOOKS = {"(6)": ("#D55E00", "x"), "(A)": ("#0072B2", "o"), "(B)": ("#000000", "+"), "(C)": ("#E69F00", "s")}
_SPARE = (("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"), ("#7F7F7F", "*"))
_INK, _SHADE = "0.25", "0.92"


def plot_bound_against_truth(
    pair: FeedForward, bounds: Mapping[str, Bound] | None = None, ax: Axes | None = None
) -> Axes:
    r"""Scatter bounds against the measured deviation $\|f(x) - f_0(x)\|$, one point per input and bound.

    Both axes are logarithmic.  On the diagonal a bound is attained; in the shaded part below it the "bound"
    is smaller than what it bounds.  The title counts the inputs on which that happens, by the comparison that
    judges the claims, with its tolerance.

    Args:
        pair: the chain before and after tuning, with its inputs.
        bounds: functions of the pair by label; None draws `BOUNDS`.  A label that starts with (6), (A), (B)
            or (C) gets the look of that bound.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: no bound to draw, or no input at which the output moves.
    """
    bounds = _some("bounds", BOUNDS if bounds is None else bounds)
    truth = _floats(pair.deviation)
    moved = truth > 0
    if not moved.any():
        raise ValueError("pair moves the output at none of its inputs: a logarithmic axis has no place for 0")
    ax, x = _axes(ax), truth[moved]
    drawn = {label: _floats(bound(pair))[moved] for label, bound in bounds.items()}
    for (label, y), look in zip(drawn.items(), _looks(drawn), strict=True):
        ax.scatter(x[y > 0], y[y > 0], s=26, linewidths=0.9, label=label, **_face(*look))
    values = np.concatenate([x, *drawn.values()])
    low, high = ends = values[values > 0].min() / 1.4, values.max() * 1.4
    ax.fill_between(ends, ends, low, color=_SHADE, linewidth=0, zorder=0)
    ax.plot(ends, ends, color=_INK, linewidth=1, zorder=1, label="bound = truth")
    ax.set(xscale="log", yscale="log", xlim=(x.min() / 1.15, x.max() * 1.15))
    ax.set_ylim(low, high * (high / low) ** 0.2)  # the legend gets the upper sixth for itself
    _plain_ticks(ax.xaxis, ax.yaxis)
    ax.text(0.98, 0.03, "bound below the truth", transform=ax.transAxes, ha="right", color=_INK)
    ax.set_xlabel(r"measured deviation $\|f(x) - f_0(x)\|$ (units of the output)")
    ax.set(ylabel="bound (units of the output)", title=_verdict(pair, bounds))
    ax.legend(loc="upper center", ncols=3)
    return ax


def plot_slack_per_layer(
    rows_by_bound: Mapping[str, Sequence[Mapping[str, Any]]], ax: Axes | None = None
) -> Axes:
    r"""Draw how many times larger each bound is than the measured $\|x^k - x_0^k\|$, layer by layer.

    Args:
        rows_by_bound: by label, the rows that `layers.slack` gives; a layer without slack leaves a gap.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: no rows, or bounds with different layers.
    """
    _some("rows_by_bound", rows_by_bound)
    layers = {label: [row["layer"] for row in rows] for label, rows in rows_by_bound.items()}
    names = next(iter(layers.values()))
    if not names or any(other != names for other in layers.values()):
        raise ValueError(f"rows_by_bound has the layers {layers}: give the same ones, at least one, for all")
    slack = {label: np.array([row["slack"] for row in rows], float) for label, rows in rows_by_bound.items()}
    if np.isnan([*slack.values()]).all():
        raise ValueError("rows_by_bound has no slack: nothing moved in any layer, there is nothing to draw")
    ax, places = _axes(ax), np.arange(len(names))
    for (label, values), look in zip(slack.items(), _looks(slack), strict=True):
        ax.plot(places, values, color=look[0], linewidth=1.5, zorder=2)
        ax.scatter(places, values, s=50, linewidths=1.5, label=label, zorder=3, **_face(*look, "white"))
    ax.axhline(1, color=_INK, linewidth=1, label="bound = truth")
    lowest = min(0.7, np.nanmin([*slack.values()]) / 1.4)
    ax.axhspan(lowest, 1, color=_SHADE, linewidth=0, zorder=0)
    ax.set(yscale="log", xlim=(-0.3, len(names) - 0.7), xticks=places, xticklabels=names)
    ax.set_ylim(bottom=lowest)
    _plain_ticks(ax.yaxis)
    short = [label[:3] if label[:3] in _LOOKS else label for label in slack]
    ends = ", ".join(f"{name} {values[-1]:.3g}" for name, values in zip(short, slack.values(), strict=True))
    ax.set(xlabel="after layer k", title=f"Bound / truth after layer {names[-1]}: {ends}")
    ax.set_ylabel("slack: bound / measured $\\|x^k - x_0^k\\|$\n(a ratio; median over inputs)")
    ax.legend()
    return ax


def plot_sandwich(sandwiches: Mapping[str, Sandwich], ax: Axes | None = None) -> Axes:
    r"""Draw attack and bound as the ends of a bar in which the supremum lies, one bar per input.

    $$\text{attack} \;\le\; \sup_{\|\Phi_k\| \le \varphi_k} \|f(x) - f_0(x)\| \;\le\; \text{bound (C)}.$$

    Where a sandwich knows the update whose norms are the budgets, the deviation of that update is drawn too.

    Args:
        sandwiches: by label (a method, a budget), what `capacity.sandwich` gives.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: nothing to draw, or an attack that moved nothing.
    """
    _some("sandwiches", sandwiches)
    ax, ratios, n = _axes(ax), [], len(sandwiches)
    for row, (label, one) in enumerate(sandwiches.items()):
        lower, upper = _floats(one.lower), _floats(one.upper)
        if not (lower > 0).all():
            raise ValueError(f"the attack of {label!r} moves nothing: a logarithmic axis has no place for 0")
        ratios.extend(upper / lower)
        y = row + (np.linspace(-0.25, 0.25, len(lower)) if len(lower) > 1 else np.zeros(1))
        ax.hlines(y, lower, upper, color="0.8", linewidth=5, zorder=1, label="the supremum is in here")
        ax.scatter(upper, y, label="bound (C)", zorder=2, **_face(*_LOOKS["(C)"], "white"))
        ax.scatter(lower, y, label="attack", zorder=2, **_face("#0072B2", ">", "white"))
        if one.pair is not None:
            ax.scatter(_floats(one.pair.deviation), y, label="the update itself", **_face("#000000", "|"))
    ax.set(xscale="log", yticks=range(n), yticklabels=list(sandwiches), ylim=(n - 0.5, -0.5))
    _plain_ticks(ax.xaxis)
    ax.set_xlabel(r"deviation $\|f(x) - f_0(x)\|$ (units of the output)")
    span = " to ".join(dict.fromkeys(f"{ratio:.2g}" for ratio in (min(ratios), max(ratios))))
    ax.set(ylabel="budgets (a bar per input)", title=f"The supremum is known within a factor of {span}")
    named = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))  # each mark once
    ax.legend(named.values(), named)
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        import matplotlib.pyplot as plt  # noqa: PLC0415  (who draws nothing need not wait for it)

        _, ax = plt.subplots(layout="constrained")
    return ax


def _plain_ticks(*axes: Any) -> None:
    """Write 50 and not 5 × 10¹ on a logarithmic axis; 1, 2, 5 in each decade while there are few."""
    from matplotlib.ticker import LogLocator  # noqa: PLC0415  (as above)

    for axis in axes:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")


def _some(name: str, given: Mapping) -> Mapping:
    if not given:
        raise ValueError(f"{name} is empty: give at least one entry to draw")
    return given


def _floats(values: Any) -> np.ndarray:
    return np.atleast_1d(np.asarray(values, dtype=np.float64))


def _looks(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Colour and marker per label: those of the bound that it begins with, or the next spare ones."""
    spare = iter(_SPARE * 8)
    return [_LOOKS.get(label[:3]) or next(spare) for label in labels]


def _face(colour: str, marker: str, inside: str = "none") -> dict[str, Any]:
    """Hollow markers, so that those which coincide can be told apart; a cross has no inside."""
    faces = {"color": colour} if marker in "x+|" else {"edgecolors": colour, "facecolors": inside}
    return {"marker": marker} | faces


def _verdict(pair: FeedForward, bounds: Mapping[str, Bound]) -> str:
    failing = {label: deviation_at_most(bound)(pair).worst().failing for label, bound in bounds.items()}
    label = max(failing, key=failing.get)
    which, many = (label, failing[label]) if failing[label] else ("No bound", "any")
    return f"{which} is below the truth on {many} of {len(pair.deviation)} inputs"
