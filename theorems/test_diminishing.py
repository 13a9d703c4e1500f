"""What is particular to Theorem 3: counterexamples by hand, instruments, and what is seen in training."""

from fractions import Fraction

import numpy as np
import pytest

from peftproof.theorems import grid, linalg
from peftproof.theorems.claims import MissingIngredient, Outcome, Source
from peftproof.theorems.comparison import CHANCE, ERRORS, error_of_mean
from peftproof.theorems.diminishing import observed, observed_sweeps, tables
from peftproof.theorems.diminishing.claims_printed import identity, unequal_layer
from peftproof.theorems.diminishing.claims_sweeps import _planted
from peftproof.theorems.diminishing.instances import quadratics, regressions, spectra
from peftproof.theorems.diminishing.instances.determinants import Determinant, Segment, determinant
from peftproof.theorems.diminishing.instances.quadratics import Distance, Quadratic
from peftproof.theorems.diminishing.instances.regressions import Drawn, Regression, gap_of
from peftproof.theorems.diminishing.instances.samples import Listed, Minimised
from peftproof.theorems.diminishing.instances.spectra import (
    Geometric,
    PowerLaw,
    Truncated,
    planted,
    reflection,
)
from peftproof.theorems.diminishing.plateau import Found, plateau
from peftproof.theorems.ledger import ledger
from peftproof.theorems.rademacher import Ball
from peftproof.theorems.report import Report
from peftproof.theorems.verify import observed_evidence

CLAIMS = {claim.id: claim for claim in ledger("diminishing")}


def judged(claim, instance, source=Source.EXACT):
    return CLAIMS[claim].judge(instance, source)


def test_the_ledger_has_all_that_the_paper_says_of_rank():
    printed = {"T3.7", *(f"T3.{i}" for i in range(31, 39)), *(f"T3.{letter}" for letter in "abcde")}
    assert printed <= set(CLAIMS)
    assert {f"T3.R{i}" for i in range(1, 21)} <= set(CLAIMS)


def test_the_identity_fulfils_34_as_printed_and_36_fails_on_it():
    assert identity().printed_tail == 0 < identity().eps
    assert identity().squared_distance == 2
    broken = CLAIMS["T3.36"].broken().judge(Distance(identity()))
    assert broken.outcome is Outcome.FAILS
    assert float(broken.lhs) == pytest.approx(np.sqrt(2))
    assert float(broken.rhs) == pytest.approx(np.sqrt(0.5))
    assert judged("T3.36", Distance(identity())).outcome is Outcome.ASSUMPTION_VIOLATED


@pytest.mark.parametrize("constant", [1, 5, 1000])
def test_a_square_outgrows_every_lipschitz_constant(constant):
    one = quadratics.square(constant)
    assert one.change == (constant + 1) ** 2 > constant * (constant + 1)
    assert judged("T3.35", one).outcome is Outcome.ASSUMPTION_VIOLATED


def test_a_rising_bound_says_nothing_even_with_the_tail_for_epsilon():
    """The kinder reading of "the second term approaches zero": L √tail(r) for L √ε."""
    values = linalg.exact([1, Fraction(1, 10)])
    losses, bounds = [], []
    for rank in (1, 2):
        one = Truncated(values, rank)
        distance = linalg.square_root(one.squared_distance)
        losses.append(distance)
        bounds.append(linalg.square_root(one.tail) + linalg.square_root(Fraction(rank, 4)))
    assert losses == [Fraction(1, 10), 0]
    assert linalg.sign(bounds[1] - bounds[0]) > 0


def test_a_gap_rises_below_the_critical_rank_of_both_kinds():
    one = Regression(linalg.exact([4]), 1, 10, Fraction(1))
    assert one.critical == Truncated(linalg.exact([2]), 0, Fraction(4)).critical == 1
    assert one.gaps == (0, Fraction(9, 40))
    assert one.risks[1] + 1 < one.risks[0] + 1, "the test loss itself falls"


def test_the_printed_third_term_does_not_save_the_theorem():
    one = Distance(identity())
    for constant in (1, 1000):
        samples = (2 * constant) ** 2
        added = constant * linalg.square_root(Fraction(one.update.rank, samples))
        assert linalg.sign(one.reached - (one.optimum + linalg.square_root(one.eps) + added)) > 0


