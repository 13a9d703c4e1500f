"""Time of the sweeps of Theorem 3, each against the Python loop that one would write, in the same run.

    python benchmarks/diminishing.py

Truncation: the losses of W₀ + truncated update at every rank, for a transformer of 6 blocks, in one jitted
call; the peer decomposes once, forms U_r S_r V_rᵀ with NumPy for each rank and calls a forward that is
jitted once.  Both times contain the decomposition and the transfers.  The results are compared first.

Rank sweep: LoRA at 8 ranks × seeds × 3 learning rates by one compiled program; the peer calls `fit` for each
rank and seed, its learning rates side by side.  Ours also scores the chosen runs on three splits in float64.

A ratio is the peer's time over ours, the median of repeated, alternating runs with their range: machines are
noisy.  The first call minus the median of the later ones is given as compile time, apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from peftproof.models import tree  # noqa: E402
from peftproof.models.fit import fit  # noqa: E402
from peftproof.models.methods import LoRA  # noqa: E402
from peftproof.models.methods.rank import capped  # noqa: E402
from peftproof.models.mlp import mlp  # noqa: E402
from peftproof.models.network import Network  # noqa: E402
from peftproof.models.sweep import rank_sweep  # noqa: E402
from peftproof.models.tasks import Splits, task  # noqa: E402
from peftproof.models.training import Settings  # noqa: E402
from peftproof.models.transformer import TransformerConfig, transformer  # noqa: E402
from peftproof.theorems.diminishing.truncation import truncations  # noqa: E402

RANKS = (1, 2, 3, 4, 6, 8, 12, 16)
RATES = (3e-3, 1e-2, 3e-2)


def looped(network: Network, splits: Splits, update: tree.Params, forward: Callable) -> np.ndarray:
    """The peer of `truncations`: the test loss at each rank, one rank after the other."""
    changes, split = tree.paths(update), splits.test
    base = {path: np.asarray(leaf) for path, leaf in tree.paths(network.params).items()}
    factors = {
        path: np.linalg.svd(np.asarray(leaf), full_matrices=False)
        for path, leaf in changes.items()
        if path.endswith("kernel")
    }
    losses = []
    for r in range(max(len(s) for _, s, _ in factors.values()) + 1):
        params = {path: leaf + np.asarray(changes[path]) for path, leaf in base.items()}
        for path, (u, s, vt) in factors.items():
            params[path] = base[path] + (u[:, :r] * s[:r]) @ vt[:r]
        f = np.asarray(forward(tree.from_paths(params), split.x))
        losses.append(np.mean(np.log(np.exp(f).sum(axis=1)) - f[np.arange(len(split)), split.y]))
    return np.array(losses)


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def row(name: str, ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> str:
    """Compile times, times and their ratio, alternating between the two."""
    spent = np.array([[timed(ours), timed(peer)] for _ in range(repeats + 1)])
    first, later = spent[0], spent[1:]
    compile_times = np.maximum(first - np.median(later, axis=0), 0)
    cells = [f"{seconds:.2f} s" for seconds in (*np.median(later, axis=0), *compile_times)]
    cold = f"{first[1] / first[0]:.3g}"
    return f"| {name} | {' | '.join(cells)} | {spread(later[:, 1] / later[:, 0])} | {cold} |"


def spread(values: np.ndarray) -> str:
    """Median, and the range in brackets."""
    return f"{np.median(values):.3g} [{values.min():.3g}, {values.max():.3g}]"


def truncation_rows(repeats: int, width: int, depth: int) -> list[str]:
    """All ranks of a transformer, jointly in all layers."""
    config = TransformerConfig(
        features=8, length=8, width=width, depth=depth, heads=4, hidden=2 * width, outputs=10
    )
    network = transformer(config, jax.random.key(0), dtype="float64")
    splits, rng = task("digits_rotated", tokens=True).new, np.random.default_rng(0)
    update = jax.tree.map(lambda leaf: np.asarray(0.1 * rng.normal(size=leaf.shape)), network.params)
    forward = jax.jit(network.apply)

    def ours() -> np.ndarray:
        return truncations(network, splits, update, parts=("test",)).joint.loss["test"]

    def peer() -> np.ndarray:
        return looped(network, splits, update, forward)

    # Another number side by side, and no jit: the clock below still sees both compile.
    np.testing.assert_allclose(
        truncations(network, splits, update, parts=("test",), at_once=2).joint.loss["test"],
        looped(network, splits, update, network.apply),
        rtol=1e-9,
    )
    return [row(f"truncation, {depth} blocks of width {width}, ranks 0 to {width}", ours, peer, repeats)]


def sweep_rows(repeats: int, steps: int, seeds: int) -> list[str]:
    """LoRA at every rank, on the perceptron of the reference networks."""
    network, digits = mlp((64, 32, 32, 10), jax.random.key(0)), task("digits_rotated")
    settings = Settings(steps=steps, batch_size=100, eval_every=max(1, steps // 2))
    some = tuple(range(seeds))

    def ours() -> None:
        rank_sweep(network, digits, RANKS, seeds=some, learning_rates=RATES, settings=settings)

    def peer() -> None:
        for rank in RANKS:
            method = capped(network, LoRA(rank))
            for seed in some:
                fit(network, digits.new, method, seeds=(seed,), learning_rates=RATES, **asdict(settings))

    return [
        row(f"{len(RANKS)} ranks × {seeds} seeds × {len(RATES)} rates, {steps} steps", ours, peer, repeats)
    ]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="repetitions after the first call")
    parser.add_argument("--steps", type=int, default=500, help="optimizer steps of the rank sweep, even")
    parser.add_argument("--seeds", type=int, default=3, help="of the rank sweep")
    parser.add_argument("--width", type=int, default=32, help="of the transformer")
    parser.add_argument("--depth", type=int, default=6, help="of the transformer")
    chosen = parser.parse_args()
    print(f"On {jax.devices()[0].device_kind}, JAX {jax.__version__}.\n")  # noqa: T201
    head = ("", "ours", "loop", "ours, compiling", "loop, compiling", "loop / ours", "first call")
    print("|", " | ".join(head), "|\n|---|---|---|---|---|---|---|")  # noqa: T201
    print(*truncation_rows(chosen.repeats, chosen.width, chosen.depth), sep="\n", flush=True)  # noqa: T201
    print(*sweep_rows(chosen.repeats, chosen.steps, chosen.seeds), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
