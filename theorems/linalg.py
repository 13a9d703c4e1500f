"""Norms that may be trusted from above, in float64 or in exact arithmetic.

A bound is only as good as the norms it is built from.  Everything here that is called a norm is an *upper*
estimate: it comes from a full singular value decomposition and is enlarged by what that decomposition can
have lost, which is measured rather than assumed.  A power iteration approaches the norm from below, so a
"bound" built on it may lie below the truth; its result has the type `Lower`, which every bound refuses.

Arrays of Python objects (fractions, and sympy numbers where roots appear) take the exact route: the same
functions, no rounding.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import sympy
from jaxtyping import Float

EPS = float(np.finfo(np.float64).eps)
SQUARES = 1e-140
"""Norms from this to its reciprocal lose nothing to squares that underflow or overflow."""


class Upper(float):
    """A number known not to be smaller than the quantity it stands for."""


class Lower(float):
    """A number known not to be larger than the quantity it stands for."""


def gamma(operations: int) -> float:
    r"""Bound the relative error of a chain of rounded operations.

    $\gamma_n = n u / (1 - n u)$ with the unit roundoff $u = \varepsilon/2$.

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed. 2002, Lemma 3.1.
    """
    unit = operations * EPS / 2
    if unit >= 1:
        raise ValueError(f"operations={operations} exceeds what float64 can bound; split the computation")
    return unit / (1 - unit)


def is_exact(array: np.ndarray) -> bool:
    """Tell whether an array holds exact numbers (Python objects) instead of floating-point ones."""
    return np.asarray(array).dtype == object


def exact(values: object) -> np.ndarray:
    """Make an array of fractions from nested lists of integers, fractions or strings such as "1/2".

    Raises:
        ValueError: a float, whose binary value is rarely what was meant.
    """
    array = np.array(values, dtype=object)
    out = np.empty(array.shape, dtype=object)
    for index in np.ndindex(array.shape):
        if isinstance(array[index], float):
            raise ValueError(f"exact numbers are not floats: write {array[index]} as a fraction, like '1/10'")
        out[index] = Fraction(array[index])
    return out


def square_root(value: Fraction | sympy.Expr) -> Fraction | sympy.Expr:
    """Square root of an exact number: a fraction where it is one, a sympy number otherwise."""
    if isinstance(value, Fraction | int):
        value = Fraction(value)
        roots = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if (roots[0] ** 2, roots[1] ** 2) == (value.numerator, value.denominator):
            return Fraction(*roots)
    return sympy.sqrt(sympy.sympify(value))


def require_judging_precision(name: str, *arrays: np.ndarray) -> None:
    """Refuse what cannot carry a verdict: anything but float64 or exact numbers, and NaN or infinity.

    Raises:
        ValueError: naming the argument, what it got, and how to get float64.
    """
    for array in map(np.asarray, arrays):
        if array.dtype == object:
            continue
        if array.dtype != np.float64:
            raise ValueError(
                f"{name} has dtype {array.dtype}, but verdicts need float64: call "
                'jax.config.update("jax_enable_x64", True) before making arrays, or .astype("float64")'
            )
        if not np.all(np.isfinite(array)):
            raise ValueError(
                f"{name} contains NaN or infinity: no bound can be checked on it; refit or clean it"
            )


def norm(x: np.ndarray) -> np.ndarray:
    r"""Euclidean norm $\|x\|_2$ along the last axis.

    Args:
        x: vectors, shape (..., n), float64 or exact.

    Returns:
        Norms, shape (...); exact numbers for exact input.
    """
    if is_exact(x):
        return np.vectorize(square_root, otypes=[object])(np.sum(x * x, axis=-1))
    return np.linalg.norm(x, axis=-1)


def frobenius(a: np.ndarray) -> float:
    r"""Square root of the sum of squares, also where these underflow or overflow.

    An underflow is the more dangerous: `np.linalg.norm` then returns 0 for what is small, and an error bound
    that is built on it vanishes.  Nor does this wake the threads of a BLAS, which spin for a while and slow
    what comes next.
    """
    flat = a.ravel()
    with np.errstate(over="ignore", under="ignore"):
        size = math.sqrt(float(np.einsum("i,i->", flat, flat)))
    if SQUARES < size < 1 / SQUARES or not a.size:
        return size
    largest = float(max(a.max(), -a.min()))
    if largest == 0 or not math.isfinite(largest):
        return largest
    scale = math.ldexp(1.0, min(-math.frexp(largest)[1], 1023))
    return float(np.linalg.norm(a * scale)) / scale


def spectral_norm(a: Float[np.ndarray, "m n"]) -> Upper | Fraction | sympy.Expr:
    r"""Upper estimate of the largest singular value $\|A\|_2$, too large by some $n^2\varepsilon$ at most.

    With any computed factors, $A = \hat U \hat\Sigma \hat V^T + E$ gives
    $\|A\|_2 \le \|\hat U\|_2\,\hat\sigma_1\,\|\hat V\|_2 + \|E\|_F$, and
    $\|\hat U\|_2^2 \le 1 + \|\hat U^T \hat U - I\|_F$.  Residual and defects are computed and enlarged by the
    rounding of that computation, so the result is an upper bound whatever the decomposition did.  Where it
    did so badly that this reasoning would not hold, the Frobenius norm takes its place.

    Args:
        a: matrix, shape (m, n), float64 or exact.

    Returns:
        An `Upper`, or the exact norm.

    Source: Rump, *Verified bounds for singular values, in particular for the spectral norm of a matrix and
    its inverse*, BIT 51 (2011).
    """
    if is_exact(a):
        return _exact_spectral_norm(a)
    require_judging_precision("matrix", a)
    if a.size == 0 or not np.any(a):
        return Upper(0.0)
    scale = float(np.max(np.abs(a)))  # keeps the squares below away from over- and underflow
    u, s, vt = np.linalg.svd(a / scale, full_matrices=False)
    rank, largest = len(s), float(s[0])
    rounding = gamma(2 * max(a.shape) + 4)
    residual = np.linalg.norm(a / scale - (u * s) @ vt) + rounding * (
        rank * largest + np.linalg.norm(a / scale)
    )
    defects = [np.linalg.norm(q.T @ q - np.eye(rank)) + rounding * rank for q in (u, vt.T)]
    bound = largest * np.sqrt(1 + defects[0]) * np.sqrt(1 + defects[1]) + residual
    if not (residual <= largest and max(defects) <= 1):
        bound = np.linalg.norm(a / scale) * (1 + gamma(a.size + 8))
    return Upper(float(bound) * scale * (1 + gamma(16)))


def _exact_spectral_norm(a: np.ndarray) -> Fraction | sympy.Expr:
    """Root of the largest eigenvalue of AᵀA; closed form where the smaller side is at most 2."""
    if a.size == 0:
        return Fraction(0)
    gram = a.T @ a if a.shape[1] <= a.shape[0] else a @ a.T
    if len(gram) == 1:
        return square_root(gram[0, 0])
    if len(gram) == 2:
        trace, gap = gram[0, 0] + gram[1, 1], gram[0, 0] - gram[1, 1]
        return square_root((trace + square_root(gap * gap + 4 * gram[0, 1] ** 2)) / 2)
    characteristic = sympy.Matrix(gram).charpoly()  # all roots are real; as radicals they need not look it
    return sympy.sqrt(characteristic.real_roots()[-1])


def power_iteration(a: Float[np.ndarray, "m n"], steps: int = 100, seed: int = 0) -> Lower:
    r"""Lower estimate of $\|A\|_2$: the Rayleigh quotient $\|A v\|$ of a unit vector $v$ after some steps.

    It is offered to make the difference visible, not to build bounds on: they refuse a `Lower`.
    """
    v = np.random.default_rng(seed).normal(size=a.shape[1])
    v /= np.linalg.norm(v)
    for _ in range(steps):
        w = a.T @ (a @ v)
        length = np.linalg.norm(w)
        if length == 0:
            return Lower(0.0)
        v = w / length
    return Lower(float(np.linalg.norm(a @ v)) * (1 - gamma(4 * max(a.shape) * math.isqrt(max(a.shape)) + 16)))


def require_upper(name: str, values: object) -> None:
    """Refuse norms that are not known to be upper estimates.

    Raises:
        ValueError: naming the argument and the way out.
    """
    for value in values:
        if not isinstance(value, Upper | Fraction | sympy.Basic):
            kind = (
                "a lower estimate (power iteration, sampling)"
                if isinstance(value, Lower)
                else "a plain number"
            )
            raise ValueError(
                f"{name} holds {kind}, on which an upper bound would be unsound: use linalg.spectral_norm, "
                "or wrap a number you know to be an upper estimate in linalg.Upper"
            )


def sign(value: Fraction | int | sympy.Expr) -> int:
    """Sign of an exact number: by 40 digits where they are clear, symbolically where it may be a tie."""
    if isinstance(value, Fraction | int):
        return (value > 0) - (value < 0)
    approximate = value.evalf(40)
    if abs(approximate) > Fraction(1, 10**30):
        return 1 if approximate > 0 else -1
    return 0 if sympy.simplify(value).equals(0) else int(sympy.sign(value.evalf(200)))
