"""Repairs of Theorem 2, second part: what rank and parameter counts do, and do not, limit."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import sympy
from hypothesis import strategies as st

from .. import linalg
from ..claims import Claim, Comparison, Control, Judgement
from . import observed, rank, strategies
from .feedforward import FeedForward, chain
from .observed import Factors


def _same_outputs(twin: Callable[[FeedForward], FeedForward]) -> Callable[[FeedForward], Comparison]:
    def compare(pair: FeedForward) -> Comparison:
        moved = linalg.norm(twin(pair).tuned[-1] - pair.tuned[-1])
        return Comparison(moved, "==", moved * 0, scale=pair.scale, operations=8 * pair.operations)

    return compare


def _base_twin(pair: FeedForward) -> FeedForward:
    """Project on the span of the *base* activations: the plausible mistake."""
    projected = [u @ rank.projector(x) for u, x in zip(pair.updates, pair.base, strict=False)]
    return pair.with_updates(projected)


def _twin_norms(pair: FeedForward) -> Comparison:
    """Norms not larger, and ranks at most p, layer by layer (ranks are held against p + ½)."""
    twin = rank.low_rank_twin(pair)
    ranks = [_rank(u) for u in twin.updates]
    limit = len(pair.x) + Fraction(1, 2)
    if pair.is_exact:
        lhs = np.array([*twin.update_norms, *map(Fraction, ranks)], dtype=object)
        return Comparison(lhs, "<=", np.array([*pair.update_norms, *[limit] * pair.depth], dtype=object))
    norms = np.array(pair.update_norms)
    rhs = np.concatenate(
        [norms * (1 + linalg.gamma(64 * pair.operations)), np.full(pair.depth, float(limit))]
    )
    scale = np.concatenate([norms, np.zeros(pair.depth)])
    return Comparison(
        np.array([*twin.update_norms, *ranks]), "<=", rhs, scale, operations=16 * pair.operations
    )


def _rank(update: np.ndarray) -> int:
    if linalg.is_exact(update):
        return int(sympy.Matrix(update.tolist()).rank())
    return int(np.linalg.matrix_rank(update))


def _oblique_norms(pair: FeedForward) -> Comparison:
    """An oblique projector in place of the orthogonal one."""
    lhs = [linalg.spectral_norm(u @ linalg.exact([[1, 2], [0, 0]])) for u in pair.updates]
    return Comparison(np.array(lhs, dtype=object), "<=", np.array(pair.update_norms, dtype=object))


def _entry_count(share: object) -> Callable[[FeedForward], Comparison]:
    def compare(pair: FeedForward) -> Comparison:
        lhs = np.array(pair.update_norms)
        rhs = np.array([rank.entry_count_bound(u) for u in pair.updates]) * share
        operations = 64 + 4 * max(u.size for u in pair.updates)
        if not pair.is_exact:  # the norm on the left is itself an upper estimate: allow for its own excess
            rhs = rhs * (1 + 4 * linalg.gamma(operations * max(max(u.shape) for u in pair.updates)))
        return Comparison(lhs, "<=", rhs, operations=operations)

    return compare


def _factor_box(share: Callable[[Factors], object]) -> Callable[[Factors], Comparison]:
    def compare(factors: Factors) -> Comparison:
        bound = rank.factor_box_bound(factors.B, factors.A) * share(factors)
        if not linalg.is_exact(factors.B):
            bound *= 1 + linalg.gamma(64 * (sum(factors.B.shape) + sum(factors.A.shape)) ** 2)
        return Comparison(factors.product_norm(), "<=", bound, operations=64)

    return compare


@st.composite
def _factors(draw: st.DrawFn) -> Factors:
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    r, constant = draw(st.integers(1, min(m, n))), draw(st.booleans())
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    if constant:
        return Factors(
            *(linalg.exact(np.full(s, draw(st.integers(1, 3))).tolist()) for s in ((m, r), (r, n))),
            "constant",
        )
    return Factors(rng.normal(size=(m, r)), rng.normal(size=(r, n)), "gaussian")


TRUE = Judgement.TRUE

CLAIMS = (
    Claim(
        id="T2.R8",
        theorem="capacity",
        judgement=TRUE,
        statement=(
            r"\forall \Phi\ \exists \Phi',\ \mathrm{rank}\,\Phi'_k \le p:\ f_{W+\Phi'}(x_i) = "
            r"f_{W+\Phi}(x_i),\ i = 1..p"
        ),
        reason="(R′) project each update on the span of the p tuned inputs of its layer",
        plain=(
            "Rank does not limit what happens at a given input: a rank-one update reproduces the fully "
            "tuned output there."
        ),
        compare=_same_outputs(rank.low_rank_twin),
        exact=lambda: {
            "2x2, relu": chain([[[1, 2], [-1, 1]], [[1, 1]]], [[[1, 0], [2, 1]], [[3, -1]]], [[1, 2]])
        },
        strategy=lambda: (
            strategies.integer_chains(widths=(1, 3), samples=(1, 2)),
            strategies.float_chains(),
        ),
        control=Control(
            "project on the span of the base inputs",
            compare=_same_outputs(_base_twin),
            exact=lambda: chain(
                [1, [[1], [1]], [[1, 1]]], [0, [[0], [1]], [[0, 1]]], 1, activations="identity"
            ),
        ),
        observe=observed.one_input,
    ),
    Claim(
        id="T2.R9",
        theorem="capacity",
        judgement=TRUE,
        statement=r"\|\Phi_k \Pi_k\|_2 \le \|\Phi_k\|_2,\quad \mathrm{rank}\,\Phi_k\Pi_k \le p",
        reason="an orthogonal projector is a contraction; its range is spanned by p inputs",
        plain=(
            "The rank-limited update of R8 is no longer than the update it replaces, so norm budgets "
            "cannot tell them apart."
        ),
        compare=_twin_norms,
        exact=lambda: {
            "2x2": chain([[[1, 2], [-1, 1]]], [[[1, 0], [2, 1]]], [[1, 2]], activations="identity")
        },
        strategy=lambda: (
            strategies.integer_chains(widths=(1, 3), samples=(1, 2)),
            strategies.float_chains(),
        ),
        control=Control(
            "an oblique projector",
            compare=_oblique_norms,
            exact=lambda: chain([[[1, 0], [0, 1]]], [[[1, 0], [0, 0]]], [[1, 0]], activations="identity"),
            strategy=lambda: strategies.integer_chains(
                depths=(1, 1), widths=(2, 2), update_entries=strategies.nonzero
            ),
        ),
        observe=observed.one_input,
    ),
    Claim(
        id="T2.R10",
        theorem="capacity",
        judgement=TRUE,
        statement=(
            r"|\Phi_{ij}| \le c \text{ on } s \text{ trainable entries} \Rightarrow \|\Phi\|_2 \le "
            r"c\sqrt{s}"
        ),
        reason="(R″) spectral norm ≤ Frobenius norm; attained by a full rectangle of equal entries",
        plain="A parameter count does limit the deviation if each entry has a budget of its own.",
        compare=_entry_count(1),
        exact=lambda: {"2x2 of ones: attained": chain([[[1, 0], [0, 1]]], [[[1, 1], [1, 1]]], [[1, 1]])},
        strategy=strategies.chains,
        control=Control(
            "0.7 c√s",
            exact=lambda: chain([[[1, 0], [0, 1]]], [[[1, 1], [1, 1]]], [[1, 1]]),
            compare=_entry_count(Fraction(7, 10)),
            strategy=lambda: strategies.integer_chains(update_entries=strategies.nonzero),
        ),
        observe=observed.matrices,
    ),
    Claim(
        id="T2.R11",
        theorem="capacity",
        judgement=TRUE,
        statement=r"|B_{ij}|, |A_{ij}| \le c \Rightarrow \|BA\|_2 \le r c^2\sqrt{mn}",
        reason="(R″) for LoRA: entries of BA are at most r c²; attained by constant factors",
        plain="The entrywise version for LoRA: the rank enters linearly if the factors' entries are bounded.",
        compare=_factor_box(lambda _f: 1),
        exact=lambda: {
            "ones, 4x2 and 2x6: attained": Factors(linalg.exact([[1] * 2] * 4), linalg.exact([[1] * 6] * 2))
        },
        strategy=_factors,
        control=Control(
            "without the factor r",
            compare=_factor_box(
                lambda f: Fraction(1, f.A.shape[0]) if linalg.is_exact(f.A) else 1 / f.A.shape[0]
            ),
            exact=lambda: Factors(linalg.exact([[1] * 2] * 4), linalg.exact([[1] * 6] * 2)),
        ),
        observe=observed.lora_factors,
    ),
)
