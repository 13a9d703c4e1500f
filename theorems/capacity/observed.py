"""From a fine-tuned network to the instances that the claims of Theorem 2 are judged on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Array, Float

from ...models.activations import ACTIVATIONS
from ...models.methods import LoRA
from ...models.mlp import MLPConfig
from ...models.network import Network
from ...models.tree import paths
from .. import linalg, memo
from ..claims import MissingIngredient
from ..pasteable import Pasteable
from . import strategies
from .feedforward import FeedForward
from .instances import Coefficients, Extents, UpdateNorms

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning


def layers(network: Network, params: Mapping[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Read W_k of shape (out, in), and b_k or None, off the parameters of an MLP.

    Raises:
        MissingIngredient: a network that is not known to be a chain of dense layers.
    """
    if not isinstance(network.architecture, MLPConfig):
        raise MissingIngredient(
            f"{network.name} is not known to be a chain of dense layers as in equation 27: "
            "make it with mlp_from_arrays, or build a FeedForward from its matrices"
        )
    stack = [params["layers"][str(k)] for k in range(len(params["layers"]))]
    weights = [np.asarray(layer["kernel"]).T for layer in stack]
    return weights, [np.asarray(layer["bias"]) for layer in stack] if "bias" in stack[0] else None


def pair_of(network: Network, theta: Mapping[str, Any], x: Float[Array, "p n"]) -> FeedForward:
    """View an MLP before and after tuning as the chain that the bounds speak of.

    The deviation is measured by the network itself; the chain's own run feeds the bounds only.

    Args:
        network: the base network, float64 parameters θ₀.
        theta: the tuned parameters θ, the tree of θ₀.
        x: inputs, shape (p, n_0), float64.

    Raises:
        MissingIngredient: a network that is not known to be a chain of dense layers.
        ValueError: float32 parameters or inputs.
    """
    weights, biases = layers(network, network.params)
    tuned, tuned_biases = layers(network, theta)
    config = network.architecture
    measured = np.linalg.norm(network.outputs(theta, x) - network.outputs(network.params, x), axis=-1)
    return FeedForward(
        weights=weights,
        updates=[t - w for t, w in zip(tuned, weights, strict=True)],
        x=np.asarray(x),
        activations=[config.activation] * (len(weights) - 1) + [config.output_activation],
        biases=biases,
        bias_updates=None if biases is None else [t - b for t, b in zip(tuned_biases, biases, strict=True)],
        kind="trained network",
        measured=measured,
    )


@memo.latest
def _pair(tuning: FineTuning) -> FeedForward:
    """The chain on all test inputs."""
    return pair_of(tuning.network, tuning.theta, tuning.task.new.test.x)


def feed_forward(tuning: FineTuning) -> Iterable[FeedForward]:
    """The chain on all test inputs; nothing for networks that are no chain."""
    if isinstance(tuning.network.architecture, MLPConfig):
        yield _pair(tuning)


@dataclass(frozen=True, eq=False)
class Transcript:
    """The constants of equation 6 read off a network that does not have the form (27).

    M and the Φ_k are those of all its weight matrices in order, ‖x‖ that of all tokens together.  The
    theorem does not cover such a network; the numbers show what comes of applying it all the same.
    """

    weight_norms: list[float]
    update_norms: list[float]
    lipschitz: list[float]
    x: np.ndarray
    deviation: np.ndarray
    bias_free: bool
    keeps_zero: bool
    kind: str = "transcript"
    note: str = "equation 6 does not cover this network; its constants were read off all weight matrices"
    is_exact: bool = False
    operations: int = 4096

    @property
    def depth(self) -> int:
        """How many weight matrices there are."""
        return len(self.weight_norms)

    @property
    def scale(self) -> np.ndarray:
        """The size of the numbers compared."""
        return self.deviation + 1


def weight_matrices(tuning: FineTuning) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every weight matrix W and its update, by path."""
    base, update = paths(tuning.network.params), paths(tuning.delta)
    return {p: (np.asarray(w), np.asarray(update[p])) for p, w in base.items() if p.endswith("kernel")}


def feed_forward_or_transcript(tuning: FineTuning) -> Iterable[FeedForward | Transcript]:
    """The chain, or for other architectures the transcript of equation 6."""
    if isinstance(tuning.network.architecture, MLPConfig):
        yield _pair(tuning)
        return
    network, x = tuning.network, tuning.task.new.test.x
    matrices = weight_matrices(tuning).values()
    activation = ACTIVATIONS[network.architecture.activation]
    yield Transcript(
        weight_norms=[linalg.spectral_norm(w) for w, _ in matrices],
        update_norms=[linalg.spectral_norm(u) for _, u in matrices],
        lipschitz=[max(1.0, activation.lipschitz)] * len(matrices),
        x=x.reshape(len(x), -1),
        deviation=np.linalg.norm(
            network.outputs(tuning.theta, x) - network.outputs(network.params, x), axis=-1
        ),
        bias_free=not any(p.endswith("bias") for p in paths(network.params)),
        keeps_zero=activation.at_zero == 0,
    )


def last_layer(tuning: FineTuning) -> Iterable[FeedForward]:
    """The last layer on its own, fed with the base network's activations."""
    for pair in feed_forward(tuning):
        tail = {
            n: None if getattr(pair, n) is None else getattr(pair, n)[-1:] for n in ("biases", "bias_updates")
        }
        yield FeedForward(
            pair.weights[-1:],
            pair.updates[-1:],
            pair.base[-2],
            pair.activations[-1:],
            kind="last layer",
            **tail,
        )


