r"""The Rademacher complexity of rank-limited linear layers, exactly, by sampling, and between two bounds.

For inputs X (N rows $x_i$) and sign matrices S ∈ {±1}^{N×m} the vector complexity of a ball of matrices is

$$\hat R = E_S \sup_{D} \frac1N \sum_{i,j} S_{ij} (D x_i)_j = E_S \sup_D \langle D, Z\rangle,\qquad
Z = \tfrac1N S^T X,$$

where the supremum is exact (`ky_fan`).  It is the *expected* generalisation gap of empirical risk
minimisation for the loss $-\langle \xi, Dx\rangle$ with random signs ξ, so bounds from both sides say what
such a gap can be at best and at worst.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .. import linalg
from .estimate import Sampled, check_confidence
from .ky_fan import Ball

ENUMERABLE = 16  # signs: 2^16 matrices, half of which are decomposed
CHUNK = 1024

Inputs = Float[np.ndarray, "N n"]


def enumerated(x: Inputs, outputs: int, ball: Ball) -> float:
    r"""The complexity itself: the mean over all $2^{Nm}$ sign matrices, of which S and −S count once.

    Args:
        x: inputs, shape (N, n), float64.
        outputs: m.
        ball: the class of matrices, (m, n).

    Returns:
        $\hat R$ to within rounding.

    Raises:
        ValueError: more than 16 signs; inputs that are not a float64 matrix.

    Source: Bartlett and Mendelson 2002, definition 2, in the vector form of Maurer 2016.
    """
    x, signs = _checked(x, outputs), len(x) * outputs
    if signs > ENUMERABLE:
        raise ValueError(
            f"x, outputs: got {len(x)} inputs and {outputs} outputs, {signs} signs, of which at most "
            f"{ENUMERABLE} can be enumerated; use sampled"
        )
    codes = np.arange(2 ** (signs - 1))[:, None]
    all_signs = 1.0 - 2.0 * ((codes >> np.arange(signs)) & 1)
    z = np.swapaxes(all_signs.reshape(-1, len(x), outputs), 1, 2) @ x / len(x)
    return float(np.mean(ball.supremum(z)))


def sampled(
    x: Inputs,
    outputs: int,
    ball: Ball,
    key: PRNGKeyArray,
    *,
    draws: int = 4096,
    confidence: float = 0.99,
) -> Sampled:
    r"""The complexity by Monte Carlo, with a confidence interval that assumes nothing.

    The half width is the smaller of $c\sqrt{\ln(2/\delta)/(2k)}$ (Hoeffding: each draw lies in [0, c]) and
    $\sqrt{2 v \ln(2/\delta)/k}$ (McDiarmid: one sign changes a draw by at most $2B\|x_i\|/N$), with k draws,
    $v = B^2 m \|X\|_F^2/N^2$, and $c = B\sqrt{q\,mN}\,\|X\|_2/N$, q the largest rank for spectral balls and 1
    for the others.  Both depend on X alone.

    Args:
        x: inputs, shape (N, n), float64.
        outputs: m.
        ball: the class of matrices, (m, n).
        key: a JAX random key.
        draws: k; rounded up to a multiple of 1024.
        confidence: 1 − δ.

    Raises:
        ValueError: a confidence outside (0, 1); inputs that are not a float64 matrix.

    Source: Hoeffding 1963, theorem 2; McDiarmid 1989.
    """
    return of_drawn(drawn(x, outputs, key, draws=draws), x, outputs, ball, confidence=confidence)


def drawn(
    x: Inputs, outputs: int, key: PRNGKeyArray, *, draws: int = 4096
) -> Float[np.ndarray, "draws values"]:
    """Singular values of SᵀX/N for random S: all balls can be judged by the same draws.

    Args:
        x: inputs, shape (N, n), float64.
        outputs: m.
        key: a JAX random key.
        draws: rounded up to a multiple of 1024.

    Raises:
        ValueError: inputs that are not a float64 matrix.
    """
    x = jnp.asarray(_checked(x, outputs))
    keys = jax.random.split(key, (-(-draws // CHUNK), CHUNK))
    return np.concatenate([np.asarray(_singular_values(x, each, outputs)) for each in keys])


def of_drawn(
    values: Float[np.ndarray, "draws values"],
    x: Inputs,
    outputs: int,
    ball: Ball,
    *,
    confidence: float = 0.99,
) -> Sampled:
    """What `sampled` says of a ball, from draws that were made already.

    Args:
        values: from `drawn`, with the same x and outputs.
        x: inputs, shape (N, n), float64.
        outputs: m.
        ball: the class of matrices, (m, n).
        confidence: 1 − δ.

    Raises:
        ValueError: as `sampled`.
    """
    x = _checked(x, outputs)
    check_confidence(confidence)
    found, (count, n) = np.asarray(ball.of_values(values)), x.shape
    log, radius = math.log(2 / (1 - confidence)), float(ball.radius)
    wide = ball.limit((outputs, n)) if ball.norm == "spectral" else 1
    top = radius * math.sqrt(wide * outputs / count) * float(linalg.spectral_norm(x))
    widths = {
        "Hoeffding": top * math.sqrt(log / (2 * len(found))),
        "McDiarmid": radius * np.linalg.norm(x) / count * math.sqrt(2 * outputs * log / len(found)),
    }
    inequality = min(widths, key=widths.__getitem__)
    mean, width = float(found.mean()), float(widths[inequality])
    error = float(found.std(ddof=1)) / math.sqrt(len(found))
    return Sampled(mean, max(0.0, mean - width), mean + width, error, len(found), confidence, inequality)


def rank_curves(
    x: Inputs,
    outputs: int,
    ranks: Iterable[int],
    counts: Iterable[int],
    key: PRNGKeyArray,
    *,
    draws: int = CHUNK,
) -> list[dict[str, Any]]:
    r"""A layer's complexity over N and over the rank, on Frobenius balls, beside $\sqrt{k/d}$.

    With k = r(m + n) and d = mn; the rank of Dg is r(m + n − r) where BA has full rank r.

    Args:
        x: inputs, shape (at least the largest N, n), float64; the first N are taken.
        outputs: m.
        ranks: r.
        counts: N.
        key: a JAX random key; all ranks are judged by the same draws.
        draws: rounded up to a multiple of 1024.

    Returns:
        A record for each rank and N, with the complexity, that of full rank, their ratio, and its bounds.

    Raises:
        ValueError: a count outside 1 … len(x), a rank below 1, inputs that vanish.
    """
    x, ranks, records = _checked(x, outputs), tuple(ranks), []
    n = x.shape[1]
    for count in counts:
        if not 1 <= count <= len(x):
            raise ValueError(f"counts: got {count}, needs numbers from 1 to the {len(x)} inputs")
        values = drawn(x[:count], outputs, key, draws=draws)
        full = of_drawn(values, x[:count], outputs, Ball())
        for rank in ranks:
            part = of_drawn(values, x[:count], outputs, Ball(rank=rank))
            q = Ball(rank=rank).limit((outputs, n))
            low, high = ratio_bounds(x[:count], outputs, rank)
            shares = (q * (outputs + n - factor) / (outputs * n) for factor in (0, q))
            records.append(
                {
                    "rank": rank,
                    "N": count,
                    "full": full.value,
                    "part": part.value,
                    "ratio": part.value / full.value,
                    "ratio at least": float(low),
                    "ratio at most": float(high),
                    **dict(zip(("√(k/d)", "√(rank/d)"), map(math.sqrt, shares), strict=True)),
                }
            )
    return sorted(records, key=lambda record: (record["rank"], record["N"]))


@functools.partial(jax.jit, static_argnums=2)
def _singular_values(x: Float[Array, "N n"], keys: PRNGKeyArray, outputs: int) -> Float[Array, "draws q"]:
    """Singular values of SᵀX/N for one random S per key."""

    def one(key: PRNGKeyArray) -> Float[Array, " q"]:
        signs = jax.random.rademacher(key, (outputs, len(x)), x.dtype)
        return jnp.linalg.svd(signs @ x / len(x), compute_uv=False)

    return jax.vmap(one)(keys)


def lower_bound(x: Inputs, outputs: int, ball: Ball) -> linalg.Lower:
    r"""A lower bound on the complexity that holds for all inputs.

    With singular values $s_1 \ge s_2 \ge \dots$ of X and $q = \min(r, m, n)$, on the Frobenius ball

    $$\hat R \ge \frac{B}{\sqrt2\,N} \max\Big\{ \sqrt q\,\|X\|_F,\
    \sqrt m\,\big(\sum_{i \le q} s_i^2\big)^{1/2} \Big\}
    \ge B \sqrt{\frac{q}{2\min(m,n)}}\,\frac{\sqrt m\,\|X\|_F}{N};$$

    the spectral ball has at least the Frobenius ball's supremum of each Z, and the nuclear ball has that of
    q = 1.  On Frobenius balls `upper_bound` is at most $\sqrt2 + 2\sqrt\pi < 4.96$ times this, whatever X, m,
    n and r are.

    Raises:
        ValueError: inputs that are not a float64 matrix.

    Source: T3.R10; Khintchine's inequality with its best constant, by Latała and Oleszkiewicz 1994.
    """
    x = _checked(x, outputs)
    rank = 1 if ball.norm == "nuclear" else ball.limit((outputs, x.shape[1]))
    values = np.linalg.svd(x, compute_uv=False)
    size = max(math.sqrt(rank) * np.linalg.norm(values), math.sqrt(outputs) * np.linalg.norm(values[:rank]))
    value = float(ball.radius) * size / (math.sqrt(2) * len(x))
    return linalg.Lower(value * (1 - _rounding(x)))


def upper_bound(x: Inputs, outputs: int, ball: Ball) -> linalg.Upper:
    r"""An upper bound on the complexity that holds for all inputs.

    With singular values $s_i$ of X and $q = \min(r, m, n)$, on the Frobenius ball

    $$\hat R \le \frac BN \min_{0 \le k \le n} \Big\{ \sqrt m \Big(\sum_{i \le k} s_i^2\Big)^{1/2}
    + \sqrt{\tfrac{\pi q}2}\,\Big(\sqrt m\,s_{k+1} + \Big(\sum_{i>k} s_i^2\Big)^{1/2}\Big) \Big\}.$$

    k = n is Jensen's bound $\sqrt m\|X\|_F$, k = 0 the one by Chevet's inequality,
    $\sqrt{\pi q/2}\,(\sqrt m\|X\|_2 + \|X\|_F)$.  The spectral ball has $\sqrt q$ times this, and the nuclear
    ball this with q = 1.

    Raises:
        ValueError: inputs that are not a float64 matrix.

    Source: T3.R10; Chevet 1978, with Gordon's constant; Vershynin, *High-Dimensional Probability*, 2018, 7.3.
    """
    x = _checked(x, outputs)
    rank = 1 if ball.norm == "nuclear" else ball.limit((outputs, x.shape[1]))
    values = np.append(np.linalg.svd(x, compute_uv=False), 0.0)
    squares = np.append(0.0, np.cumsum(values**2))
    rest = np.append(np.cumsum(values[::-1] ** 2)[::-1], 0.0)
    splits = [
        math.sqrt(outputs * squares[k])
        + math.sqrt(math.pi * rank / 2) * (math.sqrt(outputs) * values[k] + math.sqrt(rest[k]))
        for k in range(len(values))
    ]
    factor = math.sqrt(rank) if ball.norm == "spectral" else 1.0
    value = float(ball.radius) * factor * min(splits) / len(x)
    return linalg.Upper(value * (1 + _rounding(x)))


def ratio_bounds(x: Inputs, outputs: int, rank: int) -> tuple[linalg.Lower, linalg.Upper]:
    r"""Bounds on the complexity of rank r over that of full rank, on Frobenius balls of one radius.

    $$\sqrt{\frac{q}{\min(m,n)}} \le \frac{\hat R(r)}{\hat R(\mathrm{full})} \le
    \min\Big\{1,\ \sqrt{\pi q}\,\Big(\frac{\|X\|_2}{\|X\|_F} + \frac1{\sqrt m}\Big)\Big\}$$

    with q = min(r, m, n).  For $X^TX$ a multiple of the identity it is of the order of
    $\sqrt{r(m+n)/(mn)}$, the root of LoRA's share of the parameters.

    Raises:
        ValueError: inputs that are not a float64 matrix or vanish; a rank below 1.

    Source: T3.R10.
    """
    x, rank = _checked(x, outputs), Ball(rank=rank).limit((outputs, x.shape[1]))
    size = np.linalg.norm(x)
    if size == 0:
        raise ValueError("x: got zeros, of which all complexities are 0 and have no ratio")
    low = math.sqrt(rank / min(outputs, x.shape[1]))
    high = math.sqrt(math.pi * rank) * (linalg.spectral_norm(x) / size + 1 / math.sqrt(outputs))
    return linalg.Lower(low * (1 - _rounding(x))), linalg.Upper(min(1.0, high * (1 + _rounding(x))))


def _rounding(x: Inputs) -> float:
    # The singular values err by a modest multiple of ε‖X‖, which all terms of the bounds are at least.
    return linalg.gamma(32 * max(x.shape) * min(x.shape))


def _checked(x: Inputs, outputs: int) -> Inputs:
    x = np.asarray(x)
    linalg.require_judging_precision("x", x)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"x: got shape {x.shape}, needs (N, n) with at least one input")
    if outputs < 1:
        raise ValueError(f"outputs: got {outputs}, needs at least 1")
    return x
