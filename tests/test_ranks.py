"""Ranks against exact elimination, against each other, and where they must refuse to decide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from peftproof.models.methods import LoRA
from peftproof.models.mlp import MLPConfig, mlp, mlp_from_arrays
from peftproof.models.network import Network
from peftproof.theorems import linalg, ranks
from peftproof.theorems.ranks import Products


def with_values(values, shape, seed=0):
    """A matrix with these singular values."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(side, len(values))))[0] for side in shape)
    return (left * values) @ right.T


def products(matrix):
    return Products(matrix.shape, lambda v: matrix @ v, lambda u: matrix.T @ u)


# --- exact -------------------------------------------------------------------------------------------------


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 7), st.integers(0, 999))
def test_modular_rank_is_the_rational_rank_of_small_matrices(m, n, r, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-3, 4, (m, r)) @ rng.integers(-3, 4, (r, n))
    assert ranks.modular_rank(matrix) == sympy.Matrix(matrix.tolist()).rank()


@pytest.mark.parametrize(("m", "n", "r"), [(70, 90, 40), (200, 130, 101), (64, 64, 64)])
def test_modular_rank_crosses_its_blocks(m, n, r):
    rng = np.random.default_rng(1)
    matrix = rng.integers(-3, 4, (m, r)) @ rng.integers(-3, 4, (r, n))
    assert [ranks.modular_rank(matrix, p) for p in ranks.modular.PRIMES] == [r] * 3


def test_modular_rank_takes_fractions_and_never_exceeds_the_rank():
    assert ranks.modular_rank(linalg.exact([["1/2", "1/3"], [3, 2]])) == 1
    # The prime divides the determinant: the rank mod p is too small, and that is all that can happen.
    p = ranks.modular.PRIMES[0]
    assert ranks.modular_rank(np.array([[1, 0], [0, p]])) == 1
    assert ranks.modular_rank(np.array([[1, 0], [0, p]]), ranks.modular.PRIMES[1]) == 2


def test_lora_of_rank_8_on_64_by_32_has_704_dimensions():
    # 8 (64 + 32 − 8): a lower bound by elimination, an upper one because the 8 × 8 gauge moves nothing.
    rng = np.random.default_rng(0)
    A, B = rng.integers(-3, 4, (64, 8)), rng.integers(-3, 4, (8, 32))
    jacobian = np.concatenate(
        [np.kron(np.eye(64, dtype=int), B.T), np.kron(A, np.eye(32, dtype=int))], axis=1
    )
    assert jacobian.shape == (2048, 768)
    assert ranks.modular_rank(jacobian) == 704


@pytest.mark.parametrize(("widths", "rho"), [((1, 2, 1), 5), ((2, 3, 1), 10), ((3, 4, 1), 17)])
def test_relu_networks_reach_d_minus_h_and_never_more(widths, rho):
    n, h, m = widths
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        weights = [rng.integers(-5, 6, shape) for shape in ((h, n), (m, h))]
        biases = [rng.integers(-5, 6, size) for size in (h, m)]
        found.append(ranks.exact_functional_rank(weights, biases, rng.integers(-9, 10, (120, n))))
    assert max(found) == rho
    assert min(found) < rho, "a single θ may fall below: that is why the maximum is taken"


def test_exact_functional_rank_agrees_with_the_network():
    rng = np.random.default_rng(4)
    weights = [rng.integers(-4, 5, shape) for shape in ((4, 3), (3, 4), (2, 3))]
    biases = [rng.integers(-4, 5, size) for size in (4, 3, 2)]
    x = rng.integers(-9, 10, (60, 3))
    network = mlp_from_arrays(weights, biases, "relu")
    kinks = [row for row in x if not _smooth(weights, biases, row)]
    x = np.array([row for row in x if _smooth(weights, biases, row)])
    assert len(kinks) < len(x)
    found = ranks.functional_rank(network, x.astype(float))
    assert found.rank == ranks.exact_functional_rank(weights, biases, x)


