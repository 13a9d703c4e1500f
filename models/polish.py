"""From a trained Φ to a stationary point: L-BFGS, then damped Newton steps with the dense Hessian.

Statements about minimizers can only be judged at minimizers. Adam stops at a gradient norm around 1e-3;
L-BFGS in float64 takes over and gets slow near the end, where a few Newton steps square the error instead.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from .derivatives import (
    Examples,
    Part,
    Shapes,
    dense_hessian,
    from_leaves,
    hessian_product,
    shapes_of,
    transposed,
    unraveled,
)
from .inputs import arrays
from .methods.base import Method
from .network import Network
from .pulled_back import tuned
from .tasks import Split
from .training import Batch, Phi, Program, Settings
from .tree import Params

_NEWTON_FROM = 1e-4
_CHUNK = 200
_RAISES = 12
_ROUNDING = 64 * np.finfo(np.float64).eps

Say = Callable[[str], None]
Vector = Float[Array, " k"]
Data = tuple[Params, Batch]


@dataclass(frozen=True, eq=False)
class Polished:
    """Where polishing ended.

    Args:
        phi: Φ, float64.
        gradient_norm: ‖∇‖₂ of the objective there.
        objective: its value there, weight decay included.
        tolerance: the gradient norm that was asked for.
        lbfgs_steps: number of L-BFGS steps.
        newton_steps: number of Newton steps.
        seconds: wall clock, compilation included.
    """

    phi: PyTree[Float[np.ndarray, "..."]]
    gradient_norm: float
    objective: float
    tolerance: float
    lbfgs_steps: int
    newton_steps: int
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether the gradient norm is within the tolerance."""
        return self.gradient_norm <= self.tolerance


def polish(
    network: Network,
    split: Split,
    method: Method,
    phi: PyTree[Float[Array, "..."]],
    *,
    weight_decay: float = 0.0,
    tolerance: float = 1e-8,
    lbfgs_steps: int = 4000,
    newton_steps: int = 40,
    dense_limit: int = 4000,
    progress: Callable[[str], None] | None = None,
) -> Polished:
    r"""Moves Φ to a stationary point of the objective that `fit` minimizes, on all examples of a split.

    L-BFGS runs down to a gradient norm of 1e-4 (or all the way when k is above `dense_limit`), then Newton
    steps $(\nabla^2 + \mu I)\,s = -\nabla$ with $\mu = \min(1, \|\nabla\|)$, raised until the matrix is
    positive definite and the step lowers the gradient norm. This damping keeps the quadratic rate also
    where minimizers are not isolated, as with LoRA, whose factors can be turned without changing their
    product.

    Args:
        network: f and θ₀ in float64.
        split: usually `task.new.train`.
        method: gives g.
        phi: where to start, float64.
        weight_decay: λ of the objective. Without it a minimum need not exist (separable classes).
        tolerance: gradient norm to reach.
        lbfgs_steps: at most so many L-BFGS steps.
        newton_steps: at most so many Newton steps.
        dense_limit: the largest k for which the Hessian, k² numbers, is formed.
        progress: called with a line of text now and then.

    Raises:
        ValueError: float32 parameters or Φ, or a Φ that is not finite.

    References:
        Fan and Yuan, *On the quadratic convergence of the Levenberg–Marquardt method without nonsingularity
        assumption*, Computing 74, 2005 (the damping).
        Liu and Nocedal, *On the limited memory BFGS method for large scale optimization*, Math. Program.
        45, 1989.
    """
    started = time.perf_counter()
    _check(network, phi)
    say, network = progress or (lambda _: None), method.enlarge(network)
    program = Program.of(network, method, Settings(weight_decay=weight_decay))
    data = network.params, arrays(split, network.dtype)
    vector, unravel = ravel_pytree(jax.tree.map(jnp.asarray, phi))
    dense = vector.size <= dense_limit
    target = max(tolerance, _NEWTON_FROM) if dense else tolerance
    vector, first = _lbfgs(program, data, vector, (target, lbfgs_steps), say)
    second = 0
    if dense:
        vector, second = _newton(program, data, vector, (tolerance, newton_steps), say)
    value, gradient = _value_and_gradient(program, data, vector)
    return Polished(
        phi=jax.device_get(unravel(vector)),
        gradient_norm=float(jnp.linalg.norm(gradient)),
        objective=float(value),
        tolerance=tolerance,
        lbfgs_steps=first,
        newton_steps=second,
        seconds=time.perf_counter() - started,
    )


def _lbfgs(
    program: Program, data: Data, phi: Vector, limits: tuple[float, int], say: Say
) -> tuple[Vector, int]:
    """L-BFGS until the gradient norm is reached, the steps are used up, or a chunk brings nothing."""
    (target, steps), done, state, best = limits, 0, _solver().init(phi), math.inf
    while done < steps:
        value, gradient = _value_and_gradient(program, data, phi)
        norm = float(jnp.linalg.norm(gradient))
        say(f"L-BFGS step {done}: objective {float(value):.6g}, gradient norm {norm:.1e}")
        if norm <= target or float(value) >= best:
            break
        best = float(value)
        phi, state, count = _lbfgs_chunk(program, data, phi, state, (target, min(_CHUNK, steps - done)))
        done += int(count)
    return phi, done


