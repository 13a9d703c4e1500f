"""What is known of the image of a map g: its dimension, and the point of it that is nearest to an update."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

Changes = dict[str, np.ndarray]
"""Updates of the leaves that a method touches, by path, in float64."""


@dataclasses.dataclass(frozen=True)
class Image:
    """What a method knows of Im g on one network.

    Attributes:
        dimension: of the image, which is the rank of Dg(Φ) at almost every Φ.
        initial_rank: the rank of Dg(Φ) at the usual initialisation (at almost every draw of it).
        linear: whether g is affine in Φ, so that the image is an affine subspace.
        formula: how the dimension comes about, for people, such as ``Σ r(m + n − r)``.
        project: maps updates of the touched leaves, by path, to the nearest point of the closure of the
            image in Frobenius norm (or, if `exact` is False, to the best point that a search found).
        exact: whether `project` is proved to return a nearest point; if not, the distance is an upper
            estimate.
        at_most: a bound of the dimension that no rounding can make too small, where `dimension` itself rests
            on a numerical rank of the base parameters; None where it does not.
    """

    dimension: int
    initial_rank: int
    linear: bool
    formula: str
    project: Callable[[Mapping[str, np.ndarray]], Changes]
    exact: bool = True
    at_most: int | None = None

    @property
    def bound(self) -> int:
        """The dimension, or what is proved to be no smaller: what a certificate may count on."""
        return self.dimension if self.at_most is None else self.at_most
