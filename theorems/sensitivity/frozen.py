r"""How fine-tuned networks fare on disturbed data D′ when nothing is trained any more.

Theorem 4 speaks of networks that are trained again on D′; the paper's experiments test frozen ones, which is
another question.  Here it is measured: the increase of the loss and the fall of the accuracy under each
disturbance, of a method and of full fine-tuning beside it.  Both see the same disturbed examples, so their
differences are taken example by example, and those have a small standard error.  An adversary attacks each
of the two for itself.

Standard errors are those of the test examples as a sample from D, for two networks that are given: another
seed of the training is another network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from ...models.adversary import ATTACKS, PGD
from ...models.cache import digest
from ...models.disturbances import DISTURBANCES, Disturbance
from ...models.training import hashable
from .. import linalg, memo
from ..claims import MissingIngredient

if TYPE_CHECKING:
    from ...models.finetuning import FineTuning
    from ...models.network import Network
    from ...models.tasks import Split

SHIFTS: tuple[Disturbance, ...] = tuple(DISTURBANCES.values())


@dataclass(frozen=True, eq=False, repr=False)
class Frozen:
    r"""The losses and the answers of a network on p examples of D and on V disturbed versions of them.

    Attributes:
        names: of the V disturbances, attacks last.
        clean_loss: $\ell_i$, cross-entropy of each example of D, in nats.
        clean_right: whether each is classified rightly.
        loss: $\ell'_{vj}$ of each row of each D′.
        right: the same for the answers.
        rows: $i(v, j)$, the example that each row comes from.
    """

    names: tuple[str, ...]
    clean_loss: Float[np.ndarray, " p"]
    clean_right: Bool[np.ndarray, " p"]
    loss: Float[np.ndarray, "V p"]
    right: Bool[np.ndarray, "V p"]
    rows: Int[np.ndarray, "V p"]

    @cached_property
    def changes(self) -> Float[np.ndarray, "V p"]:
        r"""What each example of D adds to the increase: $s_{vi} = \sum_{j: i(v,j)=i} \ell'_{vj} - \ell_i$.

        Their mean is the increase of the mean loss, and they are independent where examples are drawn once
        and repeated.
        """
        return self._by_example(self.loss) - self.clean_loss

    @cached_property
    def falls(self) -> Float[np.ndarray, "V p"]:
        """The same for the accuracy, with the other sign: what is lost counts."""
        return self.clean_right - self._by_example(self.right)

    @property
    def increase(self) -> Float[np.ndarray, " V"]:
        """Mean loss on D′ less that on D, in nats."""
        return self.changes.mean(axis=1)

    @property
    def drop(self) -> Float[np.ndarray, " V"]:
        """Accuracy on D less that on D′, shares of the examples."""
        return self.falls.mean(axis=1)

    def _by_example(self, values: np.ndarray) -> Float[np.ndarray, "V p"]:
        count = values.shape[1]
        return np.stack(
            [np.bincount(i, row, minlength=count) for i, row in zip(self.rows, values, strict=True)]
        )

    def __repr__(self) -> str:
        """Show the means."""
        parts = [f"{n} {a:+.3g}" for n, a in zip(self.names, self.increase, strict=True)]
        return (
            f"Frozen({len(self.clean_loss)} examples, loss {self.clean_loss.mean():.3g}, {', '.join(parts)})"
        )


class Excess(NamedTuple):
    """By how much a method exceeds full fine-tuning, for each disturbance, with the standard error."""

    value: Float[np.ndarray, " V"]
    error: Float[np.ndarray, " V"]


@dataclass(frozen=True, eq=False, repr=False)
class Robustness:
    """A method and full fine-tuning on the same disturbed examples, neither of them trained on those.

    Attributes:
        method: the name of the method.
        peft: its network.
        full: the fully fine-tuned one.

    Raises:
        ValueError: results on different examples or disturbances.
    """

    method: str
    peft: Frozen
    full: Frozen

    def __post_init__(self) -> None:
        if self.peft.names != self.full.names or not np.array_equal(self.peft.rows, self.full.rows):
            raise ValueError(
                "full: got results on other disturbances or examples than those of peft; measure both with "
                "the same split, disturbances, attacks and seed"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the V disturbances."""
        return self.peft.names

    @cached_property
    def loss(self) -> Excess:
        """Increase of the loss of the method less that of full fine-tuning, in nats."""
        return _excess(self.peft.changes - self.full.changes)

    @cached_property
    def accuracy(self) -> Excess:
        """Fall of the accuracy of the method less that of full fine-tuning."""
        return _excess(self.peft.falls - self.full.falls)

    @cached_property
    def mean_loss(self) -> Excess:
        """The same as `loss` for the mean over all disturbances, V = 1."""
        return _excess((self.peft.changes - self.full.changes).mean(axis=0, keepdims=True))

    @cached_property
    def mean_accuracy(self) -> Excess:
        """The same as `accuracy` for the mean over all disturbances, V = 1."""
        return _excess((self.peft.falls - self.full.falls).mean(axis=0, keepdims=True))

    def records(self) -> tuple[dict[str, str | float], ...]:
        """One flat record for each disturbance: what both have left on D′ and what they lose, and the excess.

        Losses are in nats, accuracies and falls shares of the examples; `..._error` is a standard error.
        """
        columns = {
            "loss_peft": self.peft.clean_loss.mean() + self.peft.increase,
            "loss_full": self.full.clean_loss.mean() + self.full.increase,
            "accuracy_peft": self.peft.clean_right.mean() - self.peft.drop,
            "accuracy_full": self.full.clean_right.mean() - self.full.drop,
            "increase_peft": self.peft.increase,
            "increase_full": self.full.increase,
            "excess_loss": self.loss.value,
            "excess_loss_error": self.loss.error,
            "drop_peft": self.peft.drop,
            "drop_full": self.full.drop,
            "excess_drop": self.accuracy.value,
            "excess_drop_error": self.accuracy.error,
        }
        return tuple(
            {"disturbance": name} | {key: float(values[v]) for key, values in columns.items()}
            for v, name in enumerate(self.names)
        )

    def __repr__(self) -> str:
        """Show the excess of the loss with its standard errors."""
        parts = [
            f"{n} {a:+.3g} ± {e:.2g}"
            for n, a, e in zip(self.names, self.loss.value, self.loss.error, strict=True)
        ]
        return f"Robustness({self.method} less full, increase of the loss: {', '.join(parts)})"


