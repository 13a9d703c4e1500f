"""Tasks: the splits are what they say, and nothing that tests was seen before."""

import numpy as np
import pytest
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

from peftproof.models.tasks import PARTS, TASKS, Split, Splits, Task, from_arrays, task


def splits_of(made):
    return [getattr(phase, part) for phase in (made.base, made.new) if phase is not None for part in PARTS]


def forms(images):
    """Every form in which a task shows an image: turned by multiples of 90°, or by 15°."""
    turned = [np.rot90(images, k, axes=(1, 2)) for k in range(4)]
    return [*turned, rotate(images, 15, axes=(1, 2), reshape=False, order=1)]


def numbers_of(x):
    """The number in scikit-learn's data of the image behind each input, whatever its form."""
    known = {
        image.tobytes(): number
        for form in forms(load_digits().images / 16.0)
        for number, image in enumerate(np.ascontiguousarray(form))
    }
    return {known[row.tobytes()] for row in np.ascontiguousarray(x).reshape(len(x), -1)}


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_no_image_that_tests_is_seen_by_either_phase_in_any_form(name, tokens):
    made = task(name, tokens)
    held_out = numbers_of(made.new.test.x)
    assert len(held_out) == len(made.new.test)
    for phase in (made.base, made.new):
        for part in (phase.train, phase.validation):
            assert not held_out & numbers_of(part.x)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_splits_of_a_phase_share_no_image_and_cover_all_classes(name, tokens):
    made = task(name, tokens)
    for phase in (made.base, made.new):
        numbers = [numbers_of(getattr(phase, part).x) for part in PARTS]
        assert (
            sum(map(len, numbers)) == len(set.union(*numbers)) == sum(len(getattr(phase, p)) for p in PARTS)
        )
        for part in PARTS:
            assert set(getattr(phase, part).y) == set(range(made.classes))


@pytest.mark.parametrize("name", TASKS)
def test_pixels_are_in_the_unit_interval_and_tokens_are_the_same_images(name):
    vectors, sequences = task(name), task(name, tokens=True)
    for flat, rows in zip(splits_of(vectors), splits_of(sequences), strict=True):
        assert flat.x.min() >= 0
        assert 0.9 < flat.x.max() <= 1
        assert rows.x.shape == (len(flat), 8, 8)
        np.testing.assert_array_equal(flat.x, rows.x.reshape(len(rows), 64))
        np.testing.assert_array_equal(flat.y, rows.y)


def test_rotated_digits_are_the_same_images_upright():
    made = task("digits_rotated", tokens=True)
    np.testing.assert_array_equal(np.rot90(made.new.train.x, axes=(1, 2)), made.base.train.x)
    assert [len(getattr(made.new, part)) for part in PARTS] == [1000, 200, 597]


def test_noise_is_in_the_new_training_and_validation_labels_only():
    made = task("digits_noisy")
    wrong = {part: np.mean(getattr(made.new, part).y != getattr(made.base, part).y) for part in PARTS}
    # A tenth of the labels that are drawn anew is right by chance.
    assert wrong["train"] == pytest.approx(0.27, abs=0.03)
    assert wrong["validation"] == pytest.approx(0.27, abs=0.06)
    assert wrong["test"] == 0


def test_new_classes_are_relabelled_from_zero():
    made = task("digits_new_classes")
    digits = {
        image.tobytes(): digit
        for image, digit in zip(load_digits().data / 16.0, load_digits().target, strict=True)
    }
    for row, label in zip(made.new.test.x, made.new.test.y, strict=True):
        assert digits[row.tobytes()] == label + 5


def test_a_task_is_the_same_each_time_and_cannot_be_changed():
    for one, other in zip(splits_of(task("digits_noisy")), splits_of(task("digits_noisy")), strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)
    with pytest.raises(ValueError, match="read-only"):
        task("digits_noisy").new.train.x[0] = 0


@pytest.fixture
def blobs():
    x = np.random.default_rng(0).normal(size=(200, 3))
    return x, (x[:, 0] > 0).astype(int)


def test_arrays_are_split_by_share_and_seed(blobs):
    made = from_arrays(new=blobs, validation=0.2, test=0.3)
    assert [len(getattr(made.new, part)) for part in PARTS] == [100, 40, 60]
    assert made.base is None
    assert made.classes == 2
    assert np.any(from_arrays(new=blobs, validation=0.2, test=0.3, seed=1).new.test.x != made.new.test.x)
    np.testing.assert_array_equal(
        np.unique(np.concatenate([s.x for s in splits_of(made)]), axis=0), np.unique(blobs[0], axis=0)
    )


