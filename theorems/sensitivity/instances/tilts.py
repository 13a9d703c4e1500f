"""Strategies that draw tilted quadratics: small exact ones first, then structured ones, then wide spectra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from ... import linalg, rational
from .tilted import Tilted

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
    largest: int = 3,
) -> Tilted:
    """Exact ones with up to three parameters and tiny integers, which shrink to the smallest counterexample.

    Args:
        draw: given by Hypothesis.
        definite: H ≻ 0; otherwise H ⪰ 0, and u is put into the range of H.
        orthonormal_only: PᵀP = I; otherwise P is any matrix that is not 0, often of deficient rank.
        stationary: g = 0.
        least: the least number of parameters; from 2 on there is room outside the range of P.
        largest: the largest number.
    """
    d = draw(st.integers(least, largest))
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
    kind = kinds[draw(st.integers(0, 2**16)) % len(kinds)]  # sampled_from repeats itself too often
    d = draw(st.integers(2, 3))
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
        flat, normal = replace(made, hessian=(Q[:, 1:] * values[1:]) @ Q[:, 1:].T), Q[:, 0]
        outside = replace(flat, disturbance=e + (1 - made.tilt @ normal) * normal)
        return _into_range(flat) if kind == "singular" else outside
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
    k = 1 + draw(st.integers(0, 2**16)) % d  # drawn from 1 … d it would be d half of the time
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


@st.composite
def indefinite(draw: Draw) -> Tilted:
    """Exact ones with eigenvalues of any sign, up to two parameters."""
    d = draw(st.integers(1, 2))
    M, P = _matrix(draw, d, d), orthonormal(draw, d, draw(st.integers(1, d)))
    return Tilted(M + M.T - rational.identity(d), P, _vector(draw, d), _vector(draw, d), "any signs")


def roomy(*, stationary: bool = False) -> tuple[st.SearchStrategy[Tilted], ...]:
    """Exact ones with orthonormal P and room for ε_⊥; two parameters first, which shrink faster."""
    kinds = ("commuting", "parallel disturbance", "orthogonal disturbance")
    return (
        small(orthonormal_only=True, stationary=stationary, least=2, largest=2),
        structured(kinds=kinds, stationary=stationary),
    )
