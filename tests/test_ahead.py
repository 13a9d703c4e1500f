"""A thread that is kept one step ahead of whoever looks at what it makes."""

import threading
import time

import pytest

from peftproof.theorems.ahead import Ahead, Halted


def test_items_come_in_order_and_end():
    assert list(Ahead(lambda halt: range(20), depth=3)) == list(range(20))


def test_the_next_items_are_made_while_one_is_looked_at():
    made = []

    def make(halt):
        for i in range(9):
            made.append(i)
            yield i

    items = Ahead(make, depth=2)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while (
        len(made) < 4 and time.monotonic() < deadline
    ):  # one looked at, two waiting, one in the maker's hands
        time.sleep(0.01)
    time.sleep(0.2)
    assert made == [0, 1, 2, 3]
    items.close()


def test_an_error_comes_after_what_was_made_before_it():
    def make(halt):
        yield 1
        raise KeyboardInterrupt("from the thread")

    items = Ahead(make)
    assert next(items) == 1
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt, match="from the thread"):
            next(items)


def test_long_work_ends_when_nobody_wants_it():
    started, ended = threading.Event(), threading.Event()

    def make(halt):
        started.set()
        try:
            while True:
                halt()
                time.sleep(0.01)
        except Halted:
            ended.set()
            raise
        yield

    items = Ahead(make)
    assert started.wait(10)
    items.close()  # before any item was asked for
    assert ended.wait(10)
