"""Pictures of Theorem 3: what they draw is what was computed, and their titles follow it."""

import subprocess
import sys
from types import SimpleNamespace

import jax
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from peftproof.models.sweep import RankSweep
from peftproof.theorems.diminishing import plots
from peftproof.theorems.diminishing.frozen_a import FrozenA
from peftproof.theorems.diminishing.plateau import of_sweep, plateau
from peftproof.theorems.diminishing.simulation import Simulated, simulate
from peftproof.theorems.diminishing.spectrum import Spectrum
from peftproof.theorems.diminishing.truncation import Curve, Truncations

RANKS = (1, 2, 4, 8)


pytestmark = pytest.mark.usefixtures("picture_rules")


def layer(values, name="update"):
    values = np.asarray(values, float)
    return Spectrum(values, (len(values), len(values)), name)


def layers():
    i = np.arange(1, 17)
    wiggle = 1 + 0.02 * np.cos(7.0 * i)
    return {
        "a": layer(np.exp(-0.4 * i) * wiggle),
        "b": layer(2.0 * i**-1.5 * wiggle),
        "c": layer(np.eye(3)[0]),
    }


def truncated(top=8):
    r = np.arange(top + 1)
    loss, right = 3 * 0.5**r, 1 - 0.9 * 0.6**r
    curve = Curve(r, {"test": loss}, {"test": right})
    return Truncations(curve, {}, {"test_loss": 3.0}, {"test_loss": loss[-1]}, "tuned")


def swept(mean=(1.0, 0.6, 0.31, 0.3), spread=0.01, seeds=5):
    """A sweep whose runs have these test losses; the errors are a third of them."""
    offsets = spread * np.linspace(-1, 1, seeds) if seeds > 1 else np.zeros(1)

    def facts(loss):
        zero = {"zero_shot_test_loss": 3.0, "zero_shot_test_accuracy": 0.1}
        return SimpleNamespace(facts={"test_loss": loss, "test_accuracy": 1 - loss / 3} | zero)

    rows = tuple(tuple(facts(one + offset) for offset in offsets) for one in mean)
    return RankSweep("rank", RANKS, tuple(range(seeds)), rows)


def models(*samples):
    values = 2 * np.exp(-0.4 * np.arange(1, 9))
    return [FrozenA.of(values, outputs=8, samples=N, noise=0.3) for N in samples]


def ranks(ax=None, sweep=None, quantity="loss", **rule):
    sweep = swept() if sweep is None else sweep
    found = of_sweep(sweep, "test", quantity, **rule or {"share": 0.05})
    return plots.plot_ranks(truncated(), sweep, found, {"a": layers()["a"]}, ax, quantity=quantity)


def drawings():
    simulated = {16: Simulated((0, 2), np.array([3.0, 1.0]), np.array([0.1, 0.2]), 100)}
    return {
        "spectra": lambda ax: plots.plot_spectra(layers(), ax),
        "tails": lambda ax: plots.plot_tails(layers(), ax),
        "ranks": ranks,
        "error": lambda ax: ranks(ax, quantity="error"),
        "risk": lambda ax: plots.plot_risk(models(16, 64), simulated, ax),
    }


each_drawing = pytest.mark.parametrize("name", drawings())


def cloud(ax, label):
    (found,) = [one for one in ax.collections if str(one.get_label()).startswith(label)]
    return np.asarray(found.get_offsets())


def line(ax, label):
    (found,) = [one for one in ax.lines if str(one.get_label()).startswith(label)]
    return np.asarray(found.get_xydata())


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@each_drawing
def test_axes_are_taken_and_returned_or_made(name, picture_rules):
    picture_rules(drawings()[name])


@each_drawing
def test_axes_have_names_units_and_a_title(name):
    ax = drawings()[name](None)
    assert ax.get_xlabel()
    assert any(unit in ax.get_ylabel() for unit in ("(a share", "(nats)", "(units", "(squared units"))
    assert 0 < len(ax.get_title()) < 70
    assert all(texts(ax))
    assert len(set(texts(ax))) == len(texts(ax)), "every mark is named once"


