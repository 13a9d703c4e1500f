r"""The functional dimension of small networks: how many directions in function space their parameters move.

$\rho_S = \max_\theta \mathrm{rank}\,\partial_\theta (f(x_i; \theta))_i$.  Symmetries cost directions: a
ReLU unit can be scaled up before and down behind, an attention head can turn its queries and keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sympy
from hypothesis import strategies as st

from ..pasteable import Pasteable
from ..ranks import exact_functional_rank, numerical_rank


@dataclass(frozen=True, repr=False)
class ReluNetwork(Pasteable):
    """A ReLU network with one hidden layer and biases, and several θ of small integers.

    Attributes:
        widths: inputs, hidden units h, outputs.
        draws: how many θ to take the maximum over.
        seed: of the draws.
    """

    widths: tuple[int, int, int]
    draws: int = 1
    seed: int = 0
    kind: str = "ReLU network"

    @property
    def d(self) -> int:
        """Parameters."""
        n, h, m = self.widths
        return n * h + h + h * m + m

    @property
    def known(self) -> int:
        """The rank d − h: each hidden unit can be scaled."""
        return self.d - self.widths[1]

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """The rank at each θ, exact, on more inputs than are needed."""
        rng = np.random.default_rng(self.seed)
        n, h, m = self.widths
        inputs = rng.integers(-9, 10, size=(6 * self.d, n))
        found = []
        for _ in range(self.draws):
            weights = [rng.integers(-5, 6, size=shape) for shape in ((h, n), (m, h))]
            biases = [rng.integers(-5, 6, size=size) for size in (h, m)]
            found.append(exact_functional_rank(weights, biases, inputs, "relu"))
        return tuple(found)

    @property
    def rho(self) -> int:
        """The largest of them."""
        return max(self.ranks)


@dataclass(frozen=True, repr=False)
class TanhNetwork(Pasteable):
    """A tanh network with one hidden layer and biases, and several Gaussian θ in float64."""

    widths: tuple[int, int, int]
    draws: int = 2
    seed: int = 0
    kind: str = "tanh network"

    @property
    def d(self) -> int:
        """Parameters."""
        n, h, m = self.widths
        return n * h + h + h * m + m

    @property
    def known(self) -> int:
        """d: nothing can be scaled, only finitely many symmetries are left."""
        return self.d

    @cached_property
    def rho(self) -> int:
        """The largest rank over the draws; each needs a gap to count."""
        rng, (n, h, m) = np.random.default_rng(self.seed), self.widths
        x = 2 * rng.normal(size=(8 * self.d, n))
        found = []
        for _ in range(self.draws):
            W, b, V = rng.normal(size=(h, n)), rng.normal(size=h), rng.normal(size=(m, h))
            unit = np.tanh(x @ W.T + b)
            slope = 1 - unit**2
            back = V[None] * slope[:, None, :]  # (p, m, h)
            eye = np.broadcast_to(np.eye(m), (len(x), m, m))
            parts = [
                (back[..., None] * x[:, None, None, :]).reshape(len(x), m, -1),
                back,
                (eye[..., None] * unit[:, None, None, :]).reshape(len(x), m, -1),
                eye,
            ]
            found.append(numerical_rank(np.concatenate(parts, axis=2).reshape(len(x) * m, -1)).rank or 0)
        return max(found)


@dataclass(frozen=True, repr=False)
class AttentionScores(Pasteable):
    r"""The scores of one head, which see its query and key weights only through $W_Q W_K^T$.

    Attributes:
        width: n, of the tokens.
        head: h ≤ n, of the head.
        seed: of an integer draw.
    """

    width: int
    head: int
    seed: int = 0
    kind: str = "attention scores"

    @property
    def d(self) -> int:
        """Query and key weights, 2 n h."""
        return 2 * self.width * self.head

    @property
    def known(self) -> int:
        """The rank d − h²: an invertible h × h matrix can be moved from the queries to the keys."""
        return self.d - self.head**2

    @cached_property
    def rho(self) -> int:
        """Rank of (W_Q, W_K) ↦ W_Q W_Kᵀ at the draw, exact."""
        rng = np.random.default_rng(self.seed)
        Q, K = (rng.integers(-4, 5, size=(self.width, self.head)) for _ in range(2))
        eye = np.eye(self.width, dtype=int)
        rows = np.concatenate([np.kron(eye, K), np.kron(Q, eye)[:, self._order]], axis=1)
        return int(sympy.Matrix(rows.tolist()).rank())

    @property
    def _order(self) -> list[int]:
        n, h = self.width, self.head
        return [j * n + i for i in range(n) for j in range(h)]


@st.composite
def relu_networks(draw: st.DrawFn) -> ReluNetwork:
    """Up to two inputs and outputs, three hidden units; one θ each."""
    widths = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    return ReluNetwork(widths, 1, draw(st.integers(0, 999)))


@st.composite
def tanh_networks(draw: st.DrawFn) -> TanhNetwork:
    """One or two inputs and outputs, up to two hidden units."""
    widths = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return TanhNetwork(widths, 3, draw(st.integers(0, 99)))


@st.composite
def attention_scores(draw: st.DrawFn) -> AttentionScores:
    """Widths up to four."""
    width = draw(st.integers(1, 4))
    return AttentionScores(width, draw(st.integers(1, width)), draw(st.integers(0, 999)))
