"""Networks, the maps g(Φ), fitting, real tasks and checkpoints."""

from .activations import ACTIVATIONS, Activation, activation
from .methods import IA3, METHOD_NAMES, BitFit, Full, Head, LoRA, Method, Phi, Reparameterization, method
from .mlp import MLP, MLPConfig, mlp, mlp_from_arrays
from .network import Layer, Network, Wrap, from_module, from_pytree, plain
from .transformer import Transformer, TransformerConfig, transformer
from .tree import Params

__all__ = [
    "ACTIVATIONS",
    "IA3",
    "METHOD_NAMES",
    "MLP",
    "Activation",
    "BitFit",
    "Full",
    "Head",
    "Layer",
    "LoRA",
    "MLPConfig",
    "Method",
    "Network",
    "Params",
    "Phi",
    "Reparameterization",
    "Transformer",
    "TransformerConfig",
    "Wrap",
    "activation",
    "from_module",
    "from_pytree",
    "method",
    "mlp",
    "mlp_from_arrays",
    "plain",
    "transformer",
]
