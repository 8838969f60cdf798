"""Reports and tables: complete, self-contained, right values, best ones marked."""

import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image
from rich.console import Console

from razorlite.core.errors import RunFolderError
from razorlite.visual import print_table, write_report
from razorlite.visual.rows import best_rows, columns

ROWS = [
    {"name": "largest", "macs": 321_915_200, "params": 3_558_952, "latency_ms": 20.14, "AP": 0.5},
    {"name": "pruned <b>", "macs": 99_000_000, "params": 900_000, "latency_ms": 9.96, "AP": 0.4996},
    {"name": "failed", "macs": 5_000, "AP": math.nan, "note": "diverged & stopped"},
]


class Reader(HTMLParser):
    """Checks that tags nest and collects table cells and image sources."""

    def __init__(self):
        super().__init__()
        self.open, self.cells, self.sources, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def png(width=20, height=10, noise=False):
    buffer = io.BytesIO()
    pixels = torch.randint(0, 255, (height, width, 3), dtype=torch.uint8).numpy()
    image = Image.fromarray(pixels) if noise else Image.new("RGB", (width, height), "red")
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def test_a_report_is_complete_and_needs_nothing_else(tmp_path):
    (tmp_path / "curve.png").write_bytes(png())
    path = write_report(
        tmp_path / "run" / "report.html",
        title="Cells & <others>",
        summary="What came out.",
        rows=ROWS,
        figures=[("File", tmp_path / "curve.png"), ("Bytes", png()), ("Lost", "lost.png")],
        notes=["Measured on 72 images."],
        facts={"seed": 0},
    )
    page, text = read(path), path.read_text(encoding="utf-8")
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?://|<script|url\(|@import", text)
    assert "default-src 'none'" in text
    for part in ("Cells & <others>", "What came out.", "Measured on 72 images.", "seed"):
        assert part in page.text
    assert "lost.png is missing" in page.text
    assert "diverged & stopped" in page.text
    assert "pruned <b>" in page.text


def test_values_are_scaled_and_the_best_marked(tmp_path):
    path = write_report(tmp_path / "report.html", title="t", rows=ROWS)
    cells = read(path).cells
    assert cells[5:10] == ["largest", "321.92", "3.56", "20.1", "0.500"]
    assert cells[15:] == ["failed", "0.01", "–", "–", "–"]
    # 0.5000 and 0.4996 both print 0.500, so both or none are marked: all alike, none
    assert path.read_text().count("class=best") == 3


def test_wide_pictures_scroll_inside_narrow_screens(tmp_path):
    write_report(tmp_path / "report.html", rows=[], title="t")
    # grid items are at least as wide as what they hold unless set otherwise
    assert "figure { margin: 0; min-width: 0; }" in (tmp_path / "report.html").read_text()


def test_plots_keep_their_words_legible_on_narrow_screens(tmp_path):
    for name, kind in (("plot.png", "PNG"), ("photo.jpg", "JPEG")):
        Image.new("RGB", (1120, 600)).save(tmp_path / name, kind)
    shown = [(name, tmp_path / name) for name in ("plot.png", "photo.jpg")]
    text = write_report(tmp_path / "r.html", rows=[], title="t", figures=shown).read_text()
    assert text.count("style='--least: 560px'") == 1
    assert "alt='photo.jpg'>" in text


def test_json_rows_have_every_key(tmp_path):
    write_report(tmp_path / "report.html", title="t", rows=ROWS, facts={"path": tmp_path})
    content = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    rows = content["rows"]
    assert rows[0]["macs"] == 321_915_200
    assert rows[2]["AP"] is None
    assert all({"name", "macs", "params", "latency_ms", "AP", "AP50"} <= set(r) for r in rows)


def test_further_tables_and_values_are_shown_and_kept(tmp_path):
    table = ("Parts <all>", ["Front", "neck"], [["trial 1", "2.00 (5%)"]])
    path = write_report(
        tmp_path / "r.html", title="t", rows=[], tables=[table], more={"parts": [1]}
    )
    assert read(path).cells == ["Front", "neck", "trial 1", "2.00 (5%)"]
    assert json.loads((tmp_path / "r.json").read_text())["parts"] == [1]


def test_photographs_are_embedded_smaller(tmp_path):
    photo = png(600, 400, noise=True)
    path = write_report(tmp_path / "r.html", title="t", rows=[], figures=[("photo", photo)])
    assert read(path).sources[0].startswith("data:image/jpeg;base64,")
    assert path.stat().st_size < len(photo)
    assert "No model was measured." in path.read_text()


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = write_report(tmp_path / "report.html", title="old", rows=ROWS)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError):
        write_report(tmp_path / "file" / "report.html", title="new", rows=ROWS)
    assert "old" in path.read_text()


def test_columns_and_units_follow_the_values():
    shown = columns(ROWS)
    assert [c.heading for c in shown] == ["MACs (M)", "Parameters (M)", "Latency (ms)", "AP"]
    assert [best_rows(ROWS, c) for c in shown] == [{2}, {1}, {1}, set()]
    assert [c.heading for c in columns([{"macs": 2.5e9, "params": 800}])] == [
        "MACs (G)",
        "Parameters",
    ]
    assert columns([{"name": "x", "top1": 0.5}])[0].heading == "top-1"
    assert columns([]) == []


def test_tied_best_values_are_both_marked():
    rows = [{"AP": 0.5}, {"AP": 0.5}, {"AP": 0.4}]
    assert best_rows(rows, columns(rows)[0]) == {0, 1}


def test_the_table_prints_every_row_in_80_columns():
    console = Console(file=io.StringIO(), width=80)
    print_table([*ROWS, {"name": "[red]odd[/red]"}], title="Models", console=console)
    text = console.file.getvalue()
    for part in ("Models", "321.92", "3.56", "0.500", "pruned <b>", "[red]odd[/red]"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80
    print_table([], console=console)


def test_a_narrow_terminal_cuts_no_value_and_no_word_of_the_table():
    console = Console(file=io.StringIO(), width=30)
    title = "On 200 test images that nothing was trained on"
    print_table(ROWS, title=title, console=console)
    text = console.file.getvalue()
    assert "…" not in text
    for part in (*title.split(), "Parameters", "321.92", "20.1", "0.500"):
        assert part in text


def test_importing_visual_does_not_import_matplotlib():
    code = "import sys, razorlite.visual; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_that_differ_in_training_have_no_best(tmp_path):
    rows = [{"name": "a", "AP": 0.5, "steps": 10}, {"name": "b", "AP": 0.6, "steps": 20}]
    assert [best_rows(rows, column) for column in columns(rows)] == [set(), set()]
    page = write_report(tmp_path / "report.html", title="t", rows=rows).read_text()
    assert "differ in training" in page
    assert "class=best" not in page


def test_what_lies_in_the_interval_of_the_best_is_as_good(tmp_path):
    rows = [
        {"name": "a", "AP": 0.5, "AP_interval": [0.4, 0.55]},
        {"name": "b", "AP": 0.58, "AP_interval": [0.5, 0.7]},
        {"name": "c", "AP": 0.6, "AP_interval": [0.58, 0.7]},
    ]
    (column,) = columns(rows)
    assert best_rows(rows, column) == {1, 2}
    assert column.text(rows[0]) == "0.500 ±0.075"
    page = write_report(tmp_path / "r.html", title="t", rows=rows, findings=["b is < c"])
    assert "<li>b is &lt; c</li>" in page.read_text()
