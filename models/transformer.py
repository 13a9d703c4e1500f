"""Transformers on sequences of float tokens: encoders and causal decoders, pre- or post-norm."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from .activations import activation as find_activation
from .network import Batch, Network, Outputs, Wrap, as_batch, from_module, plain
from .tree import check_dtype


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The shape of a transformer.

    Attributes:
        features: numbers per token of the input.
        length: tokens per example.
        width: of the residual stream.
        depth: blocks.
        heads: attention heads; they divide the width.
        hidden: width of the hidden layer in each block's perceptron.
        outputs: numbers per example of the output.
        activation: in each block's perceptron.
        causal: whether a token sees only itself and earlier ones; the output is then read from the last
            token, otherwise from the mean over tokens.
        norm_first: pre-norm (and a last norm before the head), or post-norm.
        norm: "layer" for LayerNorm or "rms" for RMSNorm.
        epsilon: added to the variance (LayerNorm) or the mean square (RMSNorm).
        biases: whether the linear layers have biases; those of LayerNorm stay.

    Raises:
        ValueError: a size below 1, heads that do not divide the width, an epsilon that is not positive, or an
            unknown activation or norm.
    """

    features: int
    length: int
    width: int
    depth: int
    heads: int
    hidden: int
    outputs: int
    activation: str = "gelu"
    causal: bool = False
    norm_first: bool = True
    norm: Literal["layer", "rms"] = "layer"
    epsilon: float = 1e-5
    biases: bool = True

    def __post_init__(self) -> None:
        for field in ("features", "length", "width", "depth", "heads", "hidden", "outputs"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: got {getattr(self, field)}, needs a positive number")
        if self.width % self.heads:
            raise ValueError(
                f"heads: got {self.heads}, needs a divisor of the width {self.width}; change one of the two"
            )
        if self.norm not in ("layer", "rms"):
            raise ValueError(f"norm: got {self.norm!r}, needs 'layer' or 'rms'")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon: got {self.epsilon}, needs a positive number; 1e-5 is usual")
        find_activation(self.activation)


def attention(
    query: Float[Array, "p i width"],
    key: Float[Array, "p j width"],
    value: Float[Array, "p j width"],
    heads: int,
    *,
    causal: bool = False,
) -> Float[Array, "p i width"]:
    r"""Multi-head softmax attention, softmax(q kᵀ / √c) v in each head of width c.

    There may be more keys than queries. The j − i extra ones come first, and every position sees them.

    Written out because `jax.nn.dot_product_attention`, to which `nnx` dispatches, computes the softmax in
    float32 whatever it is given; here every step has the dtype of the inputs.

    Args:
        query: the columns of head h are h·c to (h + 1)·c.
        key: likewise.
        value: likewise.
        heads: their number.
        causal: whether a position sees, besides the extra keys, only itself and earlier positions.
    """
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (query, key, value))
    scores = jnp.einsum("pihc,pjhc->phij", q, k) / math.sqrt(q.shape[-1])
    if causal:
        i, j = scores.shape[-2:]
        visible = jnp.tril(jnp.ones((i, j), dtype=bool), k=j - i)
        scores = jnp.where(visible[None, None], scores, -jnp.inf)
    mixed = jnp.einsum("phij,pjhc->pihc", jax.nn.softmax(scores, axis=-1), v)
    return mixed.reshape(query.shape)


class Attention(nnx.Module):
    """Self-attention with the linear layers ``query``, ``key``, ``value`` and ``out``."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        """Draw the four kernels."""
        self.config = config
        self.query = _linear(config.width, config.width, config, rngs, dtype)
        self.key = _linear(config.width, config.width, config, rngs, dtype)
        self.value = _linear(config.width, config.width, config, rngs, dtype)
        self.out = _linear(config.width, config.width, config, rngs, dtype)

    def __call__(self, x: Float[Array, "p t width"], wrap: Wrap, path: str) -> Float[Array, "p t width"]:
        """Attend; `path` is the path of this module, for the names that `wrap` gets."""
        q = wrap(f"{path}/query", self.query, x)
        k = wrap(f"{path}/key", self.key, x)
        v = wrap(f"{path}/value", self.value, x)
        mixed = attention(q, k, v, self.config.heads, causal=self.config.causal)
        return wrap(f"{path}/out", self.out, mixed)


class FeedForward(nnx.Module):
    """The perceptron of a block: ``up``, the activation, ``down``."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        """Draw the two kernels."""
        self.config = config
        self.up = _linear(config.width, config.hidden, config, rngs, dtype)
        self.down = _linear(config.hidden, config.width, config, rngs, dtype)

    def __call__(self, x: Float[Array, "p t width"], wrap: Wrap, path: str) -> Float[Array, "p t width"]:
        """Apply to each token; `path` is the path of this module, for the names that `wrap` gets."""
        hidden = find_activation(self.config.activation)(wrap(f"{path}/up", self.up, x))
        return wrap(f"{path}/down", self.down, hidden)


class Block(nnx.Module):
    """Attention and perceptron, each with its norm and a residual connection."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, dtype: DTypeLike) -> None:
        """Draw the kernels."""
        self.config = config
        self.norm1 = _norm(config, rngs, dtype)
        self.attention = Attention(config, rngs, dtype)
        self.norm2 = _norm(config, rngs, dtype)
        self.mlp = FeedForward(config, rngs, dtype)

    def __call__(self, h: Float[Array, "p t width"], wrap: Wrap, path: str) -> Float[Array, "p t width"]:
        """Pre-norm h + F(norm h) or post-norm norm(h + F h), for F the attention and then the perceptron."""
        for norm, layer, name in ((self.norm1, self.attention, "attention"), (self.norm2, self.mlp, "mlp")):
            if self.config.norm_first:
                h = h + layer(normalize(norm, h), wrap, f"{path}/{name}")
            else:
                h = normalize(norm, h + layer(h, wrap, f"{path}/{name}"))
        return h


