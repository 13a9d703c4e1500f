r"""What the claims of Theorem 4 are judged on when a network was really fine-tuned.

Everything that needs a stationary point looks at one network, a smooth perceptron with the seed 0: fully
fine-tuned, brought to rest with a ridge, its Hessian proved to be definite, and re-trained on D′ with each
linear method.  A transformer stays where training left it, with its Gauss-Newton matrix.  What is measured is
kept in the cache; what it means is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ...models.activations import ACTIVATIONS
from ...models.cache import Cache, digest
from ...models.methods import IA3, BitFit, Full, Head, LoRA, LoRAFA
from ...models.methods import method as find_method
from ...models.mlp import MLPConfig
from ...models.transformer import TransformerConfig
from .. import memo
from ..claims import MissingIngredient
from .fact import Fact
from .instances.networks import Measured, Observed, Pulled, Unregularised
from .instances.readaptations import Damaged, Ended, OwnReadapted, Readapted, Refused, Rises
from .instances.subspaces import Nested
from .measured import gauss_newton_quadratic, heads, pulled
from .readaptation.own_optima import OwnReadaptation
from .readaptation.readapt import METHODS, RIDGE, SHIFTS, T
from .readaptation.results import Readaptation
from .readaptation.study import Study

if TYPE_CHECKING:
    from ...models.disturbances import Disturbance
    from ...models.finetuning import FineTuning

LARGEST = 5000
"""Parameters of a network whose dense Hessian is worth its time."""
TANGENT = (Head, LoRAFA, BitFit, IA3)
"""Methods with a linear g that are re-trained beside full fine-tuning, from its stationary point."""
_OWN_RANK = 1
_FEWER = ("noise", "label-noise", "class-imbalance")
"""Disturbances of inputs, labels and classes: one each where a case takes long."""


def carries(tuning: FineTuning) -> bool:
    """Whether this fine-tuning has its network brought to rest: a smooth perceptron, the first seed."""
    architecture = tuning.network.architecture
    if not isinstance(architecture, MLPConfig) or tuning.seed != 0 or not tuning.weight_space:
        return False
    return ACTIVATIONS[architecture.activation].smooth and tuning.network.d <= LARGEST


def tangent(tuning: FineTuning) -> bool:
    """Whether its method is one of those that are re-trained from the stationary point."""
    return carries(tuning) and isinstance(tuning.method, TANGENT)


def own(tuning: FineTuning) -> bool:
    """Whether its method is looked at from its own optimum: biases, and the smallest LoRA."""
    small_lora = type(tuning.method) is LoRA and tuning.method.rank == _OWN_RANK
    return carries(tuning) and (small_lora or isinstance(tuning.method, BitFit))


def shifts_of(tuning: FineTuning) -> tuple[Disturbance, ...]:
    """The disturbances that are defined for its training inputs.

    Raises:
        MissingIngredient: none is.
    """
    found = tuple(one for one in SHIFTS if _defined(one, tuning))
    if not found:
        raise MissingIngredient("a disturbance that is defined for these inputs")
    return found


def fewer_shifts_of(tuning: FineTuning) -> tuple[Disturbance, ...]:
    """One each of inputs, labels and classes, where they are defined.

    Raises:
        MissingIngredient: none is.
    """
    return tuple(one for one in shifts_of(tuning) if one.stem in _FEWER)


def _defined(shift: Disturbance, tuning: FineTuning) -> bool:
    try:
        shift(tuning.task.new.train)
    except ValueError:
        return False
    return True


def _network_of(tuning: FineTuning) -> tuple[str, str, str]:
    if tuning.full is None:
        raise MissingIngredient("the fully fine-tuned parameters are not known: give FineTuning its full")
    return digest(tuning.network.params), digest(tuning.full), digest({"x": tuning.task.new.train.x})


def _study(tuning: FineTuning) -> Study:
    widths = [_width(name, tuning) for name in METHODS]
    return Study(
        network=tuning.network,
        split=tuning.task.new.train,
        start=tuning.full,
        ridge=RIDGE,
        t=T,
        seed=0,
        width=max(widths),
        cache=Cache(),
        say=lambda _: None,
    )


def _width(name: str, tuning: FineTuning) -> int:
    try:
        return find_method(name).reparameterize(tuning.network).k
    except ValueError:
        return 1


study_of = memo.latest(_study, key=_network_of)
"""The study of a network, its stationary point included, for all methods that were tuned on it."""


# From the stationary point of full fine-tuning


def _found(tuning: FineTuning) -> tuple[Readaptation, ...]:
    return tuple(study_of(tuning).pair(tuning.method, shift) for shift in shifts_of(tuning))


found_of = memo.latest(_found, key=lambda tuning: (*_network_of(tuning), tuning.method))


def readapted(tuning: FineTuning) -> Iterable[Readapted]:
    """The gaps along t of a linear method, all disturbances at once.

    Raises:
        MissingIngredient: no full fine-tuning is known.
    """
    yield from _of(tuning, Readapted, "re-trained at")


def ended(tuning: FineTuning) -> Iterable[Ended]:
    """The minima on D′ alone."""
    yield from _of(tuning, Ended, "re-trained at")


def damaged(tuning: FineTuning) -> Iterable[Damaged | Observed]:
    """What re-training did to the undisturbed loss for a small t, and the quadratic model of it."""
    yield from _of(tuning, Damaged, "undisturbed loss after re-training at")
    yield from tilted(tuning)


def _of(tuning: FineTuning, kind: type, doing: str) -> Iterable:
    if not tangent(tuning):
        return
    study = study_of(tuning)
    if not study.rest.definiteness:
        yield Refused(study.rest.definiteness, study.rest.stationarity)
        return
    note = f"{doing} t = {T[0]:g} … {T[-1]:g} under {', '.join(s.name for s in shifts_of(tuning))}"
    yield kind(found_of(tuning), study.rest.definiteness, study.rest.stationarity, note)


def _tilted(tuning: FineTuning) -> tuple[Observed, ...]:
    if isinstance(tuning.network.architecture, TransformerConfig):
        return (gauss_newton_quadratic(tuning, SHIFTS[0], RIDGE, Cache()),)
    study = study_of(tuning)
    facts = study.rest.definiteness, study.rest.stationarity
    if not study.rest.definiteness:
        small = study.indefinite(tuning.method, shifts_of(tuning)[0])
        return (Observed.of_network(small, *facts, "an indefinite Hessian"),)
    return tuple(
        Observed.of_network(one.reduced, *facts, f"{one.disturbance}, at the stationary point")
        for one in found_of(tuning)
        if one.reduced is not None
    )


_tilted_of = memo.latest(_tilted, key=lambda tuning: (*_network_of(tuning), tuning.method))


def tilted(tuning: FineTuning) -> Iterable[Observed]:
    """The tilted quadratics of a network as small ones: with its Hessian at rest, or Gauss-Newton's.

    Raises:
        MissingIngredient: no full fine-tuning is known.
    """
    transformer = isinstance(tuning.network.architecture, TransformerConfig)
    gauss_newton = transformer and tuning.seed == 0 and isinstance(tuning.method, BitFit)
    if gauss_newton or tangent(tuning):
        yield from _tilted_of(tuning)


def nested(tuning: FineTuning) -> Iterable[Nested]:
    """Some directions of a method, and all of them: half of its columns beside the rest."""
    for one in tilted(tuning):
        half = one.k // 2
        if half and one.whole:
            yield Nested(replace(one, directions=one.directions[:, :half]), one.directions[:, half:])


def unregularised(tuning: FineTuning) -> Iterable[Unregularised]:
    """The Hessian of full fine-tuning at rest, less the ridge: that of the loss that is trained on."""
    if carries(tuning) and isinstance(tuning.method, Full) and tuning.trainable.k == tuning.network.d:
        rest = study_of(tuning).rest
        low, high = rest.lower - RIDGE, rest.upper - RIDGE
        note = f"at most so many: the least eigenvalue is in [{low:.6g}, {high:.6g}]"
        yield Unregularised(tuning.network.d, low, high, note)


# From the own optimum of a method


def _own(tuning: FineTuning) -> tuple[OwnReadaptation, ...]:
    study = study_of(tuning)
    return tuple(study.own(tuning.method, tuning.phi, shift) for shift in fewer_shifts_of(tuning))


_own_of = memo.latest(_own, key=lambda tuning: (*_network_of(tuning), tuning.method, digest(tuning.phi)))


def own_readapted(tuning: FineTuning) -> Iterable[OwnReadapted]:
    """How the minimum of a method moves from its own optimum, all disturbances at once."""
    if own(tuning):
        facts = study_of(tuning).own_rest(tuning.method, tuning.phi)
        fact = {name: Fact(*facts[name]) for name in ("definiteness", "stationarity")}
        note = f"from the own optimum, under {', '.join(s.name for s in fewer_shifts_of(tuning))}"
        yield OwnReadapted(_own_of(tuning), **fact, note=note)


def rises(tuning: FineTuning) -> Iterable[Rises]:
    """How far the loss on D′, re-trained, exceeds that on D, each from its own optimum."""
    if own(tuning):
        found = _own_of(tuning)
        yield Rises.of(found, f"{tuning.method.name} against full, {len(found)} disturbances")


# Without the quadratic model, and derivatives


def _heads(tuning: FineTuning) -> tuple[Measured, Measured]:
    return heads(tuning, fewer_shifts_of(tuning), RIDGE, Cache())


_heads_of = memo.latest(_heads)


def bounded(tuning: FineTuning) -> Iterable[Measured]:
    """The head as the whole model, on frozen features: two linear maps inside."""
    if _head(tuning):
        yield _heads_of(tuning)[0]


def low_rank(tuning: FineTuning) -> Iterable[Measured]:
    """The same with LoRA on the head's kernel."""
    if _head(tuning):
        yield _heads_of(tuning)[1]


def _head(tuning: FineTuning) -> bool:
    return (
        isinstance(tuning.method, Head)
        and tuning.seed == 0
        and isinstance(tuning.network.architecture, MLPConfig)
    )


def _pulled(tuning: FineTuning) -> Pulled:
    return pulled(tuning, RIDGE, Cache())


_pulled_of = memo.latest(_pulled)


def derivatives(tuning: FineTuning) -> Iterable[Pulled]:
    """Gradient and Hessian in Φ at the trained Φ, on some parameters."""
    if own(tuning):
        yield _pulled_of(tuning)
