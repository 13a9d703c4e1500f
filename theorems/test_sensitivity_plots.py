"""Pictures of Theorem 4: what they draw is what was measured, and their titles follow it."""

import math
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from peftproof.theorems import curvature, linalg
from peftproof.theorems.sensitivity import plots, plots_numerics
from peftproof.theorems.sensitivity.readaptation.paths import Trace
from peftproof.theorems.sensitivity.readaptation.results import Forms, Readaptation

T = np.logspace(-6, 0, 7)

pytestmark = pytest.mark.usefixtures("picture_rules")


def trace(quadratic, bend=0.0, clean=None, noise=1e-18, base=1.0):
    """A minimum that moves as the model says, but for an error in proportion to t."""
    change = -(T**2) * quadratic * (1 - bend * T)
    rises = T**2 * quadratic if clean is None else clean
    flat = np.zeros_like(T)
    return Trace(T, flat + base, change, change, rises, flat + noise, flat + 5, quadratic)


def readaptation(method="bitfit", shift="noise-0.2", bend=30.0, forms=(4.0, 1.0), noise=1e-18, clean=None):
    """Predicted is 2 t², re-trained 2 t² (1 − bend t) up to a small t, and positive further on."""
    full, peft = trace(3.0, noise=noise, base=1e-3), trace(1.0, noise=noise, base=1e-3, clean=clean)
    gap = 2 * T**2 / (1 + bend * T)
    peft.change[:] = full.change + gap
    return Readaptation(method, shift, 7, full, peft, 2.0, 0.0, 0.0, Forms(*forms, 0.0, 1.0))


def several():
    return [readaptation(), readaptation("ia3", bend=300.0, forms=(9.0, 0.5)), readaptation("head", bend=3.0)]


def share_and_errors():
    share = np.logspace(-10, 0, 21)
    return share, linalg.EPS * share**-0.5, linalg.EPS / share


def matrix(values=(1e-3, 2e-3, 1e-2, 0.5, 2.0)):
    return curvature.of_matrix(np.diag(np.asarray(values)))


def spectrum(ax=None, values=(1e-3, 2e-3, 1e-2, 0.5, 2.0), **given):
    return plots_numerics.plot_spectrum(curvature.spectral_density(matrix(values)), ax, **given)


def drawings():
    pairs = {
        "largest": curvature.eigenpairs(matrix(), 2),
        "smallest": curvature.eigenpairs(matrix(), 1, "smallest"),
    }
    return {
        "gaps": lambda ax: plots.plot_gaps(several(), ax),
        "gap": lambda ax: plots.plot_gaps(readaptation(), ax),
        "error": lambda ax: plots.plot_model_error(several(), ax),
        "forms": lambda ax: plots.plot_forms(several(), ax),
        "damage": lambda ax: plots.plot_damage(readaptation(), ax),
        "cancellation": lambda ax: plots_numerics.plot_cancellation(*share_and_errors(), ax),
        "spectrum": lambda ax: spectrum(ax, ridge=1e-3, **pairs),
    }


each_drawing = pytest.mark.parametrize("name", drawings())


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
    assert any(unit in ax.get_ylabel() for unit in ("(nats)", "(a ratio)", "share of"))
    assert any(unit in ax.get_xlabel() for unit in ("(nats", "(a ratio)", "share of"))
    assert 0 < len(ax.get_title()) < 80
    assert all(texts(ax))
    assert len(set(texts(ax))) == len(texts(ax)), "every mark is named once"


@each_drawing
def test_nothing_that_is_named_hides_what_is_drawn(name):
    ax = drawings()[name](None)
    ax.figure.canvas.draw()
    legend, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert legend.y1 < inside.y0


def test_methods_differ_in_more_than_colour():
    assert len(set(plots._looks(56))) == 56
    markers = {one.get_marker() for one in plots.plot_gaps(several()).lines} - {"None"}
    assert len(markers) == 3


def test_gaps_draw_what_was_predicted_and_what_was_re_trained():
    one = readaptation()
    ax = plots.plot_gaps(one)
    np.testing.assert_allclose(line(ax, "bitfit, noise-0.2"), np.c_[T, one.gap])
    solid, dotted = (
        next(drawn for drawn in ax.lines if drawn.get_linestyle() == s and len(drawn.get_xdata()))
        for s in ("-", ":")
    )
    for drawn in (solid, dotted):
        np.testing.assert_allclose(drawn.get_ydata(), 2 * drawn.get_xdata() ** 2)
    np.testing.assert_allclose(solid.get_xdata(), [T[0], one.valid_until])
    np.testing.assert_allclose(dotted.get_xdata(), [one.valid_until, 1])
    assert 1e-3 < one.valid_until < 1e-2
    assert ax.get_title() == f"The model is right to 10 % up to t = {one.valid_until:.2g}"
    assert texts(ax)[0] == f"bitfit, noise-0.2: order {one.order:.2f}, to {one.valid_until:.2g}"
    assert one.order == pytest.approx(1, abs=0.01)


