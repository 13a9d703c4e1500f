"""The Hessian of a network of linear layers, by the formula of `taps`: as a whole, and by its products."""

import itertools
import math
from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PyTree

from .taps import Span, What, chunked, layers_of, linearised

ROOM = 2**26
"""Bytes for the derivatives along all units, of as many examples at once as fit."""


def dense(
    what: What, leaves: list[Array], rest: PyTree, examples: tuple[Array, Array, Array]
) -> Float[np.ndarray, "d d"] | None:
    """The matrix in all leaves, raveled and behind each other; None if there is no way by layers.

    Args:
        what: of which network, and which matrix.
        leaves: its parameters, vectors and matrices.
        rest: what else `what.network.forward` needs.
        examples: x, y and weights, p of each.
    """
    layers = layers_of(what.network, leaves, rest, examples[0])
    if layers is None:
        return None
    p, units, inputs = (
        len(examples[1]),
        sum(each.units for each in layers),
        sum(each.inputs for each in layers),
    )
    chunks = -(-p // max(1, min(p, ROOM // (8 * units * (units + inputs)))))
    blocks = iter(_blocks(what, leaves, rest, chunked(examples, chunks)))
    starts = [0, *np.cumsum([leaf.size for leaf in leaves])]
    out = np.empty((starts[-1], starts[-1]))
    for m, lower in enumerate(layers):
        for upper in layers[m:]:
            block = np.asarray(next(blocks))
            if upper is lower:
                block = _unpacked(block, lower.units, lower.inputs)
            _place(out, block, lower.spans(starts), upper.spans(starts))
    return out


def _place(
    out: Float[np.ndarray, "d d"], block: Float[np.ndarray, "m i j l"], rows: list[Span], columns: list[Span]
) -> None:
    """Copy a block, (units of m, inputs of m, inputs of l, units of l), and its mirror image."""
    for row in rows:
        part = block[:, row.inputs]
        part = part if row.flipped else part.swapaxes(0, 1)
        for column in columns:
            piece = part[:, :, column.inputs]
            piece = piece.swapaxes(2, 3) if column.flipped else piece
            piece = piece.reshape(row.size, column.size)
            out[row.place, column.place] = piece
            if row.place != column.place:
                out[column.place, row.place] = piece.T


def product(
    what: What, leaves: list[Array], rest: PyTree, examples: tuple[Array, Array, Array], multiple: float
) -> Partial | None:
    r"""The linear function v ↦ A v + multiple · v of raveled leaves; None if there is no way by layers.

    A product with the Hessian is $a^T \bar z' + (\bar z^T a')^T$ in each layer, with a prime for the
    derivative along v, features a and $\bar z = \partial L / \partial z$. What stands transposed here is
    transposed once and not, as it is without this, in each product: a third of the time. Examples may
    influence each other here.

    Args:
        what: of which network, and which matrix.
        leaves: its parameters, vectors and matrices.
        rest: what else `what.network.forward` needs.
        examples: x, y and weights, p of each.
        multiple: of the identity, added to the matrix.
    """
    layers = layers_of(what.network, leaves, rest, examples[0])
    if layers is None:
        return None
    starts = [0, *(int(end) for end in np.cumsum([leaf.size for leaf in leaves]))]
    spans = tuple(tuple(layer.spans(starts)) for layer in layers)
    moves = tuple(layer.moves and not what.gauss_newton for layer in layers)
    made = _InLayers(spans, tuple(leaf.shape for leaf in leaves), moves)
    return _product(what, made, leaves, rest, examples, jnp.asarray(multiple, examples[2].dtype))


@dataclass(frozen=True)
class _InLayers:
    """The product as a function of arrays that do not depend on the vector, and of the vector.

    Attributes:
        spans: the leaves of each layer.
        shapes: of the leaves, in their order.
        moves: of each layer, whether its features do.
    """

    spans: tuple[tuple[Span, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    moves: tuple[bool, ...]

    def __call__(
        self, along: Partial, features: list[Array], bars: list[Array], multiple: Array, v: Array
    ) -> Array:
        parts = jnp.split(v, np.cumsum([math.prod(shape) for shape in self.shapes])[:-1])
        leaves = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        pieces, kept = [], (self.spans, self.moves, features, bars)
        for spans, moves, feature, bar, bend, turn in zip(*kept, *along(leaves), strict=True):
            block = feature @ bend
            if moves:
                block = block + (bar @ turn).T
            parts = ((span, block[span.inputs]) for span in spans)
            pieces += [(span.start, (part.T if span.flipped else part).ravel()) for span, part in parts]
        return jnp.concatenate([piece for _, piece in sorted(pieces, key=itemgetter(0))]) + multiple * v


@partial(jax.jit, static_argnums=(0, 1))
def _product(
    what: What,
    made: _InLayers,
    leaves: list[Array],
    rest: PyTree,
    examples: tuple[Array, Array, Array],
    multiple: Float[Array, ""],
) -> Partial:
    features, bars, along = linearised(what, leaves, rest, examples, in_leaves=True)
    turned = [[each.T for each in some] for some in (features, bars)]
    return Partial(made, along, *turned, multiple)


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
    features, bars, along = linearised(what, leaves, rest, chunk)
    ends = np.cumsum([0, *(bar.shape[1] for bar in bars)])

    def of_unit(one_hot: Array) -> tuple[list[Array], list[Array]]:
        parts = (one_hot[None, start:end] for start, end in itertools.pairwise(ends))
        return along([jnp.broadcast_to(part, bar.shape) for part, bar in zip(parts, bars, strict=True)])

    bends, turns = jax.vmap(of_unit)(jnp.eye(ends[-1], dtype=bars[0].dtype))
    blocks = []
    for m, (start, end) in enumerate(itertools.pairwise(ends)):
        blocks.append(_own(features[m], bends[m][start:end]))
        above, given = slice(m + 1, None), _turned(features[m])

        def columns(of_one: tuple, given: Array = given, above: slice = above) -> list[Array]:
            both = zip(features[above], bars[above], *of_one, strict=True)
            return [_contracted(given, *each, turned=not what.gauss_newton) for each in both]

        if features[above]:
            own = jax.tree.map(lambda each, s=start, e=end: each[s:e], (bends[above], turns[above]))
            blocks += jax.lax.map(columns, own)
    return blocks


def _own(feature: Array, bends: Array) -> Float[Array, "unit_pairs input_pairs"]:
    """The formula for a layer and itself: symmetric in the units and in the inputs, so for pairs of them."""
    units, inputs = np.triu_indices(len(bends)), np.triu_indices(feature.shape[1])
    of_units = bends.transpose(1, 0, 2)[:, units[0], units[1]]
    return _turned(of_units) @ (feature[:, inputs[0]] * feature[:, inputs[1]])


def _turned(matrix: Float[Array, "c n"]) -> Float[Array, "n c"]:
    """The transpose, made: on a CPU a product is twice as fast with it as one that transposes by itself."""
    return jax.lax.optimization_barrier(matrix.T)


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
    """One unit of the formula, from the transposed features of m: (inputs of m, inputs of l, units of l)."""
    each = feature[:, :, None] * bend[:, None, :]
    if turned:
        each = each + turn[:, :, None] * bar[:, None, :]
    return jnp.tensordot(given, each, (1, 0))
