"""The machinery: outcomes are never merged, tolerances are derived, every check can fail."""

import types
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

from peftproof.theorems import linalg, memo
from peftproof.theorems.claims import (
    Assumption,
    Claim,
    Comparison,
    Control,
    Judgement,
    MissingIngredient,
    Outcome,
    Source,
    at_most,
)
from peftproof.theorems.ledger import Ledger, ledger
from peftproof.theorems.search import falsify
from peftproof.theorems.verify import (
    complaint,
    control_evidence,
    exact_evidence,
    observed_evidence,
    search_evidence,
)

ONE = linalg.exact([1])[0]


def below(limit):
    return lambda n: Comparison(n, "<=", limit)


def claim(judgement=Judgement.TRUE, **changes):
    """Integers are at most 10: true, if they are assumed to be small."""
    settings = {
        "id": "T9.1", "theorem": "toy", "statement": "n \\le 10", "judgement": judgement, "reason": "small",
        "compare": below(10 * ONE), "exact": lambda: {"three": 3 * ONE},
        "strategy": lambda: st.integers(0, 9).map(lambda n: n * ONE),
        "control": Control("10 lowered to 5", exact=lambda: 6 * ONE, compare=below(5 * ONE)),
    }  # fmt: skip
    return Claim(**(settings | changes))


@pytest.mark.parametrize(
    ("lhs", "relation", "rhs", "outcome"),
    [
        (1.0, "<=", 2.0, Outcome.HOLDS),
        (2.0, "<=", 1.0, Outcome.FAILS),
        (1.0, "<=", 1.0, Outcome.INCONCLUSIVE),
        (1.0, "<", 1.0 + 1e-16, Outcome.INCONCLUSIVE),
        (0.0, "<=", 0.0, Outcome.HOLDS),
        (0.0, "<", 0.0, Outcome.INCONCLUSIVE),
        (1.0, ">=", 2.0, Outcome.FAILS),
        (2.0, ">", 1.0, Outcome.HOLDS),
        (1.0, "==", 1.0, Outcome.HOLDS),
        (1.0, "==", 1.1, Outcome.FAILS),
        (ONE, "<=", ONE, Outcome.HOLDS),
        (ONE, "<", ONE, Outcome.FAILS),
        (ONE, "==", 2 * ONE, Outcome.FAILS),
    ],
)
def test_outcomes(lhs, relation, rhs, outcome):
    assert Comparison(lhs, relation, rhs).worst().outcome is outcome


def test_tolerance_follows_scale_and_operations():
    small, large = (
        Comparison(1.0, "<=", 2.0, scale=s, operations=o).worst().tolerance for s, o in ((1, 10), (1e6, 1000))
    )
    assert small == linalg.gamma(10)
    assert large == linalg.gamma(1000) * 1e6


def test_an_equality_seen_through_too_coarse_a_tolerance_decides_nothing():
    assert Comparison(1.0, "==", 1.2, scale=2.0, extra=3.0).worst().outcome is Outcome.INCONCLUSIVE
    assert Comparison(1e-20, "==", 0.0, scale=0.0, extra=1.0).worst().outcome is Outcome.INCONCLUSIVE
    assert Comparison(5.0, "==", 0.0, scale=np.nan).worst().outcome is Outcome.NOT_JUDGED


def test_the_worst_of_many_inputs_speaks():
    verdict = Comparison(np.array([1.0, 5.0, 4.0]), "<=", np.array([2.0, 3.0, 3.0])).worst()
    assert (verdict.lhs, verdict.count, verdict.failing) == (5.0, 3, 2)


def test_integers_are_exact_and_print_as_fractions_do():
    assert Comparison(3, "<=", 3).worst().outcome is Outcome.HOLDS
    assert Comparison(np.int64(3), "<", 3).worst().outcome is Outcome.FAILS
    assert Comparison(3, "==", 3 * ONE).worst().tolerance == 0
    assert str(Comparison([1, 3], "<=", 2).worst().lhs) == "3"
    with pytest.raises(ValueError, match="extra"):
        Comparison(3, "<=", 3, extra=1e-3)


def test_a_mean_over_draws_may_be_five_standard_errors_off():
    def outcome(lhs, rhs, **settings):
        return Comparison(lhs, "==", rhs, standard_error=0.01, **settings).worst().outcome

    assert outcome(1.04, 1.0) is Outcome.HOLDS
    assert outcome(1.06, 1.0) is Outcome.FAILS
    assert outcome(1, 1) is Outcome.HOLDS, "integers that are means are not exact"
    assert Comparison(1, "==", 2, standard_error=0.01).worst().tolerance == pytest.approx(0.05)


