"""Curvature of one network: ours against PyTorch's tools on the same network and data, in one process.

    pip install torch curvlinops-for-pytorch
    python benchmarks/curvature.py

The network is a tanh MLP 64-36-36-10 (d = 4,042), trained on digits and adapted to rotated ones with LoRA of
rank 4 (k = 872); all is float64.  Three tasks: the ten largest eigenvalues of the Hessian H of the training
loss, PᵀHP for the tangent P of LoRA, and H itself.  Lanczos' method sees a repeated eigenvalue once, also in
ARPACK; ours looks for copies unless told not to, so there is a row for each.  A last task has no peer:
eigenvalues of a network with more than a million parameters, from products alone.

The peers are `curvlinops.HessianLinearOperator` (with SciPy's `eigsh` for eigenvalues) and what one writes
with `torch.func` alone: jvp of grad, vectorised by vmap; with --compile also that through `torch.compile`.
Each peer first chooses the fastest of one or all threads and of several numbers of columns at once.  Both
sides stop at the same accuracy, ‖Hx − λx‖ ≤ 1e-8 λ₁, measured with a third implementation of the product.

Why one process: both sides then see the same minute of the same machine, in turns, and a fresh Python for
each turn would have to compile anew.  --only ours and --only peer time a side alone; its times should be
those that it has in turns.

A ratio is the time of the peer over ours, median and quartiles.  A neighbour slows a peer with two threads
far more than it slows us, and so would flatter us: each turn waits until the machine is idle, and what other
processes use meanwhile is measured.  Disturbed turns are dropped and repeated, and a row with fewer than
three quiet ones says so.
"""

from __future__ import annotations

import argparse
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
from jax.flatten_util import ravel_pytree  # noqa: E402
from quiet import CORES, calls_of, cells, idle, paired, seconds, turn_of, watched  # noqa: E402

from peftproof.models import tree  # noqa: E402
from peftproof.models.finetuning import finetune  # noqa: E402
from peftproof.models.methods import Full, LoRA  # noqa: E402
from peftproof.models.mlp import mlp  # noqa: E402
from peftproof.models.network import Network  # noqa: E402
from peftproof.models.tasks import Split, Task, task  # noqa: E402
from peftproof.theorems import curvature  # noqa: E402

if TYPE_CHECKING:
    from curvature_torch import Peer

WIDTHS = (64, 36, 36, 10)
TASKS = {
    "ten": "ten largest eigenvalues",
    "copies": "the same, looking for copies",
    "restricted": "PᵀHP, k = 872",
    "dense": "H, d = 4,042",
}
PEERS = ("curvlinops", "torch.func", "torch.compile")
FREE = 2**26
"""Bytes of memory for curvatures that are to be left to products: H itself takes twice as much."""
RESIDUAL = 1e-8
"""Of eigenvectors, relative to the largest eigenvalue: what both sides have to reach."""
ALIKE = 1e-12
"""How far, relatively, the results of both sides may be apart."""


@dataclass(frozen=True)
class Problem:
    """What all tasks are about."""

    network: Network
    split: Split
    directions: np.ndarray


def problem() -> Problem:
    """The network and the tangent of LoRA at the trained Φ, in float64."""
    made, digits = mlp(WIDTHS, jax.random.key(0)), task("digits_rotated")
    short = {"seeds": (0,), "learning_rates": (1e-2,), "steps": 600, "batch_size": 100, "eval_every": 300}
    base = Task("digits", None, digits.base, digits.classes)
    (pretrained,) = finetune(made, base, Full(), **short)
    made = made.with_params(jax.tree.map(jnp.float32, pretrained.theta))
    (adapted,) = finetune(made, digits, LoRA(4), **short)
    phi, theta = (jax.tree.map(jnp.float64, each) for each in (adapted.phi, adapted.theta))
    P = LoRA(4).reparameterize(made.astype("float64")).jacobian(phi).as_matrix()
    return Problem(made.astype("float64").with_params(theta), digits.new.train, np.asarray(P))


@partial(jax.jit, static_argnums=0)
def product(apply: Callable, params: tree.Params, x: Any, y: Any, vector: Any) -> Any:
    """H v, written without the engine: the judge of both sides."""
    point, unravel = ravel_pytree(params)

    def loss(theta: Any) -> Any:
        f = apply(unravel(theta), x)
        return jnp.mean(jax.nn.logsumexp(f, axis=1) - jnp.take_along_axis(f, y[:, None], axis=1)[:, 0])

    return jax.jvp(jax.grad(loss), (point,), (vector,))[1]


def residual(given: Problem, found: tuple[np.ndarray, np.ndarray]) -> float:
    """The largest ‖Hx − λx‖ / λ₁ of the unit vectors x."""
    values, vectors = found
    of = partial(product, given.network.apply, given.network.params, given.split.x, given.split.y)
    images = np.stack([np.asarray(of(x)) for x in vectors.T], axis=1)
    return float(np.linalg.norm(images - vectors * values, axis=0).max() / values.max())


def ours(given: Problem) -> dict[str, Callable[[], Any]]:
    """The three tasks, each from the network on: nothing is kept between calls."""

    def hessian(**options: Any) -> curvature.Curvature:
        return curvature.hessian(given.network, given.split, **options)

    def ten(*, copies: bool = False) -> tuple[np.ndarray, np.ndarray]:
        found = curvature.eigenpairs(hessian(memory=FREE), 10, tolerance=RESIDUAL, copies=copies)
        return found.values, found.vectors

    return {
        "ten": ten,
        "copies": partial(ten, copies=True),
        "restricted": lambda: hessian().restricted(given.directions),
        "dense": lambda: hessian().matrix(),
    }


