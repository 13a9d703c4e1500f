"""Re-training along a path of losses, against dense oracles on a network of a few dozen parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from peftproof.models import derivatives
from peftproof.models.cache import Cache
from peftproof.models.disturbances import LabelNoise, Noise
from peftproof.models.methods import IA3, BitFit, LoRA, LoRAFA
from peftproof.models.tasks import Split
from peftproof.theorems import sensitivity
from peftproof.theorems.claims import Outcome
from peftproof.theorems.sensitivity.instances.gaps import Gap
from peftproof.theorems.sensitivity.instances.networks import Observed
from peftproof.theorems.sensitivity.instances.readaptations import Readapted
from peftproof.theorems.sensitivity.readaptation import paths, tangent
from peftproof.theorems.sensitivity.readaptation.own_optima import own_optimum
from peftproof.theorems.sensitivity.readaptation.readapt import readapt
from peftproof.theorems.sensitivity.readaptation.stationary import stationary
from peftproof.theorems.sensitivity.softmax import RidgeSoftmax

RIDGE = 1e-2
SHIFTS = (Noise(0.2), LabelNoise(0.2))
METHODS = (BitFit(), LoRAFA(2), IA3())
CLAIMS = {claim.id: claim for claim in sensitivity.CLAIMS}


@pytest.fixture(scope="module")
def task(pixels):
    return pixels


@pytest.fixture(scope="module")
def network(smooth):
    return smooth


@pytest.fixture(scope="module")
def split(task):
    return task.new.train


@pytest.fixture(scope="module")
def rest(network, split):
    return stationary(network, split, ridge=RIDGE)


@pytest.fixture(scope="module")
def found(network, task):
    return readapt(network, task, SHIFTS, METHODS, ridge=RIDGE)


class Dense:
    """F_t, its gradient and Hessian, by differentiating what its definition says."""

    def __init__(self, network, split, ridge=RIDGE, other=None):
        start, unravel = ravel_pytree(network.params)

        def mean(theta, data):
            x, y = data
            logs = jax.nn.log_softmax(network.apply(unravel(theta), x))
            return -jnp.mean(logs[jnp.arange(y.size), y])

        def objective(theta, t, first, second):
            both = (1 - t) * mean(theta, first) + t * mean(theta, second)
            return both + ridge / 2 * jnp.sum((theta - start) ** 2)

        data = [(jnp.asarray(s.x), jnp.asarray(s.y)) for s in (split, other or split)]
        value, slope, bend = (jax.jit(f) for f in (objective, jax.grad(objective), jax.hessian(objective)))
        self.value = lambda theta, t=0.0: float(value(jnp.asarray(theta), t, *data))
        self.gradient = lambda theta, t=0.0: np.asarray(slope(jnp.asarray(theta), t, *data))
        self.hessian = lambda theta, t=0.0: np.asarray(bend(jnp.asarray(theta), t, *data))

    def least(self, theta, t, basis):
        """Newton's method on theta + range of the basis, damped; for minima that are near."""
        for _ in range(40):
            H, g = basis.T @ self.hessian(theta, t) @ basis, basis.T @ self.gradient(theta, t)
            values, vectors = np.linalg.eigh(H)
            step = basis @ (vectors @ ((vectors.T @ g) / np.maximum(np.abs(values), 1e-6)))
            length = 1.0
            while self.value(theta - length * step, t) > self.value(theta, t) and length > 1e-12:
                length /= 2
            theta = theta - length * step
        return self.value(theta, t)


@pytest.fixture(scope="module")
def dense(network, split):
    return Dense(network, split, other=SHIFTS[1](split, 0))


def directions(method, network, theta):
    _, unravel = ravel_pytree(network.params)
    return tangent.differential(method.reparameterize(network.with_params(unravel(jnp.asarray(theta)))))


# The stationary point


