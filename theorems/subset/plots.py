"""Pictures of Theorem 1: what methods reach, and how far full fine-tuning lands from it.

As in all pictures of the project: draw on the Axes given or on new ones, return them, show nothing, and carry
every meaning by marker or place as well as by colour (palette of Okabe and Ito).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...models.methods import Staged
from .distance import distances

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...models.methods import Method
    from ...models.network import Network
    from ...models.tree import Params

_INK, _EXACT, _ESTIMATE = "0.25", "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Reach:
    """What a picture shows of a method on a network.

    Attributes:
        method: its name.
        k: parameters.
        dimension: of Im g.
        d: parameters of the network.
        distance: of the fully fine-tuned update from Im g, relative to its norm; None when unknown.
        exact: whether the distance is exact; otherwise it is an upper estimate.
    """

    method: str
    k: int
    dimension: int
    d: int
    distance: float | None = None
    exact: bool = True


def reach(method: Method, network: Network, update: Params | None = None) -> Reach:
    """What a picture shows of a method: its counts, and how far an update is from what it reaches.

    Args:
        method: any method with a map g; a `Staged` one is resolved with the update.
        network: the base network, float64.
        update: Δθ of full fine-tuning, a tree like θ; without it there is no distance.

    Raises:
        ValueError: an extension, or a `Staged` method without an update.
    """
    if isinstance(method, Staged) and update is not None:
        method = method.resolve(network, update)
    made, image = method.reparameterize(network), method.image(network)
    found = None if update is None else distances(method, network, update).relative
    return Reach(method.name, made.k, image.dimension, made.d, found, image.exact)


def plot_dimensions(reaches: Sequence[Reach], ax: Axes | None = None) -> Axes:
    """Draw parameters and dimension of Im g, one row per method: what lies between them is gauge.

    Args:
        reaches: one per method, of one network.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: nothing to draw.
    """
    ax = _axes(ax, reaches)
    rows = sorted(reaches, key=lambda one: (one.k, one.dimension))
    y = np.arange(len(rows))
    k, dimension = (np.array([getattr(one, name) for one in rows], float) for name in ("k", "dimension"))
    ax.hlines(y, dimension, k, color=_ESTIMATE, linewidth=2, zorder=1, label="redundant: gauge")
    ax.scatter(k, y, marker="o", s=44, facecolors="white", edgecolors=_INK, zorder=2, label="parameters k")
    ax.scatter(dimension, y, marker="d", s=26, color=_EXACT, zorder=3, label="dimension of Im g")
    ax.axvline(rows[0].d, color=_INK, linewidth=1, linestyle=":", label="parameters d of the network")
    ax.set(xscale="log", yticks=y, yticklabels=[one.method for one in rows], ylim=(-0.7, len(rows) - 0.3))
    lost = max(rows, key=lambda one: one.k / one.dimension)
    ax.set(xlabel="a count, on a logarithmic axis", ylabel="method (no unit)")
    ax.set_title(f"Parameters are not dimensions: {lost.method} has {lost.k} and reaches {lost.dimension}")
    ax.legend(loc="lower right")
    return ax


def plot_distances(reaches: Sequence[Reach], ax: Axes | None = None) -> Axes:
    """Draw how far the fully fine-tuned update lies from Im g against the dimension of Im g, as a share of d.

    Args:
        reaches: one per method, of one network; those without a distance are left out.
        ax: where to draw; None makes a new figure.

    Raises:
        ValueError: nothing to draw.
    """
    known = [one for one in reaches if one.distance is not None and one.dimension < one.d]
    ax = _axes(ax, known)
    for exact, marker, colour, label in (
        (True, "o", _EXACT, "distance"),
        (False, "v", _ESTIMATE, "upper estimate of it"),
    ):
        chosen = [one for one in known if one.exact is exact]
        if chosen:
            x, y = [one.dimension / one.d for one in chosen], [one.distance for one in chosen]
            ax.scatter(x, y, marker=marker, s=34, color=colour, zorder=3, label=label)
    share = np.geomspace(min(one.dimension / one.d for one in known) / 1.3, 1, 200)
    ax.plot(share, np.sqrt(1 - share), color=_INK, linewidth=1, label="a random subspace: √(1 − dim/d)")
    ax.set(xscale="log", ylim=(0, 1.08))
    _name(ax, [(one.method, one.dimension / one.d, one.distance) for one in known])
    far = min(known, key=lambda one: one.distance)
    ax.set_xlabel("dimension of Im g / d (a share)")
    ax.set_ylabel("distance of the full update from Im g\n(a share of its norm)")
    ax.set_title(
        f"Full fine-tuning lands outside: {far.method} comes nearest, at {far.distance:.2f} of its norm"
    )
    ax.legend(loc="lower left")
    return ax


def _axes(ax: Axes | None, drawn: Sequence[Reach]) -> Axes:
    if not drawn:
        raise ValueError("reaches is empty, or none of them has what is drawn: give at least one method")
    if ax is None:
        import matplotlib.pyplot as plt  # noqa: PLC0415  (who draws nothing need not wait for it)

        _, ax = plt.subplots(layout="constrained", figsize=(7.5, 5))
    return ax


def _name(ax: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write each method beside its point, alternately above and below so that neighbours do not meet."""
    for i, (name, x, y) in enumerate(sorted(points, key=lambda point: (point[1], point[2]))):
        up = i % 2 == 0
        ax.annotate(
            name,
            (x, y),
            xytext=(4, 5 if up else -5),
            textcoords="offset points",
            va="bottom" if up else "top",
            fontsize=7,
            color=_INK,
        )
