r"""Instances for the claims on transformers: softmax, attention, norm layers, and whole networks.

The small ones are computed from their definitions, in float64 or exactly (sympy knows e), and share nothing
with the package `transformer`, whose formulas they test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import sympy
from hypothesis import strategies as st
from jaxtyping import Array, Float

from ...models import tree
from ...models.network import Network
from ...models.transformer import TransformerConfig, transformer
from .. import linalg
from ..claims import MissingIngredient
from ..pasteable import Pasteable
from .attack import attack, budgets_of
from .transformer import DeviationBound, budget_bound, deviation_bound, path_bound

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning

INPUTS = 64  # test inputs of a trained transformer that are certified
ATTACKED = 2
PATH_STEPS = 8
PATH_INPUTS = 8


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


@partial(jax.jit, static_argnames="apply")
def _run(apply: Any, params: Any, x: Array) -> Array:
    return apply(params, x)


@dataclass(frozen=True, eq=False, repr=False)
class TransformerPair(Pasteable):
    """A transformer before and after fine-tuning, on some inputs.

    Attributes:
        network: the base network, float64.
        tuned: θ.
        x: inputs, shape (p, length, features).
        attacked: lower bounds on what updates of the same norms can do, for the first inputs, where known.
        recipe: how a random pair was made.
        steps: into how many steps `path` cuts the way.
    """

    network: Network
    tuned: Mapping[str, Any]
    x: Float[np.ndarray, "p t features"]
    attacked: np.ndarray | None = None
    kind: str = "transformer"
    note: str = ""
    recipe: str = ""
    steps: int = PATH_STEPS

    def snippet(self) -> str:
        """Show how a random pair was made; name a trained one."""
        return self.recipe or f"TransformerPair({self.network.name}, {len(self.x)} inputs)"

    @cached_property
    def outputs(self) -> tuple[np.ndarray, np.ndarray]:
        """f(x) and f₀(x), as the network itself gives them."""
        return tuple(
            np.asarray(_run(self.network.apply, p, self.x)) for p in (self.tuned, self.network.params)
        )

    @cached_property
    def deviation(self) -> np.ndarray:
        """‖f(x) − f₀(x)‖ per input."""
        return np.linalg.norm(self.outputs[0] - self.outputs[1], axis=-1)

    @cached_property
    def scale(self) -> np.ndarray:
        """The size of the outputs that are subtracted."""
        return 1 + sum(np.linalg.norm(output, axis=-1) for output in self.outputs)

    @property
    def operations(self) -> int:
        """Rounded operations on the longest path through the network."""
        c = self.network.architecture
        return (c.depth + 1) * 8 * (c.width + c.hidden + c.length + 16)

    @cached_property
    def base(self) -> dict[str, Any]:
        """θ₀ as NumPy arrays."""
        return jax.tree.map(np.asarray, self.network.params)

    @cached_property
    def theta(self) -> dict[str, Any]:
        """θ as NumPy arrays."""
        return jax.tree.map(np.asarray, self.tuned)

    @cached_property
    def certificate(self) -> DeviationBound:
        """The certified chain and the range bound."""
        return deviation_bound(self.network.architecture, self.base, self.theta, self.x)

    def path(self) -> np.ndarray:
        """The bound along the segment from θ₀ to θ, for the first inputs."""
        x = self.x[:PATH_INPUTS]
        return path_bound(self.network.architecture, self.base, self.theta, x, steps=self.steps)

    def budget(self, share: float = 1.0) -> np.ndarray:
        """The bound over all updates with a share of this one's norms, for the attacked inputs."""
        if self.attacked is None:
            raise MissingIngredient("nothing was attacked on this instance")
        update = tree.add(self.theta, jax.tree.map(lambda w: -w, self.base))
        budgets = {path: share * value for path, value in budgets_of(update).items()}
        return budget_bound(self.network.architecture, self.base, budgets, self.x[: len(self.attacked)]).bound

    def layers(self) -> tuple[dict[str, Any], ...]:
        """Measured move, certified radius and slack after each stage: medians over tokens and inputs."""
        rows = []
        for stage in self.certificate.layers:
            slack = stage.slack if np.isfinite(stage.slack) else None
            sizes = {"measured": float(np.median(stage.measured)), "bound": float(np.median(stage.radius))}
            name = stage.name.removeprefix("blocks/").replace("attention", "attn")
            rows.append({"layer": name, **sizes, "slack": slack})
        return tuple(rows)


