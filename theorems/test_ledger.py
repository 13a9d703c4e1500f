"""What every claim must pass: exact instances, search, negative control, trained networks."""

import pytest

from peftproof.theorems.claims import Judgement, Outcome, Source
from peftproof.theorems.ledger import THEOREMS, ledger
from peftproof.theorems.search import falsify
from peftproof.theorems.verify import complaint, observed_evidence

COMPARED = [c for c in ledger() if c.compare is not None]
REFUTED = [c for c in COMPARED if c.judgement.refuted]
STANDING = [c for c in COMPARED if c.judgement.stands]
EMPIRICAL = [c for c in COMPARED if c.judgement is Judgement.EMPIRICAL]
WITNESSED = [c for c in STANDING + EMPIRICAL if c.exact]
OBSERVED = [c for c in COMPARED if c.observe]
TRAINED = {None: "small_grid", "examples": "small_curves"}


def each(claims):
    return pytest.mark.parametrize("claim", claims, ids=[c.id for c in claims])


@pytest.mark.parametrize("theorem", THEOREMS)
def test_every_theorem_has_claims_of_both_kinds(theorem):
    found = ledger().of(theorem)
    assert any(c.judgement.refuted for c in found)
    assert any(c.judgement.stands for c in found)
    assert all(c.observe or c.exact or c.strategy or c.compare is None for c in found)


@each(REFUTED)
def test_exact_counterexamples_refute(claim):
    for label, instance in claim.exact().items():
        evidence = claim.judge(instance, Source.EXACT)
        assert evidence.outcome is Outcome.FAILS, label
        assert evidence.tolerance == 0
        assert all(check.met for check in evidence.assumptions), "a counterexample must meet every hypothesis"


@each(WITNESSED)
def test_exact_witnesses_hold(claim):
    for label, instance in claim.exact().items():
        assert claim.judge(instance, Source.EXACT).outcome is Outcome.HOLDS, label


@each(REFUTED)
def test_search_refutes_without_being_told(claim):
    finding = falsify(claim)
    assert finding.outcome is Outcome.FAILS
    assert finding.instance is not None
    assert finding.evidence.tolerance == 0, "the minimal instance is exact"


@each(STANDING)
def test_search_finds_nothing_against_what_stands(claim):
    finding = falsify(claim, examples=claim.examples or 150)
    assert finding.outcome is Outcome.HOLDS
    assert finding.total - finding.unmet >= min(100, claim.examples or 100), (
        "enough instances met the assumptions"
    )


@each(STANDING + EMPIRICAL)
def test_negative_control_is_rejected(claim):
    broken = claim.broken()
    (instance,) = broken.exact().values()
    assert broken.judge(instance, Source.EXACT).outcome is Outcome.FAILS
    if broken.strategy is not None:  # an empirical claim has planted cases and no search
        assert falsify(broken).outcome is Outcome.FAILS


@each(OBSERVED)
def test_observed_on_trained_networks(claim, request):
    trained = request.getfixturevalue(TRAINED.get(claim.along, "small_sweeps"))
    seen = [(key, observed_evidence(claim, one)) for key, one in trained.items()]
    seen = [(key, evidence) for key, evidence in seen if evidence is not None]
    assert seen, "no trained network gives an instance of this claim"
    for key, evidence in seen:
        assert complaint(claim, evidence) == "", key
    if claim.judgement.stands:
        assert any(evidence.outcome is Outcome.HOLDS for _, evidence in seen)
    if claim.judgement is Judgement.EMPIRICAL:
        judged = [evidence for _, evidence in seen if evidence.relation is not None]
        assert judged
        assert all(evidence.statistics for evidence in judged), "what there is to read are the statistics"
