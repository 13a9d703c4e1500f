"""Rademacher complexities against their definition; the claims and bounds of Theorem 5 that rest on them."""

import dataclasses
import functools
import itertools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest
import sympy
from jax.flatten_util import ravel_pytree

from peftproof.models.finetuning import FineTuning
from peftproof.models.methods import BitFit, Full, KronA, LoRA
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.models.tasks import from_arrays
from peftproof.theorems import linalg
from peftproof.theorems.claims import Outcome
from peftproof.theorems.marginal.claims_complexity import CLAIMS, planted
from peftproof.theorems.rademacher import (
    Ball,
    LinearClass,
    compared,
    curves,
    enumerated,
    free_compared,
    kernel_ratio,
    rank_curves,
    reached,
    subspace,
    tangent,
)
from peftproof.theorems.rademacher.estimate import controlled
from peftproof.theorems.rademacher.subspace import range_basis
from peftproof.theorems.verify import complaint, observed_evidence

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)

# ---------------------------------------------------------------- linear classes

FEATURES = {
    "gaussian": RNG.normal(size=(6, 3)),
    "equal": np.ones((2, 1)),
    "orthogonal": np.diag([3.0, 1.0, 2.0]),
    "one": np.array([[1.0, -2.0]]),
    "spiked": RNG.normal(size=(8, 4)) * [5.0, 1.0, 0.1, 0.0],
    "zeros": np.zeros((3, 2)),
}


def naive(features, radius=1.0, outputs=1):
    """The definition: for each choice of signs the best v of the ball, which is along Aᵀs."""
    count, tops = len(features) // outputs, []
    for signs in itertools.product((-1.0, 1.0), repeat=len(features)):
        direction = sum(s * row for s, row in zip(signs, features, strict=True))
        length = math.sqrt(sum(direction**2))
        v = radius * direction / length if length else direction
        tops.append(sum(s * float(row @ v) for s, row in zip(signs, features, strict=True)) / count)
    return sum(tops) / len(tops)


@pytest.mark.parametrize("name", FEATURES)
def test_enumeration_is_the_definition_and_lies_between_its_bounds(name):
    features = FEATURES[name]
    one = LinearClass.of(features, radius=1.5)
    found = one.enumerated()
    assert found == pytest.approx(naive(features, 1.5), rel=1e-12, abs=1e-12)
    assert float(one.lower_bound()) <= found <= float(one.upper_bound())
    assert isinstance(one.lower_bound(), linalg.Lower)
    assert isinstance(one.upper_bound(), linalg.Upper)
    if len(features) % 2 == 0:
        pairs = LinearClass.of(features, outputs=2).enumerated()
        assert pairs == pytest.approx(naive(features, outputs=2), rel=1e-12, abs=1e-12)


def test_exact_complexities_have_their_square_roots():
    exact = LinearClass.of(linalg.exact([[1, 0], [0, 2], [1, 1]]), radius=Fraction(3))
    assert float(exact.enumerated()) == pytest.approx(naive(np.array([[1, 0], [0, 2], [1, 1.0]]), 3.0))
    assert LinearClass.of(linalg.exact([[1], [1]]), radius=Fraction(1)).enumerated() == Fraction(1, 2)
    unit = LinearClass.of(linalg.exact([[1, 0], [0, 1]]), radius=Fraction(1)).enumerated()
    assert unit == sympy.sqrt(2) / 2


def test_both_bounds_are_attained():
    equal, orthogonal = LinearClass.of(FEATURES["equal"]), LinearClass.of(FEATURES["orthogonal"])
    assert equal.enumerated() == pytest.approx(float(equal.lower_bound()), rel=1e-12)
    assert orthogonal.enumerated() == pytest.approx(float(orthogonal.upper_bound()), rel=1e-12)
    assert float(orthogonal.lower_bound()) == pytest.approx(float(orthogonal.upper_bound()), rel=1e-12)
    many = LinearClass.of(RNG.normal(size=(40, 400)))  # the second lower bound is close to 1
    assert float(many.lower_bound()) > 0.85 * float(many.upper_bound())


def test_the_control_variate_is_exact_over_all_signs_and_wins_over_the_plain_mean():
    features = FEATURES["spiked"]
    lengths = np.array([np.linalg.norm(np.array(s) @ features) for s in itertools.product((-1, 1), repeat=8)])
    size = float(np.linalg.norm(features))
    found = controlled(lengths, size, lengths.max())
    assert found.value == pytest.approx(lengths.mean(), rel=1e-12)
    sampled = LinearClass.of(RNG.normal(size=(40, 60))).sampled(KEY)
    plain = 40 * sampled.value / math.sqrt(sampled.draws)  # an error of the size of the mean, at 1 draw
    assert sampled.standard_error < 0.01 * plain
    with pytest.raises(ValueError, match="lengths: got 1"):
        controlled(lengths[:1], size, 1.0)
    with pytest.raises(ValueError, match="confidence: got 0"):
        controlled(lengths, size, 1.0, confidence=0)


