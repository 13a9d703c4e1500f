"""The tables of methods in README.md and on the page of methods: what they say is read off the code.

    python docs/support_tables.py

writes each anew between its marks, ``<!-- table NAME -->`` and ``<!-- end of table -->``. Where a page and
`SUPPORT` disagree, tests/test_support_table.py fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from peftproof.models import MLPConfig, TransformerConfig, from_pytree, mlp, transformer, tree
from peftproof.models.methods import SUPPORT, Method, Staged, Support, method
from peftproof.models.network import Network
from peftproof.models.reference import REFERENCES

ROOT = Path(__file__).parents[1]
PAGES = {
    ROOT / "README.md": ("short",),
    ROOT / "docs" / "guide" / "methods.md": ("maps", "numbers", "extensions", "fits", "errors"),
}
KINDS = {"MLP": "a perceptron", "Transformer": "a transformer"}
OWN = "a network of your own"
NO_BIASES = " without biases"


def stale() -> list[str]:
    """What is wrong with the tables on the pages, as sentences."""
    return [
        f"{page.name}: the table {name!r} is not what the code says; run python docs/support_tables.py"
        for page, names in PAGES.items()
        for name in names
        if _between_marks(page.read_text(encoding="utf-8"), name)[2] != TABLES[name]()
    ]


def write() -> None:
    """Put the tables into the pages."""
    for page, names in PAGES.items():
        text = page.read_text(encoding="utf-8")
        for name in names:
            found = _between_marks(text, name)
            text = text[: found.start(2)] + TABLES[name]() + text[found.end(2) :]
        page.write_text(text, encoding="utf-8")


def _between_marks(text: str, name: str) -> re.Match:
    first, last = f"<!-- table {name} -->\n", "<!-- end of table -->"
    found = re.search(f"({first})(.*?)({last})", text, re.DOTALL)
    if found is None:
        raise ValueError(
            f"page: no marks of the table {name!r}, needs {first.strip()} and {last}; write them there"
        )
    return found


def short() -> str:
    """All methods, for the README."""
    head = ("Name", "Method", "What becomes of a kernel W", "Dimension of the updates", *KINDS)
    return _markdown(
        head,
        (
            (f"`{row.pattern}`", row.title, row.update, row.dimension or "no map g", *map(_fits(row), KINDS))
            for row in SUPPORT
        ),
    )


def maps() -> str:
    """The methods with a map g."""
    head = ("Name", "Method", "What becomes of a kernel W", "dim Im g", "Nearest point", "Paper")
    rows = []
    for row in _with_map():
        nearest = "exact" if _resolved(row).image(_networks()["a perceptron"]).exact else "estimate"
        rows.append((f"`{row.pattern}`", _linked(row), row.update, row.dimension, nearest, row.paper))
    return _markdown(head, rows)


def numbers() -> str:
    """What the methods with a map g are on the reference perceptron."""
    head = ("Name", "k", "k / d", "dim Im g", "gauge", "rank at start", "g linear")
    rows, network = [], _networks()["a perceptron"]
    for row in _with_map():
        k, image = _resolved(row).reparameterize(network).k, _resolved(row).image(network)
        counts = (image.dimension, k - image.dimension, image.initial_rank)
        linear = "yes" if image.linear else "no"
        rows.append((f"`{row.example}`", f"{k}", f"{k / network.d:.1%}", *map(str, counts), linear))
    return _markdown(head, rows, right=range(1, 6))


def extensions() -> str:
    """The methods without a map g."""
    head = ("Name", "Method", "What it adds", *(f"k, {kind}" for kind in KINDS), "Paper")
    rows = []
    for row in SUPPORT:
        if not method(row.example).weight_space:
            counts = (_count(row, network) for network in KINDS.values())
            rows.append((f"`{row.pattern}`", _linked(row), row.update, *counts, row.paper))
    return _markdown(head, rows, right=(3, 4))


def fits() -> str:
    """Which networks methods are defined for, those alike in one row."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for row in SUPPORT:
        own = "yes" if _refusal(row, OWN) is None else "not by default"
        alike.setdefault((*map(_fits(row), KINDS), own), []).append(f"`{row.pattern}`")
    rows = ((", ".join(names), *answers) for answers, names in alike.items())
    return _markdown(("Methods", *KINDS, "Your own"), rows)


