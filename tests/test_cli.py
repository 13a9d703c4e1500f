"""The command, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from peftproof.models import reference
from peftproof.theorems import cli, grid
from peftproof.theorems.claims import Claim

RECORD = {
    "claim", "theorem", "source", "subject", "lhs", "relation", "rhs", "margin", "tolerance", "assumptions",
    "outcome", "seconds",
}  # fmt: skip
SMALL = ["verify", "--theorem", "capacity", "--network", "mlp-relu", "--method", "head", "--seeds", "1"]


def run(*args):
    return CliRunner().invoke(cli.main, list(args), catch_exceptions=False)


def test_help_names_the_first_command():
    assert "peftproof verify" in run("--help").output


def test_claims_lists_the_ledger():
    result = run("claims")
    assert result.exit_code == 0
    assert "T2.6" in result.output
    assert max(map(len, result.output.splitlines())) <= 79
    data = json.loads(run("claims", "--json").output)
    fields = {"id", "theorem", "equation", "statement", "judgement", "reason", "repaired_by"}
    assert all(set(claim) == fields for claim in data["claims"])


def test_explain_works_the_counterexample_out():
    text = run("explain", "T2.6").output
    assert "FALSE" in text
    assert "3 <= 2, fails" in text
    assert "T2.R1" in text
    data = json.loads(run("explain", "T2.6", "--json").output)
    assert data["exact"][0]["outcome"] == "FAILS"


def test_falsify_prints_a_minimal_counterexample():
    result = run("falsify", "T2.6")
    assert result.exit_code == 0
    assert "refuted: 3 <= 2 is false" in result.output
    data = json.loads(run("falsify", "T2.6", "--json").output)
    assert {"claim", "outcome", "instance", "lhs", "relation", "rhs", "margin", "tried"} == set(data)
    assert (data["lhs"], data["relation"], data["rhs"], data["outcome"]) == (3, "<=", 2, "FAILS")


def test_falsify_says_what_was_tried_in_vain():
    result = run("falsify", "T2.R1", "--examples", "50")
    assert result.exit_code == 0
    assert "no counterexample" in result.output
    assert "small integers" in result.output


@pytest.mark.parametrize(
    "args",
    [
        ["explain", "T2.99"],
        ["falsify", "T2.24"],
        ["falsify", "T2.6", "--examples", "0"],
        ["verify", "--theorem", "gravity"],
        ["verify", "--network", "resnet"],
        ["verify", "--method", "magic"],
        ["verify", "--seeds", "0"],
        ["verify", "--json", "/no/such/folder/out.json"],
        ["claims", "--theorem", "gravity"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_exit_status_2(args):
    assert run(*args).exit_code == 2


def test_verify_judges_all_three_sources_and_writes_records(tmp_path):
    out = tmp_path / "out.json"
    result = run(*SMALL, "--json", str(out))
    assert result.exit_code == 0, result.output
    assert "Training itself refutes T2.6" in result.output
    assert max(map(len, result.output.splitlines())) <= max(79, len(f"Records: {out}"))
    data = json.loads(out.read_text())
    assert all(set(record) >= RECORD for record in data["records"])
    of_six = {r["source"]: r["outcome"] for r in data["records"] if r["claim"] == "T2.6"}
    assert of_six == {"exact": "FAILS", "search": "FAILS", "observed": "FAILS"}


def test_verify_reports_what_contradicts_the_ledger(monkeypatch):
    """Exit status 1: a ledger that calls equation 6 true must be caught."""
    book = grid.ledger("capacity")
    six = book["T2.6"]
    lie = Claim(**{f: getattr(book["T2.R1"], f) for f in Claim.__dataclass_fields__} | {
        "id": "T2.R1", "compare": six.compare, "exact": six.exact})  # fmt: skip
    claims = tuple(lie if c.id == "T2.R1" else c for c in book)
    monkeypatch.setattr(grid, "ledger", lambda *_: type(book)(claims))
    result = run(*SMALL)
    assert result.exit_code == 1
    assert "NOT what the ledger says" in result.output


def test_interrupted_run_keeps_what_was_finished(tmp_path, monkeypatch):
    finetunings = reference.finetunings

    def interrupted(*args, **kwargs):
        yield next(iter(finetunings(*args, **kwargs)))
        raise KeyboardInterrupt

    monkeypatch.setattr(reference, "finetunings", interrupted)
    result = run(*SMALL, "--json", str(tmp_path / "out.json"))
    assert result.exit_code == cli.INTERRUPTED
    assert "Interrupted" in result.output
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["header"]["complete"] is False
    assert any(r["source"] == "observed" for r in data["records"])


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_in_a_terminal_ends_politely(tmp_path):
    """The real thing: a process, a signal, a report and a file."""
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "peftproof.theorems.cli", *SMALL, "--full", "--json", str(out)]
    environment = os.environ | {
        "PEFTPROOF_CACHE": str(tmp_path / "cache"),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    first = process.stdout.readline()
    assert first.startswith("exact"), "exact results come first"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == cli.INTERRUPTED, errors
    assert "Interrupted" in rest
    assert "Traceback" not in errors
    assert json.loads(out.read_text())["header"]["complete"] is False