def test_the_names_of_several_are_what_tells_them_apart():
    assert [text.split(":")[0] for text in texts(plots.plot_gaps(several()))[:3]] == ["bitfit", "ia3", "head"]
    shifts = [readaptation(shift="blur"), readaptation(shift="noise")]
    assert [text.split(":")[0] for text in texts(plots.plot_gaps(shifts))[:2]] == ["blur", "noise"]
    assert texts(plots.plot_gaps([*shifts, readaptation("ia3")]))[0].startswith("bitfit, blur:")


def test_gaps_in_their_noise_are_hollow_and_those_that_are_not_positive_are_counted():
    one = readaptation(noise=1e-9)
    one.peft.change[0] = one.full.change[0] - 1e-12
    ax = plots.plot_gaps(one)
    clear = int(np.sum(one.gap > one.noise))
    assert 0 < clear < len(T) - 1
    hollow, full = (
        next(drawn for drawn in ax.lines if drawn.get_marker() == "o" and drawn.get_fillstyle() == s)
        for s in ("none", "full")
    )
    assert np.isfinite(hollow.get_ydata()).sum() == len(T) - 1
    np.testing.assert_allclose(full.get_xdata(), T[-clear:])
    assert texts(ax)[0].endswith(", 1 not above 0")
    (floor,) = ax.collections
    top = floor.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(one.noise.max())


def test_a_model_that_is_never_right_has_no_solid_line():
    far = readaptation(bend=1e9)
    assert far.valid_until == 0
    ax = plots.plot_gaps(far)
    solid = next(drawn for drawn in ax.lines if drawn.get_linestyle() == "-" and len(drawn.get_xdata()))
    assert np.ptp(solid.get_xdata()) == 0
    assert ax.get_title().endswith("up to t = 0")


def test_the_range_of_several_is_from_the_smallest_to_the_largest():
    ends = sorted(one.valid_until for one in several())
    title = plots.plot_gaps(several()).get_title()
    assert title == f"The model is right to 10 % up to t between {ends[0]:.2g} and {ends[-1]:.2g}"


def test_the_error_of_the_model_has_its_slope():
    one = readaptation(noise=1e-15)
    ax = plots.plot_model_error(one)
    drawn = line(ax, "bitfit")
    np.testing.assert_allclose(drawn, np.c_[T, np.abs(one.ratio - 1)][one.seen])
    assert len(drawn) < len(T), "some are hidden by their noise"
    guide = line(ax, "slope 1")
    assert np.diff(np.log(guide[:, 1])) / np.diff(np.log(guide[:, 0])) == pytest.approx(1)
    assert ax.get_title() == f"As t falls, so does the model's error, with order {one.order:.2g}"


def test_58_is_drawn_against_its_diagonal_and_counted():
    every = [*several(), readaptation("lora", forms=(1.0, 2.0))]
    ax = plots.plot_forms(every)
    np.testing.assert_array_equal(line(ax, "ia3"), [[9.0, 0.5]])
    np.testing.assert_array_equal(line(ax, "lora"), [[1.0, 2.0]])
    assert ax.get_title() == "(58) is reversed in 3 of 4 cases, 4 to 18 times"
    assert ax.get_xlim() == ax.get_ylim()
    (where,) = ax.collections
    x, y = where.get_paths()[0].vertices.T
    assert np.all(y >= x * (1 - 1e-12)), "the area in which (58) holds is above the diagonal"


def test_damage_shows_where_the_order_flips():
    later = T**2 * np.where((T > 0.005) & (T < 0.5), 4.0, 1.0)
    one = readaptation(clean=later)
    ax = plots.plot_damage(one)
    np.testing.assert_allclose(line(ax, "bitfit"), np.c_[T, later])
    np.testing.assert_allclose(line(ax, "full fine-tuning"), np.c_[T, 3 * T**2])
    assert one.flips_at == pytest.approx(0.01)
    rings = next(drawn for drawn in ax.collections if isinstance(drawn, mpl.collections.PathCollection))
    np.testing.assert_allclose(rings.get_offsets(), np.c_[T, later][4:6])
    assert "bitfit loses more: t = 0.01, 0.1" in texts(ax)
    assert ax.get_title() == "noise-0.2: on clean data\nfull fine-tuning loses more for t < 0.01"
    always = plots.plot_damage(readaptation())
    assert always.get_title().endswith("at every t")
    assert not any("loses more" in text for text in texts(always))


def test_rounding_of_the_loss_is_named_where_it_is_within_the_axes():
    one = readaptation()
    ax = plots.plot_damage(one)
    assert ax.get_ylim()[0] > one.full.rounding.max() + one.peft.rounding.max()
    assert "rounding of the loss" not in texts(ax)
    one.full.base[:] = 1e3
    assert "rounding of the loss" in texts(plots.plot_damage(one))


