r"""What rank and parameter counts do, and do not, say about the deviation at given inputs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import sympy
from jaxtyping import Float

from .. import linalg
from .feedforward import FeedForward


def low_rank_twin(pair: FeedForward) -> FeedForward:
    r"""Replace every update by one of rank at most p that leaves the outputs on the p inputs unchanged.

    $\Phi_k \mapsto \Phi_k \Pi_k$ with $\Pi_k$ the orthogonal projector on the span of the p *tuned* inputs
    of layer k.  On those inputs nothing changes, so by induction over the layers the trajectories are the
    same; the rank is at most p, and $\|\Phi_k \Pi_k\|_2 \le \|\Phi_k\|_2$.  Hence no bound that sees only
    pointwise deviations and norms can separate LoRA from full fine-tuning.

    Args:
        pair: the chain with its p inputs; bias updates are kept as they are.

    Returns:
        The same base chain with the projected updates.
    """
    projected = [update @ projector(inputs) for update, inputs in zip(pair.updates, pair.tuned, strict=False)]
    return pair.with_updates(projected)


def projector(rows: Float[np.ndarray, "p n"]) -> Float[np.ndarray, "n n"]:
    """Orthogonal projector on the span of the rows, exact for exact rows."""
    if not linalg.is_exact(rows):
        q = np.linalg.qr(rows.T)[0]  # spans the rows whatever their rank: p columns, or n of them
        return q @ q.T
    basis = sympy.Matrix(rows.T).columnspace()
    if not basis:
        return linalg.exact([[0] * rows.shape[1]] * rows.shape[1])
    b = sympy.Matrix.hstack(*basis)
    return linalg.exact([[str(entry) for entry in row] for row in (b * (b.T * b).inv() * b.T).tolist()])


def entry_count_bound(update: Float[np.ndarray, "m n"]) -> linalg.Upper | Fraction | sympy.Expr:
    r"""Bound $\|\Phi\|_2 \le c\sqrt{s}$ for s trainable entries of magnitude at most c.

    Here c is the largest magnitude in the update and s the number of its non-zero entries.  Attained by a
    full
    rectangle of equal entries.  This is a sense in which a parameter *count* does limit the deviation:
    through a
    budget per entry.
    """
    magnitude = np.max(np.abs(update))
    count = int(np.count_nonzero(update != 0))
    if linalg.is_exact(update):
        return magnitude * linalg.square_root(count)
    return linalg.Upper(float(magnitude) * np.sqrt(count) * (1 + linalg.gamma(2 * update.size + 8)))


def factor_box_bound(
    b: Float[np.ndarray, "m r"], a: Float[np.ndarray, "r n"]
) -> linalg.Upper | Fraction | sympy.Expr:
    r"""Bound $\|BA\|_2 \le r\,c_B c_A \sqrt{mn}$ for LoRA factors with bounded entries.

    No entry of B is larger than $c_B$ in magnitude, none of A than $c_A$.  Attained by constant factors.
    """
    (m, r), n = b.shape, a.shape[1]
    largest = np.max(np.abs(b)) * np.max(np.abs(a))
    if linalg.is_exact(b):
        return r * largest * linalg.square_root(m * n)
    return linalg.Upper(float(r * largest) * np.sqrt(m * n) * (1 + linalg.gamma(4 * (m + n + r) * r + 8)))
