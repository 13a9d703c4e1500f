"""Self-attention around given tokens: what perturbed tokens and unknown weights do to its output.

The bias of the keys shifts all scores of a row alike and drops out. Facts H1 to H4 of the theorem's page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from .enclosure import Enclosure
from .extents import Extents
from .forward import join_heads, split_heads, visible
from .softmax import Sight, softmax_move, softmax_remainder

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig
    from .linear import Affine
    from .rounding import Margin

Array = np.ndarray


def attention_lipschitz(
    layers: dict[str, Affine], extents: Extents, radius: Float[Array, "*p"]
) -> Float[Array, "*p"]:
    r"""Lipschitz constant of attention on tokens of norm at most R, in the largest token norm (H4).

    $$\sum_h \|W_V^h W_O^h\| \Big(1 + R\big(2\|A_h\|R + \|W_K^h b_Q^h\|/\sqrt c\big)\Big),
      \qquad A_h = W_Q^h W_K^{hT}/\sqrt c,$$

    for any mask, each norm enlarged by the budgets of the layers. There is no such constant without R: with
    two tokens (0, t) and unit weights the derivative is 1/2 + t²/4. Attained at W_Q = W_K = 0, else loose.
    """
    query, key, value, out = (layers[name] for name in ("query", "key", "value", "out"))
    single, heads = extents.single, len(extents.through)
    b_q = query.bias.reshape(heads, -1)
    score = query.phi * (single["key"] + key.phi) + key.phi * single["query"]
    score = extents.score + score / extents.root
    bias = np.linalg.norm(np.einsum("hnc,hc->hn", extents.W["key"], b_q), axis=-1)[:, None]
    size = np.linalg.norm(b_q, axis=-1)[:, None]
    bias = bias * (1 + extents.many) + extents.many * extents.fro["key"] * size
    bias = (bias + key.phi * size + (single["key"] + key.phi) * query.phi_bias) / extents.root
    through = extents.through + value.phi * out.norm + out.phi * (single["value"] + value.phi)
    return np.sum(through * (1 + radius * (2 * score * radius + bias)), axis=0)


class Attention:
    """Multi-head attention with its four layers, around given tokens h.

    Args:
        config: sizes and variants.
        layers: "query", "key", "value", "out"; the first three act on h. The bias of the keys is ignored.
        h: the tokens, shape (p, t, n).
        radius: of a ball that holds h and every perturbed token.
        margin: rounding allowance.
        exact: whether to compute the norms of the derivative's blocks.

    Attributes:
        output: its value at h.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layers: dict[str, Affine],
        h: Float[Array, "p t n"],
        radius: float,
        margin: Margin,
        *,
        exact: bool = True,
    ) -> None:
        self.config, self.layers, self.margin, self.sight = config, layers, margin, Sight(config.causal)
        self.at = at = Extents(config, layers, h)
        mixed = join_heads(at.p @ at.v)
        self.output = layers["out"](mixed)
        size, out = np.linalg.norm(h, axis=-1), layers["out"]
        self.shifts = {name: layers[name].shift(size) for name in ("query", "key", "value")}
        averaging = at.many * np.linalg.norm(at.v_most, axis=1)
        self.out_shift = out.shift(np.linalg.norm(mixed, axis=-1)) + (out.norm + out.phi) * averaging
        self.size, self.radius, self.blocks = size, radius, at.blocks() if exact else None
        self.choice = visible(config).sum(axis=1) > 1  # a token that sees one token gives it weight 1
        nothing = Enclosure.ball(h, 0 * size)
        self.still = self._spread(nothing, *self._scores(nothing))

    def _scores(self, x: Enclosure) -> tuple[Array, Array, Array]:
        """Oscillations of the score changes: linear in the tokens, bilinear, and by what is unknown (H1)."""
        at, query, key = self.at, self.layers["query"], self.layers["key"]
        e, r, pair, rest = x.radius[:, None], x.rest[:, None], self._pair(x.radius), self._pair(x.rest)
        straight, crossed = self._predicted(x)
        any_direction = e * at.key_reach + at.query_reach * pair
        linear = np.minimum(any_direction, straight + r * at.key_reach + at.query_reach * rest)
        bilinear = np.minimum(at.score * e * pair, at.score * (r * pair + x.length[:, None] * rest) + crossed)
        q_off = self.shifts["query"][:, None] + query.phi * e
        k_off = self._pair(self.shifts["key"]) + key.phi * pair
        unknown = q_off * (at.key_span + at.single["key"] * pair / at.root)
        unknown = unknown + k_off * (at.q_size + at.single["query"] * e + q_off) / at.root + at.noise
        return tuple(np.where(self.choice, part, 0.0) for part in (linear, bilinear, unknown))

    def _pair(self, values: Float[Array, "p t"]) -> Float[Array, "p 1 t"]:
        return self.sight.two_largest(values)[:, None]

    def _predicted(self, x: Enclosure) -> tuple[Array, Array]:
        """Oscillations of the linear and of the bilinear score change at the predicted perturbation."""
        at = self.at
        dq, dk = (split_heads(self.config, x.centre @ self.layers[name].kernel) for name in ("query", "key"))
        straight = dq @ np.swapaxes(at.k, -1, -2) + at.q @ np.swapaxes(dk, -1, -2)
        crossed = dq @ np.swapaxes(dk, -1, -2)
        size, most = x.length[:, None], self.sight.largest(x.length)[:, None]
        lost = at.fro["query"] * size * at.k_most + at.q_size * at.fro["key"] * most
        crossed_lost = at.fro["query"] * at.fro["key"] * size * most
        return tuple(
            (at.oscillation(change) + 2 * at.many * noise) / at.root
            for change, noise in ((straight, lost), (crossed, crossed_lost))
        )

    def _move(self, *oscillations: Array) -> Float[Array, "p h t"]:
        """Total variation of the weights."""
        return np.where(self.choice, softmax_move(sum(oscillations), self.at.p.max(axis=-1)), 0.0)

    def _unknown(self, x: Enclosure, move: Array, mixed: Array) -> Float[Array, "p t"]:
        """What the unknown parts of the value and out layers, and rounding, add to the output."""
        at, value, out = self.at, self.layers["value"], self.layers["out"]
        off = at.joined(self.shifts["value"] + value.phi * x.radius, move, np.ones_like(at.through), 1.0)
        moved = np.linalg.norm(move * at.value_span, axis=1) + mixed + off
        return out.norm * off + out.phi * moved + self.out_shift

    def _spread(self, x: Enclosure, *oscillations: Array) -> Float[Array, "p t"]:
        """Radius of the output for given oscillations of the scores (H2)."""
        at, value, out = self.at, self.layers["value"], self.layers["out"]
        move = self._move(*oscillations)
        averages = at.averages(x.radius, move)
        mixed = at.joined(x.radius, move, at.single["value"], value.norm)
        apart = np.sum(move * at.span + at.through * averages, axis=1)
        joined = out.norm * np.linalg.norm(move * at.value_span + at.single["value"] * averages, axis=1)
        half = np.sum(move * at.span, axis=1) + out.norm * mixed
        known = np.minimum(np.minimum(apart, joined), half)
        return self.margin.up(known + self._unknown(x, move, mixed))

    def ball(self, x: Enclosure) -> Float[Array, "p t"]:
        """Radius around the output that holds the outputs at all perturbed tokens (H2, H4)."""
        whole = self._spread(x, *self._scores(x))
        radius = np.minimum(self.radius, (self.size + x.radius).max(axis=1))
        lipschitz = attention_lipschitz(self.layers, self.at, radius)[:, None] * self.sight.largest(x.radius)
        straight = self.linear(x.radius) + self.remainder(x)
        return np.minimum(np.minimum(whole, self.margin.up(lipschitz + self.still)), straight)

    def remainder(self, x: Enclosure) -> Float[Array, "p t"]:
        """Bound on the change of the output minus its linear part (H3)."""
        at = self.at
        linear, bilinear, unknown = self._scores(x)
        move = self._move(linear, bilinear, unknown)
        bend = softmax_remainder(linear + bilinear + unknown) * at.span
        bend = bend + (bilinear + unknown) / 2 * at.deviation
        values = self.sight.diameter(x.centre[:, None] @ (at.W["value"] @ at.W["out"]))
        values = values + at.many * at.fro["value"] * at.fro["out"] * self.sight.largest(x.length)[:, None]
        values = np.minimum(at.through * self._pair(x.radius), values + at.through * self._pair(x.rest))
        mixed = at.joined(x.radius, move, at.single["value"], self.layers["value"].norm)
        return self.margin.up(np.sum(bend + move * values, axis=1) + self._unknown(x, move, mixed))

    def tangent(self, v: Float[Array, "*batch p t n"]) -> Float[Array, "*batch p t n"]:
        """The linear part."""
        at, config = self.at, self.config
        dq, dk, dv = (split_heads(config, v @ self.layers[name].kernel) for name in ("query", "key", "value"))
        scores = (dq @ np.swapaxes(at.k, -1, -2) + at.q @ np.swapaxes(dk, -1, -2)) / at.root
        dp = at.p * (scores - np.sum(at.p * scores, axis=-1, keepdims=True))
        return join_heads(dp @ at.v + at.p @ dv) @ self.layers["out"].kernel

    def adjoint(self, c: Float[Array, "m p t n"]) -> Float[Array, "m p t n"]:
        """The transpose of the linear part."""
        at, config = self.at, self.config
        mixed = split_heads(config, c @ self.layers["out"].kernel.T)
        weights = mixed @ np.swapaxes(at.v, -1, -2)
        scores = at.p * (weights - np.sum(at.p * weights, axis=-1, keepdims=True)) / at.root
        back = {
            "query": scores @ at.k,
            "key": np.swapaxes(scores, -1, -2) @ at.q,
            "value": np.swapaxes(at.p, -1, -2) @ mixed,
        }
        return sum(join_heads(part) @ self.layers[name].kernel.T for name, part in back.items())

    def linear(self, r: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Bound on the linear part of all perturbations within r: by blocks, or softmax and values apart."""
        at = self.at
        if self.blocks is not None:
            return self.margin.up((self.blocks @ r[..., None])[..., 0])
        turn = np.where(self.choice, (r[:, None] * at.key_reach + at.query_reach * self._pair(r)) / 2, 0.0)
        averages = at.averages(r, 0 * turn)
        mixed = at.joined(r, 0 * turn, at.single["value"], self.layers["value"].norm)
        mixed = np.minimum(np.sum(at.through * averages, axis=1), self.layers["out"].norm * mixed)
        return self.margin.up(np.sum(turn * at.deviation, axis=1) + mixed)

    def loss(self, sizes: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Rounding of `tangent` at perturbations of these norms."""
        at, most = self.at, self.sight.largest(sizes)[:, None]
        turn = (at.fro["query"] * at.k_most * sizes[:, None] + at.fro["key"] * at.q_size * most) / at.root
        parts = turn * at.v_most * at.fro["out"] + at.fro["value"] * at.fro["out"] * most
        return 8 * at.many * parts.sum(axis=1)

    def adjoint_loss(self, sizes: Float[Array, "p t"]) -> Float[Array, "p t"]:
        """Rounding of `adjoint`, whose key path gathers the queries of other tokens: the largest."""
        at, most = self.at, sizes.max(axis=-1, keepdims=True)[:, None]
        k, q, v = (np.max(each, axis=-1, keepdims=True) for each in (at.k_most, at.q_size, at.v_most))
        turn = (at.fro["query"] * k + at.fro["key"] * q) * most / at.root
        parts = turn * v * at.fro["out"] + at.fro["value"] * at.fro["out"] * most
        return np.broadcast_to(8 * at.many * self.config.length * parts.sum(axis=1), sizes.shape)
