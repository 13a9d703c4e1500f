"""Pictures of Theorem 5: what they draw is what was computed, and their titles follow it."""

import subprocess
import sys
from fractions import Fraction

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from peftproof.theorems import linalg
from peftproof.theorems.marginal import drawing, plots, plots_model
from peftproof.theorems.marginal.crossover import crossover
from peftproof.theorems.marginal.fits import fit_curve
from peftproof.theorems.marginal.gains import gains
from peftproof.theorems.marginal.gaussian import GaussianRegression
from peftproof.theorems.marginal.ridgeless import Ridgeless
from peftproof.theorems.marginal.simulation import Simulated
from peftproof.theorems.rademacher import Compared
from peftproof.theorems.rademacher.estimate import Complexity

pytestmark = pytest.mark.usefixtures("picture_rules")

SIZES = (20, 50, 125, 320, 800)
N = np.array(SIZES, float)
SEEDS = 10


def curve(mean, seed=0, spread=0.02):
    """Seeds around a mean curve, whose own mean is the mean curve."""
    off = np.random.default_rng(seed).normal(size=(SEEDS, len(N)))
    return SIZES, mean * (1 + spread * (off - off.mean(axis=0)))


FULL, CROSSING, WORSE = curve(0.1 + 40 / N), curve(0.5 + 8 / N, 1), curve(0.6 + 60 / N, 2)
FLAT = curve(np.full(5, 3.0), 3)
SOME = {"bitfit": CROSSING, "full": FULL, "lora-r1": WORSE}
MODEL = GaussianRegression(10, 2, 1, Fraction(1, 2))
CLEAN = GaussianRegression(10, 2, 1, 0)


def simulated():
    means = {"risk": np.array([[3.0, 1.7], [1.3, 1.6]])}
    return Simulated((16, 50), 100, means, {"risk": np.full((2, 2), 0.01)})


def interpolated():
    return {10: [Simulated((4,), 100, {"risk": np.array([2.4])}, {"risk": np.array([0.02])})]}


def comparison(name="lora-r1", ratio=0.23, rank=40, k=50, d=1000):
    def made(value):
        return Complexity(
            value, 0.9 * value, 1.1 * value, 0.0, linalg.Lower(0.0), linalg.Upper(9.0), "planted"
        )

    return Compared(name, 24, d, k, rank, made(1.0), made(ratio), ratio)


def measured(peft=CROSSING):
    return gains(FULL, peft, d=64, k=4)


def drawings():
    return {
        "curves": lambda ax: plots.plot_curves(SOME, ax),
        "differences": lambda ax: plots.plot_differences(SOME, ax),
        "gains": lambda ax: plots.plot_gains(measured(), ax, name="bitfit"),
        "complexities": lambda ax: plots.plot_complexities(
            [comparison(), comparison("bitfit", 0.3, 60, 60)], ax
        ),
        "risks": lambda ax: plots_model.plot_risks(
            MODEL, simulated(), ax, signal=1.0, interpolated=interpolated()
        ),
        "ratio": lambda ax: plots_model.plot_ratio([MODEL, CLEAN], ax),
    }


each_drawing = pytest.mark.parametrize("name", drawings())


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bars(ax, label):
    """Abscissae, means and ends of the error bars of a label."""
    (found,) = [one for one in ax.containers if str(one.get_label()).startswith(label)]
    points, _, (vertical,) = found
    ends = np.array([segment[:, 1] for segment in vertical.get_segments()])
    return points.get_xdata(), points.get_ydata(), ends


def lines(ax, style):
    return [one for one in ax.lines if one.get_linestyle() == style and len(one.get_xdata()) > 2]


@each_drawing
def test_axes_are_taken_and_returned_or_made(name, picture_rules):
    picture_rules(drawings()[name])


@each_drawing
def test_axes_have_names_units_and_a_title(name):
    ax = drawings()[name](None)
    assert ax.get_xlabel()
    assert any(unit in ax.get_ylabel() for unit in ("(a ratio", "(nats)", "(squared units"))
    assert 0 < len(ax.get_title()) < 70
    assert len(set(texts(ax))) == len(texts(ax)), "every mark is named once"


