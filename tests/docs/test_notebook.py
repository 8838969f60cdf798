"""The notebook runs from top to bottom, on less data and for one epoch."""

import json

import pytest

from tests.docs.pages import DOCS

CELLS = json.loads((DOCS / "first_steps.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
SMALLER = {"EPOCHS = 30": "EPOCHS = 1", '"train": 60, "val": 20': '"train": 8, "val": 4'}


def test_it_is_kept_without_outputs():
    kept = [cell for cell in CELLS if cell["cell_type"] == "code" and cell["outputs"]]
    assert kept == []


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "\n".join(CODE)
    for whole, small in SMALLER.items():
        assert whole in text
        text = text.replace(whole, small)
    names = {}
    exec(text, names)
    assert (tmp_path / "small.onnx").exists()
    assert names["subnet"].cost["macs"] <= 0.6 * names["whole"]["macs"]
