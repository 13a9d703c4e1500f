"""One ReLU layer tuned two ways, exactly: at its activations, as methods are applied, and at its weights."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from .. import linalg
from ..pasteable import Pasteable


@dataclass(frozen=True, repr=False)
class Routes(Pasteable):
    """The layer relu(W x + b), with a method and its Φ.

    Attributes:
        method: lora, ia3, bitfit or mask.
        W: shape (m, n), exact.
        b: shape (m,), exact.
        x: shape (n,), exact.
        phi: arrays of the method: B and A; the scales l; the added bias; the added entries.
    """

    method: str
    W: np.ndarray
    b: np.ndarray
    x: np.ndarray
    phi: tuple[np.ndarray, ...]
    kind: str = "ReLU layer"

    @property
    def ordinary(self) -> np.ndarray:
        """f(x; θ₀; Φ): side branches, scaled activations, added terms, one number at a time."""
        pre = [
            sum(w * x for w, x in zip(row, self.x, strict=True)) + b
            for row, b in zip(self.W, self.b, strict=True)
        ]
        if self.method == "lora":
            B, A = self.phi
            inner = [sum(a * x for a, x in zip(row, self.x, strict=True)) for row in A]
            pre = [
                z + sum(p * q for p, q in zip(row, inner, strict=True)) for z, row in zip(pre, B, strict=True)
            ]
        elif self.method == "ia3":
            pre = [scale * z for scale, z in zip(self.phi[0], pre, strict=True)]
        elif self.method == "bitfit":
            pre = [z + shift for shift, z in zip(self.phi[0], pre, strict=True)]
        else:
            pre = [
                z + sum(v * x for v, x in zip(row, self.x, strict=True))
                for z, row in zip(pre, self.phi[0], strict=True)
            ]
        return np.array([max(z, Fraction(0)) for z in pre], dtype=object)

    @property
    def merged(self) -> np.ndarray:
        """f(x; θ₀ + g(Φ)): the layer at updated weights."""
        W, b = self.W, self.b
        if self.method == "lora":
            W = W + self.phi[0] @ self.phi[1]
        elif self.method == "ia3":
            W, b = W + (self.phi[0] - 1)[:, None] * W, b + (self.phi[0] - 1) * b
        elif self.method == "bitfit":
            b = b + self.phi[0]
        else:
            W = W + self.phi[0]
        return np.maximum(W @ self.x + b, Fraction(0))


METHODS = ("lora", "ia3", "bitfit", "mask")


def example(method: str) -> Routes:
    """A layer with two inputs and outputs."""
    phi = {
        "lora": (linalg.exact([[1], [-1]]), linalg.exact([[2, 1]])),
        "ia3": (linalg.exact(["1/2", 3]),),
        "bitfit": (linalg.exact([1, -1]),),
        "mask": (linalg.exact([[0, 1], [0, 0]]),),
    }[method]
    return Routes(method, linalg.exact([[1, 2], [3, -1]]), linalg.exact([0, 1]), linalg.exact([1, 1]), phi)


@st.composite
def routes(draw: st.DrawFn) -> Routes:
    """Layers with up to three inputs and outputs, of all four methods."""
    m, n, method = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from(METHODS))

    def array(*shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        values = draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size))
        return linalg.exact(np.reshape(values, shape).tolist())

    r = draw(st.integers(1, min(m, n)))
    phi = {"lora": ((m, r), (r, n)), "ia3": ((m,),), "bitfit": ((m,),), "mask": ((m, n),)}[method]
    return Routes(method, array(m, n), array(m), array(n), tuple(array(*shape) for shape in phi))
