"""T4.f and T4.g: frozen networks on disturbed data, and the spread of what fine-tuning changed."""

import jax
import numpy as np
import pytest
from scipy import stats

from peftproof.models.adversary import PGD
from peftproof.models.disturbances import Blur, ClassImbalance, LabelNoise, Noise, disturbance
from peftproof.models.finetuning import FineTuning
from peftproof.models.methods import BitFit, Full, LoRA, method
from peftproof.models.mlp import MLPConfig, mlp
from peftproof.models.tasks import Split, from_arrays
from peftproof.theorems.claims import Outcome, Source
from peftproof.theorems.sensitivity import frozen as measuring
from peftproof.theorems.sensitivity import plots_spread
from peftproof.theorems.sensitivity.claims_robustness import CLAIMS
from peftproof.theorems.sensitivity.frozen import Frozen, Robustness, frozen, robustness
from peftproof.theorems.sensitivity.instances.frozen_pairs import clear, planted, steep
from peftproof.theorems.sensitivity.observed_frozen import suited
from peftproof.theorems.sensitivity.spread import beside, of_entries, spread, spreads
from peftproof.theorems.verify import complaint, observed_evidence

CONFIG = MLPConfig((16, 6, 3), "tanh")
ROBUST, STEEP = CLAIMS
EACH = pytest.mark.parametrize("claim", CLAIMS, ids=[one.id for one in CLAIMS])


def moved(values, scale, seed):
    leaves, structure = jax.tree.flatten(values)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(structure, [leaf + scale * rng.normal(size=leaf.shape) for leaf in leaves])


