"""Ranks with what justifies them: exact, numerical with a gap, and of maps too large to form."""

from .exact import exact_functional_rank
from .free import Products, products_rank
from .functional import (
    enough,
    functional_dimension,
    functional_jacobian,
    functional_rank,
    tangent_jacobian,
    tangent_rank,
)
from .jacobian import groups, jacobian_blocks, jacobian_rank
from .modular import PRIMES, modular_rank
from .parts import singular_values
from .result import GAP, Rank, at_least, from_values, numerical_rank, rank_at_least
from .sketch import free_rank, sketched_rank

__all__ = [
    "GAP",
    "PRIMES",
    "Products",
    "Rank",
    "at_least",
    "enough",
    "exact_functional_rank",
    "free_rank",
    "from_values",
    "functional_dimension",
    "functional_jacobian",
    "functional_rank",
    "groups",
    "jacobian_blocks",
    "jacobian_rank",
    "modular_rank",
    "numerical_rank",
    "products_rank",
    "rank_at_least",
    "singular_values",
    "sketched_rank",
    "tangent_jacobian",
    "tangent_rank",
]
