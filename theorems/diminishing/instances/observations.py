"""What the claims of Theorem 3 see on trained networks and sweeps, where it never occurs exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...pasteable import Pasteable
from ..critical import critical_rank
from ..decay import decay_model
from ..spectrum import Spectrum

SHARES = (0.1, 0.01)
_EVALUATED = 10**6  # rounded operations behind the loss of a network, on a generous count


@dataclass(frozen=True, eq=False, repr=False)
class TrainedSegment(Pasteable):
    r"""The loss of a network at its fully fine-tuned weights, and with the update truncated.

    Attributes:
        reached: L(ΔW_r).
        optimum: L(ΔW*).
        constant: a certified bound on the gradient norm along the segment.
        steepest: the larger gradient norm of the two ends.
        distance: ‖ΔW* − ΔW_r‖.
        tail: its square, by the singular values.
        eps: ε.
    """

    reached: float
    optimum: float
    constant: float
    steepest: float
    distance: float
    tail: float
    eps: float
    note: str = ""
    kind = "trained network"
    operations = _EVALUATED

    @property
    def change(self) -> float:
        """|L(ΔW_r) − L(ΔW*)|."""
        return abs(self.reached - self.optimum)

    @property
    def scale(self) -> float:
        """Losses of this size are subtracted."""
        return max(abs(self.reached), abs(self.optimum))


@dataclass(frozen=True, eq=False, repr=False)
class SmoothSegment(Pasteable):
    r"""The same with the slope and the curvature along the segment, of a network that is smooth.

    Attributes:
        reached: L(ΔW_r).
        optimum: L(ΔW*).
        at_optimum: ‖∇L(ΔW*)‖.
        beta: the largest curvature DᵀHD/‖D‖² met on a grid of the segment: a lower estimate.
        tail: tail(r) of all layers.
        expansion: ⟨∇L, D⟩ + ∫ (1 − t) DᵀH(t)D dt by quadrature.
        error: what the quadrature may be off by.
    """

    reached: float
    optimum: float
    at_optimum: float
    beta: float
    tail: float
    expansion: float
    error: float = 0.0
    note: str = ""
    kind = "trained network"
    operations = _EVALUATED

    @property
    def change(self) -> float:
        """L(ΔW_r) − L(ΔW*)."""
        return self.reached - self.optimum

    @property
    def scale(self) -> float:
        """Losses of this size are subtracted."""
        return max(abs(self.reached), abs(self.optimum))


@dataclass(frozen=True, eq=False, repr=False)
class FurtherRanks(Pasteable):
    """The loss at the critical rank, and at the larger rank where it is least."""

    here: float
    there: float
    constant: float
    steepest: float
    tail: float
    eps: float
    note: str = ""
    kind = "trained network"
    operations = _EVALUATED

    @property
    def scale(self) -> float:
        """Losses of this size are subtracted."""
        return max(abs(self.here), abs(self.there))


@dataclass(frozen=True, eq=False, repr=False)
class TwoRanks(Pasteable):
    """The losses at a rank and the next one, and the printed bound at both."""

    losses: tuple[float, float]
    bounds: tuple[float, float]
    note: str = ""
    kind = "trained network"
    operations = _EVALUATED

    @property
    def scale(self) -> float:
        """The larger loss."""
        return max(self.losses)


@dataclass(frozen=True, eq=False, repr=False)
class RankGains(Pasteable):
    """What each further rank gains.

    Attributes:
        gains: measured.
        halves: what is claimed of them, where something is.
        scale: of the numbers that were subtracted.
    """

    gains: np.ndarray
    scale: float
    halves: np.ndarray | None = None
    note: str = ""
    kind = "trained network"
    operations = _EVALUATED


@dataclass(frozen=True, repr=False)
class SweepGaps(Pasteable):
    """Test less training loss at a rank below the critical one and at the next larger rank of a sweep."""

    gaps: tuple[float, float]
    rank: int
    critical: int
    standard_error: float
    note: str = ""
    kind = "sweep"


@dataclass(frozen=True, eq=False, repr=False)
class SampledSigns(Pasteable):
    """The complexity of a layer on real inputs, a mean over random signs, and its two bounds."""

    low: float
    complexity: float
    high: float
    standard_error: float
    scale: float
    note: str = ""
    kind = "inputs of a trained network"
    operations = _EVALUATED


@dataclass(frozen=True, eq=False, repr=False)
class PlateauAt(Pasteable):
    """Where the plateau of a curve of losses begins, and by where it is said to.

    Attributes:
        interval: limits of its beginning.
        predicted: the rank by which it is said to have begun.
        statistics: what to show.
    """

    interval: tuple[int, int]
    predicted: int
    statistics: dict[str, Any]
    note: str = ""
    kind = "sweep"


@dataclass(frozen=True, eq=False, repr=False)
class LayerRanks(Pasteable):
    """The critical ranks of all layers of an update, for a tenth and a hundredth of the energy of each.

    Attributes:
        kernels: the updates.
        spectra: their singular values.
    """

    kernels: dict[str, np.ndarray]
    spectra: dict[str, Spectrum]
    note: str = ""
    kind = "trained network"

    @cached_property
    def critical(self) -> list[int]:
        """As the library computes them, layer by layer."""
        return [
            critical_rank(one, share * one.energy).rank for one in self.spectra.values() for share in SHARES
        ]

    @property
    def count(self) -> list[int]:
        """The ranks that are not enough, counted with sums taken the plain way."""
        every = [np.linalg.svd(kernel, compute_uv=False) ** 2 for kernel in self.kernels.values()]
        return [
            sum(float(squares[r:].sum()) >= share * float(squares.sum()) for r in range(len(squares) + 1))
            for squares in every
            for share in SHARES
        ]

    def rows(self) -> tuple[dict[str, Any], ...]:
        """What there is to read of each layer."""
        pairs = np.reshape(self.critical, (-1, len(SHARES)))
        made = []
        for (name, one), (tenth, hundredth) in zip(self.spectra.items(), pairs, strict=True):
            verdict = decay_model(one)
            made.append(
                {
                    "layer": name,
                    "rank": one.numerical_rank.rank,
                    "critical_10": int(tenth),
                    "critical_1": int(hundredth),
                    "effective": one.effective_rank,
                    "stable": one.stable_rank,
                    "law": str(verdict.outcome),
                    "rate": None if verdict.closer is None else verdict.closer.rate,
                }
            )
        return tuple(made)
