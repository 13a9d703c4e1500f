"""Theorem 3, its quantities: spectra and critical ranks, and what errors say."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftproof.models.methods import LoRA, RsLoRA
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.theorems.diminishing.critical import Exponential, Power, critical_rank
from peftproof.theorems.diminishing.decay import decay_model
from peftproof.theorems.diminishing.intruder import intruders
from peftproof.theorems.diminishing.recommend import recommend_rank
from peftproof.theorems.diminishing.spectrum import LowRank, Spectrum, lora_factors, spectra, spectrum, tails
from peftproof.theorems.diminishing.whitened import (
    whitened_truncation,
)
from peftproof.theorems.linalg import exact
from peftproof.theorems.oracles import descended, truncated, with_values

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
        (lambda: recommend_rank(gradient=np.eye(2), second_moments=np.eye(2)), "beside a gradient"),
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
