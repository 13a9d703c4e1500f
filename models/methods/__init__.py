"""Methods of fine-tuning, each with its map g from Φ to an update of θ."""

from .base import Method, Phi, Reparameterization
from .bitfit import BitFit
from .full import Full, Head
from .ia3 import IA3
from .lora import LoRA

METHOD_NAMES = ("full", "head", "lora-r<N>", "bitfit", "ia3")
"""The names that `method` understands; <N> stands for a rank."""


def method(name: str) -> Method:
    """Look a method up by the name that the command line uses.

    Args:
        name: one of `METHOD_NAMES`, with a number for <N>.

    Returns:
        The method with default settings.

    Raises:
        ValueError: no such method, or rank 0; the message lists the names.

    Examples:
        >>> method("lora-r4").rank
        4
    """
    usual = {"full": Full, "head": Head, "bitfit": BitFit, "ia3": IA3}
    if name in usual:
        return usual[name]()
    rank = name.removeprefix("lora-r")
    if name.startswith("lora-r") and rank.isascii() and rank.isdigit():
        return LoRA(rank=int(rank))
    raise ValueError(f"method: got {name!r}, needs one of {', '.join(METHOD_NAMES)}, such as lora-r4")


__all__ = [
    "IA3",
    "METHOD_NAMES",
    "BitFit",
    "Full",
    "Head",
    "LoRA",
    "Method",
    "Phi",
    "Reparameterization",
    "method",
]
