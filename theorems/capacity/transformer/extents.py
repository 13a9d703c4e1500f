r"""What attention looks like around given tokens: norms of its parts and extents of its points.

Notation of the theorem's page: head h has queries $q_i$, keys $k_j$, values $v_j$, scores $S_{ij} = q_i\cdot
k_j/\sqrt c$, weights $p_{ij}$ and, in output space, values $u_j = v_j W_O$.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ... import linalg
from .forward import softmax, split_heads, visible
from .rounding import schatten_norms, spectral_norms
from .softmax import Sight

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig
    from .linear import Affine

Array = np.ndarray
BLOCK_LIMIT = 1e10
"""Floating-point operations that may be spent on the exact derivative of one attention layer."""


class Extents:
    """Heads of an attention layer at given tokens, with everything a bound needs to know of them.

    Arrays per head and token have shape (p, heads, t); constants per head have shape (heads, 1). Each extent
    is enlarged by what rounding may have taken from it.

    Attributes:
        q: queries, (p, heads, t, c); likewise k without its bias, v, the values u in output space, and the
            weights p.
        through: ‖W_V W_O‖; single: ‖W_Q‖, ‖W_K‖, ‖W_V‖; score: ‖W_Q W_Kᵀ‖ / √c.
        key_reach: largest ‖W_Q (k_j − k_l)‖ / √c among the tokens seen; key_span: the same without W_Q.
        query_reach: ‖W_K q_i‖ / √c.
        value_span: largest ‖v_j − v_l‖; span: largest ‖u_j − u_l‖.
        deviation: bound on the standard deviation of u under p in any direction: half its span, or the root
            of the trace of its covariance.
    """

    def __init__(
        self, config: TransformerConfig, layers: dict[str, Affine], h: Float[Array, "p t n"]
    ) -> None:
        self.root, self.mask = np.sqrt(config.width // config.heads), visible(config)
        self.sight = Sight(config.causal)
        self.W = {name: split_heads(config, layers[name].kernel) for name in ("query", "key", "value")}
        self.W["out"] = layers["out"].kernel.reshape(config.heads, -1, config.width)
        self.q, self.v = (split_heads(config, layers[name](h)) for name in ("query", "value"))
        self.k = split_heads(config, h @ layers["key"].kernel)
        self.p = softmax(self.q @ np.swapaxes(self.k, -1, -2) / self.root, self.mask)
        self.u = self.v @ self.W["out"]
        self.many = linalg.gamma(8 * (config.length + config.width + 32))
        self._norms()
        self._measure()

    def _norms(self) -> None:
        W = self.W
        self.fro = {name: np.linalg.norm(kernel, axis=(-2, -1))[:, None] for name, kernel in W.items()}
        self.single = {name: spectral_norms(W[name])[:, None] for name in ("query", "key", "value")}
        self.through = spectral_norms(W["value"] @ W["out"])[:, None]
        self.through = self.through + self.many * self.fro["value"] * self.fro["out"]
        score = spectral_norms(W["query"] @ np.swapaxes(W["key"], -1, -2))[:, None]
        self.score = (score + self.many * self.fro["query"] * self.fro["key"]) / self.root

    def _measure(self) -> None:
        many, fro, sight = self.many, self.fro, self.sight
        self.q_size = np.linalg.norm(self.q, axis=-1)
        self.k_most = sight.largest(np.linalg.norm(self.k, axis=-1))
        self.v_most = sight.largest(np.linalg.norm(self.v, axis=-1))
        seen = self.k @ np.swapaxes(self.W["query"], -1, -2)  # scores as functions of the token that sees
        lost = {"seen": many * fro["query"] * self.k_most, "u": many * fro["out"] * self.v_most}
        self.key_reach = (sight.diameter(seen) + lost["seen"]) / self.root
        self.key_span = (sight.diameter(self.k) + many * self.k_most) / self.root
        reach = np.linalg.norm(self.q @ np.swapaxes(self.W["key"], -1, -2), axis=-1)
        self.query_reach = (reach + many * fro["key"] * self.q_size) / self.root
        self.value_span = sight.diameter(self.v) + many * self.v_most
        self.span = sight.diameter(self.u) + lost["u"]
        self.deviation = np.minimum(self.span / 2, self._deviation(self.u) + lost["u"])
        # Rounding of the scores and of softmax, as an oscillation of the scores.
        self.noise = 2 * many * (self.q_size * self.k_most / self.root + 8)

    def _deviation(self, points: Float[Array, "p h t m"]) -> Float[Array, "p h t"]:
        """Root of the trace of the covariance of the points under each row of weights."""
        centre = self.p @ points
        result = np.empty(self.p.shape[:-1])
        for i in range(result.shape[-1]):
            squares = np.sum((points - centre[..., i : i + 1, :]) ** 2, axis=-1)
            result[..., i] = np.sqrt(np.sum(self.p[..., i, :] * squares, axis=-1))
        return result

    def oscillation(self, scores: Float[Array, "p h t t"]) -> Float[Array, "p h t"]:
        """Largest minus smallest of the scores seen by each token."""
        highest = np.where(self.mask, scores, -np.inf).max(axis=-1)
        return highest - np.where(self.mask, scores, np.inf).min(axis=-1)

    def averages(self, values: Float[Array, "p t"], move: Float[Array, "p h t"]) -> Float[Array, "p h t"]:
        """Largest average of the values seen under weights that are off by at most `move` in total variation.

        It is attained by moving weight from the smallest values to the largest one.
        """
        order = np.argsort(values, axis=-1)
        ranked = np.take_along_axis(values, order, axis=-1)[:, None, None]
        places = np.broadcast_to(order[:, None, None], self.p.shape)
        weights = np.take_along_axis(self.p, places, axis=-1)
        moved = np.diff(np.minimum(np.cumsum(weights, axis=-1), move[..., None]), axis=-1, prepend=0.0)
        most = self.sight.largest(values)[:, None]
        return np.sum((weights - moved) * ranked, axis=-1) + (np.sum(moved, axis=-1) + self.many) * most

    def joined(
        self, values: Float[Array, "p t"], move: Array, each: Array, whole: float
    ) -> Float[Array, "p t"]:
        r"""Bound the heads together, $\|(\sum_j p'^h_{ij} a^h_j)_h\|$.

        Given are $\|a^h_j\| \le$ each · value_j for every head, $\|a_j\| \le$ whole · value_j for them all.
        """
        apart = np.linalg.norm(each * self.averages(values, move), axis=1)
        weights = np.minimum(1.0, self.p + move[..., None]) * self.mask
        together = whole * np.sqrt(np.einsum("pij,pj->pi", weights.max(axis=1), values**2))
        return np.minimum(apart, together)

    def blocks(self) -> Float[Array, "p t t"] | None:
        r"""Norms $\|B_{ij}\|_2$ of the derivative of output i by token j, or None if they cost too much.

        $$B_{ij} = \sum_h p^h_{ij}\Big(W_V^h W_O^h
            + \tfrac{1}{\sqrt c} W_K^h q_i^h (u^h_j - \bar u^h_i)^T\Big)
          + [i = j] \sum_{h,l} \tfrac{1}{\sqrt c} p^h_{il} W_Q^h k^h_l (u^h_l - \bar u^h_i)^T.$$
        """
        (p, heads, t, n), W = self.u.shape, self.W
        if p * t**2 * n**2 * (heads + 4 * n) > BLOCK_LIMIT:
            return None
        through, turned = W["value"] @ W["out"], self.q @ np.swapaxes(W["key"], -1, -2) / self.root
        seen, norms = self.k @ np.swapaxes(W["query"], -1, -2) / self.root, np.empty((p, t, t))
        for a in range(p):
            for i in range(t):
                away = self.u[a] - (self.p[a, :, i, None] @ self.u[a])
                weighted = self.p[a, :, i, :, None] * away
                block = np.einsum("hj,hmn->jmn", self.p[a, :, i], through)
                block += np.einsum("hm,hjn->jmn", turned[a, :, i], weighted)
                block[i] += np.einsum("hjm,hjn->mn", seen[a], weighted)
                norms[a, i] = schatten_norms(block)
        lost = self.fro["query"] * self.k_most + self.fro["key"] * self.q_size
        lost = (lost * self.v_most / self.root + self.fro["value"]) * self.fro["out"]
        return norms + 8 * self.many * lost.sum(axis=1)[..., None] * self.mask
