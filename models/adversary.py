r"""Adversarial inputs: projected gradient ascent on the loss, within a ball around each input.

$$\max_{\|x' - x\| \le \rho} \; \log \sum_j e^{f_j(x')} - f_y(x').$$

The loss at what the ascent finds is attained, so it is a *lower* estimate of the worst case, however many
steps and restarts there are: a network that withstands it is not thereby proved robust.

References:
    Madry, Makelov, Schmidt, Tsipras and Vladu, *Towards Deep Learning Models Resistant to Adversarial
    Attacks*, ICLR 2018.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from .inputs import arrays
from .network import Network
from .tasks import Split
from .training import hashable
from .tree import Params

Norm = Literal["inf", "2"]
Point = Float[Array, "..."]
_STRIDE = 2.5  # all steps together go this many radii, so that any point of the ball can be reached


@dataclasses.dataclass(frozen=True)
class PGD:
    r"""An adversary: projected gradient ascent on the cross-entropy of a network, from several starts.

    Called as ``pgd(network, split, seed)`` it returns the split with inputs that this network does badly on.
    $x \leftarrow \Pi(x + \alpha\, s)$, with the sign of the gradient as s in the $\ell_\infty$ ball and the
    gradient over its length in the $\ell_2$ ball, $\alpha = 2.5\,\rho/\text{steps}$, and Π the projection on
    the ball and then on `bounds`.  Of all points met, each input gets the one of the largest loss; itself is
    among them.

    Args:
        radius: ρ, in units of the inputs; positive.
        norm: "inf" or "2", of the ball; over all entries of an input together.
        steps: gradient steps from each start.
        restarts: starts drawn uniformly from the ball, besides the one at the input itself.
        bounds: the range that inputs keep to, such as (0, 1) for pixels; None for inputs without one.

    Raises:
        ValueError: a setting out of range.
    """

    radius: float = 0.05
    norm: Norm = "inf"
    steps: int = 20
    restarts: int = 1
    bounds: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise ValueError(f"radius: got {self.radius}, needs a positive number")
        if self.norm not in ("inf", "2"):
            raise ValueError(f"norm: got {self.norm!r}, needs 'inf' or '2'")
        for name, least in (("steps", 1), ("restarts", 0)):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= least):
                raise ValueError(f"{name}: got {value!r}, needs a whole number >= {least}")
        if self.bounds is not None and not (len(self.bounds) == 2 and self.bounds[0] < self.bounds[1]):
            raise ValueError(f"bounds: got {self.bounds}, needs (low, high) with low < high, or None")

    @property
    def name(self) -> str:
        """Such as ``pgd-inf-0.05``: the norm and the radius."""
        return f"pgd-{self.norm}-{self.radius:g}"

    def __call__(self, network: Network, split: Split, seed: int = 0) -> Split:
        """The split with inputs that this network does badly on; labels stay.

        Args:
            network: the one attacked, after fine-tuning; its outputs for an input depend on that input alone.
            split: examples of D, size p.
            seed: of the starts.

        Returns:
            The same examples, each moved within its ball and the bounds, to rounding.  The mean loss on them
            is a lower estimate of the worst one.

        Raises:
            ValueError: inputs outside the bounds, or a network that does not take them.
        """
        low, high = (-math.inf, math.inf) if self.bounds is None else self.bounds
        if split.x.min() < low or split.x.max() > high:
            raise ValueError(
                f"{self.name}: got inputs from {split.x.min():g} to {split.x.max():g}, outside "
                f"bounds={self.bounds}; give the bounds of your inputs, or None"
            )
        x, y = arrays(split, network.dtype)
        numbers = (np.asarray(value, x.dtype) for value in (self.radius, low, high))
        ball = Ball(*numbers, np.asarray(self.norm == "2"))
        starts = _starts(split, self, seed).astype(x.dtype)
        found = _ascend(hashable(network.apply), self.steps, network.params, x, y, ball, starts)
        return Split(np.asarray(found, np.float64), split.y)


ATTACKS: tuple[PGD, ...] = (PGD(0.05, "inf", 10, 0), PGD(0.25, "2", 10, 0))
"""Quick ones, as strong as suits the digits: more steps or restarts add a few per cent to their losses."""


class Ball(NamedTuple):
    """Where the adversary may go, as arrays."""

    radius: Array
    low: Array
    high: Array
    euclidean: Array


def losses(
    apply: Callable, params: Params, x: Float[Array, "p ..."], y: Int[Array, " p"]
) -> Float[Array, " p"]:
    """The cross-entropy of each example, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y)