def test_truncation_is_not_what_is_best_for_the_loss():
    layer = unequal_layer()
    assert (layer.plain, layer.reached, layer.challenge) == (100, 4, 4)


def test_the_determinant_gains_nothing_and_then_everything():
    assert Determinant(2).gains.tolist() == [0, 1]
    rng = np.random.default_rng(0)
    for _ in range(20):  # below full rank there is indeed nothing to gain
        column, row = rng.integers(-9, 10, size=(2, 2))
        assert determinant(linalg.exact(np.outer(column, row).tolist())) == 0


def test_gaps_of_gaussian_regression_agree_with_draws():
    model = Regression(linalg.exact([4, 1]), 1, 12, Fraction(1))
    rng, gaps = np.random.default_rng(0), []
    for _ in range(20000):
        x = rng.normal(size=(12, 2))
        y = x @ [2.0, 1.0] + rng.normal(size=12)
        b = x[:, 0] @ y / (x[:, 0] @ x[:, 0])
        gaps.append((2 - b) ** 2 + 1 + 1 - np.mean((y - b * x[:, 0]) ** 2))
    error = np.std(gaps) / np.sqrt(len(gaps))
    assert abs(np.mean(gaps) - float(model.gap(1))) < 5 * error
    assert abs(np.mean(gaps) - float(model.gap(1)) / 2) > 5 * error  # noise of σ² alone would say half


def test_a_gap_of_rank_four_is_not_twice_that_of_rank_one():
    model = Regression(linalg.exact([1, 0, 0, 0, 0]), 1, 10, Fraction(1))
    assert (model.gap(1), model.gap(4)) == (Fraction(9, 40), Fraction(6, 5))
    assert float(gap_of(model, 4).claimed) == pytest.approx(2 * 9 / 40)
    assert judged("T3.37", gap_of(model, 1)).outcome is Outcome.HOLDS, "its own constant"


def test_ties_are_decided_strictly():
    tie = Geometric(Fraction(1, 2), Fraction(1, 48))
    assert (tie.critical, tie.count, tie.count_above) == (3, 3, 2)
    assert (PowerLaw(1.0, 0.6).count, PowerLaw(1.0, 0.645).count) == (2, 1)


def test_reflections_are_orthogonal_and_known_spectra_are_spectra():
    H = reflection((1, 2, 2))
    assert (np.eye(3, dtype=int) == H @ H.T).all()
    one = Truncated(linalg.exact([3, 2, 1]), 1, left=(1, 2, 2), right=(2, 1, 0))
    values = np.linalg.svd(one.matrix.astype(float), compute_uv=False)
    np.testing.assert_allclose(values, [3, 2, 1], atol=1e-14)


def test_the_remainder_is_exact_along_any_segment():
    one = Segment(linalg.exact([[2, 1], [0, 1]]), linalg.exact([[1, -1], [3, 0]]))
    t, weights = np.polynomial.legendre.leggauss(4)
    nodes = [Fraction(float(1 + s) / 2) for s in t]
    smooth = sum(w / 2 * float((1 - s) * one.curvature(s)) for s, w in zip(nodes, weights, strict=True))
    assert float(one.remainder) == pytest.approx(smooth, rel=1e-12)


def test_quadratics_have_the_gradient_that_they_say():
    update = Truncated(linalg.exact([3, 1]), 1, Fraction(2), None, (1, 2), (2, 1))
    one = Quadratic(update, linalg.exact([[1, 2], [3, 4]]), linalg.exact([[1, 0], [0, -1]]))
    at, step = one.gap, Fraction(1, 10**6)
    for i, j in np.ndindex(2, 2):
        unit = linalg.exact(np.zeros((2, 2), int).tolist())
        unit[i, j] = step
        central = (one.loss(at + unit) - one.loss(at - unit)) / (2 * step)
        assert central == one.gradient(at)[i, j]


