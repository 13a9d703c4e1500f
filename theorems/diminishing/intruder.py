"""Intruder dimensions: high-ranking singular vectors of tuned weights that resemble no pretrained one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from ...models import tree
from .. import linalg
from ..ranks.result import CLEAR
from .spectrum import named

if TYPE_CHECKING:
    from collections.abc import Sequence

Side = Literal["output", "input"]


@dataclass(frozen=True, eq=False, repr=False)
class Intruders:
    r"""The intruder dimensions of one layer.

    Attributes:
        name: of the layer.
        similarities: for each of the singular vectors looked at, largest singular value first, the largest
            |cosine| with a pretrained singular vector, or with a space of them where none is determined.
        values: their singular values, in the tuned weights.
        tau: the threshold.
        side: of the layer that the vectors live on.
        grouped: how many of them belong to a singular value that is not simple (to rounding).
    """

    name: str
    similarities: Float[np.ndarray, " k"]
    values: Float[np.ndarray, " k"]
    tau: float
    side: Side
    grouped: int

    @property
    def indices(self) -> tuple[int, ...]:
        """Which of the singular vectors are intruders, counted from 0."""
        return tuple(int(i) for i in np.flatnonzero(self.similarities < self.tau))

    @property
    def count(self) -> int:
        """The number of intruder dimensions."""
        return len(self.indices)

    def __repr__(self) -> str:
        """Show the count and the least similarity."""
        name = f"{self.name}: " if self.name else ""
        least = f", least similarity {self.similarities.min():.3g}" if len(self.similarities) else ""
        return f"Intruders({name}{self.count} of the top {len(self.similarities)} below {self.tau:g}{least})"


class _Group(NamedTuple):
    value: float
    vectors: np.ndarray


def intruders(
    base: Any,
    tuned: Any,
    *,
    top: int = 10,
    tau: float = 0.5,
    side: Side = "output",
    pattern: str | Sequence[str] = "*",
) -> dict[str, Intruders]:
    r"""Count the high-ranking singular vectors of tuned weights that resemble no pretrained one.

    The j-th singular vector $y_j$ of the tuned weights, j ≤ top, is an intruder if
    $\max_i |\langle y_j, x_i\rangle| < \tau$ for the singular vectors $x_i$ of the pretrained weights.

    A singular value that is not simple has a space of singular vectors and no particular one; the cosine
    with "its vectors" would depend on the library's choice.  So singular values that rounding cannot tell
    apart (10⁴ max(m, n) ε σ₁) form a group X.  The cosine of a vector with a group is that with the space,
    $\|X^T y\|$.  A tuned group of q vectors gets the q largest of all principal cosines (the singular values
    of $X^T Y$) with the pretrained groups: these do not depend on the choice, and for q = 1 this is the
    definition.  A group that begins within the top is looked at as a whole.  Singular values of zero have
    no vectors here: what the pretrained weights do not use is new.

    Args:
        base: the pretrained weights, a kernel (in, out) or a pytree of them, float64.
        tuned: the tuned weights, of the same structure.
        top: how many singular vectors to look at, by decreasing singular value; all where there are fewer.
        tau: the threshold τ in (0, 1].
        side: of the kernel; output has the left singular vectors of W (out, in), as in the literature.
        pattern: shell pattern on the paths (or several) that selects layers; matrices only.

    Returns:
        `Intruders` by path; of a single matrix under the name "update".

    Raises:
        ValueError: structures that differ, no matrix, not float64 or not finite, or settings out of range.

    Source: Shuttleworth, Andreas, Torralba and Sharma 2024 (arXiv 2410.21228), algorithm 1.  The treatment
    of groups is ours.
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau: got {tau}, needs a number in (0, 1]")
    if top < 1:
        raise ValueError(f"top: got {top}, needs an integer >= 1")
    if side not in ("output", "input"):
        raise ValueError(f"side: got {side!r}, needs 'output' or 'input'")
    before, after = _matrices(base, "base"), _matrices(tuned, "tuned")
    if {n: m.shape for n, m in before.items()} != {n: m.shape for n, m in after.items()}:
        raise ValueError(
            f"tuned: got matrices {', '.join(after)}, needs those of base, with the same shapes: "
            f"{', '.join(before)}"
        )
    names = tree.match_names(before, pattern, "matrix")
    return {name: _of_layer(name, before[name], after[name], top, tau, side) for name in names}


def _matrices(params: Any, argument: str) -> dict[str, np.ndarray]:
    found = {name: np.asarray(leaf) for name, leaf in named(params).items() if np.ndim(leaf) == 2}
    if not found:
        raise ValueError(f"{argument}: got no matrix, needs a kernel (in, out) or a pytree with kernels")
    for name, leaf in found.items():
        linalg.require_judging_precision(f"{argument} {name}", leaf)
    return found


def _of_layer(
    name: str, before: np.ndarray, after: np.ndarray, top: int, tau: float, side: Side
) -> Intruders:
    known, found = _groups(before, side), _groups(after, side)
    similarities, values, grouped = [], [], 0
    for group in found:
        if len(values) >= top:
            break
        q = group.vectors.shape[1]
        cosines = [np.linalg.svd(one.vectors.T @ group.vectors, compute_uv=False) for one in known]
        pooled = np.sort(np.concatenate([*cosines, np.zeros(q)]))[::-1]
        similarities += list(np.minimum(pooled[:q], 1.0))
        values += [group.value] * q
        grouped += q if q > 1 else 0
    return Intruders(name, np.array(similarities), np.array(values), tau, side, grouped)


def _groups(kernel: np.ndarray, side: Side) -> list[_Group]:
    """Singular vectors on one side, in groups by their values; none of zero."""
    u, s, vt = np.linalg.svd(kernel, full_matrices=False)
    vectors = vt.T if side == "output" else u
    floor = CLEAR * max(kernel.shape) * linalg.EPS * (s[0] if len(s) else 0.0)
    groups, start = [], 0
    positive = int((s > floor).sum())
    for i in range(1, positive + 1):
        if i == positive or s[i - 1] - s[i] > floor:
            groups.append(_Group(float(s[start:i].mean()), vectors[:, start:i]))
            start = i
    return groups
