r"""$P^T A P$ for a network of linear layers, where a column of P changes one row or one column of one kernel.

This is what the tangents of many methods look like, and it is read off the zeros of P: an entry of LoRA's
first factor changes one row of a kernel, an entry of the second factor one column, and so it is with masks,
biases, whole layers and scalings. As a matrix such a column of P is $u v^T$, and it moves the values of its
layer, whose features are a, by $(u^T a)\, v$. With $\bar z_l = \partial L / \partial z_l$ and a prime for the
derivative along the units of layer m, the formula of `peftproof.models.taps` becomes, for $l \ge m$,

$$\sum_n (u^T a_m)(w^T a_l)\; v^T \bar z_l'\, x \;+\; (u^T a_m)(x^T \bar z_l)\; v^T a_l'\, w$$

for the columns $u v^T$ in layer m and $w x^T$ in layer l, the second term only for $l > m$. Few of the
vectors differ. So the small matrices between them come first, and what is left of the sums over examples are
a few matrix products, where a product with A for each column would be a pass through the network each.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import sparse

from ...models import derivatives, taps, tree
from ...models.derivatives import Layered, Product

ROOM = 2**28
"""Bytes for the derivatives along all units, of as many examples at once as fit."""
FILLED = 0.2
"""Share of entries of P that are not zero, above which no column can be hoped to have the form."""
FEW = 64
"""Columns of P below which as many products are quicker than compiling anything."""


class Factors(NamedTuple):
    """Columns of P that are some of the products $u v^T$ in one layer.

    Attributes:
        left: the distinct u, (g, inputs).
        right: the distinct v, (h, units).
        lefts: which u each column has, (c,).
        rights: which v, (c,).
    """

    left: Float[np.ndarray, "g inputs"]
    right: Float[np.ndarray, "h units"]
    lefts: Int[np.ndarray, " c"]
    rights: Int[np.ndarray, " c"]


class Family(NamedTuple):
    """Columns of P in one layer, and their factors."""

    layer: int
    columns: Int[np.ndarray, " c"]
    factors: Factors


def restricted(
    loss: Any,
    point: Any,
    data: Any,
    product: Product,
    directions: Float[np.ndarray, "d k"],
    *,
    gauss_newton: bool = False,
    few: int = FEW,
) -> Float[np.ndarray, "k k"] | None:
    r"""$P^T A P$ for the Hessian or the Gauss-Newton matrix A; None where this way is not open.

    It is not if the network is not made of linear layers that see each example once, if a column of P has
    another form, if there are more products $u v^T$ than rows of P, or if the result contradicts a product.

    Args:
        loss: of a network, as `derivatives.hessian_product` takes it.
        point: θ.
        data: of the loss.
        product: products with A.
        directions: P.
        gauss_newton: whether A is the Gauss-Newton matrix.
        few: fewer columns than these are left to products.
    """
    if not isinstance(loss, Layered) or directions.shape[1] < few:
        return None
    leaves = list(tree.paths(derivatives.unraveled(point, loss.shapes)).values())
    rest, examples = loss.parts(data)
    layers = taps.layers_of(loss, leaves, rest, examples.x)
    families = None if layers is None else families_of(layers, leaves, directions)
    if families is None:
        return None
    numbers, factors = (tuple(getattr(one, name) for one in families) for name in ("layer", "factors"))
    size = sum(layer.units for layer in layers), sum(layer.inputs for layer in layers)
    whole = np.zeros((directions.shape[1], directions.shape[1]))
    of, p = taps.What(loss, derivatives.cross_entropy, gauss_newton), len(examples.y)
    chunks = -(-p // max(1, ROOM // (8 * size[0] * sum(size))))
    for part in zip(*taps.chunked(tuple(examples[:3]), chunks), strict=True):
        blocks = iter(_blocks((of, numbers), leaves, rest, part, factors))
        for number, first in enumerate(families):
            for second in families[number:]:
                whole[np.ix_(first.columns, second.columns)] += np.asarray(next(blocks))
    for number, first in enumerate(families):
        for second in families[number + 1 :]:
            upper = whole[np.ix_(first.columns, second.columns)]
            whole[np.ix_(second.columns, first.columns)] = upper.T
    whole = (whole + whole.T) / 2 + _penalty(loss.penalty_hessian(point, data), directions)
    return whole if _confirmed(whole, product, directions, len(examples.y)) else None


def families_of(
    layers: list[taps.Layer], leaves: list[Any], directions: Float[np.ndarray, "d k"]
) -> list[Family] | None:
    """All columns but zeros, by layer and by form; None if one has another form or they are too many."""
    (d, k), filled = directions.shape, directions != 0
    if np.count_nonzero(filled) > FILLED * filled.size:
        return None
    at, columns = np.nonzero(filled)
    values, places = directions[at, columns], np.empty((3, d), int)
    starts = list(np.cumsum([0, *(leaf.size for leaf in leaves)])[:-1])
    for number, layer in enumerate(layers):
        spots = layer.places(starts)
        places[0, spots] = number
        places[1:, spots] = np.indices(spots.shape)
    least, most = np.full((3, k), d), np.full((3, k), -1)
    for which, place in enumerate(places[:, at]):
        np.minimum.at(least[which], columns, place)
        np.maximum.at(most[which], columns, place)
    one_layer, one_input, one_unit = least >= most
    if not (one_layer & (one_input | one_unit)).all():
        return None
    found = []
    for number, layer in enumerate(layers):
        for of_form, along in ((one_input, 0), (one_unit & ~one_input, 1)):
            chosen = np.flatnonzero(of_form & (most[0] == number))
            if len(chosen):
                inside = np.isin(columns, chosen)
                factors = [np.zeros((len(chosen), size)) for size in (layer.inputs, layer.units)]
                row, place = np.searchsorted(chosen, columns[inside]), places[1:, at[inside]]
                factors[along][row, place[along]] = 1.0
                factors[1 - along][row, place[1 - along]] = values[inside]
                (left, lefts), (right, rights) = (
                    np.unique(factor, axis=0, return_inverse=True) for factor in factors
                )
                factors = Factors(left, right, lefts.ravel(), rights.ravel())
                found.append(Family(number, chosen, factors))
    # Beyond this the whole matrix is cheaper.
    return None if sum(len(one.factors.left) * len(one.factors.right) for one in found) > d else found


@partial(jax.jit, static_argnums=0)
def _blocks(
    what: tuple[taps.What, tuple[int, ...]],
    leaves: list[Any],
    rest: Any,
    part: tuple[Any, Any, Any],
    factors: tuple[Factors, ...],
) -> list[Any]:
    """Pᵀ A P for each family and those behind it, as a sum over the examples of a part."""
    of, numbers = what
    features, bars, along = taps.linearised(of, leaves, rest, part)
    blocks = []
    for at, (m, first) in enumerate(zip(numbers, factors, strict=True)):
        # The directions that the family can move its layer in, and no others.
        moves = [jnp.zeros((len(first.right), *bar.shape)) for bar in bars]
        moves[m] = moves[m] + first.right[:, None, :]
        bends, turns = jax.vmap(along)(moves)
        one = features[m] @ first.left.T
        for other, second in zip(numbers[at:], factors[at:], strict=True):
            two = features[other] @ second.left.T
            chosen = first.lefts[:, None], second.lefts, first.rights[:, None], second.rights
            block = _sums(one, two, bends[other] @ second.right.T)[chosen]
            if other > m and not of.gauss_newton:
                two = bars[other] @ second.right.T
                chosen = first.lefts[:, None], second.rights, first.rights[:, None], second.lefts
                block = block + _sums(one, two, turns[other] @ second.left.T)[chosen]
            blocks.append(block)
    return blocks


def _sums(
    one: Float[Array, "n a"], two: Float[Array, "n b"], between: Float[Array, "g n h"]
) -> Float[Array, "a b g h"]:
    """Σ_n one_na two_nb between_gnh, with the two factors multiplied first whose product is smallest."""
    (a, b), (g, n, h) = (one.shape[1], two.shape[1]), between.shape
    flat = jax.lax.optimization_barrier(between.transpose(1, 0, 2)).reshape(n, g * h)
    sizes = a * b + g * h, a * g * h + b, b * g * h + a
    if min(sizes) == sizes[0]:
        return _summed(_outer(one, two), flat).reshape(a, b, g, h)
    if min(sizes) == sizes[1]:
        return _summed(_outer(one, flat), two).reshape(a, g, h, b).transpose(0, 3, 1, 2)
    return _summed(one, _outer(flat, two)).reshape(a, g, h, b).transpose(0, 3, 1, 2)


def _outer(one: Float[Array, "n a"], two: Float[Array, "n b"]) -> Float[Array, "n ab"]:
    return (one[:, :, None] * two[:, None, :]).reshape(len(one), -1)


def _summed(one: Float[Array, "n a"], two: Float[Array, "n b"]) -> Float[Array, "a b"]:
    """The product oneᵀ two. On a CPU it is twice as fast if the smaller one is really transposed before."""
    if one.shape[1] <= two.shape[1]:
        return jax.lax.optimization_barrier(one.T) @ two
    return (jax.lax.optimization_barrier(two.T) @ one).T


def _penalty(added: float | Float[np.ndarray, "d d"], P: Float[np.ndarray, "d k"]) -> Any:
    if not isinstance(added, float):
        return P.T @ added @ P
    if not added:
        return 0.0
    thin = sparse.csc_array(P)
    return added * (thin.T @ thin).toarray()


def _confirmed(matrix: np.ndarray, product: Product, P: Float[np.ndarray, "d k"], p: int) -> bool:
    v = np.random.default_rng(0).normal(size=len(matrix))
    moved = P @ v
    off = np.linalg.norm(matrix @ v - P.T @ np.asarray(derivatives.apply(product, moved)))
    # Rounding of sums over examples and parameters; another matrix would be off by its own size.
    rounding = (p + len(P)) * np.finfo(np.float64).eps * np.linalg.norm(matrix) * np.linalg.norm(v)
    return bool(off <= 100 * rounding)
