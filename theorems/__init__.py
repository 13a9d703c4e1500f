"""The five theorems, and what they share: claims, search, exact arithmetic, reports.

>>> from peftproof.theorems import falsify, ledger
>>> falsify(ledger()["T2.6"]).outcome
<Outcome.FAILS: 'FAILS'>
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "Claim": "claims",
    "Comparison": "claims",
    "Evidence": "claims",
    "Judgement": "claims",
    "Outcome": "claims",
    "Source": "claims",
    "exact": "linalg",
    "falsify": "search",
    "ledger": "ledger",
    "observed_evidence": "verify",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Import names on first use, so that the command line answers before sympy and JAX are loaded."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
