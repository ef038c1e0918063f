"""The notebook runs as it stands, and what it shows is what it gives."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def said(notebook):
    """What each cell prints."""
    return [
        "".join(out.get("text", "") for out in cell.get("outputs", []))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_it_was_executed_without_an_error_and_names_no_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [out for cell in code for out in cell.outputs if out.output_type == "error"]
    text = NOTEBOOK.read_text()
    assert "/home/" not in text
    assert "/work/" not in text
    assert "/tmp/" not in text


@pytest.mark.slow
def test_it_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = said(notebook)
    for cell in notebook.cells:
        cell.source = cell.source.replace(
            '"rounds": 8, "data.patients": 120', '"rounds": 1, "data.patients": 40'
        )
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parents[1])}}
    ).execute()
    found = said(notebook)
    assert len(found) == len(shown)
    assert all(bool(one) == bool(other) for one, other in zip(found, shown, strict=True))
    assert "unknown key (did you mean learning_rate?)" in found[-1]
