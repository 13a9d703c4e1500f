"""Arrays among the settings of a method: hashed and compared by what they hold."""

import hashlib

import numpy as np
from numpy.typing import ArrayLike

from .. import tree


class Frozen:
    """An array that never changes, so that a method that holds it can be hashed and serve as a key.

    Args:
        array: what to hold; it is copied.

    Examples:
        >>> Frozen([1.0, 2.0]) == Frozen([1.0, 2.0])
        True
    """

    def __init__(self, array: ArrayLike) -> None:
        self.array = np.array(array)
        self.array.flags.writeable = False
        header = f"{self.array.dtype.str}{self.array.shape}".encode()
        self.digest = hashlib.sha256(header + np.ascontiguousarray(self.array).tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Frozen({tree.short(self.array)})"
