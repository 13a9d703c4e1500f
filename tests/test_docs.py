"""The pages build, and warnings are errors."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_docs_build_without_warnings(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for page in (
        "index",
        "guide/start",
        "guide/methods",
        "theorems/subset",
        "theorems/capacity",
        "theorems/capacity_transformer",
        "theorems/diminishing",
        "theorems/sensitivity",
        "theorems/sensitivity_proofs",
        "theorems/marginal",
        "theorems/marginal_proofs",
        "notebooks/subset",
        "notebooks/capacity",
        "notebooks/diminishing",
        "api/diminishing",
    ):
        assert (tmp_path / f"{page}.html").is_file(), page
