"""Small data sets written to disk, and what several tests ask of targets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from razorlite.data import ShapesDataset
from razorlite.structures import Target


def noise(size, mode="RGB", seed=0):
    """An image of random pixels, (height, width)."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, bands), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze() if bands == 1 else pixels, mode)


def save_image(path, size=(40, 60), seed=0, **kwargs):
    """Write a random RGB image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(size, seed=seed).save(path, **kwargs)
    return path


def cut_off(path):
    """Leave only the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def coco(folder: Path, boxes, *, images=2, extra_images=(), extra=(), size=(40, 60)):
    """Write a COCO set: boxes are (image id, x, y, w, h), category 7 is "cat", 3 is "dog"."""
    for index in range(1, images + 1):
        save_image(folder / "images" / f"{index}.jpg", size, seed=index)
    tree = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": size[0], "width": size[1]}
            for i in range(1, images + 1)
        ]
        + list(extra_images),
        "annotations": [
            {"id": n, "image_id": key, "category_id": 7, "bbox": list(box), "iscrowd": 0}
            for n, (key, *box) in enumerate(boxes, start=1)
        ]
        + list(extra),
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(tree))
    return {"annotation": str(path), "images": str(folder / "images")}


def voc(root: Path, images, *, split="ImageSets/Main/train.txt", size=(40, 60), folders=None):
    """Write a VOC set: {name: [(class, xmin, ymin, xmax, ymax, difficult), …]}."""
    folders = folders or ("JPEGImages", "Annotations")
    for seed, (name, objects) in enumerate(images.items()):
        save_image(root / folders[0] / f"{name}.jpg", size, seed=seed)
        write_xml(root / folders[1] / f"{name}.xml", objects, size)
    (root / split).parent.mkdir(parents=True, exist_ok=True)
    (root / split).write_text("".join(f"{name}\n" for name in images))
    return {"root": str(root), "split": split}


def write_xml(path, objects, size):
    """Write one annotation file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"] if size else []
    for name, *box, difficult in objects:
        sides = "".join(
            f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        parts.append(
            f"<object><name>{name}</name><difficult>{difficult}</difficult>"
            f"<bndbox>{sides}</bndbox></object>"
        )
    path.write_text(f"<annotation>{''.join(parts)}</annotation>")


def kinds(dataset):
    """The sorts of faults a data set met, sorted."""
    return sorted(fault.kind for fault in dataset.faults)


def target(boxes, labels=None, size=(20, 30), masks=None, **kwargs):
    """A target of given boxes, label 0 each by default."""
    boxes = torch.tensor(boxes).float().reshape(-1, 4)
    labels = torch.zeros(len(boxes)).long() if labels is None else torch.tensor(labels)
    return Target(
        boxes,
        labels,
        torch.zeros(len(boxes)).bool(),
        masks,
        size=size,
        original_size=size,
        **kwargs,
    )


def box_masks(boxes, size):
    """Masks that fill integer boxes."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def same(one, other):
    """Check that two lists of batches are equal to the bit."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.images, b.images)
        for t, u in zip(a.targets, b.targets, strict=True):
            assert t.image_id == u.image_id
            assert torch.equal(t.boxes, u.boxes)
            assert torch.equal(t.labels, u.labels)
            assert t.size == u.size


def ids(batches):
    """The image ids of some batches, in order."""
    return [target.image_id for batch in batches for target in batch.targets]


def write_shapes(
    folder: str | Path,
    *,
    num_images: int,
    size: tuple[int, int] = (96, 96),
    seed: int = 0,
    classes: tuple[str, ...] = ("circle", "square", "triangle"),
    objects: tuple[int, int] = (1, 4),
) -> Path:
    """Write drawn shapes as PNG images and COCO json, the same ones `ShapesDataset` gives.

    Args:
        folder: gets `images/000000.png`, … and `annotations.json`.
        num_images, size, seed, classes, objects: as for `ShapesDataset`.

    Returns:
        The json file.
    """
    dataset = ShapesDataset(
        num_images=num_images, size=size, seed=seed, classes=classes, objects=objects, masks=True
    )
    images = Path(folder) / "images"
    images.mkdir(parents=True)
    tree: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    tree["categories"] = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    for index in range(len(dataset)):
        image, target = dataset[index]
        name = f"{index:06d}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(images / name)
        entry = {"id": index + 1, "file_name": name, "height": size[0], "width": size[1]}
        tree["images"].append(entry)
        tree["annotations"] += _annotations(target, index + 1, len(tree["annotations"]) + 1)
    path = Path(folder) / "annotations.json"
    path.write_text(json.dumps(tree))
    return path


def _annotations(target: Target, image_id: int, first: int) -> list[dict[str, Any]]:
    from pycocotools import mask as coco_mask

    assert target.masks is not None
    entries = []
    for number, (box, label, mask) in enumerate(
        zip(target.boxes.tolist(), target.labels.tolist(), target.masks.numpy(), strict=True)
    ):
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        entries.append(
            {
                "id": first + number,
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode()},
            }
        )
    return entries
