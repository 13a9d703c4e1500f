"""Real data with a base task and a new task: what a network is pretrained on, and what it is fine-tuned to.

The images are the 1,797 handwritten digits (8×8, 10 classes) that ship with scikit-learn. One partition of
the images, the same for the base and the new task, decides which are for training, validation and test: an
image that tests the new task has been seen by neither phase, turned or upright. Tasks from a user's own
arrays are partitioned in the same way.

References:
    Alpaydin and Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import ArrayLike, Float64, Int, Int32, Real

PARTS = ("train", "validation", "test")


def checked_part(part: str) -> str:
    """The name of a split.

    Raises:
        ValueError: it is none.
    """
    if part not in PARTS:
        raise ValueError(f"part: got {part!r}, needs one of {', '.join(PARTS)}")
    return part


@dataclass(frozen=True, eq=False)
class Split:
    """Examples with their labels, checked once and read-only from then on.

    Args:
        x: inputs of shape `(p, ...)`; they are kept as float64.
        y: integer labels of shape `(p,)`, zero or more; they are kept as int32.

    Raises:
        ValueError: no example, x or y not as described, or an input that is NaN or infinite.
    """

    x: Float64[np.ndarray, "p *shape"]
    y: Int32[np.ndarray, " p"]

    def __post_init__(self) -> None:
        x, y = np.array(self.x, dtype=np.float64), np.asarray(self.y)
        if x.ndim < 2:
            raise ValueError(
                f"Split.x has shape {x.shape}; it needs shape (p, ...), examples first. "
                "Use x[:, None] for examples that are single numbers."
            )
        if len(x) == 0 or x.size == 0:
            raise ValueError(f"Split.x has shape {x.shape}: an empty split. Give at least one example.")
        if y.shape != (len(x),):
            raise ValueError(
                f"Split.y has shape {y.shape}; it needs one label for each example: ({len(x)},)."
            )
        if not np.issubdtype(y.dtype, np.integer):
            raise ValueError(
                f"Split.y has dtype {y.dtype}; it needs integer labels 0, 1, ... "
                "Use np.unique(y, return_inverse=True)[1]."
            )
        if y.min() < 0:
            raise ValueError(f"Split.y contains the label {y.min()}; labels count from 0.")
        bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
        if bad.any():
            raise ValueError(
                f"Split.x is NaN or infinite in {bad.sum()} of {len(x)} examples, the first at row "
                f"{int(bad.argmax())}. Remove or impute them."
            )
        y = y.astype(np.int32)
        for name, value in (("x", x), ("y", y)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.x)

    def __repr__(self) -> str:
        return f"Split(x=f64[{','.join(map(str, self.x.shape))}], y=i32[{len(self)}])"


@dataclass(frozen=True, eq=False)
class Splits:
    """The three splits of one task.

    Raises:
        ValueError: inputs of different shapes, or training examples of a single class.
    """

    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        shapes = {part: getattr(self, part).x.shape[1:] for part in PARTS}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"Splits has inputs of different shapes, {shapes}; one network needs one shape.")
        if len(found := np.unique(self.train.y)) < 2:
            raise ValueError(
                f"Splits.train holds the single class {found[0]}: nothing is to be learnt from it. "
                "Give training examples of at least two classes."
            )


@dataclass(frozen=True, eq=False)
class Task:
    """A base task and a new task with the loss that both are trained on.

    Args:
        name: what reports call it.
        base: what the base network is pretrained on; None when it comes from elsewhere.
        new: what it is fine-tuned to.
        classes: number of outputs that the network must have.
        loss: only "cross_entropy", the mean over examples of `log Σ_j exp f_j − f_y`.
        description: how the data and the splits are made.

    Raises:
        ValueError: a label out of range, shapes that differ between base and new, an unknown loss, or an
            example that tests the new task and occurs among the training or validation examples of either
            task.
    """

    name: str
    base: Splits | None
    new: Splits
    classes: int
    loss: str = "cross_entropy"
    description: str = ""

    def __post_init__(self) -> None:
        if self.loss != "cross_entropy":
            raise ValueError(f"Task.loss is {self.loss!r}; the only loss is 'cross_entropy'.")
        for phase, splits in self._phases().items():
            for part in PARTS:
                if (top := int(getattr(splits, part).y.max())) >= self.classes:
                    raise ValueError(
                        f"Task.{phase}.{part} has the label {top}, out of range for classes={self.classes}. "
                        f"Labels are 0 … classes − 1: relabel, or give classes={top + 1} or more."
                    )
        if self.base is not None and self.base.train.x.shape[1:] != self.new.train.x.shape[1:]:
            raise ValueError(
                f"Task.base has inputs of shape {self.base.train.x.shape[1:]}, Task.new of shape "
                f"{self.new.train.x.shape[1:]}; one network needs one shape."
            )
        self._check_leakage()

    def _phases(self) -> dict[str, Splits]:
        return {"new": self.new} if self.base is None else {"base": self.base, "new": self.new}

    def _check_leakage(self) -> None:
        held_out = set(_rows(self.new.test.x))
        for phase, splits in self._phases().items():
            for part in ("train", "validation"):
                if seen := held_out.intersection(_rows(getattr(splits, part).x)):
                    raise ValueError(
                        f"Task.{phase}.{part} contains {len(seen)} of the examples that test the new task, "
                        "so that the test accuracy would mean nothing. Remove them, or let from_arrays split."
                    )


def from_arrays(
    *,
    new: tuple[Real[ArrayLike, "p *shape"], Int[ArrayLike, " p"]],
    base: tuple[Real[ArrayLike, "q *shape"], Int[ArrayLike, " q"]] | None = None,
    groups: tuple[Sequence[int] | None, Sequence[int]] | None = None,
    classes: int | None = None,
    name: str = "arrays",
    validation: float = 0.15,
    test: float = 0.25,
    seed: int = 0,
) -> Task:
    """A task from a user's own arrays, partitioned so that nothing that tests was seen by either phase.

    Examples with the same group, or with equal inputs when no groups are given, fall into the same split,
    in base and new alike. The partition is drawn over groups with the numpy generator of the seed.

    Args:
        new: inputs and labels to fine-tune to.
        base: inputs and labels to pretrain on; None when the base network comes from elsewhere.
        groups: `(groups of base, groups of new)`, an integer for each example: give it when an example
            comes in several forms (a turned image, a paraphrase), which
            then share their group. The first is None when there is no base.
        classes: number of classes; the largest label + 1 when not given.
        name: what reports call the task.
        validation: share of the groups for validation.
        test: share of the groups for the test.
        seed: of the partition.

    Raises:
        ValueError: shares outside of (0, 1), groups of the wrong length, an empty split and all that Split,
            Splits and Task refuse.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> from_arrays(new=(x, (x[:, 0] > 0).astype(int))).new.train
        Split(x=f64[60,3], y=i32[60])
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ValueError(
            f"validation={validation} and test={test} must be positive shares that leave some "
            "examples for training: validation + test < 1."
        )
    phases = [Split(*pair) for pair in (base, new) if pair is not None]
    ids = _group_ids(phases, groups if base is not None or groups is None else groups[-1:])
    found, inverse = np.unique(np.concatenate(ids), return_inverse=True)
    part_of_group = _partition(len(found), (round(len(found) * validation), round(len(found) * test)), seed)
    parts = np.split(part_of_group[inverse], [len(phases[0])])
    splits = [_split(phase.x, phase.y, part) for phase, part in zip(phases, parts, strict=False)]
    top = max(int(phase.y.max()) for phase in phases) + 1
    return Task(
        name=name,
        base=None if base is None else splits[0],
        new=splits[-1],
        classes=top if classes is None else classes,
        description=f"{validation:.0%} of the groups for validation, {test:.0%} for the test, seed {seed}",
    )