def test_markers_that_coincide_are_all_seen():
    for draw in (plots.plot_gaps, plots.plot_model_error):
        sizes = {one.get_marker(): one.get_markersize() for one in draw(several()).lines}
        assert sizes["o"] > sizes["s"] > sizes["D"], "the first is drawn first, and is the largest"


def test_cancellation_measures_both_slopes():
    share, residual, subtracted = share_and_errors()
    ax = plots_numerics.plot_cancellation(share, residual, subtracted)
    assert texts(ax)[0] == "two forms, subtracted: slope -1.00"
    assert "residual form: slope -0.50" in texts(ax)
    assert ax.get_title() == "A small gap costs subtraction digits 2.0 times as fast"
    np.testing.assert_allclose(line(ax, "residual form"), np.c_[share, residual])
    np.testing.assert_allclose(line(ax, "machine ε times √")[:, 1], linalg.EPS * np.array([1e5, 1]))
    zero = plots_numerics.plot_cancellation(share, 0 * residual, subtracted)
    assert np.all(line(zero, "residual form")[:, 1] == linalg.EPS / 2)


def test_the_spectrum_counts_every_eigenvalue_once():
    ax = spectrum(ridge=1e-3)
    (bars,) = ax.containers
    assert sum(bar.get_height() for bar in bars) == pytest.approx(1)
    heights = {bar.get_x(): bar.get_height() for bar in bars if bar.get_height()}
    assert sorted(heights.values()) == pytest.approx([0.2] * 5)
    for value in (1e-3, 2e-3, 1e-2, 0.5, 2.0):
        assert any(
            bar.get_x() <= value * (1 + 1e-12) and value < bar.get_x() + bar.get_width() for bar in bars
        )
    assert ax.get_title() == "40 % of the eigenvalues exceed a hundredth of the largest"
    assert texts(ax)[0] == "λ = 0.001"


def test_negative_eigenvalues_look_different():
    ax = spectrum(values=(-0.5, 1.0, 0.1, 2.0))
    assert texts(ax) == ["positive: 75 %", "negative, by their size: 25 %"]
    assert [one[0].get_hatch() for one in ax.containers] == [None, "//"]


def test_extreme_eigenvalues_are_marked_with_their_intervals():
    found = curvature.eigenpairs(matrix(), 2)
    ax = spectrum(largest=found)
    bars = next(one for one in ax.containers if isinstance(one, mpl.container.ErrorbarContainer))
    np.testing.assert_allclose(bars[0].get_xdata(), [2.0, 0.5])
    ends = np.array([segment[:, 0] for segment in bars[2][0].get_segments()])
    np.testing.assert_allclose(ends, np.c_[found.lower, found.upper], rtol=1e-15)
    (label,) = (text for text in texts(ax) if text.startswith("the 2 largest, each ± "))
    assert label.endswith("(their height means nothing)")
    assert max(ax.get_yticks()) == 1, "no share exceeds 1"
    assert not len(ax.get_yticks(minor=True))


def test_what_cannot_be_drawn_is_refused():
    for draw in (plots.plot_gaps, plots.plot_model_error, plots.plot_forms):
        with pytest.raises(ValueError, match="at least one"):
            draw([])
    flat = readaptation()
    object.__setattr__(flat, "predicted", 0.0)
    with pytest.raises(ValueError, match=r"bitfit, noise-0.2 has no predicted gap"):
        plots.plot_gaps(flat)
    with pytest.raises(ValueError, match="no part along"):
        plots.plot_forms(readaptation(forms=(0.0, 0.0)))
    share, residual, subtracted = share_and_errors()
    with pytest.raises(ValueError, match=r"got \(21,\), \(20,\)"):
        plots_numerics.plot_cancellation(share, residual[1:], subtracted)
    with pytest.raises(ValueError, match=r"numbers in \(0, 1\]"):
        plots_numerics.plot_cancellation(2 * share, residual, subtracted)
    with pytest.raises(ValueError, match="all eigenvalues are 0"):
        spectrum(values=(0.0, 0.0))
    assert not plt.get_fignums(), "what was refused has made no figure"


def test_different_t_are_refused():
    other = readaptation()
    for one in (other.full, other.peft):
        object.__setattr__(one, "t", T / 2)
    with pytest.raises(ValueError, match="different t"):
        plots.plot_gaps([readaptation(), other])


def test_unknown_numbers_are_not_made_up():
    assert plots._span([math.nan]) == "?"
    assert plots._span([math.nan, 0.5]) == "0.5"


def test_importing_the_pictures_does_not_import_matplotlib():
    names = "peftproof.theorems.sensitivity.plots, peftproof.theorems.sensitivity.plots_numerics"
    script = f"import sys, {names}; sys.exit(int('matplotlib' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
