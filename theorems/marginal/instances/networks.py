"""What trained networks show of complexities: estimates with standard errors, beside their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...pasteable import Pasteable


@dataclass(frozen=True, eq=False, repr=False)
class SampledClass(Pasteable):
    """The tangent class of a network, as `kernels.Directions` has a linear class.

    Attributes:
        low: lower bound.
        complexity: mean over draws.
        high: upper bound.
        standard_error: of the mean.
        note: what was sampled.
    """

    low: float
    complexity: float
    high: float
    standard_error: float
    note: str = ""
    kind = "tangent class"


@dataclass(frozen=True, eq=False, repr=False)
class SampledPart(Pasteable):
    """A method's tangent class within that of full fine-tuning, as `kernels.Part` has a subspace.

    Attributes:
        low: lower bound of the ratio.
        high: upper bound.
        whole: complexity of the whole class, mean over draws.
        part: that of the method.
        errors: standard errors of both.
        statistics: ratio and predictions, shown.
        note: what was sampled.
    """

    low: float
    high: float
    whole: float
    part: float
    errors: tuple[float, float]
    statistics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    kind = "tangent class of a method"
    shares = None

    @property
    def standard_error(self) -> np.ndarray:
        """Of the three differences that are compared, as if the two means erred in opposite directions."""
        whole, part = self.errors
        return np.array([self.low * whole + part, self.high * whole + part, whole + part])


@dataclass(frozen=True, eq=False, repr=False)
class SampledRanks(Pasteable):
    """The first layer of a network at a rank, as `layers.RankedSigns` has a layer.

    Attributes:
        low: lower bound of the complexity.
        closed: the complexity, mean over draws.
        high: upper bound.
        ratios: bounds of the ratio to full rank around the ratio, twice.
        errors: standard errors of the complexity, and of the ratio.
        note: what was sampled.
    """

    low: float
    closed: float
    high: float
    ratios: list[float]
    errors: tuple[float, float]
    note: str = ""
    kind = "layer of a network"

    @property
    def standard_error(self) -> np.ndarray:
        """Of each difference that is compared."""
        return np.array([self.errors[0]] * 2 + [self.errors[1]] * 4)


@dataclass(frozen=True, eq=False, repr=False)
class TangentRatio(Pasteable):
    r"""The ratio of a method's tangent complexity to that of full fine-tuning, at one Φ or several.

    Attributes:
        ratios: the ratios.
        predicted: √(rank Dg/d) at each Φ.
        statistics: shown.
        note: what was sampled.
    """

    ratios: np.ndarray
    predicted: np.ndarray
    statistics: Mapping[str, float]
    note: str = ""
    kind = "ratio of tangent classes"


@dataclass(frozen=True, eq=False, repr=False)
class SampledSupremum(Pasteable):
    """A finite class of networks on samples that are drawn from given examples.

    Attributes:
        supremum: mean of sup(L − L_N) over the draws.
        complexity: mean of the complexity over the same draws.
        standard_error: of supremum − 2 complexity.
        note: which class.
    """

    supremum: float
    complexity: float
    standard_error: float
    note: str = ""
    kind = "class of networks"


@dataclass(frozen=True, eq=False, repr=False)
class Composed(Pasteable):
    """Losses of a finite class of networks on a few inputs, against the outputs.

    Attributes:
        complexity: of the losses.
        bound: the constant times the complexity of the outputs.
        standard_error: of `bound` where it is a mean over draws; 0 where all signs were enumerated.
        note: which class.
    """

    complexity: float
    bound: float
    standard_error: float = 0.0
    note: str = ""
    kind = "class of networks"
    operations = 2**14


@dataclass(frozen=True, eq=False, repr=False)
class HeldOut(Pasteable):
    """Bounds of the risk beside what held-out examples show.

    Attributes:
        measured: lower confidence limits of the risk.
        bounds: what is guaranteed.
        statistics: shown.
        note: what was fitted, and whether the bounds say anything.
    """

    measured: np.ndarray
    bounds: np.ndarray
    statistics: Mapping[str, Any]
    note: str = ""
    kind = "last layer of a network"