def _smooth(weights, biases, x):
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        z = W @ x + b
        if (z == 0).any():
            return False
        x = np.maximum(z, 0)
    return True


# --- numerical ---------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(0, 12), st.floats(-6, 0), st.integers(0, 999))
def test_a_gap_gives_the_rank(rank, more, low, seed):
    values = np.logspace(0, low, rank)
    found = ranks.numerical_rank(with_values(values, (30, rank + more), seed))
    assert found.rank == rank
    assert found.gap >= ranks.GAP


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.0, 0.05, 0.2, 1.0]), st.integers(0, 99))
def test_independent_parts_have_the_singular_values_of_the_whole(m, n, share, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(m, n)) * (rng.random((m, n)) < share)
    expected = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(ranks.singular_values(matrix), expected, atol=1e-13)


def test_parts_that_a_tiny_entry_connects_stay_together():
    matrix = np.array([[1.0, 1e-9], [0.0, 1e-9]])
    assert ranks.singular_values(matrix)[1] == pytest.approx(np.linalg.svd(matrix)[1][1], rel=1e-6)


def test_without_a_gap_nothing_is_decided():
    assert ranks.numerical_rank(with_values(np.logspace(0, -16, 17), (40, 30))).rank is None
    # A cliff that ends above rounding is none: the directions below it may be real.
    assert ranks.numerical_rank(with_values(np.r_[np.ones(5), np.full(5, 1e-9)], (40, 30))).rank is None


def test_a_gram_matrix_would_have_buried_the_gap():
    matrix = with_values(np.r_[np.ones(5), np.full(3, 1e-6)], (40, 30))
    assert ranks.numerical_rank(matrix).rank == 8
    assert ranks.numerical_rank(matrix.T @ matrix).rank != 8


def test_a_lower_bound_needs_no_gap_and_counts_nothing_that_may_be_rounding():
    values = np.logspace(0, -16, 17)
    found = ranks.rank_at_least(with_values(values, (40, 30)))
    assert (found.rank, found.lower_bound) == (11, True)  # above 1e4 · 40 · 2e-16 = 9e-11
    assert ranks.rank_at_least(with_values(np.ones(5), (40, 30))).rank == 5
    assert ranks.rank_at_least(np.zeros((3, 4))).rank == 0


def test_rounding_of_the_matrix_itself_is_not_taken_for_rank():
    # A linear network of five inputs has functional dimension 5. Huge weights that cancel, in pairs of equal
    # units and in opposite outputs, make noise of its Jacobian that stands six orders above rounding.
    rng = np.random.default_rng(0)
    first, huge, signs = (
        rng.normal(size=(20, 5)),
        1e12 * rng.normal(size=20),
        np.r_[np.ones(15), -np.ones(15)],
    )
    sizes = np.tile(np.abs(rng.normal(size=15)), 2)
    weights = [np.r_[first, first], np.outer(sizes, np.r_[huge, -huge]), signs[None]]
    network, x = mlp_from_arrays(weights, activation="identity"), rng.normal(size=(100, 5))
    jacobian = ranks.functional_jacobian(network, x)
    assert ranks.rank_at_least(jacobian).rank > 5, "taken at face value it has more"
    assert ranks.functional_rank(network, x).rank in (None, 5)
    for budget in (2**29, 1):
        assert ranks.enough(network, x, 60, budget_bytes=budget).rank <= 5
    assert ranks.rank_at_least(np.diag([1.0, 1e-3]), error=1e-4).rank == 1


def test_kinks_are_no_dimensions():
    # max(w, 0) - max(-w, 0) - w is zero for every w, and automatic differentiation gives -1 at w = 0.
    def apply(params, x):
        w = params["w"]
        return (jax.nn.relu(w) - jax.nn.relu(-w) - w)[None, :] * x

    network = Network(apply, {"w": jnp.zeros(2)}, name="kink")
    x = np.eye(2)
    assert ranks.functional_rank(network, x).rank == 2
    assert ranks.enough(network, x, 2).rank == 0


