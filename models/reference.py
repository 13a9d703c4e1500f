"""The networks that the project itself observes: small, trained on real data within seconds, and cached."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp

from .cache import Cache
from .curves import SEEDS
from .curves import SETTINGS as CURVE_SETTINGS
from .finetuning import FineTuning, finetune
from .fit import Progress
from .inputs import check_seeds
from .methods import Full, LoRA, Method
from .methods import method as find_method
from .methods.rank import methods_of_rank
from .mlp import MLPConfig, mlp
from .network import Network
from .paired_curves import LearningCurves, learning_curves
from .sweep import SETTINGS, Sweep, layer_sweep, method_sweep, rank_sweep
from .tasks import Task, task
from .training import Settings
from .transformer import TransformerConfig, transformer

METHODS = ("full", "head", "lora-r1", "lora-r4", "bitfit", "ia3")
"""The methods that a reference network is fine-tuned with, where they apply, unless it has its own."""
FEWER = ("full", "head", "lora-r2", "bitfit", "ia3")
"""With a single rank: of networks that take long to judge, or whose ranks are swept."""
RANKS = (1, 2, 3, 4, 6, 8, 12, 16)
"""The ranks of a sweep over reference networks."""
CURVED = ("full", "lora-r1", "bitfit")
"""The methods of learning curves, where they apply; "full" is what the others are compared with."""
CURVED_ALL = ("full", "lora-r1", "lora-r4", "krona", "bitfit", "ia3")
"""Those of a longer look."""
CURVE_TASKS = ("digits_noisy", "digits_rotated")
"""With and without a crossover of full and parameter-efficient fine-tuning, at least for BitFit."""
OTHERS = ("lora-fa-r4", "loha-r2", "dora-r4", "krona", "mask-5%")
"""Further methods, one of each kind that needs no attention; a full run takes all there are."""


@dataclass(frozen=True)
class Reference:
    """A reference network: how it is built, pretrained and fine-tuned.

    Attributes:
        name: how reports call it.
        description: one line for people.
        config: of the network.
        task: name of the task.
        pretraining: on the base task, all parameters at learning rate 1e-2.
        training: on the new task.
        learning_rates: what to choose from on validation, by family of methods.
        methods: names of the methods that it is fine-tuned with by default.
        others: further ones, with one seed.
        sweeping: training in sweeps: shorter, and each run returns its best Φ on validation, because a large
            rank overfits in the end.
        curving: training in learning curves: the same number of steps for any number of examples.
    """

    name: str
    description: str
    config: MLPConfig | TransformerConfig
    task: str
    pretraining: Settings
    training: Settings
    learning_rates: Mapping[str, tuple[float, ...]]
    methods: tuple[str, ...] = METHODS
    others: tuple[str, ...] = ()
    sweeping: Settings = SETTINGS
    curving: Settings = CURVE_SETTINGS

    @property
    def tokens(self) -> bool:
        """Whether its inputs are sequences of tokens."""
        return isinstance(self.config, TransformerConfig)

    def load_task(self) -> Task:
        """The task, with inputs in the form that the network takes."""
        return task(self.task, tokens=self.tokens)

    def rates(self, method: Method) -> tuple[float, ...]:
        """The learning rates to choose from for a method: those of its family."""
        return self.learning_rates[family(method)]

    def takes(self, method: str | Method) -> bool:
        """Whether a method is defined for this network."""
        one = method if isinstance(method, Method) else find_method(method)
        try:
            one.check(_untrained(self.config, self.name))
        except ValueError:
            return False
        return True


def family(method: Method) -> str:
    """Which learning rates suit a method: those of weights, of factors of weights ("lora"), or of scales."""
    stem = re.match(r"[a-z0-9]+(-[a-z]+)?", method.name)[0]
    return next((name for name, stems in _FAMILIES.items() if stem.startswith(stems)), "lora")


_FAMILIES = {
    "full": ("full", "top", "mask", "lt-sft", "far"),
    "head": ("head",),
    "bitfit": ("bitfit",),
    "ia3": ("ia3",),
    "scales": ("vera", "diagonal"),
}
_MLP_RATES = {
    "full": (1e-3, 3e-3, 1e-2),
    "head": (3e-3, 1e-2, 3e-2),
    "lora": (3e-3, 1e-2, 3e-2),
    "bitfit": (1e-2, 3e-2, 1e-1),
    "ia3": (3e-2, 1e-1, 3e-1),
    "scales": (1e-2, 3e-2, 1e-1),
}
_TRANSFORMER_RATES = {
    "full": (3e-3, 1e-2, 3e-2),
    "head": (3e-3, 1e-2, 3e-2),
    "lora": (1e-2, 3e-2, 9e-2),
    "bitfit": (3e-2, 1e-1, 3e-1),
    "ia3": (3e-2, 1e-1, 3e-1),
    "scales": (1e-2, 3e-2, 1e-1),
}
_MLP = Settings(steps=3000, batch_size=100, eval_every=500)
_TRANSFORMER = Settings(steps=600, batch_size=50, eval_every=200)
_MLP_SWEEP = Settings(steps=1500, batch_size=100, eval_every=300, patience=5)
_TRANSFORMER_CURVE = Settings(steps=300, batch_size=20, eval_every=100, patience=3)
_TRANSFORMER_SWEEP = Settings(steps=300, batch_size=50, eval_every=100, patience=3)

REFERENCES: dict[str, Reference] = {
    reference.name: reference
    for reference in (
        Reference(
            name="mlp-tanh",
            description="tanh MLP 64-32-32-10 with biases",
            config=MLPConfig((64, 32, 32, 10), activation="tanh"),
            task="digits_rotated",
            pretraining=_MLP,
            training=_MLP,
            sweeping=_MLP_SWEEP,
            learning_rates=_MLP_RATES,
            others=OTHERS,
        ),
        Reference(
            name="mlp-relu",
            description="ReLU MLP 64-32-32-10 without biases, to which the printed Theorem 2 applies",
            config=MLPConfig((64, 32, 32, 10), activation="relu", biases=False),
            task="digits_rotated",
            pretraining=_MLP,
            training=_MLP,
            sweeping=_MLP_SWEEP,
            # A large step lets the new head grow beyond the range in which it shows that equation 6 fails.
            learning_rates=_MLP_RATES | {"head": (3e-4, 1e-3, 3e-3)},
            methods=tuple(name for name in FEWER if name != "bitfit"),
            others=("serial-adapter-4",),
        ),
        Reference(
            name="transformer",
            description="pre-norm encoder over the 8 rows of an image",
            config=TransformerConfig(
                features=8, length=8, width=24, depth=1, heads=2, hidden=48, outputs=10, activation="gelu"
            ),
            task="digits_rotated",
            pretraining=_TRANSFORMER,
            training=_TRANSFORMER,
            sweeping=_TRANSFORMER_SWEEP,
            curving=_TRANSFORMER_CURVE,
            learning_rates=_TRANSFORMER_RATES,
            methods=FEWER,  # each compiles anew the attack on its bound
            others=("prefix-4", "s4"),
        ),
    )
}


def reference(name: str) -> Reference:
    """The reference network of that name.

    Raises:
        ValueError: an unknown name; the message lists those there are.
    """
    if name not in REFERENCES:
        raise ValueError(f"name: got {name!r}, needs a reference network, one of {', '.join(REFERENCES)}")
    return REFERENCES[name]


def pretrained(
    reference: Reference, cache: Cache | None = None, progress: Callable[[Progress], None] | None = None
) -> Network:
    """The base network of a reference: trained on the base task in float32, given in float64.

    Args:
        reference: which one.
        cache: where to keep it; None to train it anew.
        progress: as in `fit`.

    Raises:
        ValueError: JAX is limited to 32 bits.
    """
    network, new = _untrained(reference.config, reference.name), reference.load_task()
    base = Task(f"{new.name} (base)", None, new.base, new.classes)
    (tuned,) = finetune(
        network,
        base,
        Full(name="pretraining"),
        learning_rates=(1e-2,),
        **asdict(reference.pretraining),
        cache=cache,
        progress=progress,
    )
    # Through float32, so that what was trained in float32 starts from exactly the network that is judged.
    return network.astype("float64").with_params(
        jax.tree.map(lambda leaf: leaf.astype(jnp.float32).astype(jnp.float64), tuned.theta)
    )


def finetunings(
    reference_name: str,
    methods: Sequence[str | Method] | None = None,
    seeds: Sequence[int] = (0, 1),
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
    full_seeds: Sequence[int] | None = None,
) -> Iterator[list[FineTuning]]:
    """Fine-tunes a reference network with one method after the other, as they are asked for.

    Args:
        reference_name: a name in `REFERENCES`.
        methods: names as the command line has them, or methods; those of the reference when None.
        seeds: one FineTuning for each.
        cache: where base networks and fits are kept; None to compute them anew.
        progress: as in `fit`.
        full_seeds: with which seeds full fine-tuning is trained, `seeds` among them; by default these. If it
            stays the same, runs with fewer seeds find it in the cache.

    Returns:
        For each method the FineTunings of all seeds, each with the `full` of the same seed; for that the
        full fine-tuning is trained, or found in the cache, even when it is not among the methods.

    Raises:
        ValueError: an unknown network or method, or one that does not apply to the network.
    """
    chosen = reference(reference_name)
    wanted = [
        one if isinstance(one, Method) else find_method(one)
        for one in (chosen.methods if methods is None else methods)
    ]
    untrained = _untrained(chosen.config, chosen.name)
    for method in wanted:
        method.check(untrained)
    check_seeds(seeds)
    every = tuple(seeds if full_seeds is None else full_seeds)
    check_seeds(every)
    if set(seeds) - set(every):
        raise ValueError(f"full_seeds: got {every}, needs all of seeds={tuple(seeds)} among them")
    return _finetunings(chosen, wanted, tuple(seeds), every, cache, progress)


def _finetunings(
    chosen: Reference,
    wanted: list[Method],
    seeds: tuple[int, ...],
    full_seeds: tuple[int, ...],
    cache: Cache | None,
    progress: Callable[[Progress], None] | None,
) -> Iterator[list[FineTuning]]:
    network, new = pretrained(chosen, cache, progress), chosen.load_task()

    def tune(method: Method, seeds: tuple[int, ...]) -> list[FineTuning]:
        return finetune(
            network,
            new,
            method,
            seeds=seeds,
            learning_rates=chosen.rates(method),
            **asdict(chosen.training),
            cache=cache,
            progress=progress,
        )

    full = [one for one in tune(Full(), full_seeds) if one.seed in seeds]
    full.sort(key=lambda one: seeds.index(one.seed))
    for method in wanted:
        tuned = full if method == Full() else tune(method, seeds)
        yield [replace(one, full=other.theta) for one, other in zip(tuned, full, strict=True)]


def swept(
    reference_name: str,
    axis: Literal["rank", "layers", "method"] = "rank",
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    ranks: Sequence[int] = RANKS,
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Sweep:
    """A sweep on a reference network: over the rank of LoRA, the top layers, or methods of one rank.

    Args:
        reference_name: a name in `REFERENCES`.
        axis: "rank" gives a `RankSweep` over `ranks`; "layers" the last k layers; "method" the methods of
            `methods_of_rank` at the largest of the ranks, and full fine-tuning beside them.
        seeds: S seeds. With three, little is known of where a plateau begins.
        ranks: ascending.
        cache: where base networks and points are kept.
        progress: as in `fit`.

    Raises:
        ValueError: an unknown network or axis, and what `rank_sweep` refuses.
    """
    chosen = reference(reference_name)
    if axis not in ("rank", "layers", "method"):
        raise ValueError(f"axis: got {axis!r}, needs 'rank', 'layers' or 'method'")
    network, new = pretrained(chosen, cache, progress), chosen.load_task()
    common = {"seeds": seeds, "settings": chosen.sweeping, "cache": cache, "progress": progress}
    if axis == "rank":
        return rank_sweep(network, new, ranks, learning_rates=chosen.rates(LoRA()), **common)
    if axis == "layers":
        return layer_sweep(network, new, learning_rates=chosen.rates(Full()), **common)
    methods = methods_of_rank(network, max(ranks)) | {"all": Full()}
    return method_sweep(network, new, methods, learning_rates=chosen.rates, **common)


def curves(
    reference_name: str,
    methods: Sequence[str | Method] | None = None,
    task_name: str = CURVE_TASKS[0],
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] = SEEDS,
    cache: Cache | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> LearningCurves:
    """Learning curves of a reference network: several methods on N examples, paired by seed.

    Args:
        reference_name: a name in `REFERENCES`.
        methods: names or methods; those of `CURVED` that apply when None.
        task_name: a name in `TASKS`; the base network is pretrained on the base task of this one. With
            "digits_noisy" few parameters win on few examples, with "digits_rotated" they do not.
        sizes: V sample sizes; by default six from two of each class to all training examples.
        seeds: S seeds.
        cache: where base networks and points are kept.
        progress: as in `fit`.

    Raises:
        ValueError: an unknown network, method or task, one that does not apply, and what `learning_curves`
            refuses.
    """
    chosen = replace(reference(reference_name), task=task_name)
    new, wanted = chosen.load_task(), CURVED if methods is None else methods
    made = [one if isinstance(one, Method) else find_method(one) for one in wanted]
    network = pretrained(chosen, cache, progress)
    return learning_curves(
        network,
        new,
        [one for one in made if methods is not None or chosen.takes(one)],
        sizes=sizes,
        seeds=seeds,
        learning_rates=chosen.rates,
        settings=chosen.curving,
        cache=cache,
        progress=progress,
    )


@functools.lru_cache(maxsize=8)
def _untrained(config: MLPConfig | TransformerConfig, name: str) -> Network:
    """The network before pretraining; drawing it costs more than looking up all that was trained."""
    build = transformer if isinstance(config, TransformerConfig) else mlp
    return build(config, jax.random.key(0), name=name)
