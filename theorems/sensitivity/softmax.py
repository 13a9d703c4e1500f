r"""Ridge softmax regression on the frozen features of a network: a convex problem that is all head.

$$F(W) = \frac1n\sum_i \mathrm{CE}(W^Tx_i, y_i) + \frac\lambda2\|W-W_0\|_F^2,\qquad
\lambda I \preceq \nabla^2F \preceq \big(\lambda+\tfrac12\lambda_{\max}(\tfrac1nX^TX)\big)I,$$

since the covariance $\mathrm{diag}(p)-pp^T$ of a choice among classes has eigenvalues of at most ½.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp, softmax

from ...models import tree
from ...models.methods.full import head_pattern
from .. import linalg

if TYPE_CHECKING:
    from ...models.network import Network
    from ...models.tasks import Split

_STEPS = 60
_ROUNDS = 2
_ROUGH = 1e-6
Weights = Float[np.ndarray, "q C"]
Basis = Float[np.ndarray, "qC j"]


@dataclass(frozen=True, eq=False)
class RidgeSoftmax:
    """The loss of a head with frozen features.

    Attributes:
        x: features, with a column of ones where the head has biases, shape (n, q).
        y: labels, shape (n,).
        start: W₀, shape (q, C).
        ridge: λ.
        biased: whether the last row of W are biases.
    """

    x: Float[np.ndarray, "n q"]
    y: Int[np.ndarray, " n"]
    start: Weights
    ridge: float
    biased: bool

    @classmethod
    def of(cls, network: Network, split: Split, ridge: float) -> RidgeSoftmax:
        """The head of a network, on the features that its other parameters make of a split.

        Raises:
            ValueError: the last layer of the network is not known, or it has no hook.
        """
        last = head_pattern(network).removesuffix("/*")
        head = {
            path: np.asarray(leaf)
            for path, leaf in tree.paths(network.params).items()
            if path.startswith(last)
        }
        kernel, bias = head[f"{last}/kernel"], head.get(f"{last}/bias")
        x = np.asarray(_inputs(network, split, last))
        if bias is not None:
            x, kernel = np.column_stack([x, np.ones(len(x))]), np.concatenate([kernel, bias[None]])
        return cls(x, np.asarray(split.y), kernel, ridge, bias is not None)

    @property
    def mu(self) -> float:
        """Strong convexity, λ."""
        return self.ridge

    @cached_property
    def beta(self) -> float:
        """An upper bound of all curvatures."""
        return self.ridge + float(linalg.spectral_norm(self.x)) ** 2 / (2 * len(self.x))

    @property
    def operations(self) -> int:
        """Rounded operations behind a value."""
        return sum(self.x.shape) + self.start.size + 64

    def value(self, W: Weights) -> float:
        """F."""
        logits = self.x @ W
        loss = logsumexp(logits, axis=1) - logits[np.arange(len(self.y)), self.y]
        return float(loss.mean() + self.ridge / 2 * np.sum((W - self.start) ** 2))

    def gradient(self, W: Weights) -> Weights:
        """∇F."""
        left = softmax(self.x @ W, axis=1)
        left[np.arange(len(self.y)), self.y] -= 1
        return self.x.T @ left / len(self.x) + self.ridge * (W - self.start)

    def hessian(self, W: Weights) -> Float[np.ndarray, "qC qC"]:
        """∇²F, in the order of W.ravel()."""
        p, n = softmax(self.x @ W, axis=1), len(self.x)
        both = (self.x[:, :, None] * p[:, None, :]).reshape(n, W.size)
        out = (-(both.T @ both) / n).reshape(*W.shape, *W.shape)
        for c in range(W.shape[1]):
            out[:, c, :, c] += (self.x.T * (p[:, c] / n)) @ self.x
        return out.reshape(W.size, W.size) + self.ridge * np.eye(W.size)

    def _curved(self, W: Weights, B: Basis) -> Float[np.ndarray, "j j"]:
        """Bᵀ∇²F B: for each example diag(p) − ppᵀ between the logits that the columns of B make."""
        p, n = softmax(self.x @ W, axis=1), len(self.x)
        logits = np.tensordot(self.x, B.reshape(*W.shape, -1), 1)  # (n, C, j)
        mean = np.einsum("nc,ncj->nj", p, logits)
        rooted = (logits * np.sqrt(p)[:, :, None]).reshape(-1, B.shape[1])
        return (rooted.T @ rooted - mean.T @ mean) / n + self.ridge * (B.T @ B)

    def least(self, basis: Basis | None = None, accuracy: float = linalg.EPS) -> tuple[Weights, float]:
        """The minimum over W₀ + range of orthonormal columns, and how much lower the true one may be.

        Newton's method with halved steps, and one more step where what is left to gain is below that
        accuracy.  By strong convexity a gradient s that is left bounds the rest by ‖s‖² / 2λ.
        """
        W, last = self.start, False
        for _ in range(_STEPS):
            slope = self._within(basis, self.gradient(W).ravel())
            H = self.hessian(W) if basis is None else self._curved(W, basis)
            answer = np.linalg.solve(H, slope)
            step = (answer if basis is None else basis @ answer).reshape(W.shape)
            here, length = self.value(W), 1.0
            while not last and self.value(W - length * step) > here and length > linalg.EPS:
                length /= 2
            W = W - length * step
            if last:
                break
            last = slope @ answer <= accuracy * here
        sizes = np.linalg.norm(np.abs(self.x).mean(axis=0)) + self.ridge * np.linalg.norm(W - self.start)
        slope = np.linalg.norm(self._within(basis, self.gradient(W).ravel()))
        return W, float((slope + linalg.gamma(self.operations) * sizes) ** 2 / (2 * self.ridge))

    @staticmethod
    def _within(basis: Basis | None, vector: np.ndarray) -> np.ndarray:
        return vector if basis is None else basis.T @ vector

    # Images inside

    def biases(self) -> Basis:
        """Those that move biases alone.

        Raises:
            ValueError: a head without biases.
        """
        if not self.biased:
            raise ValueError("network: its head has no biases; use frozen")
        q, C = self.start.shape
        return np.eye(q * C)[:, (q - 1) * C :]

    def frozen(self, rank: int, seed: int = 0) -> Basis:
        """Those that change the kernel by A B, with a random A that stays: columns in the span of A."""
        inputs, C = len(self.start) - self.biased, self.start.shape[1]
        A = np.zeros((len(self.start), rank))
        A[:inputs] = np.linalg.qr(np.random.default_rng(seed).normal(size=(inputs, rank)))[0]
        return np.kron(A, np.eye(C))

    def low_rank(self, update: Weights, rank: int) -> Weights:
        """A change of the kernel of rank at most r, by alternating between its factors: an upper estimate.

        Args:
            update: W − W₀ of the minimum, whose leading directions are the first factor.
            rank: r.
        """
        inputs, C = len(self.start) - self.biased, self.start.shape[1]
        columns, W = np.linalg.svd(update[:inputs], full_matrices=False)[0][:, :rank], self.start
        for _ in range(_ROUNDS):
            padded = np.zeros((len(self.start), rank))
            padded[:inputs] = columns
            W, _ = self.least(np.kron(padded, np.eye(C)), _ROUGH)
            _, _, vt = np.linalg.svd((W - self.start)[:inputs], full_matrices=False)
            rows = vt[:rank]
            across = np.zeros((self.start.size, inputs * rank))
            across[: inputs * C] = np.kron(np.eye(inputs), rows.T)
            W, _ = self.least(across, _ROUGH)
            columns = np.linalg.svd((W - self.start)[:inputs], full_matrices=False)[0][:, :rank]
        return W


def _inputs(network: Network, split: Split, last: str) -> np.ndarray:
    """What the last layer gets."""
    if network.wrapped is None:
        raise ValueError(
            f"network: {network.name!r} has no hook at its layers; give Network the argument wrapped"
        )
    met = {}

    def recorded(name: str, layer: object, x: object) -> object:
        met[name] = x
        return layer(x)

    network.wrapped(network.params, jnp.asarray(split.x), recorded)
    return np.asarray(met[last])
