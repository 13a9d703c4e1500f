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
from ..claims import MissingIngredient
from .feedforward import FeedForward
from .scalars import SCALARS, SLOPES

GRID = 512  # intervals in which a change of sign of a kinked unit is looked for
NODES = 16  # Gauss-Legendre nodes per panel
SMOOTH_PANELS = 8


def layer_integrals(pair: FeedForward) -> tuple[np.ndarray, np.ndarray]:
    """Integrate the terms of the identity, one per layer, for the first input.

    Between the kinks of a piecewise linear network the integrand is a polynomial of degree below the depth,
    so the panels are cut at the kinks and Gauss-Legendre is exact on each; smooth activations get even
    panels.

    Args:
        pair: the chain; only its first input is used.

    Returns:
        The terms, shape (N, n_N), whose sum is f − f₀; and the change against a coarser rule, shape ().

    Raises:
        MissingIngredient: for exact chains with an activation other than the identity.
    """
    pair = pair.first()
    if pair.is_exact:
        return _exact_integrals(pair), np.zeros(())
    kinked = any(not ACTIVATIONS[name].smooth for name in pair.activations)
    edges = _kinks(pair) if kinked else np.linspace(0, 1, SMOOTH_PANELS + 1)
    fine, coarse = (_quadrature(pair, edges, nodes) for nodes in (NODES, NODES - 6))
    return fine, np.linalg.norm(fine - coarse)


def _forward(pair: FeedForward, t: Float[np.ndarray, " s"]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Activations and pre-activations along the segment; rows are values of t, no W + tΦ is formed."""
    x, t = np.repeat(pair.x, len(t), axis=0), t[:, None]
    xs, zs = [x], []
    for k, (weight, update) in enumerate(zip(pair.weights, pair.updates, strict=True)):
        bias = pair._vector(pair.biases, k) + t * pair._vector(pair.bias_updates, k)
        zs.append(xs[-1] @ weight.T + t * (xs[-1] @ update.T) + bias)
        xs.append(SCALARS[pair.activations[k]](zs[-1]))
    return xs, zs


def _quadrature(pair: FeedForward, edges: np.ndarray, nodes: int) -> np.ndarray:
    points, weights = np.polynomial.legendre.leggauss(nodes)
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    t = (middle[:, None] + half[:, None] * points).ravel()
    measure = (half[:, None] * weights).ravel()
    xs, zs = _forward(pair, t)
    terms = []
    for k, update in enumerate(pair.updates):
        v = xs[k] @ update.T + pair._vector(pair.bias_updates, k)
        v = SLOPES[pair.activations[k]](zs[k]) * v
        for j in range(k + 1, pair.depth):
            v = v @ pair.weights[j].T + t[:, None] * (v @ pair.updates[j].T)
            v = SLOPES[pair.activations[j]](zs[j]) * v
        terms.append(measure @ v)
    return np.array(terms)


def _kinks(pair: FeedForward) -> np.ndarray:
    """Return 0, 1, an even grid, and every t at which a pre-activation of a kinked unit changes sign."""
    grid = np.linspace(0, 1, GRID + 1)
    zs = _forward(pair, grid)[1]
    found = [np.linspace(0, 1, SMOOTH_PANELS + 1)]
    for k, z in enumerate(zs):
        if ACTIVATIONS[pair.activations[k]].smooth:
            continue
        row, unit = np.nonzero((z[1:] > 0) != (z[:-1] > 0))
        low, high = grid[row], grid[row + 1]
        rising = z[row + 1, unit] > 0
        for _ in range(54):  # a bisection to the last bit of [0, 1]
            middle = (low + high) / 2
            above = _forward(pair, middle)[1][k][np.arange(len(unit)), unit] > 0 if len(unit) else rising
            low, high = np.where(above == rising, low, middle), np.where(above == rising, middle, high)
        found.append(high)
    return np.unique(np.concatenate(found))


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
        shift = pair._vector(pair.bias_updates, k)
        v = x @ update.T + shift
        for matrix in moving[k + 1 :]:
            v = v @ matrix.T
        terms.append(v[0])
        x = x @ moving[k].T + pair._vector(pair.biases, k) + shift * t
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
