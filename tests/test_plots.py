"""Pictures: what they draw is where it belongs, and drawing leaves nothing behind."""

import subprocess
import sys

import numpy as np
import pytest

from peftproof.theorems.capacity import bounds, layers, plots
from peftproof.theorems.capacity.feedforward import FeedForward, chain
from peftproof.theorems.capacity.sandwich import Sandwich, within_budgets

pytestmark = pytest.mark.usefixtures("picture_rules")


def network(*tuned_layers):
    """A ReLU network on non-negative data, in which features grow, with some of its three layers tuned."""
    rng = np.random.default_rng(0)
    weights = [abs(rng.normal(size=(5, 5))) for _ in range(3)]
    updates = [0.3 * w * (k in tuned_layers) for k, w in enumerate(weights, 1)]
    return FeedForward(weights, updates, abs(rng.normal(size=(7, 5))), "relu")


@pytest.fixture
def head_only():
    return network(3)


def points(ax, label):
    (cloud,) = [one for one in ax.collections if one.get_label() == label]
    return np.asarray(cloud.get_offsets())


def drawings():
    pair = network(1, 2, 3)
    rows = {name: layers.slack(bound)(pair) for name, bound in plots.BOUNDS.items()}
    return {
        "bound": lambda ax: plots.plot_bound_against_truth(pair, ax=ax),
        "slack": lambda ax: plots.plot_slack_per_layer(rows, ax=ax),
        "sandwich": lambda ax: plots.plot_sandwich({"all layers": within_budgets(pair)}, ax=ax),
    }


each_drawing = pytest.mark.parametrize("name", drawings())


@each_drawing
def test_axes_are_taken_and_returned_or_made(name, picture_rules):
    picture_rules(drawings()[name])


@each_drawing
def test_axes_have_names_units_and_a_title(name):
    ax = drawings()[name](None)
    labels = ax.get_xlabel(), ax.get_ylabel()
    assert all(labels)
    assert any("units of the output" in label or "ratio" in label for label in labels)
    assert ax.get_title()
    assert len(ax.get_title()) < 70
    assert all(text.get_text() for text in ax.get_legend().get_texts())


@each_drawing
def test_what_is_drawn_differs_in_more_than_colour(name):
    ax = drawings()[name](None)
    ax.figure.canvas.draw()
    clouds = [one for one in ax.collections if len(one.get_offsets()) and not one.get_label().startswith("_")]
    shapes = {one.get_paths()[0].vertices.tobytes() for one in clouds}
    assert len(shapes) == len({one.get_label() for one in clouds})


def test_equation_6_lies_below_the_diagonal_and_the_repairs_do_not(head_only):
    ax = plots.plot_bound_against_truth(head_only)
    for label, bound in plots.BOUNDS.items():
        np.testing.assert_array_equal(points(ax, label), np.c_[head_only.deviation, bound(head_only)])
    printed, exact, norms = (points(ax, label) for label in ("(6) as printed", "(A)", "(C)"))
    assert np.all(printed[:, 1] < printed[:, 0])
    np.testing.assert_allclose(exact[:, 1], exact[:, 0], rtol=1e-9)
    assert np.all(norms[:, 1] > norms[:, 0])
    assert ax.get_title() == "(6) as printed is below the truth on 7 of 7 inputs"


def test_the_title_says_when_nothing_is_violated():
    ax = plots.plot_bound_against_truth(network(1), {"(A)": bounds.base_weights})
    assert ax.get_title() == "No bound is below the truth on any of 7 inputs"


def test_everything_that_is_drawn_can_be_seen(head_only):
    ax = plots.plot_bound_against_truth(head_only)
    for label in plots.BOUNDS:
        x, y = points(ax, label).T
        for values, (low, high) in ((x, ax.get_xlim()), (y, ax.get_ylim())):
            assert low < values.min() <= values.max() < high


def test_inputs_that_do_not_move_are_left_out():
    pair = FeedForward([np.eye(2)], [np.diag([1.0, 0.0])], np.eye(2), "identity")
    assert len(points(plots.plot_bound_against_truth(pair, {"(A)": bounds.base_weights}), "(A)")) == 1
    still = pair.with_updates([np.zeros((2, 2))])
    with pytest.raises(ValueError, match="moves the output at none"):
        plots.plot_bound_against_truth(still)