def test_a_matrix_that_is_not_seen_is_not_called_zero():
    blind = Products((30, 20), lambda v: 0 * np.ones((30, v.shape[1])) + (v.shape[1] == 10), lambda u: u[:20])
    assert ranks.products_rank(blind).rank is None


def test_zero_empty_and_full_matrices():
    assert ranks.numerical_rank(np.zeros((4, 3))).rank == 0
    assert ranks.numerical_rank(np.eye(4)).rank == 4


def test_ranks_refuse_single_precision_and_nan():
    with pytest.raises(ValueError, match="float64"):
        ranks.numerical_rank(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match="NaN"):
        ranks.numerical_rank(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="integers or fractions"):
        ranks.modular_rank(np.eye(2))


# --- without the matrix ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 40, 64, 65, 150])
def test_the_range_finder_finds_the_rank_and_says_how_it_may_fail(rank):
    matrix = with_values(np.logspace(0, -5, rank), (400, 220), seed=rank)
    found = ranks.products_rank(products(matrix))
    assert found.rank == rank
    assert found.failure_probability == pytest.approx(1e-10)
    assert found.below >= np.linalg.svd(matrix, compute_uv=False)[rank] / np.linalg.norm(matrix, 2)


def test_the_range_finder_decides_nothing_without_a_gap():
    matrix = with_values(np.r_[np.ones(30), np.full(30, 1e-10)], (200, 150))
    assert ranks.products_rank(products(matrix)).rank is None


def test_a_lower_bound_takes_no_more_products_than_it_needs():
    matrix, seen = with_values(np.ones(150), (400, 220)), []

    def right(v):
        seen.append(v.shape[1])
        return matrix @ v

    found = ranks.products_rank(Products(matrix.shape, right, lambda u: matrix.T @ u), at_most=70)
    assert (found.rank, found.lower_bound, sum(seen)) == (70, True, 70)


@pytest.mark.parametrize(("shape", "rank"), [((500, 40), 30), ((500, 40), 40), ((40, 700), 7), ((60, 50), 1)])
def test_the_sketch_finds_the_rank_of_long_matrices_and_chance_cannot_make_it_wrong(shape, rank):
    matrix = with_values(np.logspace(0, -3, rank), shape)
    found = ranks.sketched_rank(products(matrix))
    assert found.rank == rank
    assert found.failure_probability == 0
    values = np.linalg.svd(matrix, compute_uv=False)
    assert found.above * values[0] <= values[rank - 1] * (1 + 1e-9)  # a lower bound of what counts
    if rank < min(shape):
        assert values[rank] <= found.below * values[0] + 1e-15


def test_a_sketch_that_misses_a_direction_decides_nothing(monkeypatch):
    # A sketch that cannot see the last direction claims rank 29; its null space gives it away.
    matrix = with_values(np.ones(30), (500, 40))
    blind = np.linalg.svd(matrix)[0][:, 29:30]

    def blinded(rows, columns, seed):
        S = np.random.default_rng(seed).normal(size=(rows, columns))
        return S - (S @ blind) @ blind.T

    monkeypatch.setattr("peftproof.theorems.ranks.sketch._signs", blinded)
    assert ranks.sketched_rank(products(matrix)).rank is None
    monkeypatch.setattr(
        "peftproof.theorems.ranks.sketch._signs", lambda rows, columns, seed: np.zeros((rows, columns))
    )
    assert ranks.sketched_rank(products(matrix)).rank is None


def test_a_sketch_without_a_gap_decides_nothing_and_sees_rank_zero():
    assert ranks.sketched_rank(products(with_values(np.logspace(0, -14, 40), (500, 40)))).rank is None
    assert ranks.sketched_rank(products(np.zeros((100, 4)))).rank == 0