@each_drawing
def test_nothing_that_is_named_hides_what_is_drawn(name):
    ax = drawings()[name](None)
    ax.figure.canvas.draw()
    legend, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert legend.y1 < inside.y0


def test_layers_differ_in_more_than_colour():
    looks = plots._looks(range(56))
    assert len(set(looks)) == 56
    shapes = {one.get_paths()[0].vertices.tobytes() for one in plots.plot_spectra(layers()).collections}
    assert len(shapes) == 3


def test_spectra_draw_the_values_and_the_law_that_was_found():
    spectra = layers()
    ax = plots.plot_spectra(spectra)
    assert ax.get_yscale() == "log"
    for name, one in list(spectra.items())[:2]:
        np.testing.assert_array_equal(cloud(ax, f"{name}:"), np.c_[np.arange(1, 17), one.values])
    assert texts(ax)[0].startswith("a: exponential, λ = 0.4")
    assert texts(ax)[1].startswith("b: power law, p = 1.5")
    assert texts(ax)[2] == "c: undecided"
    assert len(cloud(ax, "c:")) == 1, "zeros have no place on a logarithmic axis"
    assert [one.get_linestyle() for one in ax.lines] == ["-", "-"], "three values have no line"
    for drawn, one in zip(ax.lines, spectra.values(), strict=False):
        np.testing.assert_allclose(drawn.get_ydata(), one.values, rtol=0.05)
    assert ax.get_title() == "Decay in 3 layers: 1 exponential, 1 power law, 1 undecided"


def test_a_law_that_does_not_hold_is_dotted():
    i = np.arange(1.0, 25)
    ax = plots.plot_spectra(layer(np.exp(-0.02 * i**2), "bent"))
    assert [one.get_linestyle() for one in ax.lines] == [":"]
    assert ax.get_title() == "Decay in 1 layer: 1 neither"
    assert texts(ax) == ["bent: neither"]


def test_tails_are_drawn_with_their_critical_ranks():
    one = layer([3.0, 2.0, 1.0, 0.1])
    ax = plots.plot_tails(one, shares=(0.01, 0.2))
    tails = np.array([14.01, 5.01, 1.01, 0.01]) / 14.01
    np.testing.assert_allclose(line(ax, "update"), np.c_[np.arange(4), tails])
    (rings,) = ax.collections
    np.testing.assert_allclose(rings.get_offsets(), [[2, tails[2]], [3, tails[3]]])
    assert texts(ax) == ["update: $r_c$ = 2, 3"]
    assert ax.get_title() == "To lose less than 1 % takes rank 3"
    levels = [set(one.get_ydata()) for one in ax.lines if one.get_linestyle() == "--"]
    assert levels == [{0.2}, {0.01}]
    assert [text.get_text() for text in ax.texts] == ["20 %", "1 %"]


def test_a_tie_is_no_smaller_tail():
    """Energy 4 + 1: the tail behind the first value is 20 % and not less than that."""
    assert plots.joint_critical_rank(layer([2.0, 1.0]), 0.2).rank == 2
    assert plots.joint_critical_rank(layer([2.0, 1.0]), 0.21).rank == 1


def test_the_joint_critical_rank_is_that_of_the_sum_of_tails():
    spectra = layers()
    energy = sum(one.energy for one in spectra.values())
    for share in (0.3, 0.1, 0.01, 0.001):
        left = [sum(one.tail(r) for one in spectra.values()) for r in range(17)]
        first = next(r for r, tail in enumerate(left) if tail < share * energy)
        assert plots.joint_critical_rank(spectra, share).rank == first


def test_a_layer_that_did_not_move_does_not_count_and_no_update_is_an_error():
    still = layer([0.0, 0.0, 0.0], "still")
    assert plots.joint_critical_rank({"a": layer([2.0, 1.0]), "still": still}, 0.2).rank == 2
    with pytest.raises(ValueError, match="no layer moved"):
        plots.joint_critical_rank(still, 0.2)


