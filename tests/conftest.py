"""The settings of `theorems/conftest.py`, and annotations that are checked."""

from jaxtyping import install_import_hook

# Shapes in annotations are promises; outside of the tests nobody pays for checking them.
CHECKED = ("activations", "tree", "network", "mlp", "transformer", "methods")
with install_import_hook([f"peftproof.models.{module}" for module in CHECKED], "beartype.beartype"):
    from peftproof.theorems.conftest import pytest_configure, pytest_unconfigure

__all__ = ["pytest_configure", "pytest_unconfigure"]
