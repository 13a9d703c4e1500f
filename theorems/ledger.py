"""The ledger: every claim of every theorem, by id."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

from .claims import Claim

THEOREMS = ("subset", "capacity", "diminishing", "sensitivity", "marginal")


class Ledger:
    """All claims, in the order of their theorems.

    Raises:
        ValueError: two claims with one id, or a repair that names no claim.
    """

    def __init__(self, claims: tuple[Claim, ...]) -> None:
        self._claims = {claim.id: claim for claim in claims}
        if len(self._claims) != len(claims):
            ids = [claim.id for claim in claims]
            raise ValueError(
                f"ids must be unique, but these repeat: {sorted({i for i in ids if ids.count(i) > 1})}"
            )
        for claim in claims:
            unknown = [i for i in claim.repaired_by if i not in self._claims]
            if unknown:
                raise ValueError(
                    f"{claim.id} is said to be repaired by {unknown}, which the ledger does not hold"
                )

    def __getitem__(self, claim_id: str) -> Claim:
        """Return the claim of an id, whatever its case."""
        for known, claim in self._claims.items():
            if known.lower() == claim_id.lower():
                return claim
        raise ValueError(
            f"no claim {claim_id!r}: 'peftproof claims' lists them ({', '.join(list(self._claims)[:4])}, ...)"
        )

    def __iter__(self) -> Iterator[Claim]:
        """Iterate over the claims."""
        return iter(self._claims.values())

    def __len__(self) -> int:
        """Return how many claims there are."""
        return len(self._claims)

    def of(self, theorem: str) -> tuple[Claim, ...]:
        """Return the claims of one theorem."""
        return tuple(claim for claim in self if claim.theorem == theorem)

    def __repr__(self) -> str:
        """Show the counts."""
        return f"Ledger({len(self)} claims: {', '.join(f'{t} {len(self.of(t))}' for t in THEOREMS)})"


def ledger(*theorems: str) -> Ledger:
    """Collect the claims of the theorems named, of all without a name.

    Raises:
        ValueError: an unknown theorem.
    """
    unknown = set(theorems) - set(THEOREMS)
    if unknown:
        raise ValueError(f"unknown theorems {sorted(unknown)}: there are {', '.join(THEOREMS)}")
    claims = [c for name in theorems or THEOREMS for c in import_module(f".{name}", __package__).CLAIMS]
    return Ledger(tuple(sorted(claims, key=_order)))


def _order(claim: Claim) -> tuple:
    """Equations by number, then claims in words, then repairs by number."""
    prefix, _, rest = claim.id.partition(".")
    number = re.match(r"(R?)(\d+)(\w*)$", rest)
    if number is None:
        return (prefix, 1, 0, rest)
    return (prefix, 2 if number[1] else 0, int(number[2]), number[3])
