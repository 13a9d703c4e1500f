r"""Pictures of Theorem 5: learning curves that cross, what examples gain, complexities.

As in all pictures of the project: draw on the Axes given or on new ones, return them, show nothing, and carry
every meaning by marker, line or place as well as by colour (palette of Okabe and Ito).  Those of the exact
model are in `plots_model`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from ..drawing import axes, legend_below
from .crossover import Crossing, crossover, span
from .drawing import BAND, COLOURS, EXAMPLES, FULL, INK, looks, plain, predictions
from .fits import Shape, fit_curve, values_of
from .resampling import below, check_confidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...models.curves import LearningCurve
    from ...models.paired_curves import LearningCurves
    from ..rademacher import Compared
    from .crossover import Crossover
    from .fits import CurveFit, Losses
    from .gains import Gains

    Curve = LearningCurve | tuple[Sequence[int], Losses]
    Curves = LearningCurves | Mapping[str, Curve]

_HATCHES = ("", "///", "...", "xxx", "\\\\\\")
_KEY = "full"
_BETTER = {1: "PEFT better", -1: f"{FULL} better"}


def plot_curves(
    curves: Curves,
    ax: Axes | None = None,
    *,
    confidence: float = 0.95,
    unit: str = "nats",
    task: str | None = None,
) -> Axes:
    r"""Draw learning curves with intervals over seeds, their laws, and where full fine-tuning crosses.

    Bars are t intervals of the mean.  A solid line is $a + cN^{-\gamma}$ where `fit_curve` finds that law; a
    dotted one joins the means of a curve that has none, and the legend says why.  The sample size at
    which a curve crosses that of full fine-tuning is a star, its interval a band.

    Args:
        curves: by name of the method, measured or as sizes and losses of shape (S, V); "full" is what the
            others are compared with.
        ax: where to draw; None makes a new figure.
        confidence: of each interval, and of what is established.
        unit: of the loss.
        task: what was learned, for the title.

    Raises:
        ValueError: no curve, one with a single seed, one that is not paired with that of full fine-tuning,
            and what `fit_curve` refuses.
    """
    given = _given(curves, confidence)
    fits = {name: fit_curve(curve, confidence=confidence) for name, curve in given.items()}
    found = _crossovers(given, confidence)
    ax = axes(ax)
    for at, ((name, curve), (colour, marker)) in enumerate(zip(given.items(), looks(given), strict=True)):
        sizes, losses = values_of(curve)
        mean, bars = _means(losses, confidence)
        label = f"{_long(name)}: {_described(fits[name])}"
        beside = sizes * _beside(at, len(given))
        ax.errorbar(beside, mean, bars, fmt=marker, color=colour, markersize=5, capsize=3, label=label)
        if (law := fits[name].law) is not None:
            drawn = np.geomspace(sizes[0], sizes[-1], 200)
            ax.plot(drawn, law(drawn), "-", color=colour, linewidth=1.4)
        else:
            ax.plot(sizes, mean, ":", color=colour, linewidth=1.4)
    for (name, one), hatch in zip(found.items(), cycle(_HATCHES), strict=False):
        if one.found:
            _crossing(ax, name, one, hatch, fits[_KEY])
    ax.set(xlabel=EXAMPLES, ylabel=f"test loss ({unit})")
    ax.set_title(_crossed(found, fits) + (f"\n({task})" if task else ""))
    ax.set_xscale("log")
    ax.set_yscale("log", nonpositive="clip")
    plain(ax.xaxis)
    plain(ax.yaxis)
    legend_below(ax)
    return ax


def plot_differences(
    curves: Curves, ax: Axes | None = None, *, confidence: float = 0.95, unit: str = "nats"
) -> Axes:
    """Draw the loss of full fine-tuning less that of each other method, paired by seed, against N.

    Bars hold for all sizes of a method at once; a marker is filled where it is established by them which of
    the two is better.  Above the line PEFT is.

    Args:
        curves: as `plot_curves` has them, with "full" and at least one more.
        ax: where to draw; None makes a new figure.
        confidence: of all bars of a method together.
        unit: of the loss.

    Raises:
        ValueError: nothing to compare, and as `plot_curves`.
    """
    found = _crossovers(_given(curves, confidence), confidence)
    if not found:
        raise ValueError(f"curves: got {', '.join(_mapping(curves))}, needs 'full' and at least one other")
    ax = axes(ax)
    ax.axhline(0, color=INK, linewidth=0.9, zorder=1)
    for at, ((name, one), (colour, marker)) in enumerate(
        zip(found.items(), looks(range(len(found) + 1))[1:], strict=True)
    ):
        sizes = one.sizes * _beside(at, len(found))
        bars = np.stack([one.difference - one.low, one.high - one.difference])
        look = {"color": colour, "markersize": 6}
        label = f"{name}: {one.outcome}"
        ax.errorbar(sizes, one.difference, bars, fmt=f"{marker}:", capsize=3, linewidth=1.2, label=label,
                    markerfacecolor="white", **look)  # fmt: skip
        known = (one.low > 0) | (one.high < 0)
        ax.plot(sizes[known], one.difference[known], marker, zorder=3, **look)
    ax.plot([], [], "o", color=INK, label=f"filled: established at {confidence:.0%}, for all N at once")
    ax.set(xscale="log", xlabel=EXAMPLES, title=_somewhere(found))
    ax.set_ylabel(f"loss of {FULL} less that of PEFT ({unit})\n{_BETTER[-1]}  |  {_BETTER[1]}")
    plain(ax.xaxis)
    legend_below(ax)
    return ax


def plot_gains(found: Gains, ax: Axes | None = None, *, name: str = "PEFT") -> Axes:
    r"""Draw the measured ratio of what examples gain, step by step over N, beside its three predictions.

    A marker stands for the examples between two sizes, of which its horizontal line tells the span; vertical
    bars are intervals over seeds.  The band is the ratio over the whole range.  Steps at which no gain of
    full fine-tuning is established have no ratio; the legend counts them.

    Args:
        found: what `gains` gives.
        ax: where to draw; None makes a new figure.
        name: of the method.
    """
    *steps, whole = found.steps
    known = [one for one in steps if one.ratio is not None]
    ax = axes(ax)
    ax.axhline(0, color=INK, linewidth=0.9, zorder=1)
    if whole.ratio is not None:
        label = f"N = {whole.first} to {whole.last}: {whole.ratio:.2g} ({_ends(whole.interval)})"
        ax.axhspan(*whole.interval, color=BAND, linewidth=0, zorder=0, label=label)
    for one in known:
        at, low, high = math.sqrt(one.first * one.last), *one.interval
        bars = np.array([[one.ratio - low], [high - one.ratio]])
        ax.errorbar(at, one.ratio, np.abs(bars), [[at - one.first], [one.last - at]], fmt="o", capsize=3,
                    color=COLOURS[1], label="between two sizes" if one is known[0] else None)  # fmt: skip
    predictions(ax, found.linear)
    if found.model is not None and math.isfinite(found.model):
        label = f"$(1 + b^2/\\sigma^2)k/d$ = {found.model:.2g} ({_ends(found.model_interval)})"
        ax.axhline(found.model, color=COLOURS[0], linestyle="-", linewidth=1.4, label=label)
    if missing := len(steps) - len(known):
        why = f"no gain\nof {FULL} is established"
        ax.plot([], [], " ", label=f"not drawn: {missing} of {len(steps)}, {why}")
    ax.set(xscale="log", xlabel=EXAMPLES, xlim=(whole.first / 1.1, whole.last * 1.1))
    ax.set_ylabel(f"gain of {name} over that of {FULL}\n(a ratio, per example)")
    told = "no gain of full fine-tuning is established"
    if whole.ratio is not None:
        told = f"{name} gains {whole.ratio:.2g} ({_ends(whole.interval)}) of {FULL}"
    ax.set_title(f"{told}; k/d = {found.linear:.2g}")
    plain(ax.xaxis)
    legend_below(ax, columns=2)
    return ax


def plot_complexities(found: Sequence[Compared], ax: Axes | None = None) -> Axes:
    r"""Draw ratios of Rademacher complexities of tangent classes against what ranks and parameters predict.

    One row of two marks to a method, at the height of its measured ratio: filled at
    $\sqrt{\mathrm{rank}/d}$, hollow at $\sqrt{k/d}$.  On the diagonal a prediction is right.

    Args:
        found: what `rademacher.compared` gives, methods on the same network.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: nothing to draw, or a ratio that is 0.
    """
    found = list(found)
    if not found or any(not one.ratio > 0 for one in found):
        raise ValueError("found: needs at least one comparison, and ratios above 0")
    ax = axes(ax)
    for one, (colour, marker) in zip(found, looks(found), strict=True):
        bars = np.abs(np.array(one.interval)[:, None] - one.ratio)
        ax.plot([one.by_rank, one.by_parameters], [one.ratio] * 2, ":", color=colour, linewidth=1)
        look = {"color": colour, "fmt": marker}
        label = f"{one.name}: k = {one.k}, rank {one.rank}"
        ax.errorbar(one.by_rank, one.ratio, bars, capsize=3, markersize=6, label=label, **look)
        hollow = {"markerfacecolor": "white", "markersize": 10, "zorder": 1.5}  # seen behind a filled one
        ax.errorbar(one.by_parameters, one.ratio, **hollow, **look)
    ends = [x for one in found for x in (one.ratio, one.by_rank, one.by_parameters)]
    line = np.array([min(ends) / 1.3, max(ends) * 1.3])
    ax.plot(line, line, "-", color=INK, linewidth=0.9, zorder=1, label="the prediction is right")
    ax.plot([], [], "o", color=INK, label=r"filled: at $\sqrt{\mathrm{rank}/d}$")
    ax.plot([], [], "o", color=INK, markerfacecolor="white", label=r"hollow: at $\sqrt{k/d}$")
    ax.set(xscale="log", yscale="log", xlim=line, ylim=line, xlabel="predicted ratio (of complexities)")
    ax.set_ylabel("measured ratio of Rademacher complexities,\nPEFT over full fine-tuning (a ratio)")
    off = [max(abs(getattr(one, by) / one.ratio - 1) for one in found) for by in ("by_rank", "by_parameters")]
    ax.set_title(f"$\\sqrt{{rank/d}}$ is off by {off[0]:.0%} at most, $\\sqrt{{k/d}}$ by {off[1]:.0%}")
    plain(ax.xaxis)
    plain(ax.yaxis)
    legend_below(ax, columns=2)
    return ax


def _mapping(curves: Curves) -> Mapping[str, Curve]:
    return getattr(curves, "curves", curves)


def _given(curves: Curves, confidence: float) -> dict[str, Curve]:
    """Curves by name, that of full fine-tuning first."""
    check_confidence(confidence)
    given = dict(_mapping(curves))
    if not given:
        raise ValueError("curves: is empty, needs at least one learning curve")
    for name, curve in given.items():
        if len(values_of(curve)[1]) < 2:
            raise ValueError(f"curves: {name} has a single seed, which has no interval; needs two, better 10")
    return {name: given[name] for name in sorted(given, key=lambda name: name != _KEY)}


def _crossovers(given: Mapping[str, Curve], confidence: float) -> dict[str, Crossover]:
    if _KEY not in given:
        return {}
    return {
        name: crossover(given[_KEY], curve, confidence=confidence)
        for name, curve in given.items()
        if name != _KEY
    }


def _beside(at: int, count: int) -> float:
    """A factor of N that puts the bars of several methods beside each other."""
    return 1.04 ** (at - (count - 1) / 2)


def _means(losses: Losses, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Means over seeds, and what their t intervals add on both sides."""
    mean, alpha = losses.mean(axis=0), (1 - confidence) / 2
    return mean, np.maximum(np.stack([mean - below(losses, alpha), -below(-losses, alpha) - mean]), 0)


