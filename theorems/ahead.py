"""Work that is kept ahead: what comes next is made in a thread while what came is looked at.

Training and judging would take turns otherwise, and a second core have nothing to do.  JAX lets other threads
run while it compiles and computes, so that the two really go on side by side.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")
_PATIENCE = 0.1  # seconds between two looks at whether anybody still wants the items


class Halted(Exception):  # noqa: N818  (it ends work that nobody wants any more)
    """Raised in the thread by `halt` once the consumer has gone."""


class Ahead(Iterator[Item], Generic[Item]):
    """The items of an iterable, computed in order in a thread of their own from now on.

    Args:
        make: called once in the thread; it gets a function `halt` to call now and then, which raises `Halted`
            after `close`, so that long work ends early.
        depth: how many items may wait to be looked at.

    Iterating raises what `make` or its iterable raised, after the items that came before.
    """

    def __init__(self, make: Callable[[Callable[[], None]], Iterable[Item]], depth: int = 2) -> None:
        self._waiting: queue.Queue[tuple[str, object]] = queue.Queue(depth)
        self._gone = threading.Event()
        threading.Thread(target=self._work, args=(make,), name="ahead").start()

    def __next__(self) -> Item:
        kind, value = self._waiting.get()
        if kind == "item":
            return value
        self._waiting.put((kind, value))  # the last entry of all: asked again, it says the same
        raise StopIteration if kind == "end" else value

    def close(self) -> None:
        """Want no more: the thread ends at its next `halt`."""
        self._gone.set()

    def _work(self, make: Callable[[Callable[[], None]], Iterable[Item]]) -> None:
        with suppress(Halted):
            try:
                for item in make(self._halt):
                    self._offer("item", item)
            except Halted:
                raise
            except BaseException as error:  # whatever it is, the consumer has to hear of it
                self._offer("error", error)
            else:
                self._offer("end", None)

    def _offer(self, kind: str, value: object) -> None:
        while True:
            self._halt()
            with suppress(queue.Full):
                return self._waiting.put((kind, value), timeout=_PATIENCE)

    def _halt(self) -> None:
        if self._gone.is_set():
            raise Halted
