"""Theorem 5: data drawn and fitted, against the closed forms and against what wrong formulas say."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.theorems.claims import Outcome, Source
from peftproof.theorems.comparison import Comparison
from peftproof.theorems.marginal import claims_draws
from peftproof.theorems.marginal.instances.draws import Drawn, Interpolated
from peftproof.theorems.marginal.ridgeless import Ridgeless
from peftproof.theorems.marginal.simulation import CHUNK, Problem, simulate, simulate_ridgeless


def normals(key, shape):
    """What the first chunk of draws is made of."""
    keys = jax.random.split(key, (1, CHUNK))[0]
    return np.asarray(jax.vmap(lambda one: jax.random.normal(one, shape, jnp.float64))(keys))


def test_a_drawn_fit_is_the_one_of_lstsq():
    problem, key = Problem.random(6, 3, noise=0.5, bias=1.0, seed=1), jax.random.key(7)
    found, losses = simulate(problem, (12, 14), key, draws=1), []
    for drawn in normals(key, (14, 7)):
        X = (drawn[:, :6] @ np.linalg.cholesky(problem.Sigma).T)[:12]
        y = X @ problem.theta + math.sqrt(0.5) * drawn[:12, 6]
        fits = [B @ np.linalg.lstsq(X @ B, y)[0] - problem.theta for B in (np.eye(6), problem.P)]
        residuals = [np.mean((X @ (fit + problem.theta) - y) ** 2) for fit in fits]
        losses.append([[fit @ problem.Sigma @ fit + 0.5 for fit in fits], residuals])
    risk, training = np.mean(losses, axis=0)
    np.testing.assert_allclose(found.means["risk"][0], risk, rtol=1e-9)
    np.testing.assert_allclose(found.means["training loss"][0], training, rtol=1e-9)
    np.testing.assert_allclose(found.means["gap"][0], risk - training, rtol=1e-9)
    assert found.draws == CHUNK


def test_a_drawn_interpolation_is_the_one_of_pinv():
    theta, key = np.arange(1.0, 25.0), jax.random.key(8)
    found, losses = simulate_ridgeless(theta, 20, 0.5, 12, key, draws=1), []
    for drawn in normals(key, (12, 25)):
        fit = np.linalg.pinv(drawn[:, :20]) @ (drawn[:, :24] @ theta + math.sqrt(0.5) * drawn[:, 24])
        losses.append(np.sum((fit - theta[:20]) ** 2) + np.sum(theta[20:] ** 2) + 0.5)
    assert found.means["risk"][0] == pytest.approx(np.mean(losses), rel=1e-9)


def test_standard_errors_are_the_known_ones_and_other_shapes_agree():
    problem = Problem.random(4, 1, noise=0.5, bias=1.0, seed=2)
    found, N = simulate(problem, (16, 24), jax.random.key(0)), np.array([16, 24])
    for column, curve in enumerate((problem.exact.full, problem.exact.peft)):
        error = np.sqrt(curve.risk_variance(N) / found.draws)
        np.testing.assert_allclose(found.errors["risk"][:, column], error, rtol=0.1)
        assert np.all(abs(found.means["risk"][:, column] - curve.risk(N)) < 5 * error)
    assert np.all(found.means["misfit part"][:, 0] < 1e-20)
    model, theta = Ridgeless(16, 4.0, 1.0), np.full(16, 0.5)
    below = simulate_ridgeless(theta, 16, 1.0, 4, jax.random.key(1))
    for name, mean, variance in (
        ("bias", model.bias(4), model.bias_variance(4)),
        ("noise part", model.noise_part(4), model.noise_variance(4)),
    ):
        error = math.sqrt(variance / below.draws)
        assert below.errors[name][0] == pytest.approx(error, rel=0.1)
        assert abs(below.means[name][0] - mean) < 5 * error


def test_problems_have_the_misspecification_asked_for():
    problem = Problem.random(5, 2, noise=1.0, bias=0.25, seed=4)
    assert problem.exact.bias == pytest.approx(0.25)
    with pytest.raises(ValueError, match="no second moment"):
        simulate(problem, (8,), jax.random.key(0))
    with pytest.raises(ValueError, match="no second moment"):
        simulate_ridgeless(np.ones(9), 9, 1.0, 6, jax.random.key(0))
    with pytest.raises(ValueError, match="draws"):
        simulate(problem, (9,), jax.random.key(0), draws=0)


RIVALS = {
    "T5.R1": (claims_draws._full_risk, 3),
    "T5.R2": (claims_draws._peft_risk, 1),
    "T5.R8": (claims_draws._gaps, 2),
    "T5.R9": (claims_draws._interpolation, 2),
}


@pytest.mark.parametrize("claim", RIVALS)
def test_draws_reject_every_rival_of_every_part_on_its_own(claim):
    instance = Interpolated(1.0, 0.5, 0.5) if claim == "T5.R9" else Drawn(3, 1.0, 0.5)
    rows, count = RIVALS[claim]
    found = rows(instance)
    assert {len(row.rivals) for row in found} == {count}
    for row in found:
        right = Comparison(row.mean, "==", row.formula, standard_error=instance.error(row.variance))
        assert right.worst().outcome is Outcome.HOLDS
        for rival in row.rivals:
            wrong = Comparison(row.mean, "==", rival, standard_error=instance.error(row.variance)).worst()
            assert wrong.failing == np.size(row.mean), "at every sample size"
    starved = replace(instance.simulated, draws=64)
    few = type("Few", (), {"error": lambda _, v: np.sqrt(v / 64), "simulated": starved})()
    verdict = claims_draws._drawn(lambda _: found)(few).worst()
    assert verdict.outcome is Outcome.INCONCLUSIVE, "64 draws tell nothing apart"


def test_moments_are_asked_for():
    assert (
        claims_draws.CLAIMS[0].judge(Drawn(3, 1.0, 0.5, samples=(11, 14)), Source.EXACT).outcome
        is Outcome.ASSUMPTION_VIOLATED
    )


def test_the_formula_is_one_of_gaussian_inputs():
    """Inputs of random length have the same covariance, and a risk that is larger by far."""
    rng, (N, d, draws) = np.random.default_rng(0), (14, 6, 4000)
    lengths = np.sqrt(rng.choice([0.1, 1.9], size=(draws, N, 1)))
    gram = np.einsum("bni,bnj->bij", *[lengths * rng.normal(size=(draws, N, d))] * 2)
    traces = np.trace(np.linalg.inv(gram), axis1=1, axis2=2)
    assert np.mean(traces) - d / (N - d - 1) > 5 * np.std(traces) / math.sqrt(draws)
