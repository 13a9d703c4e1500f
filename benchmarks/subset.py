"""Ranks, nearest points and functional dimensions of Theorem 1, each against a named peer in the same run.

    python benchmarks/subset.py

Every row gives what both found and the ratio of their times, median and range over repetitions, compilation
apart.  The peers: `numpy.linalg.matrix_rank` on the dense Jacobian of g (ours decomposes it block by block);
`sympy`'s DomainMatrix over a prime field (ours eliminates modulo a prime with float64 products);
`scipy.linalg.interpolative.estimate_rank` on products with vectors (ours certifies what it finds); and
L-BFGS of SciPy from several starts for the nearest point of an image (ours is a closed form).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from jax.flatten_util import ravel_pytree  # noqa: E402
from scipy.linalg import interpolative  # noqa: E402
from scipy.optimize import minimize  # noqa: E402
from scipy.sparse.linalg import LinearOperator  # noqa: E402
from sympy import GF  # noqa: E402
from sympy.polys.matrices import DomainMatrix  # noqa: E402

from peftproof.models import tree  # noqa: E402
from peftproof.models.methods import IA3, KronA, LoRA, method  # noqa: E402
from peftproof.models.mlp import MLPConfig, mlp  # noqa: E402
from peftproof.theorems import ranks  # noqa: E402

PRIME = ranks.PRIMES[0]


def spread(values: list[float]) -> str:
    """Median, and the range in brackets."""
    return f"{np.median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def paired(ours: Callable[[], Any], peer: Callable[[], Any], repeats: int) -> tuple[Any, Any, str, str]:
    """Both results, our time, and the ratio peer / ours over alternating runs; the first pair compiles."""
    found, other, seconds, ratios = ours(), peer(), [], []
    for _ in range(repeats):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        peer()
        seconds.append(middle - start)
        ratios.append((time.perf_counter() - middle) / seconds[-1])
    return found, other, f"{1e3 * np.median(seconds):.3g} ms", spread(ratios)


def shaken(made: Any, seed: int = 0) -> Any:
    """A generic Φ."""
    rng, start = np.random.default_rng(seed), made.init(jax.random.key(seed))
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), start)


def jacobian_rows(repeats: int) -> list[str]:
    """Ranks of Dg on the reference perceptron, by blocks and as one dense matrix."""
    rows, network = [], mlp(MLPConfig((64, 32, 32, 10)), jax.random.key(0), jax.numpy.float64)
    for name in ("lora-r4", "loha-r2", "krona", "dora-r4", "ia3", "mask-5%"):
        made = method(name).reparameterize(network)
        phi = shaken(made)
        dense = jax.jit(lambda phi, made=made: made.jacobian(phi).as_matrix())
        found, other, ours, ratio = paired(
            lambda made=made, phi=phi: ranks.jacobian_rank(made, phi).rank,
            lambda dense=dense, phi=phi: int(np.linalg.matrix_rank(np.asarray(dense(phi)))),
            repeats,
        )
        rows.append(f"| rank of Dg, {name} | {found} | {other} | {ours} | {ratio} |")
    return rows


def exact_rows(repeats: int) -> list[str]:
    """The exact rank of LoRA's Jacobian at integer factors."""
    rows = []
    for m, n, r in ((16, 12, 3), (32, 24, 4), (64, 32, 8)):
        rng = np.random.default_rng(0)
        A, B = rng.integers(-9, 10, size=(r, n)), rng.integers(-9, 10, size=(m, r))
        matrix = np.concatenate(
            [np.kron(np.eye(m, dtype=int), A.T), np.kron(B, np.eye(n, dtype=int))], axis=1
        )
        rows.append(_exact_row(f"exact rank, LoRA {m}x{n}, r = {r}", matrix, repeats if m < 64 else 1))
    return rows


def _exact_row(label: str, matrix: np.ndarray, repeats: int) -> str:
    over_field = DomainMatrix.from_list(matrix.tolist(), GF(PRIME))
    found, other, ours, ratio = paired(
        lambda: ranks.modular_rank(matrix), lambda: over_field.to_sparse().rank(), repeats
    )
    return f"| {label} | {found} | {other} | {ours} | {ratio} |"


def product_rows(repeats: int) -> list[str]:
    """Ranks by products alone: the same matrix for the sketch, the range finder and SciPy's estimate."""
    rows = []
    for (m, n), rank in (((4000, 300), 200), ((1500, 1200), 150)):
        rng = np.random.default_rng(0)
        matrix = (rng.normal(size=(m, rank)) * np.logspace(0, -3, rank)) @ rng.normal(size=(rank, n))
        products = ranks.Products((m, n), lambda v, a=matrix: a @ v, lambda u, a=matrix: a.T @ u)
        operator = LinearOperator(
            (m, n), matvec=lambda v, a=matrix: a @ v, rmatvec=lambda u, a=matrix: a.T @ u, dtype=float
        )
        found, other, ours, ratio = paired(
            lambda products=products: ranks.free_rank(products),
            lambda operator=operator: int(interpolative.estimate_rank(operator, 1e-10)),
            repeats,
        )
        rows.append(f"| {found.how.split(',')[0]}, {m}x{n} | {found.rank} | {other} | {ours} | {ratio} |")
    return rows


def nearest_rows(repeats: int) -> list[str]:
    """The nearest point of an image, in closed form and by descent from three starts."""
    rows, network = [], mlp(MLPConfig((16, 12, 8)), jax.random.key(0), jax.numpy.float64)
    rng = np.random.default_rng(1)
    for chosen in (LoRA(2), KronA(), IA3()):
        made, image = chosen.reparameterize(network), chosen.image(network)
        leaves = tree.paths(network.params)
        target = {path: rng.normal(size=leaves[path].shape) for path in made.touched()}
        descend = _descent(made, target)
        found, other, ours, ratio = paired(
            lambda image=image, target=target: _distance(image.project(target), target), descend, repeats
        )
        rows.append(f"| distance to Im g, {chosen.name} | {found:.6f} | {other:.6f} | {ours} | {ratio} |")
    return rows


def _distance(changes: dict, target: dict) -> float:
    return float(np.sqrt(sum(((np.asarray(changes[p]) - target[p]) ** 2).sum() for p in target)))


def _descent(made: Any, target: dict) -> Callable[[], float]:
    _, unravel = ravel_pytree(made.init(jax.random.key(0)))

    def objective(v: Any) -> Any:
        changes = made.changes(unravel(v))
        return sum(((changes[p] - target[p]) ** 2).sum() for p in target)

    value = jax.jit(jax.value_and_grad(objective))

    def run() -> float:
        starts = [np.asarray(ravel_pytree(shaken(made, seed))[0]) for seed in range(3)]
        found = [
            minimize(lambda v: [np.asarray(a) for a in value(v)], s, jac=True, method="L-BFGS-B")
            for s in starts
        ]
        return float(np.sqrt(min(one.fun for one in found)))

    return run


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="pairs of runs")
    repeats = parser.parse_args().repeats
    print("| what | ours | peer | time | time of peer / ours |\n|---|---|---|---|---|")  # noqa: T201
    for rows in (jacobian_rows, exact_rows, product_rows, nearest_rows):
        print(*rows(repeats), sep="\n", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
