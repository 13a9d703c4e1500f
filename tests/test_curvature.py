"""Curvature of a network: dense and matrix-free alike, against the definition; and what is refused."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from peftproof.models.methods import IA3, LoRA, Prefix
from peftproof.models.mlp import mlp_from_arrays
from peftproof.models.tasks import Split
from peftproof.theorems import curvature

P, WIDTHS, DECAY = 30, (5, 6, 6, 4), 0.05


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(n, m)) / 2 for m, n in pairwise(WIDTHS)]
    return mlp_from_arrays(weights, [rng.normal(size=n) / 2 for n in WIDTHS[1:]])


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(1)
    return Split(rng.normal(size=(P, 5)), rng.integers(0, 4, size=P))


@pytest.fixture(scope="module")
def truth(network, split):
    """The Hessian and the gradient as the definition has them, with weights that differ and a centre 0."""
    point, unravel = ravel_pytree(network.params)
    weights = np.random.default_rng(2).uniform(size=P)

    def value(vector):
        f = network.apply(unravel(vector), jnp.asarray(split.x))
        right = (jax.nn.log_softmax(f) * np.eye(4)[split.y]).sum(axis=1)
        return -(weights * right).sum() + DECAY / 2 * (vector**2).sum()

    gradient, hessian = jax.jit(lambda v: (jax.grad(value)(v), jax.hessian(value)(v)))(point)
    return np.asarray(hessian), np.asarray(gradient), weights


def options(network, truth, **others):
    zeros = jax.tree.map(np.zeros_like, jax.device_get(network.params))
    return {"weights": truth[2], "weight_decay": DECAY, "centre": zeros} | others


@pytest.fixture(scope="module")
def both(network, split, truth):
    """The same Hessian within the memory budget and beyond it."""
    return [
        curvature.hessian(network, split, **options(network, truth, memory=memory)) for memory in (2**30, 0)
    ]


def vectors(d, *shape, seed=3):
    return np.random.default_rng(seed).normal(size=(d, *shape))


def near(got, expected, rtol=1e-12):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_products_matrix_and_gradient_are_those_of_the_definition(both, truth):
    hessian, gradient, _ = truth
    dense, free = both
    near(dense.matrix(), hessian)
    assert np.array_equal(dense.matrix(), dense.matrix().T)
    assert dense.asymmetry < 1e-14
    for each in both:
        near(each.gradient, gradient)
        near(each.product(vectors(each.d)), hessian @ vectors(each.d))
        for columns in (1, 16, 35):  # less than a block, one, and some that do not fill the last one
            near(each.product(vectors(each.d, columns)), hessian @ vectors(each.d, columns))
    assert (dense.dense, free.dense, dense.formed_by) == (True, False, "columns")  # small: see `derivatives`
    assert "matrix-free" in repr(free)


def test_restricted_forms_no_matrix(both, truth):
    for each in both:
        P = vectors(each.d, 21)
        near(each.restricted(P), P.T @ truth[0] @ P)
    assert both[1].restricted(np.zeros((both[1].d, 0))).shape == (0, 0)


def test_a_shift_adds_to_the_diagonal(both, truth):
    for each in both:
        moved = each.shifted(0.7)
        near(moved.product(vectors(each.d)), truth[0] @ vectors(each.d) + 0.7 * vectors(each.d))
    near(both[0].shifted(0.7).matrix(), truth[0] + 0.7 * np.eye(both[0].d))
    small = curvature.eigenpairs(both[1].shifted(0.7), both[1].d)  # as large as the matrix, which is formed
    near(small.values, np.linalg.eigvalsh(truth[0])[::-1] + 0.7)
    near(curvature.of_matrix(truth[0]).shifted(-1.0).matrix(), truth[0] - np.eye(both[0].d))


def test_any_scalar_function_has_a_curvature():
    made = curvature.of_loss(lambda v, a: jnp.sum(a * jnp.cos(v)), np.array([0.1, 0.2, 3.0]), np.ones(3))
    near(made.matrix(), -np.diag(np.cos([0.1, 0.2, 3.0])))
    near(made.gradient, -np.sin([0.1, 0.2, 3.0]))


def test_both_paths_agree_on_eigenpairs(both, truth):
    values = np.linalg.eigvalsh(truth[0])
    for which, expected in {"largest": values[::-1][:5], "smallest": values[:5]}.items():
        for each in both:
            found = curvature.eigenpairs(each, 5, which)
            near(found.values, expected)
            assert np.all(found.lower <= expected)
            assert np.all(expected <= found.upper)
            near(truth[0] @ found.vectors, found.vectors * found.values, 1e-9)
            assert found.complete == each.dense


def test_both_paths_agree_on_solves_and_forms(both, truth):
    hessian, u = truth[0], vectors(both[0].d)
    for each in both:
        solution = curvature.solve(each, u)
        near(solution.x, np.linalg.solve(hessian, u), 1e-8)
        assert solution.residual >= np.linalg.norm(u - each.product(solution.x))
        assert solution.relative < 1e-10
        form = curvature.quadratic_form(each, u)
        near(form.value, u @ np.linalg.solve(hessian, u), 1e-9)
        assert form.outside < 1e-9


def test_both_paths_agree_on_the_gap_of_a_subspace(network, split, truth):
    """½(uᵀA⁻¹u − uᵀP(PᵀAP)⁻¹Pᵀu), as Theorem 4 needs it, for a Gauss-Newton matrix."""
    gaps = []
    for memory in (2**30, 0):
        made = curvature.gauss_newton(network, split, **options(network, truth, memory=memory))
        u, P = vectors(made.d), vectors(made.d, 9, seed=4)
        small = curvature.of_matrix(made.restricted(P))
        parts = [curvature.quadratic_form(made, u), curvature.quadratic_form(small, P.T @ u)]
        assert [part.cut for part in parts] == [0, 0]
        gaps.append((parts[0].value - parts[1].value) / 2)
        errors = sum(part.error for part in parts)
    matrix = curvature.gauss_newton(network, split, **options(network, truth)).matrix()
    step = np.linalg.solve(matrix, u) - P @ np.linalg.solve(P.T @ matrix @ P, P.T @ u)
    near(gaps, [step @ matrix @ step / 2] * 2, 1e-10)
    assert abs(gaps[0] - gaps[1]) <= errors


def test_both_paths_agree_on_trace_and_density(both, truth):
    values = np.linalg.eigvalsh(truth[0])
    exact, free = (curvature.trace(each, probes=64) for each in both)
    near(exact.value, values.sum())
    assert exact.standard_error == 0
    assert abs(free.value - exact.value) <= 5 * free.standard_error
    exact, free = (curvature.spectral_density(each, probes=64, depth=24) for each in both)
    for function in (np.square, np.tanh):
        mean, error = free.mean(function)
        near(exact.mean(function)[0], function(values).mean())
        assert abs(mean - function(values).mean()) <= 5 * error
        assert error < 0.2 * abs(mean)
    points = np.linspace(values[0], values[-1], 7)
    got = free.density(points, 0.2)
    naive = np.exp(-(((points[:, None] - values) / 0.2) ** 2) / 2).mean(axis=1) / 0.2 / np.sqrt(2 * np.pi)
    near(exact.density(points, 0.2), naive)
    assert np.abs(got - naive).max() < 0.2 * naive.max()


def test_a_quadrature_with_a_node_for_each_eigenvalue_is_exact():
    """With as many steps as there are distinct eigenvalues the quadrature of every function is exact."""
    values = np.repeat([-1.0, 0.5, 2.0], [4, 3, 5])
    made = curvature.of_function(Partial(jnp.multiply, jnp.asarray(values)), 12, memory=0)
    found = curvature.spectral_density(made, probes=64, depth=6)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0)
    mean, error = found.mean(np.exp)
    assert abs(mean - np.exp(values).mean()) <= 5 * error
    assert np.all(np.abs(found.nodes[:, :, None] - [-1, 0.5, 2]).min(axis=-1)[found.weights > 1e-9] < 1e-6)


@pytest.mark.parametrize("method", [LoRA(2), IA3()], ids=lambda method: method.name)
def test_the_curvature_in_phi_has_the_terms_of_the_chain_rule(network, split, truth, method):
    made = method.reparameterize(network)
    phi = jax.tree.map(lambda leaf: vectors(1, *leaf.shape)[0] / 2, made.template)
    found = curvature.pulled_back(network, split, method, phi, **options(network, truth))
    at = curvature.hessian(network, split, params=made.apply(network.params, phi), **options(network, truth))
    P = np.asarray(made.jacobian(jax.tree.map(jnp.asarray, phi)).as_matrix())
    near(found.P, P)
    near(found.full_gradient, at.gradient)
    near(found.gradient, P.T @ at.gradient)
    near(found.restricted, P.T @ at.matrix() @ P, 1e-11)
    near(found.restricted, at.restricted(P), 1e-11)
    size = np.abs(found.hessian).max()
    if isinstance(method, IA3):
        assert np.abs(found.second).max() < 1e-14 * size  # its g is linear
    else:
        assert np.abs(found.second).max() > 1e-3 * size
    other = curvature.of_function(found.curvature.linear, found.k)
    near(other.matrix(), found.hessian, 1e-11)


def test_a_method_without_g_and_a_phi_of_another_method_are_refused(network, split):
    with pytest.raises(ValueError, match=r"method: .*no map g; use `hessian` of the network"):
        curvature.pulled_back(network, split, Prefix(), {})
    with pytest.raises(ValueError, match="phi: missing"):
        curvature.pulled_back(network, split, LoRA(2), {"a": np.zeros(3)})


def test_float32_and_nan_are_refused(network, split):
    with pytest.raises(ValueError, match=r"network has dtype float32.*jax_enable_x64"):
        curvature.hessian(network.astype("float32"), split)
    broken = jax.tree.map(lambda leaf: leaf * np.nan, network.params)
    with pytest.raises(ValueError, match="params contains NaN"):
        curvature.gauss_newton(network, split, params=broken)
    with pytest.raises(ValueError, match="point has dtype float32"):
        curvature.of_loss(lambda v, _: jnp.sum(v), np.zeros(2, "float32"))
    with pytest.raises(ValueError, match="the loss and its gradient at the point contains NaN"):
        curvature.of_loss(lambda v, _: jnp.sum(jnp.log(v)), np.zeros(2))
    with pytest.raises(ValueError, match="vectors contains NaN"):
        curvature.of_matrix(np.eye(2)).product(np.array([np.nan, 0]))
    with pytest.raises(ValueError, match="contains NaN or infinity"):
        curvature.of_function(lambda v: v / 0, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight_decay": -1.0}, "weight_decay: got -1"),
        ({"weights": np.ones(3)}, rf"weights: got shape \(3,\).*needs \({P},\)"),
        ({"weights": -np.ones(P)}, "zero or more"),
        ({"centre": {"a": np.zeros(2)}}, "centre: missing"),
        ({"params": {"a": np.zeros(2)}}, "params: missing"),
    ],
)
def test_wrong_arguments_of_a_network_are_named(network, split, wrong, message):
    with pytest.raises(ValueError, match=message):
        curvature.hessian(network, split, **wrong)


def test_labels_without_an_output_are_refused(network):
    with pytest.raises(ValueError, match=r"outputs of shape \(2, 4\), needs at least \(2, 8\)"):
        curvature.hessian(network, Split(np.zeros((2, 5)), [0, 7]))


def test_a_pair_in_place_of_a_split_is_named(network, split):
    with pytest.raises(
        ValueError, match=r"split: got a tuple, needs a Split; give models\.tasks\.Split\(x, y\)"
    ):
        curvature.hessian(network, (split.x, split.y))


@pytest.mark.parametrize(
    "call",
    [
        lambda A: curvature.eigenpairs(A, 1),
        curvature.definiteness,
        lambda A: curvature.solve(A, np.ones(2)),
        lambda A: curvature.quadratic_form(A, np.ones(2)),
        curvature.trace,
        curvature.spectral_density,
    ],
)
def test_an_array_in_place_of_a_curvature_is_named(call):
    with pytest.raises(ValueError, match=r"got an array \(ndarray\).*give curvature\.of_matrix\(A\)"):
        call(np.eye(2))
    with pytest.raises(ValueError, match="got NoneType, needs a Curvature; make one with `hessian`"):
        call(None)


def test_an_asymmetric_function_is_found_out():
    A = np.random.default_rng(0).normal(size=(4, 4))
    with pytest.raises(ValueError, match=r"differ by .* needs a symmetric linear map"):
        curvature.of_function(Partial(jnp.matmul, jnp.asarray(A)), 4)
    with pytest.raises(ValueError, match="differ from those of its transpose"):
        curvature.of_matrix(A)
    with pytest.raises(ValueError, match=r"to shape \(3,\), needs \(4,\)"):
        curvature.of_function(lambda v: v[:3], 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda C: C.product(np.zeros(3)), r"vectors: got shape \(3,\), needs \(4,\) or \(4, b\)"),
        (
            lambda C: C.restricted(np.zeros((2, 4))),
            r"directions: got shape \(2, 4\), needs \(4, k\).*transpose",
        ),
        (lambda C: C.shifted(np.inf), "shift: got inf"),
        (lambda C: curvature.solve(C, np.zeros(3)), r"u: got shape \(3,\), needs \(4,\)"),
        (lambda C: curvature.quadratic_form(C, np.zeros(4), cutoff=-1), "cutoff: got -1"),
        (lambda C: curvature.eigenpairs(C, 0), "count: got 0, needs a whole number from 1 to d = 4"),
        (lambda C: curvature.eigenpairs(C, 5), "count: got 5"),
        (lambda C: curvature.eigenpairs(C, 1, "biggest"), "which: got 'biggest', needs one of 'largest'"),
        (lambda C: curvature.eigenpairs(C, 1, tolerance=0.0), "tolerance: got 0"),
        (lambda C: curvature.spectral_density(C, depth=0), "depth: got 0"),
        (lambda C: curvature.spectral_density(C).density(np.zeros(1), 0.0), "width: got 0"),
        (lambda C: curvature.of_function(jnp.negative, 0), "d: got 0"),
        (lambda C: curvature.of_matrix(np.ones((2, 3))), r"matrix: got shape \(2, 3\)"),
        (lambda C: curvature.of_function(jnp.negative, 4, memory=0).matrix(), r"memory: .* give memory=128"),
        (lambda C: curvature.trace(curvature.of_function(jnp.negative, 4, memory=0), probes=1), "at least 2"),
        (lambda C: curvature.solve(C, np.ones(4)).error(0.0), "lower: got 0"),
    ],
)
def test_what_is_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(curvature.of_matrix(np.eye(4)))
