"""A transformer before and after fine-tuning: the instance of the claims on whole networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from hypothesis import strategies as st
from jaxtyping import Array, Float

from ...models import tree
from ...models.network import Network
from ...models.transformer import TransformerConfig, transformer
from .. import memo
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


@memo.latest
def _pair(tuning: FineTuning) -> TransformerPair:
    """The pair with what an attack reaches on its first inputs."""
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
