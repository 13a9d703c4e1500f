"""What claims about a tilted quadratic ask for, from products with three matrices and no matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np


class Products(ABC):
    r"""Steps, values and quadratic forms of $q(D) = (g + \varepsilon)^T D + \frac12 D^T H D$.

    A base class: no matrix is asked for, so that it serves three parameters in fractions and thousands in
    float64 alike.  A subclass has

    - `gradient` g, `disturbance` ε and `parallel` ε_∥, its orthogonal projection onto the range of P, all of
      shape (d,);
    - `times(x)`, `solved(x)` and `answered(x)`: the products $Hx$, $H^{-1}x$ ($H^+x$ where H is singular)
      and $P H_\Phi^+ P^T x$;
    - `operations`, which times machine epsilon bounds the relative error of a form; and `is_exact`.

    Forms are named by what stands on either side: `tilt_full` is $u^T H^{-1} u$, `mixed_full`
    $\varepsilon_\parallel^T H^{-1} \varepsilon_\perp$, `slope_curved` $g^T H g$.  In (60) to (66) the paper
    writes π for g and x for $\varepsilon_\perp$.
    """

    gradient: np.ndarray
    disturbance: np.ndarray
    parallel: np.ndarray

    @abstractmethod
    def times(self, x: np.ndarray) -> np.ndarray:
        """H x."""

    @abstractmethod
    def solved(self, x: np.ndarray) -> np.ndarray:
        """H⁻¹ x."""

    @abstractmethod
    def answered(self, x: np.ndarray) -> np.ndarray:
        """P H_Φ⁺ Pᵀ x: minus the step of PEFT against a tilt x."""

    @property
    def d(self) -> int:
        """The number of parameters."""
        return len(self.gradient)

    @property
    def tilt(self) -> np.ndarray:
        """The gradient of the disturbed loss, u = g + ε."""
        return self.gradient + self.disturbance

    @property
    def orthogonal(self) -> np.ndarray:
        """ε_⊥ = ε − ε_∥."""
        return self.disturbance - self.parallel

    def value(self, step: np.ndarray) -> Any:
        """The change q(D) under a step D."""
        return self.tilt @ step + step @ self.times(step) / 2

    @cached_property
    def step_full(self) -> np.ndarray:
        """−H⁻¹u, by the formula (44)."""
        return -self.solved(self.tilt)

    @cached_property
    def step_peft(self) -> np.ndarray:
        """−P H_Φ⁺ Pᵀ u, by the formula (51)."""
        return -self.answered(self.tilt)

    @property
    def value_full(self) -> Any:
        """The change q under the step (44)."""
        return self.value(self.step_full)

    @property
    def value_peft(self) -> Any:
        """The change q under the step (51)."""
        return self.value(self.step_peft)

    @property
    def step_energy(self) -> Any:
        """Δθᵀ H Δθ for the step (44): twice what (8), (45) and (46) print."""
        return self.step_full @ self.times(self.step_full)

    @cached_property
    def tilt_full(self) -> Any:
        """uᵀ H⁻¹ u."""
        return self.tilt @ self.solved(self.tilt)

    @cached_property
    def disturbance_full(self) -> Any:
        """εᵀ H⁻¹ ε."""
        return self.disturbance @ self.solved(self.disturbance)

    @cached_property
    def parallel_full(self) -> Any:
        """ε_∥ᵀ H⁻¹ ε_∥."""
        return self.parallel @ self.solved(self.parallel)

    @cached_property
    def _solved_orthogonal(self) -> np.ndarray:
        return self.solved(self.orthogonal)

    @property
    def orthogonal_full(self) -> Any:
        """ε_⊥ᵀ H⁻¹ ε_⊥."""
        return self.orthogonal @ self._solved_orthogonal

    @property
    def mixed_full(self) -> Any:
        """ε_∥ᵀ H⁻¹ ε_⊥."""
        return self.parallel @ self._solved_orthogonal

    @cached_property
    def parallel_restricted(self) -> Any:
        """ε_∥ᵀ P H_Φ⁺ Pᵀ ε_∥."""
        return self.parallel @ self.answered(self.parallel)

    @property
    def orthogonal_slope(self) -> Any:
        """ε_⊥ᵀ g."""
        return self.orthogonal @ self.gradient

    @cached_property
    def _curved(self) -> np.ndarray:
        return self.times(self.gradient)

    @property
    def slope_curved(self) -> Any:
        """gᵀ H g."""
        return self.gradient @ self._curved

    @property
    def mixed_curved(self) -> Any:
        """gᵀ H ε_⊥."""
        return self._curved @ self.orthogonal

    @property
    def slope_cubed(self) -> Any:
        """gᵀ H³ g."""
        return self._curved @ self.times(self._curved)

    @property
    def shifted_square(self) -> Any:
        """(ε_⊥ − Hg)ᵀ H⁻¹ (ε_⊥ − Hg), formed as it stands."""
        x = self.orthogonal - self._curved
        return x @ self.solved(x)

    @property
    def reduced(self) -> Any:
        """The right side of (61) before it is halved, ε_⊥ᵀ (2Hg − H⁻¹ε_⊥)."""
        return self.orthogonal @ (2 * self._curved - self._solved_orthogonal)