def errors() -> str:
    """What is said when a method is asked for where it is undefined."""
    said: dict[str, tuple[list[str], list[str]]] = {}
    for row in SUPPORT:
        for kind in _networks():
            message = _refusal(row, kind)
            if message is not None:
                names, kinds = said.setdefault(message.replace(row.example, "NAME"), ([], []))
                names += [row.example] if row.example not in names else []
                # What holds for networks with biases needs no second mention for those without.
                kinds += [kind] if kind not in kinds and kind.removesuffix(NO_BIASES) not in kinds else []
    rows = (
        (", ".join(f"`{name}`" for name in names), ", ".join(kinds), f"`{text.replace('NAME', names[0])}`")
        for text, (names, kinds) in said.items()
    )
    return _markdown(("Asked for", "On", "Error"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "short": short,
    "maps": maps,
    "numbers": numbers,
    "extensions": extensions,
    "fits": fits,
    "errors": errors,
}


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], right: Iterable[int] = ()) -> str:
    marks = ["---:" if column in right else "---" for column in range(len(head))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, marks, *rows))


def _with_map() -> list[Support]:
    return [row for row in SUPPORT if method(row.example).weight_space]


def _linked(row: Support) -> str:
    kind = type(method(row.example))
    return f"[{row.title}]({kind.__module__}.{kind.__name__})"


def _count(row: Support, kind: str) -> str:
    network, chosen = _networks()[kind], method(row.example)
    return "-" if _refusal(row, kind) else f"{chosen.trainable(chosen.enlarge(network)).k}"


@cache
def _resolved(row: Support) -> Method:
    """The method; of a staged one, what some update of the perceptron makes of it."""
    chosen, network = method(row.example), _networks()["a perceptron"]
    if not isinstance(chosen, Staged):
        return chosen
    rng = np.random.default_rng(0)
    leaves = tree.paths(network.params)
    update = {path: rng.normal(size=leaf.shape).astype(leaf.dtype) for path, leaf in leaves.items()}
    return chosen.resolve(network, tree.from_paths(update))


@cache
def _refusal(row: Support, kind: str) -> str | None:
    try:
        method(row.example).check(_networks()[kind])
    except ValueError as error:
        return str(error)
    return None


def _fits(row: Support) -> Callable[[str], str]:
    """Whether a method is defined for networks of ours of a kind."""

    def fits(kind: str) -> str:
        if _refusal(row, KINDS[kind]) is not None:
            return "no"
        return "yes" if _refusal(row, KINDS[kind] + NO_BIASES) is None else "with biases"

    return fits


@cache
def _networks() -> dict[str, Network]:
    """Networks to ask about, untrained, by what the pages call them."""
    key = jax.random.key(0)
    sizes = {"features": 8, "length": 8, "width": 24, "depth": 1, "heads": 2, "hidden": 48, "outputs": 10}
    own = {"up": {"kernel": jnp.ones((8, 12)), "bias": jnp.ones(12)}, "down": {"kernel": jnp.ones((12, 4))}}
    return {
        "a perceptron": mlp(REFERENCES["mlp-tanh"].config, key, name="net"),
        "a perceptron without biases": mlp(MLPConfig((64, 32, 32, 10), biases=False), key, name="net"),
        "a transformer": transformer(REFERENCES["transformer"].config, key, name="net"),
        "a transformer without biases": transformer(
            TransformerConfig(**sizes, biases=False, norm="rms"), key, name="net"
        ),
        OWN: from_pytree(
            lambda p, x: jnp.tanh(x @ p["up"]["kernel"] + p["up"]["bias"]) @ p["down"]["kernel"],
            own,
            name="net",
        ),
    }


if __name__ == "__main__":
    write()
