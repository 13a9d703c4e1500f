r"""Repairs that speak of samples: what a limited rank can fit by chance, and where one more rank hurts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from .. import linalg
from ..claims import Assumption, Claim, Comparison, Control, Judgement, at_most, relation
from ..rademacher import Ball
from . import observed
from .comparisons import bounded_by
from .instances import alignments, regressions, samples
from .instances.alignments import DiagonalAlignment, Signs
from .instances.regressions import RANKS, Drawn, Regression
from .instances.samples import Listed, Minimised
from .instances.spectra import Truncated

MARGIN = 8  # N − r from which on the standard error of a simulated risk has a finite variance itself


def _simulated(i: Drawn) -> Comparison:
    return Comparison(
        i.measured,
        "==",
        i.formula,
        standard_error=i.standard_error,
        rival=i.without,
        statistics={"draws": i.simulated.draws, "standard error": float(i.standard_error.max())},
    )


def _simulated_without(i: Drawn) -> Comparison:
    return Comparison(i.measured, "==", i.without, standard_error=i.standard_error)


def _enough_samples(i: Drawn) -> tuple[bool, str]:
    return i.samples >= max(RANKS) + MARGIN, f"N = {i.samples}, r up to {max(RANKS)}"


_moments = Assumption("N ≥ r + 8: the standard error can be trusted", _enough_samples)


_SETTINGS = ((4, 2, 0.1, 12), (8, 3, 0.2, 12), (6, 4, 0.3, 16), (5, 2, 0.3, 12), (7, 4, 0.1, 16))


def _settings() -> dict[str, Drawn]:
    return {
        f"squares {a}, {b}, 1, noise {noise}, N = {N}": Drawn(np.array([a, b, 1.0]), noise, N, seed)
        for seed, (a, b, noise, N) in enumerate(_SETTINGS)
    }


def _between(i: Any) -> Comparison:
    """Both bounds; of a sampled complexity the standard error is the tolerance."""
    sides = at_most([i.low, i.complexity], [i.complexity, i.high], scale=i.scale, operations=i.operations)
    return replace(sides, standard_error=getattr(i, "standard_error", None))


def _listed() -> Listed:
    update = Truncated(linalg.exact([2, 1]), 1)
    return Listed(update, linalg.exact([[1, 0], [0, 1], [1, 1]]), linalg.exact([[2, 0], [0, 0], [1, 2]]), 2)


def _minimised() -> Minimised:
    signs = np.array([[1.0], [1.0], [-1.0]])
    return Minimised(np.ones((3, 1)), signs, Ball("frobenius", 1.0, 1), 1)


def _regression(*, noise: int = 1, samples: int = 12) -> Regression:
    return Regression(linalg.exact([9, 4, 1, 0]), 2, samples, Fraction(noise))


CLAIMS = (
    Claim(
        id="T3.R9",
        theorem="diminishing",
        statement=(
            r"\max\langle D,Z\rangle \text{ over } \mathrm{rank} D\le r:\ B(\textstyle\sum_{i\le "
            r"r}\sigma_i^2)^{1/2},\ s\sum_{i\le r}\sigma_i,\ t\,\sigma_1 \text{ for } \|D\|_F\le B,\ "
            r"\|D\|_2\le s,\ \|D\|_*\le t"
        ),
        judgement=Judgement.TRUE,
        reason="von Neumann's trace inequality, and Cauchy–Schwarz; attained by the truncation of Z, scaled",
        plain=(
            "How well a matrix of limited rank and norm can align with a given one, exactly: a Ky Fan norm."
        ),
        compare=bounded_by(lambda i: [i.alignment, i.supremum], lambda i: [i.supremum, i.attained]),
        exact=lambda: {
            "Z = diag(4, 3, 1), rank 2, Frobenius ball: 5": DiagonalAlignment(
                linalg.exact([4, 3, 1]), Ball("frobenius", Fraction(1), 2), linalg.exact(["4/5", "3/5", 0])
            ),
            "the same, spectral ball: 7": DiagonalAlignment(
                linalg.exact([4, 3, 1]), Ball("spectral", Fraction(1), 2), linalg.exact([1, 1, 0])
            ),
        },
        strategy=alignments.alignments,
        control=Control(
            "the rank: one less",
            exact=lambda: DiagonalAlignment(
                linalg.exact([4, 3, 1]), Ball("frobenius", Fraction(1), 2), linalg.exact(["4/5", "3/5", 0])
            ),
            compare=bounded_by(lambda i: i.alignment, lambda i: i.short),
        ),
        observe=observed.gradient_alignments,
    ),
    Claim(
        id="T3.R10",
        theorem="diminishing",
        statement=(
            r"\tfrac{B}{\sqrt2N}\max\{\sqrt r\|X\|_F,\ \sqrt m\|X\|_{(r)}\} \le \hat R_N(r) \le \tfrac "
            r"BN\min_k\{\sqrt m\|X\|_{(k)} + \sqrt{\pi r/2}\,(\sqrt m\,s_{k+1}+\|X_{>k}\|_F)\}"
        ),
        judgement=Judgement.TRUE,
        reason="Khintchine from below, Chevet from above; for isotropic inputs it is of order √(r(m + n)/N)",
        plain=(
            "What a layer of rank r can make of random signs, from both sides. It grows with the sides of "
            "the matrix as well: √(r(m + n)/N) and not the printed √(r/N)."
        ),
        compare=_between,
        exact=lambda: {
            "two orthogonal inputs, two outputs, rank 1": Signs(np.eye(2), 2, Ball("frobenius", 1.0, 1)),
            "one input of size 1, four outputs": Signs(np.ones((1, 1)), 4, Ball("frobenius", 1.0, 1)),
        },
        strategy=alignments.signs,
        control=Control(
            "the sides of the matrix: dropped, B max‖x‖ √(r/N)",
            exact=lambda: Signs(np.ones((1, 1)), 4, Ball("frobenius", 1.0, 1)),
            compare=bounded_by(lambda i: i.complexity, lambda i: i.printed),
        ),
        observe=observed.input_signs,
    ),
    Claim(
        id="T3.R11",
        theorem="diminishing",
        statement=r"E\,\mathcal{L}(\hat D_r) \le V^*+G\,E\|(\Delta W^*-\Delta W_r)x\|+2\sqrt2\,G\,R_N(r)",
        judgement=Judgement.TRUE,
        reason=(
            "symmetrisation gives 2, Maurer's contraction √2; the second term falls with r and the last rises"
        ),
        plain=(
            "What minimising the training loss over updates of rank r guarantees, with every constant: the "
            "trade-off that equation 7 is after. It is usually far from tight, and vacuous for networks."
        ),
        compare=bounded_by(lambda i: i.risk, lambda i: i.bound.total),
        exact=lambda: {"one input, three examples, N = 1, all samples": _minimised()},
        strategy=samples.minimised,
        control=Control(
            "the last term: dropped",
            exact=_minimised,
            compare=bounded_by(lambda i: i.risk, lambda i: i.bound.optimum + i.bound.approximation),
        ),
    ),
    Claim(
        id="T3.R12",
        theorem="diminishing",
        statement=r"E(r) = \frac{(N-1)\,\mathrm{tail}(r)+m\sigma^2r}{N-r-1}",
        judgement=Judgement.CONDITIONAL,
        reason=(
            "exact for Gaussian inputs and A frozen to the leading directions of ΔW*; compared with draws"
        ),
        plain=(
            "The excess risk of LoRA regression with a frozen A, exactly: what A misses, and what fitting B "
            "to noise costs, to which what A misses adds. It falls with the rank, and then rises."
        ),
        compare=_simulated,
        assumes=(_moments,),
        exact=_settings,
        strategy=regressions.draws,
        examples=10,
        control=Control(
            "that what A misses disturbs the fit: dropped, tail(r) + mσ²r/(N − r − 1)",
            exact=lambda: Drawn(np.array([8.0, 3.0, 1.0]), 0.2, 12),
            compare=_simulated_without,
        ),
    ),
    Claim(
        id="T3.R13",
        theorem="diminishing",
        statement=(
            r"E(r+1) < E(r) \iff \sigma_{r+1}^2(N-r-1) > \mathrm{tail}(r)+m\sigma^2;\ E \text{ is unimodal, "
            r"with its least value first at } r_c = "
            r"\min\{r:\sigma_{r+1}^2(N-r-1)\le\mathrm{tail}(r)+m\sigma^2\}"
        ),
        judgement=Judgement.TRUE,
        reason="the bracket in E(r + 1) − E(r) changes its sign once, since the σ_i fall",
        plain=(
            "Where one more rank begins to hurt: the plateau and decline that the paper infers, as a theorem "
            "on the exact model. The critical rank grows with the number of examples."
        ),
        compare=relation(lambda i: [i.best, i.turns], "==", lambda i: [i.lowest, 0]),
        exact=lambda: {
            "squares 9, 4, 1, 0, two outputs, N = 12": _regression(),
            "a tie of all ranks": Regression(linalg.exact([0, 0]), 1, 5, Fraction(0)),
        },
        strategy=regressions.regressions,
        control=Control(
            "what A misses: left out of the criterion",
            exact=lambda: Regression(linalg.exact([1, 1, 1, 1, 1]), 1, 6, Fraction(0)),
            compare=relation(lambda i: i.hasty, "==", lambda i: i.lowest),
        ),
    ),
    Claim(
        id="T3.R18",
        theorem="diminishing",
        statement=(
            r"\Delta W_r \text{ fixed independently of the sample}:\ E[\mathcal{L}-\mathcal{L}_N] = 0,\quad "
            r"E[(\mathcal{L}-\mathcal{L}_N)^2] = \mathrm{Var}(\ell)/N"
        ),
        judgement=Judgement.TRUE,
        reason="a mean of N independent losses: the gap is of order 1/√N, at every rank alike",
        plain=(
            "A truncation that was not chosen by the sample has no generalisation error that grows with its "
            "rank. The term √(r/N) belongs to updates that were fitted."
        ),
        compare=relation(lambda i: i.moments, "==", lambda i: (0, i.variance)),
        exact=lambda: {"three points, N = 2, all nine samples": _listed()},
        strategy=samples.lists,
        control=Control(
            "independence: dropped, the rank is chosen on the sample",
            exact=_listed,
            compare=relation(lambda i: i.chosen, "==", lambda i: (0, i.variance)),
        ),
    ),
)
