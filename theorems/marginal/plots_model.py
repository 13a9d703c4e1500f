r"""Pictures of the exact model of Theorem 5: risks with their poles, and the ratio of marginal benefits.

As in all pictures of the project: draw on the Axes given or on new ones, return them, show nothing, and carry
every meaning by marker, line or place as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..comparison import ERRORS
from ..drawing import axes, legend_below
from .drawing import BAND, EXAMPLES, FULL, INK, looks, plain, predictions
from .gaussian import GaussianRegression
from .ridgeless import Ridgeless

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .least_squares import LeastSquares
    from .simulation import Simulated

_SQUARED = "(squared units of the output)"


def plot_risks(
    model: GaussianRegression,
    simulated: Simulated | None = None,
    ax: Axes | None = None,
    *,
    signal: float | None = None,
    interpolated: Mapping[int, Sequence[Simulated]] | None = None,
    largest: int | None = None,
) -> Axes:
    r"""Draw the exact risks of both classes against N, with their poles and the crossover.

    A class of p coefficients has no finite risk at N = p − 1, p and p + 1, a grey strip, hatched for PEFT.
    Left of it the fit has least norm; those risks need to know $\|\theta^*\|$ and isotropic inputs.  Markers
    are Monte Carlo means with bars of five standard errors to each side.

    Args:
        model: the regression.
        simulated: what `simulate` gives, for N above d.
        ax: where to draw; None makes a new figure.
        signal: ‖θ*‖², to draw the risks of fewer examples than coefficients as well; inputs are then taken to
            be isotropic.
        interpolated: by p, what `simulate_ridgeless` gives.
        largest: the largest N; by default twice the crossover, and all that is simulated.

    Raises:
        ValueError: a signal below b², simulations of fewer examples without a signal or of another p, or a
            largest N below d + 2.
    """
    interpolated = {} if interpolated is None else interpolated
    drawn = max(simulated.samples) if simulated is not None and largest is None else 0
    last = max(_last(model, largest), drawn)
    if signal is not None and not signal >= model.bias:
        raise ValueError(f"signal: got {signal}, needs at least the part of it that is missed, {model.bias}")
    if strange := sorted(set(interpolated) - ({model.d, model.k} if signal is not None else set())):
        raise ValueError(f"interpolated: got p = {strange}, needs d = {model.d} or k = {model.k}, and signal")
    ax = axes(ax)
    rows = [(FULL, model.full, signal, "-"), ("PEFT", model.peft, signal and signal - model.bias, "--")]
    for column, ((name, curve, known, style), (colour, marker)) in enumerate(
        zip(rows, looks(rows), strict=True)
    ):
        p = curve.parameters
        _pole(ax, name, p, "///" if column else "")
        label = f"{name}: p = {p}"
        for sizes, risks in _branches(curve, known, last):
            ax.plot(sizes, risks, style, color=colour, linewidth=1.6, label=label)
            label = None
        points = [] if simulated is None else [(simulated, column)]
        for one, at in [*points, *((one, None) for one in interpolated.get(p, ()))]:
            mean, error = (a["risk"] if at is None else a["risk"][:, at] for a in (one.means, one.errors))
            ax.errorbar(one.samples, mean, ERRORS * error, fmt=marker, color=colour, markersize=5, capsize=3,
                        markerfacecolor="white", zorder=3)  # fmt: skip
    if simulated is not None or interpolated:
        ax.errorbar([], [], [], fmt="o", color=INK, markerfacecolor="white", capsize=3,
                    label=f"Monte Carlo ± {ERRORS} standard errors")  # fmt: skip
    if model.bias and (at := float(model.crossover)) <= last:
        risk = float(model.full.variance) * (at - 1) / (at - model.d - 1)
        star = f"crossover, N* = {at:.4g}"
        ax.scatter(at, risk, s=190, marker="*", color=INK, edgecolors="white", zorder=4, label=star)
    ax.set(xscale="log", yscale="log", xlabel=EXAMPLES, ylabel=f"risk R(N) {_SQUARED}")
    ax.set_title(_overtaking(model))
    plain(ax.xaxis)
    plain(ax.yaxis)
    legend_below(ax, columns=2)
    return ax


def plot_ratio(
    models: GaussianRegression | Sequence[GaussianRegression],
    ax: Axes | None = None,
    *,
    largest: int | None = None,
) -> Axes:
    r"""Draw the exact ratio of marginal benefits, PEFT over full fine-tuning, against N and its predictions.

    Each curve rises to its limit $(1+b^2/\sigma^2)k/d$, a thin line of the same style; $k/d$ is what the
    paper says in words, $\sqrt{k/d}$ what its rate gives.

    Args:
        models: one, or several with the same d and k.
        ax: where to draw; None makes a new figure.
        largest: the largest N; by default 100 d.

    Raises:
        ValueError: no model, other d or k than the first, one without noise, or a largest N below d + 2.
    """
    every = [models] if isinstance(models, GaussianRegression) else list(models)
    if not every or len({(one.d, one.k) for one in every}) > 1:
        raise ValueError(f"models: got {every}, needs one or more with the same d and k")
    d, k = every[0].d, every[0].k
    sizes = np.unique(np.geomspace(d + 2, _last(every[0], largest or 100 * d), 200).round().astype(int))
    ratios = [np.asarray(one.ratio(sizes), float) for one in every]
    ax = axes(ax)
    styles = cycle(("-", (0, (6, 2)), "-.", (0, (1, 1))))
    for one, ratio, (colour, _), style in zip(every, ratios, looks(every), styles, strict=False):
        limit = float(one.limit)
        label = f"$b^2/\\sigma^2$ = {float(one.bias / one.noise):.3g}, rises to {limit:.3g}"
        ax.plot(sizes, ratio, linestyle=style, color=colour, linewidth=1.8, label=label)
        ax.axhline(limit, color=colour, linestyle=style, linewidth=0.8)
    predictions(ax, k / d)
    ax.set(xscale="log", yscale="log", xlabel=EXAMPLES)
    ax.set_ylabel("gain of PEFT over that of full fine-tuning\n(a ratio, per example)")
    top = max(map(float, (one.limit for one in every)))
    ax.set_ylim(min(k / d, *(ratio[len(ratio) // 8] for ratio in ratios)) / 2, 2 * max(top, math.sqrt(k / d)))
    ax.set_title(_limits(every))
    plain(ax.xaxis)
    plain(ax.yaxis)
    legend_below(ax, columns=2)
    return ax


def _pole(ax: Axes, name: str, p: int, hatch: str) -> None:
    """Where a class has no finite risk; the other one may have one there."""
    label = f"{name}: no finite risk\nat N = {max(p - 1, 1)} to {p + 1}"
    ax.axvspan(
        max(p - 1, 0.8),
        p + 1,
        facecolor=BAND,
        edgecolor="0.75",
        hatch=hatch,
        linewidth=0,
        zorder=0,
        label=label,
    )


class _Branch(NamedTuple):
    """Part of a curve between poles."""

    sizes: np.ndarray
    risks: np.ndarray


def _branches(curve: LeastSquares, signal: float | None, last: int) -> Iterable[_Branch]:
    """The risks on both sides of the pole, at whole numbers of examples."""
    p = curve.parameters
    if signal is not None and p >= 3:
        sizes = np.arange(1, p - 1)
        below_p = Ridgeless(p, float(signal), float(curve.variance))
        yield _Branch(sizes, np.asarray(below_p.risk(sizes), float))
    sizes = np.arange(p + 2, last + 1)
    yield _Branch(sizes, np.asarray(curve.risk(sizes), float))


def _last(model: GaussianRegression, largest: int | None) -> int:
    if largest is None:
        at = model.crossover
        return math.ceil(2 * at) if math.isfinite(at) and at < 50 * model.d else 20 * model.d
    if largest < model.d + 2:
        raise ValueError(f"largest: got {largest}, needs at least d + 2 = {model.d + 2}")
    return largest


def _overtaking(model: GaussianRegression) -> str:
    if model.overtakes is None:
        return f"PEFT has the smaller risk at every N ≥ d + 2 = {model.d + 2}"
    return f"Beyond its pole, full fine-tuning is better from N = {model.overtakes} on"


def _limits(every: Sequence[GaussianRegression]) -> str:
    d, k = every[0].d, every[0].k
    if len(every) == 1:
        return f"The ratio of gains rises to {float(every[0].limit):.3g}; k/d = {k / d:.3g}"
    beyond = sum(one.bias > 0 for one in every)
    return f"The ratio of gains rises beyond k/d = {k / d:.3g} in {beyond} of {len(every)} models"
