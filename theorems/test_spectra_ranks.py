"""Theorem 3, its quantities: the truncation that is best for the loss, and recommended ranks."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftproof.theorems.diminishing.recommend import recommend_rank
from peftproof.theorems.diminishing.spectrum import LowRank, Spectrum
from peftproof.theorems.diminishing.whitened import (
    layer_loss,
    second_moment,
    whitened_spectrum,
    whitened_truncation,
)
from peftproof.theorems.linalg import exact
from peftproof.theorems.oracles import descended, truncated, with_values

# --- whitening ----------------------------------------------------------------------------------------------


def test_truncation_in_the_frobenius_norm_costs_25_times_the_least_loss():
    update, moment = np.diag([2.0, 1.0]), np.diag([1.0, 100.0])
    best = whitened_truncation(update, moment, 1)
    assert best.loss == pytest.approx(4, rel=1e-14)
    assert best.tail == pytest.approx(4, rel=1e-14)
    np.testing.assert_allclose(best.update, np.diag([0.0, 1.0]), atol=1e-14)
    assert layer_loss(truncated(update, 1), update, moment) == pytest.approx(100, rel=1e-14)
    plain, other = exact([[2, 0], [0, 0]]), exact([[0, 0], [0, 1]])
    delta, sigma = exact([[2, 0], [0, 1]]), exact([[1, 0], [0, 100]])
    assert [layer_loss(D, delta, sigma) for D in (plain, other)] == [100, 4]


@pytest.mark.parametrize("samples", [40, 3])
def test_nothing_found_by_descent_beats_the_whitened_optimum(samples):
    rng = np.random.default_rng(8)
    update, x = rng.normal(size=(5, 4)), rng.normal(size=(samples, 5)) * np.array([1, 5, 0.2, 1, 2])
    moment = second_moment(x)
    for rank in (1, 2):
        best = whitened_truncation(update, moment, rank)
        found = descended(x / np.sqrt(samples), update, rank)
        assert best.tail <= found * (1 + 1e-9)
        assert best.tail >= found * (1 - 1e-5)
        assert best.loss == pytest.approx(best.tail, rel=1e-9)
        assert ((x @ (best.update - update)) ** 2).sum() / samples == pytest.approx(best.tail, rel=1e-9)
        assert np.linalg.matrix_rank(best.update) <= rank
        assert best.tail < layer_loss(truncated(update, rank), update, moment) * 0.99
        assert best.tail == pytest.approx(whitened_spectrum(update, moment).tail(rank))
        assert best.cut == max(0, 5 - samples)
        assert best.unique == (samples >= 5)


def test_white_inputs_give_the_plain_truncation_and_ties_are_not_unique():
    update = np.random.default_rng(9).normal(size=(5, 4))
    best = whitened_truncation(update, np.eye(5), 2)
    np.testing.assert_allclose(best.update, truncated(update, 2), atol=1e-13)
    assert not whitened_truncation(np.eye(3), np.eye(3), 1).unique
    assert whitened_truncation(np.eye(3), np.eye(3), 3).unique
    assert whitened_truncation(np.eye(3), np.eye(3), 0).unique
    assert whitened_truncation(np.outer(np.ones(3), np.ones(2)), np.eye(3), 2).unique, "the update itself"
    swapped = whitened_truncation(np.diag([2.0, 1.0]), np.diag([1.0, 4.0]), 1)
    assert not swapped.unique, "whitening made a tie"
    factors = LowRank(update[:, :2], update[:2])
    dense = whitened_spectrum(factors.A @ factors.B, np.diag([1.0, 2, 3, 4, 5]))
    thin = whitened_spectrum(factors, np.diag([1.0, 2, 3, 4, 5]))
    np.testing.assert_allclose(thin.values, dense.values[:2], rtol=1e-12)


# --- recommended ranks --------------------------------------------------------------------------------------


def cheapest_by_brute_force(found, limit):
    """The least parameters over all assignments of ranks."""
    everything = itertools.product(*(range(len(one.values) + 1) for one in found.values()))
    return min(
        sum(rank * sum(one.shape) for rank, one in zip(ranks, found.values(), strict=True))
        for ranks in everything
        if sum(one.tail(rank) for rank, one in zip(ranks, found.values(), strict=True)) <= limit
    )


@st.composite
def networks(draw):
    """A few layers with tied, zero and steep spectra."""
    layers = {}
    for index in range(draw(st.integers(1, 3))):
        m, n = draw(st.integers(1, 9)), draw(st.integers(1, 5))
        values = draw(
            st.lists(st.sampled_from([0.0, 0.1, 1.0, 1.0, 2.0, 3.5]), min_size=0, max_size=min(m, n, 4))
        )
        layers[f"w{index}"] = Spectrum(np.sort(np.array(values))[::-1], (m, n))
    return layers


@given(layers=networks(), share=st.sampled_from([0.1, 0.5, 0.75, 0.9, 0.99, 1.0]))
def test_recommended_ranks_keep_the_share_and_the_certificate_is_right(layers, share):
    found = recommend_rank(layers, share=share)
    energy = sum(one.energy for one in layers.values())
    for way in (found.each, found.uniform, found.cheapest):
        assert way.tail <= (1 - share) * energy + 1e-12 * energy
        assert way.share >= share - 1e-12
        assert way.parameters == sum(r * sum(layers[name].shape) for name, r in way.ranks.items())
    for name, rank in found.each.ranks.items():
        assert layers[name].share(rank) >= share - 1e-12
        assert rank == 0 or layers[name].share(rank - 1) < share
    top = max(found.uniform.ranks.values())
    assert top == 0 or sum(one.tail(top - 1) for one in layers.values()) > (1 - share) * energy
    best = cheapest_by_brute_force(layers, (1 - share + 1e-13) * energy)
    assert found.least_parameters <= best <= found.cheapest.parameters
    assert found.gap < max(sum(one.shape) for one in layers.values())
    if len({sum(one.shape) for one in layers.values()}) == 1:
        assert found.gap == 0, "with equal costs the greedy way is optimal"


def test_the_greedy_way_may_miss_the_optimum_and_says_so():
    layers = {"a": Spectrum(np.array([3.0, 1.0]), (7, 2)), "b": Spectrum(np.array([3.0, 2.0]), (2, 8))}
    found = recommend_rank(layers, share=0.8)
    assert found.least_parameters == 20
    assert cheapest_by_brute_force(layers, 0.2 * 23) == 28
    assert found.cheapest.parameters == 29
    assert found.gap == 9


def test_cheap_ranks_are_bought_first_and_superfluous_ones_given_back():
    wide, thin = Spectrum(np.array([3.2]), (60, 40)), Spectrum(np.array([3.0, 3.0]), (5, 5))
    assert recommend_rank({"wide": wide, "thin": thin}, share=0.63).cheapest.ranks == {"wide": 0, "thin": 2}
    wide, thin = Spectrum(np.array([10.0]), (60, 40)), Spectrum(np.array([3.3]), (5, 5))
    found = recommend_rank({"wide": wide, "thin": thin}, share=0.85)
    assert found.cheapest.ranks == {"wide": 1, "thin": 0}, "thin, bought first, is superfluous"
    assert found.gap == 0


@pytest.mark.parametrize("norm", [0.0, 0.7])
def test_a_stated_loss_is_kept_by_every_quadratic_that_meets_the_hypotheses(norm):
    rng, beta, eps = np.random.default_rng(10), 3.0, 0.05
    update = {"a": rng.normal(size=(6, 4)) * 0.3, "b": with_values(rng, np.exp(-1.0 * np.arange(4)), 8, 5)}
    found = recommend_rank(update, loss=eps, smoothness=beta, gradient_norm=norm)
    d = sum(leaf.size for leaf in update.values())
    worst = 0.0
    for way in (found.each, found.uniform, found.cheapest):
        cut = np.concatenate([(truncated(update[n], r) - update[n]).ravel() for n, r in way.ranks.items()])
        gradient = norm * cut / max(np.linalg.norm(cut), 1e-300)  # the worst direction
        for H in (beta * np.eye(d), beta * np.diag(rng.uniform(-1, 1, d))):
            rise = gradient @ cut + cut @ H @ cut / 2
            assert rise <= eps * (1 + 1e-12)
            worst = max(worst, rise)
    assert worst > 0.3 * eps, "a bound that is never approached would hide a wrong constant"
    assert found.loss == eps
    one = recommend_rank(
        np.diag([1.0, 0.5]), loss=0.125 * beta + 0.5 * norm, smoothness=beta, gradient_norm=norm
    )
    assert (
        recommend_rank(
            np.diag([1.0, 0.5]), loss=0.124 * beta + 0.5 * norm, smoothness=beta, gradient_norm=norm
        ).each.ranks["update"]
        == 2
    )
    assert one.loss == 0.125 * beta + 0.5 * norm


def test_a_gradient_gives_ranks_of_the_first_step_and_says_that_it_is_an_estimate():
    rng, beta = np.random.default_rng(11), 2.0
    G = with_values(rng, np.exp(-0.5 * np.arange(6)), 10, 6)
    found = recommend_rank(gradient={"w": G}, share=0.8)
    part = truncated(G, found.each.ranks["w"])
    full, low = ((eta := 1 / beta) * (G * D).sum() - beta / 2 * eta**2 * (D**2).sum() for D in (G, part))
    assert low >= 0.8 * full
    assert "first step" in found.estimated


def test_second_moments_are_of_the_outputs():
    rng = np.random.default_rng(12)
    update, x = rng.normal(size=(6, 4)), rng.normal(size=(50, 6)) * np.array([9, 1, 1, 1, 1, 1])
    found = recommend_rank(update, share=0.7, second_moments=second_moment(x))
    rank = found.each.ranks["update"]
    best = whitened_truncation(update, second_moment(x), rank)
    outputs = ((x @ update) ** 2).sum() / 50
    assert best.loss <= 0.3 * outputs
    assert rank < recommend_rank(update, share=0.7).each.ranks["update"]


def test_what_is_shown_is_short_and_names_both_kinds_of_statement():
    rng = np.random.default_rng(13)
    update = {f"layers/{k}/kernel": rng.normal(size=(32, 16)) for k in range(3)}
    for found in (
        recommend_rank(update),
        recommend_rank(update, loss=0.1, smoothness=2.0, gradient_norm=1e-3),
        recommend_rank(gradient=update),
        recommend_rank({k: 0 * v for k, v in update.items()}),
    ):
        lines = repr(found).splitlines()
        assert max(map(len, lines)) <= 79
        assert any(line.startswith("guaranteed:") for line in lines)
        assert any(line.startswith("estimated:") for line in lines)
        assert len(found.records) == 3
