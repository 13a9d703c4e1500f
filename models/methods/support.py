"""Every method by name: what the command line understands and what the table of supported methods shows."""

import dataclasses
import re
from collections.abc import Callable

from .adalora import AdaLoRA
from .adapter import ParallelAdapter, SerialAdapter
from .base import Method
from .bitfit import BitFit
from .composed import S4
from .dora import DoRA
from .far import FAR
from .full import Full, Head
from .fusion import AttentionFusion
from .hadamard import HiRA, LoHa
from .ia3 import IA3
from .kronecker import KronA, LoKr
from .layers import TopLayers
from .lora import LoRA, RsLoRA
from .lora_frozen import LoRAFA
from .lottery import LTSFT
from .oft import OFT
from .peru import PERU
from .phm import PHM, Compacter
from .prefix import Prefix
from .sparse import RandomMask
from .vera import VeRA


@dataclasses.dataclass(frozen=True)
class Support:
    """A row of the table of supported methods.

    Attributes:
        stem: the name without its number; `example` has both.
        title: what the method is called.
        example: a name that `method` understands.
        build: makes the method from the number in its name, or from nothing.
        update: what becomes of a kernel W (in, out), in one formula; for an extension, what becomes of the
            output y of a layer whose input is x.
        dimension: of its image, per target (in, out) = (m, n), or for all targets that share a factor; empty
            for extensions.
        paper: author and year.
    """

    stem: str
    title: str
    example: str
    build: Callable[..., Method]
    update: str
    dimension: str
    paper: str

    @property
    def numbered(self) -> bool:
        """Whether the name carries a number."""
        return self.example != self.stem

    @property
    def pattern(self) -> str:
        """The name with <N> for its number, as messages have it."""
        return re.sub(r"\d+(?=%?$)", "<N>", self.example) if self.numbered else self.stem


def _share(kind: Callable[..., Method]) -> Callable[[int], Method]:
    return lambda number: kind(share=number / 100)


SUPPORT = (
    Support("full", "Full fine-tuning", "full", Full, "W + Φ", "all of d", "-"),
    Support("head", "Linear probing", "head", Head, "last layer + Φ", "its size", "-"),
    Support("top", "Top-k layers", "top-1", TopLayers, "last k layers + Φ", "their size", "-"),
    Support("lora-r", "LoRA", "lora-r4", LoRA, "W + A B", "r(m+n−r)", "Hu 2021"),
    Support("lora-fa-r", "LoRA, frozen A", "lora-fa-r4", LoRAFA, "W + A B, A frozen", "r·n", "Zhang 2023"),
    Support("rslora-r", "rsLoRA", "rslora-r4", RsLoRA, "W + A B / √r", "r(m+n−r)", "Kalajdzievski 2023"),
    Support("adalora-r", "AdaLoRA", "adalora-r4", AdaLoRA, "W + P diag(λ) Q", "r(m+n−r)", "Zhang 2023"),
    Support(
        "peru-r", "PERU-LoRA", "peru-r4", PERU, "W + rank-r part of full update", "r(m+n−r)", "Jiang 2023"
    ),
    Support("hira-r", "HiRA", "hira-r4", HiRA, "W + W ⊙ (A B)", "r(m+n−r)", "Huang 2025"),
    Support(
        "loha-r", "LoHa", "loha-r2", LoHa, "W + (A₁B₁) ⊙ (A₂B₂)", "2r(m+n−r) − (m+n−1)", "Hyeon-Woo 2022"
    ),
    Support("dora-r", "DoRA", "dora-r4", DoRA, "μ · direction(W + A B)", "r(m+n−r) + n", "Liu 2024"),
    Support("vera-r", "VeRA", "vera-r4", VeRA, "W + A diag(d) B diag(b)", "n + r − 1", "Kopiczko 2024"),
    Support("oft-b", "OFT", "oft-b4", OFT, "R W, R rotations", "(m/b) b(b−1)/2", "Qiu 2023"),
    Support("krona", "KronA", "krona", KronA, "W + A ⊗ B", "p + q − 1", "Edalati 2022"),
    Support("lokr-r", "LoKr", "lokr-r2", LoKr, "W + A ⊗ (C D)", "p + r(m₂+n₂−r) − 1", "Yeh 2023"),
    Support("phm-n", "PHM", "phm-n2", PHM, "W + Σ Aᵢ ⊗ Bᵢ, Aᵢ shared", "s(p+Σq−s)", "Zhang 2021"),
    Support(
        "compacter-n",
        "Compacter",
        "compacter-n2",
        Compacter,
        "W + Σ Aᵢ ⊗ uᵢvᵢᵀ",
        "s³ − s + Σ s(m₂+n₂−1)",
        "Mahabadi 2021",
    ),
    Support("bitfit", "BitFit", "bitfit", BitFit, "biases + Φ", "biases", "Ben Zaken 2022"),
    Support("ia3", "IA3", "ia3", IA3, "rows or columns times l", "those that are not 0", "Liu 2022"),
    Support("mask", "Fixed sparse mask", "mask-5%", _share(RandomMask), "some entries + Φ", "entries", "-"),
    Support(
        "lt-sft", "LT-SFT", "lt-sft-5%", _share(LTSFT), "most changed entries + Φ", "entries", "Ansell 2022"
    ),
    Support("far", "FAR", "far-25%", _share(FAR), "most changed nodes + Φ", "entries", "Vucetic 2022"),
    Support("prefix", "Prefix tuning", "prefix-4", Prefix, "keys and values in front", "", "Li 2021"),
    Support(
        "serial-adapter",
        "Serial adapter",
        "serial-adapter-4",
        SerialAdapter,
        "y + U relu(D y)",
        "",
        "Houlsby 2019",
    ),
    Support(
        "parallel-adapter",
        "Parallel adapter",
        "parallel-adapter-4",
        ParallelAdapter,
        "y + s U relu(D x)",
        "",
        "He 2021",
    ),
    Support(
        "attention-fusion",
        "AttentionFusion",
        "attention-fusion",
        AttentionFusion,
        "mix of all layers' states",
        "",
        "Cao 2022",
    ),
    Support("s4", "S4", "s4", S4, "a mix per group of blocks", "", "Chen 2023"),
)
"""All methods, reparameterizations first."""

METHOD_NAMES = tuple(row.pattern for row in SUPPORT)
"""The names that `method` understands; <N> stands for a number."""


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
    for row in SUPPORT:
        if not row.numbered and name == row.stem:
            return row.build()
        number = re.fullmatch(re.escape(row.stem) + r"-?(\d+)(%?)", name, flags=re.ASCII)
        if row.numbered and number and name == re.sub(r"\d+", number[1], row.example):
            return row.build(int(number[1]))
    raise ValueError(f"method: got {name!r}, needs one of {', '.join(METHOD_NAMES)}, such as lora-r4")
