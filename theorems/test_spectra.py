"""Theorem 3, its quantities: spectra, critical ranks, decay, intruders, whitening and recommended ranks."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from peftproof.models.methods import LoRA, RsLoRA
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.theorems.diminishing.critical import Exponential, Power, critical_rank
from peftproof.theorems.diminishing.decay import Decay, decay_model
from peftproof.theorems.diminishing.intruder import intruders
from peftproof.theorems.diminishing.recommend import recommend_rank
from peftproof.theorems.diminishing.spectrum import LowRank, Spectrum, lora_factors, spectra, spectrum, tails
from peftproof.theorems.diminishing.whitened import (
    layer_loss,
    second_moment,
    whitened_spectrum,
    whitened_truncation,
)
from peftproof.theorems.linalg import exact


def orthogonal(rng, m, n):
    return np.linalg.qr(rng.normal(size=(m, n)))[0]


def with_values(rng, values, m, n):
    """A matrix with these singular values."""
    s = len(values)
    return (orthogonal(rng, m, s) * values) @ orthogonal(rng, n, s).T


def truncated(matrix, rank):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def descended(weight, update, rank, starts=6):
    """The least ‖weight (A B − update)‖²_F that L-BFGS finds over factors: the naive oracle of a minimum."""
    m, n = update.shape
    rng, found = np.random.default_rng(0), []

    def loss(v):
        A, B = v[: m * rank].reshape(m, rank), v[m * rank :].reshape(rank, n)
        gap = weight @ (A @ B - update)
        slope = 2 * weight.T @ gap
        return (gap**2).sum(), np.concatenate([(slope @ B.T).ravel(), (A.T @ slope).ravel()])

    options = {"maxiter": 5000, "maxfun": 10**5, "ftol": 1e-15, "gtol": 1e-10}
    for _ in range(starts):
        start = rng.normal(size=rank * (m + n))
        found.append(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).fun)
    return min(found)


# --- spectra ------------------------------------------------------------------------------------------------


def test_tail_is_the_squared_distance_to_low_rank_and_nothing_found_is_nearer():
    matrix = np.random.default_rng(0).normal(size=(4, 3))
    found = spectrum(matrix)
    for rank in range(4):
        assert found.tail(rank) == pytest.approx(((matrix - truncated(matrix, rank)) ** 2).sum(), abs=1e-14)
    for rank in (1, 2):
        nearest = descended(np.eye(4), matrix, rank)
        assert found.tail(rank) <= nearest * (1 + 1e-12)
        assert found.tail(rank) >= nearest * (1 - 1e-6)
    assert found.tail(17) == 0
    assert found.energy == pytest.approx((matrix**2).sum())


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (1, 7)])
def test_error_bounds_what_the_decomposition_lost(shape):
    rng = np.random.default_rng(1)
    graded = rng.normal(size=shape) * 10.0 ** -np.arange(shape[1])
    found = spectrum(graded)
    with mpmath.workdps(50):
        true = sorted(mpmath.mpf(v) for v in mpmath.svd_r(mpmath.matrix(graded.tolist()), compute_uv=False))
        true = true[::-1][: min(shape)]
        off = mpmath.sqrt(
            sum((mpmath.mpf(float(v)) - t) ** 2 for v, t in zip(found.values, true, strict=True))
        )
    assert off <= found.error
    assert found.error < 1e-12 * found.values[0], "a bound that is too large proves nothing"


@pytest.mark.parametrize(("m", "n", "r"), [(9, 6, 3), (5, 8, 1), (4, 3, 6)])
def test_factors_have_the_spectrum_of_their_product_which_is_not_formed(m, n, r):
    rng = np.random.default_rng(2)
    A, B = rng.normal(size=(m, r)) * 10.0 ** -np.arange(r), rng.normal(size=(r, n))
    found, dense = spectrum(LowRank(A, B, scale=-0.5)), spectrum(-0.5 * (A @ B))
    s = len(found.values)
    assert s <= min(m, n, r)
    gap = np.sqrt(((found.values - dense.values[:s]) ** 2).sum() + dense.tail(s))
    assert gap <= found.error + dense.error
    assert found.shape == dense.shape
    huge = LowRank(np.ones((200_000, 1)), np.ones((1, 200_000)))
    assert spectrum(huge).values == pytest.approx([200_000.0], rel=1e-12)


def test_ranks_between_one_and_the_rank():
    rng = np.random.default_rng(3)
    flat = spectrum(with_values(rng, np.ones(4), 9, 5))
    assert flat.stable_rank == pytest.approx(4)
    assert flat.effective_rank == pytest.approx(4)
    assert flat.numerical_rank.rank == 4
    one = spectrum(np.outer(rng.normal(size=5), rng.normal(size=4)))
    assert one.stable_rank == pytest.approx(1)
    assert one.effective_rank == pytest.approx(1)
    two = Spectrum(np.array([3.0, 1.0]), (2, 2))
    assert two.stable_rank == pytest.approx(10 / 9)
    assert two.effective_rank == pytest.approx(4 / 3**0.75), "exp of the entropy of (3/4, 1/4)"
    for one in (spectrum(rng.normal(size=(7, 5)) * 3.0 ** -np.arange(5)) for _ in range(20)):
        assert 1 <= one.stable_rank <= one.effective_rank <= 5
    zero = spectrum(np.zeros((3, 2)))
    assert (zero.stable_rank, zero.effective_rank, zero.share(0), zero.numerical_rank.rank) == (0, 0, 1, 0)


def test_layers_have_their_names_whatever_the_container():
    tree = {
        "a": {"kernel": np.ones((3, 2)), "bias": np.ones(2)},
        "b": [np.eye(2), LowRank(np.ones((4, 1)), np.ones((1, 3)))],
    }
    assert list(spectra(tree)) == ["a/kernel", "b/0", "b/1"]
    assert list(spectra(tree, pattern="*kernel")) == ["a/kernel"]
    assert list(spectra(np.eye(2))) == ["update"]
    assert spectra(spectra(tree))["b/1"].values == pytest.approx([math.sqrt(12)])


@pytest.mark.parametrize("method", [LoRA(rank=2, scale=0.5), RsLoRA(rank=2, scale=3.0)])
def test_factors_of_lora_are_found_in_phi(method):
    network = mlp(MLPConfig((6, 8, 4)), jax.random.key(0), jnp.float64)
    made, rng = method.reparameterize(network), np.random.default_rng(4)
    phi = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), made.init(jax.random.key(0)))
    factors = spectra(lora_factors(phi, scale=method.scale_at(2)))
    dense = spectra(made.g(phi))
    assert set(factors) == set(dense)
    for name, one in factors.items():
        np.testing.assert_allclose(one.values, dense[name].values[:2], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spectrum(np.ones(3)), "reshape"),
        (lambda: spectrum(np.ones((2, 2), np.float32)), "float64"),
        (lambda: spectrum(np.array([[np.nan]])), "NaN"),
        (lambda: spectra({"bias": np.ones(3)}), "at least one matrix"),
        (lambda: spectra({"conv": np.ones((3, 3, 2))}), "reshape"),
        (lambda: spectra({"w": np.eye(2)}, pattern="*kernel"), "matches no matrix"),
        (lambda: LowRank(np.ones((3, 2)), np.ones((3, 2))), "pass B first"),
        (lambda: lora_factors({"w": np.eye(2)}), "A and B"),
        (lambda: Spectrum(np.array([1.0, 2.0]), (2, 2)), "descending"),
        (lambda: Spectrum(np.array([2.0, 1.0]), (1, 2)), "at most 1"),
        (lambda: spectrum(np.eye(2)).tail(-1), "rank"),
        (lambda: critical_rank(np.ones(2), 0.0), "eps"),
        (lambda: critical_rank(exact([1, 1]), 0.5), "Fraction"),
        (lambda: critical_rank(np.array([-1.0]), 0.5), "negative"),
        (lambda: Exponential(rate=1.0, ratio=0.5), "exactly one"),
        (lambda: Exponential(rate=-1.0), "rate"),
        (lambda: Power(p=0.5), "above 1/2"),
        (lambda: Power(p=0.6).critical_rank(1e-12), "enlarge eps"),
        (lambda: decay_model(np.ones(9), level=2), "level"),
        (lambda: decay_model(np.ones(9), evidence=1), "evidence"),
        (lambda: intruders(np.eye(2), np.eye(3)), "same shapes"),
        (lambda: intruders(np.eye(2), np.eye(2), tau=0.0), "tau"),
        (lambda: intruders(np.eye(2), np.eye(2), side="left"), "output"),
        (lambda: whitened_truncation(np.ones((3, 2)), np.eye(2), 1), "transpose"),
        (lambda: whitened_truncation(np.ones((2, 3)), np.diag([1.0, -1.0]), 1), "semidefinite"),
        (lambda: whitened_truncation(np.ones((2, 3)), np.array([[1.0, 1.0], [0, 1]]), 1), "symmetric"),
        (recommend_rank, "exactly one"),
        (lambda: recommend_rank(np.eye(2), share=0.5, loss=1.0), "one of them"),
        (lambda: recommend_rank(np.eye(2), share=1.5), "share"),
        (lambda: recommend_rank(np.eye(2), loss=1.0), "smoothness"),
        (lambda: recommend_rank(np.eye(2), smoothness=1.0), "loss="),
        (lambda: recommend_rank(gradient=np.eye(2), loss=1.0, smoothness=1.0), "share="),
        (lambda: recommend_rank({"a": np.eye(2), "b": np.eye(2)}, second_moments=np.eye(2)), "dictionary"),
        (lambda: recommend_rank(spectrum(np.eye(2)), second_moments=np.eye(2)), "vectors"),
    ],
)
def test_errors_say_what_to_do(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- critical rank ------------------------------------------------------------------------------------------

SQUARES = st.lists(st.fractions(0, 3, max_denominator=6), min_size=1, max_size=7).map(
    lambda values: sorted(values, reverse=True)
)


def brute(squares, eps):
    """The definition, read aloud."""
    return next(r for r in range(len(squares) + 1) if sum(squares[r:], Fraction(0)) < eps)


@given(squares=SQUARES, data=st.data())
def test_critical_rank_of_exact_spectra_and_their_ties(squares, data):
    on_tail = [t for t in (sum(squares[r:], Fraction(0)) for r in range(len(squares))) if t > 0]
    eps = data.draw(st.sampled_from([*on_tail, Fraction(1, 7), Fraction(9, 4), Fraction(30)]))
    found = critical_rank(np.array(squares, dtype=object), eps, squared=True)
    assert found.rank == found.most == brute(squares, eps)
    assert found.tie == (eps in on_tail)
    assert found.rank <= sum(square > 0 for square in squares)
    assert found.before is None or found.before >= eps > found.tail


@given(squares=SQUARES, data=st.data())
def test_critical_rank_in_floats_is_the_exact_one_or_says_that_it_is_a_tie(squares, data):
    on_tail = [t for t in tails(np.array(squares, dtype=object)) if t > 0]
    eps = data.draw(st.sampled_from(on_tail) if on_tail else st.just(Fraction(1)))
    values = np.sqrt(np.array(squares, dtype=np.float64))
    found = critical_rank(values, float(eps))
    assert found.least <= brute(squares, eps) <= found.most
    if on_tail:
        assert found.tie
    between = eps * Fraction(9, 10)
    if min(abs(t - between) for t in [*on_tail, Fraction(0)]) > eps / 1000:
        clear = critical_rank(values, float(between))
        assert not clear.tie
        assert clear.rank == brute(squares, between)


def test_an_error_of_the_singular_values_reaches_the_answer():
    loose = Spectrum(np.array([2.0, 1.0]), (2, 2), error=0.1)
    assert not critical_rank(loose, 0.5).tie
    assert critical_rank(loose, 0.9).tie, "σ₂ may be 0.9 as well"
    assert critical_rank(loose, 0.9).rank == 2


def test_equality_is_not_less():
    found = Exponential(ratio=Fraction(1, 2)).critical_rank(Fraction(1, 48))
    assert (found.rank, found.least, found.tail) == (3, 2, Fraction(1, 192))
    assert critical_rank(exact(["1/2", "1/4", "1/8"]), Fraction(5, 64)).tie, "1/16 + 1/64"
    rounded = Exponential(ratio=0.5).critical_rank(1 / 48)
    assert (rounded.least, rounded.most) == (2, 3)


@given(
    ratio=st.fractions(Fraction(1, 20), Fraction(19, 20), max_denominator=20),
    C=st.fractions(Fraction(1, 9), 9, max_denominator=9),
    R=st.one_of(st.none(), st.integers(1, 40)),
    at=st.integers(0, 12),
    factor=st.sampled_from(
        [Fraction(1), Fraction(1), Fraction(999, 1000), Fraction(1001, 1000), Fraction(2)]
    ),
)
def test_closed_form_of_exponential_spectra(ratio, C, R, at, factor):
    law = Exponential(C, ratio=ratio, R=R)
    eps = factor * law.tail(min(at, R - 1) if R else at)
    found = law.critical_rank(eps)
    if R is not None:
        squares = [value**2 for value in law.values(R)]
        assert [law.tail(r) for r in range(R + 1)] == list(tails(np.array(squares, dtype=object)))
        assert found.rank == brute(squares, eps)
    else:
        for r in range(6):  # with a limit of 0 this makes it the sum
            assert law.tail(r) - law.tail(r + 1) == law.values(r + 1)[r] ** 2
        assert found.rank == next(r for r in itertools.count() if law.tail(r) < eps)
    assert abs(law.formula(eps) - found.rank) <= (1 if found.tie else 0)


@given(rate=st.floats(1e-3, 4), scale=st.floats(-3, 3), R=st.integers(1, 60), share=st.floats(1e-6, 1.2))
def test_closed_forms_in_floats_against_brute_force(rate, scale, R, share):
    for law in (Exponential(math.exp(scale), rate, R=R), Power(math.exp(scale), rate, R)):
        values = law.values(R)
        eps = share * float((values**2).sum())
        found, oracle = law.critical_rank(eps), critical_rank(values, eps)
        assert found.rank == oracle.rank or found.tie or oracle.tie
        np.testing.assert_allclose([law.tail(r) for r in range(R)], tails(values**2)[:-1], rtol=1e-11)
        if isinstance(law, Power) and not found.tie:
            low, high = law.brackets(eps)
            assert low <= found.rank <= high <= low + 1


@pytest.mark.parametrize("p", [0.5 + 1e-3, 0.6, 1.0, 1.7, 4.0])
def test_power_laws_without_end(p):
    law, seen = Power(2.0, p), set()

    def exactly(r):
        with mpmath.workdps(40):
            return 4 * mpmath.zeta(2 * p, r + 1)

    for r in (1, 2, 5, 17, 300):
        true = exactly(r)
        assert abs(law.tail(r) - true) < 1e-12 * true
        for eps in (float(true) * (1 + 1e-9), float(true) * (1 - 1e-9), float(true) * 1.3):
            found, (low, high) = law.critical_rank(eps), law.brackets(eps)
            assert exactly(found.rank) < eps
            assert found.rank == 0 or exactly(found.rank - 1) >= eps
            assert low <= found.rank <= high
            seen |= {found.rank - low, found.rank - high - 10}
    assert {0, 1, -10} <= seen, "neither end of the bracket may be left out: each is attained"


def test_the_bracket_of_a_power_law_needs_both_its_ends():
    for eps, rank in ((0.645, 1), (0.6, 2)):
        assert Power(p=1.0).brackets(eps) == (1, 2)
        assert Power(p=1.0).critical_rank(eps).rank == rank


def test_a_finite_sum_of_many_terms_is_a_difference_of_zetas():
    law = Power(1.0, 0.8, R=2_500_000)
    assert law.tail(5) == pytest.approx(float((np.arange(6.0, 2_500_001.0) ** -1.6)[::-1].sum()), rel=1e-12)
    assert Power(1.0, 0.5, R=1000).brackets(1.0)[0] == math.floor(1001 / math.e)
    assert Power(1.0, 0.2, R=50).critical_rank(1e9).rank == 0


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
