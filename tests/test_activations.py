"""The constants of activations against closed forms in high-precision arithmetic."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftproof.models import ACTIVATIONS, activation

# σ as its definition reads, in arithmetic of any precision.
DEFINITIONS = {
    "relu": lambda x: max(x, mp.mpf(0)),
    "tanh": mp.tanh,
    "gelu": lambda x: x / 2 * (1 + mp.erf(x / mp.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))),
    "silu": lambda x: x / (1 + mp.exp(-x)),
    "elu": lambda x: x if x > 0 else mp.expm1(x),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "identity": lambda x: x,
}
# Where |σ′| peaks, near which σ″ has its root, for those whose supremum is not an obvious number.
PEAKS = {"gelu": 1.4, "gelu_tanh": 1.4, "silu": 2.4}
SUPREMA = {"relu": 1, "tanh": 1, "elu": 1, "softplus": 1, "sigmoid": 0.25, "identity": 1}

each_activation = pytest.mark.parametrize("name", ACTIVATIONS)


def supremum(name):
    """sup|σ′| to 30 digits."""
    if name in SUPREMA:
        return mp.mpf(SUPREMA[name])
    peak = mp.findroot(lambda x: mp.diff(DEFINITIONS[name], x, 2), PEAKS[name])
    return mp.diff(DEFINITIONS[name], peak)


@each_activation
def test_lipschitz_constant_is_an_upper_bound_within_one_rounding(name):
    with mp.workdps(30):
        exact = supremum(name)
        assert exact <= mp.mpf(activation(name).lipschitz) <= exact * (1 + mp.mpf("1e-12"))


def test_gelu_peaks_at_the_square_root_of_two():
    with mp.workdps(30):
        closed_form = (1 + mp.erf(1)) / 2 + mp.exp(-1) / mp.sqrt(mp.pi)
        assert mp.almosteq(closed_form, supremum("gelu"), rel_eps=mp.mpf("1e-20"))
        assert mp.almosteq(mp.findroot(lambda x: mp.diff(DEFINITIONS["gelu"], x, 2), 1.4), mp.sqrt(2))


@each_activation
def test_derivative_nowhere_exceeds_the_constant_and_comes_close(name):
    grid = jnp.linspace(-40, 40, 80_001)
    slopes = jnp.abs(jax.vmap(jax.grad(activation(name).fn))(grid))
    lipschitz = activation(name).lipschitz
    assert lipschitz * (1 - 1e-6) <= slopes.max() <= lipschitz * (1 + 8 * jnp.finfo(slopes.dtype).eps)


@given(name=st.sampled_from(list(ACTIVATIONS)), a=st.floats(-50, 50), b=st.floats(-50, 50))
def test_difference_quotients_stay_below_the_constant(name, a, b):
    x = np.array([a, b])
    y = np.asarray(activation(name).fn(jnp.asarray(x)))
    rounding = 8 * np.finfo(float).eps * np.abs(y).max()
    assert abs(y[0] - y[1]) <= activation(name).lipschitz * abs(a - b) + rounding


@each_activation
def test_values_are_those_of_the_definition(name):
    points = np.linspace(-8, 8, 33)
    expected = [float(DEFINITIONS[name](mp.mpf(x))) for x in points]
    np.testing.assert_allclose(activation(name)(jnp.asarray(points)), expected, rtol=1e-14, atol=4e-15)


@each_activation
def test_value_at_zero_is_the_one_on_record(name):
    assert float(activation(name).fn(jnp.zeros(()))) == activation(name).at_zero


@each_activation
def test_smooth_means_that_the_slope_does_not_jump_at_zero(name):
    slope = jax.grad(activation(name).fn)
    jump = abs(slope(jnp.asarray(1e-9)) - slope(jnp.asarray(-1e-9)))
    assert (jump < 1e-6) == activation(name).smooth


@each_activation
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(name, dtype):
    assert activation(name).fn(jnp.ones((2, 3), dtype)).dtype == dtype


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"got 'swish', needs one of relu, tanh"):
        activation("swish")
