"""Singular values of a matrix with many zeros: those of its independent parts, which cost far less."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


def singular_values(matrix: Float[np.ndarray, "m n"]) -> Float[np.ndarray, " s"]:
    r"""The min(m, n) singular values in descending order, part by part.

    Rows and columns that no nonzero entry connects can be sorted apart, $PAQ = \mathrm{diag}(A_1, A_2, ...)$
    with permutations P and Q, and the singular values of A are those of all $A_i$, and zeros. Nothing is
    neglected: only entries that are exactly zero separate. Jacobians of masks, of scales and of LoRA at
    B = 0 fall into many small parts.

    Args:
        matrix: float64, shape (m, n).
    """
    m, n = matrix.shape
    rows, columns = np.nonzero(matrix)
    graph = csr_array((np.ones(len(rows)), (rows, columns + m)), shape=(m + n, m + n))
    count, label = connected_components(graph, directed=False)
    if count == 1:
        return _tall_values(matrix)
    found = [np.zeros(0)]
    for row, column in zip(_members(label[:m], count), _members(label[m:], count), strict=True):
        if len(row) and len(column):
            found.append(_tall_values(matrix[np.ix_(row, column)]))
    values = np.sort(np.concatenate(found))[::-1]
    return np.pad(values, (0, min(m, n) - len(values)))


def _members(label: np.ndarray, count: int) -> list[np.ndarray]:
    """The indices with each label."""
    order = np.argsort(label, kind="stable")
    return np.split(order, np.searchsorted(label[order], np.arange(1, count)))


def _tall_values(matrix: np.ndarray) -> np.ndarray:
    """The singular values of one part, by way of R where it is long."""
    if 1 in matrix.shape:
        return np.linalg.norm(matrix, keepdims=True)[0]
    matrix = matrix.T if matrix.shape[0] < matrix.shape[1] else matrix
    if matrix.shape[0] > 2 * matrix.shape[1]:
        matrix = np.linalg.qr(matrix, mode="r")
    return np.linalg.svd(matrix, compute_uv=False)
