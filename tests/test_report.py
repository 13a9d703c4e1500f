"""The report: one set of facts, versioned JSON, text of at most 79 columns."""

import json
from dataclasses import replace

import pytest

from peftproof.theorems import render, report, verify
from peftproof.theorems.claims import AssumptionCheck, Evidence, Outcome, Source
from peftproof.theorems.ledger import THEOREMS, ledger

SUBJECT = {"network": "mlp-relu", "task": "digits_rotated", "method": "head", "seed": 0}
FIELDS = {
    "claim", "theorem", "source", "subject", "lhs", "relation", "rhs", "margin", "tolerance", "assumptions",
    "outcome", "seconds",
}  # fmt: skip


@pytest.fixture
def filled():
    book = ledger("capacity")
    filled = report.Report(book)
    for claim in book:
        for evidence in verify.exact_evidence(claim):
            filled.add(evidence)
        filled.add_control(verify.control_evidence(claim))
    seen = Evidence("T2.6", "capacity", Source.OBSERVED, SUBJECT, 3.0, "<=", 2.0, -1.0, 1e-12,
                    (AssumptionCheck("no biases", True, None),), Outcome.FAILS, 298, 290, 0.1)  # fmt: skip
    filled.add(seen)
    return filled


def test_report_of_what_the_ledger_expects_is_ok(filled):
    assert filled.ok
    assert filled.severity(filled["T2.6"][-1]) == "info", "a refutation that is expected is information"


def test_a_stop_that_was_swallowed_elsewhere_is_noticed_at_the_next_record(filled):
    """An interrupt inside a garbage collector's callback is dropped by Python; the flag is not."""
    filled.watch = lambda: True
    known = len(filled.evidence)
    with pytest.raises(KeyboardInterrupt):
        filled.add(filled.evidence[0])
    assert len(filled.evidence) == known + 1, "the record is kept"


def test_silence_is_no_pass(filled):
    assert not report.Report(ledger("capacity")).ok
    del filled.controls[3]
    assert any("negative control" in text for _, text in filled.complaints())


def test_numbers_that_json_lacks_become_null(filled, tmp_path):
    filled.add(replace(filled["T2.6"][-1], rhs=float("inf"), margin=float("inf")))
    filled.save(tmp_path / "out.json")
    assert report.load(tmp_path / "out.json")["records"][-1]["rhs"] is None


def test_a_violated_repair_is_critical(filled):
    broken = replace(filled["T2.6"][-1], claim="T2.R1")
    filled.add(broken)
    assert not filled.ok
    assert filled.severity(broken) == "critical"
    text = "\n".join(render.summary(filled))
    assert "NOT what the ledger says" in text
    assert "T2.R1" in text


def test_a_control_that_is_not_rejected_is_a_complaint(filled):
    filled.controls[0] = replace(filled.controls[0], outcome=Outcome.HOLDS)
    assert any("not rejected" in text for _, text in filled.complaints())


def test_unmet_hypotheses_of_a_repair_are_a_warning(filled):
    unmet = replace(filled["T2.6"][-1], claim="T2.R4", outcome=Outcome.ASSUMPTION_VIOLATED)
    filled.add(unmet)
    assert filled.ok
    assert filled.severity(unmet) == "warning"


def test_json_round_trip(filled, tmp_path):
    filled.save(tmp_path / "out.json")
    data = report.load(tmp_path / "out.json")
    assert data["header"]["schema"] == report.SCHEMA
    assert {"versions", "platform", "device", "complete", "ok"} <= set(data["header"])
    assert all(set(record) >= FIELDS for record in data["records"])
    assert data["records"] == json.loads(json.dumps(filled.records))
    (observed,) = [r for r in data["records"] if r["source"] == "observed"]
    assert observed["subject"] == SUBJECT
    assert observed["slack"] == pytest.approx(2 / 3)
    assert report.diff(data, data) == []


def test_diff_names_what_changed(filled):
    old = filled.to_json()
    filled.evidence[-1] = replace(filled.evidence[-1], outcome=Outcome.HOLDS)
    (line,) = report.diff(old, filled.to_json())
    assert line == "T2.6 observed mlp-relu digits_rotated head 0: FAILS -> HOLDS"


def test_files_that_are_no_reports_are_refused(tmp_path):
    for text in ("{", "[]", '{"header": {"schema": 99}}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"peftproof|schema"):
            report.load(tmp_path / "bad.json")


def test_text_fits_the_terminal_and_elides_nothing(filled):
    lines = [
        *(line for theorem in THEOREMS for line in render.theorem_tables(filled, theorem)),
        *render.summary(filled),
    ]
    assert max(len(line) for line in lines) <= render.WIDTH
    text = "\n".join(lines)
    assert "…" not in text
    for claim in filled.ledger:
        assert claim.id in text


@pytest.mark.parametrize("claim", list(ledger()), ids=lambda c: c.id)
def test_explanations_fit_too(claim):
    lines = render.explanation(claim, [ledger()[i] for i in claim.repaired_by])
    assert max(len(line) for line in lines) <= render.WIDTH
    assert str(claim.judgement) in lines[0]


def test_definitions_and_progress_are_folded():
    empty = report.Report(ledger())
    definitions = [claim for claim in empty.ledger if claim.compare is None]
    lines = [line for claim in definitions for line in render.claim_rows(empty, claim)]
    assert max(map(len, lines)) <= render.WIDTH
    first, last = render.folded(
        "exact:  sensitivity 29 fail, 97 hold; 51 of 51 negative controls rejected  1.5 s"
    )
    assert len(first) <= render.WIDTH and last.strip() == "1.5 s"
