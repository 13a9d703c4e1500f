"""Times on a machine that others use too: turns, and what other processes took meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

DISTURBED = 0.1
"""Cores that other processes may use while a turn counts as quiet."""
TURN = 0.5
"""Seconds that a turn lasts at least, by repetition: the kernel counts in hundredths of a second."""
ENOUGH = 3
"""Quiet turns below which a row says that it was not quiet."""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Turn:
    """What a call took, mean over a turn; `others` are the cores that other processes used meanwhile."""

    wall: float = 0.0
    cpu: float = 0.0
    others: float = 0.0


Pair = tuple[Turn, Turn]


def seconds(run: Callable[[], Any]) -> float:
    """Wall clock of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def used() -> float | None:
    """Seconds that all cores together have been busy; None where the kernel does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, stat.read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watched(calls: int = 1) -> Iterator[Turn]:
    """Measure a turn of several calls; of an unknown load `others` is NaN, which counts as quiet."""
    turn, before = Turn(), (time.perf_counter(), time.process_time(), used())
    yield turn
    wall, cpu, busy = time.perf_counter() - before[0], time.process_time() - before[1], used()
    turn.wall, turn.cpu = wall / calls, cpu / calls
    turn.others = np.nan if busy is None else max(0.0, busy - before[2] - cpu) / wall


def turn_of(run: Callable[[], Any], calls: int) -> Turn:
    """One turn."""
    with watched(calls) as turn:
        for _ in range(calls):
            run()
    return turn


def calls_of(run: Callable[[], Any]) -> int:
    """So many calls make a turn."""
    return max(1, round(TURN / min(seconds(run) for _ in range(2))))


def idle(patience: float) -> bool:
    """Wait until others leave the machine alone for a second; False if that takes too long."""
    end = time.perf_counter() + patience
    while True:
        with watched() as turn:
            time.sleep(1)
        if not turn.others > DISTURBED:
            return True
        if time.perf_counter() > end:
            return False


def quiet(pair: Pair) -> bool:
    """Whether neither turn was disturbed."""
    return not max(turn.others for turn in pair) > DISTURBED


def paired(own: Callable[[], Any], other: Callable[[], Any], repeats: int, patience: float) -> list[Pair]:
    """Turns of both sides, one after the other; disturbed pairs are repeated, up to twice as many in all."""
    calls, pairs = (calls_of(own), calls_of(other)), []
    while len(pairs) < 2 * repeats and sum(map(quiet, pairs)) < repeats:
        idle(patience)
        pairs.append((turn_of(own, calls[0]), turn_of(other, calls[1])))
    return pairs


def cells(pairs: list[Pair]) -> tuple[list[str], str]:
    """Both times, both ratios other / own, what others used, and a remark if too few turns were quiet."""
    calm = list(filter(quiet, pairs))
    enough = len(calm) >= ENOUGH
    own, other = (
        np.array([[turn.wall, turn.cpu, turn.others] for turn in side])
        for side in zip(*(calm if enough else pairs), strict=True)
    )
    shown = [f"{np.median(side[:, 0]):.3g} s" for side in (own, other)]
    shown += [spread(other[:, column] / own[:, column]) for column in (0, 1)]
    shown.append(f"{np.mean([own[:, 2], other[:, 2]]):.2f}")
    return shown, "" if enough else f"; NOT QUIET: {len(calm)} of {len(pairs)} turns were"


def spread(values: np.ndarray) -> str:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"