def test_intervals_cover_and_tell_apart():
    features, missed = FEATURES["spiked"], 0
    exact = LinearClass.of(features).enumerated()
    for seed in range(20):
        found = LinearClass.of(features).sampled(jax.random.key(seed), confidence=0.9)
        missed += not found.low <= exact <= found.high
        assert abs(found.value - exact) <= 5 * found.standard_error
    assert missed == 0  # the inequalities are far from tight
    assert not found.low <= 1.5 * exact <= found.high


def test_linear_classes_refuse():
    with pytest.raises(ValueError, match="kernel: got shape"):
        LinearClass(np.eye(3), outputs=2)
    with pytest.raises(ValueError, match="radius: got -1"):
        LinearClass(np.eye(3), radius=-1)
    with pytest.raises(ValueError, match="at most 16"):
        LinearClass(np.eye(17)).enumerated()
    with pytest.raises(ValueError, match="key: got None"):
        LinearClass(np.eye(17)).complexity()
    with pytest.raises(ValueError, match="float64"):
        LinearClass(np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match="basis: got shape"):
        subspace(np.eye(3), np.eye(2))
    with pytest.raises(ValueError, match=r"features: got shape \(3,\), needs a matrix .* a\[:, None\]"):
        LinearClass.of(np.ones(3))


# ---------------------------------------------------------------- subspaces


def test_redundant_columns_do_not_count_and_no_member_does_better():
    x, basis = RNG.normal(size=(5, 4)), RNG.normal(size=(4, 2))
    part = subspace(x, basis)
    doubled = subspace(x, np.hstack([basis, basis @ [[1.0, 2.0], [0.0, 3.0]]]))
    np.testing.assert_allclose(part.kernel, doubled.kernel, atol=1e-12)
    tops = []
    for signs in itertools.product((-1.0, 1.0), repeat=5):
        members = basis @ RNG.normal(size=(2, 2000))
        tops.append(np.max(np.array(signs) @ x @ (members / np.linalg.norm(members, axis=0))) / 5)
    assert 0.99 * part.enumerated() <= np.mean(tops) <= part.enumerated()
    exact = subspace(linalg.exact([[1, 2], [0, 1]]), linalg.exact([[1, 2], [1, 2]]), radius=Fraction(1))
    assert exact.kernel[0, 0] == Fraction(9, 2)