def test_agreement_with_two_rival_formulas_says_nothing():
    def outcome(rival):
        return Comparison(1.0, "==", 1.0, standard_error=0.01, rival=rival).worst().outcome

    assert outcome(1.2) is Outcome.HOLDS
    assert outcome(1.05) is Outcome.INCONCLUSIVE
    with pytest.raises(ValueError, match="rival"):
        Comparison(1.0, "<=", 1.0, rival=2.0)


def test_a_bound_that_is_attained_holds_when_rounded_up_and_not_by_more():
    assert Comparison(0.3, "<=", 0.1 + 0.2).worst().outcome is Outcome.INCONCLUSIVE
    assert at_most(0.3, 0.1 + 0.2).worst().outcome is Outcome.HOLDS
    assert at_most(0.3 * (1 + 1e-12), 0.3).worst().outcome is Outcome.FAILS
    assert at_most(ONE, ONE).worst().tolerance == 0


def test_an_empirical_claim_needs_an_instrument_that_can_see_and_not_see():
    judgement, observe = Judgement.EMPIRICAL, lambda tuning: [3 * ONE]
    seen = claim(judgement, observe=observe, strategy=None)
    for changes in ({"observe": None}, {"control": None}, {"exact": None}, {"strategy": st.none}):
        with pytest.raises(ValueError, match="EMPIRICAL"):
            claim(judgement, **({"observe": observe, "strategy": None} | changes))
    (evidence,) = exact_evidence(seen)
    assert complaint(seen, evidence) == ""
    assert control_evidence(seen).outcome is Outcome.FAILS
    (blind,) = exact_evidence(claim(judgement, observe=observe, strategy=None, exact=lambda: {"x": 11 * ONE}))
    assert "planted" in complaint(seen, blind)
    unseen = replace(evidence, source=Source.OBSERVED, outcome=Outcome.FAILS)
    assert complaint(seen, unseen) == "", "of trained networks there is no verdict"


def test_a_claim_along_an_axis_looks_at_sweeps_along_it_only():
    sweep = types.SimpleNamespace(along="rank", subject={"network": "toy", "method": "lora", "seed": None})
    single = types.SimpleNamespace(weight_space=True)
    along = claim(along="rank", observe=lambda sweep: [3 * ONE])
    assert observed_evidence(along, single) is None
    assert observed_evidence(claim(along="layers", observe=lambda sweep: [3 * ONE]), sweep) is None
    evidence = observed_evidence(along, sweep)
    assert evidence.outcome is Outcome.HOLDS
    assert evidence.subject == sweep.subject


def test_the_latest_result_is_remembered_by_what_tells_arguments_apart():
    calls = []
    remembered = memo.latest(lambda n: calls.append(n) or n + 1)
    assert [remembered(n) for n in (1, 1, 2, 1)] == [2, 2, 3, 2]
    assert calls == [1, 2, 1]
    remembered = memo.latest(lambda n: calls.append(n) or n, key=abs)
    assert [remembered(n) for n in (5, -5)] == [5, 5]
    calls.clear()
    remembered = memo.latest(lambda n: calls.append(n) or n, size=2)
    assert [remembered(n) for n in (1, 2, 1, 3, 2, 1)] == [1, 2, 1, 3, 2, 1]
    assert calls == [1, 2, 3, 1]


def test_an_unknown_relation_is_refused():
    with pytest.raises(ValueError, match="use one of"):
        Comparison(1, "=<", 2)


def test_a_violated_assumption_is_not_a_failure():
    small = Assumption("n < 5", lambda n: (n < 5, int(n)))
    evidence = claim(assumes=(small,)).judge(20 * ONE, Source.EXACT)
    assert evidence.outcome is Outcome.ASSUMPTION_VIOLATED
    assert evidence.assumptions[0].value == 20
    assert evidence.lhs == 20


def test_a_missing_ingredient_is_named_and_a_crash_is_no_pass():
    def missing(_):
        raise MissingIngredient("the second factor is missing")

    def crash(_):
        raise ZeroDivisionError("oops")

    evidence = claim(compare=missing).judge(ONE, Source.EXACT)
    assert (evidence.outcome, evidence.note) == (Outcome.NOT_JUDGED, "the second factor is missing")
    broken = claim(compare=crash)
    (evidence,) = exact_evidence(broken)
    assert evidence.outcome is Outcome.NOT_JUDGED
    assert "ZeroDivisionError" in complaint(broken, evidence)


def test_a_side_that_is_not_finite_is_not_judged():
    blind = claim(compare=lambda n: Comparison(np.array([0.5, np.nan]), "<=", 1.0))
    evidence = blind.judge(ONE, Source.OBSERVED)
    assert evidence.outcome is Outcome.NOT_JUDGED
    assert "not a number" in complaint(blind, evidence), "it is a complaint on trained networks too"
    with pytest.raises(FloatingPointError, match="not a number"):
        falsify(blind)


