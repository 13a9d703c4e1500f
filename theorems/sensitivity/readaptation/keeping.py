"""Measurements on disk: computed once under a key that holds everything that determines them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ....models.cache import Json

if TYPE_CHECKING:
    from ....models.cache import Cache

Found = tuple[dict[str, np.ndarray], Json]


def kept(cache: Cache | None, key: Json, compute: Callable[[], Found]) -> Found:
    """Arrays and plain facts: from the cache, or computed and put there."""
    found = None if cache is None else cache.get(key)
    if found is None:
        found = compute()
        if cache is not None:
            cache.put(key, *found)
    return found
