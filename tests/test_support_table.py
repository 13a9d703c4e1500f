"""The tables of methods on the pages say what the code says."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "support_tables.py"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("support_tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_code(tables):
    assert tables.stale() == []


def test_a_table_that_lost_a_row_would_be_noticed(tables, tmp_path, monkeypatch):
    # The negative control: BitFit's row goes, and another dimension is claimed for KronA.
    page = tmp_path / "README.md"
    text = (SCRIPT.parents[1] / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(tables, "PAGES", {page: ("short",)})
    page.write_text(text, encoding="utf-8")
    assert tables.stale() == []
    for broken in (
        "\n".join(line for line in text.split("\n") if not line.startswith("| `bitfit`")),
        text.replace("p + q − 1", "p + q"),
    ):
        assert broken != text
        page.write_text(broken, encoding="utf-8")
        assert len(tables.stale()) == 1
        tables.write()
        assert page.read_text(encoding="utf-8") == text


def test_every_method_has_a_row_in_each_place(tables):
    rows = {name: tables.TABLES[name]() for name in ("short", "maps", "extensions")}
    for row in tables.SUPPORT:
        assert f"`{row.pattern}`" in rows["short"]
        assert (f"`{row.pattern}`" in rows["maps"]) != (f"`{row.pattern}`" in rows["extensions"])
