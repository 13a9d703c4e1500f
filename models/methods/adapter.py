"""Adapters: small perceptrons beside or behind the layers of a network."""

import abc
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .. import tree
from ..activations import activation as find_activation
from ..mlp import MLPConfig
from ..network import Batch, Layer, Network, Outputs
from ..transformer import TransformerConfig
from ..tree import Params
from .base import Phi, intercepted
from .extension import Extension, bottom, needs_hook
from .ia3 import Patterns


class Span(NamedTuple):
    """What an adapter bridges: from the input of the linear layer `first` to the output of `last`."""

    first: str
    last: str


@dataclasses.dataclass(frozen=True)
class Adapter(Extension):
    r"""A bottleneck a(h) = up(σ(down(h))) of some width, which starts as the zero function.

    On transformers the places are those of the literature; on perceptrons all linear layers but the last, *in
    front of* their activation; a user's own network needs the pattern `layers`.

    Attributes:
        width: of the bottleneck.
        activation: σ, one of `ACTIVATIONS`. With ``identity`` what is added is affine, and the adapted
            network could be written with a map g; with any other one it cannot.
        biases: whether ``down`` and ``up`` have biases.
        layers: pattern (or several) of single linear layers to adapt, in place of the usual ones.

    Raises:
        ValueError: a width below 1 or an unknown activation.
    """

    width: int = 4
    activation: str = "relu"
    biases: bool = True
    layers: Patterns | None = None

    def __post_init__(self) -> None:
        if isinstance(self.width, bool) or int(self.width) != self.width or self.width < 1:
            raise ValueError(f"width: got {self.width}, needs a positive number; 4 is a small adapter")
        find_activation(self.activation)
        if self.layers is not None and not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(self.layers))

    @property
    def name(self) -> str:
        """The kind and the width, followed by the settings that are not the default ones."""
        others = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "width" and value != field.default:
                text = ",".join(value) if isinstance(value, tuple) else value
                others.append(f"{field.name}={text}")
        return f"{self.key.replace('_', '-')}-{self.width}" + (f"[{';'.join(others)}]" if others else "")

    @abc.abstractmethod
    def usual(self, config: TransformerConfig) -> dict[str, Span]:
        """Where a transformer is adapted by default, by the path under which Φ has it."""

    @abc.abstractmethod
    def ends(self, first: tuple[int, int], last: tuple[int, int]) -> tuple[int, int]:
        """Inputs and outputs of an adapter, from the shapes (in, out) of the layers of its span."""

    def spans(self, network: Network) -> dict[str, Span]:
        """Where this network is adapted, by the path under which Φ has it.

        Raises:
            ValueError: it is not known where to adapt, or a pattern matches no linear layer.
        """
        base = bottom(network)
        if self.layers is not None:
            chosen = tree.match_names(_kernels(base), self.layers, "linear layer")
            return {layer: Span(layer, layer) for layer in chosen}
        match base.architecture:
            case TransformerConfig() as config:
                return self.usual(config)
            case MLPConfig(layers=1):
                raise ValueError(
                    f"network: {network.name!r} has one layer and so no hidden one for {self.name} to adapt; "
                    "adapt its outputs with layers='layers/0'"
                )
            case MLPConfig(layers=count):
                names = [f"layers/{index}" for index in range(count - 1)]
                return {name: Span(name, name) for name in names}
            case _:
                raise ValueError(
                    f"network: where {self.name} adapts {network.name!r} is not known; give it the pattern "
                    f"layers, for some of {', '.join(_kernels(base)) or '(no linear layer)'}"
                )

    def additions(self, network: Network) -> Params:
        """For each place ``down`` (m, width) and ``up`` (width, n), with ``down_bias`` and ``up_bias``.

        Raises:
            ValueError: see `spans`; the network has no `Network.wrapped`.
        """
        spans = self.spans(network)
        needs_hook(self, network)
        kernels, dtype, flat = _kernels(bottom(network)), network.dtype, {}
        for place, (first, last) in spans.items():
            fan_in, fan_out = self.ends(kernels[first], kernels[last])
            flat[f"{place}/down"] = jax.ShapeDtypeStruct((fan_in, self.width), dtype)
            flat[f"{place}/up"] = jax.ShapeDtypeStruct((self.width, fan_out), dtype)
            if self.biases:
                flat[f"{place}/down_bias"] = jax.ShapeDtypeStruct((self.width,), dtype)
                flat[f"{place}/up_bias"] = jax.ShapeDtypeStruct((fan_out,), dtype)
        return tree.from_paths(flat)

    def draw(self, network: Network, key: PRNGKeyArray) -> Phi:
        """``down`` ~ N(0, 1 / m) and zeros elsewhere, so that the function does not change."""
        flat = tree.paths(self.additions(network))
        drawn = {path: jnp.zeros(leaf.shape, leaf.dtype) for path, leaf in flat.items()}
        downs = [path for path in flat if path.endswith("/down")]
        for path, one in zip(downs, jax.random.split(key, len(downs)), strict=True):
            leaf = flat[path]
            drawn[path] = jax.random.normal(one, leaf.shape, leaf.dtype) / math.sqrt(leaf.shape[0])
        return tree.from_paths(drawn)

    def branch(self, flat: Params, place: str, h: Float[Array, "... m"]) -> Float[Array, "... n"]:
        """The adapter's own a(h), with its parameters by path."""
        hidden = find_activation(self.activation)(_affine(flat, f"{place}/down", h))
        return _affine(flat, f"{place}/up", hidden)


