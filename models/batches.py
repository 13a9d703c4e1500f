"""Which examples a step sees: mini-batches of a split, or of subsets of it that runs side by side have."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .training import Settings


def batches(
    settings: Settings, seeds: tuple[int, ...], examples: int
) -> Iterator[Int[np.ndarray, "S chunk batch"] | None]:
    """The rows of the mini-batches, chunk by chunk; an epoch is a permutation without its incomplete rest."""
    size, count = settings.batch_size, settings.eval_every
    generators = [np.random.default_rng(seed) for seed in seeds]
    rows = np.empty((len(seeds), 0, size or 0), np.int32)
    while True:
        while size is not None and rows.shape[1] < count:
            epoch = np.stack([generator.permutation(examples) for generator in generators])
            epoch = epoch[:, : examples // size * size].reshape(len(seeds), -1, size)
            rows = np.concatenate([rows, epoch.astype(np.int32)], axis=1)
        yield None if size is None else rows[:, :count]
        rows = rows[:, count:]


def batches_of(
    settings: Settings, seeds: tuple[int, ...], subsets: Sequence[Int[np.ndarray, "S N"]]
) -> Iterator[Int[np.ndarray, "P*S chunk batch"] | None]:
    """The rows of the mini-batches of each subset, as `batches` has them of a split that is the subset.

    A subset that is smaller than a mini-batch makes one of its own size; what is filled up weighs nothing.
    """
    size, seed = settings.batch_size, np.arange(len(seeds))[:, None, None]
    if size is None:
        yield from itertools.repeat(None)
    streams = [
        batches(replace(settings, batch_size=min(size, of.shape[1])), seeds, of.shape[1]) for of in subsets
    ]
    for chunks in zip(*streams, strict=True):
        rows = [of[seed, chunk].astype(np.int32) for of, chunk in zip(subsets, chunks, strict=True)]
        yield np.concatenate([np.pad(one, ((0, 0), (0, 0), (0, size - one.shape[2]))) for one in rows])


def weights_of(
    subsets: Sequence[Int[np.ndarray, "S N"]], examples: int, batch_size: int | None, dtype: np.dtype
) -> dict[str, Float[Array, "P*S p"]]:
    """The weights of all examples, and of those in a mini-batch: equal within a subset, zero outside."""
    train, batch = [], []
    for of in subsets:
        seeds, count = of.shape
        train.append(np.zeros((seeds, examples), dtype))
        np.put_along_axis(train[-1], of, 1 / count, axis=1)
        filled = min(batch_size or 1, count)
        batch.append(np.where(np.arange(batch_size or 1) < filled, 1 / filled, 0) + np.zeros((seeds, 1)))
    return {
        "train": jnp.asarray(np.concatenate(train)),
        "batch": jnp.asarray(np.concatenate(batch).astype(dtype)),
    }
