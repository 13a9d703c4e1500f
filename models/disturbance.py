"""What a disturbance of the data is: settings, a name, and a call that keeps the size of a split."""

import dataclasses
import math
import zlib
from abc import ABC
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int, Int32

from .tasks import PARTS, Split, Splits

Inputs = Float64[np.ndarray, "p *shape"]
Labels = Int32[np.ndarray, " p"]


@dataclasses.dataclass(frozen=True)
class Disturbance(ABC):
    """A shift of the data; subclasses say which.

    Called as ``disturbance(split, seed)`` it returns the disturbed split, of the same size and shape.  A
    subclass has one number that says how strong it is, its first field, and changes inputs, labels, or which
    rows are taken.
    """

    stem: ClassVar[str]

    @property
    def strength(self) -> float:
        """The first setting: how strong the disturbance is, in the unit that the class documents."""
        return getattr(self, dataclasses.fields(self)[0].name)

    @property
    def name(self) -> str:
        """The stem with the strength, such as ``rotation-15``; `disturbance` understands it."""
        return f"{self.stem}-{self.strength:g}"

    def __call__(self, split: Split, seed: int = 0) -> Split:
        """The disturbed split, of the same size and shape.

        Args:
            split: the examples of D.
            seed: of the random draws; the same seed and split give the same result.

        Returns:
            Row i comes from example `rows(split, seed)[i]` of the split.

        Raises:
            ValueError: a split that the disturbance is not defined for.
        """
        rows, generator = self.rows(split, seed), generator_of(split, seed)
        x, y = split.x[rows], split.y[rows]
        return Split(self.inputs(x, generator), self.labels(y, generator))

    def on(self, splits: Splits, seed: int = 0) -> Splits:
        """All three splits of a task disturbed.

        Raises:
            ValueError: as the call, or a training split with a single class left.
        """
        return Splits(*(self(getattr(splits, part), seed) for part in PARTS))

    def rows(self, split: Split, seed: int) -> Int[np.ndarray, " p"]:
        """The example of the split that each row comes from: its own, unless the class says otherwise."""
        return np.arange(len(split))

    def inputs(self, x: Inputs, generator: np.random.Generator) -> Inputs:
        """The inputs of D′."""
        return x

    def labels(self, y: Labels, generator: np.random.Generator) -> Labels:
        """The labels of D′."""
        return y


def generator_of(split: Split, seed: int) -> np.random.Generator:
    """Draws that depend on the seed and on the numbers in the split.

    Raises:
        ValueError: a seed that is no whole number from 0 on.
    """
    if not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ValueError(f"seed: got {seed!r}, needs a whole number >= 0")
    content = zlib.crc32(np.ascontiguousarray(split.x).tobytes(), zlib.crc32(split.y.tobytes()))
    return np.random.default_rng((int(seed), content))


def check_strength(made: Disturbance, fine: bool, needs: str) -> None:
    """Require a finite strength that is `fine`.

    Raises:
        ValueError: it is not; the message says what it `needs` to be.
    """
    name = dataclasses.fields(made)[0].name
    if not (fine and math.isfinite(made.strength)):
        raise ValueError(f"{name}: got {made.strength}, needs {needs}")
