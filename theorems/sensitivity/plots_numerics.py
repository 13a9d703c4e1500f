r"""Pictures of the numerics of Theorem 4: what subtraction loses, and how eigenvalues are distributed.

As in all pictures of the project: draw on the Axes given or on new ones, return them, show nothing, and carry
every meaning by marker, line or place as well as by colour (palette of Okabe and Ito).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from .. import linalg
from ..drawing import axes, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..curvature import Eigenpairs, SpectralDensity

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
_INK = "0.25"
_BINS = 4  # to a decade of eigenvalues
_DEEP = 1e-5  # shares of eigenvalues below that are left out


def plot_cancellation(
    share: Float[np.ndarray, " n"],
    residual: Float[np.ndarray, " n"],
    subtracted: Float[np.ndarray, " n"],
    ax: Axes | None = None,
) -> Axes:
    r"""Draw relative errors of the gap by both ways to compute it, against its share of what full gains.

    Lines are $\varepsilon\,full/gap$ and $\varepsilon\sqrt{full/gap}$ with the machine epsilon.  An error of
    0 is drawn at half of that.

    Args:
        share: gap / full of n instances, in (0, 1].
        residual: relative errors of the residual form.
        subtracted: relative errors of the difference of the two quadratic forms.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: lengths that differ, fewer than two instances, or shares out of range.
    """
    share, residual, subtracted = (np.asarray(a, np.float64) for a in (share, residual, subtracted))
    if not (share.shape == residual.shape == subtracted.shape and share.ndim == 1 and len(share) > 1):
        raise ValueError(
            f"share, residual, subtracted: got {share.shape}, {residual.shape} and {subtracted.shape}, needs "
            "arrays of one length, two or more"
        )
    if not (np.all(share > 0) and np.all(share <= 1)):
        raise ValueError("share: needs numbers in (0, 1]: the gap over what full fine-tuning gains")
    ax = axes(ax)
    x = np.array([share.min(), share.max()])
    slopes = []
    rows = (("two forms, subtracted", subtracted, 1.0), ("residual form", residual, 0.5))
    for (name, errors, power), (colour, marker) in zip(
        rows, zip(_COLOURS[1::-1], "so", strict=True), strict=True
    ):
        shown = np.maximum(errors, linalg.EPS / 2)
        slopes.append(float(np.polyfit(np.log(share), np.log(shown), 1)[0]))
        ax.plot(
            share,
            shown,
            marker,
            linestyle="none",
            color=colour,
            markersize=4,
            label=f"{name}: slope {slopes[-1]:.2f}",
        )
        law = "full / gap" if power == 1 else "√(full / gap)"
        ax.plot(
            x,
            linalg.EPS * x**-power,
            ("-", "--")[power < 1],
            color=colour,
            linewidth=1.2,
            label=f"machine ε times {law}",
        )
    ax.axhline(1, color=_INK, linewidth=0.9)
    ax.annotate("no digit is right", (1, 1), xytext=(-3, -12), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", color=_INK)  # fmt: skip
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="gap / full (a ratio)",
        ylabel="relative error of the gap (a ratio)",
    )
    ax.set_title(f"A small gap costs subtraction digits {slopes[0] / slopes[1]:.1f} times as fast")
    legend_below(ax, columns=2)
    return ax


def plot_spectrum(
    density: SpectralDensity,
    ax: Axes | None = None,
    *,
    largest: Eigenpairs | None = None,
    smallest: Eigenpairs | None = None,
    ridge: float | None = None,
) -> Axes:
    """Draw how the eigenvalues of a Hessian are distributed over the decades, and the extreme ones.

    Bars are the share of the eigenvalues in each quarter of a decade, from `curvature.spectral_density`;
    negative ones, by their size, are hatched.  Eigenvalues with proved intervals are marked above the bars,
    as wide as the intervals are; at what height means nothing.

    Args:
        density: of the spectrum, exact or estimated.
        ax: where to draw; None makes a new figure.
        largest: from `curvature.eigenpairs`.
        smallest: likewise.
        ridge: λ, marked by a line.

    Raises:
        ValueError: a spectrum of zeros.
    """
    nodes, weights = density.nodes.ravel(), density.weights.ravel() / len(density.nodes)
    shown = (weights > 0) & (nodes != 0)
    if not shown.any():
        raise ValueError("density: all eigenvalues are 0, for which a logarithmic axis has no place")
    ax = axes(ax)
    _bars(ax, nodes[shown], weights[shown])
    for name, pairs, height, look in (
        ("largest", largest, 1.6, {"color": _COLOURS[3], "fmt": "v"}),
        ("smallest", smallest, 3.2, {"color": _COLOURS[4], "fmt": "^"}),
    ):
        if pairs is not None:
            _marks(ax, pairs, height, name, look)
    if ridge is not None:
        ax.axvline(ridge, color=_INK, linewidth=1, linestyle="--", label=f"λ = {ridge:g}")
    ax.set(
        xscale="log",
        yscale="log",
        ylim=(_DEEP, 10),
        xlabel="eigenvalue of the Hessian (nats per squared weight)",
    )
    ax.set_yticks([10.0**power for power in range(-5, 1)])  # above 1, where no share is, stand the marks
    ax.set_yticks([], minor=True)
    ax.set_ylabel("share of the eigenvalues\nin a quarter of a decade")
    top = float(nodes[shown].max())
    above = float(weights[nodes > top / 100].sum())
    ax.set_title(f"{100 * above:.2g} % of the eigenvalues exceed a hundredth of the largest")
    legend_below(ax, columns=2)
    return ax


def _bars(ax: Axes, nodes: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> None:
    """The share of the eigenvalues in each quarter of a decade, for either sign."""
    size = np.log10(np.abs(nodes))
    edges = np.arange(math.floor(size.min() * _BINS), math.ceil(size.max() * _BINS) + 2) / _BINS
    kinds = (
        ("positive", 1, {"color": _COLOURS[0]}),
        ("negative, by their size", -1, {"facecolor": "white", "edgecolor": _COLOURS[1], "hatch": "//"}),
    )
    for name, sign, look in kinds:
        of = sign * nodes > 0
        if of.any():
            held = np.histogram(size[of], edges, weights=weights[of])[0]
            ax.bar(10 ** edges[:-1], np.where(held > _DEEP, held, 0), np.diff(10**edges), align="edge",
                   linewidth=0.6, label=f"{name}: {100 * held.sum():.3g} %", **look)  # fmt: skip


def _marks(ax: Axes, pairs: Eigenpairs, height: float, name: str, look: dict[str, str]) -> None:
    """Eigenvalues with their intervals, at a height above the bars."""
    ends = np.stack([pairs.values - pairs.lower, pairs.upper - pairs.values])
    count = len(pairs.values)
    label = f"the {count} {name}, each ± {pairs.radius:.0e}\n(their height means nothing)"
    ax.errorbar(np.abs(pairs.values), np.full(count, height), xerr=ends, markersize=5, label=label, **look)