@pytest.fixture(scope="module")
def made():
    """A task on 4 × 4 images, and networks as if fine-tuned: a method's Φ and the full θ drawn at random."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(200, 16))
    y = np.argmax(x @ rng.normal(size=(16, 3)), axis=1)
    task = from_arrays(new=(x, y))
    network = mlp(CONFIG, jax.random.key(0), np.float64)
    full = moved(network.params, 0.5, 1)

    def tuning(chosen, scale=0.5, **other):
        enlarged = chosen.enlarge(network)
        start = jax.tree.map(np.asarray, chosen.trainable(enlarged).init(jax.random.key(1)))
        given = {"full": full} | other
        return FineTuning(network, task, chosen, moved(start, scale, 2), **given)

    return tuning


# --- spread -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "kurtosis", "beyond"),
    [
        (stats.norm(), 0.0, 2 * stats.norm.sf(3)),
        (stats.uniform(-1, 2), -1.2, 0.0),
        (stats.laplace(), 3.0, float(2 * stats.laplace.sf(3 * np.sqrt(2)))),
    ],
    ids=["Gaussian", "uniform", "Laplace"],
)
def test_statistics_are_those_of_known_laws(law, kurtosis, beyond):
    """Entries at the quantiles of a law, which are that law to a grid of 10⁻⁶."""
    values = law.ppf((np.arange(10**6) + 0.5) / 10**6)
    found = of_entries(0.3 * values)
    assert found.sd == pytest.approx(0.3 * law.std(), rel=1e-4)
    assert found.kurtosis == pytest.approx(kurtosis, abs=3e-3)
    assert found.beyond == pytest.approx(beyond, abs=2e-6)
    quartiles = law.ppf([0.01, 0.99]), law.ppf([0.25, 0.75])
    assert found.tails == pytest.approx(np.ptp(quartiles[0]) / np.ptp(quartiles[1]), rel=1e-4)


def test_statistics_of_small_cases_and_against_scipy():
    coin = of_entries(np.array([1.0, -1, 1, -1]))
    assert (coin.mean, coin.sd, coin.kurtosis, coin.beyond) == (0, 1, -2, 0)
    values = np.random.default_rng(0).standard_t(3, size=500) + 2
    found = of_entries(values)
    assert found.kurtosis == pytest.approx(stats.kurtosis(values), rel=1e-12)
    assert found.sd == pytest.approx(np.std(values), rel=1e-12)
    assert found.beyond == np.mean(np.abs(stats.zscore(values)) > 3)
    constant = of_entries(np.full(7, 0.1))
    assert constant.sd == 0 and np.isnan([constant.kurtosis, constant.beyond, constant.tails]).all()


def test_zeros_count_unless_they_are_left_out():
    update = {"a": {"kernel": np.array([[1.0, -1.0], [0.0, 0.0]])}, "b": np.zeros(4)}
    every, some = spread(update), spread(update, entries="moved")
    assert (every.count, every.zeros, every.sd) == (8, 6, 0.5)
    assert (some.count, some.zeros, some.sd) == (2, 6, 1)
    assert every.tails == np.inf
    assert list(spreads(update)) == ["a/kernel", "b"]
    assert list(spreads(update, entries="moved")) == ["a/kernel"]
    assert spread(update, pattern="b").sd == 0
    assert "all 8 entries, sd 0.5" in repr(every)


def test_a_spread_is_compared_with_that_of_a_reference():
    values = np.random.default_rng(0).normal(size=100)
    wide = np.concatenate([4 * values, np.zeros(300)])
    updates = {"full": {"w": values}, "half": {"w": values / 2}, "sparse": {"w": wide}}
    found = beside(updates)
    assert found["half"] == pytest.approx(0.5) and found["sparse"] == pytest.approx(2, rel=0.05)
    assert beside(updates, entries="moved")["sparse"] == pytest.approx(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spread({}), "update: got no leaf"),
        (lambda: spread({"a": np.ones(2)}, pattern="b"), "b"),
        (lambda: spread(np.ones(2, np.float32)), "float32.*need float64"),
        (lambda: spread(np.array([1.0, np.nan])), "NaN"),
        (lambda: spread(np.zeros(3), entries="moved"), "no entry that moved"),
        (lambda: spreads({"a": np.zeros(3)}, entries="moved"), "no leaf that was chosen moved"),
        (lambda: spread(np.ones(2), entries="some"), "entries: got 'some', needs 'all' or 'moved'"),
        (lambda: beside({"a": np.ones(2)}), "reference: got 'full', needs one of a"),
        (lambda: beside({"full": np.ones(2)}), "all entries of 'full' are equal"),
    ],
)
def test_updates_that_have_no_spread_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- frozen networks ----------------------------------------------------------------------------------------


def naive(network, split):
    """Loss and answer of each example, by definition."""
    logits = np.asarray(network(split.x))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(chances[np.arange(len(split)), split.y]), logits.argmax(axis=1) == split.y


def test_losses_and_answers_are_those_of_each_disturbed_split(made):
    network, split = made(LoRA(2)).tuned, made(LoRA(2)).task.new.test
    shifts, attack = (Noise(0.3), Blur(0.7), LabelNoise(0.4), ClassImbalance(0.2)), PGD(0.1, "inf", 10, 0)
    found = frozen(network, split, shifts, (attack,), seed=3)
    assert found.names == ("noise-0.3", "blur-0.7", "label-noise-0.4", "class-imbalance-0.2", "pgd-inf-0.1")
    loss, right = naive(network, split)
    np.testing.assert_allclose(found.clean_loss, loss, rtol=1e-12)
    for v, one in enumerate((*(shift(split, 3) for shift in shifts), attack(network, split, 3))):
        disturbed = naive(network, one)
        np.testing.assert_allclose(found.loss[v], disturbed[0], rtol=1e-12)
        np.testing.assert_array_equal(found.right[v], disturbed[1])
        assert found.increase[v] == pytest.approx(disturbed[0].mean() - loss.mean(), abs=1e-14)
        assert found.drop[v] == pytest.approx(right.mean() - disturbed[1].mean(), abs=1e-14)
    assert np.all(found.loss[-1] >= found.clean_loss * (1 - 1e-12)), "an attack makes nothing easier"


def test_repeated_examples_count_for_the_example_they_come_from():
    rows = np.array([[0, 0, 2]])
    one = Frozen(("mix",), np.array([1.0, 2.0, 4.0]), np.array([True, False, True]),
                 np.array([[1.0, 1.0, 4.0]]), np.array([[True, True, True]]), rows)  # fmt: skip
    np.testing.assert_array_equal(one.changes, [[1, -2, 0]])
    np.testing.assert_array_equal(one.falls, [[-1, 0, 0]])


@pytest.mark.parametrize("repeated", [False, True])
def test_standard_errors_are_those_of_new_test_examples(repeated):
    """1000 test sets of 150 examples from one law: the spread of the excess is what each of them says."""
    values, errors = [], []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        pair = []
        rows = np.arange(150)[None]
        if repeated:  # every other example is replaced by the one before it
            rows = rows - rows % 2
        shared = rng.normal(size=150)
        for level, loss in ((3.0, 1.0), (2.0, 0.6)):
            margin = level + shared + 0.3 * rng.normal(size=150)
            other = (margin - loss + 0.5 * rng.normal(size=150))[rows]
            pair.append(Frozen(("shift",), np.logaddexp(0, -margin), margin > 0, np.logaddexp(0, -other),
                               other > 0, rows))  # fmt: skip
        both = Robustness("method", *pair)
        values.append([both.loss.value[0], both.accuracy.value[0], both.mean_loss.value[0]])
        errors.append([both.loss.error[0], both.accuracy.error[0], both.mean_loss.error[0]])
    size, told = np.std(values, axis=0), np.sqrt(np.mean(np.square(errors), axis=0))
    np.testing.assert_allclose(told, size, rtol=0.1)  # the spread of 1000 is known to 2.2 %


def test_the_full_network_is_measured_once_for_all_methods(made, monkeypatch):
    seen, evaluate = [], measuring._evaluate

    def counted(*given):
        seen.append(given)
        return evaluate(*given)

    monkeypatch.setattr(measuring, "_evaluate", counted)
    full = moved(made(LoRA(1)).network.params, 0.3, 7)  # another one than in other tests
    shifts = (Noise(0.1), Blur(0.5))
    first = robustness(made(LoRA(1), full=full), shifts, ())
    again = jax.tree.map(lambda leaf: leaf + 0, full)
    second = robustness(made(BitFit(), full=again), shifts, ())
    assert len(seen) == 3
    assert second.full is first.full
    assert first.method == "lora-r1" and second.method == "bitfit"


def test_records_and_reprs_show_both_networks(made):
    tuning = made(LoRA(2))
    found = robustness(tuning, (Noise(0.1), Blur(0.5)), ())
    record, split = found.records()[0], Noise(0.1)(tuning.task.new.test)
    assert record["disturbance"] == "noise-0.1"
    assert record["excess_loss"] == pytest.approx(
        record["increase_peft"] - record["increase_full"], abs=1e-14
    )
    assert record["excess_drop"] == pytest.approx(record["drop_peft"] - record["drop_full"], abs=1e-14)
    for name, params in (("peft", tuning.theta), ("full", tuning.full)):
        loss, right = naive(tuning.network.with_params(params), split)
        assert record[f"loss_{name}"] == pytest.approx(loss.mean(), rel=1e-12)
        assert record[f"accuracy_{name}"] == pytest.approx(right.mean(), abs=1e-14)
    assert "noise-0.1" in repr(found) and "noise-0.1" in repr(found.peft)


def test_what_cannot_be_measured_is_refused(made):
    tuning = made(LoRA(2))
    split = tuning.task.new.test
    with pytest.raises(ValueError, match="disturbances: got none and no attacks"):
        frozen(tuning.tuned, split, (), ())
    with pytest.raises(ValueError, match="needs at least two"):
        frozen(tuning.tuned, Split(split.x[:1], split.y[:1]))
    with pytest.raises(ValueError, match="need float64"):
        frozen(tuning.tuned.astype("float32"), split)
    with pytest.raises(ValueError, match="part: got 'new'"):
        robustness(tuning, part="new")
    with pytest.raises(ValueError, match="give FineTuning its full"):
        robustness(made(LoRA(2), full=None))
    pair = [frozen(tuning.tuned, split, (Noise(0.1), Blur(sigma)), ()) for sigma in (0.5, 1.0)]
    with pytest.raises(ValueError, match="measure both with the same split"):
        Robustness("lora", *pair)


# --- the claims ---------------------------------------------------------------------------------------------


@EACH
def test_the_instrument_sees_what_is_planted_and_not_its_reverse(claim):
    for label, instance in claim.exact().items():
        evidence = claim.judge(instance, Source.EXACT)
        assert evidence.outcome is Outcome.HOLDS, label
        assert evidence.failing == 0
    broken = claim.broken()
    assert broken.judge(claim.control.exact(), Source.EXACT).outcome is Outcome.FAILS


@EACH
def test_equal_losses_decide_nothing(claim):
    levels = (3.0, 1.0, 0.0)
    pair = planted(levels, levels)  # other examples of the same law: equal but for chance
    instance = pair if claim is ROBUST else steep(pair, 0.5)
    assert claim.judge(instance).outcome is Outcome.INCONCLUSIVE
    assert clear(pair.robustness.loss) == (0, 0)


def test_one_of_loss_and_accuracy_is_not_enough():
    """PEFT loses more in loss, from margins far on the right side, and nothing in accuracy."""
    pair = planted((9.0, 3.5, 3.5), (0.3, 0.25, 0.25))
    excess, error = pair.losing - pair.losing_full, pair.standard_error
    assert excess[0] > 5 * error[0] and excess[1] < -5 * error[1]
    assert ROBUST.judge(pair).outcome is Outcome.FAILS


@EACH
def test_observed_networks_are_judged_with_statistics(claim, made):
    tuning = made(LoRA(2))
    evidence = observed_evidence(claim, tuning)
    assert complaint(claim, evidence) == ""
    assert evidence.by_chance and evidence.count == 2
    assert evidence.statistics["disturbances"] == 8
    assert all(np.isfinite(value) for value in evidence.statistics.values())
    assert observed_evidence(claim, made(Full())) is None
    assert "give FineTuning its full" in observed_evidence(claim, made(LoRA(2), full=None)).note


def test_rows_and_intervals_are_those_of_the_measured_pair(made):
    evidence = observed_evidence(ROBUST, made(LoRA(2)))
    shown = evidence.statistics
    excess = np.mean([row["excess_loss"] for row in evidence.layers])
    assert shown["excess loss"] == pytest.approx(excess, abs=1e-14)
    assert shown["excess loss low"] < shown["excess loss"] < shown["excess loss high"]
    assert [row["disturbance"] for row in evidence.layers][-2:] == ["pgd-inf-0.05", "pgd-2-0.25"]
    assert not any("label-noise" in row["disturbance"] for row in evidence.layers)


def test_the_steeper_network_is_the_one_with_the_smaller_spread(made):
    narrow, wide = (made(LoRA(2), scale, seed=seed) for seed, scale in enumerate((0.1, 1.0)))
    for tuning, steeper in ((narrow, True), (wide, False)):
        evidence = observed_evidence(STEEP, tuning)
        assert (evidence.statistics["spread ratio"] < 1) is steeper
        whole = observed_evidence(ROBUST, tuning)
        sign = 1 if steeper else -1
        assert evidence.statistics["excess loss of the steeper"] == sign * whole.statistics["excess loss"]
        assert (
            evidence.statistics["steeper loses more loss"]
            == (whole.statistics["more loss lost" if steeper else "less loss lost"])
        )
    same = steep(planted((3.0, 1.0), (3.0, 1.0)), 1.0)
    assert "two updates of different spread" in STEEP.judge(same).note


def test_a_method_that_moved_nothing_is_the_steepest(made):
    evidence = observed_evidence(STEEP, made(BitFit(), scale=0.0))
    assert evidence.statistics["spread ratio"] == evidence.statistics["spread ratio of moved entries"] == 0


def test_extensions_are_frozen_too_and_have_no_increments(made):
    tuning = made(method("serial-adapter-4"))
    evidence = observed_evidence(ROBUST, tuning)
    assert complaint(ROBUST, evidence) == "" and evidence.statistics["disturbances"] == 6
    assert observed_evidence(STEEP, tuning) is None


def test_inputs_of_another_range_get_disturbances_of_that_size():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(50, 16)), rng.integers(0, 3, size=50)
    plain, _ = suited(Split(x, y))
    assert disturbance("noise") in plain and len(plain) == 6
    scaled, attacks = suited(Split(20 * x - 10, y))
    low, high = float((20 * x - 10).min()), float((20 * x - 10).max())
    assert Noise(0.2 * (high - low), (low, high)) in scaled
    assert attacks[0].radius == 0.05 * (high - low) and attacks[0].bounds == (low, high)
    few, _ = suited(Split(x[:, :5], y))  # no images
    assert {one.stem for one in few} == {"noise", "brightness", "class-imbalance"}


# --- pictures -----------------------------------------------------------------------------------------------


def updates():
    rng = np.random.default_rng(0)
    return {
        "full": {"a": rng.normal(size=400), "b": rng.normal(size=50)},
        "sparse": {"a": np.where(np.arange(400) < 40, rng.uniform(-2, 2, size=400), 0), "b": np.zeros(50)},
        "still": {"a": np.zeros(400), "b": np.zeros(50)},
    }


DRAWINGS = {
    "spreads": lambda ax: plots_spread.plot_spreads(updates(), ax),
    "one": lambda ax: plots_spread.plot_spreads({"full": np.full(3, 0.2)}, ax),
    "loss": lambda ax: plots_spread.plot_frozen([planted((3.0, 1.0, 0.5), (3.0, 2.0, 2.0)).robustness], ax),
    "accuracy": lambda ax: plots_spread.plot_frozen(
        [planted((3.0, 1.0), (3.0, 2.0)).robustness] * 2, ax, quantity="accuracy"
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_obey_the_rules_and_name_their_axes(name, picture_rules):
    picture_rules(DRAWINGS[name])
    ax = DRAWINGS[name](None)
    assert ax.get_xlabel() and ax.get_ylabel() and ax.get_title()
    assert "(" in ax.get_xlabel(), "with its unit"


@pytest.mark.usefixtures("picture_rules")
def test_the_density_has_the_share_that_moved_as_its_area():
    ax = plots_spread.plot_spreads(updates())
    lines = {line.get_label().split(":")[0]: line for line in ax.lines}
    for name, share in (("full", 1.0), ("sparse", 40 / 450)):
        at, density = lines[name].get_data()
        assert np.sum(density) * (at[1] - at[0]) == pytest.approx(share, rel=0.01)
    assert lines["still"].get_label() == "still: nothing moved here"
    assert "91 % zeros" in lines["sparse"].get_label()
    assert ax.get_title().startswith("Narrowest increments: sparse")
    assert "Delta\\theta_i" in ax.get_xlabel()


@pytest.mark.usefixtures("picture_rules")
def test_the_points_are_the_excesses_and_the_title_counts_them():
    found = planted((3.0, 1.0, 3.0), (3.0, 2.0, 3.0)).robustness
    ax = plots_spread.plot_frozen([found])
    points, _, _ = ax.containers[0]
    np.testing.assert_array_equal(points.get_xdata(), found.loss.value)
    assert ax.get_title().startswith("More lost than by full in 1 of 2 comparisons, less in 0")
    assert ax.get_title().endswith("(counted beyond 5 standard errors; bars are ± 2)")
    with pytest.raises(ValueError, match="all under the same disturbances"):
        plots_spread.plot_frozen([])
    with pytest.raises(ValueError, match="quantity: got 'error'"):
        plots_spread.plot_frozen([found], quantity="error")
    with pytest.raises(ValueError, match="needs at least one that moved"):
        plots_spread.plot_spreads({"still": np.zeros(3)})
