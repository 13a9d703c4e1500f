r"""First and second derivatives of an objective of a flat vector, as compiled programs.

An objective is a function of a vector and of data, both of them arguments, so that one compiled program
serves every point, every weighting of the examples and every data set of the same shape. Forward and backward
pass are done once per point: `hessian_product` returns a linear function that carries their results along and
can itself be handed to a compiled program.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int, PyTree

from . import layered, taps, tree
from .network import Batch, Network, Outputs
from .tasks import Split
from .training import hashable
from .tree import Params

Vector = Float[Array, " d"]
Loss = Callable[[Vector, PyTree], Float[Array, ""]]
"""A scalar function of a flat vector and of data; hashable, as it is a static argument."""
Product = Partial
"""A linear function of vectors: the arrays that it uses are leaves of it as a pytree."""
SMALL = 256
"""Parameters up to which columns are quicker than compiling the way by layers."""
BLOCK = 16
"""Vectors that are pushed through a network at once: more of them leave the caches of a processor."""


class Examples(NamedTuple):
    r"""The data of $\sum_i w_i\, \mathrm{CE}(f(x_i;\theta), y_i) + \frac\lambda2 \|\theta - c\|^2$."""

    x: Batch
    y: Int[Array, " p"]
    weights: Float[Array, " p"]
    decay: Float[Array, ""]
    centre: Vector


def cross_entropy(outputs: Outputs, y: Int[Array, " p"], weights: Float[Array, " p"]) -> Float[Array, ""]:
    r"""$\sum_i w_i (\log \sum_j e^{f_{ij}} - f_{i y_i})$, convex in the outputs."""
    return weights @ optax.softmax_cross_entropy_with_integer_labels(outputs, y)


Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def shapes_of(params: Params) -> Shapes:
    """The paths and shapes of the leaves, in the order of `ravel_pytree`."""
    return tuple((path, tuple(leaf.shape)) for path, leaf in tree.paths(params).items())


def from_leaves(leaves: list[Array], shapes: Shapes) -> Params:
    """The tree of these leaves."""
    return tree.from_paths({path: leaf for (path, _), leaf in zip(shapes, leaves, strict=True)})


def unraveled(vector: Vector, shapes: Shapes) -> Params:
    """The tree of these shapes that `ravel_pytree` makes a vector of."""
    flat, at = {}, 0
    for path, shape in shapes:
        size = int(np.prod(shape, dtype=int))
        flat[path] = vector[at : at + size].reshape(shape)
        at += size
    return tree.from_paths(flat)


@runtime_checkable
class Layered(Protocol):
    """A loss of a network in which the parameters may enter layer by layer, as `taps` wants it."""

    shapes: Shapes

    def forward(self, leaves: list[Array], rest: PyTree, x: Batch) -> Outputs:
        """The outputs, for the leaves of the parameters."""

    def parts(self, data: PyTree) -> tuple[PyTree, Examples]:
        """What `forward` needs beside the leaves, and the examples."""

    def penalty_hessian(self, vector: Vector, data: PyTree) -> float | Float[np.ndarray, "d d"]:
        """The Hessian of all that is added to the cross-entropy; a number stands for a multiple of I."""


@dataclass(frozen=True)
class NetworkLoss:
    """The objective of a network as a function of θ, laid out as `ravel_pytree` does, and of `Examples`.

    Losses of equal networks are equal, so that a program compiled for one serves the other.

    Attributes:
        apply: maps (params, x) to outputs.
        shapes: the paths and shapes of θ.
    """

    apply: Callable[[Params, Batch], Outputs]
    shapes: Shapes

    @classmethod
    def of(cls, network: Network) -> "NetworkLoss":
        """The objective of a network, without its parameters."""
        return cls(hashable(network.apply), shapes_of(network.params))

    def __call__(self, vector: Vector, data: Examples) -> Float[Array, ""]:
        """The objective."""
        return cross_entropy(self.outputs(vector, data), data.y, data.weights) + self.penalty(vector, data)

    def outputs(self, vector: Vector, data: Examples) -> Outputs:
        """f(x; θ), shape (p, outputs)."""
        return self.apply(self.params(vector), data.x)

    def penalty(self, vector: Vector, data: Examples) -> Float[Array, ""]:
        """λ/2 ‖θ − c‖²."""
        return data.decay / 2 * jnp.sum((vector - data.centre) ** 2)

    def params(self, vector: Vector) -> Params:
        """θ as a tree."""
        return unraveled(vector, self.shapes)

    def forward(self, leaves: list[Array], rest: None, x: Batch) -> Outputs:
        """f(x; θ) for the leaves of θ, as `taps` wants it."""
        return self.apply(from_leaves(leaves, self.shapes), x)

    def parts(self, data: Examples) -> tuple[None, Examples]:
        """What `forward` needs beside the leaves, and the examples."""
        return None, data

    def penalty_hessian(self, vector: Vector, data: Examples) -> float:
        """λ, which stands for λ I."""
        return float(data.decay)


def examples(
    split: Split,
    centre: Float[np.ndarray, " d"] | Vector,
    *,
    weights: Float[np.ndarray, " p"] | None = None,
    weight_decay: float = 0.0,
) -> Examples:
    """The data of a `NetworkLoss` in float64; each of p examples weighs 1/p unless told otherwise."""
    weights = np.full(len(split), 1 / len(split)) if weights is None else np.asarray(weights, np.float64)
    return Examples(
        jnp.asarray(split.x),
        jnp.asarray(split.y),
        jnp.asarray(weights),
        jnp.asarray(float(weight_decay)),
        jnp.asarray(centre),
    )


def mixed(first: Examples, second: Examples, t: float) -> Examples:
    r"""The data of $(1 - t) L + t L'$, for the data of L and of L' with the same penalty.

    The examples stand behind each other and t is only in their weights: every t is the same compiled program.
    """
    joined = (jnp.concatenate([a, b]) for a, b in zip(first[:2], second[:2], strict=True))
    weights = jnp.concatenate([(1 - t) * first.weights, t * second.weights])
    return Examples(*joined, weights, first.decay, first.centre)


@partial(jax.jit, static_argnums=0)
def value_and_gradient(loss: Loss, point: Vector, data: PyTree) -> tuple[Float[Array, ""], Vector]:
    """The value of an objective and its gradient."""
    return jax.value_and_grad(loss)(point, data)


@partial(jax.jit, static_argnums=0)
def hessian_product(loss: Loss, point: Vector, data: PyTree) -> Product:
    r"""The linear function $v \mapsto \nabla^2 L(\theta)\, v$, forward over reverse.

    Source: Pearlmutter, *Fast exact multiplication by the Hessian*, Neural Computation 6, 1994.
    """
    return jax.linearize(lambda vector: jax.grad(loss)(vector, data), point)[1]


@partial(jax.jit, static_argnums=0)
def gauss_newton_product(loss: NetworkLoss, point: Vector, data: Examples) -> Product:
    r"""The linear function $v \mapsto (J^T \Lambda J + \lambda I)\, v$.

    J is the Jacobian of the outputs and Λ the Hessian of the loss as a function of the outputs.

    Source: Schraudolph, *Fast curvature matrix-vector products*, Neural Computation 14, 2002.
    """
    outputs, push = jax.linearize(lambda vector: loss.outputs(vector, data), point)
    bend = jax.linearize(lambda values: jax.grad(cross_entropy)(values, data.y, data.weights), outputs)[1]
    return Partial(_gauss_newton, push, bend, data.decay)


def curvature_product(loss: Loss, point: Vector, data: PyTree, *, gauss_newton: bool = False) -> Product:
    """`hessian_product` or `gauss_newton_product`, by layers where that is quicker and agrees with it."""
    make = gauss_newton_product if gauss_newton else hessian_product
    quick = _product_by_layers(loss, point, data, gauss_newton=gauss_newton)
    if quick is not None and _agrees(quick, make, loss, point, data):
        return quick
    return make(loss, point, data)


def _product_by_layers(loss: Loss, point: Vector, data: PyTree, *, gauss_newton: bool) -> Product | None:
    if not isinstance(loss, Layered) or point.size < SMALL:
        return None
    multiple = loss.penalty_hessian(point, data)
    if not isinstance(multiple, float):
        return None
    rest, examples = loss.parts(data)
    leaves = list(tree.paths(unraveled(point, loss.shapes)).values())
    what = taps.What(loss, cross_entropy, gauss_newton)
    return layered.product(what, leaves, rest, tuple(examples[:3]), multiple)


def _agrees(quick: Product, make: Callable, loss: Layered, point: Vector, data: PyTree) -> bool:
    """Whether a product is, for a random vector, the one that `make` makes."""
    v = np.random.default_rng(0).normal(size=point.size)
    one, other = (np.asarray(each) for each in (apply(quick, v), _once(make, loss, point, data, v)))
    rounding = (len(loss.parts(data)[1].y) + v.size) * np.finfo(np.float64).eps * np.linalg.norm(other)
    return bool(np.linalg.norm(one - other) <= 100 * rounding)


@partial(jax.jit, static_argnums=(0, 1))
def _once(make: Callable, loss: Loss, point: Vector, data: PyTree, vector: Vector) -> Vector:
    return make(loss, point, data)(vector)


@partial(jax.jit, static_argnums=0)
def jacobian_product(function: Callable[[Vector, PyTree], Vector], point: Vector, data: PyTree) -> Product:
    """The linear function v ↦ Df(x) v of a function of a vector and of data."""
    return jax.linearize(lambda vector: function(vector, data), point)[1]


def _gauss_newton(push: Product, bend: Product, decay: Float[Array, ""], v: Vector) -> Vector:
    pull = jax.linear_transpose(push, v)
    return pull(bend(push(v)))[0] + decay * v


@jax.jit
def apply(product: Product, vector: Vector) -> Vector:
    """The product with one vector."""
    return product(vector)


@jax.jit
def apply_rows(product: Product, rows: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """The product with each row of a block, all at once: keep blocks small."""
    return jax.vmap(product)(rows)


@jax.jit
def _unit_rows(product: Product, start: Int[Array, ""], template: Vector) -> Float[Array, "b d"]:
    numbers = start + jnp.arange(BLOCK)
    places = jnp.arange(template.size)
    return jax.vmap(lambda number: product((places == number).astype(template.dtype)))(numbers)


def blocks(rows: Float[np.ndarray, "n d"]) -> Iterator[tuple[slice, Float[np.ndarray, "b d"]]]:
    """Rows in blocks of one size, the last one filled with zeros: one compiled program serves all."""
    for at in range(0, len(rows), BLOCK):
        block = rows[at : at + BLOCK]
        if len(block) < BLOCK:
            block = np.concatenate([block, np.zeros((BLOCK - len(block), rows.shape[1]))])
        yield slice(at, min(at + BLOCK, len(rows))), block


@dataclass(frozen=True)
class Part:
    """A method of an object as a static argument: it equals that of an equal object, as bound ones do not.

    Attributes:
        owner: the object, hashable.
        name: of the method.
    """

    owner: Hashable
    name: str

    def __call__(self, *given: PyTree) -> PyTree:
        """Call the method."""
        return getattr(self.owner, self.name)(*given)


def dense_hessian(
    loss: Loss, point: Vector, data: PyTree, product: Product, *, gauss_newton: bool = False
) -> tuple[Float[np.ndarray, "d d"], str]:
    """The Hessian or the Gauss-Newton matrix, not symmetrised, and how it was found: "layers" or "columns".

    Layer by layer as `taps` does it, where the loss is one of a network that allows that and a product with a
    random vector confirms the result; otherwise column by column.
    """
    if isinstance(loss, Layered) and point.size >= SMALL:
        found = _by_layers(loss, point, data, gauss_newton)
        if found is not None and _confirmed(found, product, len(loss.parts(data)[1].y)):
            return found, "layers"
    return transposed(product, point.size), "columns"


def _by_layers(
    loss: Layered, point: Vector, data: PyTree, gauss_newton: bool
) -> Float[np.ndarray, "d d"] | None:
    rest, examples = loss.parts(data)
    leaves = list(tree.paths(unraveled(point, loss.shapes)).values())
    what = taps.What(loss, cross_entropy, gauss_newton)
    found = layered.dense(what, leaves, rest, tuple(examples[:3]))
    if found is None:
        return None
    added = loss.penalty_hessian(point, data)
    if isinstance(added, float):
        found.flat[:: point.size + 1] += added
        return found
    return found + added


def _confirmed(matrix: Float[np.ndarray, "d d"], product: Product, p: int) -> bool:
    v = np.random.default_rng(0).normal(size=len(matrix))
    off = np.linalg.norm(matrix @ v - np.asarray(apply(product, v)))
    # Rounding of sums over examples and parameters; another matrix would be off by its own size.
    rounding = (p + len(matrix)) * np.finfo(np.float64).eps * np.linalg.norm(matrix) * np.linalg.norm(v)
    return bool(off <= 100 * rounding)


def transposed(product: Product, n: int) -> Float[np.ndarray, "n m"]:
    """The products with all n unit vectors, one to a row, in blocks: the transpose of the matrix.

    A symmetric matrix is not symmetrised here, so that its rounding shows.
    """
    template = jnp.zeros(n)
    rows = [np.asarray(_unit_rows(product, at, template)) for at in range(0, n, BLOCK)]
    return np.concatenate(rows)[:n]