@dataclasses.dataclass(frozen=True)
class SerialAdapter(Adapter):
    r"""Adapters that follow a layer: y + up(σ(down(y))) in place of its output y.

    In each block of a transformer after the projection of the attention's output and after the second layer
    of the perceptron, in front of the residual sum (Houlsby et al. 2019, arXiv 1902.00751; they train the
    norms and the head too).
    """

    key = "serial_adapter"

    def usual(self, config: TransformerConfig) -> dict[str, Span]:
        """After the attention and after the perceptron of each block."""
        names = [f"blocks/{i}/{part}" for i in range(config.depth) for part in ("attention/out", "mlp/down")]
        return {name: Span(name, name) for name in names}

    def ends(self, first: tuple[int, int], last: tuple[int, int]) -> tuple[int, int]:
        """From outputs to outputs."""
        return last[1], last[1]

    def run(self, network: Network, phi: Phi, x: Batch) -> Outputs:
        """The network with its adapters."""
        spans, flat = self.spans(network), tree.paths(phi)

        def wrap(name: str, layer: Layer, h: Array) -> Array:
            y = layer(h)
            return y + self.branch(flat, name, y) if name in spans else y

        return intercepted(self, network, wrap, spans)(x)


@dataclasses.dataclass(frozen=True)
class ParallelAdapter(Adapter):
    r"""Adapters beside layers: F(h) + s · up(σ(down(h))) in place of F(h).

    In each block of a transformer F is the whole perceptron, from the input of its first layer to the output
    of its second one (He et al. 2021, arXiv 2110.04366, the scaled parallel adapter); elsewhere F is a single
    linear layer.

    Attributes:
        scale: s, a fixed number.

    Raises:
        ValueError: a width below 1, an unknown activation, or a scale that is zero or not finite.
    """

    scale: float = 1.0
    key = "parallel_adapter"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale == 0 or not math.isfinite(self.scale):
            raise ValueError(f"scale: got {self.scale}, needs a finite number other than 0")

    def usual(self, config: TransformerConfig) -> dict[str, Span]:
        """Beside the perceptron of each block."""
        names = [f"blocks/{index}/mlp" for index in range(config.depth)]
        return {name: Span(f"{name}/up", f"{name}/down") for name in names}

    def ends(self, first: tuple[int, int], last: tuple[int, int]) -> tuple[int, int]:
        """From the inputs of the first layer to the outputs of the last."""
        return first[0], last[1]

    def run(self, network: Network, phi: Phi, x: Batch) -> Outputs:
        """The network with its adapters."""
        flat, spans = tree.paths(phi), self.spans(network)
        starts = {span.first: place for place, span in spans.items()}
        stops = {span.last: place for place, span in spans.items()}
        entered = {}

        def wrap(name: str, layer: Layer, h: Array) -> Array:
            if name in starts:
                entered[starts[name]] = h
            y = layer(h)
            if name not in stops:
                return y
            return y + self.scale * self.branch(flat, stops[name], entered[stops[name]])

        return intercepted(self, network, wrap, (*starts, *stops))(x)


def _affine(flat: Params, path: str, h: Float[Array, "... i"]) -> Float[Array, "... o"]:
    y = h @ flat[path]
    bias = flat.get(f"{path}_bias")
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def _kernels(network: Network) -> dict[str, tuple[int, int]]:
    """Shapes (in, out) of the linear layers, by name."""
    return {
        path.removesuffix("/kernel"): leaf.shape
        for path, leaf in tree.paths(network.params).items()
        if leaf.ndim == 2 and not path.endswith("/embedding")
    }