def peer_of(given: Problem, kind: str) -> Peer:
    """PyTorch, imported no earlier than it is needed."""
    from curvature_torch import Peer  # noqa: PLC0415

    return Peer(given.network.params["layers"], WIDTHS, given.split, given.directions, kind)


def compared(name: str, given: Problem, found: Any, other: Any, order: np.ndarray) -> str:
    """How far both results are apart; the benchmark ends where that is too much."""
    text = ""
    if name in ("ten", "copies"):
        reached = [residual(given, each) for each in (found, other)]
        if max(reached) > RESIDUAL:
            raise SystemExit(f"residuals {reached} where {RESIDUAL} was asked for: not of equal accuracy")
        text, off = f"residuals {reached[0]:.0e}, {reached[1]:.0e}; ", np.abs(found[0] / other[0] - 1).max()
    else:
        found = found[np.ix_(order, order)] if name == "dense" else found
        off = np.linalg.norm(found - other) / np.linalg.norm(other)
    if off > ALIKE:
        raise SystemExit(f"{TASKS[name]}: the two sides differ by {off:.1e}")
    return f"{text}differ by {off:.0e}"


def rows(given: Problem, kinds: list[str], names: list[str], repeats: int, patience: float) -> Iterator[str]:
    """Each task against each peer."""
    own = ours(given)
    for kind in kinds:
        peer = peer_of(given, kind)
        for name in names:
            other = getattr(peer, name)
            first = f"{seconds(own[name]):.1f} s, {seconds(other):.1f} s"
            setting = peer.tune(name, lambda found: residual(given, found) <= RESIDUAL)
            accuracy = compared(name, given, own[name](), other(), peer.order)
            shown, remark = cells(paired(own[name], other, repeats, patience))
            yield f"| {TASKS[name]}, {kind} | {' | '.join(shown)} | {first} | {setting}; {accuracy}{remark} |"


def alone(given: Problem, kinds: list[str], names: list[str], repeats: int) -> Iterator[str]:
    """Each task on one side, with the other never imported."""
    for kind in kinds:
        peer = None if kind == "ours" else peer_of(given, kind)
        for name in names:
            accurate = lambda found: residual(given, found) <= RESIDUAL  # noqa: E731
            setting = "" if peer is None else peer.tune(name, accurate)
            run = ours(given)[name] if peer is None else getattr(peer, name)
            run()
            calls = calls_of(run)
            turns = [turn_of(run, calls) for _ in range(repeats)]
            wall, cpu, others = np.median([[one.wall, one.cpu, one.others] for one in turns], axis=0)
            yield f"| {TASKS[name]}, {kind} | {wall:.3g} s | {cpu:.3g} s | {others:.2f} | {setting} |"


def million(width: int) -> str:
    """Eigenvalues of a large network with their intervals, from products alone."""
    made, digits = mlp((64, width, width, 10), jax.random.key(0)), task("digits_rotated")
    (trained,) = finetune(
        made, digits, Full(), seeds=(0,), learning_rates=(1e-3,), steps=100, batch_size=100, eval_every=50
    )
    network = made.astype("float64").with_params(jax.tree.map(jnp.float64, trained.theta))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with watched() as turn:
        found = curvature.eigenpairs(curvature.hessian(network, digits.new.train), 10, tolerance=RESIDUAL)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = ", ".join(f"{value:.6g}" for value in found.values)
    return (
        f"d = {network.d:,}: {turn.wall:.0f} s ({turn.cpu:.0f} s of CPU, compilation included; others used "
        f"{turn.others:.2f} cores), {found.products} products, memory at most {peak / 2**20:.2f} GiB "
        f"(before: {before / 2**20:.2f})\nλ = {values}, each ± {found.radius:.1e}\n{found.how}\n"
    )


def parsed() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="pairs of quiet turns")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS, help="all by default")
    parser.add_argument("--width", type=int, default=1000, help="of the large network; 0 leaves it out")
    parser.add_argument("--compile", action="store_true", help="also through torch.compile: takes minutes")
    parser.add_argument("--only", choices=("ours", "peer"), help="one side alone")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for an idle machine")
    parser.add_argument("--busy", action="store_true", help="also on a busy machine; the rows will say so")
    return parser.parse_args()


def main() -> None:
    """Print the tables as Markdown."""
    chosen = parsed()
    if not chosen.busy and not idle(chosen.patience):
        raise SystemExit("other processes keep this machine busy, which would flatter us; --busy runs anyway")
    print(f"{CORES} cores, JAX {jax.__version__}, load {os.getloadavg()[0]:.2f}\n", flush=True)  # noqa: T201
    if chosen.width and chosen.only != "peer":
        print(million(chosen.width), flush=True)  # noqa: T201
    kinds = list(PEERS if chosen.compile else PEERS[:2])
    given = problem()
    if chosen.only:
        lines = alone(given, ["ours"] if chosen.only == "ours" else kinds, chosen.tasks, chosen.repeats)
    else:
        patience = 0.0 if chosen.busy else chosen.patience
        lines = rows(given, kinds, chosen.tasks, chosen.repeats, patience)
        head = ("", "ours", "peer", "peer / ours", "CPU", "others' cores", "first calls", "peer, accuracy")
        print("|", " | ".join(head), "|\n|---|---|---|---|---|---|---|---|")  # noqa: T201
    for line in lines:
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
