r"""Classes that are linear in their parameters: all that matters is their kernel matrix.

For features A with one row to an output of an example, $\{v \mapsto Av : \|v\| \le B\}$ has

$$\hat R = E_s \sup_{\|v\|\le B} \frac1N \langle s, Av\rangle = \frac BN\, E\|A^Ts\|
= \frac BN\, E\sqrt{s^TKs},\qquad K = AA^T,$$

one sign to each output of each example.  A linear class has A = X, a subspace {PΦ} has A = XP, a network that
is linearised at θ has its Jacobian.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .. import linalg
from .estimate import Complexity, Sampled, controlled
from .ranked import CHUNK, ENUMERABLE

Features = Float[np.ndarray, "rows q"]


@dataclass(frozen=True, eq=False, repr=False)
class LinearClass:
    r"""All functions of a linear class with $\|v\| \le B$ on given inputs, by their kernel matrix.

    Attributes:
        kernel: K = AAᵀ, shape (N·outputs, N·outputs), outputs of one example together; float64 or exact.
        outputs: m.
        radius: B.

    Raises:
        ValueError: K that is not square, or does not have m rows to an example; float32, NaN or infinity; a
            negative or infinite radius.
    """

    kernel: np.ndarray
    outputs: int = 1
    radius: float | Fraction = 1.0

    def __post_init__(self) -> None:
        linalg.require_judging_precision("kernel", self.kernel)
        rows, shape = len(self.kernel), np.shape(self.kernel)
        if self.outputs < 1 or shape != (rows, rows) or rows == 0 or rows % self.outputs:
            raise ValueError(
                f"kernel: got shape {shape} for {self.outputs} outputs, needs a square matrix with that many "
                "rows to an example"
            )
        if not (self.radius >= 0 and math.isfinite(self.radius)):
            raise ValueError(f"radius: got {self.radius}, needs a finite number >= 0")

    @classmethod
    def of(cls, features: Features, *, outputs: int = 1, radius: float | Fraction = 1.0) -> LinearClass:
        """The class of features A, of shape (N·outputs, q), float64 or exact.

        Raises:
            ValueError: an array that is no matrix, and as the class.
        """
        if np.ndim(features) != 2:
            raise ValueError(
                f"features: got shape {np.shape(features)}, needs a matrix (N·outputs, q), a row to an "
                "output of an example; give a[:, None] for one feature a"
            )
        linalg.require_judging_precision("features", features)
        return cls(features @ features.T, outputs, radius)

    @property
    def examples(self) -> int:
        """N."""
        return len(self.kernel) // self.outputs

    @property
    def scale(self) -> float | Fraction:
        """B/N."""
        return self.radius * Fraction(1, self.examples) if self._exact else float(self.radius) / self.examples

    @property
    def _exact(self) -> bool:
        return linalg.is_exact(self.kernel)

    @property
    def size(self) -> Any:
        r"""$F = \|A\|_F = \sqrt{\mathrm{tr} K}$."""
        trace = np.trace(self.kernel)
        return linalg.square_root(trace) if self._exact else math.sqrt(trace)

    def first(self, examples: int) -> LinearClass:
        """The class on the first N examples alone."""
        rows = examples * self.outputs
        return replace(self, kernel=self.kernel[:rows, :rows])

    def enumerated(self) -> Any:
        r"""The complexity itself: the mean over all signs, of which s and −s count once.

        Returns:
            A float to within rounding; a number with its square roots if K is exact.

        Raises:
            ValueError: more than 16 signs.

        Source: Bartlett and Mendelson 2002, definition 2.
        """
        rows = len(self.kernel)
        if rows > ENUMERABLE:
            raise ValueError(
                f"kernel: got {rows} signs, of which at most {ENUMERABLE} can be enumerated; use sampled"
            )
        if self._exact:
            every = itertools.product((1, -1), repeat=rows - 1)
            squares = Counter(_quadratic(np.array((1, *signs), object), self.kernel) for signs in every)
            total = sum(count * linalg.square_root(square) for square, count in squares.items())
            return self.scale * total / 2 ** (rows - 1)
        codes = np.arange(2 ** (rows - 1))[:, None]
        signs = 1.0 - 2.0 * ((codes >> np.arange(rows)) & 1)
        squares = np.einsum("si,si->s", signs @ self.kernel, signs)
        return self.scale * float(np.sqrt(np.maximum(squares, 0)).mean())

    def sampled(self, key: PRNGKeyArray, *, draws: int = CHUNK, confidence: float = 0.99) -> Sampled:
        """The complexity from random signs, with the interval of `controlled`.

        Args:
            key: a JAX random key.
            draws: rounded up to a multiple of 1024.
            confidence: of the interval.

        Raises:
            ValueError: an exact K; a confidence outside (0, 1).
        """
        if self._exact:
            raise ValueError("kernel: got exact numbers, which are enumerated; use .astype(float) to sample")
        keys, kernel = jax.random.split(key, -(-draws // CHUNK)), jnp.asarray(self.kernel)
        squares = np.concatenate([np.asarray(_squares(kernel, each)) for each in keys])
        # sᵀKs is at most the sum of all magnitudes.
        longest = math.sqrt(np.abs(self.kernel).sum())
        lengths = np.sqrt(np.maximum(squares, 0))
        return controlled(lengths, self.size, longest, scale=self.scale, confidence=confidence)

    def lower_bound(self) -> linalg.Lower:
        r"""$\hat R \ge \frac BN \|A\|_F \max\{1/\sqrt2,\ 1 - \sum_{i\ne j} K_{ij}^2/(\mathrm{tr} K)^2\}$.

        Source: T5.R13.  The first is Khintchine's inequality (Latała and Oleszkiewicz 1994), attained by two
        equal rows; the second is close to 1 where K has many eigenvalues of a size.
        """
        kernel = np.asarray(self.kernel, np.float64)
        trace = np.trace(kernel)
        if trace == 0:
            return linalg.Lower(0.0)
        mixed = max(0.0, float((kernel**2).sum() - (np.diag(kernel) ** 2).sum()))
        share = max(math.sqrt(0.5), 1 - mixed / trace**2)
        return linalg.Lower(float(self.scale) * math.sqrt(trace) * share * (1 - self._rounding))

    def upper_bound(self) -> linalg.Upper:
        r"""$\hat R \le \frac BN \|A\|_F$, by Jensen's inequality; attained by orthogonal rows.

        Source: T5.R13.
        """
        return linalg.Upper(float(self.scale) * float(self.size) * (1 + self._rounding))

    @property
    def _rounding(self) -> float:
        return linalg.gamma(4 * len(self.kernel) + 16)

    def complexity(
        self, key: PRNGKeyArray | None = None, *, draws: int = CHUNK, confidence: float = 0.99
    ) -> Complexity:
        """The complexity: enumerated where that is possible, sampled otherwise; and its bounds.

        Args:
            key: a JAX random key, needed beyond 16 signs.
            draws: as `sampled` has it.
            confidence: likewise.

        Raises:
            ValueError: more than 16 signs and no key.
        """
        bounds = self.lower_bound(), self.upper_bound()
        if len(self.kernel) <= ENUMERABLE:
            value = float(self.enumerated())
            return Complexity(value, value, value, 0.0, *bounds, "all signs")
        if key is None:
            raise ValueError(f"key: got None, needs a JAX random key to draw {len(self.kernel)} signs")
        found = self.sampled(key, draws=draws, confidence=confidence)
        return of_sampled(found, *bounds)

    def __repr__(self) -> str:
        return f"LinearClass(N={self.examples}, outputs={self.outputs}, radius={self.radius})"


def of_sampled(found: Sampled, lower: linalg.Lower, upper: linalg.Upper) -> Complexity:
    """Put bounds that hold for certain beside an estimate, and cut its interval to them."""
    how = f"{found.draws} draws, {found.confidence:.0%} interval of {found.inequality}"
    low, high = max(found.low, float(lower)), min(found.high, float(upper))
    return Complexity(found.value, low, high, found.standard_error, lower, upper, how)


def _quadratic(signs: np.ndarray, kernel: np.ndarray) -> Fraction:
    return (signs @ kernel) @ signs


@jax.jit
def _squares(kernel: Float[Array, "rows rows"], key: PRNGKeyArray) -> Float[Array, " draws"]:
    """SᵀKs for many random s."""
    signs = jax.random.rademacher(key, (CHUNK, len(kernel)), kernel.dtype)
    return jnp.einsum("si,si->s", signs @ kernel, signs)
