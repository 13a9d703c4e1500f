"""Theorem 4, sensitivity: what a disturbance of the data costs, and how much of it a method can take back.

`residual_gap` is what re-adaptation leaves to PEFT and not to full fine-tuning, `clean_damage` what it costs
on the clean data.  `readapt` re-trains networks on ever more disturbed data beside that prediction,
`robustness` measures frozen ones, and `spread` the increments of the parameters.  `CLAIMS` is what the ledger
collects.
"""

from . import (
    claims_convex,
    claims_forms,
    claims_gap,
    claims_laws,
    claims_path,
    claims_printed,
    claims_printed_difference,
    claims_printed_squares,
    claims_robustness,
    claims_slips,
    claims_words,
    plots,
    plots_numerics,
    plots_spread,
    tables,
)
from .forms import Corrected57, corrected_57, dual_gap, gauss_newton_gap
from .frozen import Frozen, Robustness, robustness
from .gap import ResidualGap, residual_gap
from .laws import CleanDamage, DistanceBounds, GapLaw, clean_damage, distance_bounds, gap_law, kantorovich
from .readaptation import (
    OwnOptimum,
    OwnReadaptation,
    Readaptation,
    Readaptations,
    own_optimum,
    readapt,
)
from .spread import Spread, spread, spreads

__all__ = [
    "CLAIMS",
    "CleanDamage",
    "Corrected57",
    "DistanceBounds",
    "Frozen",
    "GapLaw",
    "OwnOptimum",
    "OwnReadaptation",
    "Readaptation",
    "Readaptations",
    "ResidualGap",
    "Robustness",
    "Spread",
    "clean_damage",
    "corrected_57",
    "distance_bounds",
    "dual_gap",
    "gap_law",
    "gauss_newton_gap",
    "kantorovich",
    "own_optimum",
    "plots",
    "plots_numerics",
    "plots_spread",
    "readapt",
    "residual_gap",
    "robustness",
    "spread",
    "spreads",
]

TITLE = "Theorem 4 (sensitivity): what does a disturbance cost, and whom?"
TABLES = (tables.readaptation_table, tables.forms_table, tables.own_table)
CLAIMS = (
    *claims_printed.CLAIMS,
    *claims_printed_difference.CLAIMS,
    *claims_printed_squares.CLAIMS,
    *claims_words.CLAIMS,
    *claims_gap.CLAIMS,
    *claims_forms.CLAIMS,
    *claims_slips.CLAIMS,
    *claims_laws.CLAIMS,
    *claims_convex.CLAIMS,
    *claims_path.CLAIMS,
    *claims_robustness.CLAIMS,
)
