r"""The exact decomposition of the deviation into one integral per layer.

Along the segment W + tΦ, b + tβ with activations $x_t^k$, slopes $D_k(t) = \mathrm{diag}\,\sigma_k'$ and
$J_{>k}(t)$ the Jacobian of everything after layer k,

$$f - f_0 = \sum_k \int_0^1 J_{>k}(t)\, D_k(t)\,\big(\Phi_k x_t^{k-1} + \beta_k\big)\,dt.$$

It is the fundamental theorem of calculus for $t \mapsto f(x; \theta_0 + t\,\Delta\theta)$, sorted by layers
according to where the derivative enters.  It holds when every σ acts on coordinates and is locally
Lipschitz: at kinks σ' may then be given any bounded (Borel) values, and $J_{>k}$ is the product of the
matrices.  The sum does not depend on those values, its split into layers does: it is unique where no unit
stays on a kink.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import sympy
from jaxtyping import Float

from ...models.activations import ACTIVATIONS
from .. import linalg
from ..claims import MissingIngredient
from .feedforward import FeedForward
from .scalars import SCALARS, SLOPES

GRID = 256  # intervals in which a change of sign of a pre-activation is looked for
NODES = (16, 10)  # Gauss-Legendre nodes per panel: the rule, and the coarser one that it is compared with
HALVINGS = 24


def layer_integrals(pair: FeedForward) -> tuple[np.ndarray, float]:
    """Integrate the terms of the identity, one per layer, for the first input.

    Panels are cut where a pre-activation changes sign, and closely around: there a kinked activation has its
    kink, between kinks a piecewise linear network has a polynomial integrand, and a smooth activation with
    large weights has its transition.  Panels on which two rules disagree are halved.

    Args:
        pair: the chain; only its first input is used.

    Returns:
        The terms, shape (N, n_N), whose sum is f − f₀; and an estimate (not a bound) of the quadrature error.

    Raises:
        MissingIngredient: a quadrature that does not settle; exact chains that are not linear.
    """
    pair = pair.first()
    if pair.is_exact:
        return _exact_integrals(pair), 0.0
    edges = _crossings(pair)
    total, error = 0.0, 0.0
    for _ in range(HALVINGS):
        fine, coarse = (_panels(pair, edges, nodes) for nodes in NODES)
        change = np.linalg.norm((fine - coarse).reshape(len(edges), -1), axis=1)
        allowed = (
            linalg.gamma(64 * pair.operations) * pair.scale[0] * np.maximum(edges[:, 1] - edges[:, 0], 1e-3)
        )
        settled = change <= allowed
        total, error = total + fine[settled].sum(0), error + change[settled].sum()
        edges = edges[~settled]
        if not len(edges):
            return total, float(error)
        middle = edges.mean(axis=1)
        edges = np.concatenate([np.stack([edges[:, 0], middle], 1), np.stack([middle, edges[:, 1]], 1)])
    raise MissingIngredient(
        f"a quadrature that settles: {len(edges)} panels do not after {HALVINGS} halvings"
    )


def _forward(pair: FeedForward, t: Float[np.ndarray, " s"]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Activations and pre-activations along the segment; rows are values of t, no W + tΦ is formed."""
    x, t = np.repeat(pair.x, len(t), axis=0), t[:, None]
    xs, zs = [x], []
    for k, (weight, update) in enumerate(zip(pair.weights, pair.updates, strict=True)):
        bias = pair.vector(pair.biases, k) + t * pair.vector(pair.bias_updates, k)
        zs.append(xs[-1] @ weight.T + t * (xs[-1] @ update.T) + bias)
        xs.append(SCALARS[pair.activations[k]](zs[-1]))
    return xs, zs


def _panels(pair: FeedForward, edges: Float[np.ndarray, "m 2"], nodes: int) -> np.ndarray:
    """Integrals of all terms over each panel, shape (m, N, n_N)."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    middle, half = edges.mean(axis=1), (edges[:, 1] - edges[:, 0]) / 2
    t = (middle[:, None] + half[:, None] * points).ravel()
    xs, zs = _forward(pair, t)
    terms = []
    for k, update in enumerate(pair.updates):
        v = xs[k] @ update.T + pair.vector(pair.bias_updates, k)
        v = SLOPES[pair.activations[k]](zs[k]) * v
        for j in range(k + 1, pair.depth):
            v = v @ pair.weights[j].T + t[:, None] * (v @ pair.updates[j].T)
            v = SLOPES[pair.activations[j]](zs[j]) * v
        terms.append(np.einsum("mqn,q,m->mn", v.reshape(len(edges), nodes, -1), weights, half))
    return np.stack(terms, axis=1)


def _crossings(pair: FeedForward) -> Float[np.ndarray, "m 2"]:
    """Panels between 0, 1, every t at which a pre-activation changes sign, and points close around it."""
    grid = np.linspace(0, 1, GRID + 1)
    zs = _forward(pair, grid)[1]
    found = [np.linspace(0, 1, 9)]
    for k, z in enumerate(zs):
        row, unit = np.nonzero((z[1:] > 0) != (z[:-1] > 0))
        if pair.activations[k] == "identity" or not len(row):
            continue
        low, high = grid[row], grid[row + 1]
        width = 1 / (GRID * np.abs(z[row + 1, unit] - z[row, unit]))  # in which the pre-activation moves by 1
        rising = z[row + 1, unit] > 0
        for _ in range(54):  # a bisection to the last bit of [0, 1]
            middle = (low + high) / 2
            above = _forward(pair, middle)[1][k][np.arange(len(unit)), unit] > 0
            low, high = np.where(above == rising, low, middle), np.where(above == rising, middle, high)
        found += [
            high,
            *(high + s * width for s in (-30, -8, -2, 2, 8, 30) if ACTIVATIONS[pair.activations[k]].smooth),
        ]
    edges = np.unique(np.clip(np.concatenate(found), 0, 1))
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _exact_integrals(pair: FeedForward) -> np.ndarray:
    """The same for a linear chain, whose integrand is a polynomial in t: Newton-Cotes is exact."""
    if set(pair.activations) != {"identity"}:
        raise MissingIngredient("the integral identity in exact arithmetic needs identity activations")
    nodes, weights = _newton_cotes(pair.depth)
    return sum(
        weight * np.array(_terms_at(pair, t), dtype=object) for t, weight in zip(nodes, weights, strict=True)
    )


def _terms_at(pair: FeedForward, t: Fraction) -> list[np.ndarray]:
    moving = [w + u * t for w, u in zip(pair.weights, pair.updates, strict=True)]
    x, terms = pair.x, []
    for k, update in enumerate(pair.updates):
        shift = pair.vector(pair.bias_updates, k)
        v = x @ update.T + shift
        for matrix in moving[k + 1 :]:
            v = v @ matrix.T
        terms.append(v[0])
        x = x @ moving[k].T + pair.vector(pair.biases, k) + shift * t
    return terms


@cache
def _newton_cotes(degree: int) -> tuple[list[Fraction], list[Fraction]]:
    """Nodes and weights on [0, 1] that integrate polynomials up to a degree exactly."""
    nodes = [Fraction(j, max(degree, 1)) for j in range(degree + 1)]
    powers = sympy.Matrix(
        degree + 1, degree + 1, lambda i, j: sympy.Rational(*nodes[j].as_integer_ratio()) ** i
    )
    moments = sympy.Matrix([sympy.Rational(1, i + 1) for i in range(degree + 1)])
    return nodes, [Fraction(int(w.p), int(w.q)) for w in powers.LUsolve(moments)]
