"""IA3: scale activations by learned vectors."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .. import tree
from ..mlp import MLPConfig
from ..network import Batch, Layer, Network, Outputs
from ..transformer import TransformerConfig
from .base import Method, Phi, Reparameterization, intercepted, shapes
from .image import Changes, Image

Patterns = str | tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class IA3(Method):
    r"""Scale what goes into or comes out of linear layers by vectors l that start at one.

    As a map on parameters it is linear in l − 1: scaling the output of a layer multiplies the columns of its
    kernel (in, out) and its bias by l; scaling the input multiplies the rows of the kernel and leaves the
    bias:

    Δkernel = kernel · diag(l − 1), Δbias = (l − 1) · bias, and Δkernel = diag(l − 1) · kernel.

    By default, transformers are scaled at the outputs of keys and values and at the input of each block's
    second linear layer (Liu et al. 2022, arXiv 2205.05638), and perceptrons at the hidden activations, which
    are the inputs of all layers but the first.

    Attributes:
        outputs: pattern (or several) of the layers whose output is scaled: ``blocks/*/attention/key``.
        inputs: pattern of the layers whose input is scaled.
    """

    outputs: Patterns | None = None
    inputs: Patterns | None = None

    def __post_init__(self) -> None:
        for field in ("outputs", "inputs"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, field, tuple(value))

    @property
    def name(self) -> str:
        """``ia3``, followed by the patterns if they are given."""
        given = [
            f"{field}={value if isinstance(value, str) else ','.join(value)}"
            for field, value in (("outputs", self.outputs), ("inputs", self.inputs))
            if value is not None
        ]
        return "ia3" + (f"[{';'.join(given)}]" if given else "")

    def reparameterize(self, network: Network) -> Reparameterization:
        """The map l ↦ scaled kernels and biases minus the base ones; Φ is ``{layer path: l}``, as a tree.

        Raises:
            ValueError: it is not known where to scale, a pattern matches no linear layer, or a layer would
                be scaled on both sides.
        """
        base = shapes(network.params)
        leaves = tree.paths(network.params)
        outputs, inputs = self._layers_of(network)
        template = {}
        for layer in (*outputs, *inputs):
            kernel = leaves[f"{layer}/kernel"]
            template[layer] = jax.ShapeDtypeStruct(
                (kernel.shape[1 if layer in outputs else 0],), kernel.dtype
            )
        biased = tuple(layer for layer in outputs if f"{layer}/bias" in leaves)

        def changes(phi: Phi) -> dict[str, Array]:
            excess = {layer: scale - 1 for layer, scale in tree.paths(phi).items()}
            return (
                {f"{layer}/kernel": leaves[f"{layer}/kernel"] * excess[layer][None, :] for layer in outputs}
                | {f"{layer}/bias": leaves[f"{layer}/bias"] * excess[layer] for layer in biased}
                | {f"{layer}/kernel": leaves[f"{layer}/kernel"] * excess[layer][:, None] for layer in inputs}
            )

        def draw(_: Array) -> Phi:
            return tree.from_paths(
                {layer: jnp.ones(leaf.shape, leaf.dtype) for layer, leaf in template.items()}
            )

        changed = {f"{layer}/kernel" for layer in template} | {f"{layer}/bias" for layer in biased}
        touched = tuple(path for path in leaves if path in changed)
        return Reparameterization(self, tree.from_paths(template), base, touched, changes, draw)

    def ordinary(self, network: Network, phi: Phi) -> Callable[[Batch], Outputs]:
        """The network with its activations scaled.

        Raises:
            ValueError: the network has no `Network.wrapped`, or Φ has the wrong structure.
        """
        tree.check_like(phi, self.reparameterize(network).template, "phi")
        outputs, inputs = self._layers_of(network)
        scales = tree.paths(phi)

        def wrap(name: str, layer: Layer, x: Array) -> Array:
            scale = scales[name].reshape((1,) * (x.ndim - 1) + (-1,)) if name in scales else None
            if name in outputs:
                return scale * layer(x)
            return layer(scale * x) if name in inputs else layer(x)

        return intercepted(self, network, wrap, scales)

    def image(self, network: Network) -> Image:
        r"""One line for each scaled unit: the multiples of what the unit's scale multiplies.

        With w the row or column of the kernel of that unit, joined by its bias if outputs are scaled, the
        updates are (l − 1) w: nearest to Δ is ⟨Δ, w⟩ / ‖w‖² · w. These lines have no entry in common, so
        their dimensions add up; a unit with w = 0 is not moved by its scale and has none.
        """
        leaves = {path: np.asarray(leaf, np.float64) for path, leaf in tree.paths(network.params).items()}
        outputs, inputs = self._layers_of(network)
        # The axis of the kernel over which a unit's numbers run, and the leaves that hold them.
        groups = [
            (0, [path for path in (f"{layer}/kernel", f"{layer}/bias") if path in leaves])
            for layer in outputs
        ] + [(1, [f"{layer}/kernel"]) for layer in inputs]
        squares = [_over(axis, [leaves[path] ** 2 for path in paths]) for axis, paths in groups]
        # Counted by entries: the square of a tiny weight may be 0 in floating point, and the weight is not.
        moving = [_over(axis, [(leaves[path] != 0).astype(int) for path in paths]) for axis, paths in groups]
        dimension = sum(int(np.count_nonzero(count)) for count in moving)

        def project(target: Mapping[str, np.ndarray]) -> Changes:
            near = {}
            for (axis, paths), square in zip(groups, squares, strict=True):
                inner = _over(axis, [np.asarray(target[path]) * leaves[path] for path in paths])
                scale = np.divide(inner, square, out=np.zeros_like(inner), where=square > 0)
                for path in paths:
                    aligned = scale if leaves[path].ndim == 1 else np.expand_dims(scale, axis)
                    near[path] = aligned * leaves[path]
            return near

        return Image(dimension, dimension, True, "scaled units whose weights are not all zero", project)

    def _layers_of(self, network: Network) -> tuple[tuple[str, ...], tuple[str, ...]]:
        wanted_outputs, wanted_inputs = self.outputs, self.inputs
        if wanted_outputs is None and wanted_inputs is None:
            wanted_outputs, wanted_inputs = _usual(network)
        layers = [
            path.removesuffix("/kernel")
            for path, leaf in tree.paths(network.params).items()
            if path.endswith("/kernel") and leaf.ndim == 2
        ]
        outputs = () if wanted_outputs is None else tree.match_names(layers, wanted_outputs, "linear layer")
        inputs = () if wanted_inputs is None else tree.match_names(layers, wanted_inputs, "linear layer")
        both = sorted(set(outputs) & set(inputs))
        if both:
            raise ValueError(f"inputs: {both} are among the outputs too; scale each layer on one side only")
        return outputs, inputs


def _over(axis: int, parts: list[np.ndarray]) -> np.ndarray:
    """Sums over what belongs to each unit; the entries of a bias belong to one unit each."""
    return sum(part if part.ndim == 1 else part.sum(axis=axis) for part in parts)


def _usual(network: Network) -> tuple[Patterns | None, Patterns | None]:
    match network.architecture:
        case MLPConfig(widths=widths):
            if len(widths) == 2:
                raise ValueError(
                    f"network: {network.name!r} has one layer and so no hidden activations for IA3 to scale; "
                    "scale its outputs with IA3(outputs='layers/0')"
                )
            return None, tuple(f"layers/{index}" for index in range(1, len(widths) - 1))
        case TransformerConfig():
            return ("blocks/*/attention/key", "blocks/*/attention/value"), "blocks/*/mlp/down"
        case _:
            raise ValueError(
                f"network: where IA3 scales {network.name!r} is not known; give IA3 the patterns outputs "
                "or inputs"
            )
