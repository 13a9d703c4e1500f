r"""Pictures of Theorem 3: how spectra decay, what a rank leaves out, and what a rank is worth.

As in all pictures of the project: draw on the Axes given or on new ones, return them, show nothing, and carry
every meaning by marker, line or place as well as by colour (palette of Okabe and Ito).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..drawing import axes, legend_below
from .critical import critical_rank, joint_critical_rank
from .decay import Decay, decay_model
from .plateau import Found
from .spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...models.sweep import RankSweep
    from .decay import DecayFit, DecayVerdict
    from .frozen_a import BestRank, FrozenA
    from .plateau import Plateau
    from .simulation import Simulated
    from .truncation import Truncations

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP<>"  # one more than colours, so that a pair comes back only after 56 layers
_INK, _BAND = "0.25", "0.9"
_SHARES = (0.1, 0.01)


def plot_spectra(spectra: Mapping[str, Spectrum] | Spectrum, ax: Axes | None = None) -> Axes:
    """Draw the singular values of each layer on a logarithmic axis, with a law of decay and its verdict.

    A solid line is the law that `decay_model` accepts; a dotted one is just the closer of the two, where its
    verdict is that neither holds or that the values do not decide. Values at rounding level are left out.

    Args:
        spectra: by layer, as `spectra` gives them, or one.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: no layer, or one whose singular values are all zero.
    """
    layers = _layers(spectra)
    verdicts = {name: decay_model(one) for name, one in layers.items()}
    ax = axes(ax)
    for (name, one), (colour, marker) in zip(layers.items(), _looks(layers), strict=True):
        verdict, values = verdicts[name], one.values[: verdicts[name].used]
        i = np.arange(1, len(values) + 1)
        label = f"{name}: {_verdict(verdict)}"
        ax.scatter(i, values, s=24, marker=marker, color=colour, label=label, zorder=3)
        if (fit := verdict.closer) is not None:
            style = "-" if verdict.accepted is fit else ":"
            ax.plot(i, _law(fit, i), style, color=colour, linewidth=1.3, zorder=2)
    counts = Counter(verdict.outcome for verdict in verdicts.values())
    found = ", ".join(f"{counts[outcome]} {_OUTCOMES[outcome]}" for outcome in Decay if counts[outcome])
    ax.set(
        yscale="log", xlabel="i, number of the singular value", ylabel="$\\sigma_i$ (units of the weights)"
    )
    _plain(ax.yaxis)
    ax.set_title(f"Decay in {len(layers)} {_plural('layer', len(layers))}: {found}")
    legend_below(ax, drop=0.14)
    return ax


def plot_tails(
    spectra: Mapping[str, Spectrum] | Spectrum,
    ax: Axes | None = None,
    *,
    shares: Sequence[float] = _SHARES,
) -> Axes:
    r"""Draw the share of each layer's squared norm beyond rank r, with the critical ranks marked.

    A ring is at $r_c(\varepsilon) = \min\{r : \mathrm{tail}(r) < \varepsilon\}$ for each ε, a share of
    $\mathrm{tail}(0) = \|\Delta\|_F^2$.

    Args:
        spectra: by layer, as `spectra` gives them, or one.
        ax: where to draw; None makes a new figure.
        shares: what ε is, as shares of the squared norm of a layer.

    Raises:
        ValueError: no layer, one whose singular values are all zero, no share or one outside of (0, 1).
    """
    layers, shares = _layers(spectra), _checked(shares)
    ax = axes(ax)
    lowest, ranks = shares[-1] / 30, {}
    for (name, one), (colour, marker) in zip(layers.items(), _looks(layers), strict=True):
        ranks[name] = [critical_rank(one, share * one.energy).rank for share in shares]
        tails = one.tails / one.energy
        shown = tails >= lowest
        label = f"{name}: $r_c$ = {_listed(ranks[name])}"
        r = np.arange(len(tails))[shown]
        ax.plot(r, tails[shown], color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)
        at = [rank for rank in ranks[name] if tails[rank] >= lowest]
        ax.scatter(at, tails[at], s=130, facecolors="none", edgecolors=colour, linewidths=1.4, zorder=3)
    for share in shares:
        ax.axhline(share, color=_INK, linewidth=0.9, linestyle="--", zorder=1)
        ax.annotate(_percent(share), (1, share), xytext=(-3, 3), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", color=_INK)  # fmt: skip
    last = [row[-1] for row in ranks.values()]
    ax.set(yscale="log", ylim=(lowest, 1.5), xlabel="rank r")
    ax.set_ylabel("tail(r) / tail(0)\n(a share of the squared norm)")
    ax.set_title(f"To lose less than {_percent(shares[-1])} takes rank {_span(last)}")
    legend_below(ax, drop=0.14)
    return ax


def plot_ranks(
    truncated: Truncations,
    sweep: RankSweep,
    plateau: Plateau,
    spectra: Mapping[str, Spectrum] | Spectrum,
    ax: Axes | None = None,
    *,
    part: str = "test",
    quantity: Literal["loss", "error"] = "loss",
    shares: Sequence[float] = _SHARES,
) -> Axes:
    """Draw the loss against the rank: of truncated updates, and of LoRA trained at that rank.

    The ranks that the full update predicts, `joint_critical_rank`, are diamonds on the curve of its
    truncations; the interval of the rank from which LoRA's plateau begins is a band.  The bars of LoRA go
    from the lowest to the highest seed.

    Args:
        truncated: losses of W₀ + truncated full update, as `truncations` gives them.
        sweep: LoRA at several ranks, as `rank_sweep` gives it, from the same base network.
        plateau: of the sweep, as `plateau.of_sweep` gives it, for the same split and quantity.
        spectra: of the full update, as `spectra` gives them.
        ax: where to draw; None makes a new figure.
        part: the split.
        quantity: the loss, or the share of the examples that are classified wrongly.
        shares: what the predicted ranks may lose, as shares of the squared norm of the full update.

    Raises:
        ValueError: an unknown split or quantity, the plateau of another curve, or as `joint_critical_rank`.
    """
    ranks = {share: joint_critical_rank(spectra, share).rank for share in _checked(shares)}
    curve, losses = _curves(truncated, sweep, part, quantity)
    mean = losses.mean(axis=1)
    if not (np.array_equal(plateau.ranks, sweep.ranks) and np.allclose(plateau.mean, mean)):
        raise ValueError(
            f"plateau: is of another curve; give plateau.of_sweep(sweep, {part!r}, {quantity!r}, ...) of the "
            "sweep that is drawn"
        )
    ax = axes(ax)
    if plateau.interval is not None:
        low, high = plateau.interval
        ax.axvspan(low - 0.3, high + 0.3, color=_BAND, linewidth=0, zorder=0, label=_band(plateau, quantity))
    label = "full update, truncated to rank r"
    ax.plot(truncated.joint.ranks, curve, "--", color=_COLOURS[0], linewidth=1.6, label=label)
    bars = np.abs(np.stack([losses.min(axis=1), losses.max(axis=1)]) - mean)
    look = {"color": _COLOURS[1], "linewidth": 1.6, "markersize": 5, "capsize": 3}
    ax.errorbar(sweep.ranks, mean, bars, fmt="o-", label=f"LoRA trained at rank r ({_seeds(losses)})", **look)
    _diamonds(ax, ranks, curve)
    ax.set(xlabel="rank r", ylabel=f"{part} {_UNITS[quantity]}")
    if quantity == "loss":
        ax.set_yscale("log")
        _plain(ax.yaxis)
    else:
        ax.set_ylim(bottom=0)
    told = ", ".join(f"{rank} ({_percent(share)})" for share, rank in ranks.items())
    ax.set_title(f"Predicted rank {told}; {_measured(plateau)}")
    legend_below(ax, drop=0.14)
    return ax


def _curves(
    truncated: Truncations, sweep: RankSweep, part: str, quantity: str
) -> tuple[np.ndarray, np.ndarray]:
    if part not in truncated.joint.loss:
        known = ", ".join(truncated.joint.loss)
        raise ValueError(f"part: got {part!r}, needs a split that was evaluated: {known}")
    if quantity not in _UNITS:
        raise ValueError(f"quantity: got {quantity!r}, needs 'loss' or 'error'")
    if quantity == "loss":
        return truncated.joint.loss[part], sweep.loss(part)
    return 1 - truncated.joint.accuracy[part], 1 - sweep.accuracy(part)


def _diamonds(ax: Axes, ranks: Mapping[float, int], curve: np.ndarray) -> None:
    """Mark the predicted ranks on a curve; their names stand where falling curves leave room."""
    at = list(ranks.values())
    label = "$r_c$: the full update loses less than the share beside it"
    look = {"facecolors": "white", "edgecolors": _COLOURS[0], "linewidths": 1.6}
    ax.scatter(at, curve[at], s=60, marker="D", zorder=4, label=label, **look)
    for row, (share, rank) in enumerate(ranks.items()):
        ax.annotate(
            f"{_percent(share)}: r = {rank}",
            (rank, curve[rank]),
            xytext=(-4, max(70 - 25 * row, 20)),
            textcoords="offset points",
            color=_INK,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"},
            arrowprops={
                "arrowstyle": "-",
                "color": _INK,
                "linewidth": 0.8,
                "shrinkB": 5,
                "relpos": (0.06, 0),
            },
            zorder=5,
        )


def plot_risk(
    models: Sequence[FrozenA], simulated: Mapping[int, Simulated] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the exact excess risk of frozen-A LoRA regression against the rank, with its critical ranks.

    Points are Monte Carlo means, with bars of two standard errors to each side.

    Args:
        models: the same model with several numbers of samples N.
        simulated: by N, what `simulate` gives.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: no model, two with the same N, or simulations of an N that is not drawn.
    """
    simulated = {} if simulated is None else simulated
    counts = [model.samples for model in models]
    if not counts or len(set(counts)) < len(counts):
        raise ValueError(f"models: got the samples {counts}, needs at least one model, each with its own N")
    if strange := sorted(set(simulated) - set(counts)):
        raise ValueError(f"simulated: got N = {strange}, needs the samples of models: {counts}")
    ax, order = axes(ax), sorted(models, key=lambda model: model.samples)
    bests = [model.best_rank() for model in order]
    for model, best, (colour, marker) in zip(order, bests, _looks(order), strict=True):
        r = np.arange(model.last + 1)
        risk = np.array([float(model.risk(int(rank))) for rank in r])
        ax.plot(r, risk, color=colour, linewidth=1.4, zorder=2)
        if (drawn := simulated.get(model.samples)) is not None:
            bars = 2 * drawn.standard_error
            ax.errorbar(drawn.ranks, drawn.mean, bars, fmt=marker, color=colour, markersize=5, capsize=3,
                        markerfacecolor="white", zorder=3)  # fmt: skip
        ax.scatter(best.rank, float(best.risk), s=380, marker="*", color=colour, edgecolors="white",
                   linewidths=0.8, zorder=2.5)  # fmt: skip
        ax.plot([], [], color=colour, marker=marker, markerfacecolor="white", label=f"N = {model.samples}")
    ax.scatter([], [], s=150, marker="*", color=_INK, label="the least risk")
    if simulated:
        ax.errorbar([], [], [], fmt="o", color=_INK, markerfacecolor="white", capsize=3,
                    label="Monte Carlo ± 2 standard errors")  # fmt: skip
    ax.set(yscale="log", xlabel="rank r", ylabel="excess risk E(r) (squared units of the output)")
    _plain(ax.yaxis)
    ranks = ", ".join(map(_best, bests))
    ax.set_title(f"Best rank {ranks} for N = {', '.join(str(model.samples) for model in order)}")
    legend_below(ax, columns=2, drop=0.14)
    return ax


