"""Certified bounds on what a fine-tuning did to a transformer, with their slack stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from .chain import Chain, Outcome
from .forward import Run, forward
from .layout import Tree, checked, checked_input
from .linear import Admitted
from .rounding import Margin

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Layer:
    """One stage of the residual stream: how far it is certified to have moved, and how far it did.

    Attributes:
        name: "embed", "blocks/0/attention", "blocks/0/mlp", ..., "norm".
        radius: certified bound on the move of each token, shape (p, length).
        measured: the move itself, ‖x^k − x_0^k‖ per token.
    """

    name: str
    radius: Float[Array, "p t"]
    measured: Float[Array, "p t"]

    @property
    def slack(self) -> float:
        """Median of radius / measured over tokens that moved; nan if none did."""
        return _slack(self.radius, self.measured)

    def __repr__(self) -> str:
        sizes = f"measured {np.median(self.measured):.3g} (max {self.measured.max():.3g})"
        return (
            f"Layer({self.name}: radius {np.median(self.radius):.3g} (max {self.radius.max():.3g}), {sizes})"
        )


@dataclass(frozen=True, eq=False)
class DeviationBound:
    """Certified bounds on ‖f(x; θ) − f(x; θ₀)‖₂ and what they bound, per input.

    Attributes:
        chain: bound of the chain, shape (p,).
        range: bound from the last norm layer alone.
        measured: the deviation itself.
        layers: the stages in order.
    """

    chain: Float[Array, " p"]
    range: Float[Array, " p"]
    measured: Float[Array, " p"]
    layers: tuple[Layer, ...]

    @property
    def bound(self) -> Float[Array, " p"]:
        """The smaller of the two bounds, shape (p,)."""
        return np.fmin(self.chain, self.range)

    @property
    def slack(self) -> float:
        """Median of bound / measured over inputs whose output moved; nan if none did."""
        return _slack(self.bound, self.measured)

    def __repr__(self) -> str:
        return f"DeviationBound({len(self.chain)} inputs, slack {self.slack:.3g}, {len(self.layers)} stages)"


def _slack(bound: Array, measured: Array) -> float:
    moved = measured > 0
    return float(np.median(bound[moved] / measured[moved])) if moved.any() else float("nan")


def certify(
    config: TransformerConfig, base: Tree, admitted: Admitted, run: Run, x: Array, *, predict: bool = True
) -> tuple[Outcome, Float[Array, " p"]]:
    """Run the chain around a computed run, and bound what rounding did to that run.

    Returns:
        The outcome, relative to the computed output, and how far the exact output of the base network may be
        from
        it: the same chain with nothing tuned.
    """
    margin = Margin.of(config)
    outcome = Chain(config, admitted, run, margin, predict=predict)(x)
    return outcome, Chain(config, Admitted(config, base), run, margin, exact=False)(x).bound


def deviation_bound(
    config: TransformerConfig,
    base: Tree,
    tuned: Tree,
    x: Float[Array, "p t features"],
    *,
    predict: bool = True,
) -> DeviationBound:
    r"""Certify an upper bound on $\|f(x;\theta) - f(x;\theta_0)\|_2$ for each input.

    Only the base run is used, with the tuned weights acting on it. Tight in three ways: exact when nothing
    but the head is tuned; bound / deviation → 1 as θ → θ₀ wherever the deviation is of first order; and
    within a small factor by its range when outputs saturate.

    Args:
        config: sizes and variants of the network.
        base: θ₀, nested dictionary of float64 arrays.
        tuned: θ, the same tree.
        x: inputs, float64.
        predict: carry first-order predictions through the chain. Without them the effect of an update counts
            with its norm only, as in the bounds for chains of layers.

    Returns:
        The bounds with the measured deviation and every stage.

    Raises:
        ValueError: trees or inputs that do not fit the configuration, another dtype than float64, NaN or
            infinity.
    """
    base, tuned, x = checked(config, base, "base"), checked(config, tuned, "tuned"), checked_input(config, x)
    before, after = forward(config, base, x), forward(config, tuned, x)
    outcome, rounding = certify(config, base, Admitted(config, tuned), before, x, predict=predict)
    moves = {name: np.linalg.norm(after.stages[name] - h, axis=-1) for name, h in before.stages.items()}
    layers = tuple(Layer(name, outcome.radii[name], move) for name, move in moves.items())
    measured = np.linalg.norm(after.output - before.output, axis=-1)
    return DeviationBound(outcome.bound + rounding, outcome.range + rounding, measured, layers)


def path_bound(
    config: TransformerConfig, base: Tree, tuned: Tree, x: Float[Array, "p t features"], *, steps: int
) -> Float[Array, " p"]:
    r"""Certify the deviation along the segment from θ₀ to θ, cut into steps.

    $$\|f(x;\theta) - f(x;\theta_0)\|
      \le \min\Big( \Big\|\sum_m \hat d_m\Big\| + \sum_m \rho_m,\; \sum_m b_m \Big),$$

    where step m, certified around the network it starts from, has the prediction $\hat d_m$, the distance
    $\rho_m$ from it and the bound $b_m$. The errors are of second order in the step, so the bound converges
    to the deviation like 1/steps, at the price of a run per step: a certificate for large updates, at which a
    single step saturates.

    Args:
        config: sizes and variants of the network.
        base: θ₀.
        tuned: θ.
        x: inputs.
        steps: number of steps; 1 gives the chain of `deviation_bound`.

    Returns:
        Bounds, shape (p,).

    Raises:
        ValueError: as `deviation_bound`, or fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}, needs at least 1")
    base, tuned, x = checked(config, base, "base"), checked(config, tuned, "tuned"), checked_input(config, x)
    centre, rest, total, start = 0.0, 0.0, 0.0, base
    for m in range(1, steps + 1):
        stop = tuned if m == steps else _between(base, tuned, m / steps)
        outcome, rounding = certify(config, start, Admitted(config, stop), forward(config, start, x), x)
        centre, rest, total = (
            centre + outcome.centre,
            rest + outcome.rest + rounding,
            total + outcome.bound + rounding,
        )
        start = stop
    up = 1 + 4 * steps * np.finfo(float).eps
    found = np.fmin((np.linalg.norm(centre, axis=-1) + rest) * up, total * up)
    return np.where(np.isnan(found), np.inf, found)  # overflow certifies nothing


