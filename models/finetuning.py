"""A fine-tuned network as the theorems observe it, and the cached way to one."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Int, PyTree
from scipy.special import logsumexp

from . import tree
from .cache import Cache, Json, digest, environment
from .fit import Fit, Progress, fit
from .inputs import check_rates, check_seeds
from .methods.base import Method, Reparameterization
from .methods.frozen import Frozen
from .methods.full import Full
from .methods.staged import Staged
from .network import Network
from .polish import polish
from .tasks import PARTS, Task
from .training import Phi, Program, Settings, cross_entropy, hashable
from .tree import Params

_FIRST = "first stage "


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FineTuning:
    """A base network, a method and the Φ that training found; all of it in float64, for judging.

    Attributes:
        network: f and θ₀.
        task: what it was trained on.
        method: how; of a `Staged` method the one that it resolved to.
        phi: Φ.
        seed: of the run.
        full: the fully fine-tuned θ of the same seed, for comparison; None when it is not known.
        facts: what is known of the run, plain numbers: `learning_rate`, `step`, `gradient_norm`, `seconds`
            (of all runs that the rate was chosen from), `train_loss`, `train_accuracy`, the same for
            `validation` and `test`, and, with the prefix `zero_shot_`, of the base network.

    Raises:
        ValueError: parameters that are not float64, or Φ or `full` of another structure than the method
            needs.
    """

    network: Network
    task: Task
    method: Method
    phi: Phi
    seed: int = 0
    full: Params | None = None
    facts: dict[str, float | int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for argument, params in (("network", self.network.params), ("phi", self.phi), ("full", self.full)):
            dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
            if dtypes - {"float64"}:
                raise ValueError(
                    f"{argument}: got {', '.join(sorted(dtypes))}, needs float64 to be judged; run "
                    "jax.config.update('jax_enable_x64', True) at the start of the program, then cast it, "
                    "with network.astype('float64') or jax.tree.map"
                )
        tree.check_like(self.phi, self.trainable.template, "phi")
        if self.full is not None:
            tree.check_like(self.full, self.network.params, "full")

    @property
    def weight_space(self) -> bool:
        """Whether there is a g, as equation 4 wants it; an `Extension` has none."""
        return self.method.weight_space

    @functools.cached_property
    def reparameterization(self) -> Reparameterization:
        """The map g.

        Raises:
            ValueError: the method is an extension of the network; so for `delta` and `theta`.
        """
        return self.method.reparameterize(self.network)

    @functools.cached_property
    def delta(self) -> Params:
        """The update Δθ = g(Φ)."""
        return self.reparameterization.g(self.phi)

    @functools.cached_property
    def theta(self) -> Params:
        """The fine-tuned parameters θ = θ₀ + g(Φ)."""
        return tree.add(self.network.params, self.delta)

    @functools.cached_property
    def enlarged(self) -> Network:
        """The network that was trained: the base network, unless the method is an extension of it."""
        return self.method.enlarge(self.network)

    @functools.cached_property
    def trainable(self) -> Reparameterization:
        """The map from Φ to an update of the parameters of `enlarged`: g where there is one."""
        return self.method.trainable(self.enlarged)

    @functools.cached_property
    def tuned(self) -> Network:
        """The network after fine-tuning, whatever the method."""
        return self.enlarged.with_params(self.trainable.apply(self.enlarged.params, self.phi))

    def __repr__(self) -> str:
        accuracy = self.facts.get("test_accuracy")
        return (
            f"FineTuning({self.network.name!r}, {self.task.name!r}, {self.method.name!r}, seed={self.seed}, "
            f"k={self.trainable.k}, d={self.network.d}"
            + ("" if accuracy is None else f", test_accuracy={accuracy:.3f}")
            + ")"
        )


def finetune(
    network: Network,
    task: Task,
    method: Method,
    *,
    seeds: Sequence[int] = (0,),
    learning_rates: Sequence[float] = (3e-3, 1e-2, 3e-2),
    steps: int = 500,
    batch_size: int | None = None,
    weight_decay: float = 0.0,
    eval_every: int = 25,
    patience: int | None = None,
    dtype: DTypeLike = "float32",
    polish_to: float | None = None,
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[FineTuning]:
    """Fine-tunes a network to the new task, for each seed at the learning rate best on validation.

    Training is `fit`, in `dtype`; θ₀ and Φ are then cast to float64, and losses and accuracies are those of
    f(x; θ₀ + g(Φ)) in float64.

    Args:
        network: the base network; its parameters are cast as needed.
        task: trains on `task.new`.
        method: gives g.
        seeds: as `fit` has it, like the arguments up to `patience`.
        learning_rates: R rates to choose from.
        steps: optimizer steps.
        batch_size: examples in a mini-batch, or None.
        weight_decay: λ.
        eval_every: steps between evaluations.
        patience: evaluations without improvement that end a run, or None.
        dtype: what training computes in.
        polish_to: after training, move Φ to a stationary point with this gradient norm, in float64 (see
            `polish`).
        cache: keeps all seeds together as one entry, found again by everything that determines the result;
            None to compute always.
        progress: called after each evaluation of `fit`; not called when the cache has the result.

    Returns:
        One FineTuning for each seed. Its `full` is filled in when the method trains all parameters.

    Raises:
        ValueError: as `fit` and `polish`, and when JAX is limited to 32 bits.
    """
    job = Job(
        network=network.astype("float64"),
        task=task,
        method=method,
        seeds=check_seeds(seeds),
        learning_rates=check_rates(learning_rates),
        settings=Settings(steps, batch_size, weight_decay, eval_every, patience),
        dtype=tree.check_dtype(dtype).name,
        polish_to=polish_to,
    )
    return job.finetunings(cache, progress)


@dataclasses.dataclass(frozen=True)
class Job:
    """What `finetune` was asked for: the key of its result, the way to compute it, and what becomes of it.

    The sweeps make one for each of their points, so that their results are what `finetune` would return.
    """

    network: Network
    task: Task
    method: Method
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    settings: Settings
    dtype: str
    polish_to: float | None

    def key(self) -> Json:
        """Everything that determines the result."""
        return {
            "kind": "finetuning",
            "architecture": repr(self.network.architecture),
            "theta0": digest(self.network.params),
            "code": code_of(self.network, self.method, self.task.new.train.x.shape[1:]),
            "method": settings_of(self.method),
            "task": {part: digest(dataclasses.asdict(getattr(self.task.new, part))) for part in PARTS},
            "settings": dataclasses.asdict(self.settings),
            **{name: getattr(self, name) for name in ("seeds", "learning_rates", "dtype", "polish_to")},
            "environment": environment(),
        }

    def finetunings(
        self, cache: Cache | None, progress: Callable[[Progress], None] | None
    ) -> list[FineTuning]:
        """The results, from the cache where it has them."""
        if cache is None:
            return self.results(*self.run(progress))
        key = self.key()
        found = cache.get(key)
        if found is None:
            found = self.run(progress)
            cache.put(key, *found)
        return self.results(*found)

    def run(self, progress: Callable[[Progress], None] | None) -> tuple[dict[str, np.ndarray], Json]:
        """Train, and summarize what came out."""
        trained = fit(
            self.network.astype(self.dtype),
            self.task.new,
            self.method,
            seeds=self.seeds,
            learning_rates=self.learning_rates,
            **dataclasses.asdict(self.settings),
            progress=progress,
        )
        return self.summary(trained)

    def summary(
        self, trained: Fit, subsets: Int[np.ndarray, "S N"] | None = None
    ) -> tuple[dict[str, np.ndarray], Json]:
        """Φ by the path of its leaves, each (S, ...), and the facts of each seed: what the cache holds.

        With subsets, the rows of the training examples of each seed, those are its training split.
        """
        runs, base = [], self._outputs(self.network)
        for row, (method, seed) in enumerate(zip(trained.methods, self.seeds, strict=True)):
            facts, only = trained.facts(seed), None if subsets is None else subsets[row]
            phi, facts = self._polished(method, _double(trained.best(seed)), facts)
            tuned = FineTuning(self.network, self.task, method, phi).tuned
            facts |= self._scores(self._outputs(tuned), only) | {"seconds": trained.seconds}
            runs.append((phi, facts | self._scores(base, only, "zero_shot_")))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[phi for phi, _ in runs])
        first = {} if trained.first is None else _named(trained.first, _FIRST)
        return _named(stacked) | first, {"runs": [facts for _, facts in runs]}

    def results(self, stacked: dict[str, np.ndarray], facts: Json) -> list[FineTuning]:
        """A FineTuning for each seed, from a summary."""
        made = []
        for row, (seed, method) in enumerate(zip(self.seeds, self._methods(stacked), strict=True)):
            template = method.trainable(method.enlarge(self.network)).template
            phi = _filled(template, {name: leaf[row] for name, leaf in stacked.items()})
            one = FineTuning(self.network, self.task, method, phi, seed, None, facts["runs"][row])
            made.append(dataclasses.replace(one, full=one.theta) if _trains_all(one) else one)
        return made

    def _methods(self, stacked: dict[str, np.ndarray]) -> list[Method]:
        """The method of each seed: of a staged one, what the update of the first stage resolves it to."""
        if not isinstance(self.method, Staged):
            return [self.method] * len(self.seeds)
        updates = ({name: leaf[row] for name, leaf in stacked.items()} for row, _ in enumerate(self.seeds))
        return [
            self.method.resolve(self.network, _filled(self.network.params, update, _FIRST))
            for update in updates
        ]

    def _polished(self, method: Method, phi: Phi, facts: Json) -> tuple[Phi, Json]:
        if self.polish_to is None:
            return phi, facts
        decay, tolerance = self.settings.weight_decay, self.polish_to
        train = self.task.new.train
        polished = polish(self.network, train, method, phi, weight_decay=decay, tolerance=tolerance)
        return _double(polished.phi), {**facts, "gradient_norm": polished.gradient_norm}

    def _outputs(self, network: Network) -> list[Float[np.ndarray, "p outputs"]]:
        """The outputs on the three splits, in float64."""
        splits = [getattr(self.task.new, part) for part in PARTS]
        ends = np.cumsum([len(split) for split in splits])[:-1]
        # One call for all examples: each shape is compiled anew.
        x = np.concatenate([split.x for split in splits])
        return np.split(np.asarray(_outputs(hashable(network.apply), network.params, x)), ends)

    def _scores(
        self,
        outputs: list[Float[np.ndarray, "p outputs"]],
        subset: Int[np.ndarray, " N"] | None,
        prefix: str = "",
    ) -> dict[str, float]:
        """Loss and accuracy of the three splits; with a subset, of that part of the training split."""
        scores = {}
        for part, f in zip(PARTS, outputs, strict=True):
            y = getattr(self.task.new, part).y
            if part == "train" and subset is not None:
                f, y = f[subset], y[subset]  # noqa: PLW2901 - the same thing, of fewer examples
            loss = logsumexp(f, axis=1) - f[np.arange(len(y)), y]
            scores[f"{prefix}{part}_loss"] = float(loss.mean())
            scores[f"{prefix}{part}_accuracy"] = float((f.argmax(axis=1) == y).mean())
        return scores


@functools.partial(jax.jit, static_argnums=0)
def _outputs(apply: Callable, theta: Params, x: Float[ArrayLike, "p ..."]) -> Float[Array, "p outputs"]:
    return apply(theta, x)


def code_of(network: Network, method: Method, shape: tuple[int, ...]) -> dict[str, str]:
    """What the functions compute, as the sha256 of their lowered programs: names and settings may not tell.

    The code of our own methods is told by the version of the package.
    """
    leaves = tuple((path, leaf.shape, leaf.dtype.name) for path, leaf in tree.paths(network.params).items())
    code = {"network": _code_of_network(hashable(network.apply), leaves, shape)}
    if not type(method).__module__.startswith(f"{__package__}."):
        larger = method.enlarge(network)
        program = Program.of(larger, method, Settings())
        phi = method.trainable(larger).template
        code["method"] = _sha256_of_program(program.theta, phi, larger.params)
    return code


@functools.lru_cache(maxsize=64)
def _code_of_network(
    apply: Callable, leaves: tuple[tuple[str, tuple[int, ...], str], ...], shape: tuple[int, ...]
) -> str:
    params = tree.from_paths({path: jax.ShapeDtypeStruct(size, dtype) for path, size, dtype in leaves})
    batch = jax.ShapeDtypeStruct((1, *shape), leaves[0][-1]), jax.ShapeDtypeStruct((1,), "int32")
    # The gradient, because custom derivatives are code as well.
    return _sha256_of_program(
        jax.grad(lambda theta, batch: cross_entropy(apply, theta, batch)[0]), params, batch
    )


def _sha256_of_program(function: Callable, *arguments: PyTree) -> str:
    return hashlib.sha256(jax.jit(function).lower(*arguments).as_text().encode()).hexdigest()


def _double(params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)


def _named(params: PyTree, prefix: str = "") -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {prefix + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _filled(template: PyTree, named: dict[str, np.ndarray], prefix: str = "") -> PyTree:
    """A tree like `template` from leaves by name, in float64."""
    leaves = [jnp.asarray(named[name], jnp.float64) for name in _named(template, prefix)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _trains_all(tuning: FineTuning) -> bool:
    touched = tuning.trainable.touched()
    return isinstance(tuning.method, Full) and set(touched) == set(tree.paths(tuning.network.params))


def settings_of(value: Any) -> Json:
    """Settings of a method as JSON: the classes of what is nested in it count, arrays by their digest."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: settings_of(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [type(value).__qualname__, fields]
    if isinstance(value, Frozen):
        return value.digest
    return [settings_of(one) for one in value] if isinstance(value, tuple) else value