def digits_rotated(tokens: bool = False) -> Task:
    """Digits turned by 90° → upright digits: a task that separates the methods of fine-tuning.

    Both phases have the same 1,000 / 200 / 597 images for training, validation and test, and all 10
    classes.

    Args:
        tokens: inputs as sequences of 8 rows with 8 pixels, `(p, 8, 8)`, instead of vectors `(p, 64)`.
    """
    images, labels = _digits()
    part = _digits_partition()
    return Task(
        name="digits_rotated",
        base=_split(_form(np.rot90(images, axes=(1, 2)), tokens), labels, part),
        new=_split(_form(images, tokens), labels, part),
        classes=10,
        description="pixels / 16; base: turned by 90°; new: upright; 1000 / 200 / 597 images in both",
    )


def digits_noisy(tokens: bool = False) -> Task:
    """Upright digits → digits turned by 15°, noisy labels: few parameters win on few examples.

    30 % of the training and of the validation labels of the new task are drawn anew, uniformly over the
    classes (who trains on noisy labels has no clean ones to validate on); the test labels are clean.

    Args:
        tokens: as in `digits_rotated`.
    """
    from scipy.ndimage import rotate  # noqa: PLC0415 - one task needs it; importing peftproof should be quick

    images, labels = _digits()
    part = _digits_partition()
    turned = rotate(images, 15, axes=(1, 2), reshape=False, order=1)
    generator = np.random.default_rng(1)
    noisy = labels.copy()
    for k in (0, 1):
        rows = np.flatnonzero(part == k)
        drawn = generator.choice(rows, size=round(0.3 * len(rows)), replace=False)
        noisy[drawn] = generator.integers(0, 10, size=len(drawn))
    return Task(
        name="digits_noisy",
        base=_split(_form(images, tokens), labels, part),
        new=_split(_form(turned, tokens), noisy, part),
        classes=10,
        description="pixels / 16; base: upright; new: turned by 15°, 30 % of the training and "
        "validation labels drawn anew, clean test labels; 1000 / 200 / 597 images, the same in both",
    )


