r"""Repairs on complexity and generalisation: the slow rate with its constants, for classes of bounded norm.

What (12) to (14) appeal to, with hypotheses and both sides: Rademacher complexities of linear classes, of
subspaces, of layers of limited rank and of linearised networks; symmetrisation, contraction, and the bounds
that follow.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from .. import linalg
from ..claims import Claim, Comparison, Control, Judgement, at_most, relation
from ..rademacher import Ball, LinearClass, Tangent, compared, subspace
from . import observed_classes, observed_complexity
from .comparisons import bounded_by
from .instances import classes, kernels, layers, slow
from .instances.classes import Bent, Losses, Pieces
from .instances.kernels import Directions, Part
from .instances.layers import RankedSigns, SquareSigns
from .instances.networks import TangentRatio
from .instances.slow import basis_vectors

WITHIN = math.log(1.1)
"""Ten per cent: what T5.R21 calls agreement, on a logarithmic scale."""


def _bounded(i: Any, lhs: Any, rhs: Any) -> Comparison:
    """The left sides are at most the right sides, which may be attained; means over draws have an error."""
    sides = at_most(lhs, rhs, scale=getattr(i, "scale", None), operations=getattr(i, "operations", 8))
    error = getattr(i, "standard_error", None)
    return replace(
        sides,
        standard_error=error if np.any(error) else None,
        statistics=getattr(i, "statistics", {}),
    )


def _between(i: Any) -> Comparison:
    return _bounded(i, [i.low, i.complexity], [i.complexity, i.high])


def _part(i: Any) -> Comparison:
    """Multiplied out: c(K_P) ρ R̂ ≤ R̂_P ≤ ρ R̂/c(K), R̂_P ≤ R̂; and ρ² = rank P/d for isotropic inputs."""
    lhs, rhs = [i.low * i.whole, i.part, i.part], [i.part, i.high * i.whole, i.whole]
    if i.shares is not None:
        lhs, rhs = [*lhs, *i.shares], [*rhs, *reversed(i.shares)]
    return _bounded(i, lhs, rhs)


def _part_without_constants(i: Any) -> Comparison:
    return _bounded(i, [i.traces * i.whole, i.part], [i.part, i.traces * i.whole])


def _ranks(i: Any) -> Comparison:
    r"""Both bounds of the complexity; then, twice, those of the ratio to full rank."""
    lhs, rhs = [i.low, i.closed], [i.closed, i.high]
    for low, ratio, high in (i.ratios[:3], i.ratios[3:]) if i.ratios else ():
        lhs, rhs = [*lhs, low, ratio], [*rhs, ratio, high]
    return _bounded(i, lhs, rhs)


def _narrow_ratio(i: RankedSigns) -> Comparison:
    return _bounded(i, i.ratios[1] if i.ratios else 0.0, i.narrow if i.ratios else 0.0)


def _by_rank(i: TangentRatio) -> Comparison:
    error = np.abs(np.log(i.ratios) - np.log(i.predicted))
    return replace(at_most(error, WITHIN), statistics=i.statistics)


def _once(i: Any) -> Comparison:
    return _bounded(i, i.supremum, i.complexity)


def planted(power: float, *, seed: int = 0) -> TangentRatio:
    """Gaussian features whose columns fall like j^(−power), the method on the first eighth of them, twice.

    Its second half of parameters repeats the first: k = 2 · rank, as a gauge would have it.
    """
    rng, d, rank = np.random.default_rng(seed), 256, 32
    features = rng.normal(size=(16, d)) * np.arange(1, d + 1) ** -power
    basis = np.eye(d)[:, :rank]
    part = subspace(features, np.hstack([basis, 2 * basis]))
    found = compared(Tangent(LinearClass.of(features), part, d, 2 * rank, rank, "planted"))
    shown = {"ratio": found.ratio, "√(rank/d)": found.by_rank, "√(k/d)": found.by_parameters}
    return TangentRatio(np.array([found.ratio]), np.array([found.by_rank]), shown)


def _two_equal() -> Directions:
    return Directions(linalg.exact([[1], [1]]), Fraction(1))


def _tilted() -> Part:
    return Part(linalg.exact([[1, 0], [1, 1]]), linalg.exact([[1], [0]]))


def _square(norm: str, rank: int) -> SquareSigns:
    return SquareSigns(Ball(norm, Fraction(1), rank))


def _unit_inputs(count: int, outputs: int, rank: int) -> RankedSigns:
    return RankedSigns(np.eye(count), outputs, Ball("frobenius", 1.0, rank))


def _all_but_one(points: int) -> Losses:
    """K hypotheses on K points, each right on a single one; one example."""
    return Losses(linalg.exact((1 - np.eye(points, dtype=int)).tolist()), 1)


def _labellings() -> Losses:
    """All labellings of four points, two examples, δ = 1/2."""
    every = [[(code >> i) & 1 for i in range(4)] for code in range(16)]
    return Losses(linalg.exact(every), 2, Fraction(1, 2))


def _one_sided() -> Bent:
    return Bent(linalg.exact([[1], [2]]), linalg.exact([[0, 1]]))


def _opposite() -> Pieces:
    v = linalg.exact([["3/5", "4/5"]])
    return Pieces(np.stack([v, -v]), np.stack([np.stack([v[0], v[0]])]))


CLAIMS = (
    Claim(
        id="T5.R13",
        theorem="marginal",
        statement=(
            r"\frac{B\|X\|_F}{N}\max\Big\{\frac1{\sqrt2},\ 1-\frac{\sum_{i\ne j}K_{ij}^2}{(\mathrm{tr} K)^2}"
            r"\Big\} \le \hat R_N\{\langle w,\cdot\rangle:\|w\|\le B\} \le \frac{B\|X\|_F}{N},\quad K=XX^T"
        ),
        judgement=Judgement.TRUE,
        reason="Jensen from above, Khintchine with √2 from below; both are attained",
        plain=(
            "What a linear class of bounded norm can make of random signs is known up to √2, and better "
            "where no few directions dominate. It counts lengths of inputs, not parameters."
        ),
        compare=_between,
        exact=lambda: {
            "two equal inputs: 1/2, the lower bound": _two_equal(),
            "two orthogonal inputs: √2/2, the upper bound": Directions(
                linalg.exact([[1, 0], [0, 1]]), Fraction(1)
            ),
            "three inputs": Directions(linalg.exact([[1, 0], [0, 2], [1, 1]]), Fraction(3)),
        },
        strategy=kernels.directions,
        control=Control(
            "the √2: tightened to 7/5, and the other term dropped",
            exact=_two_equal,
            compare=lambda i: _bounded(i, i.tight, i.complexity),
        ),
        observe=observed_complexity.tangent_classes,
    ),
    Claim(
        id="T5.R14",
        theorem="marginal",
        statement=(
            r"c(X\Pi)\,\rho \le \frac{\hat R_N(\mathrm{range}\,P)}{\hat R_N(\mathbb{R}^d)} \le "
            r"\min\Big\{1,\frac{\rho}{c(X)}\Big\},\quad "
            r"\rho^2=\frac{\mathrm{tr}(\Pi\hat\Sigma)}{\mathrm{tr}\,\hat\Sigma},\ c\ge\tfrac1{\sqrt2};\quad "
            r"\hat\Sigma\propto I:\ \rho^2=\frac{\mathrm{rank} P}{d}"
        ),
        judgement=Judgement.TRUE,
        reason="R13 for both; Π projects on the range of P, so that redundant parameters do not count",
        plain=(
            "How much less a subspace of updates can fit by chance: the root of its share of the second "
            "moment, up to √2. That is √(k/d) only if all directions carry the same, and then with the rank "
            "in place of k. Observed on linearised networks, for which the constants are close to 1."
        ),
        compare=_part,
        exact=lambda: {
            "x = e₁, e₁ + e₂, P = e₁": _tilted(),
            "isotropic, P = (e₁ + e₂, 2(e₁ + e₂)), two parameters and one direction": Part(
                linalg.exact([[1, 0], [0, 1]]), linalg.exact([[1, 2], [1, 2]])
            ),
        },
        strategy=lambda: (kernels.parts(), kernels.isotropic_parts()),
        control=Control(
            "the constants: dropped, the ratio is ρ",
            exact=_tilted,
            compare=_part_without_constants,
        ),
        observe=observed_complexity.tangent_parts,
    ),
    Claim(
        id="T5.R15",
        theorem="marginal",
        statement=(
            r"\hat R_N\{D:\mathrm{rank} D\le r\} = E\,B\Big(\sum_{i\le r}\sigma_i^2\Big)^{1/2},\ "
            r"E\,s\sum_{i\le r}\sigma_i,\ E\,t\,\sigma_1 "
            r"\text{ for } \|D\|_F\le B,\ \|D\|_2\le s,\ \|D\|_*\le t;\quad "
            r"\sigma = \sigma(S^TX/N)"
        ),
        judgement=Judgement.TRUE,
        reason="von Neumann's trace inequality for each S; attained by truncated singular values",
        plain=(
            "The complexity of a layer of LoRA's rank is an average of singular values of sign-weighted "
            "inputs. A search over the factors, without any decomposition, reaches no more."
        ),
        compare=bounded_by(lambda i: [i.searched, i.closed], lambda i: [i.closed, i.attained]),
        exact=lambda: {
            "2 × 2 signs, rank 1: 1/2 + √2/4": _square("frobenius", 1),
            "the same, rank 2: 1": _square("frobenius", 2),
            "the same, nuclear ball": _square("nuclear", 2),
        },
        strategy=layers.ranked,
        control=Control(
            "the rank: one less",
            exact=lambda: _square("frobenius", 2),
            compare=bounded_by(lambda i: i.searched, lambda i: i.short),
        ),
    ),
    Claim(
        id="T5.R16",
        theorem="marginal",
        statement=(
            r"\sqrt{\frac k{2d}} \le \sqrt{\frac r{\min(m,n)}} \le Q \le "
            r"\min\Big\{1,\sqrt{\pi r}\Big(\frac{\|X\|_2}{\|X\|_F}+\frac1{\sqrt m}\Big)\Big\},\quad "
            r"X^TX\propto I:\ Q \le \sqrt{\frac{2\pi k}d},\quad "
            r"Q=\frac{\hat R_N(r)}{\hat R_N(\mathrm{full})},\ k=r(m+n),\ d=mn"
        ),
        judgement=Judgement.TRUE,
        reason="‖Z‖_(r) ≥ √(r/q)‖Z‖_F for each Z; Chevet's inequality for ‖Z‖₂, Khintchine below",
        plain=(
            "LoRA against a full layer: for isotropic inputs the ratio is of the order √(k/d), with "
            "constants on both sides. It is never below √(k/2d), whatever the inputs."
        ),
        compare=_ranks,
        exact=lambda: {
            "two unit vectors, two outputs, rank 1": _unit_inputs(2, 2, 1),
            "four unit vectors, one output": _unit_inputs(4, 1, 1),
            "two equal inputs, spectral ball": RankedSigns(np.ones((2, 2)), 2, Ball("spectral", 1.0, 1)),
        },
        strategy=layers.ranked,
        control=Control(
            "the 1/√m: dropped",
            exact=lambda: _unit_inputs(4, 1, 1),
            compare=_narrow_ratio,
        ),
        observe=observed_complexity.first_layers,
    ),
    Claim(
        id="T5.R17",
        theorem="marginal",
        statement=r"E\sup_f[\mathcal{L}(f)-\mathcal{L}_N(f)] \le 2R_N(\ell\circ\mathcal{F})",
        judgement=Judgement.TRUE,
        reason="a second sample, and signs for the differences; the 2 is approached by ever more points",
        plain=(
            "How far the test loss exceeds the training loss, for the member of the class where that is "
            "worst, is at most twice what the losses can make of random signs."
        ),
        compare=lambda i: _bounded(i, i.supremum, 2 * i.complexity),
        exact=lambda: {
            "three points, three hypotheses, N = 1: 2/3 ≤ 1": _all_but_one(3),
            "all labellings of four points, N = 2": _labellings(),
        },
        strategy=classes.losses,
        control=Control("the 2: dropped", exact=lambda: _all_but_one(3), compare=_once),
        observe=observed_classes.sampled_suprema,
    ),
    Claim(
        id="T5.R18",
        theorem="marginal",
        statement=(
            r"\phi_i\ G\text{-Lipschitz on } \mathbb{R}:\quad "
            r"\hat R_N(\phi\circ\mathcal{F}) \le G\,\hat R_N(\mathcal{F})"
        ),
        judgement=Judgement.TRUE,
        reason="one example after the other; no φ(0) = 0 and no factor 2 without absolute values",
        plain="A Lipschitz loss of one output is no more complex than G times the outputs.",
        compare=bounded_by(lambda i: i.complexity, lambda i: i.bound),
        exact=lambda: {
            "f(x) = 1 or 2, the positive part: equality": _one_sided(),
            "two inputs, φ = |t| and 2 min(t, 0)": Bent(
                linalg.exact([[1, -1], [-1, 2], [0, -2]]), linalg.exact([[-1, 1], [2, 0]])
            ),
        },
        strategy=classes.bent,
        control=Control(
            "the largest slope: replaced by the mean one",
            exact=_one_sided,
            compare=bounded_by(lambda i: i.complexity, lambda i: i.loose),
        ),
        observe=observed_classes.margin_losses,
    ),
    Claim(
        id="T5.R19",
        theorem="marginal",
        statement=(
            r"h_i\ G\text{-Lipschitz on } \mathbb{R}^m:\quad \hat R_N(h\circ\mathcal{F}) \le "
            r"\sqrt2\,G\,\hat R_N^{vec}(\mathcal{F}),\quad "
            r"\hat R_N^{vec}=E\sup_f\tfrac1N\textstyle\sum_{ij}S_{ij}f_j(x_i)"
        ),
        judgement=Judgement.TRUE,
        reason="Maurer 2016: Khintchine for ‖v(f) − v(f̄)‖; attained by h(v) = (v₁ + v₂)/√2, f = ±(1, 1)",
        plain=(
            "The same for several outputs, such as logits, with √2. For cross-entropy G is √2 as well, so "
            "that its complexity is at most twice that of the logits."
        ),
        compare=lambda i: _bounded(i, i.complexity, i.bound),
        exact=lambda: {
            "f = ±(3, 4)/5, h(v) = (3v₁ + 4v₂)/5: 1 ≤ 4√2/5": _opposite(),
        },
        strategy=classes.pieces,
        control=Control(
            "the √2: dropped",
            exact=_opposite,
            compare=bounded_by(lambda i: i.complexity, lambda i: i.vector),
        ),
        observe=observed_classes.logit_losses,
    ),
    Claim(
        id="T5.R20",
        theorem="marginal",
        statement=(
            r"E[\mathcal{L}(\hat w)-\mathcal{L}_N(\hat w)] \le E\sup(\mathcal{L}-\mathcal{L}_N) \le "
            r"2GB\sqrt{\frac{\mathrm{tr}\,\Sigma}{N}},\quad "
            r"\text{PEFT: } 2GB\sqrt{\frac{\mathrm{tr}(P^T\Sigma P)}{N}},\ P^TP=I"
        ),
        judgement=Judgement.TRUE,
        reason="R17, R18 and R13; the two bounds differ by √(k/d) if Σ is a multiple of I",
        plain=(
            "What (12) and (14) say, with hypotheses: linear classes of norm at most B and a loss of slope "
            "at most G. What counts is tr Σ, the mean square of the inputs; d and k enter only if "
            "all directions have the same variance."
        ),
        compare=bounded_by(lambda i: i.gaps, lambda i: i.bounds),
        exact=lambda: {
            "five unit vectors, N = 1": basis_vectors(5, 2),
            "two unit vectors, N = 2, PEFT on the first": basis_vectors(2, 1, 2),
        },
        strategy=slow.slow,
        control=Control(
            "the traces: replaced by the largest E x_j², as if one direction were enough",
            exact=lambda: basis_vectors(5, 2),
            compare=bounded_by(lambda i: i.gaps, lambda i: i.narrow),
        ),
    ),
    Claim(
        id="T5.R21",
        theorem="marginal",
        statement=(
            r"\frac{\hat R_N\{J\,Dg\,v\}}{\hat R_N\{J v\}} = \sqrt{\frac{\mathrm{rank}\,Dg(\Phi)}{d}} "
            r"\text{ to within 10 \%, on networks linearised at } \theta"
        ),
        judgement=Judgement.EMPIRICAL,
        reason="true of isotropic derivatives; what is certain is R14, with the shares of tr JJᵀ",
        plain=(
            "How much less a method's linearised network can fit by chance. Redundant parameters do not "
            "count. Whether the root of rank/d predicts the ratio is looked at, trained and at the start: "
            "mostly not, since layers differ in size. The root of the traces does, within √2 always (R14)."
        ),
        compare=_by_rank,
        exact=lambda: {
            "Gaussian features, rank 32 of 256, k = 64": planted(0.0),
            "the same with other features": planted(0.0, seed=1),
        },
        control=Control(
            "equal columns: replaced by ones that fall like 1/√j, the method on the largest",
            exact=lambda: planted(0.5),
        ),
        observe=observed_complexity.tangent_ratios,
    ),
    Claim(
        id="T5.R25",
        theorem="marginal",
        statement=(
            r"0\le\ell\le c,\ \text{with probability } 1-\delta:\ "
            r"\mathcal{L}\le\mathcal{L}_N+2R_N+c\sqrt{\tfrac{\ln(1/\delta)}{2N}},\quad "
            r"\mathcal{L}\le\mathcal{L}_N+2\hat R_N+3c\sqrt{\tfrac{\ln(2/\delta)}{2N}},\quad "
            r"\mathcal{L}(\hat f)\le\mathcal{L}^*+2R_N+c\sqrt{\tfrac{2\ln(2/\delta)}{N}}"
        ),
        judgement=Judgement.TRUE,
        reason="McDiarmid on top of R17; the probabilities are summed exactly on small problems",
        plain=(
            "Bounds of generalisation with every constant and a stated confidence, for classes that were "
            "fixed before the data and losses in [0, c]. On the last layer of a network, with a few hundred "
            "examples, they hold with much room to spare, and often say nothing; the record tells."
        ),
        compare=lambda i: _bounded(i, i.measured, i.bounds),
        exact=lambda: {
            "all labellings of four points, N = 2, δ = 1/2": _labellings(),
            "three points, three hypotheses": _all_but_one(3),
        },
        strategy=classes.losses,
        control=Control(
            "the complexity: dropped",
            exact=_labellings,
            compare=relation(lambda i: i.bare_chances, "<=", lambda i: i.bounds),
        ),
        observe=observed_classes.last_layers,
    ),
)
