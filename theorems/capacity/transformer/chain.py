"""The certified chain: what is known of the tuned network, carried along one run of the base network.

Forward, the tuned stream minus the computed base stream is enclosed token by token, in a ball and in a
smaller ball around a first-order prediction. Backward, the derivative of the output along the base run weighs
the errors of that prediction. Theorems C1 and C2 of the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from .attention import Attention
from .enclosure import EPS, Enclosure
from .forward import Run, pool
from .norms import UnitNorm
from .perceptron import Perceptron
from .steps import Norm, PostNorm, PreNorm, meet

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig
    from .enclosure import Piece
    from .linear import Admitted, Affine
    from .rounding import Margin

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of a chain; the deviation is meant from the computed base output.

    Attributes:
        centre: predicted deviation, shape (p, outputs).
        rest: certified distance of the deviation from it, shape (p,).
        bound: certified norm of the deviation.
        range: the same from the last norm layer alone.
        radii: certified radius of each stage of the stream, shapes (p, t).
    """

    centre: Float[Array, "p m"]
    rest: Float[Array, " p"]
    bound: Float[Array, " p"]
    range: Float[Array, " p"]
    radii: dict[str, Float[Array, "p t"]]


@dataclass(frozen=True, eq=False)
class Chain:
    """Carries an enclosure through all stages.

    Attributes:
        config: sizes and variants.
        admitted: the tuned networks: one, or all within budgets.
        run: the recorded run of the base network.
        margin: rounding allowance.
        predict: whether to carry first-order predictions; without, the effect of an update counts with its
            norm.
        exact: whether to compute the derivative of attention block by block, where that is affordable.
    """

    config: TransformerConfig
    admitted: Admitted
    run: Run
    margin: Margin
    predict: bool = True
    exact: bool = True

    def __call__(self, x: Float[Array, "p t features"]) -> Outcome:
        """Certify the deviation at the inputs of the recorded run."""
        embedded = state = self._embedding(x)
        radii, stream, steps, norm = {"embed": state.radius}, self.run.stages["embed"], [], ""
        for index in range(self.config.depth):
            for norm, name in ((f"blocks/{index}/norm1", "attention"), (f"blocks/{index}/norm2", "mlp")):
                where = f"blocks/{index}/{name}"
                forward = self._pre_norm if self.config.norm_first else self._post_norm
                step, state = forward(state, stream, norm, where)
                steps.append(step)
                stream, radii[where] = self.run.stages[where], state.radius
        if not self.config.norm_first:
            return self._head(norm, steps[-1].norm, embedded, steps, radii)
        last = self._normalised(state, stream)
        radii["norm"] = self._scaled("norm", last, self.run.stages["norm"]).radius
        return self._head("norm", last, embedded, steps, radii)

    def _embedding(self, x: Float[Array, "p t features"]) -> Enclosure:
        layer, base = self.admitted.layer("embed"), self.run.stages["embed"]
        position = self.admitted.node("position")["embedding"]
        unknown = layer.shift(np.linalg.norm(x, axis=-1)) + self.admitted.budget("position/embedding")
        unknown = unknown + 4 * EPS * (np.linalg.norm(base, axis=-1) + np.linalg.norm(position, axis=-1))
        return Enclosure.ball(base, unknown).moved(layer(x) + position - base, predict=self.predict)

    def _normalised(self, state: Enclosure, stream: Float[Array, "p t n"]) -> Norm:
        unit = UnitNorm(self.config, stream, self.margin)
        return Norm(unit, state, state.through(unit))

    def _scaled(self, path: str, norm: Norm, stream: Float[Array, "p t n"]) -> Enclosure:
        """From the normalised token to the norm layer's output, which the base run recorded as `stream`."""
        scale, beta = self.admitted.node(path)["scale"], self.admitted.node(path).get("bias", 0.0)
        h = norm.unit.h
        most = np.abs(h).max(axis=-1) + norm.behind.radius
        unknown = self.admitted.budget(f"{path}/scale") * most + self.admitted.budget(f"{path}/bias")
        unknown = unknown + 4 * EPS * (np.linalg.norm(h * scale, axis=-1) + np.linalg.norm(beta))
        return norm.behind.scaled(scale, unknown).moved(h * scale + beta - stream, predict=self.predict)

    def _pre_norm(self, x: Enclosure, stream: Array, norm: str, where: str) -> tuple[PreNorm, Enclosure]:
        first = self._normalised(x, stream)
        h, radius = first.unit.h, np.sqrt(self.config.width) * (1 + self.margin.relative)
        layers = {
            name: self.admitted.behind(norm, f"{where}/{name}", h, bias=name != "key")
            for name in _reads(where)
        }
        piece = self._sublayer(where, layers, h, radius)
        after = x.plus(self._added(first.behind, piece, where), self.run.stages[where])
        return PreNorm(first, piece, after), after

    def _post_norm(self, x: Enclosure, stream: Array, norm: str, where: str) -> tuple[PostNorm, Enclosure]:
        layers = {name: self.admitted.layer(f"{where}/{name}", bias=name != "key") for name in _reads(where)}
        piece = self._sublayer(where, layers, stream, np.inf)
        summed = stream + self.run.added[where]
        last = self._normalised(x.plus(self._added(x, piece, where), summed), summed)
        final = self._scaled(norm, last, self.run.stages[where])
        return PostNorm(last, piece, x, self.admitted.node(norm)["scale"], final), final

    def _added(self, x: Enclosure, piece: Piece, where: str) -> Enclosure:
        """What the tuned sublayer adds to the stream, less what the base run recorded."""
        return x.through(piece).moved(piece.output - self.run.added[where], predict=self.predict)

    def _sublayer(
        self, where: str, layers: dict[str, Affine], h: Array, radius: float
    ) -> Attention | Perceptron:
        if where.endswith("attention"):
            layers = {**layers, "out": self.admitted.layer(f"{where}/out")}
            return Attention(self.config, layers, h, radius, self.margin, exact=self.exact)
        return Perceptron(
            self.config.activation, layers["up"], self.admitted.layer(f"{where}/down"), h, self.margin
        )

    def _head(
        self, path: str, last: Norm, embedded: Enclosure, steps: list, radii: dict[str, Array]
    ) -> Outcome:
        base, up, length = self.run.output, self.margin.up, self.config.length
        weights = np.eye(length)[-1] if self.config.causal else np.full(length, 1 / length)
        pooled = pool(self.config, last.unit.h)
        head = self.admitted.behind(path, "head", pooled)
        known, straight = head(pooled) - base, last.behind.radius @ weights
        off = up(
            head.shift(np.linalg.norm(pooled, axis=-1))
            + head.phi * straight
            + 2 * EPS * np.linalg.norm(base, axis=-1)
        )
        size = np.linalg.norm(known, axis=-1)
        centre = pool(self.config, last.behind.centre) @ head.kernel + known * self.predict
        functionals = (head.kernel.T[:, None, None, :] * weights[:, None]).repeat(len(base), axis=1)
        rest = np.minimum(
            head.norm * (last.behind.rest @ weights), self._back(functionals, last, embedded, steps)
        )
        rest = up(rest + off + size * (not self.predict) + EPS * np.linalg.norm(centre, axis=-1))
        bound = np.fmin(up(head.norm * straight + size + off), up(np.linalg.norm(centre, axis=-1) + rest))
        bound = np.where(np.isnan(bound), np.inf, bound)  # overflow certifies nothing
        return Outcome(centre, rest, bound, up(_range(head, base, self.config.width)), radii)

    def _back(
        self, c: Float[Array, "m p t n"], last: Norm, embedded: Enclosure, steps: list
    ) -> Float[Array, " p"]:
        """Errors of all stages, each weighed by the derivative of the output at its place."""
        if self.config.norm_first:
            c, met = last.back(c)
        else:
            c, met = steps[-1].back_from_norm(c)
            steps = steps[:-1]
        for step in reversed(steps):
            c, more = step.back(c)
            met = met + more
        return met + meet(c, embedded.fresh)


def _reads(where: str) -> tuple[str, ...]:
    """The linear layers of a sublayer that act on its input."""
    return ("query", "key", "value") if where.endswith("attention") else ("up",)


def _range(head: Affine, base: Float[Array, "p m"], width: int) -> Float[Array, " p"]:
    r"""The range bound $\|K\|_2\sqrt n + \|b - f_0\|$, with K and b of the head behind the last norm (R)."""
    reach = (head.norm + head.phi) * np.sqrt(width) + np.linalg.norm(head.bias - base, axis=-1)
    reach = reach + head.phi_bias + head.rounding(np.sqrt(width)) + 4 * EPS * np.linalg.norm(base, axis=-1)
    return np.where(np.isnan(reach), np.inf, reach)  # overflow certifies nothing
