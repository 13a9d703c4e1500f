"""Theorem 2, capacity: how far fine-tuning can move the output of a network.

`certify` bounds what a fine-tuning did, `attack` finds out what updates of given norms could do, and the
modules `bounds`, `rank`, `identity` and `transformer` hold the mathematics.  `CLAIMS` is what the ledger
collects.
"""

from . import (
    bounds,
    claims_bounds,
    claims_layers,
    claims_printed,
    claims_rank,
    claims_transformer,
    plots,
    tables,
)
from .attack import Attack, attack, budgets_of
from .certify import Certificate, certify
from .feedforward import FeedForward, chain
from .observed import pair_of

__all__ = [
    "CLAIMS",
    "Attack",
    "Certificate",
    "FeedForward",
    "attack",
    "bounds",
    "budgets_of",
    "certify",
    "chain",
    "pair_of",
    "plots",
]

TITLE = "Theorem 2 (capacity): how far can fine-tuning move the output?"
TABLES = (tables.slack_table, tables.layer_table)
CLAIMS = (
    *claims_printed.CLAIMS,
    *claims_bounds.CLAIMS,
    *claims_rank.CLAIMS,
    *claims_layers.CLAIMS,
    *claims_transformer.CLAIMS,
)
