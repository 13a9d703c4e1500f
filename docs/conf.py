"""Settings of the pages: `sphinx-build -W -b html docs docs/_build`."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # for the extension docstrings.py

project = "peftproof"
author = "The peftproof authors"
project_copyright = "The peftproof authors"
release = version_of("peftproof")
version = release

extensions = ["docstrings", "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
default_role = "py:obj"
language = "en"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # committed executed; the tests execute them again

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"peftproof {release}"
html_copy_source = False
html_show_sphinx = False


def _copy_notebooks(_app: Sphinx, _config: object) -> None:
    """Make the notebooks pages: Sphinx reads nothing from outside its own folder."""
    target = DOCS / "notebooks"
    target.mkdir(exist_ok=True)
    kept = set()
    for notebook in sorted((DOCS.parent / "notebooks").glob("*.ipynb")):
        copy = target / notebook.name
        kept.add(copy)
        # Links to pages are those of the repository, where the notebook is read beside docs/.
        text = notebook.read_bytes().replace(b"](../docs/", b"](../")
        if not copy.exists() or copy.read_bytes() != text:
            copy.write_bytes(text)
    for stale in set(target.glob("*.ipynb")) - kept:
        stale.unlink()


def setup(app: Sphinx) -> None:
    """Copy the notebooks before Sphinx looks for pages."""
    app.connect("config-inited", _copy_notebooks)
