r"""A tilted quadratic of thousands of parameters as a small one, from which the same numbers come out.

Restrict q to a subspace that holds the range of P and the full answers $H^{-1}\varepsilon$ and
$H^{-1}\varepsilon_\parallel$: with an orthonormal basis V, the matrix $V^THV$, the directions $V^TP$ and the
disturbance $V^T\varepsilon$ have the same minima, the same answers, and the same forms in ε, ε_∥ and ε_⊥,
since $(V^THV)^{-1}V^Tx = V^TH^{-1}x$ for every x with $H^{-1}x$ in that subspace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .. import linalg

Vector = Float[np.ndarray, " d"]


@dataclass(frozen=True, eq=False)
class Reduced:
    """A tilted quadratic on m of d parameters, or rather on m combinations of them.

    Attributes:
        hessian: VᵀHV, shape (m, m).
        directions: VᵀP, shape (m, k).
        gradient: Vᵀg, shape (m,).
        disturbance: Vᵀε, shape (m,).
        of: d.
    """

    hessian: Float[np.ndarray, "m m"]
    directions: Float[np.ndarray, "m k"]
    gradient: Vector
    disturbance: Vector
    of: int


def reduced(
    product: Callable[[np.ndarray], np.ndarray],
    basis: Float[np.ndarray, "d r"],
    image: Float[np.ndarray, "d r"],
    directions: Float[np.ndarray, "d k"],
    gradient: Vector,
    disturbance: Vector,
    also: tuple[Vector, ...],
) -> Reduced:
    """Restrict a quadratic to the span of a basis, of g and ε, and of further vectors.

    Args:
        product: H times the columns of an array.
        basis: an orthonormal basis of the range of P.
        image: H times it.
        directions: P.
        gradient: g.
        disturbance: ε.
        also: further vectors, such as H⁻¹ε and H⁻¹ε_∥.
    """
    further = _orthonormal(basis, np.column_stack([gradient, disturbance, *also]))
    curved = product(further)
    V = np.column_stack([basis, further])
    H = V.T @ np.column_stack([image, curved])
    return Reduced((H + H.T) / 2, V.T @ directions, V.T @ gradient, V.T @ disturbance, len(V))


def _orthonormal(basis: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """What the vectors add to an orthonormal basis; what is left by rounding alone is dropped."""
    lengths = np.linalg.norm(vectors, axis=0)
    found = np.empty((len(basis), 0))
    for vector in (vectors[:, lengths > 0] / lengths[lengths > 0]).T:
        left = vector
        for _ in range(2):
            left = left - basis @ (basis.T @ left)
            left = left - found @ (found.T @ left)
        size = np.linalg.norm(left)
        if size > linalg.gamma(16 * len(basis)):
            found = np.column_stack([found, left / size])
    # The shorter what was left, the less orthogonal has division made it.
    return np.linalg.qr(found - basis @ (basis.T @ found))[0]
