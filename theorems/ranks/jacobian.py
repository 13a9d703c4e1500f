"""The rank of Dg(Φ): block by block, since g couples only some leaves of Φ with some leaves of θ."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ...models import tree
from .free import Products
from .result import Rank, numerical_rank
from .sketch import free_rank

if TYPE_CHECKING:
    from jaxtyping import Array

    from ...models.methods import Phi, Reparameterization

Group = tuple[tuple[str, ...], tuple[str, ...]]
"""Leaves of Φ, and the leaves of θ that they move."""
BUDGET = 2**29
"""Bytes that a dense block may take; what is larger is looked at through products with vectors."""


def jacobian_rank(made: Reparameterization, phi: Phi, *, budget_bytes: int = BUDGET) -> Rank:
    r"""The rank of $Dg(\Phi)$ as a sum over independent blocks.

    Leaves of Φ and of θ that g couples form groups (a layer and its factors, or several layers that share
    one), and Dg is the direct sum of their blocks.  A block within the budget is formed and decomposed, a
    larger one goes to `free_rank`.

    Args:
        made: the map g on a network, float64.
        phi: Φ.
        budget_bytes: of a dense block.

    Returns:
        The sum of the ranks, with the smallest gap; undecided if one block is, a lower bound if one is.

    Raises:
        ValueError: Φ is not float64 or has another structure.
    """
    tree.check_like(phi, made.template, "phi")
    parts = _parts(made, budget_bytes)
    dense = parts.dense(phi)
    found = [
        numerical_rank(np.asarray(dense[index])) if index in dense else _free(made, phi, group)
        for index, group in enumerate(parts.groups)
    ]
    ways = sorted({one.how.split(",")[0] for one in found})
    how = f"{len(found)} block{'s' if len(found) != 1 else ''}: {' and '.join(ways)}"
    if not found:  # Φ moves nothing at all: every block has no rows
        return Rank(0, 0.0, 0.0, (made.d, made.k), how)
    worst = min(found, key=lambda one: (one.rank is not None, one.gap))
    rank = None if any(one.rank is None for one in found) else sum(one.rank for one in found)
    chance = sum(one.failure_probability for one in found)
    partial = any(one.lower_bound for one in found)
    return Rank(rank, worst.above, worst.below, (made.d, made.k), how, chance, partial)


def jacobian_blocks(
    made: Reparameterization, phi: Phi, *, budget_bytes: int = BUDGET
) -> dict[tuple[str, ...], np.ndarray]:
    r"""The independent blocks of $Dg(\Phi)$ as dense matrices.

    Args:
        made: the map g on a network, float64.
        phi: Φ.
        budget_bytes: of a dense block.

    Returns:
        Matrices by the leaves of θ that they move, raveled one after the other in this order.  Leaves that
        g never moves are not there.

    Raises:
        ValueError: Φ has another structure, or a block beyond the budget.
    """
    tree.check_like(phi, made.template, "phi")
    parts = _parts(made, budget_bytes)
    for group in parts.groups:
        if 8 * math.prod(_size(made, group)) > budget_bytes:
            raise ValueError(
                f"budget_bytes: got {budget_bytes}, too few for the block of {', '.join(group[1])}, of shape "
                f"{_size(made, group)}"
            )
    dense = parts.dense(phi)
    # A tree of leaves by path is raveled in the order of the paths.
    return {tuple(sorted(group[1])): np.asarray(dense[i]) for i, group in enumerate(parts.groups)}


def groups(made: Reparameterization) -> list[Group]:
    """The leaves of Φ, and the leaves of θ that they move, split into groups that g does not couple.

    Which leaf moves which is found at a random Φ along random directions: g is analytic near almost every Φ,
    so that a leaf that moves another one anywhere does so there with probability one.
    """
    rng = np.random.default_rng(0)
    flat = tree.paths(made.template)
    phi = {path: rng.normal(size=leaf.shape) for path, leaf in flat.items()}
    moves = jax.jit(
        lambda values, along: jax.jvp(lambda v: made.changes(tree.from_paths(v)), (values,), (along,))[1]
    )
    parts: list[tuple[set[str], set[str]]] = []
    for path in flat:
        along = {p: rng.normal(size=leaf.shape) if p == path else 0 * phi[p] for p, leaf in flat.items()}
        moved = {target for target, change in moves(phi, along).items() if np.any(np.asarray(change))}
        joined = ({path}, moved)
        for part in [part for part in parts if part[1] & moved]:
            parts.remove(part)
            joined = (joined[0] | part[0], joined[1] | part[1])
        if joined[1]:  # a leaf of Φ that moves nothing, such as the scale of a kernel of zeros, has no block
            parts.append(joined)
    return [
        tuple(
            tuple(p for p in order if p in part)
            for part, order in zip(group, (flat, made.paths), strict=True)
        )
        for group in parts
    ]


class _Parts(NamedTuple):
    """The groups of a map, and a compiled function from Φ to the dense blocks of those that fit."""

    groups: list[Group]
    dense: Callable[[Phi], dict[int, Array]]


@functools.lru_cache(maxsize=2)
def _parts(made: Reparameterization, budget: int) -> _Parts:
    """One program for all blocks: compiling each for itself takes longer than running it."""
    found = groups(made)
    small = {index: group for index, group in enumerate(found) if 8 * math.prod(_size(made, group)) <= budget}

    def dense(phi: Phi) -> dict[int, Array]:
        blocks = {}
        for index, group in small.items():
            changes, vector = _restricted(made, phi, group)
            blocks[index] = jax.jacfwd(changes)(vector)
        return blocks

    return _Parts(found, jax.jit(dense))


def _size(made: Reparameterization, group: Group) -> tuple[int, int]:
    """Rows and columns of a block."""
    names, targets = group
    base, template = tree.paths(made.base), tree.paths(made.template)
    return sum(base[path].size for path in targets), sum(template[path].size for path in names)


def _restricted(made: Reparameterization, phi: Phi, group: Group) -> tuple[Callable[[Array], Array], Array]:
    """The changes of a group's leaves of θ as a function of its raveled leaves of Φ, and these."""
    names, targets = group
    flat = tree.paths(phi)
    vector, unravel = ravel_pytree({name: flat[name] for name in names})

    def changes(v: Array) -> Array:
        changed = made.changes(tree.from_paths(flat | unravel(v)))
        return ravel_pytree({target: changed[target] for target in targets})[0]

    return changes, vector


def _free(made: Reparameterization, phi: Phi, group: Group) -> Rank:
    """The rank of a block that is too large to be formed."""
    changes, vector = _restricted(made, jax.tree.map(jnp.asarray, phi), group)
    push = jax.jit(jax.vmap(lambda v: jax.jvp(changes, (vector,), (v,))[1], in_axes=1, out_axes=1))
    pull = jax.jit(jax.vmap(lambda u: jax.vjp(changes, vector)[1](u)[0], in_axes=1, out_axes=1))
    return free_rank(
        Products(_size(made, group), lambda v: np.asarray(push(v)), lambda u: np.asarray(pull(u)))
    )
