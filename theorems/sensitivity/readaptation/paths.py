r"""How minima move while the data turn into others: re-training along $F_t = (1-t)F + tF'$.

Everything starts at a point where F is stationary, in coordinates z in which the Hessian of F on the
subspace of the method is the identity: there the tilt is $t\,w$, the predicted minimum lies at $-t\,w$, and
the predicted change of the objective is $-\frac{t^2}2\|w\|^2$.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float

from ....models import derivatives
from ....models.derivatives import Examples
from ... import linalg
from ..prepared import Dense
from ..roots import Triangular
from . import descent

Vector = Float[np.ndarray, " d"]
Steps = Float[np.ndarray, " T"]
ACCURACY = 1e-5
"""What a re-trained minimum may miss, relative to how far the objective came down; less for small t."""
_POINTS = 4
_CALM = 0.1


@dataclass(frozen=True, eq=False)
class Coordinates:
    r"""Coordinates z around a stationary point in which the Hessian on a subspace is the identity.

    Attributes:
        chart: z ↦ the parameters, for compiled programs.
        lift: the same for NumPy arrays.
        tilt: $u \mapsto T^Tu$, where the parameters move by $T z$: the gradient in z.
        back: parameters ↦ z, where the subspace is everything; None otherwise.
    """

    chart: Partial
    lift: Callable[[np.ndarray], np.ndarray]
    tilt: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray] | None = None


def everything(theta: Vector, root: Triangular) -> Coordinates:
    """Those of full fine-tuning."""
    return Coordinates(
        descent.whitened(theta, root.L),
        lambda z: theta + root.back(z),
        root.whitened,
        lambda point: root.coordinates(point - theta),
    )


def subspace(theta: Vector, dense: Dense, width: int) -> Coordinates:
    """Those of a linear method, filled up with coordinates that do nothing: one program serves all."""
    T = np.zeros((len(theta), max(width, dense.image.rank)))
    T[:, : dense.image.rank] = dense.root.back(dense.image.basis)
    return Coordinates(descent.along(theta, T), lambda z: theta + T @ z, lambda u: T.T @ u)


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    r"""What became of one minimum along t, for T values of t.

    Attributes:
        t: ascending, shape (T,), like all that follows.
        base: the objective F_t at the point where everything starts.
        change: by how much re-training lowered F_t below that, ≤ 0.
        expected: F_t at the predicted minimum, less the same.
        clean: the rise of the undisturbed objective F at the re-trained point.
        decrement: how far above its minimum the objective may still be, as L-BFGS estimates it.  For small t
            that is right; far from the start, where minima lie at the end of long valleys, it is too small.
        evaluations: of the objective.
        quadratic: ½‖w‖², the predicted −change / t².
    """

    t: Steps
    base: Steps
    change: Steps
    expected: Steps
    clean: Steps
    decrement: Steps
    evaluations: Steps
    quadratic: float

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], quadratic: float) -> Trace:
        """From the arrays by name, among others perhaps."""
        return cls(
            **{f.name: arrays[f.name] for f in fields(cls) if f.name != "quadratic"}, quadratic=quadratic
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All but the last attribute, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "quadratic"}

    @property
    def predicted(self) -> Steps:
        """−t²/2 ‖w‖²."""
        return -(self.t**2) * self.quadratic

    @property
    def rounding(self) -> Steps:
        """What rounding can have done to the changes."""
        return linalg.gamma(16) * np.abs(self.base)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The objective along t: a loss, its data on D and on D′, and the values of t."""

    loss: Any
    first: Examples
    second: Examples
    t: tuple[float, ...]

    def data(self, t: float) -> Examples:
        """Both sets of data, weighted."""
        return derivatives.mixed(self.first, self.second, t)

    def tilt(self, point: Vector) -> Vector:
        """∇F′ − ∇F at a point."""
        before, after = (
            derivatives.value_and_gradient(self.loss, jnp.asarray(point), self.data(t))[1] for t in (0.0, 1.0)
        )
        return np.asarray(after) - np.asarray(before)


