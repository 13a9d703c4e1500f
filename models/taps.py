r"""Networks whose parameters enter by matrix products: their second derivatives, in far less than d products.

A parameter of a linear layer, $z = a K + b$, moves one unit of z, and $K_{aj}$ moves $z_{nj}$ of example n by
the feature $a_{na}$ that the layer was given. So with $\delta_{mj'}$ for the derivative along "unit j' of
layer m moves by 1 in every example", and with $\bar z = \partial L / \partial z$,

$$\frac{\partial^2 L}{\partial K^{(l)}_{aj}\, \partial K^{(m)}_{a'j'}} = \sum_n \Big(
a^{(l)}_{na}\, \delta_{mj'} \bar z^{(l)}_{nj} + \delta_{mj'} a^{(l)}_{na}\, \bar z^{(l)}_{nj}
\Big)\, a^{(m)}_{na'}, \qquad l \ge m.$$

This takes a derivative per *unit*, and matrix products, where columns take a derivative per *parameter*. It
holds if examples do not influence each other and each parameter is used once, in a layer that sees one vector
per example. The second is read off the function itself, so networks of any library will do; whether a result
is right is seen by comparing a product with a random vector. For other functions there is no such path.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PyTree


class Forward(Protocol):
    """Hashable, and equal where it computes the same: bound methods of equal objects are not."""

    def forward(self, leaves: list[Array], rest: PyTree, x: Array) -> Float[Array, "c outputs"]:
        """Map leaves, whatever else is needed, and examples to outputs."""


OfOutputs = Callable[[Float[Array, "c outputs"], Int[Array, " c"], Float[Array, " c"]], Float[Array, ""]]
"""Maps outputs, labels and weights to the loss, a sum over examples; hashable."""


class UntappedError(Exception):
    """A parameter is used in another way than in a linear layer."""


@dataclass
class Layer:
    """A place where parameters are added to an example's values, unit by unit.

    Attributes:
        units: the number of values.
        kernel: the number of the leaf that is the matrix; None for a bias without one.
        flipped: whether the matrix is stored (out, in).
        bias: the number of the leaf that is the bias, or None.
        features: what the matrix is multiplied with, (c, inputs); no columns if there is no matrix.
        moves: whether the features depend on parameters of other layers.
    """

    units: int
    kernel: int | None
    flipped: bool
    bias: int | None
    features: Array
    moves: bool

    @property
    def inputs(self) -> int:
        """The number of parameters to a unit."""
        return self.features.shape[1] + (self.bias is not None)

    def all_features(self) -> Float[Array, "c inputs"]:
        """The features, and behind them the 1 that a bias is multiplied with."""
        if self.bias is None:
            return self.features
        one = jnp.ones((len(self.features), 1), self.features.dtype)
        return jnp.concatenate([self.features, one], axis=1)

    def places(self, starts: list[int]) -> Int[np.ndarray, "inputs units"]:
        """Where in the vector of all leaves its parameters are; a leaf begins at its start."""
        rows = []
        if self.kernel is not None:
            shape = (self.features.shape[1], self.units)
            inside = np.arange(math.prod(shape)).reshape(shape[::-1] if self.flipped else shape)
            rows.append(starts[self.kernel] + (inside.T if self.flipped else inside))
        if self.bias is not None:
            rows.append(starts[self.bias] + np.arange(self.units)[None])
        return np.concatenate(rows)

    def spans(self, starts: list[int]) -> "list[Span]":
        """The same by leaves, each of which is one stretch of the vector."""
        found, inputs = [], self.features.shape[1]
        if self.kernel is not None:
            found.append(Span(0, inputs, self.flipped, inputs * self.units, starts[self.kernel]))
        if self.bias is not None:
            found.append(Span(inputs, inputs + 1, False, self.units, starts[self.bias]))
        return found


class Span(NamedTuple):
    """A leaf of a layer and where it is in the vector of all leaves.

    Attributes:
        first: the first input of the layer that its parameters belong to.
        last: and the last one, plus 1.
        flipped: whether it is stored (units, inputs).
        size: the number of its entries.
        start: the number of the first one.
    """

    first: int
    last: int
    flipped: bool
    size: int
    start: int

    @property
    def inputs(self) -> slice:
        """The inputs."""
        return slice(self.first, self.last)

    @property
    def place(self) -> slice:
        """Its place."""
        return slice(self.start, self.start + self.size)


@dataclass
class _Run:
    """The layers met while a function runs, and what is to be added at each of them."""

    shifts: list[Array] | None
    layers: list[Layer] = field(default_factory=list)
    made: dict[int, tuple[Layer, Array]] = field(default_factory=dict)
    moving: dict[int, Array] = field(default_factory=dict)

    def meet(self, layer: Layer, value: Array) -> Array:
        """Remember a layer, and move its values."""
        moved = value if self.shifts is None else value + self.shifts[len(self.layers)]
        self.layers.append(layer)
        self.made[id(moved)] = layer, moved
        return moved

    def follow(self, given: list, results: list) -> None:
        """Remember which values depend on leaves: they are kept, so that no other value gets their id."""
        if any(isinstance(each, _View) or self.moves(each) for each in given):
            self.moving |= {id(each): each for each in results if not isinstance(each, _View)}

    def moves(self, value: Any) -> bool:
        """Whether a value depends on leaves."""
        return id(value) in self.moving


class _View(NamedTuple):
    """A leaf on its way to its layer: as it is stored, or transposed, or as a row."""

    leaf: int
    turned: bool
    value: Array


def run(
    network: Forward, leaves: list[Array], rest: PyTree, x: Array, shifts: list[Array] | None = None
) -> tuple[Float[Array, "c outputs"], list[Layer]]:
    """The outputs, with shifts added at the layers, and the layers in the order of the computation.

    Raises:
        UntappedError: a leaf is used otherwise, more than once, or not at all.
    """
    closed = jax.make_jaxpr(network.forward)(leaves, rest, x)
    going, views = _Run(shifts), [_View(number, False, leaf) for number, leaf in enumerate(leaves)]
    (outputs,) = _evaluate(closed.jaxpr, closed.consts, [*views, *jax.tree.leaves(rest), x], going)
    used = [leaf for layer in going.layers for leaf in (layer.kernel, layer.bias) if leaf is not None]
    if sorted(used) != list(range(len(leaves))) or isinstance(outputs, _View):
        raise UntappedError
    return outputs, going.layers


def _evaluate(jaxpr: Any, consts: list, values: list, going: _Run) -> list:
    known = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, values, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        if equation.primitive.name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            results = _evaluate(inner.jaxpr, inner.consts, given, going)
        elif any(isinstance(each, _View) for each in given):
            results = [_used(equation, given, going)]
        else:
            results = _bound(equation, given)
        going.follow(given, results)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _bound(equation: Any, values: list) -> list:
    found = equation.primitive.get_bind_params(equation.params)
    rules, settings = found if isinstance(found, tuple) else ((), found)  # the former up to JAX 0.9
    results = equation.primitive.bind(*rules, *values, **settings)
    return results if equation.primitive.multiple_results else [results]


def _used(equation: Any, given: list, going: _Run) -> Any:
    """The value of an equation that uses a leaf: again a view of it, or the values of a layer."""
    name, settings = equation.primitive.name, equation.params
    (result,) = _bound(equation, [each.value if isinstance(each, _View) else each for each in given])
    views = [i for i, each in enumerate(given) if isinstance(each, _View)]
    view = given[views[0]]
    if len(given) == 1 and name == "transpose" and view.value.ndim == 2:
        return _View(view.leaf, not view.turned, result)
    if len(given) == 1 and _row(view.value.shape, result.shape, name, settings):
        return _View(view.leaf, False, result)
    if len(given) != 2 or len(views) != 1 or result.ndim != 2:
        raise UntappedError
    other = given[1 - views[0]]
    if name == "dot_general" and views[0] == 1 and other.ndim == view.value.ndim == 2:
        (left, right), batch = settings["dimension_numbers"]
        if tuple(left) == (1,) and not any(map(len, batch)):
            flipped = bool(right[0]) != view.turned
            layer = Layer(result.shape[1], view.leaf, flipped, None, other, going.moves(other))
            return going.meet(layer, result)
    if (
        name == "add"
        and other.shape == result.shape
        and view.value.shape in (result.shape, (1, result.shape[1]))
    ):
        layer, _ = going.made.get(id(other), (None, None))
        if layer is not None and layer.bias is None:
            layer.bias = view.leaf
            return result
        none = jnp.zeros((len(result), 0), result.dtype)
        return going.meet(Layer(result.shape[1], None, False, view.leaf, none, moves=False), result)
    raise UntappedError


def _row(old: tuple[int, ...], new: tuple[int, ...], name: str, settings: dict) -> bool:
    """Whether an equation makes a vector a row, or repeats it as the rows of a matrix."""
    if not old or not new or math.prod(old) != old[-1] or new[-1] != old[-1]:
        return False
    if name == "broadcast_in_dim":
        return settings["broadcast_dimensions"][-1] == len(new) - 1
    return name == "reshape" and math.prod(new) == new[-1]


def layers_of(network: Forward, leaves: list[Array], rest: PyTree, x: Array) -> list[Layer] | None:
    """The layers, with shapes for their features; None if a parameter is used in another way.

    Tracing takes a while: what was found last is remembered.
    """
    shapes = jax.tree.map(lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype), (leaves, rest, x))
    flat, structure = jax.tree.flatten(shapes)
    return _layers_of(network, structure, tuple(flat))


@lru_cache(maxsize=64)
def _layers_of(
    network: Forward, structure: jax.tree_util.PyTreeDef, shapes: tuple[jax.ShapeDtypeStruct, ...]
) -> list[Layer] | None:
    met = []

    def outputs(leaves: list[Array], rest: PyTree, x: Array) -> Array:
        values, layers = run(network, leaves, rest, x)
        met.extend(layers)
        return values

    try:
        jax.eval_shape(outputs, *jax.tree.unflatten(structure, shapes))
    except UntappedError:
        return None
    return [
        replace(each, features=jax.ShapeDtypeStruct(each.features.shape, each.features.dtype)) for each in met
    ]


class What(NamedTuple):
    """All that decides what is compiled, apart from shapes.

    Attributes:
        network: gives the outputs.
        of_outputs: the loss.
        gauss_newton: whether the Gauss-Newton matrix is meant, as if the outputs and the features were linear
            in the shifts of the layers.
    """

    network: Forward
    of_outputs: OfOutputs
    gauss_newton: bool


class Linearised(NamedTuple):
    r"""The derivatives of examples in the values of the layers, in lists with an entry to a layer.

    Attributes:
        features: with the 1 of a bias, (c, inputs).
        bars: $\bar z$, (c, units).
        along: maps moves of the values, (c, units), or of the leaves, to the derivatives of the bars and of
            the features along them; those of the features are zero for the Gauss-Newton matrix.
    """

    features: list[Array]
    bars: list[Array]
    along: Callable[[list[Array]], tuple[list[Array], list[Array]]]


def linearised(
    what: What,
    leaves: list[Array],
    rest: PyTree,
    part: tuple[Array, Array, Array],
    *,
    in_leaves: bool = False,
) -> Linearised:
    """Run the network forward and backward on x, y and weights, once; to be traced."""
    (network, of_outputs, gauss_newton), (x, y, weights) = what, part
    _, layers = run(network, leaves, rest, x)
    zeros = [jnp.zeros((len(y), layer.units), weights.dtype) for layer in layers]

    def outputs(shifts: list[Array], leaves: list[Array]) -> tuple[Array, list[Array]]:
        values, met = run(network, leaves, rest, x, shifts)
        return values, [layer.all_features() for layer in met]

    def value(shifts: list[Array], leaves: list[Array]) -> tuple[Array, list[Array]]:
        values, features = outputs(shifts, leaves)
        return of_outputs(values, y, weights), features

    def moved(function: Callable) -> Callable:
        """As a function of what moves."""
        return (lambda each: function(zeros, each)) if in_leaves else (lambda each: function(each, leaves))

    start = leaves if in_leaves else zeros
    (bars, features), along = jax.linearize(moved(jax.grad(value, has_aux=True)), start)
    if not gauss_newton:
        return Linearised(features, bars, along)
    values, push = jax.linearize(moved(lambda *given: outputs(*given)[0]), start)
    bend = jax.linearize(lambda each: jax.grad(of_outputs)(each, y, weights), values)[1]
    back = jax.linearize(lambda shifts: outputs(shifts, leaves)[0], zeros)[1]
    still = jax.tree.map(jnp.zeros_like, features)
    return Linearised(features, bars, Partial(_without_bends, push, bend, back, zeros, still))


def _without_bends(
    push: Partial, bend: Partial, back: Partial, zeros: list[Array], still: list[Array], moves: list[Array]
) -> tuple[list[Array], list[Array]]:
    pull = jax.linear_transpose(back, zeros)
    return pull(bend(push(moves)))[0], still


def chunked(examples: tuple[Array, Array, Array], chunks: int) -> tuple[Array, Array, Array]:
    """x, y and weights in equal chunks, the last one filled up with an example that weighs nothing."""
    x, y, weights = examples
    missing = -len(y) % chunks
    x, y = (jnp.concatenate([each, jnp.repeat(each[-1:], missing, axis=0)]) for each in (x, y))
    weights = jnp.concatenate([weights, jnp.zeros(missing, weights.dtype)])
    return tuple(each.reshape(chunks, -1, *each.shape[1:]) for each in (x, y, weights))