def frozen(
    network: Network,
    split: Split,
    disturbances: Sequence[Disturbance] = SHIFTS,
    attacks: Sequence[PGD] = ATTACKS,
    *,
    seed: int = 0,
) -> Frozen:
    """Evaluate a network as it is on disturbed versions of a split.

    Args:
        network: float64.
        split: p ≥ 2 examples of D, which the network was not trained on.
        disturbances: as `peftproof.models.disturbances` has them.
        attacks: adversaries, each of which sees this network; lower estimates of its worst case.
        seed: of the disturbances and of the starts of the attacks.

    Raises:
        ValueError: neither disturbances nor attacks, a single example, a network that is not float64, and
            what the disturbances and attacks refuse.
    """
    disturbances, attacks = tuple(disturbances), tuple(attacks)
    if not (disturbances or attacks):
        raise ValueError("disturbances: got none and no attacks, needs at least one of either")
    if len(split) < 2:
        raise ValueError("split: got one example, needs at least two: one has no standard error")
    linalg.require_judging_precision("network.params", *map(np.asarray, jax.tree.leaves(network.params)))
    return _frozen(_Given(network, split, disturbances, attacks, seed))


def robustness(
    tuning: FineTuning,
    disturbances: Sequence[Disturbance] = SHIFTS,
    attacks: Sequence[PGD] = ATTACKS,
    *,
    part: str = "test",
    seed: int = 0,
) -> Robustness:
    """Compare a fine-tuned network on disturbed data with the fully fine-tuned one beside it.

    Args:
        tuning: with its `full`; the method may be an extension.
        disturbances: as `frozen`.
        attacks: as `frozen`.
        part: the split of the new task whose examples are disturbed.
        seed: as `frozen`.

    Raises:
        MissingIngredient: no full fine-tuning is known.
        ValueError: an unknown split, and as `frozen`.
    """
    if tuning.full is None:
        raise MissingIngredient("the fully fine-tuned parameters are not known: give FineTuning its full")
    if part not in ("train", "validation", "test"):
        raise ValueError(f"part: got {part!r}, needs 'train', 'validation' or 'test'")
    split = getattr(tuning.task.new, part)
    both = tuning.tuned, tuning.network.with_params(tuning.full)
    return Robustness(
        tuning.method.name, *(frozen(one, split, disturbances, attacks, seed=seed) for one in both)
    )


class _Given(NamedTuple):
    network: Network
    split: Split
    disturbances: tuple[Disturbance, ...]
    attacks: tuple[PGD, ...]
    seed: int


def _data_key(given: _Given) -> tuple:
    return digest((given.split.x, given.split.y)), given.disturbances, given.seed


def _key(given: _Given) -> tuple:
    """By content: the full fine-tuning beside ten methods is ten objects and one network."""
    return hashable(given.network.apply), digest(given.network.params), given.attacks, *_data_key(given)


@partial(memo.latest, key=_data_key)
def _disturbed(given: _Given) -> tuple[list[Split], list[np.ndarray]]:
    splits = [one(given.split, given.seed) for one in given.disturbances]
    return splits, [one.rows(given.split, given.seed) for one in given.disturbances]


@partial(memo.latest, key=_key, size=8)
def _frozen(given: _Given) -> Frozen:
    splits, rows = _disturbed(given)
    attacked = [one(given.network, given.split, given.seed) for one in given.attacks]
    every = [given.split, *splits, *attacked]
    x, y = (np.stack([getattr(one, name) for one in every]) for name in "xy")
    loss, right = map(np.asarray, _evaluate(hashable(given.network.apply), given.network.params, x, y))
    return Frozen(
        tuple(one.name for one in (*given.disturbances, *given.attacks)),
        loss[0],
        right[0],
        loss[1:],
        right[1:],
        np.stack([*rows, *[np.arange(len(given.split))] * len(attacked)]),
    )


@partial(jax.jit, static_argnums=0)
def _evaluate(
    apply: Callable, params: Any, x: Float[Array, "V p ..."], y: Int[Array, "V p"]
) -> tuple[Float[Array, "V p"], Bool[Array, "V p"]]:
    """One version of the data after the other: memory does not grow with their number."""

    def one(data: tuple[Array, Array]) -> tuple[Array, Array]:
        x, y = data
        logits = apply(params, x)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return loss, logits.argmax(axis=1).astype(y.dtype) == y

    return jax.lax.map(one, (x, y))


def _excess(differences: Float[np.ndarray, "V p"]) -> Excess:
    count = differences.shape[1]
    return Excess(differences.mean(axis=1), differences.std(axis=1, ddof=1) / np.sqrt(count))