def _crossing(ax: Axes, name: str, one: Crossover, hatch: str, full: CurveFit) -> None:
    """The crossover as a star on the curve of full fine-tuning, its interval as a band."""
    low, high = np.clip(one.interval, one.sizes[0], one.sizes[-1])
    told = " to ".join(span(end, one.sizes) for end in one.interval)
    label = f"crossover with {name}: N = {one.estimate:.0f} ({told})"
    ax.axvspan(low, high, facecolor=BAND, edgecolor="0.75", hatch=hatch, linewidth=0, zorder=0)
    height = np.interp(math.log(one.estimate), np.log(full.sizes), full.mean)
    ax.scatter(one.estimate, height, s=190, marker="*", color=INK, edgecolors="white", zorder=4, label=label)


def _described(fit: CurveFit) -> str:
    if fit.law is None:
        words = {Shape.OTHER: "falls by another law", Shape.FLAT: "no fall is established"}
        return f"no law, {words.get(fit.shape, str(fit.shape))}"
    low, high = fit.law.exponent_interval
    return f"$a + cN^{{-\\gamma}}$ with γ = {fit.law.exponent:.2f} ({low:.2f} to {high:.2f})"


def _crossed(found: Mapping[str, Crossover], fits: Mapping[str, CurveFit]) -> str:
    """The message of the learning curves."""
    if not found:
        laws = sum(fit.law is not None for fit in fits.values())
        return f"{laws} of {len(fits)} learning curves follow a power law"
    crossing = {name: one for name, one in found.items() if one.found}
    if len(crossing) > 1:
        return f"{len(crossing)} of {len(found)} curves cross that of {FULL}"
    sizes = next(iter(found.values())).sizes
    if not crossing:
        return f"No crossover is established from {sizes[0]:.0f} to {sizes[-1]:.0f} examples"
    ((name, one),) = crossing.items()
    told = " to ".join(span(end, sizes) for end in one.interval)
    if one.outcome is Crossing.FULL_OVERTAKES:
        return f"Full fine-tuning overtakes {name} at N = {told}"
    return f"{name} overtakes {FULL} at N = {told}"


def _somewhere(found: Mapping[str, Crossover]) -> str:
    """The message of the paired differences."""
    if len(found) > 1:
        better = [name for name, one in found.items() if (one.low > 0).any()]
        return f"Somewhere better than {FULL}: {', '.join(better) or 'none'}"
    ((name, one),) = found.items()
    if one.outcome is Crossing.UNDECIDED:
        return f"It is not established where {name} or {FULL} is better"
    if one.outcome is Crossing.SEVERAL:
        return f"{name} and {FULL} cross more than once"
    names = [name, FULL] if one.low[one.sizes == one.bracket[0]] > 0 else [FULL, name]
    first, last = one.bracket
    if one.outcome is Crossing.NONE:
        return f"{names[0]} is better from {first} to {last} examples".capitalize()
    return f"With {first} examples {names[0]} is better, with {last} {names[1]}"


def _long(name: str) -> str:
    return FULL if name == _KEY else name


def _ends(interval: tuple[float, float]) -> str:
    return " to ".join("∞" if math.isinf(end) else f"{end:.2g}" for end in interval)