def digits_new_classes(tokens: bool = False) -> Task:
    """Digits 0–4 → digits 5–9, relabelled 0–4: the network must give its outputs a new meaning.

    Args:
        tokens: as in `digits_rotated`.
    """
    images, labels = _digits()
    part = _digits_partition()
    x, low = _form(images, tokens), labels < 5
    return Task(
        name="digits_new_classes",
        base=_split(x[low], labels[low], part[low]),
        new=_split(x[~low], labels[~low] - 5, part[~low]),
        classes=5,
        description="pixels / 16; base: digits 0–4; new: digits 5–9 as classes 0–4; 1000 / 200 / 597 in all",
    )


TASKS: dict[str, Callable[[bool], Task]] = {
    "digits_rotated": digits_rotated,
    "digits_noisy": digits_noisy,
    "digits_new_classes": digits_new_classes,
}


def task(name: str, tokens: bool = False) -> Task:
    """The task of that name, with inputs as vectors or as token sequences.

    Raises:
        ValueError: an unknown name.
    """
    if name not in TASKS:
        raise ValueError(
            f"name={name!r} is not a task; there are {', '.join(TASKS)}. Use from_arrays for your own."
        )
    return TASKS[name](tokens)


def _digits() -> tuple[Float64[np.ndarray, "1797 8 8"], Int[np.ndarray, " 1797"]]:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - half a second that only these tasks need

    data = load_digits()
    return data.images / 16.0, data.target


def _digits_partition() -> Int[np.ndarray, " 1797"]:
    return _partition(1797, (200, 597), seed=0)


def _form(images: Float64[np.ndarray, "p 8 8"], tokens: bool) -> Float64[np.ndarray, "p *shape"]:
    return images if tokens else images.reshape(len(images), 64)


def _partition(n: int, held_out: tuple[int, int], seed: int) -> Int[np.ndarray, " n"]:
    """0, 1 or 2 (train, validation, test) for each of n groups."""
    validation, test = held_out
    part = np.repeat([1, 2, 0], [validation, test, n - validation - test])
    return part[np.argsort(np.random.default_rng(seed).permutation(n))]


def _split(
    x: Float64[np.ndarray, "p *shape"], y: Int[np.ndarray, " p"], part: Int[np.ndarray, " p"]
) -> Splits:
    return Splits(*(Split(x[part == k], y[part == k]) for k in range(3)))


def _group_ids(phases: list[Split], groups: Sequence[Sequence[int]] | None) -> list[Int[np.ndarray, " p"]]:
    if groups is None:
        number: dict[bytes, int] = {}
        return [np.array([number.setdefault(row, len(number)) for row in _rows(phase.x)]) for phase in phases]
    ids = [np.asarray(group) for group in groups]
    if [i.shape for i in ids] != [(len(phase),) for phase in phases]:
        raise ValueError(
            f"groups has shapes {[i.shape for i in ids]}; it needs an integer for each example: "
            f"{[(len(phase),) for phase in phases]}."
        )
    return ids


def _rows(x: Float64[np.ndarray, "p *shape"]) -> list[bytes]:
    """Each example as bytes; adding zero turns −0.0 into 0.0, which compares equal but has other bytes."""
    return [row.tobytes() for row in x + 0.0]