def test_a_failure_is_not_hidden_by_a_nan_beside_it():
    evidence = claim(compare=lambda n: Comparison(np.array([2.0, np.nan]), "<=", 1.0)).judge(ONE)
    assert (evidence.outcome, evidence.failing, evidence.count) == (Outcome.FAILS, 1, 2)


def test_an_infinite_bound_says_nothing():
    assert Comparison(1.0, "<=", np.inf, scale=1.0).worst().outcome is Outcome.INCONCLUSIVE


def test_complaints_catch_a_wrong_ledger():
    """Each way in which the ledger can be wrong is noticed."""
    true_but_called_false = claim(Judgement.FALSE)
    (evidence,) = exact_evidence(true_but_called_false)
    assert "was not refuted" in complaint(true_but_called_false, evidence)
    assert "was not refuted" in complaint(true_but_called_false, search_evidence(true_but_called_false))
    false_but_called_true = claim(compare=below(2 * ONE))
    (evidence,) = exact_evidence(false_but_called_true)
    assert "but fails" in complaint(false_but_called_true, evidence)
    assert "but fails" in complaint(false_but_called_true, search_evidence(false_but_called_true))
    toothless = claim(control=Control("nothing", exact=lambda: ONE))
    assert control_evidence(toothless).outcome is Outcome.HOLDS


def test_training_must_refute_where_the_claim_says_so():
    said = claim(
        Judgement.FALSE, exact=lambda: {"twenty": 20 * ONE}, must_fail_on=lambda s: s["method"] == "head"
    )
    evidence = said.judge(ONE, Source.OBSERVED, {"method": "head"})
    assert "training itself" in complaint(said, evidence)
    assert complaint(said, said.judge(ONE, Source.OBSERVED, {"method": "full"})) == ""


def test_claims_that_cannot_be_checked_are_refused():
    with pytest.raises(ValueError, match="negative `control`"):
        claim(control=None)
    with pytest.raises(ValueError, match="counterexample"):
        claim(Judgement.FALSE, exact=None)
    with pytest.raises(ValueError, match="nothing to compare"):
        claim(Judgement.DEFINITION, compare=None).judge(ONE, Source.EXACT)


def test_search_shrinks_and_counts():
    finding = falsify(claim(strategy=lambda: st.integers(0, 10**6).map(lambda n: n * ONE)))
    assert finding.outcome is Outcome.FAILS
    assert finding.instance == 11
    assert finding.total >= 1


def test_search_says_when_no_instance_met_the_assumptions():
    never = Assumption("never", lambda n: (False, None))
    finding = falsify(claim(assumes=(never,)), examples=20)
    assert finding.outcome is Outcome.NOT_JUDGED
    assert "widen its strategy" in finding.evidence.note


def test_search_reports_the_closest_call():
    finding = falsify(claim(), examples=50)
    assert finding.outcome is Outcome.HOLDS
    assert finding.evidence.lhs == 9
    with pytest.raises(ValueError, match="has no search"):
        falsify(claim(strategy=None))
    with pytest.raises(ValueError, match="at least 1"):
        falsify(claim(), examples=0)


def test_the_same_seed_finds_the_same():
    first, second = (falsify(ledger()["T2.6"], seed=3) for _ in range(2))
    assert first.instance.snippet() == second.instance.snippet()
    assert first.tried == second.tried


def test_the_ledger_is_consistent():
    book = ledger()
    assert book["t2.6"].id == "T2.6"
    assert len(book) == len({c.id for c in book})
    for c in book:
        assert c.reason
        assert not (c.judgement.refuted and not c.repaired_by), f"{c.id} is refuted and names no repair"
        if c.compare is not None and c.judgement is not Judgement.EMPIRICAL:
            assert c.strategy is not None, f"{c.id} is never searched"
    with pytest.raises(ValueError, match="peftproof claims"):
        book["T2.99"]
    with pytest.raises(ValueError, match="unknown theorems"):
        ledger("gravity")
    with pytest.raises(ValueError, match="must be unique"):
        Ledger((claim(), claim()))
    with pytest.raises(ValueError, match="does not hold"):
        Ledger((claim(repaired_by=("T9.2",)),))


def test_every_claim_of_theorem_2_is_in_the_ledger():
    wanted = {"T2.6", "T2.20", *(f"T2.{n}" for n in range(24, 31)), *(f"T2.{x}" for x in "abcd")}
    assert wanted <= {c.id for c in ledger("capacity")}
