"""Methods of fine-tuning: maps g from Φ to an update of θ, extensions that have none, and compositions."""

from .adalora import AdaLoRA
from .adapter import ParallelAdapter, SerialAdapter
from .base import Method, Phi, Reparameterization, Schedule
from .bitfit import BitFit
from .composed import S4, Composed
from .dora import DoRA
from .extension import Extension
from .far import FAR
from .frozen import Frozen
from .full import Full, Head
from .fusion import AttentionFusion
from .hadamard import HiRA, LoHa
from .ia3 import IA3
from .image import Image
from .kronecker import KronA, LoKr
from .layers import TopLayers
from .lora import LoRA, RsLoRA
from .lora_frozen import LoRAFA
from .lottery import LTSFT
from .oft import OFT
from .peru import PERU
from .phm import PHM, Compacter
from .prefix import Prefix
from .sparse import Mask, RandomMask
from .staged import Staged
from .support import METHOD_NAMES, SUPPORT, Support, method
from .vera import VeRA

__all__ = [
    "FAR",
    "IA3",
    "LTSFT",
    "METHOD_NAMES",
    "OFT",
    "PERU",
    "PHM",
    "S4",
    "SUPPORT",
    "AdaLoRA",
    "AttentionFusion",
    "BitFit",
    "Compacter",
    "Composed",
    "DoRA",
    "Extension",
    "Frozen",
    "Full",
    "Head",
    "HiRA",
    "Image",
    "KronA",
    "LoHa",
    "LoKr",
    "LoRA",
    "LoRAFA",
    "Mask",
    "Method",
    "ParallelAdapter",
    "Phi",
    "Prefix",
    "RandomMask",
    "Reparameterization",
    "RsLoRA",
    "Schedule",
    "SerialAdapter",
    "Staged",
    "Support",
    "TopLayers",
    "VeRA",
    "method",
]
