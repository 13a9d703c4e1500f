"""What `fit` takes, checked before anything is compiled, and brought into the form that it computes with."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .network import Network
from .tasks import Split, Splits
from .training import Settings


def arrays(split: Split, dtype: np.dtype) -> tuple[Float[Array, "p ..."], Int[Array, " p"]]:
    """A split as JAX arrays, inputs in the dtype of the network."""
    return jnp.asarray(split.x.astype(dtype)), jnp.asarray(split.y)


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Different whole numbers that make JAX keys.

    Raises:
        ValueError: none, a repeated one, or one out of range.
    """
    seeds = tuple(seeds)
    whole = all(isinstance(seed, int | np.integer) and 0 <= seed < 2**32 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds: got {seeds}, needs different whole numbers below 2³², such as (0, 1)")
    return tuple(int(seed) for seed in seeds)


def check_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """Positive learning rates.

    Raises:
        ValueError: none, or one that is not a positive number.
    """
    rates = tuple(float(rate) for rate in rates)
    if not rates or not all(0 < rate < math.inf for rate in rates):
        raise ValueError(
            f"learning_rates: got {rates}, needs one or more positive numbers, such as (1e-3, 1e-2)"
        )
    return rates


def check_data(network: Network, splits: Splits, settings: Settings) -> None:
    """Refuse data that the network or the settings do not fit to, before anything is compiled.

    Raises:
        ValueError: larger mini-batches than there are examples, inputs that the network does not take, or
            labels that it has no output for.
    """
    if settings.batch_size is not None and settings.batch_size > len(splits.train):
        raise ValueError(
            f"batch_size: got {settings.batch_size}, needs at most the {len(splits.train)} training "
            "examples; use None to take all of them at each step"
        )
    x = jax.ShapeDtypeStruct(splits.train.x.shape, network.dtype)
    try:
        outputs = jax.eval_shape(network.apply, network.params, x)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"network: {network.name!r} cannot be applied to inputs of shape {x.shape} ({error}); "
            "give a task with the inputs that it was built for (tokens=True for a transformer)"
        ) from error
    top = max(int(split.y.max()) for split in (splits.train, splits.validation)) + 1
    if len(outputs.shape) != 2 or outputs.shape[1] < top:
        raise ValueError(
            f"network: {network.name!r} gives outputs of shape {outputs.shape}, needs at least "
            f"(p, {top}) for the labels of this task"
        )
