"""Sample sizes of a learning curve, and which examples make up each of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from .tasks import Task


def log_sizes(task: Task, count: int = 6, per_class: int = 2) -> tuple[int, ...]:
    """Sample sizes in equal steps on a logarithmic scale, from a few of each class to all training examples.

    Raises:
        ValueError: fewer training examples than the first size, or a count below 2.
    """
    first, last = per_class * task.classes, len(task.new.train)
    if count < 2 or not 0 < first < last:
        raise ValueError(
            f"count, per_class: got {count} and {per_class}, needs at least 2 sizes from {first} examples "
            f"on, and there are {last}; give fewer of each class"
        )
    return tuple(dict.fromkeys(round(size) for size in np.geomspace(first, last, count)))


def nested_order(labels: Int[np.ndarray, " p"], seed: int) -> Int[np.ndarray, " p"]:
    """All examples in an order of which each prefix has the proportions of the classes, to within an example.

    Within a class the order is a random permutation; the j-th of n examples of a class comes at the place
    (j − ½)/n of the whole, ties being broken by a random order of the classes.
    """
    generator = np.random.default_rng([seed, len(labels)])
    shuffled = generator.permutation(len(labels))
    place, rank = np.empty(len(labels)), np.empty(len(labels), int)
    for number, label in enumerate(generator.permutation(np.unique(labels))):
        own = shuffled[labels[shuffled] == label]
        place[own], rank[own] = (np.arange(len(own)) + 0.5) / len(own), number
    return np.lexsort((rank, place))


def checked_sizes(task: Task, sizes: Sequence[int]) -> tuple[int, ...]:
    """Ascending whole numbers, from one example a class to all.

    Raises:
        ValueError: anything else.
    """
    sizes, most = tuple(sizes), len(task.new.train)
    whole = all(isinstance(size, int | np.integer) for size in sizes)
    if not sizes or not whole or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"sizes: got {sizes}, needs ascending whole numbers, such as {log_sizes(task)}")
    if sizes[0] < task.classes or sizes[-1] > most:
        raise ValueError(
            f"sizes: got {sizes[0]} to {sizes[-1]}, needs {task.classes} (the number of classes) to {most} "
            "(all training examples)"
        )
    return tuple(int(size) for size in sizes)
