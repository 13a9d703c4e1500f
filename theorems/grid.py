"""What `peftproof verify` runs: which claims on which networks, and in which order."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..models import reference
from ..models.cache import Cache
from ..models.curves import LearningCurve
from ..models.finetuning import FineTuning
from ..models.fit import Progress as FitProgress
from ..models.methods import SUPPORT
from ..models.methods import method as find_method
from ..models.paired_curves import LearningPair
from ..models.sweep import Sweep
from . import verify
from .ahead import Ahead
from .claims import Evidence, Outcome
from .ledger import THEOREMS, ledger
from .render import tally
from .report import Report

Subject = FineTuning | Sweep | LearningCurve | LearningPair

SEEDS = 1
FULL_SEEDS = 5
SWEPT = {"rank": ("mlp-relu",), "layers": ("mlp-relu",), "examples": ("mlp-tanh",)}
"""The networks that are swept along an axis without being asked: sweeps train one dozens of times."""
AHEAD = 16
"""So many trained networks may wait: exact instances and the search leave time for them."""
SWEEP_SEEDS = (0, 1, 2, 3, 4)
"""Fewer say little of where a plateau begins, whatever number of seeds the other runs have."""


@dataclass(frozen=True)
class Job:
    """A verification that was asked for."""

    report: Report
    theorems: tuple[str, ...]
    networks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    full: bool


def plan(
    theorems: tuple[str, ...] = (),
    networks: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    *,
    seeds: int | None = None,
    full: bool = False,
) -> Job:
    """Resolve what was asked for; nothing named means everything.

    Raises:
        ValueError: an unknown theorem, network or method, or a method that none of the networks has.
    """
    book = ledger(*theorems)
    names = networks or tuple(reference.REFERENCES)
    chosen = [reference.reference(name) for name in names]
    for method in methods:
        find_method(method)
        if not any(r.takes(method) for r in chosen):
            raise ValueError(
                f"method {method!r} applies to none of {', '.join(names)}: choose another network or method"
            )
    seeds = seeds or (FULL_SEEDS if full else SEEDS)
    settings = {
        "theorems": list(theorems or THEOREMS),
        "networks": list(names),
        "methods": list(methods),
        "seeds": seeds,
        "full": full,
    }
    return Job(
        Report(book, settings=settings), tuple(theorems or THEOREMS), tuple(names), methods, seeds, full
    )


def methods_of(job: Job, network: str) -> tuple[tuple[str, int], ...]:
    """Return the methods to fine-tune a network with, each with its number of seeds.

    Those asked for that fit the network; by default its own, and the further ones with one seed. A full run
    takes every method that fits.
    """
    chosen = reference.reference(network)
    if job.methods:
        return tuple((m, job.seeds) for m in job.methods if chosen.takes(m))
    others = (row.example for row in SUPPORT if chosen.takes(row.example)) if job.full else chosen.others
    own = tuple((m, job.seeds) for m in chosen.methods)
    return own + tuple((m, 1) for m in others if m not in chosen.methods)


def axes_of(job: Job, network: str) -> tuple[str, ...]:
    """Return the axes along which a network is swept: those that claims speak of.

    None where methods were asked for; by default on a small network only, and on all in a full run.
    """
    if job.methods:
        return ()
    spoken_of = {c.along for c in job.report.ledger if c.observe is not None and c.along}
    return tuple(sorted(axis for axis in spoken_of if job.full or network in SWEPT[axis]))


def run(job: Job, say: Callable[[str], None] = print, stopped: Callable[[], bool] = lambda: False) -> Report:
    """Judge exact instances, then search, then observe what a thread trains in the meantime.

    Args:
        job: what to do; its report takes in what comes out.
        say: gets a line for each step done.
        stopped: asked between two pieces of evidence whether to stop.

    Raises:
        KeyboardInterrupt: when interrupted, at once or as soon as `stopped` says so.
    """
    job.report.watch = stopped
    with (
        _progress() as progress,
        closing(Ahead(lambda halt: _trained(job, progress, halt), AHEAD)) as trained,
    ):
        _exact(job, say)
        _search(job, say, progress)
        say(f"{'network':<12}{'method':<19}accuracy, and outcomes of all claims")
        _observe(job, trained, say)
    return job.report


def _progress() -> Progress:
    """A display on stderr, and only where a person is looking."""
    console = Console(stderr=True, width=79)
    columns = (TextColumn("{task.description:<34}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty(), redirect_stdout=True
    )


def _exact(job: Job, say: Callable[[str], None]) -> None:
    """Judge exact instances and controls, with a line for each theorem as soon as it is done."""
    for theorem in job.theorems:
        start, before = time.perf_counter(), (len(job.report.evidence), len(job.report.controls))
        for claim in job.report.ledger.of(theorem):
            for evidence in verify.exact_evidence(claim):
                job.report.add(evidence)
            job.report.add_control(verify.control_evidence(claim))
        found, controls = job.report.evidence[before[0] :], job.report.controls[before[1] :]
        rejected = sum(e.outcome is Outcome.FAILS for e in controls)
        text = f"{rejected} of {len(controls)} controls rejected"
        say(f"exact:  {theorem:<12}{tally(found)}; {text}  {_took(start)}")


def _search(job: Job, say: Callable[[str], None], progress: Progress) -> None:
    start = time.perf_counter()
    searchable = [c for c in job.report.ledger if c.strategy is not None and c.compare is not None]
    task = progress.add_task("search", total=len(searchable))
    found = []
    for claim in searchable:
        found.append(
            verify.search_evidence(
                claim, examples=verify.THOROUGH if job.full and claim.examples is None else None
            )
        )
        job.report.add(found[-1])
        progress.advance(task)
    progress.remove_task(task)
    refuted = sum(e.outcome is Outcome.FAILS for e in found)
    say(f"search: {refuted} counterexamples found, {len(found) - refuted} claims survive  {_took(start)}")


@dataclass(frozen=True)
class _Trained:
    """What was trained in one go: fine-tunings with one method and several seeds, or along an axis."""

    network: str
    label: str
    subjects: Sequence[Subject]

    @property
    def accuracy(self) -> str:
        """On the test split, mean over the seeds; a sweep has none."""
        if not isinstance(self.subjects[0], FineTuning):
            return ""
        return f"{sum(t.facts['test_accuracy'] for t in self.subjects) / len(self.subjects):>4.2f}"


def _trained(job: Job, progress: Progress, halt: Callable[[], None]) -> Iterator[_Trained]:
    """Train all that is to be observed, network by network; what takes long calls `halt` in between."""
    cache = Cache()
    task = progress.add_task("training", total=sum(len(methods_of(job, name)) for name in job.networks))

    def step(state: FitProgress) -> None:
        halt()
        progress.update(task, description=f"{state.label} {state.step}/{state.steps}"[:34])

    for network in job.networks:
        for tunings in _tuned(job, network, cache, step):
            yield _Trained(network, tunings[0].method.name, tunings)
            progress.advance(task)
        for axis in axes_of(job, network):
            yield _Trained(network, f"sweep of {axis}", _swept(job, network, axis, cache, step))
    progress.remove_task(task)


def _tuned(
    job: Job, network: str, cache: Cache, step: Callable[[FitProgress], None]
) -> Iterator[list[FineTuning]]:
    methods, every = methods_of(job, network), tuple(range(job.seeds))
    for seeds in sorted({count for _, count in methods}, reverse=True):
        names = tuple(name for name, count in methods if count == seeds)
        yield from reference.finetunings(network, names, every[:seeds], cache, step, every)


def _swept(
    job: Job, network: str, axis: str, cache: Cache, step: Callable[[FitProgress], None]
) -> Sequence[Subject]:
    """A sweep, with the full fine-tunings that the grid has anyway beside it; or curves and pairs of them."""
    if axis == "examples":
        methods = reference.CURVED_ALL if job.full else None
        tasks = (
            reference.curves(network, methods, name, cache=cache, progress=step)
            for name in reference.CURVE_TASKS
        )
        return [subject for curves in tasks for subject in curves.subjects]
    every = tuple(range(job.seeds))
    (full,) = reference.finetunings(network, ("full",), every, cache, step, every)
    return [reference.swept(network, axis, SWEEP_SEEDS, cache=cache, progress=step).beside(full)]


def _observe(job: Job, trained: Iterator[_Trained], say: Callable[[str], None]) -> None:
    """Judge what was trained as it comes, with the time that each network took."""
    for network, found in itertools.groupby(trained, key=lambda one: one.network):
        start = time.perf_counter()
        for one in found:
            evidence = [e for subject in one.subjects for e in _judge(job, subject)]
            say(f"{network:<12}{one.label:<19}{one.accuracy:<4}  {tally(evidence)}")
        say(f"{network:<12}{'':<25}{_took(start)}")


def _judge(job: Job, tuning: Subject) -> list[Evidence]:
    found = [verify.observed_evidence(claim, tuning) for claim in job.report.ledger]
    found = [evidence for evidence in found if evidence is not None]
    for evidence in found:
        job.report.add(evidence)
    return found


def _took(start: float) -> str:
    return f"{time.perf_counter() - start:.1f} s"
