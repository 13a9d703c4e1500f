"""Measurements on a fine-tuned network that need no stationary point of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...models.cache import Json, digest, environment
from ...models.derivatives import examples, value_and_gradient
from ...models.finetuning import code_of, settings_of
from ...models.methods import LoRA
from ...models.tasks import Split
from .. import curvature
from ..curvature.network import objective
from .fact import Fact
from .instances.networks import Measured, Observed, Pulled
from .readaptation.keeping import Found, kept
from .readaptation.tangent import differential
from .reduction import Reduced, reduced
from .roots import CUTOFF, span
from .softmax import RidgeSoftmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...models.cache import Cache
    from ...models.disturbances import Disturbance
    from ...models.finetuning import FineTuning

FROZEN_RANK = 4
LOW_RANK = 2
EXAMPLES = 100
ENTRIES = 24


def _key(tuning: FineTuning, kind: str, ridge: float) -> Json:
    train = tuning.task.new.train
    return {
        "kind": kind,
        "architecture": repr(tuning.network.architecture),
        "code": code_of(tuning.network, tuning.method, train.x.shape[1:]),
        "method": settings_of(tuning.method),
        "theta0": digest(tuning.network.params),
        "split": digest({"x": train.x, "y": train.y}),
        "ridge": ridge,
        "environment": environment(),
    }


def heads(
    tuning: FineTuning, shifts: Sequence[Disturbance], ridge: float, cache: Cache | None
) -> tuple[Measured, Measured]:
    """The least losses on D′ of the head alone, on the base network's features: linear images, and LoRA's.

    Args:
        tuning: gives the network and D.
        shifts: one D′ each.
        ridge: λ, on W − W₀.
        cache: where numbers are kept.
    """
    rows, notes = [], []
    for shift in shifts:
        split = shift(tuning.task.new.train, 0)
        key = _key(tuning, "head regression", ridge) | {"disturbed": digest({"x": split.x, "y": split.y})}

        def compute(split: Split = split) -> Found:
            return {"numbers": _head_numbers(RidgeSoftmax.of(tuning.network, split, ridge))}, {}

        rows.append(kept(cache, key, compute)[0]["numbers"])
        notes.append(shift.name)
    names = ("reached", "optimum", "squared_distance", "beta", "error", "scale", "operations")
    *linear, low = (dict(zip(names, column, strict=True)) for column in np.array(rows).transpose(1, 2, 0))
    joined = {name: np.concatenate([one[name] for one in linear]) for name in names}
    note = f"head on frozen features, λ = {ridge:g}, under {', '.join(notes)}"
    tail = low["squared_distance"]
    return _measured(joined, ridge, f"{note}; linear g"), _measured(low, ridge, f"{note}; LoRA", tail)


def _measured(numbers: dict[str, np.ndarray], ridge: float, note: str, tail: Any = None) -> Measured:
    operations = int(numbers.pop("operations").max())
    return Measured(**numbers, mu=ridge, operations=operations, tail=tail, note=note)


def _head_numbers(problem: RidgeSoftmax) -> np.ndarray:
    """A row for each image, LoRA's last: reached, optimum, distance², β, error, scale, operations."""
    W, off = problem.least()
    optimum, update = problem.value(W), W - problem.start
    bases = ([problem.biases()] if problem.biased else []) + [problem.frozen(FROZEN_RANK)]
    rows = []
    for basis in bases:
        there, missed = problem.least(basis)
        delta = update.ravel()
        distance = float(np.sum((delta - basis @ (basis.T @ delta)) ** 2))
        rows.append((problem.value(there), distance, missed))
    low = problem.value(problem.low_rank(update, LOW_RANK) + 0 * update)
    inputs = len(update) - problem.biased
    tail = float(np.sum(np.linalg.svd(update[:inputs], compute_uv=False)[LOW_RANK:] ** 2))
    rows.append((low, tail, 0.0))
    moved = float(np.sqrt(2 * off / problem.mu))
    reached, distance, missed = np.array(rows).T
    error = missed + off + problem.beta * moved * (np.sqrt(distance) + moved)
    scale = np.abs(reached) + problem.beta * (1 + distance)
    fixed = [np.full(len(rows), one) for one in (optimum, problem.beta, problem.operations)]
    return np.column_stack([reached, fixed[0], distance, fixed[1], error, scale, fixed[2]])


