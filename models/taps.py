r"""The dense Hessian of a network whose parameters enter by matrix products, in far less than d products.

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

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jaxtyping import Array, Float, Int, PyTree

ROOM = 2**26
"""Bytes for the derivatives along all units, of as many examples at once as fit."""


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
    """

    units: int
    kernel: int | None
    flipped: bool
    bias: int | None
    features: Array

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


@dataclass
class _Run:
    """The layers met while a function runs, and what is to be added at each of them."""

    shifts: list[Array] | None
    layers: list[Layer] = field(default_factory=list)
    made: dict[int, tuple[Layer, Array]] = field(default_factory=dict)

    def meet(self, layer: Layer, value: Array) -> Array:
        """Remember a layer, and move its values."""
        moved = value if self.shifts is None else value + self.shifts[len(self.layers)]
        self.layers.append(layer)
        self.made[id(moved)] = layer, moved
        return moved


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
            return going.meet(Layer(result.shape[1], view.leaf, flipped, None, other), result)
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
        return going.meet(Layer(result.shape[1], None, False, view.leaf, none), result)
    raise UntappedError


def _row(old: tuple[int, ...], new: tuple[int, ...], name: str, settings: dict) -> bool:
    """Whether an equation makes a vector a row, or repeats it as the rows of a matrix."""
    if not old or not new or math.prod(old) != old[-1] or new[-1] != old[-1]:
        return False
    if name == "broadcast_in_dim":
        return settings["broadcast_dimensions"][-1] == len(new) - 1
    return name == "reshape" and math.prod(new) == new[-1]


def dense(
    network: Forward,
    of_outputs: OfOutputs,
    leaves: list[Array],
    rest: PyTree,
    examples: tuple[Array, Array, Array],
    gauss_newton: bool = False,
) -> Float[np.ndarray, "d d"] | None:
    """The Hessian of a sum over examples in all leaves, raveled and behind each other; None without a path.

    Args:
        network: gives the outputs.
        of_outputs: the loss.
        leaves: vectors and matrices.
        rest: what else `network.forward` needs.
        examples: x, y and weights, p of each.
        gauss_newton: the Gauss-Newton matrix instead, whose formula is that of a function that is linear in
            the shifts of the layers.
    """
    x, y, weights = examples
    try:
        layers = _layers(network, leaves, rest, x)
    except UntappedError:
        return None
    units, inputs = (sum(getattr(layer, name) for layer in layers) for name in ("units", "inputs"))
    chunks = -(-len(y) // max(1, min(len(y), ROOM // (8 * units * (units + inputs)))))
    found = _blocks((network, of_outputs, gauss_newton), leaves, rest, _chunked((x, y, weights), chunks))
    starts = list(np.cumsum([0, *(leaf.size for leaf in leaves)])[:-1])
    out, blocks = np.empty((sum(leaf.size for leaf in leaves),) * 2), iter(found)
    for m, lower in enumerate(layers):
        for upper in layers[m:]:
            block = np.asarray(next(blocks))
            if upper is lower:
                block = _unpacked(block, lower.units, lower.inputs)
            rows, columns = lower.places(starts).T.ravel(), upper.places(starts).ravel()
            block = block.reshape(len(rows), len(columns))
            out[np.ix_(rows, columns)] = block
            out[np.ix_(columns, rows)] = block.T
    return out


def _layers(network: Forward, leaves: list[Array], rest: PyTree, x: Array) -> list[Layer]:
    """The layers with the shapes of their features."""
    met = []

    def shapes(leaves: list[Array], rest: PyTree, x: Array) -> Array:
        outputs, layers = run(network, leaves, rest, x)
        met.extend(layers)
        return outputs

    jax.eval_shape(shapes, leaves, rest, x)
    return met


def _chunked(examples: tuple[Array, ...], chunks: int) -> tuple[Array, ...]:
    """Examples in equal chunks; what is missing in the last one is the last example with the weight 0."""
    x, y, weights = examples
    missing = -len(y) % chunks
    x, y = (jnp.concatenate([each, jnp.repeat(each[-1:], missing, axis=0)]) for each in (x, y))
    weights = jnp.concatenate([weights, jnp.zeros(missing, weights.dtype)])
    return tuple(each.reshape(chunks, -1, *each.shape[1:]) for each in (x, y, weights))


What = tuple[Forward, OfOutputs, bool]


@partial(jax.jit, static_argnums=0)
def _blocks(what: What, leaves: list[Array], rest: PyTree, chunks: tuple[Array, ...]) -> list[Array]:
    """For each m the packed block (m, m), then (l, m), l > m: (units, inputs of m, inputs, units of l)."""

    def of_chunk(chunk: tuple[Array, ...]) -> list[Array]:
        return _blocks_of(what, leaves, rest, chunk)

    def added(total: list[Array], chunk: tuple[Array, ...]) -> tuple[list[Array], None]:
        return jax.tree.map(jnp.add, total, of_chunk(chunk)), None

    shapes = jax.eval_shape(of_chunk, jax.tree.map(lambda each: each[0], chunks))
    return jax.lax.scan(added, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), chunks)[0]


