r"""What the repairs ask of a tilted quadratic, from products with H, $H^{-1}$ and $P H_\Phi^+ P^T$ alone."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from .products import Products


class Residuals(Products):
    r"""The gap after re-adaptation and the forms that it is compared with.

    A base class like `Products`, for fractions and for networks alike.  Beside the products a subclass has
    `least_full` and `least_peft`, the minima of q over all steps and over the range of P, *measured*.
    """

    least_full: Any
    least_peft: Any

    @property
    def gap(self) -> Any:
        """The least value of q on the range of P less the least of all: two measured minima."""
        return self.least_peft - self.least_full

    @cached_property
    def tilt_answered(self) -> Any:
        """uᵀ P H_Φ⁺ Pᵀ u."""
        return self.tilt @ self.answered(self.tilt)

    @cached_property
    def residual(self) -> Any:
        r"""½‖(I − Q)(H⁺)^½u‖² as ½(x − y)ᵀH(x − y) with $x = H^+u$ and $y = P H_\Phi^+ P^T u$."""
        left = self.solved(self.tilt) - self.answered(self.tilt)
        return left @ self.times(left) / 2

    # The parts along and across the directions

    @property
    def parallel_excess(self) -> Any:
        """ε_∥ᵀH⁻¹ε_∥ − ε_∥ᵀP H_Φ⁺ Pᵀε_∥, which (58) says is not positive."""
        return self.parallel_full - self.parallel_restricted

    @property
    def by_parts(self) -> Any:
        """Equation 57 as it should read."""
        return self.parallel_excess / 2 + self.mixed_full + self.orthogonal_full / 2

    @property
    def by_parts_unmixed(self) -> Any:
        """The same without the cross term, which (56) says is 0."""
        return self.parallel_excess / 2 + self.orthogonal_full / 2

    @property
    def parts_size(self) -> Any:
        """What rounding of the parts is relative to."""
        return self.parallel_full + self.orthogonal_full

    # What the paper prints, and its mirror image

    @property
    def printed_gap(self) -> Any:
        """(53) less (47), types repaired: ½ε_∥ᵀP H_Φ⁺ Pᵀε_∥ + ε_⊥ᵀg − ½εᵀH⁻¹ε."""
        return self.parallel_restricted / 2 + self.orthogonal_slope - self.disturbance_full / 2

    @property
    def mirrored_gap(self) -> Any:
        """The same at −ε."""
        return self.parallel_restricted / 2 - self.orthogonal_slope - self.disturbance_full / 2

    @property
    def peft_misses(self) -> Any:
        """εᵀ K ε, by the residual."""
        left = self.solved(self.disturbance) - self.answered(self.disturbance)
        return left @ self.times(left)

    @property
    def gap_size(self) -> Any:
        """What rounding of `printed_gap` is relative to."""
        return self.parallel_restricted + abs(self.orthogonal_slope) + self.disturbance_full

    # Equations 59 to 64, for x = ε_⊥

    @property
    def tug(self) -> Any:
        """The left side of (59), ε_⊥ᵀg − ½ε_⊥ᵀH⁻¹ε_⊥."""
        return self.orthogonal_slope - self.orthogonal_full / 2

    @property
    def peak(self) -> Any:
        """The same at x = Hg, measured there."""
        x = self.times(self.gradient)
        return x @ self.gradient - x @ self.solved(x) / 2

    @property
    def expanded_square(self) -> Any:
        """Equation 60 as it should read, xᵀH⁻¹x − 2gᵀx + gᵀHg."""
        return self.orthogonal_full - 2 * self.orthogonal_slope + self.slope_curved

    @property
    def printed_square(self) -> Any:
        """Equation 60 as printed, without its stray letter."""
        return self.orthogonal_full - 2 * self.mixed_curved + self.slope_curved

    @property
    def square_size(self) -> Any:
        """What rounding of either is relative to."""
        return self.orthogonal_full + 2 * abs(self.orthogonal_slope) + self.slope_curved

    # The disturbance's own share

    @property
    def share_formula(self) -> Any:
        """−½εᵀH⁻¹ε − εᵀH⁻¹g: what (47) should say."""
        return -self.disturbance_full / 2 - self.disturbance @ self.solved(self.gradient)

    # What re-adaptation does to the undisturbed loss, each method from its own stationary point

    @property
    def clean_full(self) -> Any:
        """½εᵀH⁺ε."""
        return self.disturbance_full / 2

    @property
    def clean_peft(self) -> Any:
        """½εᵀP H_Φ⁺ Pᵀε."""
        return self.disturbance @ self.answered(self.disturbance) / 2