def test_full_fine_tuning_comes_to_rest_and_its_least_eigenvalue_is_enclosed(rest, dense):
    assert np.linalg.norm(dense.gradient(rest.theta)) < 1e-13
    assert rest.stationarity.met
    assert rest.definiteness.met
    least = np.linalg.eigvalsh(dense.hessian(rest.theta))[0]
    assert rest.moved < 1e-6
    room = 100 * rest.moved  # what a third derivative can make of it
    assert rest.lower - room <= least <= rest.upper + room
    assert rest.value == pytest.approx(dense.value(rest.theta), rel=1e-13)


def test_stopping_early_is_no_rest(network, split):
    early = stationary(network, split, ridge=RIDGE, accuracy=1e-2)
    assert not early.stationarity.met
    assert early.decrement > 1e-8


# Re-training along t, and what was predicted of it


def oracle(dense, theta, P):
    """The residual gap per t² by inverses, and everything it is made of."""
    u = dense.gradient(theta, 1.0) - dense.gradient(theta, 0.0)
    inverse = np.linalg.inv(dense.hessian(theta))
    answers = P @ np.linalg.inv(P.T @ dense.hessian(theta) @ P) @ P.T
    along = P @ np.linalg.lstsq(P, u, rcond=None)[0]
    return u, inverse, answers, along


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_prediction_and_forms_agree_with_dense_inverses(method, found, rest, dense, network):
    one = found[method.name, "label-noise-0.2"]
    P = directions(method, network, rest.theta)
    u, inverse, answers, along = oracle(dense, rest.theta, P)
    assert one.k == P.shape[1]
    assert one.predicted == pytest.approx(u @ (inverse - answers) @ u / 2, rel=1e-6)
    assert one.full.quadratic == pytest.approx(u @ inverse @ u / 2, rel=1e-6)
    assert one.peft.quadratic == pytest.approx(u @ answers @ u / 2, rel=1e-6)
    across, forms = u - along, one.forms
    assert forms.parallel_full == pytest.approx(along @ inverse @ along, rel=1e-6)
    assert forms.parallel_restricted == pytest.approx(along @ answers @ along, rel=1e-6)
    assert forms.mixed == pytest.approx(along @ inverse @ across, rel=1e-6, abs=1e-6 * one.predicted)
    assert forms.repaired == pytest.approx(one.predicted, rel=1e-8)
    assert forms.reversal > 1 > forms.printed / one.predicted


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_the_small_quadratic_has_the_numbers_of_the_whole_one(method, found, rest, dense, network):
    one = found[method.name, "label-noise-0.2"]
    P = directions(method, network, rest.theta)
    u = dense.gradient(rest.theta, 1.0) - dense.gradient(rest.theta, 0.0)
    whole = Gap(dense.hessian(rest.theta), P, 0 * u, u)
    small = Observed.of_network(one.reduced, rest.definiteness, rest.stationarity, "")
    assert small.d <= P.shape[1] + 4 < whole.d == one.reduced.of
    names = (
        "tilt_full",
        "tilt_answered",
        "least_full",
        "least_peft",
        "residual",
        "parallel_full",
        "mixed_full",
    )
    for name in (*names, "orthogonal_full", "parallel_restricted", "damage_full", "damage_peft", "dual"):
        assert getattr(small, name) == pytest.approx(getattr(whole, name), rel=1e-6), name


def test_re_trained_minima_are_those_of_newtons_method(found, rest, dense, network):
    one, t = found["bitfit", "label-noise-0.2"], 0.01
    at = one.shown(t)
    base = dense.value(rest.theta, t)
    P = directions(BitFit(), network, rest.theta)
    full, peft = (dense.least(rest.theta, t, B) - base for B in (np.eye(len(rest.theta)), P))
    assert one.full.base[at] == pytest.approx(base, rel=1e-12)
    assert one.full.change[at] == pytest.approx(full, rel=1e-5)
    assert one.peft.change[at] == pytest.approx(peft, rel=1e-5)
    assert one.full.change[at] - full <= 10 * one.full.decrement[at] + 1e-12


