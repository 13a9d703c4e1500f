"""What the claims of Theorem 5 are judged on along the number of examples: measured learning curves.

A claim on one curve yields nothing for a pair of them, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from ...models.curves import LearningCurve
from ...models.paired_curves import LearningPair
from .. import memo
from ..comparison import ERRORS, MissingIngredient, error_of_mean
from .instances.curves import Curve, Measured, Pair
from .resampling import RESAMPLES, limits, resamples

Subject = LearningCurve | LearningPair
_KEPT = 16  # curves and pairs of one network: each is fitted once, whatever number of claims asks
_CONFIDENCE = 0.99

_curve = memo.latest(lambda one: Curve(one.sizes, one.loss()), size=_KEPT)
_pair = memo.latest(
    lambda two: Pair(two.sizes, two.full.loss(), two.peft.loss(), two.full.d, two.peft.k), size=_KEPT
)


def curves(subject: Subject) -> Iterator[Curve]:
    """The test losses of a single curve."""
    if isinstance(subject, LearningCurve):
        yield _curve(subject)


def pairs(subject: Subject) -> Iterator[Pair]:
    """The test losses of a method beside those of full fine-tuning."""
    if isinstance(subject, LearningPair):
        yield _pair(subject)


def further_gains(subject: Subject) -> Iterator[Measured]:
    """What an example is worth to full fine-tuning between two sizes, and then between two larger ones.

    Neighbouring ones, and last the two halves of the whole range.

    Raises:
        MissingIngredient: fewer than three sizes.
    """
    if not (isinstance(subject, LearningCurve) and subject.method.name == "full"):
        return
    sizes, loss = subject.sizes, subject.loss()
    if len(sizes) < 3:
        raise MissingIngredient("three sample sizes")
    neighbours = [(i, i + 1, i + 2) for i in range(len(sizes) - 2)]
    for i, j, k in [*neighbours, (0, len(sizes) // 2, len(sizes) - 1)]:
        first, middle, last = sizes[i], sizes[j], sizes[k]
        here, there = _worth(sizes, loss, i, j), _worth(sizes, loss, j, k)
        yield Measured(
            error_of_mean(there - here),
            gains=(float(here.mean()),),
            later=(float(there.mean()),),
            note=f"per example from N = {first} to {middle}, then to {last}",
        )


def quotients(subject: Subject) -> Iterator[Measured]:
    """What an example is worth to each, between neighbouring sizes."""
    yield from _both(subject, 1, 1)


def shares(subject: Subject) -> Iterator[Measured]:
    """The same, to be compared as d · PEFT and k · FFT."""
    if isinstance(subject, LearningPair):
        yield from _both(subject, subject.full.d, subject.peft.k)


def trainings(subject: Subject) -> Iterator[Measured]:
    """Loss on the sample of full fine-tuning, and the fitted limit of its test loss, L*.

    Runs end where validation says so: the loss on the sample is above the minimum that long training would
    reach.

    Raises:
        MissingIngredient: no law, hence no limit; or training labels that are not distributed like those of
            the test, so that the two losses are no estimates of one.
    """
    if not (isinstance(subject, LearningCurve) and subject.method.name == "full"):
        return
    fit = _curve(subject).fit
    if fit.law is None:
        raise MissingIngredient(f"a limit of the learning curve: {fit.reason}")
    _same_labels(subject)
    drawn = (
        subject.loss("train")[resamples(len(subject.seeds), RESAMPLES)].mean(axis=1) - fit.draws[0][:, None]
    )
    low, high = limits(drawn, len(subject.seeds), _CONFIDENCE)
    for at, size in enumerate(subject.sizes):
        yield Measured(
            float(high[at] - low[at]) / (2 * ERRORS),
            risks=(float(subject.loss()[:, at].mean()),),
            trainings=(float(subject.loss("train")[:, at].mean()),),
            bests=(fit.law.limit,),
            note=f"N = {size}; L* is the fitted limit of the test loss",
        )


def _both(subject: Subject, left: int, right: int) -> Iterator[Measured]:
    """What an example gains for FFT and for PEFT; the error is that of left · PEFT − right · FFT.

    Between neighbouring sizes, and last over the whole range.

    Raises:
        MissingIngredient: a single size.
    """
    if not isinstance(subject, LearningPair):
        return
    sizes = subject.sizes
    if len(sizes) < 2:
        raise MissingIngredient("two sample sizes")
    for i, j in [*pairwise(range(len(sizes))), (0, len(sizes) - 1)]:
        full, peft = (_worth(sizes, one.loss(), i, j) for one in (subject.full, subject.peft))
        yield Measured(
            error_of_mean(left * peft - right * full),
            d=subject.full.d,
            k=subject.peft.k,
            gains=(float(full.mean()), float(peft.mean())),
            note=f"per example from N = {sizes[i]} to {sizes[j]}",
        )


def _worth(sizes: tuple[int, ...], loss: Float[np.ndarray, "S V"], i: int, j: int) -> np.ndarray:
    """What each example between two sizes gains, by seed."""
    return (loss[:, i] - loss[:, j]) / (sizes[j] - sizes[i])


def _same_labels(curve: LearningCurve) -> None:
    """Require that the validation split, which is labelled as training is, is as hard as the test.

    Raises:
        MissingIngredient: accuracies that differ by more than chance makes two samples of one distribution
            differ.
    """
    held_out, test = (float(curve.accuracy(part)[:, -1].mean()) for part in ("validation", "test"))
    counts = [len(getattr(curve.task.new, part)) for part in ("validation", "test")]
    pooled = (held_out * counts[0] + test * counts[1]) / sum(counts)
    error = np.sqrt(pooled * (1 - pooled) * sum(1 / count for count in counts))
    if abs(held_out - test) > ERRORS * error:
        raise MissingIngredient(
            f"training labels like those of the test: accuracy is {held_out:.2f} on validation, where labels "
            f"are as in training, and {test:.2f} on the test"
        )
