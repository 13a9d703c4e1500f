"""Norms from above: never below the truth, and close to it."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from peftproof.theorems import linalg

SEEDS = st.integers(0, 2**32 - 1)


def with_spectrum(seed, m, n, log_values):
    rng = np.random.default_rng(seed)
    rank = min(m, n)
    u, v = (np.linalg.qr(rng.normal(size=(k, rank)))[0] for k in (m, n))
    return (u * 10.0 ** np.resize(log_values, rank)) @ v.T


@given(SEEDS, st.sampled_from([(3, 3), (5, 2)]), st.lists(st.floats(-150, 120), min_size=1, max_size=3))
def test_spectral_norm_is_above_the_fifty_digit_one(seed, shape, log_values):
    a = with_spectrum(seed, *shape, log_values)
    with mpmath.workdps(50):
        truth = max(mpmath.svd_r(mpmath.matrix(a.tolist()), compute_uv=False))
        upper = linalg.spectral_norm(a)
        assert mpmath.mpf(float(upper)) >= truth
        assert mpmath.mpf(float(upper)) <= truth * (1 + mpmath.mpf(10) ** -12)


@pytest.mark.parametrize("scale", [5e-324, 1e-170, 1.0, 1e170, 1e307])
def test_the_frobenius_norm_survives_squares_that_underflow_or_overflow(scale):
    np.testing.assert_allclose(linalg.frobenius(np.array([[3.0, 0.0], [-4.0, 0.0]]) * scale), 5 * scale)
    assert linalg.frobenius(np.zeros((2, 2))) == linalg.frobenius(np.zeros((0, 2))) == 0


def test_spectral_norm_of_zero_and_empty():
    assert linalg.spectral_norm(np.zeros((2, 3))) == 0
    assert linalg.spectral_norm(np.zeros((0, 3))) == 0


@given(SEEDS)
def test_power_iteration_is_below_and_of_another_type(seed):
    a = np.random.default_rng(seed).normal(size=(6, 4))
    low, high = linalg.power_iteration(a, steps=3), linalg.spectral_norm(a)
    assert isinstance(low, linalg.Lower)
    assert isinstance(high, linalg.Upper)
    assert low <= high


def test_exact_norms():
    assert linalg.spectral_norm(linalg.exact([[3, 0], [0, -4]])) == 4
    assert linalg.spectral_norm(linalg.exact([[1, 1], [0, 1]])) == sympy.sqrt((3 + sympy.sqrt(5)) / 2)
    assert linalg.spectral_norm(linalg.exact([[3, 4]])) == 5
    assert linalg.norm(linalg.exact([["3/2", 2]]))[0] == Fraction(5, 2)
    assert linalg.norm(linalg.exact([[1, 1]]))[0] == sympy.sqrt(2)


@given(st.lists(st.integers(-5, 5), min_size=9, max_size=9))
def test_exact_and_floating_norms_agree(entries):
    a = np.array(entries).reshape(3, 3)
    exact = linalg.spectral_norm(linalg.exact(a.tolist()))
    np.testing.assert_allclose(float(exact), linalg.spectral_norm(a.astype(float)), rtol=1e-9, atol=1e-12)


def test_signs_of_near_ties_are_exact():
    root = sympy.sqrt(2)
    assert linalg.sign(root * root - 2) == 0
    assert linalg.sign(sympy.sqrt(5 + 2 * sympy.sqrt(6)) - (root + sympy.sqrt(3))) == 0
    assert linalg.sign(root - sympy.Rational(14142135623730950488, 10**19)) == 1
    assert linalg.sign(Fraction(-1, 10**40)) == -1


def test_gamma_refuses_what_float64_cannot_bound():
    assert linalg.gamma(100) < 2e-14
    with pytest.raises(ValueError, match="split the computation"):
        linalg.gamma(10**17)


def test_judging_needs_finite_float64():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        linalg.spectral_norm(np.ones((2, 2), "float32"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        linalg.spectral_norm(np.array([[np.inf]]))
