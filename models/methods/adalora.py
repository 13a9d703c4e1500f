"""AdaLoRA: low-rank updates in the form of a singular value decomposition, with a budget of ranks."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import tree
from ..network import Layer
from .base import Phi, Schedule
from .factored import Facts, Parts, Ranked, low_rank_dimension, truncated


@dataclasses.dataclass(frozen=True)
class AdaLoRA(Ranked):
    r"""The update P diag(λ) Q of a kernel, P (in, r) and Q (r, out), of which training keeps the important λ.

    A penalty γ (‖PᵀP − I‖² + ‖QQᵀ − I‖²) keeps the factors nearly orthonormal. After each step the entries
    of λ
    outside of the current budget are set to zero, over all targets together; see `Budget`. P and Q start
    Gaussian, λ at zero. Zhang et al. (2023), arXiv 2303.10512.

    Attributes:
        rank: r that each target starts with.
        budget: average rank that is left in the end.
        penalty_weight: γ.
        targets: a pattern on paths (or several).

    Raises:
        ValueError: a rank below 1, or a budget that is not between 0 and the rank.
    """

    budget: float | None = None
    penalty_weight: float = 0.1
    stem: ClassVar[str] = "adalora"
    formula: ClassVar[str] = "Σ r(m + n − r)"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget is not None and not 0 < self.budget <= self.rank:
            raise ValueError(
                f"budget: got {self.budget}, needs a number above 0 and at most rank={self.rank}"
            )

    def sizes(self, path: str, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """P (in, r), lambda (r,) and Q (r, out)."""
        return {"P": (shape[0], self.rank), "Q": (self.rank, shape[1]), "lambda": (self.rank,)}

    def start(
        self, path: str, key: PRNGKeyArray, sizes: dict[str, tuple[int, ...]], dtype: jnp.dtype
    ) -> Parts:
        """P ~ N(0, 1/in), Q ~ N(0, 1/out), λ = 0."""
        one, two = jax.random.split(key)
        (fan_in, _), (_, fan_out) = sizes["P"], sizes["Q"]
        return {
            "P": jax.random.normal(one, sizes["P"], dtype) / math.sqrt(fan_in),
            "Q": jax.random.normal(two, sizes["Q"], dtype) / math.sqrt(fan_out),
            "lambda": jnp.zeros(sizes["lambda"], dtype),
        }

    def update(self, path: str, kernel: Float[Array, "i o"], parts: Parts) -> Float[Array, "i o"]:
        """Δkernel = P diag(λ) Q."""
        return (parts["P"] * parts["lambda"][None, :]) @ parts["Q"]

    def branch(
        self, path: str, layer: Layer, kernel: Float[Array, "i o"], parts: Parts, x: Float[Array, "... i"]
    ) -> Float[Array, "... o"]:
        """The layer with a side branch: layer(x) + ((x P) λ) Q."""
        inner = x @ parts["P"]
        return layer(x) + (inner * parts["lambda"].reshape((1,) * (inner.ndim - 1) + (-1,))) @ parts["Q"]

    def facts(self, path: str, kernel: Float[np.ndarray, "i o"]) -> Facts:
        """The matrices of rank at most r, as for LoRA; at λ = 0 only dλ moves, in r directions."""
        rank = self.rank
        return Facts(low_rank_dimension(kernel.shape, rank), rank, lambda D: truncated(D, rank))

    def penalty(self, phi: Phi) -> Float[Array, ""]:
        """γ Σ (‖PᵀP − I‖² + ‖QQᵀ − I‖²) over the targets."""
        total = 0.0
        for path, leaf in tree.paths(phi).items():
            if path.endswith("/lambda"):
                continue
            gram = leaf.T @ leaf if path.endswith("/P") else leaf @ leaf.T
            total = total + jnp.sum((gram - jnp.eye(len(gram), dtype=gram.dtype)) ** 2)
        return self.penalty_weight * total

    def schedule(self) -> Schedule:
        """Spends the budget of ranks: half of them are left in the end unless `budget` says else."""
        return Budget(self.rank, self.rank / 2 if self.budget is None else self.budget)


@dataclasses.dataclass(frozen=True)
class Budget:
    r"""The schedule of AdaLoRA: how many entries of λ stay, and which.

    The importance of a number w is the product of the running means of $|w\,\partial_w L|$ and of its
    variation; that
    of a triple is the one of λᵢ plus the means over column i of P and row i of Q. The budget stays at rank
    for the
    first tenth of the steps, falls like a cube to its end value, and stays there for the last three tenths.

    Attributes:
        rank: average rank at the start.
        end: average rank in the end.
        memory: β of both running means.
    """

    rank: int
    end: float
    memory: float = 0.85
    warm: ClassVar[float] = 0.1
    final: ClassVar[float] = 0.3

    def start(self, phi: Phi) -> PyTree[Array]:
        """Means of sensitivity and of its variation, zero at first."""
        zeros = jax.tree.map(jnp.zeros_like, phi)
        return {"sensitivity": zeros, "variation": zeros}

    def after(
        self, phi: Phi, gradient: Phi, memory: PyTree[Array], progress: Float[Array, ""]
    ) -> tuple[Phi, PyTree[Array]]:
        """Φ with the entries of λ outside of the budget at zero."""
        b = self.memory
        now = jax.tree.map(lambda w, g: jnp.abs(w * g), phi, gradient)
        mean = jax.tree.map(lambda old, new: b * old + (1 - b) * new, memory["sensitivity"], now)
        spread = jax.tree.map(
            lambda old, new, mid: b * old + (1 - b) * jnp.abs(new - mid), memory["variation"], now, mean
        )
        score = tree.paths(jax.tree.map(jnp.multiply, mean, spread))
        flat = tree.paths(phi)
        targets = [path.removesuffix("/lambda") for path in flat if path.endswith("/lambda")]
        triples = [
            score[f"{path}/lambda"] + score[f"{path}/P"].mean(axis=0) + score[f"{path}/Q"].mean(axis=1)
            for path in targets
        ]
        sizes = [len(triple) for triple in triples]
        everything = jnp.concatenate(triples)
        # Places, not thresholds: with ties exactly as many survive as the budget has.
        place = jnp.argsort(jnp.argsort(-everything))
        left = self.left(progress, len(targets)).astype(place.dtype)
        keep = jnp.split(place < left, np.cumsum(sizes)[:-1].tolist())
        for path, kept in zip(targets, keep, strict=True):
            values = flat[f"{path}/lambda"]
            flat[f"{path}/lambda"] = jnp.where(kept, values, jnp.zeros_like(values))
        return tree.from_paths(flat), {"sensitivity": mean, "variation": spread}

    def left(self, progress: Float[Array, ""], targets: int) -> Float[Array, ""]:
        """How many entries of λ the budget has, over all targets."""
        done = jnp.clip((progress - self.warm) / (1 - self.warm - self.final), 0, 1)
        share = self.end + (self.rank - self.end) * (1 - done) ** 3
        return jnp.round(share * targets)


def ranks_left(phi: Phi) -> dict[str, int]:
    """How many entries of λ are not zero, by target."""
    return {
        path.removesuffix("/lambda"): int(np.count_nonzero(np.asarray(leaf)))
        for path, leaf in tree.paths(phi).items()
        if path.endswith("/lambda")
    }
