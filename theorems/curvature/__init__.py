"""Curvature of a loss: products, spectra with proved intervals, solves with certificates."""

from .definite import Definiteness, definiteness
from .density import SpectralDensity, Trace, spectral_density, trace
from .eigen import Eigenpairs, eigenpairs
from .forms import PseudoForm, quadratic_form
from .network import gauss_newton, hessian, of_loss
from .operator import BUDGET, Curvature, of_function, of_matrix
from .pulled import PulledBack, pulled_back
from .solving import Solution, solve

__all__ = [
    "BUDGET",
    "Curvature",
    "Definiteness",
    "Eigenpairs",
    "PseudoForm",
    "PulledBack",
    "Solution",
    "SpectralDensity",
    "Trace",
    "definiteness",
    "eigenpairs",
    "gauss_newton",
    "hessian",
    "of_function",
    "of_loss",
    "of_matrix",
    "pulled_back",
    "quadratic_form",
    "solve",
    "spectral_density",
    "trace",
]