class Transformer(nnx.Module):
    """Token embedding, learned positions, blocks, pooling and a linear head."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32) -> None:
        """Draw all kernels and positions; biases start at zero, scales of norms at one."""
        self.config = config
        self.embed = _linear(config.features, config.width, config, rngs, dtype)
        self.position = nnx.Embed(config.length, config.width, param_dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(Block(config, rngs, dtype) for _ in range(config.depth))
        if config.norm_first:
            self.norm = _norm(config, rngs, dtype)
        self.head = _linear(config.width, config.outputs, config, rngs, dtype)

    def __call__(self, x: Batch, wrap: Wrap = plain) -> Outputs:
        """Outputs of a batch; each linear layer is called through `wrap`.

        Behind the embedding and each block it is called once more, as
        ``wrap("embed/output", identity, h)`` and ``wrap("blocks/<i>/output", identity, h)``. There is no
        layer at these points: they are where the residual stream can be seen and changed.
        """
        x = as_batch(x, (self.config.length, self.config.features))
        h = wrap("embed", self.embed, x) + self.position.embedding[...][None]
        h = wrap("embed/output", _identity, h)
        for index, block in enumerate(self.blocks):
            h = wrap(f"blocks/{index}/output", _identity, block(h, wrap, f"blocks/{index}"))
        if self.config.norm_first:
            h = normalize(self.norm, h)
        pooled = h[:, -1] if self.config.causal else h.mean(axis=1)
        return wrap("head", self.head, pooled)


def transformer(
    config: TransformerConfig,
    key: PRNGKeyArray,
    dtype: DTypeLike = jnp.float32,
    name: str = "transformer",
) -> Network:
    """Build a transformer with random parameters.

    Args:
        config: the configuration.
        key: a JAX random key.
        dtype: of the parameters; all of the computation has it too.
        name: how reports call the network.

    Returns:
        A network on x of shape (p, length, features). Its parameters are ``embed``, ``position/embedding``,
        ``blocks/<i>/{norm1,attention/{query,key,value,out},norm2,mlp/{up,down}}``, ``norm`` (pre-norm only)
        and ``head``; linear layers have a ``kernel`` (in, out) and a ``bias``, norms a ``scale`` and, for
        LayerNorm, a ``bias``. Its hook `Network.wrapped` calls the linear layers by these paths and, behind
        the embedding and each block, the identity by ``embed/output`` and ``blocks/<i>/output``.

    Raises:
        ValueError: float64 while JAX is limited to 32 bits.
    """
    return from_module(Transformer(config, nnx.Rngs(key), check_dtype(dtype)), config, name)


def normalize(norm: nnx.LayerNorm | nnx.RMSNorm, x: Float[Array, "p t width"]) -> Float[Array, "p t width"]:
    """Apply a norm layer of flax to each token."""
    # Flax promotes float64 with float32 by the rules of NumPy (the result is float64), which strict dtype
    # promotion would refuse; the setting is scoped to this one call.
    with jax.numpy_dtype_promotion("standard"):
        return norm(x)


def _identity(h: Float[Array, "p t width"]) -> Float[Array, "p t width"]:
    return h


def _linear(
    fan_in: int, fan_out: int, config: TransformerConfig, rngs: nnx.Rngs, dtype: DTypeLike
) -> nnx.Linear:
    return nnx.Linear(fan_in, fan_out, use_bias=config.biases, param_dtype=dtype, rngs=rngs)


def _norm(config: TransformerConfig, rngs: nnx.Rngs, dtype: DTypeLike) -> nnx.LayerNorm | nnx.RMSNorm:
    # The fast variance E x² − (E x)² cancels, which a bound that divides by it would inherit.
    kind = nnx.LayerNorm if config.norm == "layer" else nnx.RMSNorm
    return kind(config.width, epsilon=config.epsilon, use_fast_variance=False, param_dtype=dtype, rngs=rngs)
