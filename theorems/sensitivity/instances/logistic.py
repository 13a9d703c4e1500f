r"""Ridge logistic regression after a disturbance: a convex loss that is not quadratic, with certified minima.

$$L'(\theta) = \frac1N\sum_i\log(1+e^{-y_ix_i^T\theta}) + \frac\mu2\|\theta\|^2,\qquad
\mu I\preceq\nabla^2L'\preceq\Big(\mu+\frac{\lambda_{\max}(X^TX)}{4N}\Big)I.$$

Newton's method stops at rounding level, and strong convexity turns the gradient that is left into an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Float
from scipy.special import expit

from ... import linalg
from ...pasteable import Pasteable

STEPS = 50
Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True, eq=False)
class Ridge:
    """The loss, with derivatives.

    Attributes:
        x: inputs times labels ±1, shape (N, d).
        mu: the ridge.
    """

    x: Float[np.ndarray, "N d"]
    mu: float

    def value(self, theta: Vector) -> float:
        """L'."""
        return float(np.logaddexp(0, -self.x @ theta).mean() + self.mu / 2 * theta @ theta)

    def gradient(self, theta: Vector) -> Vector:
        """∇L'."""
        return -self.x.T @ expit(-self.x @ theta) / len(self.x) + self.mu * theta

    def hessian(self, theta: Vector) -> Float[np.ndarray, "d d"]:
        """∇²L'."""
        s = expit(self.x @ theta)
        return (self.x.T * (s * (1 - s))) @ self.x / len(self.x) + self.mu * np.eye(len(theta))

    @property
    def beta(self) -> float:
        """An upper bound of all its curvatures."""
        return self.mu + float(linalg.spectral_norm(self.x)) ** 2 / (4 * len(self.x))

    @property
    def operations(self) -> int:
        """Rounded operations behind a value."""
        return 4 * sum(self.x.shape) + 64

    def least(self, start: Vector, P: Float[np.ndarray, "d j"]) -> tuple[Vector, float]:
        """The minimum over start + range P, orthonormal columns, and how much lower the true one may be."""
        theta = start
        for _ in range(STEPS):
            slope = P.T @ self.gradient(theta)
            step = P @ np.linalg.solve(P.T @ self.hessian(theta) @ P, slope)
            t = 1.0
            while self.value(theta - t * step) > self.value(theta) + linalg.EPS and t > linalg.EPS:
                t /= 2
            theta = theta - t * step
            if np.linalg.norm(step) <= 4 * linalg.EPS * (1 + np.linalg.norm(theta)):
                break
        rounding = linalg.gamma(self.operations) * self.steepest(theta)
        slope = float(np.linalg.norm(P.T @ self.gradient(theta))) + rounding
        return theta, slope**2 / (2 * self.mu)

    def steepest(self, theta: Vector) -> float:
        """What rounding of a gradient is relative to."""
        return float(np.linalg.norm(np.abs(self.x).mean(axis=0)) + self.mu * np.linalg.norm(theta))


@dataclass(frozen=True, repr=False)
class Logistic(Pasteable):
    r"""Ridge logistic regression on disturbed data, and updates within a subspace or with a learned mask.

    Attributes:
        d: the number of parameters.
        samples: N.
        ridge: μ.
        rank: how many directions PEFT has.
        masked: whether these are any `rank` coordinates, instead of random directions.
        seed: of data, θ₀ and directions.
    """

    d: int
    samples: int
    ridge: float
    rank: int
    masked: bool = False
    seed: int = 0

    @property
    def kind(self) -> str:
        """Which image."""
        return "logistic regression, " + ("learned mask" if self.masked else "subspace")

    @cached_property
    def loss(self) -> Ridge:
        """On the disturbed data."""
        rng = np.random.default_rng(self.seed)
        x = rng.normal(size=(self.samples, self.d)) * np.geomspace(1, 3, self.d)
        labels = np.where(x @ rng.normal(size=self.d) + rng.normal(size=self.samples) > 0, 1.0, -1.0)
        return Ridge(x * labels[:, None], self.ridge)

    @cached_property
    def start(self) -> Vector:
        """θ₀."""
        return np.random.default_rng((self.seed, 1)).normal(size=self.d)

    @cached_property
    def pieces(self) -> tuple[Float[np.ndarray, "d j"], ...]:
        """Orthonormal bases of the subspaces whose union is Im g."""
        if not self.masked:
            rng = np.random.default_rng((self.seed, 2))
            return (np.linalg.qr(rng.normal(size=(self.d, self.rank)))[0],)
        one = np.eye(self.d)
        return tuple(one[:, [i, *range(i + 1, i + self.rank)]] for i in range(self.d - self.rank + 1))

    @cached_property
    def _full(self) -> tuple[Vector, float]:
        return self.loss.least(self.start, np.eye(self.d))

    @cached_property
    def _peft(self) -> tuple[float, float]:
        found = [self.loss.least(self.start, P) for P in self.pieces]
        return min(self.loss.value(theta) for theta, _ in found), max(error for _, error in found)

    @property
    def reached(self) -> float:
        """The least loss over θ₀ + Im g."""
        return self._peft[0]

    @property
    def optimum(self) -> float:
        """The least loss."""
        return self.loss.value(self._full[0])

    @cached_property
    def squared_distance(self) -> float:
        """Of θ'_F − θ₀ from Im g."""
        away = self._full[0] - self.start
        return min(float(np.sum((away - P @ (P.T @ away)) ** 2)) for P in self.pieces)

    @property
    def error(self) -> float:
        """How far the sides of a bound may be off: by the minima, and by β times the squared distance."""
        moved = np.sqrt(2 * self._full[1] / self.mu)
        distance = self.squared_distance**0.5
        return self._peft[1] + self._full[1] + self.beta * moved * (distance + moved)

    @property
    def mu(self) -> float:
        """Strong convexity."""
        return self.loss.mu

    @property
    def beta(self) -> float:
        """Smoothness."""
        return self.loss.beta

    @property
    def scale(self) -> float:
        """What rounding is relative to."""
        return abs(self.reached) + self.beta * (1 + self.squared_distance)

    @property
    def operations(self) -> int:
        """Rounded operations behind a value."""
        return self.loss.operations


@st.composite
def logistics(draw: st.DrawFn) -> Logistic:
    """Two to four parameters, a ridge from 1/100 to 1."""
    d = draw(st.integers(2, 4))
    return Logistic(
        d,
        draw(st.integers(5, 12)),
        draw(st.sampled_from((0.01, 0.1, 1.0))),
        draw(st.integers(1, d - 1)),
        draw(st.booleans()),
        draw(st.integers(0, 999)),
    )