def follow(
    mixture: Mixture, where: Coordinates, w: np.ndarray, base: Steps | None = None
) -> tuple[Trace, Float[np.ndarray, "T d"]]:
    """Re-train along t, and return the re-trained points as well.

    As long as the objective at the predicted minimum is at least half as low as predicted, it starts there.
    Later it starts from the best of that, of the last minimum, and of the same step in proportion to t; and
    full fine-tuning changes to plain coordinates, since the Hessian at θ* helps no more and costs a product.

    Args:
        mixture: the objective.
        where: coordinates around the stationary point.
        w: the tilt in them, shape (n,).
        base: the objective at the stationary point for each t, where it is known.
    """
    loss, start = mixture.loss, where.lift(0 * w)
    clean, quadratic = mixture.data(0.0), float(w @ w) / 2
    undisturbed = value(loss, start, clean)
    rows, points, z, last = [], [], 0 * w, math.inf
    for i, t in enumerate(mixture.t):
        data = mixture.data(t)
        above = value(loss, start, data) if base is None else float(base[i])
        starts = [-t * w]
        expected = value(loss, where.lift(starts[0]), data) - above
        right = -expected >= t**2 * quadratic / 2
        if not right:
            starts += [z, z * (t / last)]
        z = min(starts, key=lambda one: value(loss, where.lift(one), data)) if len(starts) > 1 else starts[0]
        found, z = _descended(loss, where, z, data, above, t, plain=not right)
        damage = value(loss, found.point, clean) - undisturbed
        rows.append((above, found.value - above, expected, damage, found.decrement, found.evaluations))
        points.append(found.point)
        last = t
    columns = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    return Trace(np.array(mixture.t), *columns, quadratic=quadratic), np.array(points)


def _descended(
    loss: Any, where: Coordinates, z: np.ndarray, data: Examples, above: float, t: float, *, plain: bool
) -> tuple[descent.Found, np.ndarray]:
    stop = {"above": above, "accuracy": accuracy(t), "patience": descent.PATIENCE if plain else 1}
    if plain and where.back is not None:
        found = descent.descend(loss, descent.plain(where.lift(z)), np.zeros_like(z), data, **stop)
        return found, where.back(found.point)
    found = descent.descend(loss, where.chart, z, data, **stop)
    return found, found.z


def accuracy(t: float) -> float:
    """What a re-trained minimum may miss, relative to how far the objective came down."""
    return ACCURACY * min(1.0, 10 * t)


def value(loss: Any, point: np.ndarray, data: Any) -> float:
    """The objective at a point."""
    return float(derivatives.value_and_gradient(loss, jnp.asarray(point), data)[0])


def lowered(mixture: Mixture, t: float, point: Vector, base: float) -> descent.Found:
    """Full fine-tuning at one t, from the point that another method has reached."""
    stop = {"above": base, "accuracy": accuracy(t)}
    return descent.descend(mixture.loss, descent.plain(point), 0 * point, mixture.data(t), **stop)


def limit(t: Sequence[float], values: Sequence[float]) -> tuple[float, float, np.ndarray]:
    r"""The value at t = 0 of the polynomial through all points, its error, and the weights of the points.

    The error is what the last two points, taken in, have changed: of an expansion in powers of t the
    change by the next one would be smaller.

    Args:
        t: ascending, different, shape (n,), n ≥ 3.
        values: at these t.

    Source: Richardson, *The deferred approach to the limit*, Phil. Trans. R. Soc. A 226, 1927.
    """
    t, values = np.asarray(t, np.float64), np.asarray(values, np.float64)
    weights = [_at_zero(t[: n + 1]) for n in range(len(t))]
    found = [float(each @ values[: len(each)]) for each in weights]
    return found[-1], abs(found[-1] - found[-2]) + abs(found[-2] - found[-3]), weights[-1]


def at_zero(t: Steps, values: Steps, noise: Steps) -> tuple[float, float]:
    """What values / t² tend to for t → 0, and how far that may be off, by noise in them and by extrapolation.

    From the four neighbouring t that tell most, among those over which values / t² changes by less than a
    tenth: where it changes more, an expansion in powers of t need not have set in.
    """
    squares, found = t**2, []
    for at in range(max(1, len(t) - _POINTS + 1)):
        few = slice(at, at + _POINTS)
        flat = values[few] / squares[few]
        end, error, weights = limit(t[few], flat)
        calm = bool(np.ptp(flat) <= _CALM * np.abs(flat).max())
        found.append((not calm, error + float(np.abs(weights) @ (noise[few] / squares[few])), end))
    _, error, end = min(found)
    return end, error


def _at_zero(t: np.ndarray) -> np.ndarray:
    """Lagrange's weights for the value at 0."""
    others = [np.delete(t, i) for i in range(len(t))]
    return np.array([np.prod(rest / (rest - one)) for one, rest in zip(t, others, strict=True)])