def test_exact_instances_can_be_drawn():
    ax = plots.plot_bound_against_truth(chain([1, 1], [1, 1], 1, activations="identity"))
    assert points(ax, "(6) as printed").tolist() == [[3, 2]]
    assert points(ax, "(C)").tolist() == [[3, 3]]
    ax.figure.canvas.draw()


def test_a_bound_looks_the_same_in_every_picture(head_only):
    scatter = plots.plot_bound_against_truth(head_only)
    rows = {"(C)": layers.slack(bounds.a_priori)(head_only)}
    lines = plots.plot_slack_per_layer(rows)
    colours = [
        next(one for one in ax.collections if one.get_label() == "(C)").get_edgecolor()
        for ax in (scatter, lines)
    ]
    np.testing.assert_array_equal(colours[0][0], colours[1][0])


def test_bounds_of_ones_own_can_be_drawn(head_only):
    mine = {"twice (A)": lambda pair: 2 * bounds.base_weights(pair), "uniform": bounds.uniform}
    ax = plots.plot_bound_against_truth(head_only, mine)
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {*mine, "bound = truth"}


def test_slack_per_layer_draws_the_rows_and_leaves_gaps(head_only):
    rows = layers.slack(bounds.printed)(head_only)
    ax = plots.plot_slack_per_layer({"(6)": rows})
    (line,) = [one for one in ax.lines if len(one.get_xdata()) == 3]
    assert np.isnan(line.get_ydata()[:2]).all(), "the first two layers are not tuned"
    assert line.get_ydata()[2] == rows[2]["slack"] < 1
    assert ax.get_ylim()[0] < rows[2]["slack"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "3"]
    with pytest.raises(ValueError, match="nothing moved"):
        plots.plot_slack_per_layer({"(6)": rows[:2]})


def test_slack_per_layer_refuses_what_does_not_belong_together():
    rows = layers.slack(bounds.a_priori)(network(1))
    with pytest.raises(ValueError, match="same ones"):
        plots.plot_slack_per_layer({"(A)": rows, "(C)": rows[:2]})
    with pytest.raises(ValueError, match="at least one"):
        plots.plot_slack_per_layer({"(A)": ()})


def test_the_sandwich_is_drawn_in_its_order():
    found = within_budgets(network(1, 2, 3))
    ax = plots.plot_sandwich({"aligned": found, "by numbers": Sandwich(np.ones(2), np.array([2.0, 8.0]))})
    drawn = {}
    for cloud in ax.collections:
        drawn.setdefault(cloud.get_label(), []).append(np.asarray(cloud.get_offsets()))
    np.testing.assert_array_equal(drawn["attack"][0][:, 0], found.lower)
    np.testing.assert_array_equal(drawn["bound (C)"][0][:, 0], found.upper)
    np.testing.assert_array_equal(drawn["the update itself"][0][:, 0], found.pair.deviation)
    assert len(drawn["the update itself"]) == 1, "a sandwich without a chain knows no update"
    assert np.all(drawn["attack"][0][:, 1] == drawn["bound (C)"][0][:, 1])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["aligned", "by numbers"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first one is on top"
    assert len(ax.get_legend().get_texts()) == 4, "every mark is named once"
    assert "8" in ax.get_title()


def test_empty_input_is_refused(head_only):
    for draw in (plots.plot_slack_per_layer, plots.plot_sandwich):
        with pytest.raises(ValueError, match="is empty"):
            draw({})
    with pytest.raises(ValueError, match="is empty"):
        plots.plot_bound_against_truth(head_only, {})
    with pytest.raises(ValueError, match="'none'"):
        plots.plot_sandwich({"none": Sandwich(np.zeros(1), np.ones(1))})


def test_importing_the_theorem_does_not_import_matplotlib():
    script = (
        "import sys, peftproof.theorems.capacity, peftproof.theorems.capacity.plots;"
        "sys.exit(int('matplotlib' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