def test_equal_examples_fall_into_the_same_split_in_both_phases(blobs):
    x, y = blobs
    x[0] = 0
    other = np.where(x == 0, -0.0, x)
    made = from_arrays(base=(other, y), new=(np.concatenate([x, x]), np.concatenate([y, y])))
    for part in PARTS:
        new, base = getattr(made.new, part).x, getattr(made.base, part).x
        np.testing.assert_array_equal(np.unique(new, axis=0), np.unique(base, axis=0))
        assert len(new) == 2 * len(base)


def test_groups_keep_the_forms_of_an_example_together(blobs):
    x, y = blobs
    made = from_arrays(base=(x, y), new=(x[::-1] * 2, y[::-1]), groups=(np.arange(200), np.arange(200)[::-1]))
    for part in PARTS:
        new, base = getattr(made.new, part).x, getattr(made.base, part).x
        np.testing.assert_array_equal(np.unique(new, axis=0), np.unique(base * 2, axis=0))
    alone = from_arrays(new=blobs, groups=(None, np.arange(200) // 2))
    first = {row.tobytes(): number for number, row in enumerate(x)}
    numbers = [{first[row.tobytes()] // 2 for row in getattr(alone.new, part).x} for part in PARTS]
    assert not numbers[0] & numbers[1] | numbers[0] & numbers[2] | numbers[1] & numbers[2]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "empty split"),
        (np.zeros((4, 0)), np.zeros(4, int), "empty split"),
        (np.zeros(4), np.zeros(4, int), "examples first"),
        (np.zeros((4, 3)), np.zeros(3, int), "one label for each"),
        (np.zeros((4, 3)), np.zeros(4), "integer labels"),
        (np.zeros((4, 3)), np.array([0, 1, -1, 0]), "the label -1"),
        (np.array([[0.0], [np.nan], [np.inf]]), np.array([0, 1, 0]), "2 of 3 examples, the first at row 1"),
    ],
)
def test_bad_splits_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        Split(x, y)


def split(values, labels):
    return Split(np.asarray(values, float)[:, None], np.asarray(labels))


def splits(shift=0.0):
    return Splits(*(split(np.arange(4) + 10 * k + shift, [0, 1, 2, 0]) for k in range(3)))


def test_a_single_class_is_refused():
    part = splits().train
    with pytest.raises(ValueError, match="the single class 1"):
        Splits(split([1, 2], [1, 1]), part, part)


def test_inputs_of_different_shapes_are_refused():
    part, wide = splits().train, Split(np.zeros((4, 2)), [0, 1, 2, 0])
    with pytest.raises(ValueError, match="different shapes"):
        Splits(part, wide, part)
    with pytest.raises(ValueError, match="one network needs one shape"):
        Task("t", Splits(wide, wide, wide), splits(), 3)


def test_labels_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"Task.new.train has the label 2, out of range for classes=2"):
        Task("t", None, splits(), 2)
    with pytest.raises(ValueError, match=r"Task.base.train"):
        Task("t", splits(100), Splits(*[split(np.arange(3) + 5 * k, [0, 1, 0]) for k in range(3)]), 2)


def test_unknown_losses_and_tasks_are_refused():
    with pytest.raises(ValueError, match="cross_entropy"):
        Task("t", None, splits(), 3, loss="hinge")
    with pytest.raises(ValueError, match="digits_rotated, digits_noisy, digits_new_classes"):
        task("mnist")


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("phase", ["base", "new"])
def test_leakage_is_refused(phase, part):
    phases = {"base": splits(100), "new": splits()}
    seen = {p: getattr(phases[phase], p) for p in PARTS}
    seen[part] = Split(np.concatenate([seen[part].x, phases["new"].test.x[:1]]), [*seen[part].y, 0])
    phases[phase] = Splits(**seen)
    with pytest.raises(ValueError, match=rf"Task.{phase}.{part} contains 1 of the examples that test"):
        Task("t", **phases, classes=3)


@pytest.mark.parametrize(("validation", "test"), [(0, 0.5), (0.5, 0), (0.5, 0.5), (-1, 0.5)])
def test_shares_out_of_range_are_refused(blobs, validation, test):
    with pytest.raises(ValueError, match="shares"):
        from_arrays(new=blobs, validation=validation, test=test)


def test_too_few_examples_and_wrong_groups_are_refused(blobs):
    x, y = blobs
    with pytest.raises(ValueError, match="empty split"):
        from_arrays(new=(x[:2], y[:2]))
    with pytest.raises(ValueError, match="groups has shapes"):
        from_arrays(new=blobs, base=blobs, groups=(np.arange(200), np.arange(3)))
