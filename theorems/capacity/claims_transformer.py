"""Repairs of Theorem 2, fourth part: what can be certified for transformers.

The paper's network is a chain of dense layers.  These claims say what takes the place of its bound for
attention, norm layers and residual connections.  Proofs are on the page on transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from .. import linalg
from ..claims import Claim, Comparison, Control, Judgement
from . import tokens
from .tokens import Attention, NormLayer, Softmax
from .transformer_pair import TransformerPair, random_pair, trained, transformers


def _at_most(bound: Callable[[TransformerPair], np.ndarray]) -> Callable[[TransformerPair], Comparison]:
    def compare(pair: TransformerPair) -> Comparison:
        allowed = bound(pair)
        few = slice(len(allowed))
        return Comparison(pair.deviation[few], "<=", allowed, pair.scale[few], pair.operations)

    return compare


def _attack_at_most(share: float) -> Callable[[TransformerPair], Comparison]:
    def compare(pair: TransformerPair) -> Comparison:
        allowed = pair.budget(share)
        few = slice(len(allowed))
        return Comparison(pair.attacked, "<=", allowed, pair.scale[few] + pair.attacked, pair.operations)

    return compare


def _softmax(power: int) -> Callable[[Softmax], Comparison]:
    def compare(s: Softmax) -> Comparison:
        lhs, rhs = [s.move(), s.allowed(power)], [s.allowed(power), s.oscillation() / (2 * power)]
        if linalg.is_exact(s.weights):
            return Comparison(np.array(lhs, dtype=object), "<=", np.array(rhs, dtype=object))
        allowed = np.array(rhs) + 2 * linalg.gamma(64) * (1 + s.oscillation())
        return Comparison(np.array(lhs), "<=", allowed, scale=1.0 + s.oscillation(), operations=64)

    return compare


def _attention(globally: bool) -> Callable[[Attention], Comparison]:
    def compare(a: Attention) -> Comparison:
        move, allowed = a.move(), a.allowed(globally=globally)
        if linalg.is_exact(a.X):
            return Comparison(move, "<=", allowed)
        # Scores of size s make softmax lose s in relative accuracy.
        scores = 1 + np.max(np.abs((a.X @ a.Q) @ (a.X @ a.K).T))
        size = linalg.spectral_norm(a.V) * np.max(linalg.norm(np.concatenate([a.X, a.Y]))) * scores
        return Comparison(move, "<=", allowed + 2 * linalg.gamma(512) * size, scale=size, operations=512)

    return compare


def _two_point(factor: int) -> Callable[[NormLayer], Comparison]:
    def compare(n: NormLayer) -> Comparison:
        if linalg.is_exact(n.x):
            return Comparison(n.move(), "<=", n.allowed(factor))
        size = n.size()
        return Comparison(n.move(), "<=", n.allowed(factor) + 2 * linalg.gamma(128) * size, size, 128)

    return compare


def _one_percent_less(pair: TransformerPair) -> np.ndarray:
    return pair.certificate.chain / 1.01


def _quarter(pair: TransformerPair) -> np.ndarray:
    return pair.certificate.range / 4


TRUE = Judgement.TRUE
FEW = 10  # random transformers per search: each is a network of its own

CLAIMS = (
    Claim(
        id="T2.R17",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\tfrac12\|p(u+d)-p(u)\|_1 \le \tanh(\mathrm{osc}(d)/4) \le \mathrm{osc}(d)/4",
        reason=(
            "softmax in total variation: a change of scores acts only through its oscillation, and saturates"
        ),
        plain=(
            "Attention weights cannot move further than their scores allow, and never by more than "
            "everything."
        ),
        compare=_softmax(2),
        exact=lambda: {
            "p = (1/3, 2/3), d = (log 4, 0): attained": Softmax(linalg.exact([1, 2]), linalg.exact([4, 1]))
        },
        strategy=lambda: (tokens.softmaxes(), tokens.float_softmaxes()),
        control=Control(
            "osc/8 in place of osc/4",
            compare=_softmax(4),
            exact=lambda: Softmax(linalg.exact([1, 2]), linalg.exact([4, 1])),
        ),
    ),
    Claim(
        id="T2.R18",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\max_i\|o_i(X)-o_i(Y)\| \le \|W_V\|(1+2R^2\|W_QW_K^T\|/\sqrt c)\max_i\|x_i-y_i\|,\quad "
        r"\|x_i\|,\|y_i\| \le R",
        reason="attention is Lipschitz on a ball of tokens; without the ball it is not",
        plain="Attention has a Lipschitz constant where tokens are bounded, as they are behind a norm layer.",
        compare=_attention(globally=False),
        exact=lambda: {
            "W_Q=0, X=(0,2), Y=(1,3): attained": Attention(
                *linalg.exact([[[0]], [[1]], [[1]]]), *linalg.exact([[[0], [2]], [[1], [3]]])
            ),
            "unit weights, X=(0,4), Y=(1,4)": Attention(
                *linalg.exact([[[1]], [[1]], [[1]]]), *linalg.exact([[[0], [4]], [[1], [4]]])
            ),
        },
        strategy=tokens.attentions,
        control=Control(
            "the ball: one constant ‖W_V‖ for all tokens",
            compare=_attention(globally=True),
            exact=lambda: Attention(
                *linalg.exact([[[1]], [[1]], [[1]]]), *linalg.exact([[[0], [4]], [[1], [4]]])
            ),
        ),
    ),
    Claim(
        id="T2.R19",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\|h(x)-h(y)\| \le \frac{2\|x-y\|}{s_x+s_y},\quad s=\sqrt{\mathrm{var}+\varepsilon}",
        reason=(
            "LayerNorm and RMSNorm are projections on a sphere (Dunkl and Williams 1964); no convexity needed"
        ),
        plain="How far a norm layer moves a token depends on the sizes of both tokens, not on 1/√ε.",
        compare=_two_point(2),
        exact=lambda: {
            "x=3/4, y=-3/4, ε=1: attained": NormLayer(
                linalg.exact(["3/4"]), linalg.exact(["-3/4"]), Fraction(1)
            )
        },
        strategy=tokens.norm_layers,
        control=Control(
            "the factor 2",
            compare=_two_point(1),
            exact=lambda: NormLayer(linalg.exact(["3/4"]), linalg.exact(["-3/4"]), Fraction(1)),
        ),
    ),
    Claim(
        id="T2.R20",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\|f-f_0\| \le \text{certified chain: balls around the base run, tuned weights}",
        reason="each sublayer maps a ball around the base run into a ball; exact for a tuned head",
        plain=(
            "The bound for transformers, layer by layer around the base run; asymptotically exact for "
            "small updates."
        ),
        compare=_at_most(lambda pair: pair.certificate.chain),
        strategy=transformers,
        examples=FEW,
        control=Control(
            "one percent less, where only the head is tuned",
            compare=_at_most(_one_percent_less),
            exact=lambda: random_pair(0, 0.1, only="head"),
            strategy=lambda: transformers(parts=("head",)),
        ),
        observe=trained,
        detail=TransformerPair.layers,
    ),
    Claim(
        id="T2.R21",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\|f-f_0\| \le \|C\,\mathrm{diag}(\gamma)W\|_2\sqrt n + \|\beta W + b - f_0\|",
        reason=(
            "the outputs of the last norm layer lie on a sphere: a trivial bound that does not shrink "
            "with the update"
        ),
        plain=(
            "What any update of the layers below could do at most. Shown beside the chain, so that "
            "nobody takes a vacuous bound for a tight one."
        ),
        compare=_at_most(lambda pair: pair.certificate.range),
        strategy=transformers,
        examples=FEW,
        control=Control(
            "a quarter of it",
            compare=_at_most(_quarter),
            exact=lambda: random_pair(0, 1.0),
        ),
        observe=trained,
    ),
    Claim(
        id="T2.R22",
        theorem="capacity",
        judgement=TRUE,
        statement=(
            r"\text{attack} \le \sup\{\|f-f_0\| : \|\Phi_W\| \le \varphi_W\} \le \text{the chain over "
            r"budgets}"
        ),
        reason="the attack's update is within the budgets; the chain holds for every update within them",
        plain=(
            "The sandwich for transformers: what an attack reaches, and what is allowed for the same norms."
        ),
        compare=_attack_at_most(1.0),
        strategy=lambda: transformers(flipped=True),
        examples=FEW,
        control=Control(
            "a hundredth of the budgets",
            compare=_attack_at_most(0.01),
            exact=lambda: random_pair(0, 0.01, flipped=True),
        ),
        observe=trained,
    ),
    Claim(
        id="T2.R23",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\|f-f_0\| \le \min\big(\|\textstyle\sum_m \hat d_m\| + \sum_m \rho_m,\ \sum_m b_m\big) "
        r"\text{ along } \theta_0 + t\,\Delta\theta",
        reason="the chain in small steps: its error is of second order in each, so the sum converges",
        plain="For large updates: certify the way from θ₀ to θ in steps, at the price of a run per step.",
        compare=_at_most(TransformerPair.path),
        strategy=transformers,
        examples=FEW,
        control=Control(
            "one percent less, where only the head is tuned",
            compare=_at_most(lambda pair: pair.path() / 1.01),
            exact=lambda: random_pair(0, 0.1, only="head"),
            strategy=lambda: transformers(parts=("head",)),
        ),
        observe=trained,
    ),
)
