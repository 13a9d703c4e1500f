"""Points of a sweep that are nested in its largest one, trained by one compiled program with masks as data.

Φ of each point is a corner of Φ of the largest one; entries outside of the corner start at zero and are not
trained. For LoRA such a run is LoRA of the smaller rank, step by step: with columns A[:, j] and rows B[j, :]
at zero the product A B is that of the rest, and so is the gradient of every entry that is trained.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float, PyTree

from . import tree
from .cache import Cache, Json
from .finetuning import FineTuning, Job, settings_of
from .fit import Fit, Progress, fit_masked
from .methods.base import Method, Phi

Found = tuple[dict[str, np.ndarray], Json]


def nested(
    job: Job,
    axis: str,
    values: Sequence[int],
    points: Sequence[Method],
    at_once: int | None,
    cache: Cache | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[tuple[FineTuning, ...], ...]:
    """The fine-tunings of each point, all seeds; the method of the job is the largest point.

    Raises:
        ValueError: `at_once` is not a positive number, and all that `fit` refuses.
    """
    if at_once is not None and not (isinstance(at_once, int) and at_once > 0):
        raise ValueError(f"at_once: got {at_once!r}, needs a positive whole number or None")
    for point in points:
        point.check(job.network)
    found: dict[int, Found] = {}
    keys = [_key(job, point) if cache is not None else {} for point in points]
    for index, key in enumerate(keys):
        if cache is not None and (entry := cache.get(key)) is not None:
            found[index] = entry
    missing = [index for index in range(len(points)) if index not in found]
    for chunk in chunks(missing, at_once):
        label = f"{job.network.name} {axis} {', '.join(str(values[i]) for i in dict.fromkeys(chunk))}"
        fits = _fits(job, [points[i] for i in chunk], progress, label)
        for index, one in dict(zip(chunk, fits, strict=True)).items():
            found[index] = replace(job, method=points[index]).summary(one)
            if cache is not None:
                cache.put(keys[index], *found[index])
    return tuple(
        tuple(replace(job, method=point).results(*found[index])) for index, point in enumerate(points)
    )


def _key(job: Job, point: Method) -> Json:
    return job.key() | {"kind": "sweep", "point": settings_of(point)}


def chunks(missing: list[int], at_once: int | None) -> list[list[int]]:
    """Points that are trained together; the last ones are filled up by repeating one, to keep the shapes."""
    # On a CPU more runs side by side are not faster, and what is finished earlier is in the cache earlier.
    size = (1 if jax.default_backend() == "cpu" else len(missing)) if at_once is None else at_once
    size = min(size, len(missing))
    chunks = [missing[i : i + size] for i in range(0, len(missing), size or 1)]
    return [chunk + chunk[-1:] * (size - len(chunk)) for chunk in chunks]


def _fits(
    job: Job, points: Sequence[Method], progress: Callable[[Progress], None] | None, label: str
) -> list[Fit]:
    """One fit for each point, as if its method had been fitted: with Φ of that method."""
    network = job.network.astype(job.dtype)
    whole = job.method.reparameterize(network).template
    corners = [point.reparameterize(network).template for point in points]
    fits = fit_masked(
        network,
        job.task.new,
        job.method,
        [mask(whole, corner) for corner in corners],
        job.seeds,
        job.learning_rates,
        job.settings,
        progress,
        label,
    )
    return [
        replace(fit, methods=(point,) * len(job.seeds), phi=narrowed(fit.phi, corner))
        for fit, point, corner in zip(fits, points, corners, strict=True)
    ]


def mask(whole: Phi, corner: Phi) -> PyTree[Float[np.ndarray, "..."]]:
    """Ones on the entries of Φ that the smaller Φ has, zeros elsewhere.

    Args:
        whole: shapes and dtypes of the larger Φ.
        corner: those of the smaller one; its leaves have paths of the larger one, and sizes that are not
            above those there.

    Raises:
        ValueError: leaves that are not in the larger Φ, or larger than there.
    """
    own, masks = tree.paths(corner), {}
    for path, leaf in tree.paths(whole).items():
        masks[path] = np.zeros(leaf.shape, leaf.dtype)
        if path in own:
            masks[path][_corner(own[path].shape)] = 1
    if any(
        path not in masks or np.any(np.array(leaf.shape) > masks[path].shape) for path, leaf in own.items()
    ):
        raise ValueError("corner: has leaves that the larger Φ lacks, or larger ones; give nested methods")
    return tree.from_paths(masks)


def narrowed(phi: Phi, corner: Phi) -> Phi:
    """The corner of Φ that a smaller Φ is, under any leading axes."""
    leaves = tree.paths(phi)
    return tree.from_paths(
        {path: leaves[path][(..., *_corner(leaf.shape))] for path, leaf in tree.paths(corner).items()}
    )


def _corner(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(size) for size in shape)
