"""Docstrings as this project writes them, for autodoc.

Formulas stand between dollars, code between single backquotes, and everything else means itself.  Types in
signatures are found even where a module imports them under TYPE_CHECKING, and have the names they have there.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


@cache
def _namespace(module: str) -> dict[str, object]:
    """The names of a module, with those imported under TYPE_CHECKING."""
    namespace = vars(sys.modules[module])
    for node in ast.parse(Path(namespace["__file__"]).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            imports = [each for each in node.body if isinstance(each, ast.ImportFrom)]
            exec(ast.unparse(ast.Module(imports, [])), namespace)  # our own source, which is imported anyway
    return namespace


def _resolve_annotations(_app: Sphinx, obj: object, _bound: bool) -> None:
    """Let types in signatures be found, so that they link to the class that is meant."""
    module = getattr(obj, "__module__", None) or ""
    if module.startswith("peftproof."):
        known = getattr(obj, "__globals__", {})  # those of a decorator, for a decorated function
        for name, value in _namespace(module).items():
            known.setdefault(name, value)


_SHORTER = {
    r"~?jaxlib\._jax\.Array": "Array",
    r"~?jaxtyping\.Key\[Array, ''\](?: \| ~?jaxtyping\.UInt32\[Array, '[24]'\])+": "PRNGKeyArray",
    r"= ?<[^,)]*>": "=...",
}


def _shorter(text: str | None) -> str | None:
    """What types are called in the code instead of what they are made of, and no addresses of objects."""
    for pattern, name in _SHORTER.items():
        text = None if text is None else re.sub(pattern, name, text)
    return text


def _signature(
    _app: Sphinx, _what: str, _name: str, _obj: object, _options: object, *texts: str | None
) -> tuple:
    arguments, result = texts
    return _shorter(arguments), _shorter(result)


_BLOCK = re.compile(r"^([ \t]*)\$\$(.+?)\$\$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$([^$]+?)\$", re.DOTALL)
_CODE = re.compile(r"(``.+?``|`[^`]+?`|:math:`[^`]+?`)", re.DOTALL)
_EMPHASIS = re.compile(r"(\*\*[^*\n]+\*\*|\*[^*\n]+\*)")
_LISTING = re.compile(r"(?m)^(\S.*[^:]):\n\n((?: {4}.*\n)+)")


def _math_block(match: re.Match) -> str:
    indent, body = match[1], textwrap.dedent(match[2]).strip()
    lines = "\n".join(f"{indent}   {line.strip()}" for line in body.splitlines())
    return f"\n{indent}.. math::\n\n{lines}\n"


def _outside_code(text: str) -> str:
    """Escape what docstrings mean literally and reStructuredText reads as markup: |σ(u)|, (p, *shape)."""
    parts = _CODE.split(text)
    for i in range(0, len(parts), 2):
        pieces = _EMPHASIS.split(parts[i].replace("|", r"\|"))
        pieces[::2] = [piece.replace("*", r"\*") for piece in pieces[::2]]
        parts[i] = "".join(pieces)
    return "".join(parts)


def _docstring(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Read docstrings as they are written: formulas between dollars, code between single backquotes."""
    text = _BLOCK.sub(_math_block, "\n".join(lines) + "\n")
    text = _INLINE.sub(lambda m: f":math:`{' '.join(m[1].split())}`", text)
    if what == "module":
        text = _LISTING.sub(r"\1::\n\n\2", text)
    blocks = re.split(r"(?m)^([ \t]*\.\. math::\n\n(?:[ \t]+.*\n)+|\S.*::\n\n(?: {4}.*\n)+)", text)
    blocks[::2] = [_outside_code(block) for block in blocks[::2]]
    lines[:] = "".join(blocks).split("\n")
    if what in ("attribute", "data", "property"):
        # Napoleon takes what stands before a colon in the first line for a type: make that an empty comment.
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to autodoc, before napoleon."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-before-process-signature", _resolve_annotations)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)
    return {"parallel_read_safe": True}