def test_the_best_of_a_separable_loss_lies_between_its_bounds():
    rng = np.random.default_rng(0)
    roots = [rng.normal(size=(side, side)) for side in (4, 3)]
    left, right = (root @ root.T + 0.1 * np.eye(len(root)) for root in roots)
    for rank in (1, 2):
        one = quadratics.Separable(rng.normal(size=(4, 3)), left, right, rank)
        assert one.mu * one.tail / 2 < one.of_rival < one.reached < one.beta * one.tail / 2
        for _ in range(100):
            product = rng.normal(size=(4, rank)) @ rng.normal(size=(rank, 3))
            assert one.loss(product) >= one.of_rival
        inner, outer = np.linalg.cholesky(left), np.linalg.cholesky(right)
        u, s, vt = np.linalg.svd(inner.T @ one.update @ outer, full_matrices=False)
        best = np.linalg.solve(inner.T, (u[:, :rank] * s[:rank]) @ vt[:rank]) @ np.linalg.inv(outer)
        assert one.loss(best) == pytest.approx(one.of_rival), "it is attained"


def test_all_samples_are_listed():
    update = Truncated(linalg.exact([2, 1]), 1)
    one = Listed(update, linalg.exact([[1, 0], [0, 1], [1, 1]]), linalg.exact([[2, 0], [0, 0], [1, 2]]), 2)
    losses = one.losses(1).astype(float)
    pairs = [(losses.mean() - (a + b) / 2) for a in losses for b in losses]
    assert one.moments[0] == 0
    assert float(one.moments[1]) == pytest.approx(np.mean(np.square(pairs)))
    assert one.chosen[0] > 0, "a rank chosen on the sample looks better there than it is"


def test_minimisers_are_minimisers():
    signs, x = np.array([[1.0, 1.0], [-1.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 2.0]])
    one = Minimised(x, signs, Ball("frobenius", 1.0, 1), 1)
    rng, best = np.random.default_rng(0), one.ball.maximiser(signs.T @ x / 2)
    risk = -(best * one.mean).sum()
    assert all(-(one.ball.draw(rng, (2, 2)) * one.mean).sum() >= risk - 1e-12 for _ in range(200))
    assert risk <= one.risk <= one.bound.total


def test_draws_reject_what_is_nearly_right():
    one = Drawn(np.array([8.0, 3.0, 1.0]), 0.2, 12)
    tolerance = 5 * one.standard_error
    assert (abs(one.measured - one.formula) < tolerance).all()
    assert (abs(one.measured - one.without) > tolerance).all()
    assert (abs(one.measured - one.fixed) > tolerance).all()
    few = judged("T3.R12", Drawn(np.array([8.0, 3.0, 1.0]), 0.2, 9))
    assert few.outcome is Outcome.ASSUMPTION_VIOLATED, "the standard error itself has no finite variance"


def test_decay_that_cannot_be_told_is_not_judged():
    evidence = judged("T3.a", planted(np.array([3.0, 2.0, 1.0])))
    assert evidence.outcome is Outcome.NOT_JUDGED
    assert "at least 8 are needed" in evidence.note
    noise = np.linalg.svd(np.random.default_rng(0).normal(size=(64, 32)), compute_uv=False)
    assert judged("T3.a", planted(noise)).outcome is Outcome.FAILS


def test_a_plateau_is_judged_by_its_interval():
    assert judged("T3.R19", _planted(4, 5)).outcome is Outcome.HOLDS
    assert judged("T3.R19", _planted(8, 2)).outcome is Outcome.FAILS
    wide = np.random.default_rng(0).normal(1, 0.2, size=(4, 3))
    found = plateau((1, 2, 4, 8), wide, 4.0)
    assert judged("T3.R19", observed_sweeps.plateau_at(found, 4)).outcome is Outcome.INCONCLUSIVE
    rising = plateau((1, 2), np.array([[1.0, 1.01], [0.5, 0.51]]), 2.0)
    assert rising.found is Found.RISING
    with pytest.raises(MissingIngredient, match="points beyond 5"):
        observed_sweeps.plateau_at(rising, 5)
    early = plateau((1, 2, 4), np.array([[0.5, 0.51], [0.5, 0.51], [0.5, 0.51]]), 2.0)
    assert early.found is Found.PLATEAU
    for last in (4, 5):
        with pytest.raises(MissingIngredient, match="is the last"):  # whatever was found, it could not fail
            observed_sweeps.plateau_at(early, last)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_few_seeds_do_not_tell_equal_means_apart(seeds):
    """Five plain standard errors would do so in 13 %, 4 % and 0.7 % of the cases."""
    repeats = 4000
    values = np.random.default_rng(seeds).normal(size=(repeats, seeds))
    wrong = sum(abs(row.mean()) > ERRORS * error_of_mean(row) for row in values)
    level = CHANCE
    assert wrong <= repeats * level + 4 * np.sqrt(repeats * level)
    plain = sum(abs(row.mean()) > ERRORS * row.std(ddof=1) / np.sqrt(seeds) for row in values)
    assert plain > 3 * repeats * level, "what is corrected"
    assert error_of_mean(np.tile([0.0, 1.0], 200)) == pytest.approx(np.std([0.0, 1.0]) / 20, rel=0.01), (
        "of many seeds it is the standard error"
    )