def test_ranks_draw_both_curves_the_predictions_and_the_band():
    sweep = swept()
    found = of_sweep(sweep)
    ax = ranks(sweep=sweep)
    np.testing.assert_array_equal(line(ax, "full update"), np.c_[np.arange(9), 3 * 0.5 ** np.arange(9)])
    (bars,) = ax.containers
    drawn, _, (vertical,) = bars
    np.testing.assert_allclose(drawn.get_xydata(), np.c_[RANKS, sweep.loss().mean(axis=1)])
    ends = np.array([segment[:, 1] for segment in vertical.get_segments()])
    np.testing.assert_allclose(ends, np.c_[sweep.loss().min(axis=1), sweep.loss().max(axis=1)])
    predicted = [plots.joint_critical_rank(layers()["a"], share).rank for share in (0.1, 0.01)]
    np.testing.assert_allclose(cloud(ax, "$r_c$"), [[r, 3 * 0.5**r] for r in predicted])
    (band,) = [one for one in ax.patches if "plateau" in one.get_label()]
    assert band.get_x() == found.interval[0] - 0.3
    assert band.get_x() + band.get_width() == pytest.approx(found.interval[1] + 0.3)
    assert "95 % interval; all but 5 % of the gain" in band.get_label()
    low, high = found.interval
    measured = low if low == high else f"{low} to {high}"
    assert ax.get_title() == (
        f"Predicted rank {predicted[0]} (10 %), {predicted[1]} (1 %); plateau measured at {measured}"
    )


def test_the_error_is_one_minus_the_accuracy():
    ax = ranks(quantity="error", tolerance=0.02)
    np.testing.assert_allclose(line(ax, "full update")[:, 1], 0.9 * 0.6 ** np.arange(9))
    np.testing.assert_allclose(ax.containers[0][0].get_ydata(), np.array([1.0, 0.6, 0.31, 0.3]) / 3)
    assert ax.get_yscale() == "linear"
    assert "all but 0.02 of the examples" in texts(ax)[-1] + texts(ax)[0]


@pytest.mark.parametrize(
    ("curve", "rule", "title"),
    [
        ({"mean": (1.0, 0.6, 0.31, 0.3)}, {"tolerance": 0.05}, "plateau measured at 4"),
        ({"mean": (1.0, 0.8, 0.6, 0.3)}, {"tolerance": 0.05}, "no plateau up to 8"),
        ({"mean": (3.0, 3.0, 3.0, 3.0)}, {}, "no gain measured"),
        ({"seeds": 1}, {}, "one seed measures nothing"),
    ],
)
def test_the_title_follows_what_was_found(curve, rule, title):
    ax = ranks(sweep=swept(**curve), **rule)
    assert ax.get_title().endswith(f"; {title}")
    shown = [one for one in ax.patches if "plateau" in one.get_label()]
    assert len(shown) == (0 if title.startswith(("no gain", "one seed")) else 1)


def test_an_interval_up_to_the_last_rank_is_open_above():
    sweep = swept(seeds=2)
    losses = sweep.loss() + np.array([[0.0, 0.0], [0.3, 0.0], [0.3, 0.0], [0.0, 0.3]])
    found = plateau(RANKS, losses, 3.0, tolerance=0.05)
    noisy = RankSweep("rank", RANKS, (0, 1), tuple(
        tuple(SimpleNamespace(facts={"test_loss": loss}) for loss in row) for row in losses
    ))  # fmt: skip
    ax = plots.plot_ranks(truncated(), noisy, found, layers()["a"])
    assert found.interval[1] == 8
    assert ax.get_title().endswith(f"; plateau measured at {found.interval[0]} or above")