def test_the_shape_decides_how_a_large_matrix_is_looked_at(monkeypatch):
    long, square = with_values(np.ones(5), (200, 20)), with_values(np.ones(5), (50, 40))
    assert "sketch" in ranks.free_rank(products(long)).how
    assert "range finder" in ranks.free_rank(products(square)).how
    assert "range finder" in ranks.free_rank(products(long), at_most=3).how
    monkeypatch.setattr("peftproof.theorems.ranks.free.WORKSPACE", 8 * 90 * 64)
    found = ranks.free_rank(products(with_values(np.ones(300), (400, 350))))
    assert found.lower_bound
    assert found.rank == 64, "what memory allows is still a lower bound"


def test_the_probes_bound_what_is_left_as_often_as_they_say():
    # With one probe the bound of Halko, Martinsson and Tropp may fail one time in ten; count it.
    rng = np.random.default_rng(0)
    rest = with_values(np.ones(3), (50, 40))
    failures = sum(
        10 * np.sqrt(2 / np.pi) * np.linalg.norm(rest @ rng.normal(size=40)) < 1 for _ in range(2000)
    )
    assert failures <= 200


def test_blocks_and_products_agree_on_the_jacobian_of_g():
    network = mlp(MLPConfig((12, 10, 6)), jax.random.key(0), jnp.float64)
    made = LoRA(2).reparameterize(network)
    rng = np.random.default_rng(0)
    phi = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), made.init(jax.random.key(0)))
    dense, free = ranks.jacobian_rank(made, phi), ranks.jacobian_rank(made, phi, budget_bytes=1)
    whole = ranks.numerical_rank(np.asarray(made.jacobian(phi).as_matrix()))
    assert dense.rank == free.rank == whole.rank == 2 * (12 + 10 - 2) + 2 * (10 + 6 - 2)
    assert dense.how == "2 blocks: dense SVD"
    assert "2 blocks: range finder" in free.how
    assert free.failure_probability > dense.failure_probability == 0
    assert [len(names) for names, _ in ranks.groups(made)] == [2, 2]


def test_functional_ranks_agree_and_few_inputs_are_enough():
    network = mlp(MLPConfig((5, 6, 3)), jax.random.key(1), jnp.float64)
    x = np.random.default_rng(0).normal(size=(60, 5))
    dense = ranks.functional_rank(network, x)
    assert dense.rank == network.d
    assert ranks.functional_rank(network, x, budget_bytes=1).rank == network.d
    found = ranks.enough(network, x, 20)
    assert found.lower_bound
    assert 20 <= found.rank <= found.shape[0] < dense.shape[0]
    assert ranks.enough(network, x[:3], 20).rank == 9, "three inputs with three outputs show no more"


def test_dead_pixels_cost_a_row_of_the_first_kernel_each():
    network = mlp(MLPConfig((5, 6, 3)), jax.random.key(1), jnp.float64)
    x = np.random.default_rng(0).normal(size=(60, 5))
    x[:, :2] = 0
    assert ranks.functional_rank(network, x).rank == network.d - 2 * 6


def test_the_functional_dimension_is_the_largest_rank():
    network = mlp_from_arrays([[[1.0], [2.0]], [[1.0, 1.0]]], [[-1.0, 9.0], [0.5]], "relu")
    dead = mlp_from_arrays([[[1.0], [2.0]], [[1.0, 1.0]]], [[-99.0, 9.0], [0.5]], "relu")
    x = np.linspace(-7, 7, 29)[:, None] + 0.1
    largest, found = ranks.functional_dimension(network, x, [dead.params, network.params])
    assert largest == 7 - 2
    assert [one.rank for one in found] == [3, 5]
    with pytest.raises(ValueError, match="at none of 0"):
        ranks.functional_dimension(network, x, [])


def test_the_tangent_of_a_method_has_the_rank_of_its_map():
    network = mlp(MLPConfig((5, 6, 3)), jax.random.key(1), jnp.float64)
    made = LoRA(1).reparameterize(network)
    x = np.random.default_rng(0).normal(size=(60, 5))
    start = made.init(jax.random.key(0))
    assert ranks.tangent_rank(network, x, made, start).rank == ranks.jacobian_rank(made, start).rank == 9
