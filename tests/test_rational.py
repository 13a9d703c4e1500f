"""Exact linear algebra on fractions, against its definitions and against sympy's matrices."""

from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from peftproof.theorems import rational
from peftproof.theorems.linalg import exact

ENTRIES = st.sampled_from([Fraction(n, m) for n in range(-2, 3) for m in (1, 2)])
SIDES = st.integers(1, 3)


@st.composite
def matrices(draw, rows=SIDES, columns=SIDES):
    m, n = draw(rows), draw(columns)
    return exact([[draw(ENTRIES) for _ in range(n)] for _ in range(m)])


@st.composite
def symmetric(draw):
    n = draw(st.integers(1, 4))
    a = draw(matrices(st.just(n), st.just(n)))
    return a + a.T


def is_identity(a):
    return (a == np.eye(len(a), dtype=int)).all()


@given(matrices(), st.data())
def test_a_solution_solves_and_where_there_is_none_that_is_said(a, data):
    b = exact([data.draw(ENTRIES) for _ in range(len(a))])
    if rational.in_range(a, b):
        assert (a @ rational.solve(a, b) == b).all()
    else:
        assert rational.nullspace(a.T).T.dot(b).any(), "a vector outside the range meets its complement"
        with pytest.raises(ValueError, match="no solution"):
            rational.solve(a, b)


@given(matrices())
def test_rank_and_nullspace_count_the_columns(a):
    N = rational.nullspace(a)
    assert N.shape == (a.shape[1], a.shape[1] - rational.rank(a))
    assert not (a @ N).any()
    assert rational.rank(a) == sympy.Matrix(a.tolist()).rank() == rational.rank(a.T)
    if N.shape[1]:
        assert rational.rank(N) == N.shape[1]


@settings(max_examples=50)
@given(matrices(st.just(3), st.just(3)))
def test_inverses_are_inverses_and_singular_matrices_have_none(a):
    if rational.rank(a) == 3:
        assert is_identity(a @ rational.inverse(a))
        assert is_identity(rational.inverse(a) @ a)
    else:
        with pytest.raises(ValueError, match="use pseudo_inverse"):
            rational.inverse(a)


@given(matrices())
def test_pseudo_inverses_fulfil_the_four_equations_of_penrose(a):
    p = rational.pseudo_inverse(a)
    assert p.shape == a.shape[::-1]
    assert (a @ p @ a == a).all()
    assert (p @ a @ p == p).all()
    assert (a @ p == (a @ p).T).all()
    assert (p @ a == (p @ a).T).all()
    assert (rational.projector(a) == a @ p).all()


@given(symmetric())
def test_inertia_counts_the_signs_of_the_eigenvalues(a):
    found = rational.inertia(a)
    values = np.linalg.eigvalsh(a.astype(float))
    signs = np.sign(np.round(values, 9))
    assert found == tuple(int(np.sum(signs == s)) for s in (1, 0, -1))
    assert found.definite == bool(np.all(signs > 0))
    assert found.semidefinite == bool(np.all(signs >= 0))


def test_a_matrix_whose_diagonal_hides_its_signs():
    assert rational.inertia(exact([[0, 1], [1, 0]])) == (1, 0, 1)
    assert rational.inertia(exact([[0, 1, 1], [1, 0, 1], [1, 1, 0]])) == (1, 0, 2)
    assert rational.inertia(exact([[0, 0], [0, 0]])) == (0, 2, 0)


def test_known_results_in_fractions():
    assert rational.inverse(exact([[1, -1], [-1, 2]])).tolist() == [[2, 1], [1, 1]]
    assert rational.pseudo_inverse(exact([[1, 1]])).tolist() == [[Fraction(1, 2)], [Fraction(1, 2)]]
    assert rational.pseudo_inverse(exact([[1, 0], [0, 0]])).tolist() == [[1, 0], [0, 0]]
    assert rational.solve(exact([[1, 1], [1, 1]]), exact([2, 2])).tolist() == [2, 0]
    assert rational.reflection([1, 2])[:, 0].tolist() == [Fraction(3, 5), Fraction(-4, 5)]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=4).filter(any))
def test_reflections_are_orthogonal(vector):
    R = rational.reflection(vector)
    assert is_identity(R @ R.T)
    assert (R @ exact(vector) == -exact(vector)).all()


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0, 0)])
def test_empty_matrices_have_rank_0_and_everything_in_their_nullspace(shape):
    a = np.empty(shape, dtype=object)
    assert rational.rank(a) == 0
    assert rational.nullspace(a).shape == (shape[1], shape[1])
    assert rational.pseudo_inverse(a).shape == shape[::-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rational.rank(np.eye(2)), "needs a matrix of fractions"),
        (lambda: rational.rank(exact([1, 2])), r"shape \(2,\)"),
        (lambda: rational.inverse(exact([[1, 2]])), "use pseudo_inverse"),
        (lambda: rational.inertia(exact([[1, 2], [0, 1]])), "not symmetric"),
        (lambda: rational.solve(exact([[1]]), exact([1, 2])), r"needs \(1,\)"),
        (lambda: rational.reflection([0, 0]), "zero"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
