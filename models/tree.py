"""Nested dictionaries of arrays, addressed by paths such as ``layers/0/kernel``.

Parameters are plain dictionaries with string keys. A path joins the keys from the root to a leaf with
slashes; it is what patterns match, what error messages name and what a cache stores. Paths come in the order
in which `jax.flatten_util.ravel_pytree` lays out the leaves, so that both views of θ agree.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

Leaf = Array | np.ndarray | jax.ShapeDtypeStruct
Params = dict[str, Any]
"""Nested dictionary with string keys and array leaves: θ, or an update of it."""


def paths(params: Mapping) -> dict[str, Leaf]:
    """Leaves by path: ``{"a": {"b": x}}`` becomes ``{"a/b": x}``.

    Args:
        params: nested dictionary of arrays.

    Returns:
        A flat dictionary, in the order of `jax.flatten_util.ravel_pytree`.

    Raises:
        ValueError: a key is not a non-empty string free of slashes, or a node is neither a dictionary nor
            an array.
    """
    return dict(_walk(params, ""))


def from_paths(flat: Mapping[str, Any]) -> Params:
    """The inverse of `paths`: ``{"a/b": x}`` becomes ``{"a": {"b": x}}``.

    Raises:
        ValueError: one path continues another, so that the same node would be a leaf and a dictionary.
    """
    nested: Params = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = nested
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"flat: {path!r} continues the path of another leaf; rename one of them")
        if last in node:
            raise ValueError(f"flat: other paths continue {path!r}; rename one of them")
        node[last] = leaf
    return nested


def match(params: Mapping[str, Any], pattern: str | Sequence[str]) -> tuple[str, ...]:
    """Paths of the leaves that a shell pattern (or one of several) selects, e.g. ``blocks/*/kernel``.

    ``*`` also matches slashes. Capital letters count.

    Args:
        params: nested dictionary of arrays.
        pattern: one pattern, or several of which each must match something.

    Returns:
        The matching paths, in the order of `paths`.

    Raises:
        ValueError: a pattern matches no path; the message lists the paths there are.
    """
    return match_names(paths(params), pattern, "parameter")


def match_names(names: Iterable[str], pattern: str | Sequence[str], what: str) -> tuple[str, ...]:
    """The names that a pattern selects; `what` says in the error message what is being named."""
    names = tuple(names)
    patterns = (pattern,) if isinstance(pattern, str) else tuple(pattern)
    if not patterns:
        raise ValueError(f"pattern: got none, needs at least one {what} pattern such as '*'")
    for one in patterns:
        if not any(fnmatchcase(name, one) for name in names):
            raise ValueError(
                f"pattern: {one!r} matches no {what}; use a pattern that matches one of {', '.join(names)}"
            )
    return tuple(name for name in names if any(fnmatchcase(name, one) for one in patterns))


def size(params: Mapping[str, Any]) -> int:
    """Number of scalars in all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def zeros_like(params: Params) -> Params:
    """Zeros of the same structure, shapes and dtypes."""
    return jax.tree.map(jnp.zeros_like, params)


def add(a: Params, b: Params) -> Params:
    """The sum a + b, leaf by leaf.

    Raises:
        ValueError: b has other paths or shapes than a.
    """
    check_like(b, a, "b")
    return jax.tree.map(jnp.add, a, b)


def check_like(params: Any, template: Params, argument: str) -> None:
    """Require the same paths and shapes as `template`; shapes only, so it also works while tracing.

    Args:
        params: what to check.
        template: a nested dictionary with the wanted structure (arrays or `jax.ShapeDtypeStruct`).
        argument: the name under which the caller got `params`, for the message.

    Raises:
        ValueError: a path is missing or unknown, or a shape differs; the message names it.
    """
    if not isinstance(params, Mapping):
        raise ValueError(f"{argument}: got {type(params).__name__}, needs a nested dictionary of arrays")
    got, wanted = paths(params), paths(template)
    missing = [path for path in wanted if path not in got]
    unknown = [path for path in got if path not in wanted]
    if missing or unknown:
        raise ValueError(
            f"{argument}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}; "
            f"needs exactly the leaves {', '.join(wanted)}"
        )
    for path, leaf in wanted.items():
        if jnp.shape(got[path]) != leaf.shape:
            raise ValueError(
                f"{argument}: {path!r} has shape {jnp.shape(got[path])}, needs {leaf.shape}; "
                "pass values made for this network"
            )


def check_dtype(dtype: DTypeLike, argument: str = "dtype") -> jnp.dtype:
    """Require a floating dtype that JAX can hold as it is configured.

    Raises:
        ValueError: not a floating dtype, or float64 while ``jax_enable_x64`` is off.
    """
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{argument}: got {dtype.name}, needs a floating dtype such as float32 or float64")
    if dtype == jnp.dtype("float64") and not jax.config.jax_enable_x64:
        raise ValueError(
            f"{argument}: got float64 while JAX is limited to 32 bits; at the start of the program run "
            "jax.config.update('jax_enable_x64', True) or set the environment variable JAX_ENABLE_X64=1"
        )
    return dtype


def short(leaf: Leaf) -> str:
    """Dtype and shape as in ``f64[32,64]``."""
    name = jnp.dtype(leaf.dtype).name
    for long, letter in (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "i"), ("complex", "c")):
        if name.startswith(long):
            name = letter + name.removeprefix(long)
            break
    return f"{name}[{','.join(map(str, leaf.shape))}]"


def _walk(node: Mapping, prefix: str) -> Iterable[tuple[str, Leaf]]:
    for key in node:
        if not isinstance(key, str) or not key or "/" in key:
            raise ValueError(
                f"params: got the key {key!r} under {prefix or 'the root'!r}, needs non-empty strings "
                "without '/'; rename it (str(key) for integers)"
            )
    for key in sorted(node):
        child, path = node[key], prefix + key
        if isinstance(child, Mapping):
            yield from _walk(child, f"{path}/")
        elif hasattr(child, "shape") and hasattr(child, "dtype"):
            yield path, child
        else:
            raise ValueError(
                f"params: {path!r} is of type {type(child).__name__}, needs an array or a dictionary; "
                "convert numbers and lists with jnp.asarray"
            )
