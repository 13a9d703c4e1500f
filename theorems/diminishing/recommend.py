"""Which rank does an update need?  What is proved of the answer is kept apart from what is only hoped."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import linalg
from .spectrum import Spectrum, layers, spectra
from .whitened import whitened_spectrum

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, repr=False)
class Assignment:
    r"""A rank for each layer.

    Attributes:
        ranks: by layer.
        parameters: what low-rank updates of these ranks train, $\sum_l r_l (m_l + n_l)$.
        tail: the squared distance to the update that is left, $\sum_l \mathrm{tail}_l(r_l)$.
        share: the share of the squared norm that is kept.
    """

    ranks: dict[str, int]
    parameters: int
    tail: float
    share: float

    def __repr__(self) -> str:
        """Show the range of the ranks."""
        low, high = min(self.ranks.values()), max(self.ranks.values())
        ranks = f"rank {low}" if low == high else f"ranks {low} to {high}"
        return f"Assignment({ranks}, {self.parameters:,} parameters, keeps {100 * self.share:.4g} %)"


@dataclass(frozen=True, eq=False, repr=False)
class RankRecommendation:
    r"""Ranks that keep the wanted share of an update, in three ways.

    Attributes:
        each: every layer keeps the share by itself, with its smallest such rank.
        uniform: the smallest rank that keeps the share in total if all layers have it (or all they can).
        cheapest: ranks that keep the share in total, with few parameters; see `least_parameters`.
        least_parameters: no assignment that keeps the share in total has fewer; `cheapest` is optimal where
            it has as many.
        share: the share of the squared norm that was asked for, or that the loss requires.
        loss: the increase of the loss that was allowed, or None.
        guaranteed: what is proved of all three, in a sentence.
        estimated: what is not, in a sentence.
        spectra: by layer.
    """

    each: Assignment
    uniform: Assignment
    cheapest: Assignment
    least_parameters: int
    share: float
    loss: float | None
    guaranteed: str
    estimated: str
    spectra: dict[str, Spectrum]

    @property
    def gap(self) -> int:
        """Parameters by which `cheapest` may exceed the least possible number; less than one step's."""
        return self.cheapest.parameters - self.least_parameters

    @property
    def records(self) -> list[dict[str, Any]]:
        """One row per layer: its shape, its full rank, and the three ranks."""
        return [
            {
                "layer": name,
                "shape": one.shape,
                "full_rank": min(one.shape),
                "each": self.each.ranks[name],
                "uniform": self.uniform.ranks[name],
                "cheapest": self.cheapest.ranks[name],
                "share_of_each": one.share(self.each.ranks[name]),
            }
            for name, one in self.spectra.items()
        ]

    def __repr__(self) -> str:
        """Show the three ways, what is guaranteed and what is estimated."""
        rows = (("layer by layer", self.each), ("one rank", self.uniform), ("cheapest", self.cheapest))
        lines = [f"RankRecommendation: keep {100 * self.share:.4g} % of {len(self.spectra)} layers"]
        lines += [f"  {label:15}{repr(one)[11:-1]}" for label, one in rows]
        lines += [f"  no ranks that keep it have fewer than {self.least_parameters:,} parameters"]
        for word in ("guaranteed", "estimated"):
            lines += textwrap.wrap(f"{word}: {getattr(self, word)}", 79, break_on_hyphens=False)
        return "\n".join(lines)


