"""Images of methods where formulas like to break: zeros, deficient kernels, thin matrices, rounding."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models import tree
from peftproof.models.methods import IA3, OFT, Compacter, Composed, DoRA, HiRA, LoHa, LoKr, VeRA
from peftproof.models.methods.descent import nearest_by_descent
from peftproof.models.mlp import mlp_from_arrays
from peftproof.theorems.ranks import jacobian_rank, modular_rank

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
FULL = RNG.normal(size=(6, 4))
DEAD = np.where(np.arange(6)[:, None] == 2, 0.0, FULL)
SPARSE = FULL * (RNG.random((6, 4)) < 0.4)
OUTER = np.outer(FULL[:, 0], FULL[0])


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "W", [FULL, DEAD, SPARSE, OUTER, np.zeros((6, 4))], ids=["full", "dead", "sparse", "outer", "0"]
)
def test_dora_counts_outputs_that_have_a_direction(W, rank, checks):
    network = mlp_from_arrays([W])
    made, image = DoRA(rank).reparameterize(network), DoRA(rank).image(network)
    assert jacobian_rank(made, checks.moved(made.init(KEY), 1.0)).rank == image.dimension
    assert jacobian_rank(made, made.init(KEY)).rank == image.initial_rank
    assert image.dimension <= image.bound


def test_dora_is_continuous_at_its_start_where_an_output_is_dead(checks):
    # With length 1 for a column of zeros, the smallest step of B would throw it to length 1.
    network = mlp_from_arrays([DEAD])
    made = DoRA(2).reparameterize(network)
    tiny = jax.tree.map(lambda leaf: leaf * 1e-9, checks.moved(jax.tree.map(jnp.zeros_like, made.init(KEY))))
    phi = jax.tree.map(jnp.add, made.init(KEY), tiny)
    assert np.abs(made.g(phi)["layers"]["0"]["kernel"]).max() < 1e-7


@pytest.mark.parametrize(
    "chosen", [HiRA(1), OFT(2), OFT(4), IA3(outputs="*"), DoRA(1)], ids=lambda one: one.name
)
def test_a_kernel_of_zeros_leaves_nothing_to_move(chosen):
    network = mlp_from_arrays([np.zeros((3, 4))])
    made, image = chosen.reparameterize(network), chosen.image(network)
    assert jacobian_rank(made, made.init(KEY)).rank == image.initial_rank == 0


@pytest.mark.parametrize(
    ("chosen", "shape"),
    [
        (LoHa(1), (4, 3)),
        (LoKr(1), (5, 3)),
        (LoKr(2), (5, 3)),
        (VeRA(1), (4, 3)),
        (VeRA(1), (1, 4)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_where_a_method_is_another_one_its_nearest_point_is_known(chosen, shape, checks):
    network = mlp_from_arrays([np.random.default_rng(1).normal(size=shape)])
    assert chosen.image(network).exact
    checks.projects(chosen, network)


def test_bounds_of_dimensions_survive_numerical_ranks():
    # The second row differs from the first by less than a numerical rank sees, and by more than nothing.
    block = np.random.default_rng(2).normal(size=(4, 5))
    block[1:] = block[0] * (1 + np.finfo(float).eps * np.arange(5))
    tiny = mlp_from_arrays([block.T])
    image = OFT(4).image(tiny)
    assert image.dimension == 3 < image.bound == 6
    holed = mlp_from_arrays([np.where(FULL > 1, 0.0, FULL)])
    assert HiRA(2).image(holed).bound >= HiRA(2).image(holed).dimension
    both = Composed((OFT(4, targets="*0*kernel"), IA3(inputs="layers/1")))
    image = both.image(mlp_from_arrays([block.T, FULL[:4, :4] @ np.ones((4, 5))]))
    assert image.bound == image.dimension + 3


def test_a_weight_whose_square_is_zero_still_counts():
    network = mlp_from_arrays([[[1e-200, 0.0], [0.0, 0.0], [1.0, 2.0]]])
    assert IA3(outputs="*").image(network).dimension == 2


def test_a_search_is_never_farther_than_doing_nothing():
    network = mlp_from_arrays([FULL])
    made = Compacter(2).reparameterize(network)
    target = {path: 0 * np.asarray(leaf) for path, leaf in tree.paths(network.params).items()}
    near = nearest_by_descent(made, {path: target[path] for path in made.touched()})
    assert all(not leaf.any() for leaf in near.values())


def _loha_jacobian(m, n, r, seed):
    rng = np.random.default_rng(seed)
    A1, A2, B1, B2 = (rng.integers(-9, 10, size=shape) for shape in ((m, r), (m, r), (r, n), (r, n)))
    X, Y, eye = A1 @ B1, A2 @ B2, np.eye

    def moved(A, B, other):
        return (
            np.hstack([np.kron(eye(m, dtype=int), B.T), np.kron(A, eye(n, dtype=int))])
            * other.ravel()[:, None]
        )

    return np.hstack([moved(A1, B1, Y), moved(A2, B2, X)])


@pytest.mark.parametrize("largest", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_the_dimension_of_loha_is_attained_for_all_small_shapes(largest):
    # Proved as an upper bound; a rank modulo a prime cannot be too large, so that equality is a proof.
    for m, n in itertools.product(range(1, largest + 1), repeat=2):
        for r in range(1, min(m, n) + 1):
            expected = min(m * n, 2 * r * (m + n - r) - (m + n - 1))
            assert max(modular_rank(_loha_jacobian(m, n, r, seed)) for seed in range(3)) == expected, (
                m,
                n,
                r,
            )
