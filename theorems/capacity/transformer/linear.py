"""An affine layer as a bound sees it: a part that is known, and a budget for what is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ... import linalg

if TYPE_CHECKING:
    from ....models.transformer import TransformerConfig
    from .layout import Tree

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Affine:
    r"""The layers $z \mapsto zW + b$ with $W = K + \Phi$, $\|\Phi\|_2 \le \varphi$, and b near a known bias.

    Attributes:
        kernel: K, shape (in, out).
        bias: the known bias, shape (out,).
        phi: φ; 0 where the weights are known.
        phi_bias: bound on the norm of the unknown part of the bias.
        known_shift: bound on what the unknown parts add to the output at the given base tokens, shape (p, t),
            where something sharper is known than φ times the norm of the token plus the budget of the bias.
    """

    kernel: Float[Array, "n m"]
    bias: Float[Array, " m"]
    phi: float = 0.0
    phi_bias: float = 0.0
    known_shift: Float[Array, "*tokens"] | None = field(default=None, repr=False)

    def __call__(self, z: Float[Array, "*batch n"]) -> Float[Array, "*batch m"]:
        """Value of the known layer."""
        return z @ self.kernel + self.bias

    @cached_property
    def norm(self) -> float:
        """Upper estimate of ‖K‖₂."""
        return float(linalg.spectral_norm(self.kernel))

    @cached_property
    def frobenius(self) -> float:
        """‖K‖_F, which scales rounding errors of products with K."""
        return float(np.linalg.norm(self.kernel))

    @property
    def width_out(self) -> int:
        """Length of the output."""
        return self.kernel.shape[1]

    def shift(self, size: Float[Array, "*tokens"]) -> Float[Array, "*tokens"]:
        """How far an admitted layer may move the computed output at tokens of these norms."""
        unknown = self.phi * size + self.phi_bias if self.known_shift is None else self.known_shift
        return unknown + self.rounding(size)

    def rounding(self, size: Float[Array, "*tokens"]) -> Float[Array, "*tokens"]:
        """Rounding error of the computed output at tokens of these norms."""
        relative = linalg.gamma(4 * sum(self.kernel.shape) + 64)
        return relative * (self.frobenius * size + np.linalg.norm(self.bias))


@dataclass(frozen=True, eq=False)
class Admitted:
    """All networks whose parameters lie within budgets of known ones; without budgets, that one network.

    Attributes:
        config: sizes and variants.
        params: the known parameters.
        budgets: bound on the spectral norm (matrices) or the Euclidean norm (vectors) of what is not known of
            a parameter, by path; 0 where a path is missing.
    """

    config: TransformerConfig
    params: Tree
    budgets: Mapping[str, float] = field(default_factory=dict)

    def node(self, path: str) -> Tree:
        """The parameters of one layer."""
        node = self.params
        for part in path.split("/"):
            node = node[part]
        return node

    def budget(self, path: str) -> float:
        """Budget of one parameter."""
        return float(self.budgets.get(path, 0.0))

    def layer(self, path: str, *, bias: bool = True) -> Affine:
        """A linear layer as it stands, or without its bias."""
        node = self.node(path)
        constant = node.get("bias", np.zeros(node["kernel"].shape[1])) * bias
        phi, phi_bias = self.budget(f"{path}/kernel"), self.budget(f"{path}/bias")
        return Affine(node["kernel"], constant, phi, phi_bias * bias)

    def behind(self, norm: str, path: str, h: Float[Array, "*tokens n"], *, bias: bool = True) -> Affine:
        r"""A linear layer as a function of the normalised token: the norm's parameters are folded in.

        $(\gamma\circ h + \beta)W + b = h\,[C\,\mathrm{diag}(\gamma)W] + [\beta W + b]$, where $Ch = h$ for
        LayerNorm.

        Args:
            norm: path of the norm.
            path: path of the layer.
            h: the base tokens at which its shift is wanted.
            bias: whether constants matter; they do not for keys.
        """
        plain, scale = self.layer(path, bias=bias), self.node(norm)["scale"]
        beta = self.node(norm).get("bias", np.zeros_like(scale)) * bias
        kernel = scale[:, None] * plain.kernel
        kernel = kernel - kernel.mean(axis=0) if self.config.norm == "layer" else kernel
        phi_scale, phi_beta = self.budget(f"{norm}/scale"), self.budget(f"{norm}/bias") * bias
        whole, size = plain.norm + plain.phi, np.linalg.norm(beta)
        # Folding rounds relative to the factors, which may be larger than their centred product.
        lost = (
            linalg.gamma(4 * sum(kernel.shape) + 64)
            * np.array([np.max(np.abs(scale)), size])
            * plain.frobenius
        )
        shift = plain.phi * np.linalg.norm(scale * h + beta, axis=-1) + plain.phi_bias
        shift = shift + (phi_scale * np.abs(h).max(axis=-1) + phi_beta) * whole
        shift = shift + lost[0] * np.linalg.norm(h, axis=-1) + lost[1]
        phi = np.max(np.abs(scale)) * plain.phi + phi_scale * whole + lost[0]
        constant = plain.phi_bias + size * plain.phi + phi_beta * whole + lost[1]
        return Affine(kernel, beta @ plain.kernel + plain.bias, phi, constant, shift)