@partial(jax.jit, static_argnums=(0, 1))
def _ascend(
    apply: Callable,
    steps: int,
    params: Params,
    x: Float[Array, "p ..."],
    y: Int[Array, " p"],
    ball: Ball,
    starts: Float[Array, "starts p ..."],
) -> Float[Array, "p ..."]:
    """The best point met by each example; starts come one after the other, so memory does not grow.

    The norm is data and not a static argument, so that both balls share a program.
    """

    def scores(point: Point) -> tuple[Array, Array]:
        each = losses(apply, params, point, y)
        return each.sum(), each  # examples do not meet, so the gradient of the sum holds those of all

    def within(point: Point) -> Point:
        return jnp.clip(x + _projected(point - x, ball), ball.low, ball.high)

    def step(state: tuple, _: None) -> tuple:
        point, best, most = state
        (_, value), slope = jax.value_and_grad(scores, has_aux=True)(point)
        better = value > most
        best, most = jnp.where(_along(better, x), point, best), jnp.where(better, value, most)
        return (within(point + _STRIDE / steps * ball.radius * _direction(slope, ball)), best, most), None

    def from_start(state: tuple, start: Point) -> tuple:
        # One evaluation more than steps: the last point counts as well, and the move after it is discarded.
        (_, best, most), _ = jax.lax.scan(step, (within(start), *state), length=steps + 1)
        return (best, most), None

    nothing = jnp.full(len(x), -jnp.inf, x.dtype)
    (best, _), _ = jax.lax.scan(from_start, (x, nothing), starts)
    return best


def _along(values: Float[Array, " p"], x: Point) -> Array:
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def _lengths(change: Point) -> Array:
    """Euclidean norm of each example, with axes to divide by; never zero."""
    size = jnp.sqrt(jnp.sum(change.reshape(len(change), -1) ** 2, axis=1))
    return _along(jnp.maximum(size, jnp.finfo(change.dtype).tiny), change)


def _direction(slope: Point, ball: Ball) -> Point:
    """The unit step of steepest ascent; zero where there is no slope."""
    return jnp.where(ball.euclidean, slope / _lengths(slope), jnp.sign(slope))


def _projected(change: Point, ball: Ball) -> Point:
    """The projection of a change on the ball."""
    shrink = ball.radius / jnp.maximum(_lengths(change), ball.radius)
    return jnp.where(ball.euclidean, change * shrink, jnp.clip(change, -ball.radius, ball.radius))


def _starts(split: Split, adversary: PGD, seed: int) -> Float[np.ndarray, "starts p ..."]:
    """The inputs themselves, and points drawn uniformly from the ball around each."""
    rng, shape = np.random.default_rng(seed), (adversary.restarts, *split.x.shape)
    if adversary.norm == "inf":
        change = rng.uniform(-1, 1, size=shape)
    else:
        rays = rng.normal(size=(adversary.restarts * len(split), split.x[0].size))
        distances = rng.uniform(size=(len(rays), 1)) ** (1 / rays.shape[1])
        change = (rays / np.linalg.norm(rays, axis=1, keepdims=True) * distances).reshape(shape)
    return split.x + adversary.radius * np.concatenate([np.zeros((1, *split.x.shape)), change])