def recommend_rank(
    update: Any = None,
    *,
    share: float | None = None,
    loss: float | None = None,
    smoothness: float | None = None,
    gradient_norm: float = 0.0,
    gradient: Any = None,
    second_moments: Mapping[str, np.ndarray] | np.ndarray | None = None,
    pattern: str | Sequence[str] = "*",
) -> RankRecommendation:
    r"""The smallest ranks that keep a share of an update, or that cost no more than a stated loss.

    Truncated to ranks $r_l$, an update Δ moves by the squared distance $t = \sum_l \mathrm{tail}_l(r_l)$,
    which is the least possible.  Asked for a share s, the ranks have $t \le (1-s)\|\Delta\|_F^2$.  Asked for
    a loss ε, they have $\gamma\sqrt t + \tfrac\beta2 t \le \varepsilon$, so that

    $$L(\Delta_r) - L(\Delta) \le \gamma\,\|\Delta_r-\Delta\|_F + \tfrac\beta2\|\Delta_r-\Delta\|_F^2
    \le \varepsilon$$

    if the loss is β-smooth on the segment between the two and its gradient at Δ has a norm of at most γ.

    Args:
        update: Δ as `spectra` takes it: a matrix, factors, a pytree of kernels (in, out), or spectra.
        share: s in (0, 1]; 0.9 if neither a share nor a loss is given.
        loss: ε > 0; needs `smoothness`.
        smoothness: β > 0, which must bound the curvature of the loss in all layers jointly.
        gradient_norm: γ; 0 means that Δ is stationary.
        gradient: a calibration gradient at the base parameters instead of an update: the ranks keep the
            share of its squared norm.  It does not go with second moments: in their norm what is kept of G
            says nothing of the decrease of the loss.
        second_moments: Σ of each layer's inputs, (in, in), by path, or one for a single matrix.  Distances
            are then $\|\Sigma^{1/2}(\Delta_r-\Delta)\|_F$, squared the mean squared change of the layers'
            outputs; the truncation is `whitened_truncation`, and β and γ belong to that norm.
        pattern: shell pattern on the paths (or several) that selects layers.

    Returns:
        A `RankRecommendation`, whose repr says what is guaranteed and what is estimated.  Ties count as
        kept, to within rounding.

    Raises:
        ValueError: not exactly one of update and gradient, both share and loss, a loss without a smoothness
            or of a gradient, second moments beside a gradient, numbers out of range, second moments that miss
            a layer, or as `spectra`.

    Source: Eckart and Young 1936; T3.R4 for the loss; T3.R8 for second moments.  `cheapest` is the greedy
    solution of a knapsack (Dantzig 1957), less than one step above the optimum.
    """
    _check(update, gradient, share, loss, smoothness, gradient_norm)
    if gradient is not None and second_moments is not None:
        raise ValueError(
            "second_moments: got some beside a gradient, of which nothing is proved in the norm of the "
            "outputs; leave them out, or give an update"
        )
    found = _spectra(update if gradient is None else gradient, second_moments, pattern)
    energy = math.fsum(one.energy for one in found.values())
    if loss is None:
        share = 0.9 if share is None else share
        limit = (1 - share + linalg.gamma(_terms(found))) * energy
    else:
        root = 2 * loss / (gradient_norm + math.hypot(gradient_norm, math.sqrt(2 * smoothness * loss)))
        limit = root**2
        share = max(0.0, 1 - limit / energy) if energy else 1.0
    part = limit / energy if energy else 0.0
    each = _assignment(found, {name: _first(one.tails, part * one.energy) for name, one in found.items()})
    uniform = _assignment(found, _uniform(found, limit))
    ranks, least = _cheapest(found, limit)
    cheapest = min((_assignment(found, ranks), uniform, each), key=lambda way: way.parameters)
    first_step, whitened = gradient is not None, second_moments is not None
    sentences = _guarantee(first_step, whitened, share, loss, smoothness, gradient_norm)
    return RankRecommendation(each, uniform, cheapest, least, share, loss, *sentences, found)


def _check(
    update: Any,
    gradient: Any,
    share: float | None,
    loss: float | None,
    smoothness: float | None,
    gradient_norm: float,
) -> None:
    if (update is None) == (gradient is None):
        raise ValueError("update, gradient: needs exactly one of them")
    if share is not None and loss is not None:
        raise ValueError("share, loss: got both, needs one of them")
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"share: got {share}, needs a number in (0, 1], such as 0.9")
    if gradient_norm < 0 or not math.isfinite(gradient_norm):
        raise ValueError(f"gradient_norm: got {gradient_norm}, needs a finite number >= 0")
    if loss is None:
        if smoothness is not None:
            raise ValueError("smoothness: has no meaning without loss=; give the loss, or leave it out")
        return
    if gradient is not None:
        raise ValueError("loss: a gradient at the base says nothing of the loss after training; use share=")
    if not (loss > 0 and math.isfinite(loss)):
        raise ValueError(f"loss: got {loss}, needs a finite number > 0")
    if smoothness is None or not (smoothness > 0 and math.isfinite(smoothness)):
        raise ValueError(f"smoothness: got {smoothness}, needs a finite number > 0 that bounds the curvature")


