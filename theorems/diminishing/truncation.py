"""Loss and accuracy of W₀ + truncated update at every rank, jointly and layer by layer, in one program.

Which singular values are kept is data, a table of ranks with a row for each evaluation and a column for each
layer.  One compiled function walks through its rows (`jax.lax.map`), so memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from ...models import tree
from ...models.methods.targets import Patterns, matrices
from ...models.network import Network
from ...models.tasks import PARTS, Splits
from ...models.training import hashable
from .. import linalg

Values = Mapping[str, Float[np.ndarray, " V"]]


@dataclass(frozen=True, eq=False)
class Curve:
    """Loss and accuracy against rank.

    Attributes:
        ranks: shape (V,).
        loss: mean cross-entropy in nats at each rank, by split.
        accuracy: share of the examples classified rightly, by split.
    """

    ranks: Int[np.ndarray, " V"]
    loss: Values
    accuracy: Values


@dataclass(frozen=True, eq=False, repr=False)
class Truncations:
    r"""What is left of an update's benefit when its layers are truncated to rank r.

    Attributes:
        joint: all layers truncated to rank r, r = 0 … R, R the largest min(in, out) of a layer.
        layers: for each layer only that one truncated, r = 0 … min(in, out), the others whole; empty unless
            asked for.
        base: loss and accuracy of θ₀, by split: `{"train_loss": ..., ...}`.
        tuned: those of θ₀ + Δθ, nothing truncated or left out.
        others: "tuned" or "base": where the leaves that are not truncated stay.
    """

    joint: Curve
    layers: Mapping[str, Curve]
    base: Mapping[str, float]
    tuned: Mapping[str, float]
    others: str

    def __repr__(self) -> str:
        """Show the ends."""
        loss = self.joint.loss["test"] if "test" in self.joint.loss else next(iter(self.joint.loss.values()))
        return (
            f"Truncations(ranks 0 to {self.joint.ranks[-1]}, {len(self.layers)} single layers, "
            f"others={self.others!r}, loss {loss[0]:.3g} to {loss[-1]:.3g})"
        )


def truncations(
    network: Network,
    splits: Splits,
    update: tree.Params,
    *,
    targets: Patterns = "*kernel",
    others: Literal["tuned", "base"] = "tuned",
    per_layer: bool = False,
    parts: Sequence[str] = PARTS,
    at_once: int | None = None,
) -> Truncations:
    r"""Loss and accuracy of $W_0 + \sum_{i \le r} \sigma_i u_i v_i^T$ for every rank r.

    The update of each target is decomposed once; whatever it is an update of, the network is evaluated in
    full, so these are measured values and no bounds.

    Args:
        network: f and θ₀, float64.
        splits: the examples.
        update: Δθ, a tree like θ, such as `FineTuning.delta` of full fine-tuning.
        targets: the leaves that are truncated, all of them matrices.
        others: what the other leaves of θ are (biases, norms, embeddings): "tuned", θ₀ + Δθ at every rank, so
            that rank 0 is not the base network; or "base", θ₀, so that it is, and the largest rank is not the
            tuned network.
        per_layer: also truncate each layer alone, the others whole.
        parts: which splits.
        at_once: evaluations side by side; one by default on a CPU and eight elsewhere.

    Raises:
        ValueError: anything but float64, an update of another structure, targets that match nothing or no
            matrix, an unknown split or value of `others`.

    Source: Eckart and Young 1936 for the truncation; the paper's (32).
    """
    if others not in ("tuned", "base"):
        raise ValueError(f"others: got {others!r}, needs 'tuned' or 'base'")
    found = Truncated.of(network, splits, update, targets=targets, parts=parts)
    sizes = found.sizes
    whole = np.array(list(sizes.values()))
    # The base and the tuned network are the first two rows, so that all of it is one call.
    ends = np.stack([0 * whole, whole])
    tables = [ends, np.tile(np.arange(whole.max() + 1)[:, None], (1, len(whole)))]
    for column, size in enumerate(whole if per_layer else ()):
        table = np.tile(whole, (size + 1, 1))
        table[:, column] = np.arange(size + 1)
        tables.append(table)
    table = np.concatenate(tables)
    tuned = np.full(len(table), others == "tuned")
    tuned[:2] = False, True
    loss, accuracy = found.evaluate(table, tuned, at_once)
    cuts = np.cumsum([len(table) for table in tables])[:-1]
    _, *curves = map(_curve(found.parts), np.split(loss, cuts), np.split(accuracy, cuts))
    layers = dict(zip(sizes, curves[1:], strict=True)) if per_layer else {}
    base, tuned = (_scores(found.parts, loss[row], accuracy[row]) for row in (0, 1))
    return Truncations(curves[0], layers, base, tuned, others)


def _curve(parts: tuple[str, ...]) -> Callable[[np.ndarray, np.ndarray], Curve]:
    def of(loss: np.ndarray, accuracy: np.ndarray) -> Curve:
        by_part = ({part: values[:, i] for i, part in enumerate(parts)} for values in (loss, accuracy))
        return Curve(np.arange(len(loss)), *by_part)

    return of


def _scores(parts: tuple[str, ...], loss: np.ndarray, accuracy: np.ndarray) -> dict[str, float]:
    named = (("loss", loss), ("accuracy", accuracy))
    return {f"{part}_{name}": float(row[i]) for name, row in named for i, part in enumerate(parts)}


@dataclass(frozen=True, eq=False, repr=False)
class Truncated:
    """An update in its singular value decomposition, ready to be evaluated at any ranks of its layers.

    Attributes:
        apply: f.
        base: θ₀.
        moved: the updates of the leaves that are not targets, by path.
        factors: (U, σ, Vᵀ) of each target, by path.
        x: inputs of all splits, one after the other.
        y: their labels.
        share: shape (parts, p): what each example counts in the mean of each split.
        parts: the splits.
    """

    apply: Callable
    base: tree.Params
    moved: Mapping[str, np.ndarray]
    factors: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    x: Float[np.ndarray, "p ..."]
    y: Int[np.ndarray, " p"]
    share: Float[np.ndarray, "parts p"]
    parts: tuple[str, ...]

    @classmethod
    def of(
        cls,
        network: Network,
        splits: Splits,
        update: tree.Params,
        *,
        targets: Patterns = "*kernel",
        parts: Sequence[str] = PARTS,
    ) -> Truncated:
        """Decompose the targets of an update, as `truncations` explains it."""
        if unknown := [part for part in parts if part not in PARTS] or not parts:
            raise ValueError(f"parts: got {unknown or parts}, needs some of {', '.join(PARTS)}")
        tree.check_like(update, network.params, "update")
        changes = {path: np.asarray(leaf) for path, leaf in tree.paths(update).items()}
        for path, leaf in changes.items():
            linalg.require_judging_precision(f"update, {path!r}", leaf)
        linalg.require_judging_precision("network", *map(np.asarray, jax.tree.leaves(network.params)))
        paths = tuple(matrices(network, targets))
        chosen = [getattr(splits, part) for part in parts]
        lengths = np.array([len(split) for split in chosen])
        return cls(
            apply=hashable(network.apply),
            base=network.params,
            moved={path: leaf for path, leaf in changes.items() if path not in paths},
            factors={path: np.linalg.svd(changes[path], full_matrices=False) for path in paths},
            x=np.concatenate([split.x for split in chosen]),
            y=np.concatenate([split.y for split in chosen]),
            share=np.repeat(np.diag(1 / lengths), lengths, axis=1),
            parts=tuple(parts),
        )

    @property
    def sizes(self) -> dict[str, int]:
        """The largest rank of each target, min(in, out), by path in the order of the tables' columns."""
        return {path: len(s) for path, (_, s, _) in self.factors.items()}

    def evaluate(
        self,
        table: Int[np.ndarray, "V layers"],
        tuned: bool | Bool[np.ndarray, " V"] = True,
        at_once: int | None = None,
    ) -> tuple[Float[np.ndarray, "V parts"], Float[np.ndarray, "V parts"]]:
        """Losses and accuracies at the ranks of each row, for instance an allocation of a budget to layers.

        Args:
            table: a rank for each target, in the order of `sizes`; ranks above min(in, out) are whole.
            tuned: whether the leaves that are no targets are at their tuned value or at θ₀, in each row.
            at_once: evaluations side by side; one by default on a CPU and eight elsewhere.

        Raises:
            ValueError: a table of another shape, or with entries that are no ranks.
        """
        table = np.asarray(table)
        if table.ndim != 2 or table.shape[1] != len(self.sizes) or not len(table):
            raise ValueError(f"table: got shape {table.shape}, needs (V, {len(self.sizes)}), V at least 1")
        if at_once is not None and at_once < 1:
            raise ValueError(f"at_once: got {at_once}, needs a positive number or None")
        if not np.issubdtype(table.dtype, np.integer) or table.min() < 0:
            raise ValueError("table: needs ranks, whole numbers from 0 on")
        size = (1 if jax.default_backend() == "cpu" else 8) if at_once is None else at_once
        rows = table, np.broadcast_to(np.asarray(tuned, bool), len(table))
        # Filled up to a multiple: a remainder would be compiled as a second loop, with a body of its own.
        rows = tuple(
            np.pad(one, ((0, -len(one) % size), *[(0, 0)] * (one.ndim - 1)), mode="edge") for one in rows
        )
        data = self.x, self.y, self.share
        found = _sweep(self.apply, size, self.base, dict(self.moved), dict(self.factors), rows, data)
        return tuple(np.asarray(one)[: len(table)] for one in found)