_OUTCOMES = {
    Decay.EXPONENTIAL: "exponential",
    Decay.POWER: "power law",
    Decay.NEITHER: "neither",
    Decay.UNDECIDED: "undecided",
}
_UNITS = {"loss": "loss (nats)", "error": "error (a share of the examples)"}
_RATES = {Decay.EXPONENTIAL: "λ", Decay.POWER: "p"}


def _verdict(verdict: DecayVerdict) -> str:
    fit = verdict.accepted
    if fit is None:
        return _OUTCOMES[verdict.outcome]
    low, high = fit.interval
    return f"{_OUTCOMES[fit.law]}, {_RATES[fit.law]} = {fit.rate:.3g} ({low:.3g} to {high:.3g})"


def _law(fit: DecayFit, i: np.ndarray) -> np.ndarray:
    return fit.C * (np.exp(-fit.rate * i) if fit.law is Decay.EXPONENTIAL else i**-fit.rate)


def _band(plateau: Plateau, quantity: str) -> str:
    unit = "nats" if quantity == "loss" else "of the examples"
    kept = (
        f"{plateau.tolerance:g} {unit}" if plateau.share is None else f"{_percent(plateau.share)} of the gain"
    )
    return f"here LoRA's plateau begins ({_percent(plateau.confidence)} interval; all but {kept})"