@partial(jax.jit, static_argnums=0)
def _lbfgs_chunk(
    program: Program, data: Data, phi: Vector, state: optax.OptState, limits: tuple[ArrayLike, ArrayLike]
) -> tuple[Vector, optax.OptState, Int[Array, ""]]:
    (target, steps), solver, value = limits, _solver(), partial(_value, program, data)
    value_and_gradient = optax.value_and_grad_from_state(value)

    def go_on(carry: tuple) -> Array:
        _, state, count = carry
        norm = jnp.linalg.norm(optax.tree.get(state, "grad"))
        return (count < steps) & ((count == 0) | (norm > target))

    def step(carry: tuple) -> tuple:
        phi, state, count = carry
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            loss, gradient = value_and_gradient(phi, state=state)
            updates, state = solver.update(gradient, state, phi, value=loss, grad=gradient, value_fn=value)
        return phi + updates, state, count + 1

    return jax.lax.while_loop(go_on, step, (phi, state, jnp.int32(0)))


def _newton(
    program: Program, data: Data, phi: Vector, limits: tuple[float, int], say: Say
) -> tuple[Vector, int]:
    """Newton steps with the damping raised until they lower the gradient norm and not raise the objective."""
    tolerance, steps = limits
    value, gradient = _value_and_gradient(program, data, phi)
    for done in range(steps):
        norm = float(jnp.linalg.norm(gradient))
        say(f"Newton step {done}: objective {float(value):.6g}, gradient norm {norm:.1e}")
        if norm <= tolerance:
            return phi, done
        hessian = _hessian(program, data, phi)
        for raised in range(_RAISES):
            new = _newton_step(phi, gradient, hessian, min(1.0, norm) * 10.0 ** (raised - 1))
            new_value, new_gradient = _value_and_gradient(program, data, new)
            # The objective may rise by its own rounding: near the end nothing else is left of it.
            allowed = float(value) + _ROUNDING * (1 + abs(float(value)))
            if float(jnp.linalg.norm(new_gradient)) < norm and float(new_value) <= allowed:
                phi, value, gradient = new, new_value, new_gradient
                break
        else:
            return phi, done
    return phi, steps


def _hessian(program: Program, data: Data, phi: Vector) -> Float[np.ndarray, "k k"]:
    loss = _Objective(program, shapes_of(program.reparameterization(data[0]).template))
    product = hessian_product(loss, phi, data)
    matrix, _ = dense_hessian(loss, phi, data, product)
    return (matrix + matrix.T) / 2


@dataclass(frozen=True)
class _Objective:
    """The objective as `derivatives` wants it."""

    program: Program
    shapes: Shapes

    def __call__(self, phi: Vector, data: Data) -> Float[Array, ""]:
        return _value(self.program, data, phi)

    def forward(self, leaves: list[Array], theta0: Params, x: Array) -> Array:
        return tuned(self.program, from_leaves(leaves, self.shapes), theta0, x)

    def parts(self, data: Data) -> tuple[Params, Examples]:
        theta0, (x, y) = data
        weights, none = jnp.full(len(y), 1 / len(y), x.dtype), jnp.zeros((), x.dtype)
        return theta0, Examples(x, y, weights, none, none)

    def penalty(self, phi: Vector, data: Data) -> Float[Array, ""]:
        return self.program.penalty(unraveled(phi, self.shapes), phi.dtype)

    def penalty_hessian(self, phi: Vector, data: Data) -> float | Float[np.ndarray, "k k"]:
        decay = self.program.settings.weight_decay
        if self.program.method.penalty(unraveled(phi, self.shapes)) is None:
            return decay
        return decay * np.eye(phi.size) + transposed(
            hessian_product(Part(self, "penalty"), phi, data), phi.size
        )


@jax.jit
def _newton_step(
    phi: Vector, gradient: Vector, hessian: Float[Array, "k k"], damping: Float[ArrayLike, ""]
) -> Vector:
    # Where the matrix is not positive definite its factor is NaN, and so is the new Φ, which is not accepted.
    factor = jnp.linalg.cholesky(hessian + damping * jnp.eye(phi.size, dtype=phi.dtype))
    return phi - jax.scipy.linalg.cho_solve((factor, True), gradient)


@partial(jax.jit, static_argnums=0)
def _value_and_gradient(program: Program, data: Data, phi: Vector) -> tuple[Float[Array, ""], Vector]:
    return jax.value_and_grad(partial(_value, program, data))(phi)


def _value(program: Program, data: Data, phi: Vector) -> Float[Array, ""]:
    theta0, examples = data
    return program.objective(program.unravel(phi, theta0), theta0, examples)


def _solver() -> optax.GradientTransformationExtraArgs:
    return optax.lbfgs(memory_size=20)


def _check(network: Network, phi: Phi) -> None:
    for argument, tree in (("network", network.params), ("phi", phi)):
        dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}
        if dtypes != {"float64"}:
            raise ValueError(
                f"{argument}: got {', '.join(sorted(dtypes))}, needs float64, as 1e-8 is below "
                "its rounding; run jax.config.update('jax_enable_x64', True) at the start of the program, "
                "then cast with network.astype('float64') and jax.tree.map"
            )
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(phi)):
        raise ValueError(
            "phi: got NaN or infinite entries, needs finite ones; fit with a smaller learning rate"
        )
