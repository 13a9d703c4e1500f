"""Slack and time of the bounds of Theorem 2, each against a named peer in the same run.

    python benchmarks/capacity.py

Slack is bound / attack: the truth lies between the two.  The peer for slack is the perturbation bound of
Neyshabur, Bhojanapalli and Srebro (ICLR 2018, Lemma 2), e·∏‖W‖·Σ‖Φ‖/‖W‖·‖x‖, which holds for bias-free ReLU
networks and updates with ‖Φ_k‖ ≤ ‖W_k‖/N.  The peer for time is the same bound with `numpy.linalg.norm(W, 2)`
in place of the certified norms.  For transformers the peer is the plain chain, the product of the layers'
Lipschitz constants on the ball that norm layers leave.  Times are ratios, with their spread over repetitions:
machines are noisy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from peftproof.models import tree  # noqa: E402
from peftproof.models.cache import Cache  # noqa: E402
from peftproof.models.mlp import MLPConfig, mlp  # noqa: E402
from peftproof.models.reference import finetunings  # noqa: E402
from peftproof.theorems.capacity import bounds  # noqa: E402
from peftproof.theorems.capacity.attack import attack, budgets_of  # noqa: E402
from peftproof.theorems.capacity.feedforward import FeedForward  # noqa: E402
from peftproof.theorems.capacity.observed import pair_of  # noqa: E402
from peftproof.theorems.capacity.sandwich import attacked  # noqa: E402
from peftproof.theorems.capacity.transformer import deviation_bound, plain_chain  # noqa: E402
from peftproof.theorems.capacity.transformer_pair import trained  # noqa: E402

BOUNDS = {"A": bounds.base_weights, "B": bounds.tuned_weights, "C": bounds.a_priori}
SHAPES = {"64-32-32-10": (64, 32, 32, 10), "width 100, depth 10": (100,) * 11}


def neyshabur(pair: FeedForward) -> np.ndarray:
    """The peer's bound, where its hypotheses hold; infinite where they do not."""
    ratios = [u / w for u, w in zip(pair.update_norms, pair.weight_norms, strict=True)]
    if max(ratios) > 1 / pair.depth:
        return np.full(len(pair.x), np.inf)
    return np.e * np.prod(pair.weight_norms) * sum(ratios) * np.linalg.norm(pair.x, axis=-1)


def make(widths: tuple[int, ...], relative: float, seed: int) -> tuple:
    """A bias-free ReLU network, an update with ‖Φ_k‖ = relative·‖W_k‖, and inputs."""
    key, other = jax.random.split(jax.random.key(seed))
    network = mlp(MLPConfig(widths, activation="relu", biases=False), key=key, dtype=jax.numpy.float64)
    leaves = tree.paths(network.params)
    keys = jax.random.split(other, len(leaves))
    update = {}
    for (path, weight), one in zip(leaves.items(), keys, strict=True):
        noise = jax.random.normal(one, weight.shape, weight.dtype)
        update[path] = relative * noise * (np.linalg.norm(weight, 2) / np.linalg.norm(noise, 2))
    x = np.random.default_rng(seed).normal(size=(2, widths[0]))
    return network, tree.from_paths(update), x / np.linalg.norm(x, axis=1, keepdims=True)


def slack_rows(repeats: int) -> list[str]:
    """One row per shape and size of update: the smallest, median and largest slack over seeds."""
    rows = []
    for name, widths in SHAPES.items():
        for relative in (0.01, 0.1, 0.5):
            found: dict[str, list[float]] = {}
            for seed in range(repeats):
                network, update, x = make(widths, relative, seed)
                pair = pair_of(network, tree.add(network.params, update), x)
                reached = attack(network, budgets_of(update), x, key=jax.random.key(seed), start=update)
                for label, value in {"C": bounds.a_priori(pair), "peer": neyshabur(pair)}.items():
                    found.setdefault(label, []).extend(value / reached.deviation)
                for label in "AB":
                    found.setdefault(label, []).extend(BOUNDS[label](pair) / pair.deviation)
            cells = " | ".join(spread(found[label]) for label in ("A", "B", "C", "peer"))
            rows.append(f"| {name} | {relative} | {cells} |")
    return rows