def _measured(plateau: Plateau) -> str:
    """The finding, in a few words; an interval up to the last rank tried is open above."""
    if plateau.interval is None:
        return "no gain measured" if plateau.found is Found.NO_GAIN else "one seed measures nothing"
    low, high = plateau.interval
    if plateau.found is Found.RISING:
        return f"no plateau up to {high}"
    return (
        f"plateau measured at {_span([low, high]) if plateau.found is Found.PLATEAU else f'{low} or above'}"
    )


def _best(best: BestRank) -> str:
    return _span([best.least, best.most]) if best.tie else str(best.rank)


def _seeds(losses: np.ndarray) -> str:
    count = losses.shape[1]
    return "one seed" if count == 1 else f"mean, lowest and highest of {count} seeds"


def _layers(spectra: Mapping[str, Spectrum] | Spectrum) -> Mapping[str, Spectrum]:
    layers = {spectra.name or "update": spectra} if isinstance(spectra, Spectrum) else spectra
    if not layers:
        raise ValueError("spectra is empty: give at least one layer to draw")
    if zero := [name for name, one in layers.items() if not one.energy]:
        raise ValueError(f"spectra: {', '.join(zero)} did not move: a logarithmic axis has no place for 0")
    return layers


def _checked(shares: Sequence[float]) -> list[float]:
    """In descending order, the order of the ranks."""
    if not len(shares) or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares: got {tuple(shares)}, needs numbers between 0 and 1, such as (0.1, 0.01)")
    return sorted(shares, reverse=True)


def _looks(drawn: Sequence | Mapping) -> list[tuple[str, str]]:
    return list(islice(zip(cycle(_COLOURS), cycle(_MARKERS), strict=False), len(drawn)))


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _listed(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks))


def _span(ranks: Sequence[int]) -> str:
    low, high = min(ranks), max(ranks)
    return str(low) if low == high else f"{low} to {high}"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _plain(axis: object) -> None:
    """Write 0.5 and not 5 × 10⁻¹ on a logarithmic axis; 1, 2, 5 in each decade while there are few."""
    from matplotlib.ticker import LogLocator  # noqa: PLC0415  (who draws nothing need not wait for it)

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
