"""Theorem 3, its quantities: laws of decay, with the error rates of their choice, and intruder dimensions."""

import math
from collections import Counter

import numpy as np
import pytest

from peftproof.theorems.diminishing.decay import Decay, decay_model
from peftproof.theorems.diminishing.intruder import intruders
from peftproof.theorems.diminishing.spectrum import spectrum
from peftproof.theorems.oracles import orthogonal, with_values

# --- decay --------------------------------------------------------------------------------------------------

LAWS = {"exponential": lambda i: -0.2 * i, "power": lambda i: -1.2 * np.log(i)}


def outcomes(draw, seeds=200):
    return Counter(str(decay_model(draw(np.random.default_rng(seed))).outcome) for seed in range(seeds))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [8, 16, 40])
def test_exact_laws_are_recognised_and_their_rates_recovered(law, n):
    found = decay_model(np.exp(LAWS[law](np.arange(1.0, n + 1))))
    assert found.outcome == law
    rate = {"exponential": 0.2, "power": 1.2}[law]
    low, high = found.accepted.interval
    assert low <= rate <= high
    assert high - low < 1e-8
    assert found.accepted.misfit == pytest.approx(1)


@pytest.mark.parametrize(("law", "rate"), [("exponential", 0.9), ("power", 4.0)])
def test_laws_that_fall_to_rounding_level_are_recognised_in_a_matrix(law, rate):
    i = np.arange(1.0, 33)
    values = np.exp(-rate * i) if law == "exponential" else i**-rate
    found = decay_model(spectrum(with_values(np.random.default_rng(2), values, 64, 32)))
    assert found.outcome == law
    low, high = found.accepted.interval
    assert low <= rate <= high
    assert found.dropped == sum(values <= 1e4 * 64 * np.finfo(float).eps * values[0])


@pytest.mark.parametrize("law", LAWS)
def test_noisy_laws_are_recognised_with_few_errors_and_true_rates_covered(law):
    """200 seeds, factors of 3 %: at most 5 % other answers, never the wrong law, 90 % coverage."""
    found, covered, rate = Counter(), 0, {"exponential": 0.2, "power": 1.2}[law]
    for seed in range(200):
        noise = 0.03 * np.random.default_rng(seed).normal(size=24)
        one = decay_model(np.exp(LAWS[law](np.arange(1.0, 25)) + noise))
        found[str(one.outcome)] += 1
        low, high = getattr(one, law).interval
        covered += low <= rate <= high
    assert found[law] >= 190, found
    assert sum(found[other] for other in LAWS if other != law) == 0
    assert covered >= 180, covered


def test_intervals_allow_for_neighbours_that_deviate_together():
    """Factors of 10 %, as far as neighbours are apart: at least 90 % of 150 seeds; Student's covers 83 %."""
    covered = 0
    for seed in range(150):
        noise = 0.1 * np.random.default_rng(seed).normal(size=32)
        low, high = decay_model(np.exp(-0.1 * np.arange(32) + noise)).exponential.interval
        covered += low <= 0.1 <= high
    assert covered >= 135, covered


@pytest.mark.parametrize(("m", "n"), [(64, 32), (128, 64), (40, 40)])
def test_noise_decays_in_neither_way(m, n):
    """Singular values of Gaussian matrices, at least 97 % of 60 seeds: neither; never a law."""
    found = outcomes(lambda rng: np.linalg.svd(rng.normal(size=(m, n)), compute_uv=False), 60)
    assert found["neither"] >= 58, found
    assert found["exponential"] + found["power"] == 0


def test_ten_values_of_noise_are_too_few_to_tell():
    """A line is close to any ten smooth values: at most 5 % of 200 seeds are taken for a law."""
    found = outcomes(lambda rng: np.linalg.svd(rng.normal(size=(64, 10)), compute_uv=False))
    assert found["exponential"] + found["power"] <= 10, found


def test_flat_spectra_do_not_decay():
    assert decay_model(np.ones(20)).outcome is Decay.NEITHER
    assert decay_model(spectrum(orthogonal(np.random.default_rng(0), 30, 20))).outcome is Decay.NEITHER
    found = outcomes(lambda rng: np.exp(0.05 * rng.normal(size=32)))
    assert found["exponential"] + found["power"] == 0, found


