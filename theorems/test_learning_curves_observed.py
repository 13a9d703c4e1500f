"""The claims of Theorem 5 on learning curves, planted and of trained networks, and their tables."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from peftproof.models.methods import BitFit, Full
from peftproof.models.mlp import mlp
from peftproof.models.paired_curves import learning_curves
from peftproof.models.tasks import from_arrays
from peftproof.models.training import Settings
from peftproof.theorems.claims import Evidence, MissingIngredient, Outcome, Source
from peftproof.theorems.comparison import error_of_mean
from peftproof.theorems.ledger import ledger
from peftproof.theorems.marginal import claims_curves, observed, tables
from peftproof.theorems.marginal.claims_curves import bump, parallel, power, regression, slow
from peftproof.theorems.marginal.comparisons import decomposition, judged
from peftproof.theorems.marginal.crossover import crossover
from peftproof.theorems.marginal.gains import gains
from peftproof.theorems.marginal.instances.curves import SIZES
from peftproof.theorems.render import WIDTH
from peftproof.theorems.report import Report
from peftproof.theorems.verify import complaint, observed_evidence

R22, R23, R24 = claims_curves.CLAIMS


@pytest.mark.parametrize("claim", claims_curves.CLAIMS, ids=lambda claim: claim.id)
def test_instruments_see_what_is_planted_and_nothing_else(claim):
    for label, instance in claim.exact().items():
        evidence = claim.judge(instance, Source.EXACT)
        assert evidence.outcome is Outcome.HOLDS, label
        assert complaint(claim, evidence) == "" and evidence.statistics
    broken = claim.broken()
    (instance,) = broken.exact().values()
    assert broken.judge(instance, Source.EXACT).outcome is Outcome.FAILS


def test_the_interval_of_a_ratio_decides_and_nothing_less():
    """The tolerance of R23 is the interval of the difference, on the side where it is."""
    pair = regression(8, 2, 1.0, 0.5, claims_curves._FAR, 0.15)
    for shift, outcome in ((0.0, Outcome.HOLDS), (0.05, Outcome.INCONCLUSIVE), (0.2, Outcome.FAILS)):
        found = pair.gains
        low, high = found.excess[-1]
        step = found.steps[-1]._replace(ratio=found.steps[-1].ratio + shift)
        moved = replace(
            found,
            steps=(*found.steps[:-1], step),
            excess=(*found.excess[:-1], (low + shift, high + shift)),
        )
        instance = replace(pair)
        instance.__dict__["gains"] = moved
        assert R23.judge(instance).outcome is outcome


@pytest.fixture(scope="module")
def trained():
    """Curves of a small network: three seeds, four sizes, and labels that can be learned."""
    x = np.random.default_rng(0).normal(size=(400, 6))
    task = from_arrays(new=(x, (x[:, 0] + x[:, 1] > 0) + 2 * (x[:, 2] > 0.3)))
    return learning_curves(
        mlp((6, 4), jax.random.key(0), dtype="float64"),
        task,
        [Full(), BitFit()],
        sizes=(8, 24, 72, 216),
        seeds=(0, 1, 2),
        learning_rates=(3e-2,),
        settings=Settings(steps=60, batch_size=8, eval_every=20, patience=3),
    )


def test_trained_curves_are_observed_curve_by_curve_and_pair_by_pair(trained):
    seen = {}
    for claim in claims_curves.CLAIMS:
        found = [observed_evidence(claim, subject) for subject in trained.subjects]
        found = [evidence for evidence in found if evidence is not None]
        assert not any(evidence.error for evidence in found)
        seen[claim.id] = found
    assert [e.subject["method"] for e in seen["T5.R22"]] == ["full", "bitfit"]
    assert [e.subject["method"] for e in seen["T5.R23"] + seen["T5.R24"]] == ["bitfit", "bitfit"]
    (pair,) = trained.pairs
    (instance,) = observed.pairs(pair)
    np.testing.assert_array_equal(instance.full, trained["full"].loss())
    assert (instance.d, instance.k) == (28, 4)
    assert next(observed.pairs(pair)) is instance, "kept for the next claim"
    assert list(observed.pairs(trained["full"])) == list(observed.curves(pair)) == []
    assert crossover(pair.full, pair.peft).seeds == 3
    assert gains(pair.full, pair.peft).linear == 4 / 28
    for row in claims_curves._steps(instance):
        assert set(row) == {"layer", "full", "peft", "ratio", "low", "high"}


def test_printed_claims_on_trained_curves(trained):
    """The quantities that the printed claims compare are the plain means over seeds, with their errors."""
    (pair,) = trained.pairs
    full, peft, sizes = trained["full"].loss(), trained["bitfit"].loss(), trained.sizes
    worth = (full[:, 0] - full[:, 3]) / 208, (peft[:, 0] - peft[:, 3]) / 208
    whole = list(observed.shares(pair))[-1]
    np.testing.assert_allclose(whole.gains, [one.mean() for one in worth], rtol=1e-12)
    assert whole.standard_error == pytest.approx(error_of_mean(28 * worth[1] - 4 * worth[0]))
    assert list(observed.quotients(pair))[-1].standard_error == pytest.approx(
        error_of_mean(worth[1] - worth[0])
    )
    falls = judged(lambda i: i.later[0], ">=", lambda i: i.gains[0])
    outcomes = [falls(one).worst().outcome for one in observed.further_gains(trained["full"])]
    assert len(outcomes) == len(sizes) - 2 + 1
    assert list(observed.further_gains(trained["bitfit"])) == []


def facts(curve, losses, trainings, held_out):
    """The same curve with other numbers: test accuracy 0.9, that on validation as given."""
    rows = [
        [
            {"test_loss": loss, "train_loss": training, "validation_accuracy": held_out, "test_accuracy": 0.9}
            for loss, training in zip(*columns, strict=True)
        ]
        for columns in zip(losses.T, trainings.T, strict=True)
    ]
    points = tuple((phi, {"runs": runs}) for (phi, _), runs in zip(curve.points, rows, strict=True))
    return replace(curve, points=points)


def test_what_training_reaches_is_compared_with_the_limit_of_the_curve(trained):
    rng, sizes = np.random.default_rng(0), np.array(trained.sizes, float)
    losses = 0.3 + (9 / sizes) * (1 + 0.03 * rng.normal(size=(3, 4)))
    trainings = np.array([0.1, 0.2, 0.25, 0.28]) + 0.001 * rng.normal(size=(3, 4))
    curve = facts(trained["full"], losses, trainings, 0.88)
    found = list(observed.trainings(curve))
    assert [one.trainings[0] for one in found] == pytest.approx(trainings.mean(axis=0))
    assert all(one.bests[0] == pytest.approx(0.3, abs=0.05) for one in found)
    compared = [decomposition(one) for one in found]
    assert compared[0].worst().outcome is Outcome.FAILS, "0.1 is not the limit 0.3: (15) counts too much"
    np.testing.assert_allclose(compared[0].rhs[0] - compared[0].lhs[0], 0.3 - 0.1, atol=0.05)
    with pytest.raises(MissingIngredient, match=r"accuracy is 0\.50 on validation"):
        list(observed.trainings(facts(trained["full"], losses, trainings, 0.5)))
    flat = facts(trained["full"], 1 + 0.01 * rng.normal(size=(3, 4)), trainings, 0.9)
    with pytest.raises(MissingIngredient, match="a limit of the learning curve: no fall"):
        list(observed.trainings(flat))
    assert list(observed.trainings(trained["bitfit"])) == []


def records():
    """Evidence as a report has it, of every kind of row."""
    book = {claim.id: claim for claim in claims_curves.CLAIMS}
    subject = {"network": "mlp-tanh", "task": "digits_noisy", "seed": None, "along": "examples", "seeds": 10}
    for method, made in (
        ("full", power(0.1, 40, 1)),
        ("lora-r16", bump()),
        ("krona", claims_curves.Curve(SIZES[:2], power(0.1, 40, 1).losses[:, :2])),
    ):
        yield book["T5.R22"].judge(made, subject=subject | {"method": method})
    for method, made in (
        ("lora-r1", regression(16, 4, 1.0, 1.0, claims_curves._NEAR, 0.03)),
        ("bitfit", slow()),
        ("ia3", parallel()),
        ("head", replace(parallel(), peft=parallel().full)),
    ):
        for claim in ("T5.R23", "T5.R24"):
            yield book[claim].judge(made, subject=subject | {"method": method})


def test_tables_fit_the_page_and_say_what_was_found():
    report = Report(ledger())
    assert all(
        table(report) == [] for table in (tables.curve_table, tables.gain_table, tables.crossover_table)
    )
    for evidence in records():
        assert isinstance(evidence, Evidence)
        report.add(evidence)
    text = {}
    for table in (tables.curve_table, tables.gain_table, tables.crossover_table):
        lines = table(report)
        assert all(len(line) <= WIDTH for line in lines)
        text[table] = "\n".join(lines)
    assert "mlp-tanh    noisy    full          0.99" in text[tables.curve_table]
    assert "rises" in text[tables.curve_table]
    assert "0.496" in text[tables.gain_table] and "0.250   0.500   0.25" in text[tables.gain_table]
    found = text[tables.crossover_table]
    assert (
        "24 to 32  found" in found and "20 to 1000  none" in found and "a difference of the curves" in found
    )
