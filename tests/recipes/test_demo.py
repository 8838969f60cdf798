"""The demo as a newcomer runs it."""

import json
from pathlib import Path

import pytest

from razorlite import recipes
from razorlite.core.errors import RunFolderError

NOISE = 0.06  # AP between two runs of this length


@pytest.mark.slow
@pytest.mark.usefixtures("all_cores")
def test_demo_compares_five_models_in_one_report(tmp_path: Path):
    folder = tmp_path / "demo"
    rows = {row["name"]: row for row in recipes.demo(folder)}
    assert list(rows) == ["largest", "random", "searched", "distilled", "pruned"]
    assert rows["searched"]["AP"] >= rows["random"]["AP"] - NOISE
    assert rows["searched"]["macs"] < rows["largest"]["macs"]
    assert rows["distilled"]["macs"] == rows["searched"]["macs"]
    assert rows["pruned"]["macs"] <= 0.75 * rows["distilled"]["macs"]
    assert min(row["AP50"] for row in rows.values()) > 0.2
    page = (folder / "report.html").read_text()
    assert "src='http" not in page
    assert 'src="http' not in page
    kept = json.loads((folder / "report.json").read_text())["rows"]
    assert {"name", "macs", "params", "latency_ms", "AP", "AP50"} <= set(kept[0])
    assert [row["macs"] for row in kept] == [row["macs"] for row in rows.values()]


def test_demo_leaves_a_used_folder_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty; choose another folder"):
        recipes.demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
