"""Time of the learning curves and of the draws of Theorem 5, each against what one would write, in one run.

    python benchmarks/marginal.py

Learning curves: full fine-tuning at V sample sizes × S seeds × 3 learning rates.  Sizes enter as data, so
that one compiled program serves all of them; the peer calls `fit` for each size and seed on its examples, its
learning rates side by side, and compiles once for every size.

Simulated risks: data sets drawn from a Gaussian regression, both methods fitted at several sample sizes, and
the exact test loss of each fit.  The peer draws with NumPy and fits each data set with scikit-learn's
`LinearRegression`.  The means of both are compared first: they must agree to five standard errors.

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

from sklearn.linear_model import LinearRegression  # noqa: E402

from peftproof.models.curves import learning_curve  # noqa: E402
from peftproof.models.fit import fit  # noqa: E402
from peftproof.models.methods import Full  # noqa: E402
from peftproof.models.mlp import mlp  # noqa: E402
from peftproof.models.sizes import log_sizes, nested_order  # noqa: E402
from peftproof.models.tasks import Split, Splits, task  # noqa: E402
from peftproof.models.training import Settings  # noqa: E402
from peftproof.theorems.marginal import Problem, simulate  # noqa: E402

RATES = (1e-3, 3e-3, 1e-2)
ERRORS = 5


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def row(name: str, ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> str:
    """Times, compile times and the ratio, alternating between the two."""
    spent = np.array([[timed(ours), timed(peer)] for _ in range(repeats + 1)])
    first, later = spent[0], spent[1:]
    compile_times = np.maximum(first - np.median(later, axis=0), 0)
    cells = [f"{seconds:.2f} s" for seconds in (*np.median(later, axis=0), *compile_times)]
    ratios = later[:, 1] / later[:, 0]
    spread = f"{np.median(ratios):.3g} [{ratios.min():.3g}, {ratios.max():.3g}]"
    return f"| {name} | {' | '.join(cells)} | {spread} | {first[1] / first[0]:.3g} |"


def curve_row(repeats: int, steps: int, seeds: int) -> str:
    """All sizes and seeds of the learning curve of full fine-tuning, on the perceptron of the references."""
    network, digits = mlp((64, 32, 32, 10), jax.random.key(0)), task("digits_noisy")
    settings = Settings(steps=steps, batch_size=20, eval_every=max(1, steps // 2))
    sizes, some, train = log_sizes(digits), tuple(range(seeds)), digits.new.train

    def ours() -> None:
        learning_curve(
            network, digits, Full(), sizes=sizes, seeds=some, learning_rates=RATES, settings=settings
        )

    def peer() -> None:
        for seed in some:
            order = nested_order(train.y, seed)
            for size in sizes:
                part = Split(train.x[order[:size]], train.y[order[:size]])
                splits = Splits(part, digits.new.validation, digits.new.test)
                fit(network, splits, Full(), seeds=(seed,), learning_rates=RATES, **asdict(settings))

    name = f"{len(sizes)} sizes × {seeds} seeds × {len(RATES)} rates, {steps} steps"
    return row(name, ours, peer, repeats)


def looped(problem: Problem, sizes: tuple[int, ...], draws: int) -> tuple[np.ndarray, np.ndarray]:
    """The peer of `simulate`: mean risks of both methods, (n, 2), and their standard errors."""
    rng, root = np.random.default_rng(0), np.linalg.cholesky(problem.Sigma)
    model, most, d = LinearRegression(fit_intercept=False), max(sizes), len(problem.theta)
    found = np.empty((draws, len(sizes), 2))
    for draw in range(draws):
        x = rng.normal(size=(most, d)) @ root.T
        y = x @ problem.theta + np.sqrt(problem.noise) * rng.normal(size=most)
        for at, size in enumerate(sizes):
            for column, basis in enumerate((np.eye(d), problem.P)):
                fitted = basis @ model.fit(x[:size] @ basis, y[:size]).coef_
                off = root.T @ (fitted - problem.theta)
                found[draw, at, column] = off @ off + problem.noise
    return found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(draws)


def simulation_row(repeats: int, draws: int) -> str:
    """Risks of a regression with 6 parameters against 2."""
    problem, sizes = Problem.random(6, 2, noise=1.0, bias=0.5, seed=0), (14, 18, 40)

    def ours() -> object:
        return simulate(problem, sizes, jax.random.key(0), draws=draws)

    def peer() -> object:
        return looped(problem, sizes, draws)

    mean, error = peer()
    drawn = ours()
    apart = np.abs(drawn.means["risk"] - mean) / np.hypot(drawn.errors["risk"], error)
    if apart.max() > ERRORS:
        raise ArithmeticError(f"the means differ by {apart.max():.1f} standard errors: the peer is no peer")
    jax.clear_caches()  # the comparison has compiled ours already
    return row(f"{drawn.draws} data sets at {len(sizes)} sample sizes, both methods", ours, peer, repeats)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3, help="repetitions after the first call")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps of the curves, even")
    parser.add_argument("--seeds", type=int, default=5, help="of the curves")
    parser.add_argument("--draws", type=int, default=2048, help="data sets")
    chosen = parser.parse_args()
    print(f"On {jax.devices()[0].device_kind}, JAX {jax.__version__}.\n")  # noqa: T201
    head = ("", "ours", "loop", "ours, compiling", "loop, compiling", "loop / ours", "first call")
    print("|", " | ".join(head), "|\n|---|---|---|---|---|---|---|")  # noqa: T201
    print(simulation_row(chosen.repeats, chosen.draws), flush=True)  # noqa: T201
    print(curve_row(chosen.repeats, chosen.steps, chosen.seeds))  # noqa: T201


if __name__ == "__main__":
    main()