Data = tuple[Float[Array, "p ..."], Int[Array, " p"], Float[Array, "parts p"]]


def _measured(apply: Callable, params: tree.Params, data: Data) -> tuple[Array, Array]:
    x, y, share = data
    logits = apply(params, x)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    right = logits.argmax(axis=1).astype(y.dtype) == y
    return share @ losses, share @ right.astype(share.dtype)


@partial(jax.jit, static_argnums=(0, 1))
def _sweep(
    apply: Callable,
    at_once: int,
    base: tree.Params,
    moved: dict[str, Array],
    factors: dict[str, tuple[Array, Array, Array]],
    rows: tuple[Int[Array, "V layers"], Bool[Array, " V"]],
    data: Data,
) -> tuple[Float[Array, "V parts"], Float[Array, "V parts"]]:
    def one(row: tuple[Int[Array, " layers"], Bool[Array, ""]]) -> tuple[Array, Array]:
        (ranks, tuned), leaves = row, dict(tree.paths(base))
        for path, change in moved.items():
            leaves[path] = leaves[path] + jnp.where(tuned, change, jnp.zeros_like(change))
        for index, (path, (u, s, vt)) in enumerate(factors.items()):
            kept = jnp.where(jnp.arange(len(s), dtype=ranks.dtype) < ranks[index], s, jnp.zeros_like(s))
            leaves[path] = leaves[path] + (u * kept[None, :]) @ vt
        return _measured(apply, tree.from_paths(leaves), data)

    return jax.lax.map(one, rows, batch_size=at_once if at_once > 1 else None)


def naive(
    network: Network,
    splits: Splits,
    update: tree.Params,
    ranks: Mapping[str, int],
    others: str = "tuned",
    part: str = "test",
) -> tuple[float, float]:
    """Loss and accuracy at given ranks of some leaves, by definition: the oracle of the tests and benchmark.

    Forms U_r S_r V_rᵀ with NumPy, leaf by leaf, and applies the network to one split.
    """
    changes, params = tree.paths(update), {}
    for path, leaf in tree.paths(network.params).items():
        change = np.asarray(changes[path])
        if path in ranks:
            u, s, vt = np.linalg.svd(change, full_matrices=False)
            r = ranks[path]
            change = u[:, :r] @ np.diag(s[:r]) @ vt[:r]
        elif others == "base":
            change = 0 * change
        params[path] = np.asarray(leaf) + change
    split = getattr(splits, part)
    logits = np.asarray(network.apply(tree.from_paths(params), split.x))
    top = logits.max(axis=1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    loss = log_sum - logits[np.arange(len(split)), split.y]
    return float(loss.mean()), float((logits.argmax(axis=1) == split.y).mean())
