"""Disturbances: each does what it says, in every form of the inputs, and refuses what it cannot disturb."""

import dataclasses

import numpy as np
import pytest

from peftproof.models.disturbances import (
    DISTURBANCES,
    Blur,
    Brightness,
    ClassImbalance,
    LabelNoise,
    Noise,
    Occlusion,
    OfImages,
    Rotation,
    disturbance,
)
from peftproof.models.tasks import Split, task

EACH = pytest.mark.parametrize("one", DISTURBANCES.values(), ids=list(DISTURBANCES))
IMAGES = [one for one in DISTURBANCES.values() if isinstance(one, OfImages)]


@pytest.fixture(scope="module")
def digits():
    return task("digits_rotated").new


def images(count=40, shape=(8, 8), seed=0):
    rng = np.random.default_rng(seed)
    return Split(rng.uniform(size=(count, *shape)), rng.integers(0, 5, size=count))


def same(a, b):
    return np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y)


@EACH
def test_size_dtype_range_and_labels_stay_what_they_were(one, digits):
    found = one(digits.test, 0)
    assert found.x.shape == digits.test.x.shape
    assert found.x.dtype == np.float64 and found.y.dtype == np.int32
    assert found.x.min() >= 0 and found.x.max() <= 1
    assert set(found.y) <= set(digits.test.y)
    assert not same(found, digits.test)


@EACH
def test_the_seed_decides_and_splits_get_draws_of_their_own(one, digits):
    first, again, other = one(digits.test, 3), one(digits.test, 3), one(digits.test, 4)
    assert same(first, again)
    random = not isinstance(one, Rotation | Blur | Brightness)
    assert same(first, other) is not random
    splits = one.on(digits, 3)
    assert same(splits.test, first)
    if isinstance(one, Noise):
        tops = [getattr(splits, part).x[:50] - getattr(digits, part).x[:50] for part in ("train", "test")]
        assert abs(np.corrcoef(*(top.ravel() for top in tops))[0, 1]) < 0.2


@EACH
def test_tokens_are_the_same_images(one, digits):
    flat, tokens = one(digits.test, 1), one(task("digits_rotated", tokens=True).new.test, 1)
    np.testing.assert_array_equal(tokens.x.reshape(flat.x.shape), flat.x)
    np.testing.assert_array_equal(tokens.y, flat.y)


@EACH
def test_rows_say_which_example_each_row_comes_from(one, digits):
    rows, found = one.rows(digits.test, 0), one(digits.test, 0)
    if isinstance(one, ClassImbalance):
        np.testing.assert_array_equal(found.x, digits.test.x[rows])
    else:
        np.testing.assert_array_equal(rows, np.arange(len(digits.test)))
    if not isinstance(one, LabelNoise):
        np.testing.assert_array_equal(found.y, digits.test.y[rows])


def test_noise_has_the_given_scale_and_keeps_to_its_bounds():
    split = images(200)
    change = Noise(0.1, bounds=None)(split, 0).x - split.x
    assert change.std() == pytest.approx(0.1, rel=0.05) and abs(change.mean()) < 0.005
    np.testing.assert_array_equal(Noise(0.1)(split, 0).x, np.clip(split.x + change, 0, 1))
    np.testing.assert_allclose(Noise(0.3, None)(split, 0).x - split.x, 3 * change, atol=1e-14)


def test_brightness_shifts_and_clips():
    split = images()
    np.testing.assert_array_equal(Brightness(0.2)(split).x, np.minimum(split.x + 0.2, 1))
    np.testing.assert_array_equal(Brightness(-0.2, None)(split).x, split.x - 0.2)


def test_a_quarter_turn_is_exact_and_the_sign_is_the_base_tasks():
    split = images(5)
    turned = Rotation(90)(split).x
    np.testing.assert_allclose(turned, np.rot90(split.x, axes=(1, 2)), atol=1e-12)
    upright = task("digits_rotated")
    turned = Rotation(90)(upright.new.test).x
    np.testing.assert_allclose(turned, upright.base.test.x, atol=1e-12)


def test_blur_averages_and_leaves_constants_alone():
    flat = Split(np.full((3, 8, 8), 0.4), np.arange(3))
    np.testing.assert_allclose(Blur(1.0)(flat).x, 0.4, atol=1e-14)
    point = np.zeros((1, 9, 9))
    point[0, 4, 4] = 1
    spread = Blur(0.5)(Split(point, np.zeros(1, int))).x[0]
    assert spread.sum() == pytest.approx(1)
    weight = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.5**2))
    np.testing.assert_allclose(spread[4, 2:7] / spread[4].sum(), weight / weight.sum(), atol=1e-12)


def test_occlusion_covers_one_square_of_each_image_anywhere():
    ones = Split(np.ones((300, 8, 8)), np.zeros(300, int))
    hidden = Occlusion(3)(ones, 0).x == 0
    np.testing.assert_array_equal(hidden.sum((1, 2)), 9)
    for axis in (1, 2):
        np.testing.assert_array_equal(hidden.any(axis).sum(1), 3)
    assert {int(image.any(1).argmax()) for image in hidden} == set(range(6))
    assert hidden.any(0).all()


