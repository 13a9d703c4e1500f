"""PyTorch's side of `curvature.py`: the same network, and its Hessian as a function of blocks of columns."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from curvlinops import HessianLinearOperator
from quiet import CORES, seconds
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import func
from torch.nn import CrossEntropyLoss, Linear, Module, Sequential, Tanh, functional

COLUMNS = (16, 32, 64)
"""Numbers of columns at once from which the fastest is chosen."""
SAMPLE = 192
"""Columns on which it is chosen."""

Products = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def model_of(layers: dict, widths: tuple[int, ...]) -> tuple[Sequential, np.ndarray]:
    """A tanh MLP with these parameters, and where each entry of PyTorch's θ is in ours."""
    modules, order, at = [], [], 0
    for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
        module, given = Linear(fan_in, fan_out, dtype=torch.float64), layers[str(index)]
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(np.array(given["kernel"]).T))
            module.bias.copy_(torch.from_numpy(np.array(given["bias"])))
        modules += [module, Tanh()]
        kernel = np.arange(at + fan_out, at + fan_out * (fan_in + 1)).reshape(fan_in, fan_out)
        order += [kernel.T.ravel(), np.arange(at, at + fan_out)]
        at += fan_out * (fan_in + 1)
    return Sequential(*modules[:-1]), np.concatenate(order)


def by_curvlinops(model: Module, x: Any, y: Any) -> Products:
    """Products with a vector and with a block, of the library."""
    params = list(model.parameters())
    H = HessianLinearOperator(model, CrossEntropyLoss(), params, [(x, y)], check_deterministic=False)
    return (lambda v: H @ v), (lambda V: H @ V)


def by_functions(model: Module, x: Any, y: Any, *, compiled: bool = False) -> Products:
    """The same from `torch.func`."""
    params = {name: each.detach() for name, each in model.named_parameters()}
    point = torch.cat([each.reshape(-1) for each in params.values()])
    sizes = [each.numel() for each in params.values()]

    def loss(theta: Any) -> Any:
        parts = zip(params.items(), theta.split(sizes), strict=True)
        named = {name: part.reshape(each.shape) for (name, each), part in parts}
        return functional.cross_entropy(func.functional_call(model, named, (x,)), y)

    def one(v: Any) -> Any:
        return func.jvp(func.grad(loss), (point,), (v,))[1]

    many = func.vmap(one, in_dims=1, out_dims=1)
    if compiled:
        one, many = torch.compile(one), torch.compile(many, dynamic=False)
    return torch.no_grad()(one), torch.no_grad()(many)


class Peer:
    """One way of multiplying with the Hessian, and the tasks with it."""

    def __init__(self, layers: dict, widths: tuple[int, ...], split: Any, P: np.ndarray, kind: str) -> None:
        model, self.order = model_of(layers, widths)
        data = torch.tensor(split.x), torch.tensor(split.y, dtype=torch.long)
        if kind == "curvlinops":
            self.vector, self.block = by_curvlinops(model, *data)
        else:
            self.vector, self.block = by_functions(model, *data, compiled=kind == "torch.compile")
        self.d, self.P = len(P), torch.tensor(P[self.order])
        self.start = np.random.default_rng(0).normal(size=self.d)
        self.threads, self.columns, self.tolerance = 1, COLUMNS[0], 1e-10

    def ten(self) -> tuple[np.ndarray, np.ndarray]:
        """The ten largest eigenvalues in descending order, and their vectors in our layout, by ARPACK."""
        operator = LinearOperator(
            (self.d, self.d), matvec=lambda v: self.vector(torch.from_numpy(v)).numpy(), dtype=np.float64
        )
        values, vectors = eigsh(operator, k=10, which="LA", tol=self.tolerance, v0=self.start)
        ours = np.empty_like(vectors)
        ours[self.order] = vectors
        return values[::-1], ours[:, ::-1]

    copies = ten

    def restricted(self) -> np.ndarray:
        """PᵀHP."""
        return (self.P.T @ self.times(self.P)).numpy()

    def dense(self) -> np.ndarray:
        """H in PyTorch's layout."""
        return self.times(torch.eye(self.d, dtype=torch.float64)).numpy()

    def times(self, matrix: Any) -> Any:
        """H times a matrix, some columns at a time; the last block is filled up to the same size."""
        blocks = list(matrix.split(self.columns, dim=1))
        blocks[-1] = functional.pad(blocks[-1], (0, self.columns - blocks[-1].shape[1]))
        return torch.cat([self.block(each) for each in blocks], dim=1)[:, : matrix.shape[1]]

    def tune(self, name: str, accurate: Callable[[tuple], bool]) -> str:
        """Choose what is fastest for a task, and say what that is.

        Args:
            name: of the task.
            accurate: whether eigenpairs are; the loosest tolerance of ARPACK is taken with which they are.
        """
        self.set(1, COLUMNS[0])
        by_arpack = name in ("ten", "copies")
        if by_arpack:
            powers = (10.0**-power for power in range(2, 15))
            self.tolerance = next(each for each in powers if accurate(self._with(each)))
            spent = self._spent(self.ten, COLUMNS[:1])
        else:
            spent = self._spent(lambda: self.times(self.P[:, :SAMPLE]), COLUMNS)
        self.set(*min(spent, key=spent.get))
        chosen = f"tol={self.tolerance:.0e}" if by_arpack else f"{self.columns} columns at once"
        return f"{self.threads} of {CORES} threads, {chosen}"

    def set(self, threads: int, columns: int) -> None:
        """Choose how many threads and columns at once."""
        torch.set_num_threads(threads)
        self.threads, self.columns = threads, columns

    def _with(self, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        self.tolerance = tolerance
        return self.ten()

    def _spent(self, run: Callable[[], Any], columns: tuple[int, ...]) -> dict[tuple[int, int], float]:
        spent: dict[tuple[int, int], float] = {}
        for threads in sorted({1, CORES}):
            for many in columns:
                self.set(threads, many)
                first = seconds(run)  # warms up, and is enough to see what is hopeless
                hopeless = spent and first > 5 * min(spent.values())
                spent[threads, many] = first if hopeless else min(seconds(run) for _ in range(3))
        return spent