def reference_rows() -> list[str]:
    """One row per reference network and method: medians over test images, attack within the trained norms."""
    rows = []
    for name, methods in {"mlp-relu": ("full", "head", "lora-r2"), "mlp-tanh": ("full", "lora-r2")}.items():
        for (tuning,) in finetunings(name, methods, (0,), Cache()):
            (found,) = attacked(tuning)
            pair = found.pair
            own = [spread(BOUNDS[label](pair) / pair.deviation) for label in "AB"]
            other = [spread(value / found.lower) for value in (found.upper, neyshabur(pair))]
            rows.append(f"| {name}, {tuning.method.name} | trained | {' | '.join(own + other)} |")
    return rows


def transformer_rows() -> list[str]:
    """One row per method: the chain, the range and the plain product of layer constants over the truth."""
    rows = []
    for (tuning,) in finetunings("transformer", ("full", "head", "lora-r2", "bitfit"), (0,), Cache()):
        (pair,) = trained(tuning)
        found, config = pair.certificate, tuning.network.architecture
        start = time.perf_counter()
        deviation_bound(config, pair.base, pair.theta, pair.x)
        ours = time.perf_counter() - start
        start = time.perf_counter()
        plain = plain_chain(config, pair.base, pair.theta, pair.x)
        peer = time.perf_counter() - start
        cells = [found.chain / pair.deviation, found.range / pair.deviation, plain / pair.deviation]
        cells.append(pair.budget() / pair.attacked)
        timing = f"{1e3 * ours / len(pair.x):.1f} ms | {ours / peer:.1f}"
        rows.append(f"| {tuning.method.name} | {' | '.join(spread(c) for c in cells)} | {timing} |")
    return rows


def spread(values: list[float]) -> str:
    """Median, and the range in brackets."""
    if not np.all(np.isfinite(values)):
        return "not covered"
    return f"{np.median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def time_rows(repeats: int) -> list[str]:
    """Time of each bound over the time of its uncertified peer, alternating between the two."""
    rows = []
    for name, widths in SHAPES.items():
        network, update, x = make(widths, 0.1, 0)
        theta = tree.add(network.params, update)
        ratios: dict[str, list[float]] = {label: [] for label in BOUNDS}
        seconds: dict[str, list[float]] = {label: [] for label in BOUNDS}
        for _ in range(repeats + 1):
            for label, bound in BOUNDS.items():
                certified, plain = pair_of(network, theta, x), pair_of(network, theta, x)
                ours = timed(lambda bound=bound, pair=certified: bound(pair))
                peer = timed(lambda pair=plain: uncertified(pair))
                ratios[label].append(ours / peer)
                seconds[label].append(ours)
        rows += [
            f"| {name} | {label} | {1e3 * np.median(spent[1:]):.2f} ms | {spread(ratios[label][1:])} |"
            for label, spent in seconds.items()
        ]
    return rows


def uncertified(pair: FeedForward) -> float:
    """Norms as NumPy gives them, product and sum: what one would write without asking for a certificate."""
    weights = [np.linalg.norm(w, 2) for w in pair.weights]
    updates = [np.linalg.norm(u, 2) for u in pair.updates]
    return np.prod([w + u for w, u in zip(weights, updates, strict=True)]) - np.prod(weights)


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="seeds for the slack, repetitions for the time"
    )
    repeats = parser.parse_args().repeats
    print("| network | ‖Φ‖/‖W‖ | (A) / truth | (B) / truth | (C) / attack | peer / attack |")  # noqa: T201
    print("|---|---|---|---|---|---|", *slack_rows(repeats), sep="\n")  # noqa: T201
    print(*reference_rows(), sep="\n")  # noqa: T201
    head = (
        "transformer",
        "chain / truth",
        "range / truth",
        "plain / truth",
        "budget / attack",
        "time per input",
        "/ plain",
    )
    print("\n|", " | ".join(head), "|")  # noqa: T201
    print("|---|---|---|---|---|---|---|", *transformer_rows(), sep="\n")  # noqa: T201
    print("\n| network | bound | time | time / peer |")  # noqa: T201
    print("|---|---|---|---|", *time_rows(repeats), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
