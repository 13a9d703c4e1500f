r"""A quadratic loss that a disturbance of its gradient tilts, and a subspace in which PEFT answers.

$q(D) = u^T D + \frac12 D^T H D$ with $u = g + \varepsilon$ is the change of the disturbed loss under a step D
in the paper's model (41).  Full fine-tuning steps anywhere, PEFT within the range of P.  Numbers are
fractions or float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import sympy
from hypothesis import strategies as st

from ... import linalg, rational
from ...pasteable import Pasteable


class Fact(NamedTuple):
    """Whether a hypothesis is met on an instance, and what it was seen by; what an `Assumption` returns."""

    met: bool
    shown: Any

    def __bool__(self) -> bool:
        """Whether it is met."""
        return bool(self.met)


@dataclass(frozen=True, eq=False, repr=False)
class Tilted(Pasteable):
    r"""The quadratic $q(D) = (g + \varepsilon)^T D + \frac12 D^T H D$ and the directions P that PEFT has.

    Attributes:
        hessian: H, symmetric, shape (d, d), float64 or exact.
        directions: P, shape (d, k); of any rank.
        gradient: g, the gradient of the undisturbed loss, shape (d,).
        disturbance: ε, shape (d,).
        kind: what a search counts.

    Comparisons ask for scalars, which other instances can have without a matrix.  `least_full` and
    `least_peft` are *measured* minima of q; the rest are forms with $H^{-1}$ or $H_\Phi^+$, named by vectors:
    `tilt_full` is $u^T H^{-1} u$, `mixed_full` is $\varepsilon_\parallel^T H^{-1} \varepsilon_\perp$,
    `parallel_restricted` is $\varepsilon_\parallel^T P H_\Phi^+ P^T \varepsilon_\parallel$.
    """

    hessian: np.ndarray
    directions: np.ndarray
    gradient: np.ndarray
    disturbance: np.ndarray
    kind: str = "tilted quadratic"

    @property
    def d(self) -> int:
        """The number of parameters."""
        return len(self.hessian)

    @property
    def k(self) -> int:
        """The number of parameters of PEFT."""
        return self.directions.shape[1]

    @property
    def is_exact(self) -> bool:
        """Whether it is given in fractions."""
        return linalg.is_exact(self.hessian)

    @property
    def tilt(self) -> np.ndarray:
        """The gradient of the disturbed loss, u = g + ε."""
        return self.gradient + self.disturbance

    @cached_property
    def restricted(self) -> np.ndarray:
        """H_Φ = PᵀHP."""
        return self.directions.T @ self.hessian @ self.directions

    @cached_property
    def projector(self) -> np.ndarray:
        """Π = PP⁺, the orthogonal projector onto the range of P."""
        return rational.projector(self.directions) if self.is_exact else self._basis @ self._basis.T

    @cached_property
    def parallel(self) -> np.ndarray:
        """ε_∥ = Πε."""
        return self.projector @ self.disturbance

    @property
    def orthogonal(self) -> np.ndarray:
        """ε_⊥ = ε − ε_∥."""
        return self.disturbance - self.parallel

    @cached_property
    def inverse(self) -> np.ndarray:
        """H⁻¹; H⁺ where H is singular."""
        return pseudo_inverse(self.hessian)

    @cached_property
    def restricted_inverse(self) -> np.ndarray:
        """H_Φ⁺."""
        return pseudo_inverse(self.restricted)

    def value(self, step: np.ndarray) -> Any:
        """The change q(D) under a step D."""
        return self.tilt @ step + step @ self.hessian @ step / 2

    @cached_property
    def _basis(self) -> np.ndarray:
        """An orthonormal basis of the range of P, float64."""
        u, s, _ = np.linalg.svd(self.directions, full_matrices=False)
        return u[:, s > _cut(s, self.d)]

    # What is measured

    @cached_property
    def lowest_full(self) -> np.ndarray | None:
        """Where q is least, found by `lowest`; None where it has no minimum."""
        return lowest(self.hessian, self.tilt)

    @cached_property
    def lowest_peft(self) -> np.ndarray | None:
        """Where q is least on the range of P, as a point there."""
        B = self.directions if self.is_exact else self._basis
        found = lowest(B.T @ self.hessian @ B, B.T @ self.tilt)
        return None if found is None else B @ found

    @property
    def least_full(self) -> Any:
        """The least value of q, measured; −∞ where it has none."""
        return self._least(self.lowest_full)

    @property
    def least_peft(self) -> Any:
        """The least value of q on the range of P, measured."""
        return self._least(self.lowest_peft)

    def _least(self, point: np.ndarray | None) -> Any:
        if point is None:
            return -sympy.oo if self.is_exact else -np.inf
        return self.value(point)

    # What the formulas say

    @property
    def step_full(self) -> np.ndarray:
        """−H⁻¹u, by the formula (44)."""
        return -self.inverse @ self.tilt

    @property
    def step_peft(self) -> np.ndarray:
        """−P H_Φ⁺ Pᵀ u, by the formula (51)."""
        P = self.directions
        return -P @ (self.restricted_inverse @ (P.T @ self.tilt))

    def full(self, x: np.ndarray, y: np.ndarray | None = None) -> Any:
        """The form xᵀ H⁻¹ y."""
        return x @ self.inverse @ (x if y is None else y)

    @property
    def tilt_full(self) -> Any:
        """uᵀ H⁻¹ u."""
        return self.full(self.tilt)

    @property
    def disturbance_full(self) -> Any:
        """εᵀ H⁻¹ ε."""
        return self.full(self.disturbance)

    @property
    def parallel_full(self) -> Any:
        """ε_∥ᵀ H⁻¹ ε_∥."""
        return self.full(self.parallel)

    @property
    def orthogonal_full(self) -> Any:
        """ε_⊥ᵀ H⁻¹ ε_⊥."""
        return self.full(self.orthogonal)

    @property
    def mixed_full(self) -> Any:
        """ε_∥ᵀ H⁻¹ ε_⊥."""
        return self.full(self.parallel, self.orthogonal)

    @property
    def parallel_restricted(self) -> Any:
        """ε_∥ᵀ P H_Φ⁺ Pᵀ ε_∥."""
        x = self.directions.T @ self.parallel
        return x @ self.restricted_inverse @ x

    @property
    def orthogonal_slope(self) -> Any:
        """ε_⊥ᵀ g."""
        return self.orthogonal @ self.gradient

    # Hypotheses

    @cached_property
    def _signs(self) -> rational.Inertia:
        return signs(self.hessian)

    @property
    def definiteness(self) -> Fact:
        """Whether H ≻ 0."""
        return Fact(self._signs.definite, self._shown)

    @property
    def semidefiniteness(self) -> Fact:
        """Whether H ⪰ 0."""
        return Fact(self._signs.semidefinite, self._shown)

    @property
    def invertibility(self) -> Fact:
        """Whether H has an inverse."""
        return Fact(self._signs.zero == 0, self._shown)

    @property
    def _shown(self) -> str:
        if not self.is_exact:
            return f"smallest eigenvalue {np.linalg.eigvalsh(self.hessian)[0]:.3g}"
        return "eigenvalues: " + ", ".join(f"{n} {name}" for name, n in self._signs._asdict().items())

    @property
    def range_condition(self) -> Fact:
        """Whether u ∈ range H."""
        return _in_range(self.hessian, self.tilt)

    @property
    def restricted_range(self) -> Fact:
        """Whether Pᵀu ∈ range PᵀHP."""
        return _in_range(self.restricted, self.directions.T @ self.tilt)

    @property
    def stationarity(self) -> Fact:
        """Whether g = 0: the undisturbed loss is at a stationary point."""
        return Fact(not np.any(self.gradient), f"|g| = {_length(self.gradient):.3g}")

    @property
    def orthonormality(self) -> Fact:
        """Whether PᵀP = I."""
        off = self.directions.T @ self.directions - np.eye(self.k, dtype=int)
        worst = float(np.max(np.abs(off)))
        return Fact(worst <= (0 if self.is_exact else linalg.gamma(16 * self.d)), f"|PᵀP − I| = {worst:.3g}")

    @property
    def independence(self) -> Fact:
        """Whether P has full column rank."""
        rank = rational.rank(self.directions) if self.is_exact else self._basis.shape[1]
        return Fact(rank == self.k, f"rank {rank} of {self.k}")

    # What rounding is relative to

    @cached_property
    def operations(self) -> int:
        r"""Rounded operations, times the condition numbers that carry them: $\kappa(H)\,\kappa(P)^2$.

        An error E of H changes $u^T H^{-1} u$ by $\|E\|\,\|H^{-1}u\|^2$ at most, to first order, which is
        $(\|E\|/\lambda_{\min})\,u^T H^{-1} u$ at most: forms are off relative to themselves.
        """
        if self.is_exact:
            return 8
        values, s = (np.linalg.svd(a, compute_uv=False) for a in (self.hessian, self.directions))
        kept = [v[v > _cut(v, self.d)] for v in (values, s)]
        conditions = [float(v[0] / v[-1]) if len(v) else 1.0 for v in kept]
        return int(64 * self.d * conditions[0] * conditions[1] ** 2) + 1

    def with_disturbance(self, disturbance: np.ndarray, *, stationary: bool = False) -> Tilted:
        """The same loss and directions under another disturbance, and with g = 0 if stationary."""
        gradient = 0 * self.gradient if stationary else self.gradient
        return replace(self, disturbance=disturbance, gradient=gradient)


def lowest(H: np.ndarray, u: np.ndarray) -> np.ndarray | None:
    r"""The point where $u^T x + \frac12 x^T H x$ is least, or None; no linear system is solved for it.

    Exact: complete the square in one variable, leave the rest to the others, and go back.  Floating point:
    one coordinate at a time in the eigenbasis.

    Args:
        H: symmetric, shape (n, n).
        u: shape (n,).
    """
    if not linalg.is_exact(H):
        return _lowest_float(H, u)
    if not len(u):
        return u
    i = int(np.argmax(H.diagonal() != 0))
    pivot, rest = H[i, i], np.delete(np.arange(len(u)), i)
    if pivot < 0 or (pivot == 0 and (H.any() or u.any())):
        return None
    out = 0 * u
    if pivot == 0:
        return out
    inner = lowest(
        H[np.ix_(rest, rest)] - np.outer(H[rest, i], H[i, rest]) / pivot, u[rest] - H[rest, i] * u[i] / pivot
    )
    if inner is None:
        return None
    out[rest] = inner
    out[i] = -(u[i] + H[i, rest] @ inner) / pivot
    return out


def _lowest_float(H: np.ndarray, u: np.ndarray) -> np.ndarray | None:
    values, vectors = np.linalg.eigh((H + H.T) / 2)
    slopes, cut = vectors.T @ u, _cut(values, len(u))
    flat = abs(values) <= cut
    if np.any(values < -cut) or np.any(abs(slopes[flat]) > linalg.gamma(64 * len(u)) * np.linalg.norm(u)):
        return None
    return vectors[:, ~flat] @ (-slopes[~flat] / values[~flat])


def signs(H: np.ndarray) -> rational.Inertia:
    """Signs of the eigenvalues; in floating point those within rounding of 0 count as zero."""
    if linalg.is_exact(H):
        return rational.inertia(H)
    values = np.linalg.eigvalsh(H)
    cut = _cut(values, len(H))
    positive, negative = int(np.sum(values > cut)), int(np.sum(values < -cut))
    return rational.Inertia(positive, len(H) - positive - negative, negative)


def pseudo_inverse(A: np.ndarray) -> np.ndarray:
    """A⁺ of a symmetric matrix; in floating point eigenvalues within rounding of 0 are cut."""
    if linalg.is_exact(A):
        return rational.pseudo_inverse(A) if rational.rank(A) < len(A) else rational.inverse(A)
    return np.linalg.pinv(A, rcond=linalg.gamma(64 * max(A.shape)), hermitian=True)


def _in_range(A: np.ndarray, u: np.ndarray) -> Fact:
    if linalg.is_exact(A):
        inside = rational.in_range(A, u)
        return Fact(inside, "exactly" if inside else "a part lies outside")
    values, vectors = np.linalg.eigh(A)
    outside = np.linalg.norm(vectors[:, abs(values) <= _cut(values, len(u))].T @ u)
    return Fact(outside <= linalg.gamma(64 * len(u)) * np.linalg.norm(u), f"outside: {outside:.3g}")


def _cut(values: np.ndarray, d: int) -> float:
    """What rounding can make of a singular value that is 0."""
    return linalg.gamma(64 * d) * float(np.max(np.abs(values), initial=0.0))


def _length(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))


Draw = st.DrawFn
KINDS = (
    "commuting",
    "parallel disturbance",
    "orthogonal disturbance",
    "as many directions as parameters",
    "long directions",
    "deficient directions",
    "singular",
    "out of range",
)
"""What `structured` draws. The last one leaves u outside the range of a singular H."""


def _vector(draw: Draw, n: int, size: int = 2) -> np.ndarray:
    return linalg.exact([draw(st.integers(-size, size)) for _ in range(n)])


def _matrix(draw: Draw, rows: int, columns: int, size: int = 1) -> np.ndarray:
    return np.array([_vector(draw, columns, size) for _ in range(rows)], dtype=object).reshape(rows, columns)


def _hessian(draw: Draw, d: int, *, definite: bool = True) -> np.ndarray:
    """M Mᵀ + c I with small integers; c = 0 is allowed unless it must be definite."""
    M = _matrix(draw, d, d)
    return M @ M.T + draw(st.integers(int(definite), 2)) * rational.identity(d)


def orthonormal(draw: Draw, d: int, k: int) -> np.ndarray:
    """The first k columns of a rational reflection, or of the unit matrix."""
    v = _vector(draw, d)
    return (rational.reflection(v) if v.any() else rational.identity(d))[:, :k]


@st.composite
def small(
    draw: Draw,
    *,
    definite: bool = True,
    orthonormal_only: bool = False,
    stationary: bool = False,
    least: int = 1,
) -> Tilted:
    """Exact ones with up to three parameters and tiny integers, which shrink to the smallest counterexample.

    Args:
        draw: given by Hypothesis.
        definite: H ≻ 0; otherwise H ⪰ 0, and u is put into the range of H.
        orthonormal_only: PᵀP = I; otherwise P is any matrix that is not 0, often of deficient rank.
        stationary: g = 0.
        least: the least number of parameters; from 2 on there is room outside the range of P.
    """
    d = draw(st.integers(least, 3))
    k = draw(st.integers(1, max(1, d - (least > 1))))
    H = _hessian(draw, d, definite=definite)
    P = orthonormal(draw, d, k) if orthonormal_only else _matrix(draw, d, k)
    if not P.any():
        P[0, 0] = linalg.exact(1)[()]
    g = _vector(draw, d, 0 if stationary else 2)
    made = Tilted(H, P, g, _vector(draw, d), "small exact")
    return made if definite else _into_range(made)


def _into_range(made: Tilted) -> Tilted:
    """Replace g and ε by their parts in the range of H."""
    project = rational.projector(made.hessian)
    return replace(made, gradient=project @ made.gradient, disturbance=project @ made.disturbance)


@st.composite
def structured(draw: Draw, *, kinds: tuple[str, ...] = KINDS[:-1], stationary: bool = False) -> Tilted:
    """Exact ones of a kind that random draws miss; pass fewer kinds to leave some out."""
    kind, d = draw(st.sampled_from(kinds)), draw(st.integers(2, 3))
    k = d if kind == "as many directions as parameters" else draw(st.integers(1, d - 1))
    H, P = _hessian(draw, d), orthonormal(draw, d, k)
    g, e = _vector(draw, d, 0 if stationary else 2), _vector(draw, d)
    made = Tilted(H, P, g, e, kind)
    if kind in _SHAPED:
        return _SHAPED[kind](made)
    Q, values = orthonormal(draw, d, d), _vector(draw, d, 1) ** 2 + 1
    if kind == "commuting":
        return replace(made, hessian=(Q * values) @ Q.T, directions=Q[:, :k])
    if kind in ("singular", "out of range"):
        flat = replace(made, hessian=(Q[:, 1:] * values[1:]) @ Q[:, 1:].T)
        return (
            _into_range(flat)
            if kind == "singular"
            else replace(flat, disturbance=e - (e @ Q[:, 0] - 1) * Q[:, 0])
        )
    return made


_SHAPED = {
    "parallel disturbance": lambda made: replace(made, disturbance=made.parallel),
    "orthogonal disturbance": lambda made: replace(made, disturbance=made.orthogonal),
    "long directions": lambda made: replace(made, directions=3 * made.directions),
    "deficient directions": lambda made: replace(
        made, directions=np.column_stack([made.directions, made.directions.sum(axis=1)])
    ),
}


@st.composite
def spread(
    draw: Draw,
    *,
    orthonormal_only: bool = False,
    stationary: bool = False,
    decades: int = 6,
    largest: int = 6,
) -> Tilted:
    """Float64 ones: eigenvalues of H spread over up to `decades`, singular values of P over two."""
    d = draw(st.integers(2, largest))
    k = draw(st.integers(1, d))
    logs = draw(st.lists(st.integers(-decades, 0), min_size=d, max_size=d))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    Q, B = (np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2))
    H = (Q * 10.0 ** np.array(logs)) @ Q.T
    P = B[:, :k]
    if not orthonormal_only and draw(st.booleans()):
        P = (P * np.logspace(0, -draw(st.integers(0, 2)), k)) @ np.linalg.qr(rng.normal(size=(k, k)))[0]
    g = np.zeros(d) if stationary else rng.normal(size=d)
    return Tilted((H + H.T) / 2, P, g, rng.normal(size=d), "wide spectrum")


def tilts(
    *, definite: bool = True, orthonormal_only: bool = False, stationary: bool = False
) -> tuple[st.SearchStrategy[Tilted], ...]:
    """Small exact ones, structured ones and float64 ones, to be searched in this order.

    Args:
        definite: leave out singular H; otherwise u is in the range of H all the same.
        orthonormal_only: PᵀP = I.
        stationary: g = 0.
    """
    dropped = set() if definite is False else {"singular"}
    dropped |= {"long directions", "deficient directions"} if orthonormal_only else set()
    kinds = tuple(kind for kind in KINDS[:-1] if kind not in dropped)
    same = {"stationary": stationary, "orthonormal_only": orthonormal_only}
    return (
        small(definite=definite, **same),
        structured(kinds=kinds, stationary=stationary),
        spread(**same),
    )
