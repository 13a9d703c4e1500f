r"""Generalisation errors of the order $\sqrt{d/N}$: exactly that one, and one that falls in jumps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy
from hypothesis import strategies as st

from ... import linalg
from ...pasteable import Pasteable


@functools.cache
def _derivative() -> Callable[[int, int], Any]:
    """The derivative of √(d/N) in N, found by symbolic differentiation, as a function of d and N."""
    d, n = sympy.symbols("d n", positive=True)
    slope = sympy.diff(sympy.sqrt(d / n), n)
    return lambda parameters, samples: slope.subs({d: parameters, n: samples})


@dataclass(frozen=True, eq=False, repr=False)
class SlowRate(Pasteable):
    r"""$R = A + \sqrt{p/N}$ with p = d for FFT and k for PEFT: (13) to (15) taken as equalities.

    Attributes:
        d: parameters of FFT.
        k: of PEFT.
        samples: N.
    """

    d: int
    k: int
    samples: int
    kind = "√(p/N)"
    constant = Fraction(1)

    def error(self, parameters: int, samples: int) -> Any:
        """E(N) = √(p/N), as an exact number."""
        return linalg.square_root(Fraction(parameters, samples))

    def gains_at(self, samples: int) -> tuple[Any, Any]:
        """R(N) − R(N + 1) of FFT and of PEFT; A cancels."""
        return tuple(self.error(p, samples) - self.error(p, samples + 1) for p in (self.d, self.k))

    @property
    def gains(self) -> tuple[Any, Any]:
        """ΔR_full(N) and ΔR_peft(N)."""
        return self.gains_at(self.samples)

    @property
    def later(self) -> tuple[Any, Any]:
        """The same after one more example."""
        return self.gains_at(self.samples + 1)

    @property
    def slope(self) -> Any:
        """DE_full/dN."""
        return _derivative()(self.d, self.samples)

    @property
    def printed_slope(self) -> Any:
        r"""$-\frac12\sqrt{d/N}\,N^{-3/2}$."""
        return -linalg.square_root(Fraction(self.d, self.samples**4)) / 2

    @property
    def errors(self) -> list[Any]:
        """E_full at N and at N + 1."""
        return [self.error(self.d, n) for n in (self.samples, self.samples + 1)]


@st.composite
def slow_rates(draw: st.DrawFn) -> SlowRate:
    """Few parameters, few samples."""
    d = draw(st.integers(2, 12))
    return SlowRate(d, draw(st.integers(1, d - 1)), draw(st.integers(1, 40)))


@dataclass(frozen=True, eq=False, repr=False)
class Completed(Pasteable):
    r"""A class with an empirical risk minimiser whose risk is of the order √(d/N) and jumps.

    d equally likely inputs, all with the label 1, and every labelling as a hypothesis, one parameter to an
    input. The minimiser labels what it has seen, and completes the rest with 1 after an even number of
    examples and wrongly after an odd one.  Its training loss is 0 and its risk the share of inputs not seen,
    or 0: $E(N) = (1-1/d)^N$ for odd N, and always $E(N) \le \frac12\sqrt{d/N}$, as $\sqrt t\,e^{-t} <
    \frac12$.

    Attributes:
        d: inputs, and parameters.
        samples: N.
    """

    d: int
    samples: int
    kind = "completed labellings"
    constant = Fraction(1, 2)

    def error(self, samples: int) -> Fraction:
        """E(N), the expected risk, which is the generalisation error as well."""
        return Fraction(self.d - 1, self.d) ** samples if samples % 2 else Fraction(0)

    @property
    def errors(self) -> list[Fraction]:
        """E at N and at N + 1."""
        return [self.error(self.samples), self.error(self.samples + 1)]


@st.composite
def completions(draw: st.DrawFn) -> Completed:
    """A few inputs, up to twice as many samples."""
    d = draw(st.integers(1, 9))
    return Completed(d, draw(st.integers(1, 2 * d)))
