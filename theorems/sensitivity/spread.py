r"""How wide, how peaked and how heavy-tailed the entries of an update Δθ are: what the paper calls steepness.

The paper's Figure 1 shows the entries of single matrices of Δθ and their standard deviation, and infers
from a "steeper" distribution that a network is more sensitive.  These are descriptive statistics of the
numbers in an update; they are no sample from anything, so there are no intervals.  Sharpness, which the
literature does connect with robustness, is the curvature of the loss and none of this.

Most methods leave most entries alone, and it matters whether those count.  "all" takes every entry of the
leaves chosen, zeros included; "moved" only those that differ from zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from ...models import tree
from .. import linalg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Entries = Literal["all", "moved"]
_FAR = 3


@dataclass(frozen=True, repr=False)
class Spread:
    r"""Statistics of the entries $\delta_1, \dots, \delta_n$ of an update, in units of the weights.

    Attributes:
        name: of the layer, or of what was pooled.
        entries: "all", or "moved" where zeros were left out.
        count: n.
        zeros: how many entries of the leaves chosen are exactly zero, counted or not.
        mean: $m = \frac1n \sum_i \delta_i$.
        sd: $s = (\frac1n \sum_i (\delta_i - m)^2)^{1/2}$, the spread; the larger, the flatter.
        kurtosis: excess kurtosis $\frac1n \sum_i ((\delta_i - m)/s)^4 - 3$: 0 for a Gaussian, more for what
            is peaked and has heavy tails; NaN where s = 0.
        beyond: share of the entries farther than 3 s from m, 0.0027 for a Gaussian; NaN where s = 0.
        tails: $(q_{.99} - q_{.01}) / (q_{.75} - q_{.25})$ of quantiles, 3.45 for a Gaussian: tails against
            the middle, whatever a few outliers do; infinite where the middle half are equal and the tails are
            not, NaN where those are equal too.
    """

    name: str
    entries: Entries
    count: int
    zeros: int
    mean: float
    sd: float
    kurtosis: float
    beyond: float
    tails: float

    def __repr__(self) -> str:
        """Show the statistics."""
        name = f"{self.name}, " if self.name else ""
        return (
            f"Spread({name}{self.entries} {self.count} entries, sd {self.sd:.3g}, excess kurtosis "
            f"{self.kurtosis:.3g}, {100 * self.beyond:.2g} % beyond 3 sd, tails {self.tails:.3g})"
        )


def spread(
    update: Any, *, entries: Entries = "all", pattern: str | Sequence[str] = "*", name: str = ""
) -> Spread:
    """Describe the entries of an update, of all chosen leaves together.

    Args:
        update: a pytree of float64 arrays of any shapes, or one array.
        entries: which count, "all" or "moved".
        pattern: shell pattern on the paths (or several) that selects leaves.
        name: what the result is called.

    Raises:
        ValueError: no leaf, a pattern that matches nothing, leaves that are not float64 or not finite, or
            "moved" entries of leaves that did not move.
    """
    return of_entries(entries_of(update, pattern), entries, name)


def spreads(
    update: Any, *, entries: Entries = "all", pattern: str | Sequence[str] = "*"
) -> dict[str, Spread]:
    """Describe the entries of an update leaf by leaf.

    Args:
        update: as `spread`.
        entries: as `spread`; with "moved", leaves that did not move are left out.
        pattern: as `spread`.

    Raises:
        ValueError: as `spread`; "moved" needs one leaf that did.
    """
    chosen = _leaves(update, pattern)
    if entries == "moved":
        chosen = {name: leaf for name, leaf in chosen.items() if leaf.any()}
        if not chosen:
            raise ValueError("update: no leaf that was chosen moved; use entries='all'")
    return {name: of_entries(leaf.ravel(), entries, name) for name, leaf in chosen.items()}


def beside(
    updates: Mapping[str, Any],
    reference: str = "full",
    *,
    entries: Entries = "all",
    pattern: str | Sequence[str] = "*",
) -> dict[str, float]:
    """Standard deviation of each update over that of a reference: below 1 it is the steeper of the two.

    Args:
        updates: by name of the method, as `spread` takes them.
        reference: the name of the one to compare with.
        entries: as `spread`.
        pattern: as `spread`.

    Returns:
        The ratio by name, for all but the reference.

    Raises:
        ValueError: as `spread`, no such reference, or one whose entries are all equal.
    """
    if reference not in updates:
        raise ValueError(f"reference: got {reference!r}, needs one of {', '.join(updates)}")
    found = {name: spread(update, entries=entries, pattern=pattern).sd for name, update in updates.items()}
    size = found.pop(reference)
    if size == 0:
        raise ValueError(
            f"reference: all entries of {reference!r} are equal; compare with an update that moved"
        )
    return {name: sd / size for name, sd in found.items()}


def entries_of(update: Any, pattern: str | Sequence[str] = "*") -> Float[np.ndarray, " n"]:
    """The entries of all chosen leaves, one after the other.

    Raises:
        ValueError: no leaf, or a pattern that matches nothing.
    """
    return np.concatenate([leaf.ravel() for leaf in _leaves(update, pattern).values()])


def of_entries(values: Float[np.ndarray, " n"], entries: Entries = "all", name: str = "") -> Spread:
    """Describe given numbers.

    Raises:
        ValueError: not float64, not finite, an unknown choice, or nothing left to describe.
    """
    if entries not in ("all", "moved"):
        raise ValueError(f"entries: got {entries!r}, needs 'all' or 'moved'")
    linalg.require_judging_precision(name or "update", values)
    zeros = int((values == 0).sum())
    counted = values if entries == "all" else values[values != 0]
    if not len(counted):
        what = "no entry" if not len(values) else "no entry that moved"
        raise ValueError(f"{name or 'update'}: got {what}, needs at least one")
    mean = float(counted.mean())
    centred = counted - mean
    sd = float(np.sqrt((centred**2).mean()))
    # Rounding of the mean leaves equal numbers a tiny spread, which would make their kurtosis noise.
    flat = float(np.ptp(counted)) == 0
    low, first, third, high = np.quantile(counted, (0.01, 0.25, 0.75, 0.99))
    return Spread(
        name,
        entries,
        len(counted),
        zeros,
        mean,
        0.0 if flat else sd,
        float("nan") if flat else float(((centred / sd) ** 4).mean()) - 3,
        float("nan") if flat else float((np.abs(centred) > _FAR * sd).mean()),
        _ratio(float(high - low), float(third - first)),
    )


def _ratio(tails: float, middle: float) -> float:
    if middle > 0:
        return tails / middle
    return float("inf") if tails > 0 else float("nan")


def _leaves(update: Any, pattern: str | Sequence[str]) -> dict[str, np.ndarray]:
    flat, _ = jax.tree_util.tree_flatten_with_path(update)
    named = {jax.tree_util.keystr(path, simple=True, separator="/") or "update": leaf for path, leaf in flat}
    if not named:
        raise ValueError("update: got no leaf, needs at least one array")
    return {name: np.asarray(named[name]) for name in tree.match_names(named, pattern, "leaf")}