def test_little_evidence_is_undecided():
    assert decay_model(np.exp(-np.arange(5.0))).outcome is Decay.UNDECIDED
    assert decay_model(np.zeros(20)).outcome is Decay.UNDECIDED
    three = spectrum(with_values(np.random.default_rng(1), np.array([3.0, 2.0, 1.0]), 30, 20))
    assert decay_model(three).used == 3, "what is at rounding level is no value"
    i = np.arange(1.0, 13)
    j = np.arange(1.0, 11)
    between = decay_model(np.exp(-0.1 * j - 0.4 * np.log(j) + 0.1 * np.random.default_rng(2).normal(size=10)))
    assert between.outcome is Decay.UNDECIDED
    assert "likelihood ratio" in between.reason
    noisy = np.exp(-0.2 * i + 0.02 * np.random.default_rng(3).normal(size=12))
    clear = decay_model(noisy)
    assert clear.outcome is Decay.EXPONENTIAL
    assert decay_model(noisy, evidence=math.exp(2 * clear.log_evidence)).outcome is Decay.UNDECIDED


def test_a_law_with_a_floor_of_noise_is_no_law_and_the_closer_one_is_named():
    rng = np.random.default_rng(5)
    found = decay_model(
        spectrum(with_values(rng, np.exp(-0.4 * np.arange(32)), 64, 32) + 1e-3 * rng.normal(size=(64, 32)))
    )
    assert found.outcome is Decay.NEITHER
    assert found.accepted is None
    assert found.closer.law in (Decay.EXPONENTIAL, Decay.POWER)
    assert str(found.closer.law) in found.reason


# --- intruder dimensions ------------------------------------------------------------------------------------


def test_a_new_strong_direction_is_the_one_intruder():
    rng = np.random.default_rng(6)
    base = with_values(rng, np.linspace(3, 1, 20), 40, 30)  # 10 output directions are unused
    unused = np.linalg.svd(base)[2][-1]
    tuned = base + 10 * np.outer(rng.normal(size=40) / np.sqrt(40), unused)
    found = intruders({"w": base}, {"w": tuned}, tau=0.5)["w"]
    assert found.indices == (0,)
    assert found.similarities[0] < 0.2
    assert intruders(base, 2 * base)["update"].count == 0
    scaled = intruders(base.T, tuned.T, side="input")["update"]
    np.testing.assert_allclose(scaled.similarities, found.similarities, atol=1e-12)


def test_singular_values_that_are_not_simple_count_by_their_space():
    rng = np.random.default_rng(7)
    base = with_values(rng, np.array([5.0, 2, 2, 2, 2, 2, 1]), 12, 9)
    u, s, vt = np.linalg.svd(base, full_matrices=False)
    turn = orthogonal(rng, 5, 5)
    similar = (u[:, 1:6] @ turn * (2 + 0.1 * np.arange(5)[::-1])) @ (vt[1:6].T @ turn).T
    tuned = (u[:, :1] * s[:1]) @ vt[:1] + similar + (u[:, 6:7] * s[6:7]) @ vt[6:7]
    plain = np.abs(np.linalg.svd(tuned, full_matrices=False)[2][:6] @ vt[:7].T).max(axis=1)
    assert (plain < 0.9).any(), "single vectors of the base are an accident here"
    found = intruders(base, tuned, top=6, tau=0.9)["update"]
    assert found.count == 0
    assert found.grouped == 0
    back = intruders(tuned, base, top=6, tau=0.5)["update"]
    assert back.grouped == 5
    assert back.count == 0


def test_a_group_has_as_many_intruders_as_new_directions():
    base = np.diag([4.0, 3.0, 0, 0, 0])
    tuned = np.diag([4.0, 3.0, 3.0, 3.0, 0])
    found = intruders(base, tuned, top=2)["update"]
    assert len(found.similarities) == 4, "a group is looked at as a whole"
    assert found.count == 2
    assert intruders(base, 0 * tuned)["update"].count == 0
