"""Minima by L-BFGS on charts, and limits for t → 0 of what was found along a path."""

import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.theorems.sensitivity.readaptation import descent, paths

# L-BFGS on charts


def bowl(theta, data):
    H, u = data
    return u @ theta + theta @ H @ theta / 2


def banana(theta, _):
    return (1 - theta[0]) ** 2 + 100 * (theta[1] - theta[0] ** 2) ** 2


def test_descent_finds_the_minimum_on_each_chart():
    rng = np.random.default_rng(1)
    M, u = rng.normal(size=(6, 6)), rng.normal(size=6)
    H, P, start = M @ M.T + np.eye(6), rng.normal(size=(6, 2)), rng.normal(size=6)
    data = jnp.asarray(H), jnp.asarray(u)
    everywhere = -np.linalg.solve(H, u)
    for chart in (descent.plain(start), descent.whitened(start, np.linalg.cholesky(H))):
        end = descent.descend(bowl, chart, np.zeros(6), data, accuracy=0.0)
        np.testing.assert_allclose(end.point, everywhere, atol=1e-7)
    end = descent.descend(bowl, descent.along(start, P), np.zeros(2), data, accuracy=0.0)
    slope = P.T @ (u + H @ start)
    np.testing.assert_allclose(end.point, start - P @ np.linalg.solve(P.T @ H @ P, slope), atol=1e-7)
    assert end.decrement <= 1e-14


def test_descent_needs_few_steps_where_the_hessian_is_the_identity():
    H = np.diag(np.geomspace(1, 1e6, 12))
    data = jnp.asarray(H), jnp.ones(12)
    counts = [
        descent.descend(bowl, chart, np.zeros(12), data, accuracy=1e-9).evaluations
        for chart in (descent.whitened(np.zeros(12), np.sqrt(H)), descent.plain(np.zeros(12)))
    ]
    assert counts[0] <= 3 < counts[1]


def test_descent_goes_through_a_bent_valley_if_it_is_patient():
    start = descent.plain(np.array([-1.2, 1.0]))
    hasty, patient = (
        descent.descend(banana, start, np.zeros(2), (), accuracy=1e-3, patience=n)
        for n in (1, descent.PATIENCE)
    )
    assert patient.value < 1e-3 * 24.2 < hasty.value, (
        "one step may look good by the walls of the valley alone"
    )
    end = descent.descend(banana, start, np.zeros(2), (), accuracy=0.0)
    np.testing.assert_allclose(end.point, [1, 1], atol=1e-6)


# Continuing to t = 0


def test_the_limit_of_a_polynomial_is_its_value():
    t = np.array([0.1, 0.2, 0.4, 0.8])
    end, error, weights = paths.limit(t, 3 + 2 * t - 5 * t**2 + t**3)
    assert end == pytest.approx(3, abs=1e-12)
    assert error > 0
    assert weights.sum() == pytest.approx(1)


def test_a_limit_is_taken_where_noise_and_change_are_small():
    t = np.array([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    values = 7 / (1 + 5 * t) * t**2
    noise = np.full(6, 1e-12)
    noisy = values + noise * np.array([1, -1, 1, -1, 1, -1])
    end, error = paths.at_zero(t, noisy, noise)
    assert abs(end - 7) <= error < 2e-2
    assert abs(noisy[0] / t[0] ** 2 - 7) > 0.9
