"""Training the parameters Φ of a method on a task: every seed and learning rate in one compiled program.

The objective is `mean_i cross_entropy(f(x_i; θ₀ + g(Φ)), y_i) + λ/2 ‖Φ‖²`: weight decay is part of it, so
that a vanishing gradient means a stationary point of something that can be written down. The optimizer is
Adam with a cosine schedule. Steps run in chunks (`lax.scan`); between chunks the host sees how far the runs
are, so that progress can be shown and Ctrl-C works.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from .batches import batches, batches_of, weights_of
from .inputs import arrays, check_data, check_rates, check_seeds
from .methods.base import Method
from .methods.staged import Staged
from .network import Network
from .tasks import Splits
from .training import Program, Runs, Settings, evaluate, start, train

CURVES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "gradient_norm")


@dataclass(frozen=True)
class Progress:
    """How far a fit is, as its progress callback is told after each evaluation.

    Args:
        label: network and method.
        step: optimizer steps done.
        steps: optimizer steps in all.
        train_loss: of the run that is best on validation.
        validation_loss: of the same run.
        running: number of runs that early stopping has not ended.
    """

    label: str
    step: int
    steps: int
    train_loss: float
    validation_loss: float
    running: int


@dataclass(frozen=True, eq=False)
class Fit:
    """What a fit reached: S seeds × R learning rates, evaluated E times.

    Args:
        label: network and method.
        methods: for each seed, the method that its Φ belongs to; a `Staged` one resolves into another for
            each.
        seeds: S seeds.
        learning_rates: R learning rates.
        settings: how it was trained.
        phi: the Φ of each run, a pytree with leaves `(S, R, ...)`.
        step: the steps at which the runs were evaluated, `(E,)`, from 0 on.
        train_loss: mean cross-entropy, without weight decay, `(S, R, E)`; NaN after a run was stopped, like
            the other curves.
        validation_loss: the same on the validation split.
        train_accuracy: share of the training examples that are classified rightly, `(S, R, E)`.
        validation_accuracy: the same on the validation split.
        gradient_norm: ‖∇‖₂ of the whole objective, weight decay included, over all training examples, `(S,
            R, E)`.
        returned: index into `step` of the Φ that each run returns, `(S, R)`.
        chosen: index of the learning rate with the least validation loss, mean over the seeds.
        seconds: wall clock of all runs, compilation included.
        first: of a `Staged` method the update Δθ of each seed's first stage, a tree like θ with leaves `(S,
            ...)`.
    """

    label: str
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    settings: Settings
    phi: PyTree[Float[np.ndarray, "S R ..."]]
    step: Int[np.ndarray, " E"]
    train_loss: Float[np.ndarray, "S R E"]
    validation_loss: Float[np.ndarray, "S R E"]
    train_accuracy: Float[np.ndarray, "S R E"]
    validation_accuracy: Float[np.ndarray, "S R E"]
    gradient_norm: Float[np.ndarray, "S R E"]
    returned: Int[np.ndarray, "S R"]
    chosen: int
    seconds: float
    first: PyTree[Float[np.ndarray, "S ..."]] | None = None

    @property
    def learning_rate(self) -> float:
        """The learning rate chosen on validation."""
        return self.learning_rates[self.chosen]

    def best(self, seed: int) -> PyTree[Float[np.ndarray, "..."]]:
        """The Φ of a seed at the chosen learning rate.

        Raises:
            ValueError: a seed that was not fitted.
        """
        row = self._row(seed)
        return jax.tree.map(lambda leaf: leaf[row, self.chosen], self.phi)

    def facts(self, seed: int) -> dict[str, float | int]:
        """What the run of a seed at the chosen learning rate reached, at the Φ that it returns.

        Raises:
            ValueError: a seed that was not fitted.
        """
        row = self._row(seed)
        at = row, self.chosen, int(self.returned[row, self.chosen])
        return {
            "learning_rate": self.learning_rate,
            "step": int(self.step[at[-1]]),
            **{name: float(getattr(self, name)[at]) for name in CURVES},
        }

    def __repr__(self) -> str:
        loss = np.take_along_axis(self.validation_loss, self.returned[..., None], axis=2)[:, self.chosen, 0]
        return (
            f"Fit({self.label}, seeds={self.seeds}, learning_rate={self.learning_rate:g}, "
            f"validation_loss={loss.mean():.4g}, {self.seconds:.1f} s)"
        )

    def _row(self, seed: int) -> int:
        if seed not in self.seeds:
            raise ValueError(f"seed={seed} was not fitted; there are {self.seeds}.")
        return self.seeds.index(seed)


def fit(
    network: Network,
    splits: Splits,
    method: Method,
    *,
    seeds: Sequence[int] = (0,),
    learning_rates: Sequence[float] = (1e-2,),
    steps: int = 500,
    batch_size: int | None = None,
    weight_decay: float = 0.0,
    eval_every: int = 25,
    patience: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Fit:
    r"""Minimizes the training loss over Φ, for every seed and learning rate at once.

    $$\min_\Phi \frac1p \sum_i \mathrm{CE}\bigl(f(x_i; \theta_0 + g(\Phi)), y_i\bigr) + \frac\lambda2
    \|\Phi\|^2$$

    A seed decides the start of Φ and the order of the mini-batches, and nothing else does: a run is the
    same whichever runs it is fitted with, up to rounding. It trains in the dtype of the network.

    Args:
        network: f and θ₀.
        splits: trains on `train`, chooses on `validation`, and never looks at `test`.
        method: gives g, or enlarges the network (`Extension`), or trains in two stages (`Staged`).
        seeds: S different integers.
        learning_rates: R rates to choose from, in each stage.
        steps: optimizer steps of a run; 0 evaluates what Φ starts from.
        batch_size: examples in a mini-batch, drawn without replacement within an epoch; None for all.
        weight_decay: λ.
        eval_every: steps between evaluations; it divides `steps`.
        patience: stop a run after that many evaluations without a lower validation loss, and return the Φ
            with the lowest; None to run all steps and return the last Φ.
        progress: called after each evaluation; an exception that it raises ends the fit.

    Raises:
        ValueError: a setting out of range, a network that does not fit to the data, or runs that all
            diverge.

    References:
        Kingma and Ba, *Adam: a method for stochastic optimization*, ICLR 2015.
        Loshchilov and Hutter, *SGDR: stochastic gradient descent with warm restarts*, ICLR 2017 (the
        schedule).
    """
    settings = Settings(steps, batch_size, weight_decay, eval_every, patience)
    seeds, rates = check_seeds(seeds), check_rates(learning_rates)
    method.check(network)
    run = _fit_staged if isinstance(method, Staged) else _fit
    return run(network, splits, method, seeds, rates, settings, progress)


def _fit(
    network: Network,
    splits: Splits,
    method: Method,
    seeds: tuple[int, ...],
    rates: tuple[float, ...],
    settings: Settings,
    progress: Callable[[Progress], None] | None,
) -> Fit:
    label = f"{network.name} {method.name}"
    return fit_masked(network, splits, method, (None,), seeds, rates, settings, progress, label)[0]


def fit_masked(
    network: Network,
    splits: Splits,
    method: Method,
    masks: Sequence[PyTree[Float[np.ndarray, "..."]] | None],
    seeds: tuple[int, ...],
    rates: tuple[float, ...],
    settings: Settings,
    progress: Callable[[Progress], None] | None,
    label: str,
    subsets: Sequence[Int[np.ndarray, "S N"]] | None = None,
) -> list[Fit]:
    """One fit for each mask or subset, all of them in one program: what `fit` and the sweeps are made of.

    A mask is a tree like Φ: ones where an entry is trained, zeros where it starts at zero and stays there.
    The fits of a seed share its draw of Φ and its mini-batches; each chooses its own learning rate. A mask
    that is None trains all of Φ, and must then be the only one.

    Subsets hold for each seed the rows of the training examples that it sees: each fit is then that of the
    smaller training split, with mini-batches of at most its size. They go with a single mask.
    """
    started, S = time.perf_counter(), len(seeds)
    network, rows = method.enlarge(network), seeds * len(subsets or masks)
    check_data(network, splits, settings)
    program, data = Program.of(network, method, settings), _data(network, splits, rates, masks, S)
    if subsets is not None:
        data["weights"] = weights_of(subsets, len(splits.train), settings.batch_size, network.dtype)
        chunks = batches_of(settings, seeds, subsets)
    else:
        chunks = batches(settings, rows, len(splits.train))

    def report(step: int, values: dict[str, np.ndarray], running: int) -> None:
        if progress is not None:
            loss = np.nan_to_num(values["validation_loss"], nan=np.inf)
            train_loss = float(values["train_loss"].flat[loss.argmin()])
            progress(Progress(label, step, settings.steps, train_loss, float(loss.min()), running))

    runs = start(method.trainable(network).init, rows, len(rates), method.schedule(), data.get("mask"))
    runs, curves = _train(program, data, runs, chunks, report)
    last, patience = np.full(runs.best.shape, len(curves["step"]) - 1), settings.patience
    returned = last if patience is None else np.array(runs.best)
    phi, step = jax.device_get(runs.phi if patience is None else runs.best_phi), curves.pop("step")
    seconds = time.perf_counter() - started

    def one(of: slice) -> Fit:
        own = {name: curve[of] for name, curve in curves.items()}
        return Fit(
            label=label,
            methods=(method,) * S,
            seeds=seeds,
            learning_rates=rates,
            settings=settings,
            phi=jax.tree.map(lambda leaf: leaf[of], phi),
            step=step,
            returned=returned[of],
            chosen=_choice(label, rates, own["validation_loss"], returned[of]),
            seconds=seconds,
            **own,
        )

    return [one(slice(i, i + S)) for i in range(0, len(rows), S)]


def _data(
    network: Network, splits: Splits, rates: tuple[float, ...], masks: Sequence, seeds: int
) -> dict[str, PyTree]:
    """What the compiled functions take besides the runs; each mask comes once for each seed."""
    data = {
        "theta0": network.params,
        "train": arrays(splits.train, network.dtype),
        "validation": arrays(splits.validation, network.dtype),
        "rates": jnp.asarray(np.asarray(rates, network.dtype)),
    }
    if masks[0] is not None:
        data["mask"] = jax.tree.map(lambda *leaves: np.repeat(np.stack(leaves), seeds, axis=0), *masks)
    return data


def _fit_staged(
    network: Network,
    splits: Splits,
    method: Staged,
    seeds: tuple[int, ...],
    rates: tuple[float, ...],
    settings: Settings,
    progress: Callable[[Progress], None] | None,
) -> Fit:
    """The first stage for all seeds at once; then each seed has a method, and a program, of its own."""
    first = _fit(network, splits, method.first, seeds, rates, settings, progress)
    g = method.first.reparameterize(network).g
    updates = [jax.device_get(g(jax.tree.map(jnp.asarray, first.best(seed)))) for seed in seeds]
    methods = tuple(method.resolve(network, update) for update in updates)
    later = settings if method.retrains else replace(settings, steps=0)
    second = [
        _fit(network, splits, one, (seed,), rates, later, progress)
        for one, seed in zip(methods, seeds, strict=True)
    ]
    # Where patience ended one seed before another, its curves are padded: it has stopped.
    steps = max((fit.step for fit in second), key=len)

    def stacked(name: str) -> np.ndarray:
        curves = [getattr(fit, name) for fit in second]
        return np.concatenate(
            [
                np.pad(c, ((0, 0), (0, 0), (0, len(steps) - c.shape[2])), constant_values=np.nan)
                for c in curves
            ]
        )

    label, returned = f"{network.name} {method.name}", np.concatenate([fit.returned for fit in second])
    curves = {name: stacked(name) for name in CURVES}
    return Fit(
        label=label,
        methods=methods,
        seeds=seeds,
        learning_rates=rates,
        settings=later,
        phi=jax.tree.map(lambda *leaves: np.concatenate(leaves), *[fit.phi for fit in second]),
        returned=returned,
        chosen=_choice(label, rates, curves["validation_loss"], returned),
        seconds=first.seconds + sum(fit.seconds for fit in second),
        first=jax.tree.map(lambda *leaves: np.stack(leaves), *updates),
        step=steps,
        **curves,
    )


def _choice(
    label: str, rates: tuple[float, ...], curves: Float[np.ndarray, "S R E"], returned: Int[np.ndarray, "S R"]
) -> int:
    """The learning rate with the least validation loss at what the runs return, mean over the seeds."""
    loss = np.take_along_axis(curves, returned[..., None], axis=2)[..., 0].mean(axis=0)
    if not np.isfinite(loss).any():
        raise ValueError(f"learning_rates: got {rates}, and every run of {label} diverged; give smaller ones")
    return int(np.nanargmin(np.where(np.isfinite(loss), loss, np.nan)))


def _train(
    program: Program,
    data: dict,
    runs: Runs,
    batches: Iterator[Int[np.ndarray, "S chunk batch"] | None],
    report: Callable[[int, dict[str, np.ndarray], int], None],
) -> tuple[Runs, dict[str, np.ndarray]]:
    """All runs to their end, with their curves."""
    settings, evaluations = program.settings, []
    for index, step in enumerate(range(0, settings.steps + 1, settings.eval_every)):
        alive = np.array(runs.running)
        runs, values = evaluate(program, data, runs, index)
        values = {name: np.where(alive, value, np.nan) for name, value in values.items()}
        evaluations.append({**values, "step": step})
        running = int(np.sum(runs.running))
        report(step, values, running)
        if step == settings.steps or not running:
            break
        runs = train(program, data, runs, next(batches), np.int32(index))
    return runs, {name: np.stack([e[name] for e in evaluations], axis=-1) for name in evaluations[0]}
