"""The cache: what goes in comes out, damage is noticed, and nothing half written is ever read."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from peftproof.models.cache import Cache, CacheWarning, digest, environment

KEY = {"network": "mlp", "seeds": [0, 1], "rate": 0.1, "nested": {"b": None, "a": True}}
ARRAYS = {
    "f64": np.linspace(0, 1, 7).reshape(7, 1),
    "f32": np.float32([[1, 2], [3, 4]]),
    "i32": np.arange(3, dtype=np.int32),
    "scalar": np.float64(0.1),
    "empty": np.zeros((0, 3)),
    "transposed": np.arange(6.0).reshape(2, 3).T,
}
FACTS = {"loss": 0.1 + 0.2, "name": "Φ", "curve": [1.0, 2.0], "none": None}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "new" / "folder")


def test_what_goes_in_comes_out(cache):
    cache.put(KEY, ARRAYS, FACTS)
    arrays, facts = cache.get(KEY)
    assert facts == FACTS
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array, strict=True)


def test_an_absent_entry_is_none_without_a_warning(cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get(KEY) is None
        cache.put(KEY, ARRAYS, FACTS)
        assert cache.get(KEY | {"rate": 0.2}) is None


def test_keys_are_equal_whatever_their_order_and_tuples_are_lists(cache):
    cache.put(KEY, ARRAYS, FACTS)
    assert cache.get(dict(reversed(KEY.items())) | {"seeds": (0, 1)}) is not None


def test_an_entry_is_replaced(cache):
    cache.put(KEY, ARRAYS, FACTS)
    cache.put(KEY, {"phi": np.ones(2)}, {})
    arrays, facts = cache.get(KEY)
    assert (list(arrays), facts) == (["phi"], {})
    assert len(list(cache.folder.iterdir())) == 1


def truncate(content):
    return content[:-5]


def flip_a_number(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def change_a_fact(content):
    assert b"\\u03a6" in content
    return content.replace(b"\\u03a6", b"\\u03a7")


def other_format(content):
    return content.replace(b'"format":"1"', b'"format":"0"')


def no_checksum(content):
    return content.replace(b'"checksum"', b'"checkzum"')


DAMAGES = (
    truncate,
    flip_a_number,
    change_a_fact,
    other_format,
    no_checksum,
    lambda _: b"",
    lambda _: b"\x80\x04K.",
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_reported_and_rebuilt(cache, damage):
    cache.put(KEY, ARRAYS, FACTS)
    path = cache.path(KEY)
    content = path.read_bytes()
    assert damage(content) != content
    path.write_bytes(damage(content))
    with pytest.warns(CacheWarning, match="damaged"):
        assert cache.get(KEY) is None
    cache.put(KEY, ARRAYS, FACTS)
    assert cache.get(KEY)[1] == FACTS


def test_an_entry_under_the_name_of_another_key_is_reported(cache):
    cache.put(KEY, ARRAYS, FACTS)
    other = KEY | {"rate": 0.2}
    cache.path(KEY).rename(cache.path(other))
    with pytest.warns(CacheWarning, match="another key"):
        assert cache.get(other) is None


def test_an_interrupted_write_leaves_nothing(cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.put(KEY, ARRAYS, FACTS)
    assert list(cache.folder.iterdir()) == []
    assert cache.get(KEY) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(CacheWarning, match="PEFTPROOF_CACHE"):
        Cache(tmp_path / "file").put(KEY, ARRAYS, FACTS)


def test_the_folder_follows_the_environment_unless_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTPROOF_CACHE", str(tmp_path / "a"))
    assert Cache().folder == tmp_path / "a"
    assert Cache(tmp_path / "b").folder == tmp_path / "b"
    monkeypatch.delenv("PEFTPROOF_CACHE")
    assert Cache().folder.name == "peftproof"


@pytest.mark.parametrize("value", [np.zeros(2), object(), float("nan"), {1: 2}, {"a": {2: 3}}])
def test_keys_and_facts_that_json_cannot_hold_are_refused(cache, value):
    with pytest.raises(ValueError, match="key"):
        cache.get({"value": value})
    with pytest.raises(ValueError, match="facts"):
        cache.put(KEY, {}, {"value": value})


def test_a_digest_sees_paths_dtypes_shapes_and_values():
    trees = [
        {"a": np.zeros(4)},
        {"b": np.zeros(4)},
        {"a": np.zeros(4, np.float32)},
        {"a": np.zeros((2, 2))},
        {"a": np.array([0, 0, 0, 1e-300])},
        {"a": {"a": np.zeros(4)}},
        {"a": np.zeros(2), "b": np.zeros(2)},
    ]
    assert len({digest(tree) for tree in trees}) == len(trees)
    assert digest({"a": np.arange(6.0).reshape(2, 3).T}) == digest(
        {"a": np.arange(6.0).reshape(2, 3).T.copy()}
    )


def test_the_environment_names_versions_and_device():
    assert json.loads(json.dumps(environment())) == environment()
    assert {"peftproof", "jax", "backend", "device"} <= environment().keys()