def test_a_critical_rank_of_all_layers_counts_what_all_leave(small_grid):
    tuning = small_grid["mlp-relu", "full"]
    update = observed.full_update(tuning)
    energy = sum(float((kernel**2).sum()) for kernel in update.kernels.values())
    assert update.eps == pytest.approx(energy / 10)
    assert update.tail(update.rank) < update.eps <= update.tail(update.rank - 1)
    second = observed.truncated(tuning, update.largest)
    for path, leaf in update.kernels.items():
        _, layer, name = path.split("/")
        np.testing.assert_allclose(
            second["layers"][layer][name],
            np.asarray(tuning.network.params["layers"][layer][name]) + leaf,
            atol=1e-12,
        )


def test_training_refutes_the_inferences(small_grid):
    tuning = small_grid["mlp-relu", "full"]
    for claim in ("T3.c", "T3.e"):
        assert observed_evidence(CLAIMS[claim], tuning).outcome is Outcome.FAILS
    evidence = observed_evidence(CLAIMS["T3.R6"], tuning)
    assert evidence.outcome is Outcome.NOT_JUDGED
    assert "kinks of relu" in evidence.note


def test_a_sweep_without_full_fine_tuning_says_what_is_missing(small_sweeps):
    bare = small_sweeps["mlp-relu", "rank"].beside(())
    evidence = observed_evidence(CLAIMS["T3.R19"], bare)
    assert evidence.outcome is Outcome.NOT_JUDGED
    assert "Sweep.beside" in evidence.note
    with pytest.raises(ValueError, match="seeds"):
        small_sweeps["mlp-relu", "rank"].with_full(())


def test_tables_show_every_layer_and_both_plateaus(small_grid, small_sweeps):
    report = Report(ledger("diminishing"))
    report.add(observed_evidence(CLAIMS["T3.R2"], small_grid["mlp-tanh", "full"]))
    for (_, axis), sweep in small_sweeps.items():
        report.add(observed_evidence(CLAIMS["T3.R19" if axis == "rank" else "T3.R20"], sweep))
    spectrum, measured = tables.spectrum_table(report), tables.plateau_table(report)
    assert sum(line.startswith("mlp-tanh") for line in spectrum) == 3
    assert any("LoRA, rank" in line for line in measured)
    assert any("top layers" in line for line in measured)
    assert max(map(len, spectrum + measured)) <= 79
    assert tables.spectrum_table(Report(ledger("diminishing"))) == []


def test_sweeps_are_planned_where_they_are_cheap_or_asked_for():
    def axes(network, **settings):
        return grid.axes_of(grid.plan(("diminishing",), (network,), **settings), network)

    assert axes("mlp-relu") == ("layers", "rank")
    assert axes("transformer") == ()
    assert axes("transformer", full=True) == ("layers", "rank")
    assert axes("mlp-relu", methods=("full",)) == ()
    assert grid.axes_of(grid.plan(("capacity",), ("mlp-relu",)), "mlp-relu") == ()


def test_strategies_draw_ties_and_extremes():
    from hypothesis import find

    # `find` raises where no example has the property.
    for strategy in (spectra.updates(), spectra.geometrics()):
        tied = find(strategy, lambda i: i.count_above < i.count)
        assert tied.count_above < tied.count
    assert find(regressions.regressions(), lambda i: i.model.best_rank().tie).model.best_rank().tie