def _spectra(
    update: Any, moments: Mapping[str, np.ndarray] | np.ndarray | None, pattern: str | Sequence[str]
) -> dict[str, Spectrum]:
    if moments is None:
        return spectra(update, pattern=pattern)
    found = layers(update, pattern)
    if not isinstance(moments, Mapping):
        moments = dict.fromkeys(found, moments) if len(found) == 1 else {}
    missing = [name for name in found if name not in moments]
    formless = [name for name, leaf in found.items() if isinstance(leaf, Spectrum)]
    if missing or formless:
        raise ValueError(
            f"second_moments: got none for {missing or 'no layer'}, and {formless or 'no layer'} came as a "
            "Spectrum, without its vectors; needs a dictionary with a matrix (in, in) for each layer, and "
            "updates as matrices or factors; leave others out with pattern="
        )
    return {name: whitened_spectrum(leaf, np.asarray(moments[name]), name) for name, leaf in found.items()}


def _terms(found: dict[str, Spectrum]) -> int:
    return sum(len(one.values) for one in found.values()) + 8


def _first(tails: np.ndarray, limit: float) -> int:
    """The smallest rank whose tail is at most the limit; the last tail is 0."""
    return int(np.argmax(tails <= limit))


def _uniform(found: dict[str, Spectrum], limit: float) -> dict[str, int]:
    longest = max(len(one.values) for one in found.values())
    total = sum(np.pad(one.tails, (0, longest - len(one.values))) for one in found.values())
    rank = _first(total, limit)
    return {name: min(rank, *one.shape) for name, one in found.items()}


def _cheapest(found: dict[str, Spectrum], limit: float) -> tuple[dict[str, int], int]:
    """Greedy by gain per parameter, and the least cost of any ranks, by the bound of the linear program.

    Within a layer gains fall and each rank costs the same, so the order of the gains per parameter is one in
    which ranks can be taken.
    """
    spectra_ = list(found.values())
    costs = [sum(one.shape) for one in spectra_]
    layer = np.repeat(np.arange(len(spectra_)), [len(one.values) for one in spectra_])
    gains = np.concatenate([one.values**2 for one in spectra_])
    cost = np.array(costs)[layer] if len(layer) else np.zeros(0, int)
    order = np.argsort(-gains / cost, kind="stable")
    left = np.concatenate([np.cumsum(gains[order][::-1])[::-1], [0.0]])
    taken = _first(left, limit)
    spent = int(cost[order[:taken]].sum())
    ranks = np.bincount(layer[order[:taken]], minlength=len(spectra_))
    if not taken:
        return dict.fromkeys(found, 0), 0
    last = order[taken - 1]
    relaxed = spent - cost[last] * (1 - (left[taken - 1] - limit) / gains[last])
    step = math.gcd(*costs)
    least = step * math.ceil(relaxed / step * (1 - linalg.gamma(_terms(found))))
    _drop(ranks, spectra_, costs, limit)
    return dict(zip(found, map(int, ranks), strict=True)), least


def _drop(ranks: np.ndarray, found: list[Spectrum], costs: list[int], limit: float) -> None:
    """Take back the ranks that the last, coarse step has made superfluous, costly ones first."""
    for at in sorted(range(len(found)), key=lambda index: -costs[index]):
        others = math.fsum(one.tail(int(ranks[i])) for i, one in enumerate(found) if i != at)
        while ranks[at] and others + found[at].tail(int(ranks[at]) - 1) <= limit:
            ranks[at] -= 1


def _assignment(found: dict[str, Spectrum], ranks: dict[str, int]) -> Assignment:
    parameters = sum(rank * sum(found[name].shape) for name, rank in ranks.items())
    tail = math.fsum(found[name].tail(rank) for name, rank in ranks.items())
    energy = math.fsum(one.energy for one in found.values())
    return Assignment(ranks, parameters, tail, 1 - tail / energy if energy else 1.0)


def _guarantee(
    first_step: bool, whitened: bool, share: float, loss: float | None, beta: float | None, gamma: float
) -> tuple[str, str]:
    """What is proved of the recommended ranks, and what is not."""
    trained = "that training at these ranks finds updates as good as the truncated one"
    part = f"{100 * (1 - share):.4g} % of "
    if first_step:
        return (
            f"the best low-rank part of this gradient misses at most {part}its squared norm, and of the "
            "decrease that smoothness guarantees for one gradient step",
            "that later steps need no other directions: this is the spectrum of the first step only",
        )
    if loss is not None:
        norm = " (both in the norm of the layers' outputs)" if whitened else ""
        return (
            f"truncated to these ranks, the loss rises by at most {loss:.4g}, if its curvature on the way is "
            f"at most {beta:.4g} and its gradient at the update at most {gamma:.4g}{norm}; to rounding",
            trained,
        )
    what = "the layers' mean squared output changes" if whitened else "the update's squared Frobenius norm"
    return f"truncated to these ranks, at most {part}{what} is lost; to rounding", trained