def pulled(tuning: FineTuning, ridge: float, cache: Cache | None) -> Pulled:
    """Derivatives in Φ where training ended, on some parameters: composed, and by the chain rule."""
    key = _key(tuning, "pulled-back derivatives", ridge) | {"phi": digest(tuning.phi)}

    def compute() -> Found:
        network, split = tuning.network, tuning.task.new.train
        given = {"weight_decay": ridge}
        there = curvature.pulled_back(network, split, tuning.method, tuning.phi, **given)
        some = np.unique(np.linspace(0, there.k - 1, ENTRIES).round().astype(int))
        H = curvature.hessian(network, split, params=tuning.theta, **given)
        P = there.P[:, some]
        unit = np.eye(there.k)[:, some]
        arrays = {
            "composed_gradient": there.gradient[some],
            "pulled_gradient": P.T @ there.full_gradient,
            "composed_hessian": there.curvature.product(unit)[some],
            "tangent_hessian": P.T @ H.product(P),
            "second": there.second[np.ix_(some, some)],
        }
        return arrays, {"operations": there.curvature.operations + H.operations, "k": there.k}

    arrays, facts = kept(cache, key, compute)
    note = f"{len(arrays['pulled_gradient'])} of {facts['k']} parameters of {tuning.method.name}, as trained"
    return Pulled(**arrays, bent=isinstance(tuning.method, LoRA), operations=facts["operations"], note=note)


def gauss_newton_quadratic(
    tuning: FineTuning, shift: Disturbance, ridge: float, cache: Cache | None
) -> Observed:
    """The tilted quadratic of a fully fine-tuned network with its Gauss-Newton matrix, by products alone.

    It is definite by structure, J^T Λ J + λ I ⪰ λ I, and training left it where the gradient is not 0.
    """
    key = _key(tuning, "Gauss-Newton quadratic", ridge)
    key |= {"full": digest(tuning.full), "shift": settings_of(shift), "examples": EXAMPLES}

    def compute() -> Found:
        small, facts = _by_products(tuning, shift, ridge)
        names = ("hessian", "directions", "gradient", "disturbance")
        return {name: getattr(small, name) for name in names}, facts | {"of": small.of}

    arrays, facts = kept(cache, key, compute)
    whole = Fact(True, f"Gauss-Newton plus the ridge: no eigenvalue below {ridge:g}")
    rest = Fact(False, f"|∇F| = {facts['slope']:.2g}")
    note = (
        f"{shift.name}, Gauss-Newton on {EXAMPLES} examples; residuals of the solves {facts['residual']:.1g}"
    )
    return Observed.of_network(Reduced(**arrays, of=facts["of"]), whole, rest, note)


def _by_products(tuning: FineTuning, shift: Disturbance, ridge: float) -> tuple[Reduced, Json]:
    train = tuning.task.new.train
    split = Split(train.x[:EXAMPLES], train.y[:EXAMPLES])
    H = curvature.gauss_newton(tuning.network, split, params=tuning.full, weight_decay=ridge, memory=0)
    loss, point, data = objective(tuning.network, split, tuning.full, None, ridge)
    second = examples(shift(split, 0), np.asarray(data.centre), weight_decay=ridge)
    eps = np.asarray(value_and_gradient(loss, point, second)[1]) - H.gradient
    here = tuning.network.with_params(tuning.full)
    P = differential(tuning.method.reparameterize(here))
    B = span(P, CUTOFF).basis
    solved = [curvature.solve(H, u) for u in (eps, B @ (B.T @ eps), H.gradient)]
    also = *(one.x for one in solved), H.product(H.gradient)
    small = reduced(H.product, B, H.product(B), P, H.gradient, eps, also)
    return small, {
        "residual": max(one.relative for one in solved),
        "slope": float(np.linalg.norm(H.gradient)),
    }
