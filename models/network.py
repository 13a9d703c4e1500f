"""A network seen as a pure function f(x; θ): what every other module works with.

The interception point `wrap` is the one place where methods reach inside. A network that supports it calls
``wrap(name, layer, x)`` wherever it would call a linear ``layer(x)``; a side branch, a scaling of activations
and a recording of inputs are then each a small function, and no method needs a network class of its own.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from . import tree
from .tree import Params

if TYPE_CHECKING:
    from .mlp import MLPConfig
    from .transformer import TransformerConfig

Batch = Float[Array | np.ndarray, "p ..."]
"""Inputs of a network: p examples along the first axis."""
Outputs = Float[Array, "p outputs"]
Layer = Callable[[Float[Array, "... i"]], Float[Array, "... o"]]
Wrap = Callable[[str, Layer, Float[Array, "... i"]], Float[Array, "... o"]]
"""Called as ``wrap(name, layer, x)`` at each linear layer, and at the points that a network documents, where
`layer` is the identity; returns what takes the place of ``layer(x)``."""


def plain(name: str, layer: Layer, x: Float[Array | np.ndarray, "... i"]) -> Float[Array, "... o"]:
    """The wrap that leaves the network as it is: ``layer(x)``."""
    return layer(x)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A pure function f(x; θ) together with its parameters θ₀.

    Attributes:
        apply: maps (params, x) to outputs; x has a leading batch axis: (p, ...) → (p, outputs).
        params: θ₀, a nested dictionary with string keys and floating arrays of one dtype.
        architecture: the configuration it was built from, or None for a user's own network.
        name: how reports call it.
        wrapped: maps (params, x, wrap) to outputs, calling ``wrap(name, layer, x)`` at each linear layer,
            where ``name`` is the path of the layer. None if the network has no such hook.

    Raises:
        ValueError: parameters that are empty, not floating, not finite, of mixed dtypes, with keys that are
            not strings, or float64 while JAX is limited to 32 bits.

    Examples:
        >>> import jax.numpy as jnp
        >>> line = Network(lambda params, x: x @ params["slope"], {"slope": jnp.ones((2, 1), jnp.float32)})
        >>> line.d
        2
    """

    apply: Callable[[Params, Batch], Outputs]
    params: Params
    architecture: "MLPConfig | TransformerConfig | None" = None
    name: str = "network"
    wrapped: Callable[[Params, Batch, Wrap], Outputs] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", _checked(self.params))

    def __call__(self, x: Batch) -> Outputs:
        """f(x; θ₀)."""
        return self.apply(self.params, x)

    def outputs(self, params: Params, x: Batch) -> np.ndarray:
        """f(x; θ) from one compiled program, where `apply` compiles operation by operation."""
        return np.asarray(_outputs(self.apply, params, x))

    @property
    def d(self) -> int:
        """The number of parameters."""
        return tree.size(self.params)

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of all parameters."""
        return jax.tree.leaves(self.params)[0].dtype

    def with_params(self, params: Params) -> "Network":
        """The same function with other parameters.

        Raises:
            ValueError: paths or shapes differ from those of θ₀, or a check of `Network` fails.
        """
        tree.check_like(params, self.params, "params")
        return dataclasses.replace(self, params=params)

    def astype(self, dtype: DTypeLike) -> "Network":
        """The same network with its parameters in another floating dtype.

        Raises:
            ValueError: not a floating dtype, or float64 while JAX is limited to 32 bits.
        """
        dtype = tree.check_dtype(dtype)
        return dataclasses.replace(self, params=jax.tree.map(lambda leaf: leaf.astype(dtype), self.params))

    def __repr__(self) -> str:
        leaves = tree.paths(self.params)
        width = max(map(len, leaves))
        lines = [f"  {path:<{width}}  {tree.short(leaf)}" for path, leaf in leaves.items()]
        return "\n".join([f"Network({self.name!r}, d={self.d})", *lines])


@functools.partial(jax.jit, static_argnums=0)
def _outputs(apply: Callable[[Params, Batch], Outputs], params: Params, x: Batch) -> Outputs:
    return apply(params, x)


@dataclasses.dataclass(frozen=True)
class PureModule:
    """The static part of an nnx module as a function of (params, x).

    Two modules of the same configuration give equal, equally hashed functions, so a program compiled with one
    as a static argument serves the other.

    Attributes:
        graphdef: the structure of the module, from `nnx.split`.
        keys: the keys of its state, one tuple per leaf; list positions are integers in nnx.
    """

    graphdef: nnx.GraphDef
    keys: tuple[tuple[str | int, ...], ...]

    @classmethod
    def of(cls, module: nnx.Module) -> "PureModule":
        """Take the structure of a module and leave its arrays."""
        graphdef, state = nnx.split(module)
        return cls(graphdef, tuple(key for key, _ in nnx.to_flat_state(state)))

    def __call__(self, params: Params, x: Batch, *wrap: Wrap) -> Outputs:
        """Rebuild the module around `params` and call it on x (and on `wrap`, where one is given)."""
        flat = tree.paths(params)
        named = {_path(key): key for key in self.keys}
        if flat.keys() != named.keys():
            raise ValueError(f"params: got the leaves {', '.join(flat)}, needs {', '.join(named)}")
        state = nnx.from_flat_state([(named[path], leaf) for path, leaf in flat.items()])
        return nnx.merge(self.graphdef, state)(x, *wrap)


def from_module(
    module: nnx.Module,
    architecture: "MLPConfig | TransformerConfig | None" = None,
    name: str = "network",
    *,
    wraps: bool | None = None,
) -> Network:
    """See an nnx module as a pure function of its state.

    Args:
        module: called as ``module(x)``, and as ``module(x, wrap)`` if it wraps its linear layers. All of its
            state must be trainable arrays: no dropout keys, no running statistics.
        architecture: the configuration that the module was built from, if it is one of ours.
        name: how reports call the network.
        wraps: whether the module takes a `Wrap`; by default, whether it is one of ours.

    Raises:
        ValueError: the state is empty or holds something else than finite floating arrays of one dtype.
    """
    pure = PureModule.of(module)
    flat = nnx.to_flat_state(nnx.state(module))
    params = tree.from_paths({_path(key): leaf[...] for key, leaf in flat})
    wraps = architecture is not None if wraps is None else wraps
    return Network(pure, params, architecture, name, pure if wraps else None)


def from_pytree(apply: Callable[[Any, Batch], Outputs], params: Any, name: str = "network") -> Network:
    """See a function of any pytree of arrays as a network: linen variables, equinox arrays, nested lists.

    Args:
        apply: maps (pytree, x) to outputs, batched: x (p, ...) → (p, outputs).
        params: the pytree; all leaves are floating arrays (for equinox, the array half of ``eqx.partition``).
        name: how reports call the network.

    Returns:
        A network whose parameters are a nested dictionary; its paths are the key paths of the pytree.

    Raises:
        ValueError: two leaves share a key path, or a check of `Network` fails.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    names = tuple(jax.tree_util.keystr(key, simple=True, separator="/") for key, _ in leaves)
    if len(set(names)) != len(names):
        raise ValueError(
            f"params: key paths are not unique ({', '.join(names)}); rename the keys that collide"
        )

    def apply_nested(nested: Params, x: Batch) -> Outputs:
        flat = tree.paths(nested)
        return apply(jax.tree.unflatten(structure, [flat[each] for each in names]), x)

    return Network(
        apply_nested, tree.from_paths(dict(zip(names, (leaf for _, leaf in leaves), strict=True))), name=name
    )