@each_drawing
def test_nothing_that_is_named_hides_what_is_drawn(name):
    ax = drawings()[name](None)
    ax.figure.canvas.draw()
    legend, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert legend.y1 < inside.y0
    assert legend.x0 >= 0
    assert legend.x1 <= ax.figure.bbox.width


def test_methods_differ_in_more_than_colour():
    assert len(set(drawing.looks(range(56)))) == 56


def test_curves_draw_means_t_intervals_and_laws():
    ax = plots.plot_curves({"full": FULL})
    x, mean, ends = bars(ax, "full fine-tuning")
    np.testing.assert_allclose(x, SIZES)
    np.testing.assert_allclose(mean, 0.1 + 40 / N)
    half = stats.t.ppf(0.975, SEEDS - 1) * FULL[1].std(axis=0, ddof=1) / np.sqrt(SEEDS)
    np.testing.assert_allclose(ends, np.stack([mean - half, mean + half], axis=1))
    (law,) = [one for one in lines(ax, "-") if len(one.get_xdata()) == 200]
    np.testing.assert_allclose(law.get_ydata(), 0.1 + 40 / law.get_xdata(), rtol=0.1)
    assert ax.get_title() == "1 of 1 learning curves follow a power law"
    told = plots.plot_curves({"full": FULL}, task="noisy labels").get_title()
    assert told == "1 of 1 learning curves follow a power law\n(noisy labels)"


def test_methods_stand_beside_each_other_around_the_size():
    ax = plots.plot_curves(SOME)
    drawn = [bars(ax, name)[0] for name in ("full fine-tuning", "bitfit", "lora-r1")]
    np.testing.assert_allclose(np.exp(np.mean(np.log(drawn), axis=0)), SIZES)
    assert len({one[0] for one in drawn}) == 3


def test_a_curve_without_a_law_is_dotted_and_says_why():
    ax = plots.plot_curves({"flat": FLAT})
    assert fit_curve(FLAT).law is None
    (dotted,) = lines(ax, ":")
    np.testing.assert_allclose(dotted.get_ydata(), FLAT[1].mean(axis=0))
    assert texts(ax) == ["flat: no law, no fall is established"]


def test_the_crossover_is_a_star_in_a_band():
    ax = plots.plot_curves({"full": FULL, "bitfit": CROSSING})
    found = crossover(FULL, CROSSING)
    assert 50 < found.estimate < 125
    (star,) = [one for one in ax.collections if str(one.get_label()).startswith("crossover")]
    ((x, y),) = star.get_offsets()
    assert x == found.estimate
    means = [np.interp(np.log(x), np.log(N), losses.mean(axis=0)) for _, losses in (FULL, CROSSING)]
    np.testing.assert_allclose([y, y], means, rtol=1e-3)
    (band,) = ax.patches
    np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], found.interval)
    low, high = (f"{end:.0f}" for end in found.interval)
    assert ax.get_title() == f"Full fine-tuning overtakes bitfit at N = {low} to {high}"


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({"full": FULL, "lora-r1": WORSE}, "No crossover is established from 20 to 800 examples"),
        ({"full": CROSSING, "bitfit": FULL}, "bitfit overtakes full fine-tuning at N = "),
        ({"full": FULL, "a": CROSSING, "b": CROSSING}, "2 of 2 curves cross that of full fine-tuning"),
    ],
)
def test_the_title_follows_what_crosses(given, title):
    assert plots.plot_curves(given).get_title().startswith(title)


