"""Results on disk, under keys that hold everything that determines them.

An entry is one safetensors file: arrays, and in its metadata the key, plain facts as JSON and a checksum
over all of it. A damaged entry is noticed, reported and treated as absent, so that the caller computes it
again. Nothing is ever pickled.
"""

import hashlib
import json
import os
import platform
import tempfile
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
import platformdirs
from jaxtyping import PyTree, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = "1"
ENVIRONMENT_VARIABLE = "PEFTPROOF_CACHE"

Json = dict[str, Any]
Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


class CacheWarning(UserWarning):
    """An entry was damaged, or the folder could not be written: the result is right, but computed again."""


class Cache:
    """Arrays and facts on disk, found by a key.

    Args:
        folder: where the files lie; when None, the folder that the environment variable PEFTPROOF_CACHE
            names, and without it the user's cache folder. It is created with the first entry.

    Example:
        >>> import numpy as np, tempfile
        >>> cache = Cache(tempfile.mkdtemp())
        >>> cache.put({"seed": 0}, {"phi": np.zeros(3)}, {"loss": 0.5})
        >>> arrays, facts = cache.get({"seed": 0})
        >>> arrays["phi"].shape, facts
        ((3,), {'loss': 0.5})
    """

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        if folder is None:
            folder = os.environ.get(ENVIRONMENT_VARIABLE) or platformdirs.user_cache_dir(
                "peftproof", appauthor=False
            )
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"Cache({str(self.folder)!r})"

    def path(self, key: Json) -> Path:
        """The file of a key: its name is the sha256 of the key as canonical JSON.

        Raises:
            ValueError: a key that JSON cannot hold exactly (arrays, objects, NaN).
        """
        return self.folder / f"{hashlib.sha256(_canonical('key', key).encode()).hexdigest()}.safetensors"

    def get(self, key: Json) -> tuple[dict[str, np.ndarray], Json] | None:
        """The arrays and facts of a key; None when absent, or damaged (with a CacheWarning)."""
        path = self.path(key)
        try:
            with safe_open(path, framework="numpy") as file:
                header = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            self._check(header, key, arrays)
            return arrays, json.loads(header["facts"])
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            warnings.warn(
                f"The cache entry {path} is damaged ({error}); its result is computed again.",
                CacheWarning,
                stacklevel=2,
            )
            return None

    def put(self, key: Json, arrays: Arrays, facts: Json) -> None:
        """Writes an entry, whole or not at all; a folder that cannot be written gives a CacheWarning.

        Args:
            key: everything that determines the result, as JSON.
            arrays: by name.
            facts: plain numbers and text, as JSON.

        Raises:
            ValueError: a key or facts that JSON cannot hold exactly.
        """
        path = self.path(key)
        header = {"format": FORMAT, "key": _canonical("key", key), "facts": _canonical("facts", facts)}
        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        content = save(arrays, metadata={**header, "checksum": _checksum(header, arrays)})
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, content)
        except OSError as error:
            warnings.warn(
                f"The result could not be kept in {self.folder} ({error}); the next run computes it again. "
                f"Set {ENVIRONMENT_VARIABLE} to a folder that can be written.",
                CacheWarning,
                stacklevel=2,
            )

    @staticmethod
    def _check(header: Mapping[str, str], key: Json, arrays: Arrays) -> None:
        if header.get("format") != FORMAT:
            raise ValueError(f"its format is {header.get('format')!r}, not {FORMAT!r}")
        if header["key"] != _canonical("key", key):
            raise ValueError("it holds another key")
        if header["checksum"] != _checksum(header, arrays):
            raise ValueError("its checksum does not match")


def digest(tree: PyTree[Shaped[np.ndarray | jax.Array, "..."]]) -> str:
    """The sha256 of a pytree of arrays: of their paths, dtypes, shapes and bytes.

    Example:
        >>> import numpy as np
        >>> digest({"a": np.zeros(2)}) == digest({"a": np.zeros(2, np.float32)})
        False
    """
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        _feed(total, jax.tree_util.keystr(path), np.asarray(leaf))
    return total.hexdigest()


def environment() -> dict[str, str]:
    """What else changes results, for keys: versions, platform, device and JAX's settings."""
    return {
        **{package: metadata.version(package) for package in ("peftproof", "jax", "jaxlib", "optax")},
        "platform": f"{platform.system()}-{platform.machine()}",
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "matmul_precision": str(jax.config.jax_default_matmul_precision),
        "random_numbers": f"{jax.config.jax_default_prng_impl}-{jax.config.jax_threefry_partitionable}",
    }


def _canonical(argument: str, value: Json) -> str:
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{argument} cannot be written as JSON: {error}. Use plain numbers, text, lists and dicts; "
            "for arrays use digest(arrays)."
        ) from error
    if json.loads(text) != _plain(value):
        raise ValueError(f"{argument} changes when written as JSON; the names in a dict must be text.")
    return text


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON will read them back."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _checksum(header: Mapping[str, str], arrays: Arrays) -> str:
    total = hashlib.sha256()
    for name in ("format", "key", "facts"):
        total.update(f"{name}={header[name]}\n".encode())
    for name in sorted(arrays):
        _feed(total, name, arrays[name])
    return total.hexdigest()


def _feed(total: "hashlib._Hash", name: str, array: Shaped[np.ndarray, "..."]) -> None:
    total.update(f"{name}:{array.dtype.str}:{array.shape}\n".encode())
    total.update(array.tobytes())


def _write(path: Path, content: bytes) -> None:
    """A reader sees the old file or the new one, never half of one, also when two processes write."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
