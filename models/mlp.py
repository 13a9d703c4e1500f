"""Multi-layer perceptrons: x ↦ σ_N(W_N ... σ_1(W_1 x + b_1) ... + b_N)."""

import dataclasses
import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import PRNGKeyArray
from numpy.typing import ArrayLike

from .activations import activation as find_activation
from .network import Batch, Network, Outputs, PureModule, Wrap, as_batch, from_module, plain
from .tree import check_dtype


@dataclasses.dataclass(frozen=True)
class MLPConfig:
    """The shape of a multi-layer perceptron.

    Attributes:
        widths: inputs, hidden layers, outputs; N + 1 numbers for N layers.
        activation: after every layer but the last.
        output_activation: after the last layer.
        biases: whether the linear layers have biases.

    Raises:
        ValueError: fewer than two widths, a width below 1, or an unknown activation.
    """

    widths: tuple[int, ...]
    activation: str = "tanh"
    output_activation: str = "identity"
    biases: bool = True

    def __post_init__(self) -> None:
        widths = tuple(int(width) for width in self.widths)
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(
                f"widths: got {widths}, needs at least two positive numbers, such as (64, 32, 10)"
            )
        object.__setattr__(self, "widths", widths)
        find_activation(self.activation)
        find_activation(self.output_activation)

    @property
    def layers(self) -> int:
        """The number N of linear layers."""
        return len(self.widths) - 1

    def activation_of(self, index: int) -> str:
        """The name of the activation after layer `index`, counted from 0."""
        return self.activation if index < self.layers - 1 else self.output_activation


class MLP(nnx.Module):
    """A multi-layer perceptron built from `nnx.Linear` layers called ``layers/0``, ``layers/1``, ..."""

    def __init__(self, config: MLPConfig, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32) -> None:
        """Draw kernels from LeCun's normal distribution; biases start at zero."""
        self.config = config
        self.layers = nnx.List(
            nnx.Linear(fan_in, fan_out, use_bias=config.biases, param_dtype=dtype, rngs=rngs)
            for fan_in, fan_out in zip(config.widths[:-1], config.widths[1:], strict=True)
        )

    def __call__(self, x: Batch, wrap: Wrap = plain) -> Outputs:
        """Outputs of a batch; each linear layer is called through `wrap`."""
        x = as_batch(x, self.config.widths[:1])
        for index, layer in enumerate(self.layers):
            x = find_activation(self.config.activation_of(index))(wrap(f"layers/{index}", layer, x))
        return x


def mlp(
    config: MLPConfig | Sequence[int],
    key: PRNGKeyArray,
    dtype: DTypeLike = jnp.float32,
    name: str = "mlp",
) -> Network:
    """Build a multi-layer perceptron with random parameters.

    Args:
        config: the configuration, or only the widths (then tanh and biases).
        key: a JAX random key.
        dtype: of the parameters.
        name: how reports call the network.

    Returns:
        A network on x of shape (p, widths[0]); its parameters are
        ``{"layers": {"0": {"kernel": (in, out), "bias": (out,)}, ...}}``.

    Raises:
        ValueError: see `MLPConfig`; float64 while JAX is limited to 32 bits.

    Examples:
        >>> import jax
        >>> mlp((4, 8, 2), jax.random.key(0)).d
        58
    """
    config = config if isinstance(config, MLPConfig) else MLPConfig(tuple(config))
    return from_module(MLP(config, nnx.Rngs(key), check_dtype(dtype)), config, name)


def mlp_from_arrays(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike] | None = None,
    activation: str = "tanh",
    output_activation: str = "identity",
    *,
    dtype: DTypeLike = jnp.float64,
    name: str = "mlp",
) -> Network:
    """Build a multi-layer perceptron from matrices as mathematics writes them: y = W x + b.

    Args:
        weights: W_1, ..., W_N, each (out, in).
        biases: b_1, ..., b_N, each (out,), or None for a network without.
        activation: after every layer but the last.
        output_activation: after the last layer.
        dtype: of the parameters; numbers of any kind are converted.
        name: how reports call the network.

    Raises:
        ValueError: shapes that do not chain, other counts of biases than of weights, or see `mlp`.

    Examples:
        >>> mlp_from_arrays([[[1, 2], [3, 4]], [[1, -1]]], activation="relu", dtype="float32").d
        6
    """
    dtype = check_dtype(dtype)
    matrices = [np.asarray(W, dtype=dtype) for W in weights]
    vectors = None if biases is None else [np.asarray(b, dtype=dtype) for b in biases]
    _check_chain(matrices, vectors)
    widths = (matrices[0].shape[1], *(W.shape[0] for W in matrices))
    config = MLPConfig(widths, activation, output_activation, biases=vectors is not None)
    layers = {str(i): {"kernel": jnp.asarray(W.T)} for i, W in enumerate(matrices)}
    for i, b in enumerate(vectors or ()):
        layers[str(i)]["bias"] = jnp.asarray(b)
    pure = _pure(config, dtype)
    return Network(pure, {"layers": layers}, config, name, pure)


@functools.lru_cache(maxsize=512)
def _pure(config: MLPConfig, dtype: jnp.dtype) -> PureModule:
    return PureModule.of(nnx.eval_shape(lambda: MLP(config, nnx.Rngs(0), dtype)))


def _check_chain(weights: list[np.ndarray], biases: list[np.ndarray] | None) -> None:
    if not weights:
        raise ValueError("weights: got none, needs at least one matrix")
    for k, W in enumerate(weights, start=1):
        if W.ndim != 2:
            raise ValueError(f"weights: W_{k} has shape {W.shape}, needs two axes (out, in)")
        if k > 1 and W.shape[1] != weights[k - 2].shape[0]:
            raise ValueError(
                f"weights: W_{k} takes {W.shape[1]} inputs but W_{k - 1} gives {weights[k - 2].shape[0]}; "
                "each must be (out, in), so transpose kernels of shape (in, out)"
            )
    if biases is None:
        return
    if len(biases) != len(weights):
        raise ValueError(f"biases: got {len(biases)}, needs {len(weights)}, one for each weight, or None")
    for k, (W, b) in enumerate(zip(weights, biases, strict=True), start=1):
        if b.shape != W.shape[:1]:
            raise ValueError(f"biases: b_{k} has shape {b.shape}, needs {W.shape[:1]}, the outputs of W_{k}")
