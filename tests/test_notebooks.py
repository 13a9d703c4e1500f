"""The notebooks run, and what is committed with them is what they say.

`python tests/test_notebooks.py` executes them all and writes their outputs back.
"""

import base64
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
IMAGES = {"image/png", "image/svg+xml"}
PATHS = re.compile(r"(?<![\w.:/])/(?:\w[\w.-]*/)+\w|\b[A-Za-z]:\\|file://|~/")
TIMES = re.compile(r"\b20\d\d-\d\d-\d\d|\b\d\d:\d\d:\d\d")
SCRIPTS = re.compile(r"<\s*script|javascript:|\bon(load|click|error)\s*=", re.IGNORECASE)
NUMBERS = re.compile(r"[-+]?(?<![\w])(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?%?")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def execute(path, folder):
    """Run a notebook from top to bottom in a fresh kernel of this very Python, away from the checkout."""
    spec = {"argv": [sys.executable, "-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}"]}
    (folder / "kernels" / "fresh").mkdir(parents=True)
    spec |= {"display_name": "fresh", "language": "python"}
    (folder / "kernels" / "fresh" / "kernel.json").write_text(json.dumps(spec))
    (folder / "work").mkdir()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(
            kernel_name="fresh", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
        ),
        resources={"metadata": {"path": str(folder / "work")}},
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
    )
    quiet = {
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "NO_COLOR": "1",
    }
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    return client.execute(env=kept | quiet)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """What a cell prints or shows as text; a picture's stand-in text is no output of its own."""
    shown = []
    for output in cell.outputs:
        if output.output_type == "stream":
            shown.append(output.text)
        elif not IMAGES & set(output.get("data", {})):
            shown.append(output.get("data", {}).get("text/plain", ""))
    return "".join(shown)


def images(cell):
    return [
        (kind, output.data[kind]) for output in cell.outputs for kind in IMAGES & set(output.get("data", {}))
    ]


def facts(cell):
    """What must come out again: everything for cells tagged `exact`, else all but the numbers themselves.

    A trained network differs in its digits between machines, not in what holds, what fails and what is met.
    """
    text = texts(cell)
    return text if "exact" in cell.metadata.get("tags", ()) else " ".join(NUMBERS.sub("#", text).split())


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_it_runs_and_the_committed_outputs_come_out_again(path, tmp_path):
    """One test, because two would execute the notebook twice when they fall to two workers."""
    committed, again = code_cells(nbformat.read(path, as_version=4)), code_cells(execute(path, tmp_path))
    for before, after in zip(committed, again, strict=True):
        assert not [output for output in after.outputs if output.output_type == "error"]
        assert facts(after) == facts(before), before.source
        assert len(images(after)) == len(images(before)), before.source


@each_notebook
def test_it_is_committed_executed_from_top_to_bottom(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(texts(cell) for cell in cells)
    assert any(images(cell) for cell in cells)
    assert any("exact" in cell.metadata.get("tags", ()) for cell in cells), "no cell is compared in full"


@each_notebook
def test_float64_is_on_before_anything_else_happens(path):
    first = code_cells(nbformat.read(path, as_version=4))[0].source
    assert 'jax.config.update("jax_enable_x64", True)' in first
    assert first.index("jax_enable_x64") < first.index("peftproof")


@each_notebook
def test_committed_outputs_are_static_and_belong_to_no_machine(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name", "stdout") == "stdout", f"a warning was committed: {output.text}"
            assert set(output.get("data", {})) <= IMAGES | {"text/plain"}, cell.source
        text = texts(cell)
        for line in text.splitlines():
            assert len(line) <= 79, line
        for pattern in (PATHS, TIMES, SCRIPTS):
            found = pattern.search(text) or pattern.search(cell.source)
            assert not found, found
    assert not SCRIPTS.search(path.read_text(encoding="utf-8"))


@each_notebook
def test_pictures_are_small_opaque_and_have_a_text_that_stands_for_them(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        for kind, data in images(cell):
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 40, cell.source
            assert len(data) < 150_000, f"{len(data)} bytes: fewer points or dots per inch, please"
            if kind == "image/png":
                assert corner(data) == (255, 255, 255, 255), "ink on no paper is unreadable in dark mode"


def corner(data):
    from io import BytesIO

    from PIL import Image

    return Image.open(BytesIO(base64.b64decode(data))).convert("RGBA").getpixel((0, 0))


def test_what_the_checks_look_for_is_found():
    """The patterns above are able to object."""
    assert PATHS.search("in /home/somebody/peftproof/x.py")
    assert PATHS.search(r"C:\Users\somebody")
    assert not PATHS.search("deviation / bound (a ratio), and/or 3/2, bounds.printed(pair) / pair.deviation")
    assert TIMES.search("2026-01-31")
    assert SCRIPTS.search("<script src=x>")
    assert NUMBERS.sub("#", "597 of 597: 129 <= 27, margin -1.2e+02, 45.0%") == "# of #: # <= #, margin #, #"
    assert NUMBERS.sub("#", "T2.R1 and x0 keep their names") == "T2.R1 and x0 keep their names"


def refresh():
    """Write the outputs of every notebook anew."""
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        for cell in code_cells(notebook):
            cell.metadata.pop("execution", None)
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        nbformat.write(notebook, path)


if __name__ == "__main__":
    refresh()