def test_bases_are_orthonormal_whatever_the_singular_values():
    for values in ([1.0, 0.5, 0.0], [1.0, 1e-3, 0.0], [1.0, 1.0, 1e-5]):
        u, v = (np.linalg.qr(RNG.normal(size=(n, 3)))[0] for n in (7, 3))
        matrix = u * values @ v.T
        basis, rank = range_basis(matrix), int(np.count_nonzero(values))
        np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-9)
        np.testing.assert_allclose(basis @ (basis.T @ matrix), matrix, atol=1e-12)
    coordinates = np.array([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    np.testing.assert_allclose(range_basis(coordinates).T @ range_basis(coordinates), np.eye(2), atol=1e-15)
    with pytest.raises(ValueError, match="undecided rank"):
        range_basis(u * [1.0, 1e-8, 1e-15] @ v.T)


def test_the_ratio_lies_between_its_bounds_and_is_the_root_of_the_share():
    for name in ("gaussian", "spiked", "orthogonal"):
        x = FEATURES[name]
        whole, part = LinearClass.of(x), subspace(x, np.eye(x.shape[1])[:, :1])
        found, ratio = kernel_ratio(whole, part), part.enumerated() / whole.enumerated()
        assert float(found.lower) <= ratio <= float(found.upper) * (1 + 1e-12)
    x = np.vstack([np.eye(8), np.eye(8)])
    found = kernel_ratio(LinearClass.of(x), subspace(x, np.linalg.qr(RNG.normal(size=(8, 2)))[0]))
    assert found.traces == pytest.approx(math.sqrt(2 / 8))
    with pytest.raises(ValueError, match="have no ratio"):
        kernel_ratio(LinearClass(np.zeros((2, 2))), LinearClass(np.zeros((2, 2))))
    with pytest.raises(ValueError, match="part: got"):
        kernel_ratio(LinearClass(np.eye(2)), LinearClass(np.eye(3)))


# ---------------------------------------------------------------- networks

NETWORK = mlp(MLPConfig((5, 6, 3), "tanh"), KEY, np.float64)
INPUTS = RNG.normal(size=(8, 5))


@functools.cache
def linearised(method):
    """The map of a method, a random Φ, and the tangent classes there."""
    made, rng = method.reparameterize(NETWORK), np.random.default_rng(1)
    phi = jax.tree.map(lambda leaf: 0.5 * rng.normal(size=leaf.shape), made.template)
    return made, phi, tangent(NETWORK, INPUTS, made, phi)


@jax.jit
def naive_derivative(vector, x):
    """All outputs by all parameters, rows ordered by example."""
    unravel = ravel_pytree(NETWORK.params)[1]
    return jax.jacrev(lambda v: NETWORK.apply(unravel(v), x).ravel())(vector)


@pytest.mark.parametrize("method", [LoRA(1), KronA(), BitFit(), Full()], ids=lambda m: m.name)
def test_tangent_classes_against_dense_matrices(method):
    made, phi, found = linearised(method)
    J = np.asarray(naive_derivative(ravel_pytree(made.apply(NETWORK.params, phi))[0], INPUTS))
    Dg = np.asarray(made.jacobian(phi).as_matrix())
    np.testing.assert_allclose(found.full.kernel, J @ J.T, atol=1e-12)
    projector = Dg @ np.linalg.pinv(Dg, rcond=1e-10)
    np.testing.assert_allclose(found.part.kernel, J @ projector @ J.T, atol=1e-11)
    assert found.rank == np.linalg.matrix_rank(Dg, tol=1e-10)
    assert (found.d, found.k, found.full.outputs, found.full.examples) == (NETWORK.d, made.k, 3, 8)
    assert compared(found.first(2)).part.how == "all signs"


def test_a_method_in_place_of_its_map_is_named():
    phi = LoRA(1).reparameterize(NETWORK).template
    with pytest.raises(
        ValueError, match=r"made: got the method 'lora-r1'.*method\.reparameterize\(network\)"
    ):
        tangent(NETWORK, INPUTS, LoRA(1), phi)
    with pytest.raises(ValueError, match=r"made: got a dict.*the order network, x, made, phi"):
        free_compared(NETWORK, INPUTS, phi, LoRA(1), jax.random.key(0))


def test_the_gauge_does_not_count():
    made, phi, one = linearised(LoRA(2))
    T = np.array([[2.0, 1.0], [0.5, -1.0]])
    turned = jax.tree.map(lambda leaf: leaf, phi)
    for layer in turned["layers"].values():
        layer["kernel"] = {"A": layer["kernel"]["A"] @ T, "B": np.linalg.inv(T) @ layer["kernel"]["B"]}
    other = tangent(NETWORK, INPUTS, made, turned)
    assert one.rank == other.rank < made.k
    np.testing.assert_allclose(one.part.kernel, other.part.kernel, atol=1e-11)


def test_without_forming_the_derivative_the_same_comes_out():
    made, phi, classes = linearised(LoRA(1))
    dense = compared(classes, KEY, draws=8192)
    row = 8 * 3 * NETWORK.d
    free = free_compared(NETWORK, INPUTS, made, phi, KEY, draws=512, budget_bytes=4 * row)
    assert free.traces == pytest.approx(dense.traces, rel=1e-12)
    assert (free.rank, free.k) == (dense.rank, dense.k)
    for ours, theirs in ((free.full, dense.full), (free.part, dense.part)):
        assert float(ours.upper) == pytest.approx(float(theirs.upper), rel=1e-9)
        assert abs(ours.value - theirs.value) <= 5 * math.hypot(ours.standard_error, theirs.standard_error)
        assert ours.low <= theirs.value <= ours.high
    with pytest.raises(ValueError, match="free_compared"):
        tangent(NETWORK, INPUTS, made, phi, budget_bytes=row)


def test_curves_over_examples_and_parameters():
    classes = [linearised(method)[2] for method in (LoRA(2), BitFit(), LoRA(1))]
    records = curves(classes, (2, 8), KEY)
    assert [(r["method"], r["N"]) for r in records] == [
        (name, N) for name in ("bitfit", "lora-r1", "lora-r2") for N in (2, 8)
    ]
    for record in records:
        assert record["ratio at least"] <= record["ratio"] <= record["ratio at most"]
        assert record["ratio low"] <= record["ratio"] <= record["ratio high"]
        assert record["√(k/d)"] == pytest.approx(math.sqrt(record["k"] / NETWORK.d))
        assert record["√(rank/d)"] <= record["√(k/d)"]
    assert records[1]["full"] < records[0]["full"]  # of the order 1/√N
    with pytest.raises(ValueError, match="counts: got"):
        curves(classes, (9,), KEY)


def test_rank_curves_against_enumeration():
    x = RNG.normal(size=(4, 3))
    records = rank_curves(x, 3, (1, 2), (4,), KEY, draws=4096)
    assert [(r["rank"], r["N"]) for r in records] == [(1, 4), (2, 4)]
    for record in records:
        assert record["part"] == pytest.approx(enumerated(x, 3, Ball(rank=record["rank"])), rel=0.03)
        assert record["ratio at least"] <= record["ratio"] <= record["ratio at most"] + 1e-12
        assert record["√(rank/d)"] < record["√(k/d)"]
    with pytest.raises(ValueError, match="counts: got 5"):
        rank_curves(x, 3, (1,), (5,), KEY)


# ---------------------------------------------------------------- what a network itself reaches


def test_ascent_is_exact_on_a_linear_network():
    linear = mlp(MLPConfig((3, 2), "relu", biases=False), KEY, np.float64)
    x = RNG.normal(size=(4, 3))
    found = reached(linear, x, radius=2.0, key=KEY)
    exact = enumerated(x, 2, Ball("frobenius", 2.0))
    assert found.how == "all signs" and found.draws == 256
    assert found.value == pytest.approx(exact, rel=1e-9)
    assert isinstance(found.lower, linalg.Lower) and found.lower <= exact * (1 + 1e-12)
    low = reached(linear, x, radius=2.0, key=KEY, made=LoRA(1).reparameterize(linear))
    best = enumerated(x, 2, Ball("frobenius", 2.0, 1))
    assert 0.9 * best <= low.value <= best * (1 + 1e-9)


def test_small_updates_reach_what_the_tangent_class_does():
    made, _, _ = linearised(BitFit())
    x, radius = INPUTS[:5], 1e-4
    one = tangent(NETWORK, x, made, made.init(KEY), radius=radius)
    found = reached(NETWORK, x, radius=radius, key=KEY, made=made, draws=128)
    assert abs(found.value - one.part.enumerated()) <= 5 * found.standard_error
    assert found.lower < found.value and "Student" in found.how
    assert reached(NETWORK, x, radius=1.0, key=KEY, made=made, draws=128).value > 1e3 * found.value
    with pytest.raises(ValueError, match="radius: got 0"):
        reached(NETWORK, x, radius=0.0, key=KEY)
    with pytest.raises(ValueError, match="draws: got 1"):
        reached(NETWORK, x, radius=1.0, key=KEY, draws=1)


# ---------------------------------------------------------------- claims


def test_the_instrument_of_ranks_tells_the_rank_from_the_count():
    found = planted(0.0)
    assert found.ratios[0] == pytest.approx(found.predicted[0], rel=0.1)
    assert found.ratios[0] < 0.8 * found.statistics["√(k/d)"]


@pytest.fixture(scope="module")
def tunings():
    """Networks that look fine-tuned, without any training."""
    x = RNG.normal(size=(120, 5))
    task = from_arrays(new=(x, np.argmax(x[:, :3], axis=1)))
    return [FineTuning(NETWORK, task, method, linearised(method)[1]) for method in (LoRA(1), BitFit())]


def test_observed_claims_are_judged_and_none_complains(tunings):
    observed = [claim for claim in CLAIMS if claim.observe is not None]
    seen = {claim.id: [] for claim in observed}
    for claim, tuning in itertools.product(observed, tunings):
        evidence = observed_evidence(claim, dataclasses.replace(tuning))
        if evidence is not None:
            assert complaint(claim, evidence) == ""
            seen[claim.id].append(evidence)
    assert {len(found) for name, found in seen.items() if name != "T5.R16"} == {2}
    assert len(seen["T5.R16"]) == 1  # LoRA alone has a rank
    for found in seen["T5.R14"] + seen["T5.R21"]:
        assert found.statistics["√(rank/d)"] <= found.statistics["√(k/d)"]
    # The best of three radii is picked afterwards: half of δ = 0.001 is spent on all of them together.
    assert all("With probability 0.9995 the risk is at most" in found.note for found in seen["T5.R25"])
    assert all(
        found.outcome is Outcome.HOLDS for name, each in seen.items() if name != "T5.R21" for found in each
    )