def _blocks_of(what: What, leaves: list[Array], rest: PyTree, chunk: tuple[Array, ...]) -> list[Array]:
    (network, of_outputs, gauss_newton), (x, y, weights) = what, chunk
    layers = _layers(network, leaves, rest, x)
    zeros = [jnp.zeros((len(y), layer.units), weights.dtype) for layer in layers]

    def outputs(shifts: list[Array]) -> tuple[Array, list[Array]]:
        values, met = run(network, leaves, rest, x, shifts)
        return values, [layer.all_features() for layer in met]

    def value(shifts: list[Array]) -> tuple[Array, list[Array]]:
        values, features = outputs(shifts)
        return of_outputs(values, y, weights), features

    (bars, features), along = jax.linearize(jax.grad(value, has_aux=True), zeros)
    if gauss_newton:
        values, push = jax.linearize(lambda shifts: outputs(shifts)[0], zeros)
        bend = jax.linearize(lambda each: jax.grad(of_outputs)(each, y, weights), values)[1]
        pull = jax.linear_transpose(push, zeros)
        along = lambda moves: (pull(bend(push(moves)))[0], features)  # noqa: E731
    ends = np.cumsum([0, *(layer.units for layer in layers)])

    def of_unit(one_hot: Array) -> tuple[list[Array], list[Array]]:
        parts = (one_hot[None, start:end] for start, end in itertools.pairwise(ends))
        return along([jnp.broadcast_to(part, zero.shape) for part, zero in zip(parts, zeros, strict=True)])

    bends, turns = jax.vmap(of_unit)(jnp.eye(ends[-1], dtype=weights.dtype))
    blocks = []
    for m, (start, end) in enumerate(itertools.pairwise(ends)):
        blocks.append(_own(features[m], bends[m][start:end]))
        above = slice(m + 1, None)

        def columns(of_one: tuple, given: Array = features[m], above: slice = above) -> list[Array]:
            both = zip(features[above], bars[above], *of_one, strict=True)
            return [_contracted(given, *each, turned=not gauss_newton) for each in both]

        if features[above]:
            own = jax.tree.map(lambda each, s=start, e=end: each[s:e], (bends[above], turns[above]))
            blocks += jax.lax.map(columns, own)
    return blocks


def _own(feature: Array, bends: Array) -> Float[Array, "unit_pairs input_pairs"]:
    """The formula for a layer and itself: symmetric in the units and in the inputs, so for pairs of them."""
    units, inputs = np.triu_indices(len(bends)), np.triu_indices(feature.shape[1])
    of_units = bends.transpose(1, 0, 2)[:, units[0], units[1]]
    return of_units.T @ (feature[:, inputs[0]] * feature[:, inputs[1]])


def _unpacked(block: Float[np.ndarray, "unit_pairs input_pairs"], units: int, inputs: int) -> np.ndarray:
    """All pairs, (units, inputs, inputs, units)."""
    of_units, of_inputs = (_pair_numbers(n).ravel() for n in (units, inputs))
    whole = block[:, of_inputs][of_units].reshape(units, units, inputs, inputs)
    return whole.transpose(0, 2, 3, 1)


def _pair_numbers(n: int) -> Int[np.ndarray, "n n"]:
    """Where an unordered pair is in the order of `triu_indices`."""
    numbers, (i, j) = np.empty((n, n), int), np.triu_indices(n)
    numbers[i, j] = numbers[j, i] = np.arange(len(i))
    return numbers


def _contracted(
    given: Array, feature: Array, bar: Array, bend: Array, turn: Array, *, turned: bool
) -> Float[Array, "given feature units"]:
    """One unit of the formula at the top, (inputs of m, inputs of l, units of l)."""
    each = feature[:, :, None] * bend[:, None, :]
    if turned:
        each = each + turn[:, :, None] * bar[:, None, :]
    return jnp.tensordot(given, each, (0, 0))
