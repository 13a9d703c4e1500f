"""The bound when only norms of the update are known: it holds for every update within budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from .bound import certify
from .forward import forward
from .layout import Tree, checked, checked_input, expected_shapes
from .linear import Admitted

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class BudgetBound:
    """Certified bounds on the deviation of every network within budgets, per input.

    Attributes:
        chain: bound of the chain, shape (p,).
        range: bound from the last norm layer alone.
        radii: certified radius of each stage of the stream, shapes (p, length).
    """

    chain: Float[Array, " p"]
    range: Float[Array, " p"]
    radii: dict[str, Float[Array, "p t"]]

    @property
    def bound(self) -> Float[Array, " p"]:
        """The smaller of the two bounds, shape (p,)."""
        return np.minimum(self.chain, self.range)

    def __repr__(self) -> str:
        middle = np.median(self.bound)
        return f"BudgetBound({len(self.chain)} inputs, median {middle:.3g}, {len(self.radii)} stages)"


def budget_bound(
    config: TransformerConfig, base: Tree, budgets: Mapping[str, float], x: Float[Array, "p t features"]
) -> BudgetBound:
    r"""Bound $\sup \|f(x;\theta_0 + \Delta\theta) - f(x;\theta_0)\|_2$ over all updates within budgets.

    $\|\Phi_W\|_2 \le \varphi_W$ for each kernel, $\|\beta_b\|_2 \le \varphi_b$ for each vector; the position
    embedding may be read either way, what counts is the norm of its rows. Monotone in every budget. Within a
    small factor of the supremum for small budgets (2 to 5 on networks of one or two blocks), and again for
    large ones, where its range is the smaller; loose in between.

    Args:
        config: sizes and variants of the network.
        base: θ₀, nested dictionary of float64 arrays.
        budgets: norm budget by path, such as "blocks/0/attention/query/kernel"; paths left out stay as they
            are.
        x: inputs, float64.

    Returns:
        The bounds and the radius of every stage.

    Raises:
        ValueError: unknown paths, budgets that are negative or not finite, and what `deviation_bound`
            refuses.
    """
    base, x = checked(config, base, "base"), checked_input(config, x)
    unknown = sorted(budgets.keys() - expected_shapes(config).keys())
    if unknown:
        raise ValueError(
            f"budgets: {unknown} are no parameters of this network; it has {sorted(expected_shapes(config))}"
        )
    bad = sorted(path for path, value in budgets.items() if not (np.isfinite(value) and value >= 0))
    if bad:
        raise ValueError(f"budgets: those of {bad} must be finite and not negative")
    outcome, rounding = certify(
        config, base, Admitted(config, base, dict(budgets)), forward(config, base, x), x
    )
    return BudgetBound(outcome.bound + rounding, outcome.range + rounding, outcome.radii)
