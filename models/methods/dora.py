"""DoRA: the direction of each neuron's weights by a low-rank update, its length by a parameter of its own."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import minimize

from ..network import Layer
from .factored import Facts, Parts, Ranked, linear_part, low_rank_dimension
from .lora import LoRA, factors_of, split

STARTS = 8
"""Random starts of the search for scales."""


@dataclasses.dataclass(frozen=True)
class DoRA(Ranked):
    r"""The kernel (W₀ + A B) with its columns set to the lengths ‖w₀‖ + μ.

    A column holds the incoming weights of an output. The literature trains the length itself; here μ is its
    change, so that Φ starts at μ = 0, and the gradient passes through the norm. Liu et al. (2024), arXiv
    2402.09353.

    Attributes:
        rank: r of A (in, r) and B (r, out).
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a rank below 1.
    """

    stem: ClassVar[str] = "dora"
    formula: ClassVar[str] = "Σ r(m + n − r) + min(n, (m − r)(n − r)), n outputs, for almost every kernel"

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """A (in, r), B (r, out) and mu (out,)."""
        return factors_of(shape, self.rank) | {"mu": (shape[1],)}

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """A and B as LoRA, μ = 0."""
        drawn = LoRA(self.rank).start(path, key, sizes, dtype)
        return drawn | {"mu": jnp.zeros(sizes["mu"], dtype)}

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = (‖w₀‖ + μ) (W₀ + A B) / ‖w₀ + (A B)‖ − W₀, by columns."""
        moved = kernel + parts["A"] @ parts["B"]
        before, after = jnp.sqrt((kernel**2).sum(axis=0)), jnp.sqrt(_positive((moved**2).sum(axis=0)))
        return moved * ((before + parts["mu"]) / after)[None, :] - kernel

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The outputs of LoRA's side branch, scaled, with the norms from inner products of the factors."""
        value, bias = linear_part(layer, x)
        squared = (kernel**2).sum(axis=0)
        cross = jnp.einsum("io,is,so->o", kernel, parts["A"], parts["B"])
        added = jnp.einsum("so,st,to->o", parts["B"], parts["A"].T @ parts["A"], parts["B"])
        scale = (jnp.sqrt(squared) + parts["mu"]) / jnp.sqrt(_positive(squared + 2 * cross + added))
        row = (1,) * (x.ndim - 1) + (-1,)
        return (value + (x @ parts["A"]) @ parts["B"]) * scale.reshape(row) + bias

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """LoRA's dimension and one length per output, as long as there is room for both.

        Scaling the columns leaves the set W₀ + {rank r} unless the scaling is tangent to it, which imposes
        (m − r)(n − r) generic conditions on n numbers, (n − r) min(m − r, ρ) for a kernel of rank ρ. At B = 0
        a column moves along itself (by μ) and along what A spans beside it: min(r + 1, m) directions. A
        column of zeros is no direction that μ could scale, and at the start it does not move at all.
        """
        (m, n), r = kernel.shape, self.rank
        columns, base = int(((kernel**2).sum(axis=0) > 0).sum()), low_rank_dimension((m, n), r)
        room = (n - r) * min(m - r, int(np.linalg.matrix_rank(kernel)))
        return Facts(
            dimension=base + min(columns, room),
            initial_rank=columns * min(r + 1, m),
            project=(lambda D: D) if r == min(m, n) else None,
            at_most=base + min(columns, (m - r) * (n - r)),
        )

    def guess(
        self, kernel: Float[np.ndarray, "i o"], target: Float[np.ndarray, "i o"]
    ) -> dict[str, np.ndarray]:
        r"""The factors of the best scaling that a search over the n scales alone finds.

        Up to closure the image is $\{W S + X - W\}$ with S diagonal and X of rank at most r: the columns of
        $W + AB$ are $W + X S^{-1}$, and μ makes S of their lengths. For a given S the best X is a truncation,
        so that the distance is $\min_S \mathrm{tail}_r(W + \Delta - W S)$, a function of n numbers; its
        gradient by $s_j$ is $-2 \langle w_j, \rho_j\rangle$ with ρ what the truncation leaves (where
        $\sigma_r > \sigma_{r+1}$).
        """
        wanted = kernel + target
        scales = _best_scales(kernel, wanted, self.rank)
        # A scale of zero is a limit that no finite factor reaches: it is approached.
        tiny = 1e-6
        scales = np.where(np.abs(scales) < tiny, tiny, scales)
        kept = split(wanted - kernel * scales, self.rank)
        factors = {"A": kept["A"], "B": kept["B"] / scales}
        length = np.linalg.norm(kernel + factors["A"] @ factors["B"], axis=0)
        return factors | {"mu": scales * length - np.linalg.norm(kernel, axis=0)}


def _best_scales(
    kernel: Float[np.ndarray, "i o"], wanted: Float[np.ndarray, "i o"], rank: int
) -> Float[np.ndarray, " o"]:
    """The scales of columns with the least tail of what is left, from several starts."""

    def tail(scales: np.ndarray) -> tuple[float, np.ndarray]:
        rest = wanted - kernel * scales
        kept = split(rest, rank)
        left = rest - kept["A"] @ kept["B"]
        return float((left**2).sum()), -2 * (kernel * left).sum(axis=0)

    squares = (kernel**2).sum(axis=0)
    along = np.where(squares > 0, (kernel * wanted).sum(axis=0) / np.where(squares > 0, squares, 1), 1.0)
    rng, ones = np.random.default_rng(0), np.ones(kernel.shape[1])
    starts = [ones, along, *(ones + rng.normal(size=(STARTS, kernel.shape[1])))]
    runs = [minimize(tail, start, jac=True, method="L-BFGS-B") for start in starts]
    return min(runs, key=lambda run: run.fun).x


def _positive(square: Float[Array, " o"]) -> Float[Array, " o"]:
    """Squared lengths to divide by, with 1 in place of 0: a column of zeros has no direction, and stays one.

    Its length in the numerator is 0, so that g is continuous at the start and does not jump to length one.
    """
    return jnp.where(square > 0, square, jnp.ones_like(square))