def test_label_noise_changes_exactly_its_share_to_other_classes():
    y = np.repeat([2, 5, 9], 400)
    found = LabelNoise(0.25)(Split(np.arange(1200.0)[:, None], y), 0).y
    changed = found != y
    assert changed.sum() == 300
    for label, others in ((2, (5, 9)), (5, (2, 9)), (9, (2, 5))):
        counts = [np.sum(found[changed & (y == label)] == other) for other in others]
        assert min(counts) > 0.3 * sum(counts), "the other classes are equally likely"


def test_class_imbalance_has_the_weights_it_says_and_repeats_evenly(digits):
    one, split = ClassImbalance(0.1), digits.train
    before, after = np.bincount(split.y), np.bincount(one(split, 0).y, minlength=10)
    assert after.sum() == before.sum()
    weights = np.sort(after / before)
    np.testing.assert_allclose(weights / weights[-1], 0.1 ** (np.arange(9, -1, -1) / 9), atol=0.02)
    times = np.bincount(one.rows(split, 0), minlength=len(split))
    for label in range(10):
        assert np.ptp(times[split.y == label]) <= 1
    order = np.argsort(np.bincount(one(digits.test, 0).y) / np.bincount(digits.test.y))
    assert order[0] == np.argmin(after / before), "the same class is rare in all splits of a task"
    assert len({int(np.argmin(np.bincount(one(split, seed).y, minlength=10))) for seed in range(8)}) > 2


@pytest.mark.parametrize("one", IMAGES, ids=lambda one: one.stem)
def test_images_of_any_shape_are_taken_when_it_is_given(one):
    split = images(6, (5, 7))
    with pytest.raises(
        ValueError, match=r"shape \(5, 7\), needs square images.*image_shape=\(height, width\)"
    ):
        one(split)
    wide = dataclasses.replace(one, image_shape=(5, 7))
    flat = Split(split.x.reshape(6, 35), split.y)
    assert not same(wide(split), split)
    np.testing.assert_array_equal(wide(flat).x, wide(split).x.reshape(6, 35))
    with pytest.raises(ValueError, match="needs square images"):
        one(flat)
    with pytest.raises(ValueError, match=r"needs 35 numbers each for image_shape=\(5, 7\)"):
        wide(images())


@pytest.mark.parametrize("one", IMAGES, ids=lambda one: one.stem)
def test_a_few_numbers_are_no_image_unless_it_is_said(one):
    split = images(6, (3, 3))
    flat = Split(split.x.reshape(6, 9), split.y)
    with pytest.raises(ValueError, match=r"got vectors of 9 numbers, .*image_shape=\(3, 3\).*such as noise"):
        one(flat)
    small = dataclasses.replace(one, size=1) if isinstance(one, Occlusion) else one
    assert not same(dataclasses.replace(small, image_shape=(3, 3))(flat), flat)
    assert not same(small(split), split)


@pytest.mark.parametrize("one", IMAGES, ids=lambda one: one.stem)
def test_channels_of_an_image_are_disturbed_alike(one):
    split = images(4, (8, 8))
    colours = Split(np.stack([split.x, split.x], axis=-1), split.y)
    found = dataclasses.replace(one, image_shape=(8, 8, 2))(colours).x
    np.testing.assert_array_equal(found[..., 0], found[..., 1])
    if not isinstance(one, Occlusion):  # its draws depend on the data, and these are others
        np.testing.assert_array_equal(found[..., 0], one(split).x)


def test_names_are_found_again_with_their_strength():
    for stem, one in DISTURBANCES.items():
        assert disturbance(stem) == one == disturbance(one.name)
    assert disturbance("rotation--3") == Rotation(-3)
    assert disturbance("noise-1e-3") == Noise(1e-3)
    for name in ("rotate", "noise-", "noise-x", "Noise"):
        with pytest.raises(ValueError, match=r"got '.*', needs one of noise, .* such as noise-0\.1"):
            disturbance(name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(0.0), "scale: got 0.0, needs a positive number"),
        (lambda: Noise(float("nan")), "scale: got nan"),
        (lambda: Noise(bounds=(1.0, 0.0)), r"bounds: got \(1.0, 0.0\), needs \(low, high\)"),
        (lambda: Brightness(0), "shift: got 0, needs a number other than 0"),
        (lambda: Rotation(float("inf")), "degrees: got inf"),
        (lambda: Rotation(image_shape=(8,)), r"image_shape: got \(8,\), needs \(height, width\)"),
        (lambda: Blur(-1), "sigma: got -1, needs a positive number"),
        (lambda: Occlusion(1.5), "size: got 1.5, needs a positive whole number"),
        (lambda: LabelNoise(1.1), r"share: got 1.1, needs a share in \(0, 1\]"),
        (lambda: ClassImbalance(1), r"ratio: got 1, needs a number in \(0, 1\)"),
        (lambda: disturbance("label-noise-2"), "share: got 2.0"),
        (lambda: Occlusion(8)(images()), r"size: got 8, needs less than the sides \(8, 8\)"),
        (
            lambda: Noise()(Split(2 * images().x, images().y)),
            "outside bounds=.*give the bounds of your inputs",
        ),
        (
            lambda: LabelNoise()(Split(np.ones((3, 1)), np.ones(3, int))),
            "the single class 1, needs at least two",
        ),
        (lambda: ClassImbalance()(Split(np.ones((3, 1)), np.ones(3, int))), "the single class 1"),
        (lambda: Noise()(images(), -1), "seed: got -1, needs a whole number >= 0"),
    ],
)
def test_bad_settings_and_splits_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