class _LastPair:
    """The pair that was looked at last: several claims ask for the same one in a row."""

    def __init__(self) -> None:
        self.key: FineTuning | None = None
        self.value: TransformerPair | None = None

    def __call__(self, tuning: FineTuning) -> TransformerPair:
        if self.key is not tuning:
            self.key, self.value = tuning, _attacked(tuning)
        return self.value


def _attacked(tuning: FineTuning) -> TransformerPair:
    x = np.asarray(tuning.task.new.test.x[:INPUTS])
    found = attack(
        tuning.network,
        budgets_of(tuning.delta),
        x[:ATTACKED],
        key=jax.random.key(tuning.seed),
        steps=10,
        restarts=0,
        start=tuning.delta,
    )
    return TransformerPair(tuning.network, tuning.theta, x, found.deviation)


_pair = _LastPair()


def trained(tuning: FineTuning) -> Iterable[TransformerPair]:
    """The pair of a trained transformer; nothing for other networks."""
    if isinstance(tuning.network.architecture, TransformerConfig):
        yield _pair(tuning)


@cache
def _template(config: TransformerConfig) -> Network:
    return transformer(config, key=jax.random.key(0), dtype=np.float64)


def _drawn(rng: np.random.Generator, leaf: Array) -> np.ndarray:
    """Random weights around those of the usual initialisation: kernels of norm about 1, scales near 1."""
    noise = rng.normal(size=leaf.shape)
    return noise / np.sqrt(leaf.shape[0]) if leaf.ndim == 2 else np.asarray(leaf) + 0.3 * noise


def random_pair(
    seed: int, size: float, *, only: str = "", flipped: bool = False, gain: float = 1.0, **options: Any
) -> TransformerPair:
    """A small transformer with random weights and a random update, for the search and the controls.

    Args:
        seed: of everything.
        size: of the update's entries.
        only: update the leaves whose path starts so.
        gain: of the queries and keys: a large one makes attention sharp.
        flipped: take what the update and its negative do as a (weak) attack within the update's norms.
        options: changes of the configuration.
    """
    sizes = {"features": 3, "length": 3, "width": 4, "depth": 1, "heads": 2, "hidden": 5, "outputs": 2}
    rng = np.random.default_rng(seed)
    network = _template(TransformerConfig(**(sizes | options)))
    drawn = {path: _drawn(rng, leaf) for path, leaf in tree.paths(network.params).items()}
    sharp = {path: leaf * gain if "query" in path or "key" in path else leaf for path, leaf in drawn.items()}
    network = network.with_params(tree.from_paths(sharp))
    update = {
        path: size * rng.normal(size=leaf.shape) * path.startswith(only)
        for path, leaf in tree.paths(network.params).items()
    }
    update = tree.from_paths(update)
    x = rng.normal(size=(3, network.architecture.length, network.architecture.features))
    chosen = {"only": only, "flipped": flipped, "gain": gain, **options}
    usual = {"only": "", "flipped": False, "gain": 1.0}
    settings = "".join(f", {k}={v!r}" for k, v in chosen.items() if k not in usual or v != usual[k])
    recipe = f"random_pair({seed}, {size}{settings})"
    pair = TransformerPair(
        network, tree.add(network.params, update), x, kind="random transformer", recipe=recipe, steps=4
    )
    if not flipped:
        return pair
    negative = tree.add(network.params, jax.tree.map(lambda u: -u, update))
    other = TransformerPair(network, negative, x)
    return replace(pair, attacked=np.maximum(pair.deviation, other.deviation), kind="flipped updates")


# Strategies.


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


VARIANTS = (
    {},
    {"norm": "rms", "causal": True, "activation": "relu"},
    {"norm_first": False, "biases": False, "activation": "tanh"},
)


PARTS = (
    "",
    "embed",
    "blocks/0/norm1",
    "blocks/0/attention/query",
    "blocks/0/attention",
    "blocks/0/mlp",
    "head",
)


def transformers(*, parts: tuple[str, ...] = PARTS, **options: Any) -> st.SearchStrategy:
    """Random small transformers of three variants; updates of parts or of all, from tiny to large."""

    def build(
        seed: int, log_size: int, part: str, gain: float, variant: Mapping[str, Any]
    ) -> TransformerPair:
        return random_pair(seed, 10.0**log_size, only=part, gain=gain, **options, **variant)

    sizes, gains = st.integers(-5, 0), st.sampled_from((1.0, 4.0))
    return st.builds(
        build, st.integers(0, 10**6), sizes, st.sampled_from(parts), gains, st.sampled_from(VARIANTS)
    )
