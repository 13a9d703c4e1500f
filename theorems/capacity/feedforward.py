r"""The instance that most claims of Theorem 2 are judged on: a chain of layers, before and after tuning.

Equation 27 of the paper, with the biases that real networks have:

    x^k   = σ_k((W_k + Φ_k) x^{k-1} + b_k + β_k)     tuned,
    x_0^k = σ_k( W_k        x_0^{k-1} + b_k      )     base,         x^0 = x_0^0 = x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from jaxtyping import Float

from ...models.activations import ACTIVATIONS
from .. import linalg
from ..claims import MissingIngredient
from ..pasteable import numbers
from .scalars import SCALARS


@dataclass(frozen=True, eq=False)
class FeedForward:
    """A base chain of layers, its updates and the inputs it is looked at on.

    Args:
        weights: W_k, shape (n_k, n_{k-1}).
        updates: Φ_k, shapes of the weights.
        x: inputs, shape (p, n_0).
        activations: a name per layer, or one for all of them, **the last included** (as in equation 27; the
            last layer of `peftproof.models.mlp` has the identity): see `peftproof.models.ACTIVATIONS`.
        biases: b_k, shape (n_k,); None is no biases at all, as in the paper.
        bias_updates: β_k; None is none.
        kind: where the instance comes from, for the record of a search.
        measured: ‖f(x) − f₀(x)‖ as the network itself gave it, shape (p,); None has the chain compute it.
        note: a sentence for the evidence.

    Raises:
        ValueError: shapes that do not chain, unknown activations, float32 input, NaN or infinity.
    """

    weights: Sequence[np.ndarray]
    updates: Sequence[np.ndarray]
    x: np.ndarray
    activations: Sequence[str] | str = "relu"
    biases: Sequence[np.ndarray] | None = None
    bias_updates: Sequence[np.ndarray] | None = None
    kind: str = "given"
    measured: np.ndarray | None = field(default=None, repr=False)
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("weights", "updates", "biases", "bias_updates"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(np.asarray(a) for a in getattr(self, name)))
        depth = len(self.weights)
        names = (self.activations,) * depth if isinstance(self.activations, str) else tuple(self.activations)
        object.__setattr__(self, "activations", names)
        object.__setattr__(self, "x", np.atleast_2d(self.x))
        if depth == 0 or len(self.updates) != depth or len(names) != depth:
            raise ValueError(
                f"got {depth} weights, {len(self.updates)} updates, {len(names)} activations: "
                "give one of each per layer"
            )
        unknown = set(names) - set(SCALARS)
        if unknown:
            raise ValueError(f"unknown activations {sorted(unknown)}: use one of {', '.join(SCALARS)}")
        width = self.x.shape[-1]
        for k, (weight, update) in enumerate(zip(self.weights, self.updates, strict=True), 1):
            if weight.ndim != 2 or weight.shape != update.shape or weight.shape[1] != width:
                raise ValueError(
                    f"layer {k}: weight {weight.shape} and update {update.shape} must be equal, "
                    f"of the form (out, {width})"
                )
            width = weight.shape[0]
        for name in ("biases", "bias_updates"):
            self._check_biases(name, getattr(self, name))
        arrays = [*self.weights, *self.updates, *(self.biases or ()), *(self.bias_updates or ()), self.x]
        linalg.require_judging_precision("FeedForward", *arrays)

    def _check_biases(self, name: str, values: Sequence[np.ndarray] | None) -> None:
        shapes = [(len(w),) for w in self.weights]
        if values is not None and [np.shape(v) for v in values] != shapes:
            raise ValueError(
                f"{name} have shapes {[np.shape(v) for v in values]}, but the layers need {shapes}"
            )

    @property
    def depth(self) -> int:
        """The number of layers N."""
        return len(self.weights)

    @property
    def is_exact(self) -> bool:
        """Whether the numbers are exact."""
        return linalg.is_exact(self.weights[0])

    def vector(self, values: Sequence[np.ndarray] | None, k: int) -> np.ndarray:
        """The vector of layer k, zeros where the chain has none."""
        if values is not None:
            return values[k]
        width = len(self.weights[k])
        return linalg.exact([0] * width) if self.is_exact else np.zeros(width)

    def _run(self, tuned: bool) -> list[np.ndarray]:
        xs = [self.x]
        for k, weight in enumerate(self.weights):
            matrix, bias = weight, self.vector(self.biases, k)
            if tuned:
                matrix, bias = matrix + self.updates[k], bias + self.vector(self.bias_updates, k)
            xs.append(SCALARS[self.activations[k]](xs[-1] @ matrix.T + bias))
        return xs

    @cached_property
    def base(self) -> list[np.ndarray]:
        """Activations x_0^0, ..., x_0^N of the base network, shapes (p, n_k)."""
        return self._run(tuned=False)

    @cached_property
    def tuned(self) -> list[np.ndarray]:
        """Activations x^0, ..., x^N of the tuned network, shapes (p, n_k)."""
        return self._run(tuned=True)

    @cached_property
    def deviation(self) -> np.ndarray:
        """‖f(x) − f₀(x)‖ per input, shape (p,): the left side of every bound of Theorem 2."""
        return linalg.norm(self.tuned[-1] - self.base[-1]) if self.measured is None else self.measured

    @cached_property
    def scale(self) -> np.ndarray | None:
        """The magnitude that rounding errors of the deviation are relative to, shape (p,); None if exact.

        It is not the deviation, which cancels: it is the envelope of the norms that a forward pass goes
        through, with absolute values everywhere, so that it also bounds what cancels inside a layer.
        """
        if self.is_exact:
            return None
        size = linalg.norm(self.x)
        for k, weight in enumerate(self.weights):
            bias = np.linalg.norm(self.vector(self.biases, k)) + np.linalg.norm(
                self.vector(self.bias_updates, k)
            )
            entries = np.linalg.norm(weight) + np.linalg.norm(self.updates[k])
            size = self.lipschitz[k] * (entries * size + bias) + self.offsets[k]
        return size

    @property
    def operations(self) -> int:
        """Rounded operations on the longest path of a forward pass."""
        return sum(weight.shape[1] + 16 for weight in self.weights) + len(self.weights[-1])

    @cached_property
    def lipschitz(self) -> list:
        """Lipschitz constants L_k of the activations, rounded up (exactly 1 for relu and identity)."""
        constants = [ACTIVATIONS[name].lipschitz for name in self.activations]
        return [Fraction(c) for c in constants] if self.is_exact else [linalg.Upper(c) for c in constants]

    @cached_property
    def offsets(self) -> list:
        """Norms ‖σ_k(0)·1‖ = |σ_k(0)| √n_k: what the activations add where their input is zero."""
        at_zero = [abs(ACTIVATIONS[name].at_zero) for name in self.activations]
        widths = [len(w) for w in self.weights]
        if self.is_exact:
            return [Fraction(a) * linalg.square_root(n) for a, n in zip(at_zero, widths, strict=True)]
        return [a * np.sqrt(n) * (1 + linalg.gamma(8)) for a, n in zip(at_zero, widths, strict=True)]

    @cached_property
    def weight_norms(self) -> list:
        """‖W_k‖₂, upper estimates."""
        return [linalg.spectral_norm(w) for w in self.weights]

    @cached_property
    def update_norms(self) -> list:
        """‖Φ_k‖₂, upper estimates."""
        return [linalg.spectral_norm(u) for u in self.updates]

    @cached_property
    def tuned_norms(self) -> list:
        """‖W_k + Φ_k‖₂, upper estimates."""
        return [linalg.spectral_norm(w + u) for w, u in zip(self.weights, self.updates, strict=True)]

    @cached_property
    def prefixes(self) -> list[FeedForward]:
        """The chains made of the first 1, 2, ..., N layers."""

        def first(values: Sequence | None, k: int) -> Sequence | None:
            return None if values is None else values[:k]

        names = ("weights", "updates", "activations", "biases", "bias_updates")
        cuts = [{name: first(getattr(self, name), k) for name in names} for k in range(1, self.depth + 1)]
        return [replace(self, measured=None, **cut) for cut in cuts]

    @property
    def bias_free(self) -> bool:
        """Whether the network has the form of equation 27: no biases, before or after."""
        vectors = [*(self.biases or ()), *(self.bias_updates or ())]
        return not any(np.any(v != 0) for v in vectors)

    @property
    def keeps_zero(self) -> bool:
        """Whether σ_k(0) = 0 in every layer."""
        return all(ACTIVATIONS[name].at_zero == 0 for name in self.activations)

    def tuned_layers(self) -> list[int]:
        """Layers (from 1) whose weight or bias changes."""
        changed = []
        for k, update in enumerate(self.updates):
            if np.any(update != 0) or np.any(self.vector(self.bias_updates, k) != 0):
                changed.append(k + 1)
        return changed

    def with_updates(self, updates: Sequence[np.ndarray], **changes: object) -> FeedForward:
        """Return the same base chain with other updates, its deviation to be measured anew."""
        return replace(self, updates=tuple(updates), measured=None, **changes)

    def first(self, p: int = 1) -> FeedForward:
        """Return the chain on its first p inputs alone.

        Raises:
            MissingIngredient: if there is no input.
        """
        if len(self.x) == 0:
            raise MissingIngredient("the instance has no input")
        return replace(self, x=self.x[:p], measured=None if self.measured is None else self.measured[:p])

    def __repr__(self) -> str:
        """Show numbers only while they are few; shapes otherwise."""
        if sum(w.size for w in self.weights) > 16 or self.x.size > 8:
            shapes = ", ".join(f"f64[{m},{n}]" for m, n in (w.shape for w in self.weights))
            return f"FeedForward({shapes}; {'/'.join(dict.fromkeys(self.activations))}; {len(self.x)} inputs)"
        return self.snippet()

    def snippet(self) -> str:
        """Python text that rebuilds the instance when pasted."""

        def show(arrays: Sequence[np.ndarray]) -> str:
            nested = [np.asarray(a) for a in arrays]
            maker = "exact" if self.is_exact else "np.array"
            return "[" + ", ".join(f"{maker}({numbers(a)})" for a in nested) + "]"

        parts = [
            f"weights={show(self.weights)}",
            f"updates={show(self.updates)}",
            f"x={show([self.x])[1:-1]}",
        ]
        parts.append(f"activations={list(self.activations)!r}")
        given = [name for name in ("biases", "bias_updates") if getattr(self, name) is not None]
        parts += [f"{name}={show(getattr(self, name))}" for name in given]
        return f"FeedForward({', '.join(parts)})"


def chain(weights: Sequence[object], updates: Sequence[object], x: object, **options: object) -> FeedForward:
    """Build an exact instance from integers, fractions and nested lists; a scalar is a 1x1 layer."""

    def matrix(value: object) -> Float[np.ndarray, "m n"]:
        return linalg.exact(value if isinstance(value, list) else [[value]])

    vectors = {k: [linalg.exact(v if isinstance(v, list) else [v]) for v in options.pop(k)]
               for k in ("biases", "bias_updates") if k in options}  # fmt: skip
    inputs = linalg.exact(x if isinstance(x, list) else [x])
    return FeedForward(
        [matrix(w) for w in weights], [matrix(u) for u in updates], inputs, **vectors, **options
    )
