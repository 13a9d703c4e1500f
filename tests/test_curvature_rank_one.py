"""PᵀAP layer by layer against the dense matrix, and what it has to leave to other ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from peftproof.models import derivatives
from peftproof.models.methods import LoRA
from peftproof.models.mlp import mlp
from peftproof.models.network import Network
from peftproof.models.tasks import Split
from peftproof.theorems import curvature
from peftproof.theorems.curvature import network as of_network
from peftproof.theorems.curvature import rank_one

EXAMPLES, DECAY = 9, 0.25


def moved(values):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + 0.5 * rng.normal(size=leaf.shape), values)


@pytest.fixture(scope="module")
def network():
    made = mlp((8, 6, 6, 3), jax.random.key(0), jnp.float64)
    return made.with_params(moved(made.params))


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(1)
    return Split(rng.normal(size=(EXAMPLES, 8)), rng.integers(0, 3, size=EXAMPLES))


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(2).uniform(size=EXAMPLES)


@pytest.fixture(scope="module")
def given(network, split, weights):
    return of_network.objective(network, split, None, weights, DECAY)


@pytest.fixture(scope="module", name="P")
def tangent(network):
    """LoRA's tangent, single entries, rows and columns of a kernel; repeated and empty columns."""
    made = LoRA(2).reparameterize(network)
    phi = moved(made.init(jax.random.key(0)))
    lora = np.asarray(jax.jit(lambda phi: made.jacobian(phi).as_matrix())(phi))
    d = network.d
    kernel = np.zeros((d, 14))
    first = kernel[6:54].reshape(8, 6, 14)  # behind the bias of the first layer
    first[np.arange(8), :, np.arange(8)] = 2.0
    first[:, np.arange(6), 8 + np.arange(6)] = np.arange(8)[:, None]
    return np.concatenate([lora, 0.7 * np.eye(d)[:, 96::9], kernel, -lora[:, 3:5], np.zeros((d, 2))], axis=1)


def restricted(given, P, *, gauss_newton=False):
    make = derivatives.gauss_newton_product if gauss_newton else derivatives.hessian_product
    return rank_one.restricted(*given, make(*given), P, gauss_newton=gauss_newton, few=0)


def agree(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.linalg.norm(expected))


@pytest.fixture(scope="module")
def dense(given):
    loss, point, data = given
    return np.asarray(jax.jit(jax.hessian(loss))(point, data))


def test_the_restriction_of_a_curvature_is_that_of_the_dense_hessian(network, split, weights, dense, P):
    C = curvature.hessian(network, split, weights=weights, weight_decay=DECAY)
    assert C.restrictor(P) is not None and C.restrictor(P[:, : rank_one.FEW - 1]) is None
    found = C.restricted(P)
    agree(found, P.T @ dense @ P)
    assert not found[:, -2:].any()
    agree(C.shifted(0.5).restricted(P), P.T @ dense @ P + 0.5 * P.T @ P)


def test_the_gauss_newton_matrix_leaves_out_the_bends_of_the_network(given, dense, P):
    loss, point, data = given
    J = np.asarray(jax.jit(jax.jacobian(loss.outputs))(point, data))
    q = np.exp(np.asarray(loss.outputs(point, data)))
    q /= q.sum(axis=1, keepdims=True)
    bend = q[:, :, None] * np.eye(3) - q[:, :, None] * q[:, None, :]
    bend *= np.asarray(data.weights)[:, None, None]
    A = np.einsum("nia,nij,njb->ab", J, bend, J) + DECAY * np.eye(len(point))
    agree(restricted(given, P, gauss_newton=True), P.T @ A @ P)
    assert np.linalg.norm(P.T @ (A - dense) @ P) > 1e-3 * np.linalg.norm(P.T @ dense @ P)


def test_examples_are_taken_in_parts_where_room_is_short(given, dense, P, monkeypatch):
    whole = 8 * 15 * (15 + 23) * EXAMPLES
    monkeypatch.setattr(rank_one, "ROOM", whole // 2)  # three parts, of three examples
    agree(restricted(given, P), P.T @ dense @ P)


def test_columns_of_another_form_are_left_to_other_ways(given, P):
    assert restricted(given, P[:, :1] + P[:, 40:41]) is None  # two layers
    full = np.zeros((len(P), 1))
    full[6:13] = 1.0  # a row and the beginning of the next
    assert restricted(given, full) is None
    assert restricted(given, np.random.default_rng(0).normal(size=(len(P), 4))) is None
    # Rows that all differ: more products u vᵀ than there are parameters.
    rows = np.zeros((len(P), 40))
    for column in range(40):
        at = 6 + 6 * (column % 8)
        rows[at : at + 6, column] = np.random.default_rng(column).normal(size=6)
    assert restricted(given, rows) is None


def test_networks_of_other_forms_are_left_to_other_ways(split):
    def twice(params, x):
        kernel = params["layer"]["kernel"]
        return jnp.tanh(x @ kernel) @ kernel.T @ kernel

    def coupled(params, x):
        f = x @ params["layer"]["kernel"]
        return jnp.tanh(f - f.mean(axis=0, keepdims=True))

    def plain(params, x):
        return jnp.tanh(x @ params["layer"]["kernel"])

    start = {"layer": {"kernel": jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)))}}
    found = [
        restricted(of_network.objective(Network(apply, start), split), np.eye(24)[:, ::6])
        for apply in (twice, coupled, plain)
    ]
    assert [each is None for each in found] == [True, True, False]


def test_any_scalar_function_is_left_to_other_ways():
    product = derivatives.hessian_product(_quartic, jnp.ones(3), None)
    assert rank_one.restricted(_quartic, jnp.ones(3), None, product, np.eye(3)[:, :1], few=0) is None


def _quartic(v, data):
    return jnp.sum(v**4)