def as_batch(x: Batch, shape: tuple[int, ...]) -> Float[Array, "p ..."]:
    """Inputs as a JAX array of shape (p, *shape).

    Raises:
        ValueError: x has another shape; known while tracing too.
    """
    got = jnp.shape(x)
    if got[1:] != shape or len(got) != len(shape) + 1:
        advice = (
            "add the batch axis with x[None]" if got == shape else "reshape it or build the network for it"
        )
        raise ValueError(f"x: got shape {got}, needs (p, {', '.join(map(str, shape))}); {advice}")
    return jnp.asarray(x)


def _path(key: tuple[str | int, ...]) -> str:
    return "/".join(map(str, key))


def _finite(leaf: Array | np.ndarray) -> bool:
    # NumPy compiles nothing; only arrays spread over several hosts have to stay where they are.
    spread = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    return bool(jnp.isfinite(leaf).all() if spread else np.isfinite(np.asarray(leaf)).all())


def _checked(params: Params) -> Params:
    if not isinstance(params, dict):
        raise ValueError(
            f"params: got {type(params).__name__}, needs a nested dictionary; from_pytree takes other pytrees"
        )
    flat = tree.paths(params)
    if not flat:
        raise ValueError("params: got no leaf, needs at least one array")
    for path, leaf in flat.items():
        tree.check_dtype(leaf.dtype, f"params, {path!r}")
        # Values are unknown while tracing; shapes and dtypes are still checked there.
        if not isinstance(leaf, jax.core.Tracer) and not _finite(leaf):
            raise ValueError(
                f"params: {path!r} has NaN or infinite entries, needs finite ones; train it again"
            )
    dtypes = {path: jnp.dtype(leaf.dtype).name for path, leaf in flat.items()}
    if len(set(dtypes.values())) > 1:
        raise ValueError(f"params: got mixed dtypes {dtypes}, needs one; cast with jax.tree.map")
    return tree.from_paths({path: jnp.asarray(leaf) for path, leaf in flat.items()})
