r"""Instances for the claims on the pieces of a transformer: softmax, one head, a norm layer.

They are computed from their definitions, in float64 or exactly (sympy knows e), and share nothing with the
package `transformer`, whose formulas they test.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from hypothesis import strategies as st

from .. import linalg
from ..pasteable import Pasteable


@dataclass(frozen=True, eq=False, repr=False)
class Softmax(Pasteable):
    """Softmax before and after a change of its scores, given by w_j = e^{u_j} and f_j = e^{d_j}."""

    weights: np.ndarray
    factors: np.ndarray
    kind: str = "softmax"
    note: str = ""

    def move(self) -> Any:
        """½ ‖p(u + d) − p(u)‖₁."""
        after = self.weights * self.factors
        return sum(abs(after / sum(after) - self.weights / sum(self.weights))) / 2

    def oscillation(self) -> Any:
        """osc(d), the logarithm of the largest ratio of factors."""
        ratio = max(self.factors) / min(self.factors)
        return sympy.log(sympy.sympify(ratio)) if linalg.is_exact(self.factors) else np.log(ratio)

    def allowed(self, power: int = 2) -> Any:
        """tanh(ω/4) = (√q − 1)/(√q + 1), with ω = osc(d) and q = e^ω the largest ratio of factors."""
        ratio = max(self.factors) / min(self.factors)
        root = linalg.square_root(ratio) if linalg.is_exact(self.factors) else ratio ** (1 / power)
        if power == 4 and linalg.is_exact(self.factors):
            root = linalg.square_root(root)
        return (root - 1) / (root + 1)


@dataclass(frozen=True, eq=False, repr=False)
class Attention(Pasteable):
    """One head on two sequences of tokens: matrices W_Q, W_K, W_V of shape (n, c), no biases."""

    Q: np.ndarray
    K: np.ndarray
    V: np.ndarray
    X: np.ndarray
    Y: np.ndarray
    kind: str = "one head"
    note: str = ""

    def _output(self, X: np.ndarray) -> np.ndarray:
        exact = linalg.is_exact(X)
        scores = (X @ self.Q) @ (X @ self.K).T
        root = linalg.square_root(Fraction(self.Q.shape[1])) if exact else np.sqrt(self.Q.shape[1])
        if exact:
            p = np.vectorize(lambda s: sympy.exp(sympy.sympify(s / root)), otypes=[object])(scores)
        else:
            p = np.exp((scores - scores.max(axis=1, keepdims=True)) / root)
        return (p / p.sum(axis=1)[:, None]) @ (X @ self.V)

    def move(self) -> Any:
        """The largest move of an output token."""
        return max(linalg.norm(self._output(self.Y) - self._output(self.X)))

    def allowed(self, *, globally: bool = False) -> Any:
        """‖W_V‖(1 + 2R²‖A‖) times the largest move of an input token, A = W_Q W_Kᵀ/√c, R the largest norm."""
        radius = max(*linalg.norm(self.X), *linalg.norm(self.Y))
        step = max(linalg.norm(self.Y - self.X))
        exact = linalg.is_exact(self.X)
        root = linalg.square_root(Fraction(self.Q.shape[1])) if exact else np.sqrt(self.Q.shape[1])
        score = linalg.spectral_norm(self.Q @ self.K.T) / root
        return linalg.spectral_norm(self.V) * (1 if globally else 1 + 2 * radius**2 * score) * step


@dataclass(frozen=True, eq=False, repr=False)
class NormLayer(Pasteable):
    """Two tokens before a norm layer without parameters: "layer" subtracts the mean, "rms" does not."""

    x: np.ndarray
    y: np.ndarray
    epsilon: Any
    norm: str = "rms"
    kind: str = "two tokens"
    note: str = ""

    def _normalised(self, x: np.ndarray) -> tuple[np.ndarray, Any]:
        n = Fraction(len(x)) if linalg.is_exact(x) else len(x)
        x = x - sum(x) / n if self.norm == "layer" else x
        variance = sum(x * x) / n + self.epsilon
        s = linalg.square_root(variance) if linalg.is_exact(x) else np.sqrt(variance)
        return x / s, s

    def move(self) -> Any:
        """‖h(x) − h(y)‖."""
        return linalg.norm((self._normalised(self.x)[0] - self._normalised(self.y)[0])[None])[0]

    def allowed(self, factor: int = 2) -> Any:
        """2‖x − y‖/(s_x + s_y)."""
        distance = linalg.norm((self.x - self.y)[None])[0]
        return factor * distance / (self._normalised(self.x)[1] + self._normalised(self.y)[1])

    def size(self) -> float:
        """What rounding is relative to: subtracting a mean may leave little of a token."""
        sizes = [float(linalg.norm(v[None])[0]) / float(self._normalised(v)[1]) for v in (self.x, self.y)]
        return sum(sizes) + np.sqrt(len(self.x))


@st.composite
def softmaxes(draw: st.DrawFn) -> Softmax:
    """Small fractions, exactly."""
    size = draw(st.integers(2, 3))
    numbers = st.lists(st.integers(1, 9), min_size=size, max_size=size)
    return Softmax(linalg.exact(draw(numbers)), linalg.exact(draw(numbers)), kind="small integers")


def float_softmaxes() -> st.SearchStrategy:
    """Scores of any size."""

    def build(seed: int, size: int, log_scale: float) -> Softmax:
        rng = np.random.default_rng(seed)
        u, d = rng.normal(size=(2, size)) * 10.0**log_scale
        return Softmax(np.exp(u), np.exp(d), kind="gaussian scores")

    return st.builds(build, st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(-4, 1))


def attentions() -> tuple[st.SearchStrategy, ...]:
    """Two scalar tokens exactly, then small heads in float64."""
    small = st.integers(-2, 2).map(lambda n: linalg.exact([[n]]))

    def scalar(q: np.ndarray, k: np.ndarray, v: np.ndarray, tokens: list[int]) -> Attention:
        X, Y = linalg.exact([tokens[:2], tokens[2:]])
        return Attention(q, k, v, X[:, None], Y[:, None], "small integers")

    def head(seed: int, log_size: float, log_step: float) -> Attention:
        rng = np.random.default_rng(seed)
        Q, K, V = rng.normal(size=(3, 4, 3))
        X = rng.normal(size=(int(rng.integers(1, 5)), 4)) * 10.0**log_size
        return Attention(Q, K, V, X, X + 10.0**log_step * rng.normal(size=X.shape), "gaussian head")

    tokens = st.lists(st.integers(-2, 3), min_size=4, max_size=4)
    floats = st.builds(head, st.integers(0, 2**32 - 1), st.floats(-1, 1), st.floats(-4, 0))
    return st.builds(scalar, small, small, small, tokens), floats


def norm_layers() -> tuple[st.SearchStrategy, ...]:
    """Small integers exactly, then tokens of very different lengths."""

    def exact(norm: str, values: list[int], epsilon: int) -> NormLayer:
        x, y = linalg.exact([values[:2], values[2:]])
        return NormLayer(x, y, Fraction(epsilon), norm, "small integers")

    def floats(norm: str, seed: int, logs: tuple[float, float], log_epsilon: float) -> NormLayer:
        x, y = np.random.default_rng(seed).normal(size=(2, 5)) * 10.0 ** np.array(logs)[:, None]
        return NormLayer(x, y, 10.0**log_epsilon, norm, "gaussian tokens")

    norms, lengths = st.sampled_from(("rms", "layer")), st.tuples(st.floats(-4, 2), st.floats(-4, 2))
    values = st.lists(st.integers(-3, 3), min_size=4, max_size=4)
    return (
        st.builds(exact, norms, values, st.integers(1, 2)),
        st.builds(floats, norms, st.integers(0, 2**32 - 1), lengths, st.floats(-6, 0)),
    )