def test_differences_are_paired_and_filled_where_established():
    ax = plots.plot_differences({"full": FULL, "bitfit": CROSSING})
    found = crossover(FULL, CROSSING)
    x, mean, ends = bars(ax, "bitfit: full overtakes")
    np.testing.assert_allclose(x, SIZES)
    np.testing.assert_allclose(mean, (FULL[1] - CROSSING[1]).mean(axis=0))
    np.testing.assert_allclose(ends, np.stack([found.low, found.high], axis=1), atol=1e-15)
    (filled,) = [
        one
        for one in ax.lines
        if one.get_linestyle() == "None" and one.get_marker() == "s" and one.get_zorder() == 3
    ]
    known = (found.low > 0) | (found.high < 0)
    np.testing.assert_allclose(filled.get_xdata(), N[known])
    first, last = found.bracket
    assert ax.get_title() == f"With {first} examples bitfit is better, with {last} full fine-tuning"


@pytest.mark.parametrize(
    ("given", "title"),
    [
        ({"full": FULL, "x": FULL}, "It is not established where x or full fine-tuning is better"),
        ({"full": FULL, "x": WORSE}, "Full fine-tuning is better from 20 to 800 examples"),
        ({"full": CROSSING, "x": FULL}, " examples full fine-tuning is better, with "),
        (SOME, "Somewhere better than full fine-tuning: bitfit"),
    ],
)
def test_the_title_of_differences_follows_them(given, title):
    assert title in plots.plot_differences(given).get_title()


def test_gains_are_drawn_step_by_step_with_three_predictions():
    found = measured()
    ax = plots.plot_gains(found, name="bitfit")
    drawn = [one for one in ax.containers if len(one[0].get_xdata())]
    known = [step for step in found.steps[:-1] if step.ratio is not None]
    assert len(drawn) == len(known) > 1
    for container, step in zip(drawn, known, strict=True):
        assert container[0].get_ydata() == [step.ratio]
        horizontal, vertical = container[2]
        np.testing.assert_allclose(horizontal.get_segments()[0][:, 0], [step.first, step.last])
        np.testing.assert_allclose(vertical.get_segments()[0][:, 1], step.interval)
    levels = {one.get_ydata()[0] for one in ax.lines if list(one.get_xdata()) == [0, 1]}
    assert {found.linear, found.root, found.model} <= levels
    whole = found.steps[-1]
    assert ax.get_title().startswith(f"bitfit gains {whole.ratio:.2g} (")


def test_where_full_fine_tuning_gains_nothing_there_is_no_ratio():
    ax = plots.plot_gains(gains(FLAT, CROSSING, d=64, k=4))
    assert ax.get_title() == "no gain of full fine-tuning is established; k/d = 0.062"
    assert not [one for one in ax.containers if len(one[0].get_xdata())]
    assert "not drawn: 4 of 4, no gain\nof full fine-tuning is established" in texts(ax)


def test_complexities_stand_at_their_predictions():
    one = comparison()
    ax = plots.plot_complexities([one])
    at = [float(container[0].get_xdata()[0]) for container in ax.containers]
    np.testing.assert_allclose(at, [np.sqrt(40 / 1000), np.sqrt(50 / 1000)])
    np.testing.assert_allclose(bars(ax, "lora-r1")[2], [one.interval])
    off = [abs(p / 0.23 - 1) for p in at]
    assert (
        ax.get_title()
        == f"$\\sqrt{{rank/d}}$ is off by {off[0]:.0%} at most, $\\sqrt{{k/d}}$ by {off[1]:.0%}"
    )


