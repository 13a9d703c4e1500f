"""Theorem 3, diminishing: what a larger rank of the update still buys.

`spectra` decomposes an update, `critical_rank` and `recommend_rank` say which rank is enough, `truncations`
what each rank costs, and `plateau.of_sweep` from which rank on training gains nothing.  The exact model of
the bias–variance trade-off is `FrozenA`.  `CLAIMS` is what the ledger collects.
"""

from .. import rademacher
from ..rademacher import Ball
from . import (
    claims_learning,
    claims_losses,
    claims_printed,
    claims_spectra,
    claims_sweeps,
    claims_words,
    plateau,
    plots,
    tables,
)
from .critical import CriticalRank, Exponential, Power, critical_rank, joint_critical_rank
from .decay import Decay, DecayFit, DecayVerdict, decay_model
from .erm import ErmBound, erm_bound, trivial_bound
from .frozen_a import BestRank, FrozenA, excess_risk
from .intruder import Intruders, intruders
from .lipschitz import LossLipschitz, loss_lipschitz, segment_change
from .plateau import Found, Plateau
from .recommend import RankRecommendation, recommend_rank
from .segment import SegmentIdentity, SegmentProfile, segment_identity, segment_profile
from .simulation import Simulated, simulate
from .spectrum import LowRank, Spectrum, lora_factors, spectra
from .truncation import Curve, Truncated, Truncations, truncations
from .whitened import Whitened, second_moment, whitened_spectrum, whitened_truncation

__all__ = [
    "CLAIMS",
    "Ball",
    "BestRank",
    "CriticalRank",
    "Curve",
    "Decay",
    "DecayFit",
    "DecayVerdict",
    "ErmBound",
    "Exponential",
    "Found",
    "FrozenA",
    "Intruders",
    "LossLipschitz",
    "LowRank",
    "Plateau",
    "Power",
    "RankRecommendation",
    "SegmentIdentity",
    "SegmentProfile",
    "Simulated",
    "Spectrum",
    "Truncated",
    "Truncations",
    "Whitened",
    "critical_rank",
    "decay_model",
    "erm_bound",
    "excess_risk",
    "intruders",
    "joint_critical_rank",
    "lora_factors",
    "loss_lipschitz",
    "plateau",
    "plots",
    "rademacher",
    "recommend_rank",
    "second_moment",
    "segment_change",
    "segment_identity",
    "segment_profile",
    "simulate",
    "spectra",
    "trivial_bound",
    "truncations",
    "whitened_spectrum",
    "whitened_truncation",
]

TITLE = "Theorem 3 (diminishing): what does a larger rank still buy?"
TABLES = (tables.spectrum_table, tables.plateau_table)
CLAIMS = (
    *claims_printed.CLAIMS,
    *claims_words.CLAIMS,
    *claims_spectra.CLAIMS,
    *claims_losses.CLAIMS,
    *claims_learning.CLAIMS,
    *claims_sweeps.CLAIMS,
)
