"""Activation functions with the constants that bounds need.

A bound of a network multiplies one Lipschitz constant per layer, so each constant here is rounded *up*: the
decimal value to more digits than float64 holds is sup|σ′| computed with mpmath (the tests do it again), and
the literal is the next float64 at or above it.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Activation:
    """An elementwise function σ with what is known of it.

    Attributes:
        name: the name in `ACTIVATIONS`.
        fn: σ, elementwise, on arrays of any shape.
        lipschitz: an upper bound on sup|σ′|, at most one rounding above it.
        at_zero: σ(0); bounds that assume σ(0) = 0 ask for it.
        smooth: whether σ is continuously differentiable with a Lipschitz derivative.
        formula: σ in LaTeX.
    """

    name: str
    fn: Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]
    lipschitz: float
    at_zero: float
    smooth: bool
    formula: str

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Apply σ to each entry of x."""
        return self.fn(x)


def _gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jax.nn.gelu(x, approximate=False)


def _gelu_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jax.nn.gelu(x, approximate=True)


def _identity(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return x


_GELU_FORMULA = r"\tfrac{x}{2}\bigl(1 + \operatorname{erf}(x/\sqrt{2})\bigr)"
_GELU_TANH_FORMULA = r"\tfrac{x}{2}\bigl(1 + \tanh(\sqrt{2/\pi}\,(x + 0.044715\,x^3))\bigr)"
_ELU_FORMULA = r"x \text{ if } x > 0 \text{ else } e^x - 1"

ACTIVATIONS: dict[str, Activation] = {
    each.name: each
    for each in (
        Activation("relu", jax.nn.relu, 1.0, 0.0, smooth=False, formula=r"\max(x, 0)"),
        Activation("tanh", jnp.tanh, 1.0, 0.0, smooth=True, formula=r"\tanh x"),
        Activation("gelu", _gelu, 1.128904145185155, 0.0, smooth=True, formula=_GELU_FORMULA),
        Activation("gelu_tanh", _gelu_tanh, 1.128993068658772, 0.0, smooth=True, formula=_GELU_TANH_FORMULA),
        Activation("silu", jax.nn.silu, 1.099839320128867, 0.0, smooth=True, formula=r"x / (1 + e^{-x})"),
        Activation("elu", jax.nn.elu, 1.0, 0.0, smooth=True, formula=_ELU_FORMULA),
        Activation("softplus", jax.nn.softplus, 1.0, math.log(2), smooth=True, formula=r"\log(1 + e^x)"),
        Activation("sigmoid", jax.nn.sigmoid, 0.25, 0.5, smooth=True, formula=r"1 / (1 + e^{-x})"),
        Activation("identity", _identity, 1.0, 0.0, smooth=True, formula="x"),
    )
}
"""The activations that networks here can have, by name."""


def activation(name: str) -> Activation:
    """Look an activation up by name.

    Args:
        name: one of the keys of `ACTIVATIONS`.

    Returns:
        The activation with its constants.

    Raises:
        ValueError: no such activation; the message lists those there are.

    Examples:
        >>> activation("sigmoid").lipschitz
        0.25
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: got {name!r}, needs one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
