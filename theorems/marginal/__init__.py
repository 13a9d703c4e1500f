"""Theorem 5, marginal: what a further example is worth to full and to parameter-efficient fine-tuning.

`GaussianRegression` and `Ridgeless` are the models in which everything is known exactly, `simulate` draws
from them.  `fit_curve`, `gains` and `crossover` read measured learning curves, and `predict_crossover` says
where full fine-tuning will overtake.  `CLAIMS` is what the ledger collects.
"""

from . import (
    claims_complexity,
    claims_curves,
    claims_draws,
    claims_gaussian,
    claims_printed,
    claims_words,
    plots,
    plots_model,
    tables,
)
from .bounds import Bound, clipped_cross_entropy, minimiser_bound, slow_rate, uniform_bound
from .crossover import Crossing, Crossover, crossover
from .fits import CurveFit, PowerLaw, Shape, fit_curve
from .fixed_design import FixedDesign, fixed_design
from .gains import Gains, gains
from .gaussian import GaussianRegression, misspecification
from .least_squares import LeastSquares
from .prediction import Prediction, predict_crossover
from .ridgeless import Ridgeless
from .simulation import Problem, Simulated, simulate, simulate_ridgeless

__all__ = [
    "CLAIMS",
    "Bound",
    "Crossing",
    "Crossover",
    "CurveFit",
    "FixedDesign",
    "Gains",
    "GaussianRegression",
    "LeastSquares",
    "PowerLaw",
    "Prediction",
    "Problem",
    "Ridgeless",
    "Shape",
    "Simulated",
    "clipped_cross_entropy",
    "crossover",
    "fit_curve",
    "fixed_design",
    "gains",
    "minimiser_bound",
    "misspecification",
    "plots",
    "plots_model",
    "predict_crossover",
    "simulate",
    "simulate_ridgeless",
    "slow_rate",
    "uniform_bound",
]

TITLE = "Theorem 5 (marginal): what is a further example worth?"
TABLES = (tables.curve_table, tables.gain_table, tables.crossover_table)
CLAIMS = (
    *claims_printed.CLAIMS,
    *claims_words.CLAIMS,
    *claims_draws.CLAIMS,
    *claims_gaussian.CLAIMS,
    *claims_complexity.CLAIMS,
    *claims_curves.CLAIMS,
)