def test_the_risk_is_exact_and_its_least_value_starred():
    given = models(64, 16)
    simulated = {16: Simulated((0, 2), np.array([3.0, 1.0]), np.array([0.1, 0.2]), 100)}
    ax = plots.plot_risk(given, simulated)
    curves = [one.get_xydata() for one in ax.lines if len(one.get_xdata()) == 9]
    for model, drawn in zip(sorted(given, key=lambda one: one.samples), curves, strict=True):
        np.testing.assert_allclose(drawn, [[r, model.risk(r)] for r in range(9)])
    points = [one for one in ax.collections if isinstance(one, mpl.collections.PathCollection)]
    stars = [one.get_offsets()[0] for one in points if one.get_label().startswith("_")]
    best = [model.best_rank_by_search() for model in (given[1], given[0])]
    np.testing.assert_allclose(stars, [[one.rank, one.risk] for one in best])
    (bars,) = [one for one in ax.containers if len(one[0].get_xdata())]
    np.testing.assert_allclose(bars[0].get_xydata(), [[0, 3], [2, 1]])
    np.testing.assert_allclose([s[:, 1] for s in bars[2][0].get_segments()], [[2.8, 3.2], [0.6, 1.4]])
    assert ax.get_title() == f"Best rank {best[0].rank}, {best[1].rank} for N = 16, 64"


def test_a_tie_of_the_best_rank_is_shown():
    tied = FrozenA.of(np.array([4, 1]), outputs=1, samples=5, noise=2, squared=True)
    assert tied.best_rank().tie
    ax = plots.plot_risk([tied])
    assert ax.get_title() == f"Best rank {tied.best_rank().least} to {tied.best_rank().most} for N = 5"
    assert "Monte Carlo ± 2 standard errors" not in texts(ax)


def test_a_simulation_lies_on_the_curve():
    """Of all that is drawn, the formula and the draws are the two that share no code."""
    (model,) = models(24)
    update = np.diag(np.sqrt(model.squares))
    drawn = simulate(update, (0, 2, 5), jax.random.key(1), samples=24, noise=0.3, draws=1024)
    ax = plots.plot_risk([model], {24: drawn})
    exact = dict(next(one.get_xydata() for one in ax.lines if len(one.get_xdata()) == 9))
    (bars,) = [one for one in ax.containers if len(one[0].get_xdata())]
    for (r, mean), error in zip(bars[0].get_xydata(), drawn.standard_error, strict=True):
        assert abs(mean - exact[r]) < 5 * max(error, 1e-12)
        assert abs(mean - 1.2 * exact[r]) > 5 * error or r == 0


def test_what_cannot_be_drawn_is_refused():
    zero = {"still": layer(np.zeros(3))}
    for draw in (plots.plot_spectra, plots.plot_tails):
        with pytest.raises(ValueError, match="is empty"):
            draw({})
        with pytest.raises(ValueError, match="still did not move"):
            draw(zero)
    for shares in ((), (0.1, 1.0), (0.0,)):
        with pytest.raises(ValueError, match="shares"):
            plots.plot_tails(layers(), shares=shares)
    with pytest.raises(ValueError, match="at least one model"):
        plots.plot_risk([])
    with pytest.raises(ValueError, match="its own N"):
        plots.plot_risk(models(16, 16))
    with pytest.raises(ValueError, match=r"N = \[32\]"):
        plots.plot_risk(models(16), {32: None})
    assert not plt.get_fignums(), "what was refused has made no figure"


def test_curves_that_do_not_belong_together_are_refused():
    sweep, spectra = swept(), layers()["a"]
    good = of_sweep(sweep)
    with pytest.raises(ValueError, match="'train', needs a split that was evaluated: test"):
        plots.plot_ranks(truncated(), sweep, good, spectra, part="train")
    with pytest.raises(ValueError, match="'accuracy', needs 'loss' or 'error'"):
        plots.plot_ranks(truncated(), sweep, good, spectra, quantity="accuracy")
    with pytest.raises(ValueError, match="another curve"):
        plots.plot_ranks(truncated(), sweep, good, spectra, quantity="error")
    with pytest.raises(ValueError, match="another curve"):
        plots.plot_ranks(truncated(), sweep, of_sweep(swept(mean=(1, 0.5, 0.3, 0.2))), spectra)
    assert not plt.get_fignums()


def test_importing_the_pictures_does_not_import_matplotlib():
    script = "import sys, peftproof.theorems.diminishing.plots; sys.exit(int('matplotlib' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
