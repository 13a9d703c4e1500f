"""Instances as Python text: a failure shows what reproduces it when pasted."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from typing import Any

import numpy as np

_MARGINAL = ("kind", "note", "scale", "operations")
LARGEST = 32  # entries of an array that are still worth reading


class Pasteable:
    """Gives a dataclass a repr that rebuilds it, with shapes in place of numbers where those are many.

    Attributes:
        kind: what a search counts; the name of the class where it is empty.
        note: a sentence for the record.

    A subclass sets them without an annotation, ``kind = "ReLU neuron"``, or as fields where they differ
    between instances. It may also have `scale` and `operations`, as `Comparison` has them.
    """

    kind = ""
    note = ""

    def snippet(self) -> str:
        """Python text of the instance; kinds, notes and defaults are left out."""
        shown = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.repr and f.name not in _MARGINAL and getattr(self, f.name) is not None
        }
        return f"{type(self).__name__}({', '.join(f'{name}={text(value)}' for name, value in shown.items())})"

    def __repr__(self) -> str:
        """Show the snippet."""
        return self.snippet()

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Keep pretty printers (Hypothesis, IPython) from unfolding the fields."""
        printer.text(repr(self))


def text(value: Any) -> str:
    """Write a number, an array or anything else as Python text."""
    if isinstance(value, np.ndarray) and value.size > LARGEST:
        return f"<f64[{','.join(map(str, value.shape))}]>"
    if isinstance(value, np.ndarray):
        return f"{'exact' if value.dtype == object else 'np.array'}({numbers(value)})"
    if isinstance(value, Fraction):
        return f'Fraction("{value}")' if value.denominator != 1 else f"Fraction({value})"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(text, value)) + ",)"
    return repr(float(value)) if isinstance(value, np.floating) else repr(value)


def numbers(value: Any) -> str:
    """Write nested lists of integers, "p/q" strings or floats."""
    if isinstance(value, np.ndarray | list):
        return "[" + ", ".join(numbers(item) for item in value) + "]"
    if isinstance(value, Fraction):
        return str(value) if value.denominator == 1 else f'"{value}"'
    return repr(float(value)) if isinstance(value, float) else f'"{value}"'