def first_layer_alone(tuning: FineTuning) -> Iterable[FeedForward]:
    """The network with the trained update of its first layer only."""
    for pair in feed_forward(tuning):
        shifts = None if pair.bias_updates is None else [b * 0 for b in pair.bias_updates]
        alone = strategies.first_layer_only(pair)
        yield replace(alone, bias_updates=shifts, note="the trained update of layer 1, without the others")


def contracted(tuning: FineTuning) -> Iterable[FeedForward]:
    """The trained bias-free network with every layer below the last rescaled to a contraction."""
    for pair in feed_forward(tuning):
        if pair.bias_free:
            yield replace(
                strategies.contracted(pair), note="layers below the last rescaled to L(‖W‖ + ‖Φ‖) ≤ 1"
            )


def one_input(tuning: FineTuning) -> Iterable[FeedForward]:
    """The chain on the first test input."""
    for pair in feed_forward(tuning):
        yield replace(pair.first(), note="one test input, every layer's update replaced by one of rank 1")


def one_input_split(tuning: FineTuning) -> Iterable[FeedForward]:
    """The chain on the first test input, for the split of its deviation into layers."""
    for pair in feed_forward(tuning):
        yield replace(pair.first(), note="one test input, split into one integral per layer")


@dataclass(frozen=True, eq=False, repr=False)
class Matrices(Pasteable):
    """Updates of single weight matrices, for claims that speak of one matrix at a time."""

    updates: list[np.ndarray]
    is_exact: bool = False
    kind: str = "trained updates"
    note: str = ""

    @cached_property
    def update_norms(self) -> list[float]:
        """‖Φ‖₂ of each."""
        return [linalg.spectral_norm(u) for u in self.updates]


def matrices(tuning: FineTuning) -> Iterable[Matrices]:
    """All weight updates that are not zero."""
    updates = [u for _, u in weight_matrices(tuning).values() if np.any(u)]
    if updates:
        yield Matrices(updates)


@dataclass(frozen=True, eq=False, repr=False)
class Factors(Pasteable):
    """LoRA factors of one layer: B of shape (m, r), A of shape (r, n)."""

    B: np.ndarray
    A: np.ndarray
    kind: str = "factors"
    note: str = ""

    def product_norm(self) -> Any:
        """‖BA‖₂."""
        return linalg.spectral_norm(self.B @ self.A)


def lora_factors(tuning: FineTuning) -> Iterable[Factors]:
    """The factor pairs of a LoRA fine-tuning; nothing for other methods."""
    if isinstance(tuning.method, LoRA):
        flat = paths(tuning.phi)
        for path in flat:
            if path.endswith("/A"):
                b = np.asarray(flat[path.removesuffix("A") + "B"])
                yield Factors(b.T, np.asarray(flat[path]).T, "trained factors")


def extents(tuning: FineTuning) -> Iterable[Extents]:
    """The largest deviation over the test inputs: this method against full fine-tuning."""
    k, d = tuning.reparameterization.k, tuning.network.d
    if tuning.full is None or k >= d:
        return
    network, x = tuning.network, tuning.task.new.test.x
    base = network.outputs(network.params, x)
    few, many = (
        np.linalg.norm(network.outputs(t, x) - base, axis=-1).max() for t in (tuning.theta, tuning.full)
    )
    yield Extents(
        k,
        few,
        d,
        many,
        "trained solutions",
        note="the largest deviation over the test inputs, PEFT against FFT",
    )


def coefficients(tuning: FineTuning) -> Iterable[Coefficients]:
    """M, L and N of the trained network."""
    for pair in feed_forward(tuning):
        yield Coefficients(
            float(max(pair.weight_norms)), float(max(pair.lipschitz)), pair.depth, "trained network"
        )


def update_norms(tuning: FineTuning) -> Iterable[UpdateNorms]:
    """Layer-wise ‖Φ_k‖ of this method and of full fine-tuning."""
    if tuning.full is None or tuning.reparameterization.k >= tuning.network.d:
        return
    peft = weight_matrices(tuning)
    full = paths(tuning.full)
    yield UpdateNorms(
        np.array([linalg.spectral_norm(u) for _, u in peft.values()]),
        np.array([linalg.spectral_norm(np.asarray(full[p]) - w) for p, (w, _) in peft.items()]),
        note="layer by layer, PEFT against FFT of the same seed",
    )
