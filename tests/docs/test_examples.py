"""The pages' files are written, their commands and examples run, from top to bottom."""

import csv
import sys
from xml.etree import ElementTree

import pytest
from PIL import Image

from razorlite.cli import main
from razorlite.data import ShapesDataset
from tests.docs.pages import DOCS, PAGES, blocks, commands

ELSEWHERE = {"pruning.md"}  # tests/test_docs_pruning.py runs its examples
RUN = [
    page
    for page in PAGES
    if page.name not in ELSEWHERE and any(block.mark.startswith("run") for block in blocks(page))
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with drawn shapes as a VOC folder `photos` and a table of boxes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    known = set(sys.modules)
    _draw(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_runs_from_top_to_bottom(page, folder):
    names = {}
    for block in blocks(page):
        if block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.text)
        elif block.mark.startswith("run") and block.language == "python":
            exec(block.text, names)
        elif block.mark.startswith("run"):
            _run(block.text, block.mark.removeprefix("run").split())


def _run(text, more):
    """Run each command; trainings get more words, which make them short."""
    for words in commands(text):
        short = more if words[0] in ("train", "prune") and "--show" not in words else []
        assert main([*words, *short]) == 0, words


def _draw(folder):
    shapes = ShapesDataset(num_images=12, size=(96, 128), objects=(1, 2), scale=(0.3, 0.5))
    for part in ("photos/Annotations", "photos/JPEGImages", "table"):
        (folder / part).mkdir(parents=True)
    with (folder / "table/boxes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", "x1", "y1", "x2", "y2"])
        for index in range(len(shapes)):
            image, target = shapes[index]
            pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
            pixels.save(folder / f"photos/JPEGImages/{index}.png")
            pixels.save(folder / f"table/{index}.png")
            rows = [
                [shapes.classes[label], *map(int, box)]
                for box, label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True)
            ]
            table.writerows([f"{index}.png", *row] for row in rows)
            _xml(rows, f"{index}.png").write(folder / f"photos/Annotations/{index}.xml")


def _xml(rows, name):
    tree = ElementTree.Element("annotation")
    ElementTree.SubElement(tree, "filename").text = name
    size = ElementTree.SubElement(tree, "size")
    for tag, value in (("width", 128), ("height", 96), ("depth", 3)):
        ElementTree.SubElement(size, tag).text = str(value)
    for word, *box in rows:
        thing = ElementTree.SubElement(tree, "object")
        ElementTree.SubElement(thing, "name").text = word
        corners = ElementTree.SubElement(thing, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ElementTree.SubElement(corners, tag).text = str(value)
    return ElementTree.ElementTree(tree)