def test_risks_are_exact_and_broken_at_the_poles():
    ax = plots_model.plot_risks(MODEL, simulated(), signal=1.0, interpolated=interpolated())
    full = [one.get_xydata() for one in lines(ax, "-")]
    below = [(n, Ridgeless(10, 1.0, 1.0).risk(n)) for n in range(1, 9)]
    np.testing.assert_allclose(full[0], below)
    np.testing.assert_allclose(full[1], [(n, (n - 1) / (n - 11)) for n in range(12, 55)])
    (peft,) = [one.get_xydata() for one in lines(ax, "--")]  # k = 2: nothing is finite below its pole
    np.testing.assert_allclose(peft, [(n, 1.5 * (n - 1) / (n - 3)) for n in range(4, 55)])
    strips = [(one.get_x(), one.get_x() + one.get_width()) for one in ax.patches[:2]]
    assert strips == [(9, 11), (1, 3)]
    assert {"full fine-tuning: no finite risk\nat N = 9 to 11", "PEFT: no finite risk\nat N = 1 to 3"} <= {
        *texts(ax)
    }
    assert [one.get_hatch() for one in ax.patches[:2]] == ["", "///"]
    (star,) = [one for one in ax.collections if str(one.get_label()).startswith("crossover")]
    np.testing.assert_allclose(star.get_offsets(), [(27, 13 / 8)])
    assert ax.get_title() == "Beyond its pole, full fine-tuning is better from N = 28 on"
    drawn = [one for one in ax.containers if len(one[0].get_xdata())]
    spans = [np.ptp(s[:, 1]) for one in drawn for s in one[2][0].get_segments()]
    np.testing.assert_allclose(spans, [0.1, 0.1, 0.2, 0.1, 0.1])


def test_what_peft_misses_counts_as_noise_below_its_pole():
    model = GaussianRegression(40, 8, 1.0, 0.5)
    ax = plots_model.plot_risks(model, signal=2.0)
    first = lines(ax, "--")[0].get_xydata()
    np.testing.assert_allclose(first, [(n, Ridgeless(8, 1.5, 1.5).risk(n)) for n in range(1, 7)])


def test_without_misspecification_there_is_no_star():
    ax = plots_model.plot_risks(CLEAN)
    assert ax.get_title() == "PEFT has the smaller risk at every N ≥ d + 2 = 12"
    assert not [one for one in ax.collections if isinstance(one, mpl.collections.PathCollection)]


def test_the_ratio_rises_to_its_limit():
    ax = plots_model.plot_ratio(MODEL, largest=100)
    (one,) = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert dict(one.get_xydata())[100.0] == pytest.approx(2403 / 9506)
    levels = [line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(levels, [0.3, 0.2, np.sqrt(0.2)])
    assert ax.get_title() == "The ratio of gains rises to 0.3; k/d = 0.2"
    both = plots_model.plot_ratio([MODEL, CLEAN]).get_title()
    assert both == "The ratio of gains rises beyond k/d = 0.2 in 1 of 2 models"


def test_what_cannot_be_drawn_is_refused():
    cases = [
        (lambda: plots.plot_curves({}), "is empty"),
        (lambda: plots.plot_curves({"full": (SIZES, FULL[1][:1])}), "full has a single seed"),
        (lambda: plots.plot_curves({"full": FULL}, confidence=1.0), "confidence"),
        (lambda: plots.plot_differences({"full": FULL}), "needs 'full' and at least one other"),
        (lambda: plots.plot_differences({"bitfit": FULL}), "needs 'full' and at least one other"),
        (lambda: plots.plot_complexities([]), "at least one comparison"),
        (lambda: plots_model.plot_risks(MODEL, signal=0.4), "signal: got 0.4"),
        (lambda: plots_model.plot_risks(MODEL, interpolated=interpolated()), r"got p = \[10\]"),
        (lambda: plots_model.plot_risks(MODEL, largest=11), "at least d \\+ 2 = 12"),
        (lambda: plots_model.plot_ratio([]), "one or more"),
        (lambda: plots_model.plot_ratio([MODEL, GaussianRegression(9, 2, 1, 1)]), "the same d and k"),
        (lambda: plots_model.plot_ratio(GaussianRegression(10, 2, 0, 1)), "no denominator"),
    ]
    for draw, message in cases:
        with pytest.raises(ValueError, match=message):
            draw()
    assert not plt.get_fignums(), "what was refused has made no figure"


def test_importing_the_pictures_does_not_import_matplotlib():
    modules = "peftproof.theorems.marginal.plots, peftproof.theorems.marginal.plots_model"
    script = f"import sys, {modules}; sys.exit(int('matplotlib' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
