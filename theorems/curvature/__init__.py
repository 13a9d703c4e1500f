"""Curvature of a loss: products, spectra with proved intervals, solves with certificates."""
