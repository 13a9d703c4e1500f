"""Theorem 1, subset: which updates and which functions a method can reach.

`describe` says what a method is on a network, `distances` how far an update is from what it reaches, and
`verdict` whether its functions are fewer than those of full fine-tuning, with a certificate.  `CLAIMS` is
what the ledger collects.
"""

from . import claims_functions, claims_images, claims_printed, plots, tables
from .describe import Description, describe
from .distance import Distances, distances
from .verdict import Relation, SubsetVerdict, verdict

__all__ = [
    "CLAIMS",
    "Description",
    "Distances",
    "Relation",
    "SubsetVerdict",
    "describe",
    "distances",
    "plots",
    "verdict",
]

TITLE = "Theorem 1 (subset): what can a method reach?"
TABLES = (tables.image_table,)
CLAIMS = (*claims_printed.CLAIMS, *claims_images.CLAIMS, *claims_functions.CLAIMS)
