r"""Where the benefit of rank, and of tuned layers, ends on trained networks: T3.R19 and T3.R20."""

from __future__ import annotations

import numpy as np

from ..claims import Claim, Comparison, Control, Judgement
from . import observed_sweeps as observed
from .instances.observations import PlateauAt
from .plateau import plateau

RANKS = (1, 2, 4, 8)


def _begins_by(i: PlateauAt) -> Comparison:
    """ρ ≤ predicted, with the interval as error: between two whole numbers, so that ends are no ties."""
    low, high = i.interval
    return Comparison(
        (low + high) / 2, "<=", i.predicted + 0.5, extra=(high - low) / 2, statistics=i.statistics
    )


def _planted(begins: int, predicted: int) -> PlateauAt:
    """Losses of five seeds that fall until a rank, and stay."""
    rng = np.random.default_rng(begins)
    ranks = np.array(RANKS)
    losses = np.where(ranks < begins, 1 - ranks / (2 * begins), 0.2)[:, None] + 0.005 * rng.normal(
        size=(4, 5)
    )
    return observed.plateau_at(plateau(RANKS, losses, 2.0), predicted)


CLAIMS = (
    Claim(
        id="T3.R19",
        theorem="diminishing",
        statement=(
            r"\text{trained LoRA has at least } 95\,\% \text{ of its gain over guessing from rank } "
            r"r_c(\tfrac1{10}\|\Delta W^*\|^2) \text{ on}"
        ),
        judgement=Judgement.EMPIRICAL,
        reason=(
            "the critical rank of the full update predicts truncation; that it predicts training is a guess"
        ),
        plain=(
            "The plateau that T3.b promises, looked at where it matters: LoRA is trained at every rank, and "
            "the beginning of its plateau, with a confidence interval over seeds, is compared with the "
            "critical rank of the full update (all layers at one rank, a tenth of the energy)."
        ),
        compare=_begins_by,
        exact=lambda: {"losses that stay from rank 4 on, r_c = 5": _planted(4, 5)},
        control=Control("the plateau: begins at rank 8, where r_c = 2", exact=lambda: _planted(8, 2)),
        observe=observed.rank_plateaus,
        along="rank",
    ),
    Claim(
        id="T3.R20",
        theorem="diminishing",
        statement=(
            r"\text{fine-tuning the top } k < K \text{ layers has at least } 95\,\% \text{ of the gain of "
            r"all } K"
        ),
        judgement=Judgement.EMPIRICAL,
        reason="the paper's other axis; nothing predicts where it ends",
        plain="The same for the number of layers that are tuned, from the last one down to all.",
        compare=_begins_by,
        exact=lambda: {"losses that stay from 4 layers on, of 8": _planted(4, 7)},
        control=Control("the plateau: none before all layers are tuned", exact=lambda: _planted(8, 7)),
        observe=observed.layer_plateaus,
        along="layers",
    ),
)
