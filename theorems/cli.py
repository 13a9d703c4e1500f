"""The command `peftproof`: verify, claims, explain, falsify."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .report import Report

INTERRUPTED = 130


def _prepare() -> None:
    """Enable float64 and keep compiled programs: the command may, the library never does."""
    import jax

    from ..models.cache import Cache

    jax.config.update("jax_enable_x64", True)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(Cache().folder / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _usage(run: Callable[[], Any]) -> Any:
    """Turn the library's ValueErrors about arguments into wrong usage: exit status 2."""
    try:
        return run()
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="peftproof")
def main() -> None:
    """Judge the theorems of "Look Within or Look Beyond?" by computation.

    Start with: peftproof verify
    """


@main.command()
@click.option("--theorem", "theorems", multiple=True, help="Only this theorem (may be repeated).")
@click.option("--network", "networks", multiple=True, help="Only this reference network (may be repeated).")
@click.option("--method", "methods", multiple=True, help="Only this method, e.g. lora-r4 (may be repeated).")
@click.option(
    "--seeds", type=click.IntRange(1, 100), help="How many seeds to train with; 1, or 5 with --full."
)
@click.option("--full", is_flag=True, help="Every network, method and seed, and a longer search.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the records here."
)
def verify(
    theorems: tuple[str, ...],
    networks: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: int | None,
    full: bool,
    json_file: Path | None,
) -> None:
    """Judge all claims: exactly, by search, and on networks trained on real data.

    Exit status: 0 when every outcome is what the ledger says it must be, 1 when not, 2 on wrong usage,
    130 when interrupted (what was finished is kept, and the same command goes on from there).
    """
    _prepare()
    from . import grid, render

    job = _usage(lambda: grid.plan(theorems, networks, methods, seeds=seeds, full=full))
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise click.UsageError(f"--json {json_file}: the folder does not exist; make it first")
    report = job.report
    try:
        grid.run(job, say=lambda line: _echo(*render.folded(line)), stopped=_interruptible())
    except KeyboardInterrupt:
        report.complete = False
    if json_file is not None:
        report.save(json_file)  # before anything is shown: a table must not cost the records
    for theorem in job.theorems:
        _echo("", *render.theorem_tables(report, theorem))
    _echo("", *render.summary(report))
    if json_file is not None:
        _echo(f"Records: {json_file}")
    sys.exit(_status(report))


def _interruptible() -> Callable[[], bool]:
    """Make Ctrl-C stick: Python drops an exception raised inside a callback of the garbage collector."""
    pressed = threading.Event()

    def interrupt(_signal: int, _frame: Any) -> None:
        pressed.set()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    return pressed.is_set


def _status(report: Report) -> int:
    if not report.complete:
        return INTERRUPTED
    return 0 if report.ok else 1


@main.command()
@click.option("--theorem", "theorems", multiple=True, help="Only this theorem (may be repeated).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def claims(theorems: tuple[str, ...], as_json: bool) -> None:
    """List the ledger: every claim with its judgement and the reason."""
    from .ledger import ledger

    book = _usage(lambda: ledger(*theorems))
    if as_json:
        fields = ("id", "theorem", "equation", "statement", "judgement", "reason", "repaired_by")
        _echo(json.dumps({"claims": [{f: getattr(c, f) for f in fields} for c in book]}, indent=1))
        return
    import textwrap

    for claim in book:
        text = f"{claim.id:<8}{claim.judgement!s:<13}{claim.reason}"
        _echo(*textwrap.wrap(text, 79, subsequent_indent=" " * 21, break_on_hyphens=False))
    _echo(f"{len(book)} claims. Next: peftproof explain {next(iter(book)).id}")


@main.command()
@click.argument("claim_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(claim_id: str, as_json: bool) -> None:
    """Say what CLAIM_ID states, why it fails or holds, with numbers, and what repairs it."""
    _prepare()
    from . import render
    from .ledger import ledger
    from .report import record_of
    from .verify import exact_evidence

    book = ledger()
    claim = _usage(lambda: book[claim_id])
    if as_json:
        fields = (
            "id",
            "theorem",
            "equation",
            "statement",
            "judgement",
            "reason",
            "plain",
            "worked",
            "repaired_by",
        )
        exact = [record_of(e) for e in exact_evidence(claim)]
        _echo(json.dumps({f: getattr(claim, f) for f in fields} | {"exact": exact}, indent=1))
        return
    _echo(*render.explanation(claim, [book[i] for i in claim.repaired_by]))


@main.command()
@click.argument("claim_id")
@click.option(
    "--examples", type=click.IntRange(1), default=1000, show_default=True, help="Instances to try at most."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed tries the same instances."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def falsify(claim_id: str, examples: int, seed: int, as_json: bool) -> None:
    """Search for a counterexample to CLAIM_ID and shrink it to a minimal one.

    Exit status 0 when the search agrees with the ledger, 1 when not, 2 on wrong usage.
    """
    _prepare()
    from .ledger import ledger
    from .search import falsify as search
    from .verify import complaint

    claim = _usage(lambda: ledger()[claim_id])
    finding = _usage(lambda: search(claim, examples=examples, seed=seed))
    if as_json:
        _echo(json.dumps(finding.to_json(), indent=1))
    else:
        _echo(*finding.lines())
    sys.exit(1 if complaint(claim, finding.evidence) else 0)


def _echo(*lines: str) -> None:
    for line in lines:
        click.echo(line)


if __name__ == "__main__":
    main()
