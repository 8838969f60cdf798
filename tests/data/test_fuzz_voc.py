"""Seeded mutations of VOC sets and of images: named faults or errors in one line, nothing else."""

import io
from xml.sax.saxutils import escape

import numpy as np
import pytest
from PIL import Image

from razorlite.core.errors import DataError
from razorlite.data import SplitPart, VocDataset
from tests.data.helpers import noise, save_image
from tests.fuzz import Raw, guarded, mutants_of_bytes, mutants_of_tree

pytestmark = pytest.mark.filterwarnings("ignore")  # of Pillow, on what it is fed

BOXES = {"red": [8, 10, 32, 26], "green": [36, 28, 59, 39]}
TREE = {
    "annotation": {
        "folder": "VOC2007",
        "filename": "a.jpg",
        "size": {"width": 60, "height": 40, "depth": 3},
        "segmented": 0,
        "object": [
            {
                "name": name,
                "pose": "Unspecified",
                "truncated": 0,
                "difficult": 0,
                "bndbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)),
            }
            for name, box in BOXES.items()
        ],
    }
}


def to_xml(tree):
    """Return a tree as xml; the items of a list become elements of the same name."""
    return "".join(_element(key, value) for key, value in tree.items()).encode(errors="replace")


def _element(tag, value):
    if isinstance(value, list):
        return "".join(_element(tag, item) for item in value)
    if isinstance(value, dict):
        return f"<{tag}>{''.join(_element(k, v) for k, v in value.items())}</{tag}>"
    return f"<{tag}>{value.text if isinstance(value, Raw) else escape(str(value))}</{tag}>"


def write(root):
    """Write a set of a.jpg and z.jpg with two objects each."""
    for name in "az":
        save_image(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_bytes(to_xml(TREE))
    (root / "split.txt").write_text("a\nz\n")
    return root


def read(root, **kwargs):
    """Return the set, read whole within time and memory, or None if it is refused as a whole."""
    with guarded():
        try:
            dataset = VocDataset(root=str(root), classes=list(BOXES), **kwargs)
        except DataError:
            return None
        for index in range(len(dataset)):
            try:
                image, target = dataset[index]
            except OSError:
                continue  # found late, named by the loader
            assert image.shape[-2:] == target.size
            assert (target.boxes >= 0).all()
            assert (target.boxes[:, 2:] <= target.boxes.new_tensor(target.size[::-1])).all()
    assert all("\n" not in str(fault) for fault in dataset.faults)
    return dataset


def found(dataset, name):
    """Return {class: box} of an image of the set; None if it was left out."""
    for record in dataset.records:
        if record.path.stem == name:
            names = [dataset.classes[label] for label in record.labels]
            return list(zip(names, record.boxes.tolist(), strict=True))
    return None


def untouched(mutant):
    """Return the class and box of the objects that a mutant leaves as they are."""
    objects = mutant.tree.get("annotation")
    objects = objects.get("object") if isinstance(objects, dict) else None
    goods = TREE["annotation"]["object"]
    return [(o["name"], o["bndbox"]) for o in objects if o in goods] if objects else []


def test_mutated_annotations(tmp_path):
    root = write(tmp_path)
    whole = list(BOXES.items())
    for mutant in mutants_of_tree(TREE, 60, seed=0, dump=to_xml):
        (root / "Annotations" / "a.xml").write_bytes(mutant.data)
        dataset = read(root, split=None)
        assert found(dataset, "z") == whole, mutant.name
        shown = found(dataset, "a")
        if shown != whole and not dataset.faults:
            # nothing is reported: then the file itself says something else, in good form
            assert shown is not None, mutant.name
            for name, box in untouched(mutant):
                assert (name, list(box.values())) in shown, mutant.name


def test_mutated_bytes(tmp_path):
    root, data = write(tmp_path), to_xml(TREE)
    for mutant in mutants_of_bytes(data, 40, seed=1):
        (root / "Annotations" / "a.xml").write_bytes(mutant.data)
        dataset = read(root, split=None)
        assert found(dataset, "z") == list(BOXES.items()), mutant.name
        shown = found(dataset, "a")
        assert dataset.faults or shown is not None, mutant.name


def test_mutated_split_files(tmp_path):
    root = write(tmp_path)
    good = "a\nz\n".encode("utf-16"), b"a 1\nz  1\n", b"JPEGImages/a.jpg\r\nz\r\n"
    for data in good:
        (root / "split.txt").write_bytes(data)
        assert len(read(root, split="split.txt")) == 2
        for mutant in mutants_of_bytes(data, 10, seed=2):
            (root / "split.txt").write_bytes(mutant.data)
            dataset = read(root, split="split.txt")
            assert dataset is None or {r.path.stem for r in dataset.records} <= set("az")
    assert len(read(root, split=SplitPart(fraction=0.5, part="rest"))) == 1


def images():
    """Yield the name and bytes of one small good image of each kind."""
    picture = noise((40, 60))
    deep = Image.fromarray(np.asarray(picture)[..., 0].astype(np.uint16) * 257)
    kinds = {"JPEG": picture, "PNG": picture, "BMP": picture, "WEBP": picture, "TIFF": picture}
    kinds |= {"GIF": picture.quantize(16), "PPM": picture, "MPO": picture}
    for kind, image in kinds.items():
        yield kind, saved(image, kind)
    yield "PNG of 16 bits", saved(deep, "PNG")
    yield "TIFF, compressed", saved(deep, "TIFF", compression="tiff_lzw")
    yield "JPEG, progressive", saved(picture, "JPEG", progressive=True, exif=Image.Exif())


def saved(image, kind, **kwargs):
    stream = io.BytesIO()
    image.save(stream, format=kind, **kwargs)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "data"), list(images()), ids=[kind for kind, _ in images()])
def test_mutated_images(tmp_path, kind, data):
    root = write(tmp_path)
    path = root / "JPEGImages" / "a.jpg"
    path.write_bytes(data)
    assert len(read(root, split=None, strict=True)) == 2
    for mutant in [*mutants_of_bytes(data, 6, seed=3), *mutants_of_bytes(data[:200], 4, seed=4)]:
        path.write_bytes(mutant.data)
        dataset = read(root, split=None)
        assert found(dataset, "z") is not None, mutant.name
        assert found(dataset, "a") or dataset.faults, mutant.name
