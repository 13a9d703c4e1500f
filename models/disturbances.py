"""Disturbances: real shifts of the data, from D to D′.

Each is a frozen dataclass of settings with a name, and a call that makes a split of the same size and shape,
so that what was compiled for one split serves the other. Inputs stay as they are where only labels or the mix
of classes change. Images are recognised in both forms that the tasks of this package have: vectors of h·w
pixels, and arrays (h, w), the rows of which are what a transformer takes as tokens. A vector that is no image
cannot be told from one that is; turning it is the caller's mistake.

The random draws depend on the seed and on the data, so that the splits of a task get independent ones, and
the same images get the same draws as vectors and as tokens.

References:
    Hendrycks and Dietterich,
    *Benchmarking Neural Network Robustness to Common Corruptions and Perturbations*, ICLR 2019.
"""

import dataclasses
import re
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from .disturbance import Disturbance, Labels, check_strength, generator_of
from .disturbed_inputs import Blur, Brightness, Noise, Occlusion, OfImages, Rotation
from .tasks import Split

__all__ = [
    "DISTURBANCES",
    "Blur",
    "Brightness",
    "ClassImbalance",
    "Disturbance",
    "LabelNoise",
    "Noise",
    "Occlusion",
    "OfImages",
    "Rotation",
    "disturbance",
]


@dataclasses.dataclass(frozen=True)
class LabelNoise(Disturbance):
    """A share of the labels replaced by wrong ones, uniform over the other classes of the split.

    Which examples is drawn without replacement; it is `round(share · p)` of them.

    Args:
        share: of the examples, in (0, 1].

    Raises:
        ValueError: a setting out of range; when called, a split of a single class.
    """

    share: float = 0.3
    stem: ClassVar[str] = "label-noise"

    def __post_init__(self) -> None:
        check_strength(self, 0 < self.share <= 1, "a share in (0, 1]")

    def labels(self, y: Labels, generator: np.random.Generator) -> Labels:
        """Each chosen label moves on by 1 … C − 1 places in the circle of the C classes."""
        classes, places = _classes(self, y)
        chosen = generator.choice(len(y), size=round(self.share * len(y)), replace=False)
        places[chosen] += generator.integers(1, len(classes), size=len(chosen))
        return classes[places % len(classes)].astype(y.dtype)


@dataclasses.dataclass(frozen=True)
class ClassImbalance(Disturbance):
    r"""Another mix of classes: a long tail, from one class that keeps its weight to one that has little left.

    The classes of the split, in an order that the seed draws, get the weights
    $w_c = \text{ratio}^{c/(C-1)}$, c = 0 … C − 1. With $n_c$ examples of class c there are then about
    $p\, n_c w_c / \sum_b n_b w_b$, rounded so that the size is the same. They are taken as evenly as
    possible: every example of a class as often as it fits, and of those left over a draw without replacement.
    So a class that grows has repeated examples.

    Args:
        ratio: weight of the rarest class, of the most frequent one 1; in (0, 1).

    Raises:
        ValueError: a setting out of range; when called, a split of a single class.

    References:
        Cui, Jia, Lin, Song and Belongie, *Class-Balanced Loss Based on Effective Number of Samples*,
        CVPR 2019.
    """

    ratio: float = 0.1
    stem: ClassVar[str] = "class-imbalance"

    def __post_init__(self) -> None:
        check_strength(self, 0 < self.ratio < 1, "a number in (0, 1)")

    def rows(self, split: Split, seed: int) -> Int[np.ndarray, " p"]:
        """Which example each row comes from, in ascending order, with repetitions."""
        classes, places = _classes(self, split.y)
        generator = generator_of(split, seed)
        rank = np.random.default_rng(seed).permutation(len(classes))  # the same in all splits of a task
        held = np.bincount(places)
        wanted = _rounded(held * self.ratio ** (rank / (len(classes) - 1)), len(split))
        taken = []
        for place, (count, wish) in enumerate(zip(held, wanted, strict=True)):
            members = np.flatnonzero(places == place)
            rest = generator.choice(members, size=wish % count, replace=False)
            taken += [np.repeat(members, wish // count), rest]
        return np.sort(np.concatenate(taken))


DISTURBANCES: dict[str, Disturbance] = {
    one.stem: one
    for one in (
        Noise(),
        Rotation(),
        Blur(),
        Brightness(),
        Occlusion(),
        LabelNoise(),
        ClassImbalance(),
    )
}
"""One of each kind, as strong as suits the digits: most of them are still read, and many are not."""


def disturbance(name: str) -> Disturbance:
    """Look a disturbance up by name.

    Args:
        name: a stem in `DISTURBANCES`, which has the strength given there, or a stem with a strength.

    Raises:
        ValueError: no such disturbance, or a strength out of range.

    Examples:
        >>> disturbance("rotation")
        Rotation(degrees=15.0, image_shape=None)
        >>> disturbance("rotation-3").degrees
        3.0
    """
    if name in DISTURBANCES:
        return DISTURBANCES[name]
    found = re.fullmatch(rf"({'|'.join(DISTURBANCES)})-(-?[0-9.]+(?:e-?[0-9]+)?)", name, flags=re.ASCII)
    try:
        kind, strength = type(DISTURBANCES[found[1]]), float(found[2])
    except (TypeError, ValueError):
        stems = ", ".join(DISTURBANCES)
        raise ValueError(
            f"disturbance: got {name!r}, needs one of {stems}, alone or with a strength, such as noise-0.1"
        ) from None
    return kind(strength)


def _classes(made: Disturbance, y: Labels) -> tuple[Labels, Int[np.ndarray, " p"]]:
    classes, places = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{made.name}: got a split with the single class {classes[0]}, needs at least two")
    return classes, places


def _rounded(shares: Float[np.ndarray, " C"], total: int) -> Int[np.ndarray, " C"]:
    """Whole numbers in these proportions with this sum: the largest remainders are rounded up."""
    exact = shares * (total / shares.sum())
    whole = np.floor(exact).astype(int)
    most = np.argsort(whole - exact, kind="stable")[: total - whole.sum()]
    whole[most] += 1
    return whole