def test_gaps_tend_to_the_prediction_with_order_one(found):
    for one in found:
        limit, error = one.limit
        assert abs(limit - one.predicted) <= error + one.error
        assert error < 1e-4 * one.predicted
        assert one.order == pytest.approx(1, abs=0.25)
        assert np.all(one.gap > 0)
        assert 0 < one.valid_until <= 1
        below = one.t <= one.valid_until
        sharp = one.noise < 1e-3 * one.t**2 * one.predicted
        assert np.all(np.abs(one.ratio - 1)[below & sharp] <= 0.1)


def test_a_limit_that_is_off_by_its_own_size_is_no_agreement(found, rest):
    one = dataclasses.replace(found["bitfit", "label-noise-0.2"], error=0.0)
    vague = dataclasses.replace(one, error=1.01 * one.predicted)
    assert vague.error < one.full.quadratic
    given = rest.definiteness, rest.stationarity
    outcomes = [CLAIMS["T4.R33"].judge(Readapted((each,), *given)).outcome for each in (one, vague)]
    assert outcomes == [Outcome.HOLDS, Outcome.INCONCLUSIVE]


def test_for_small_t_full_fine_tuning_damages_the_undisturbed_loss_more(found):
    for one in found:
        at = one.shown(1e-3)
        assert one.full.clean[at] > one.peft.clean[at] > 0
        assert one.full.clean[at] == pytest.approx(1e-6 * one.full.quadratic, rel=0.2)


def test_a_lower_point_of_a_method_takes_full_fine_tuning_along(rest, split):
    second = derivatives.examples(SHIFTS[1](split, 0), np.asarray(rest.examples.centre), weight_decay=RIDGE)
    mixture = paths.Mixture(rest.loss, rest.examples, second, (0.5,))
    data = mixture.data(0.5)
    point = rest.theta - 0.1 * mixture.tilt(rest.theta)
    base = paths.value(rest.loss, rest.theta, data)
    end = paths.lowered(mixture, 0.5, point, base)
    assert end.value < min(base, paths.value(rest.loss, point, data))


def test_the_mixture_is_linear_in_t(rest, dense, split):
    second = derivatives.examples(SHIFTS[1](split, 0), np.asarray(rest.examples.centre), weight_decay=RIDGE)
    mixture = paths.Mixture(rest.loss, rest.examples, second, (1.0,))
    for t in (0.0, 0.3, 1.0):
        ends = [dense.value(rest.theta, s) for s in (0.0, 1.0)]
        expected = (1 - t) * ends[0] + t * ends[1]
        assert paths.value(rest.loss, rest.theta, mixture.data(t)) == pytest.approx(expected, rel=1e-12)


# A method at its own optimum


@pytest.fixture(scope="module")
def lora(network, split):
    made = LoRA(1)
    phi = made.reparameterize(network).init(jax.random.key(1))
    return own_optimum(network, split, made, phi, ridge=RIDGE), made


def test_lora_rests_where_its_own_hessian_is_definite_but_for_its_gauge(lora, dense, network):
    rest, method = lora
    made = method.reparameterize(network)
    phi, unravel = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape), made.template))
    assert phi.size == len(rest.phi)
    start = ravel_pytree(network.params)[0]

    def theta(vector):
        return start + ravel_pytree(made.g(unravel(vector)))[0]

    P = np.asarray(jax.jacfwd(theta)(jnp.asarray(rest.phi)))
    gradient = dense.gradient(rest.theta)
    bends = np.asarray(jax.jacfwd(jax.jacfwd(theta))(jnp.asarray(rest.phi)))
    second = np.tensordot(gradient, bends, 1)
    whole = P.T @ dense.hessian(rest.theta) @ P + second
    values = np.linalg.eigvalsh(whole)
    np.testing.assert_allclose(rest.theta, theta(jnp.asarray(rest.phi)), atol=1e-13)
    assert np.linalg.norm(P.T @ gradient) < 1e-12
    assert np.linalg.norm(gradient) > 1e-3
    assert rest.cut == np.sum(values < 1e-9 * values[-1]) == 2
    assert rest.least == pytest.approx(values[2], rel=1e-6)
    np.testing.assert_allclose(
        rest.directions.T @ whole @ rest.directions, np.eye(len(values) - 2), atol=1e-7
    )
    assert rest.off == pytest.approx(np.linalg.norm(second) / np.linalg.norm(whole), rel=1e-6)
    u = np.random.default_rng(0).normal(size=len(start))
    w = rest.coordinates().tilt(u)
    assert w @ w == pytest.approx((P.T @ u) @ np.linalg.pinv(whole, rcond=1e-9) @ (P.T @ u), rel=1e-6)