def _between(base: Tree, tuned: Tree, s: float) -> Tree:
    mixed = {}
    for key, leaf in base.items():
        mixed[key] = (
            leaf + s * (tuned[key] - leaf) if isinstance(leaf, np.ndarray) else _between(leaf, tuned[key], s)
        )
    return mixed


def range_bound(
    config: TransformerConfig, base: Tree, tuned: Tree, x: Float[Array, "p t features"]
) -> Float[Array, " p"]:
    r"""The bound that the last norm layer gives by itself: its outputs stay on a sphere (fact R).

    $$\|f - f_0\| \le \|C\,\mathrm{diag}(\gamma)W\|_2\,\sqrt n + \|\beta W + b - f_0\|$$

    with the tuned γ, β of the last norm and the tuned head W, b. It does not vanish with the update. Attained
    up to ε where all final tokens are the same point of the sphere, opposite to the base output in the
    leading direction.

    Args:
        config: sizes and variants of the network.
        base: θ₀.
        tuned: θ.
        x: inputs.

    Returns:
        Bounds, shape (p,).

    Raises:
        ValueError: as `deviation_bound`.
    """
    base, tuned, x = checked(config, base, "base"), checked(config, tuned, "tuned"), checked_input(config, x)
    run = forward(config, base, x)
    outcome, rounding = certify(config, base, Admitted(config, tuned), run, x)
    return outcome.range + rounding
