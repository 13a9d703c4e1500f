"""The claims of Theorem 4 on small networks, and the head as a convex problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models.disturbances import LabelNoise, Noise
from peftproof.models.finetuning import FineTuning
from peftproof.models.methods import BitFit, Full, Head, LoRA
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.theorems import curvature, sensitivity
from peftproof.theorems.claims import Outcome
from peftproof.theorems.ledger import Ledger
from peftproof.theorems.report import Report
from peftproof.theorems.sensitivity import measured, observed, tables
from peftproof.theorems.sensitivity.instances.gaps import Gap
from peftproof.theorems.sensitivity.readaptation import tangent
from peftproof.theorems.sensitivity.softmax import RidgeSoftmax
from peftproof.theorems.verify import complaint, observed_evidence

RIDGE = 1e-2
SHIFTS = (Noise(0.2), LabelNoise(0.2))


@pytest.fixture(scope="module")
def task(pixels):
    return pixels


@pytest.fixture(scope="module")
def network(smooth):
    return smooth


@pytest.fixture(scope="module")
def split(task):
    return task.new.train


# Networks as instances


def tuned(network, task, method, **changes):
    """A fine-tuning with a small Φ of its own, beside the base network as the full one."""
    made = method.reparameterize(network)
    phi = made.init(jax.random.key(2))
    given = {"seed": 0, "full": network.params} | changes
    return FineTuning(network, task, method, jax.tree.map(lambda leaf: leaf + 0.01, phi), **given)


@pytest.fixture(scope="module")
def tunings(network, task):
    return [tuned(network, task, method) for method in (Full(), Head(), BitFit(), LoRA(1))]


def test_claims_on_networks_are_as_the_ledger_says(tunings, monkeypatch):
    monkeypatch.setattr(observed, "SHIFTS", SHIFTS)
    seen = {}
    for tuning in tunings:
        for claim in sensitivity.CLAIMS:
            if claim.observe and claim.id not in ("T4.f", "T4.g"):
                evidence = observed_evidence(claim, tuning)
                if evidence is not None:
                    assert complaint(claim, evidence) == "", (claim.id, tuning.method.name, evidence)
                    seen.setdefault(claim.id, []).append(evidence)
    must_fail = ("T4.8a", "T4.8b", "T4.45", "T4.57", "T4.58", "T4.66", "T4.d", "T4.e")
    for claim in must_fail:
        assert any(e.outcome is Outcome.FAILS for e in seen[claim]), claim
    for claim in (
        "T4.R3",
        "T4.R10",
        "T4.R12",
        "T4.R13",
        "T4.R14",
        "T4.R15",
        "T4.R16",
        "T4.R25",
        "T4.R33",
        "T4.R34",
    ):
        assert any(e.outcome is Outcome.HOLDS for e in seen[claim]), claim
    bent = [e for e in seen["T4.50"] if e.outcome is Outcome.ASSUMPTION_VIOLATED]
    assert bent
    assert all(e.failing for e in bent), "for LoRA the printed Hessian is another matrix"
    report = Report(Ledger(sensitivity.CLAIMS), evidence=[e for every in seen.values() for e in every])
    for table in (tables.readaptation_table, tables.forms_table, tables.own_table):
        lines = table(report)
        assert len(lines) > 6
        assert max(map(len, lines)) <= 79
    report.to_json()


def test_an_indefinite_hessian_violates_an_assumption_and_shows_its_eigenvalue(network, task, monkeypatch):
    monkeypatch.setattr(observed, "RIDGE", 1e-6)
    monkeypatch.setattr(observed, "SHIFTS", SHIFTS[:1])
    saddle = jax.tree.map(jnp.zeros_like, network.params)
    # At θ = 0 all hidden units are alike: a saddle, at which descent stays.
    still = network.with_params(saddle)
    tuning = tuned(still, task, BitFit())
    asked = [
        c for c in sensitivity.CLAIMS if c.observe in (observed.readapted, observed.ended, observed.tilted)
    ]
    outcomes = set()
    for claim in asked:
        evidence = observed_evidence(claim, tuning)
        assert not evidence.error, (claim.id, evidence.error)
        if any("H" in check.name and "0" in check.name for check in evidence.assumptions):
            assert evidence.outcome is Outcome.ASSUMPTION_VIOLATED, claim.id
            (shown,) = {
                str(c.value) for c in evidence.assumptions if not c.met and "eigenvalue" in str(c.value)
            }
            assert "smallest eigenvalue in [-" in shown
            outcomes.add(claim.id)
    assert {"T4.R33", "T4.R3", "T4.58"} <= outcomes


def test_other_networks_give_no_instances(network, task):
    other = tuned(network, task, BitFit(), seed=1)
    relu = mlp(MLPConfig((9, 5, 3), activation="relu"), jax.random.key(0)).astype("float64")
    for tuning in (other, tuned(relu, task, BitFit())):
        for observe in (observed.readapted, observed.tilted, observed.own_readapted, observed.rises):
            assert list(observe(tuning)) == []


def test_gauss_newton_by_products_agrees_with_the_dense_matrix(network, task, split):
    small = measured.gauss_newton_quadratic(tuned(network, task, BitFit()), SHIFTS[1], RIDGE, None)
    given = {"params": network.params, "weight_decay": RIDGE}
    H, shifted = (curvature.gauss_newton(network, one, **given) for one in (split, SHIFTS[1](split, 0)))
    P = tangent.differential(BitFit().reparameterize(network))
    whole = Gap(H.matrix(), P, H.gradient, shifted.gradient - H.gradient)
    assert small.definiteness.met
    assert not small.stationarity.met
    names = (
        "tilt_full",
        "tilt_answered",
        "least_full",
        "least_peft",
        "residual",
        "mixed_full",
        "slope_cubed",
    )
    for name in (*names, "disturbance_full", "shifted_square", "peak", "printed_gap", "own_share"):
        assert getattr(small, name) == pytest.approx(getattr(whole, name), rel=1e-6), name


# The head as a convex problem


def test_softmax_regression_has_its_derivatives_and_curvature_in_bounds():
    rng = np.random.default_rng(4)
    problem = RidgeSoftmax(
        rng.normal(size=(30, 4)), rng.integers(0, 3, 30), rng.normal(size=(4, 3)), 0.01, True
    )
    W, h = rng.normal(size=(4, 3)), 1e-5
    units = [e.reshape(4, 3) for e in np.eye(12)]
    slopes = [(problem.value(W + h * e) - problem.value(W - h * e)) / (2 * h) for e in units]
    np.testing.assert_allclose(problem.gradient(W).ravel(), slopes, atol=1e-9)
    bends = [(problem.gradient(W + h * e) - problem.gradient(W - h * e)).ravel() / (2 * h) for e in units]
    np.testing.assert_allclose(problem.hessian(W), bends, atol=1e-9)
    values = np.linalg.eigvalsh(problem.hessian(W))
    assert problem.mu * (1 - 1e-9) <= values[0]
    assert values[-1] <= problem.beta


def test_minima_of_the_head_are_ordered_and_bounded_by_distance(network, split):
    problem = RidgeSoftmax.of(network, SHIFTS[0](split, 0), RIDGE)
    W, off = problem.least()
    update, least = W - problem.start, problem.value(W)
    assert off < 1e-20
    assert np.linalg.norm(problem.gradient(W)) < 1e-12
    for basis in (problem.biases(), problem.frozen(2)):
        np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
        there, _ = problem.least(basis)
        left = update.ravel() - basis @ (basis.T @ update.ravel())
        gap = problem.value(there) - least
        assert problem.mu / 2 * (left @ left) <= gap <= problem.beta / 2 * (left @ left)
    low = problem.low_rank(update, 1) - problem.start
    assert np.linalg.matrix_rank(low[:-1], tol=1e-10) == 1
    assert not low[-1].any()
    tail = np.sum(np.linalg.svd(update[:-1], compute_uv=False)[1:] ** 2)
    assert problem.value(problem.start + low) - least >= problem.mu / 2 * tail