# Keeping, resuming, refusing


def test_an_interrupted_run_goes_on_where_it_was(network, split, tmp_path, monkeypatch):
    calls = []
    follow = paths.follow

    def counted(*given):
        calls.append(1)
        return follow(*given)

    monkeypatch.setattr(paths, "follow", counted)
    given = {"ridge": RIDGE, "t": (1e-4, 1e-3, 1e-2), "cache": Cache(tmp_path)}

    def stop(text):
        if text.startswith("noise") and "ia3" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        readapt(network, split, SHIFTS[:1], METHODS[1:], **given, progress=stop)
    assert len(calls) == 2
    first = readapt(network, split, SHIFTS[:1], METHODS[1:], **given)
    assert len(calls) == 3
    again = readapt(network, split, SHIFTS[:1], METHODS[1:], **given)
    assert len(calls) == 3
    assert again.records == first.records
    readapt(network, split, SHIFTS[:1], METHODS[1:], **{**given, "t": (1e-4, 1e-3, 1e-1)})
    assert len(calls) == 6


def test_objects_answer_by_name_and_keep_to_the_width(found):
    assert len(found) == len(found.records) / 10 == 6
    assert {record["method"] for record in found.records} == {m.name for m in METHODS}
    one = found["ia3", "noise-0.2"]
    assert one.records[-1]["gap"] == one.gap[-1]
    assert max(map(len, found.table((1e-4, 1.0)).splitlines())) <= 79
    assert "noise" in repr(found)
    assert "t → 0" in repr(one)
    with pytest.raises(ValueError, match="needs a method of"):
        found["lora", "noise-0.2"]
    with pytest.raises(ValueError, match="needs one of 1e-06"):
        one.shown(0.5)


def test_what_cannot_be_done_is_refused_with_advice(network, split):
    short = Split(split.x[:10], split.y[:10])
    with pytest.raises(ValueError, match="has no linear map g"):
        readapt(network, short, SHIFTS, ("lora-r1",))
    with pytest.raises(ValueError, match="disturbances: got none, needs at least one"):
        readapt(network, short, [])
    with pytest.raises(ValueError, match="methods: got none, needs at least one"):
        readapt(network, short, SHIFTS, [])
    with pytest.raises(ValueError, match="ascending numbers"):
        readapt(network, short, SHIFTS, METHODS, t=(0.1, 0.01, 1.0))
    with pytest.raises(ValueError, match="ascending numbers"):
        readapt(network, short, SHIFTS, METHODS, t=(0.1, 0.5, 2.0))
    with pytest.raises(ValueError, match="needs a positive number"):
        readapt(network, short, SHIFTS, METHODS, ridge=0.0)
    with pytest.raises(ValueError, match="forms no matrix of this size"):
        stationary(network, short, memory=100)
    with pytest.raises(ValueError, match="start"):
        stationary(network, short, start={"layers": {}})
    with pytest.raises(ValueError, match="no biases"):
        dataclasses.replace(RidgeSoftmax.of(network, short, RIDGE), biased=False).biases()
