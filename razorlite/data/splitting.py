"""Splits that hang on the images alone: not on their number, their order or where they lie."""

import unicodedata
from collections.abc import Sequence
from hashlib import sha256

from razorlite.core.errors import DataError
from razorlite.data.dataset import Dataset


def image_hash(name: str, seed: int = 0) -> int:
    """Return a 64-bit hash of an image's name, equal on all machines.

    Args:
        name: such as the path relative to the data set's folder, parts separated by "/".
        seed: another seed gives unrelated hashes.
    """
    text = unicodedata.normalize("NFC", name)  # some file systems take accents apart
    data = f"{seed}/{text}".encode(errors="surrogateescape")
    return int.from_bytes(sha256(data).digest()[:8], "big")


def split_names(
    names: Sequence[str], fraction: float, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Choose names by their hashes: each is held out or not whatever other names there are.

    Args:
        names: equal ones end on the same side.
        fraction: part to hold out, above 0 and below 1. It is met as closely as chance allows; at
            least one name is held out and one kept.
        seed: another seed holds out others.

    Returns:
        Places of the kept and of the held-out names, each ascending.

    Raises:
        DataError: the fraction is out of range or there is only one name.
    """
    if not 0 < fraction < 1:
        raise DataError(f"a held-out fraction is above 0 and below 1, got {fraction}")
    hashes = [image_hash(name, seed) for name in names]
    ranked = sorted(set(hashes))
    if len(ranked) < 2:
        raise DataError(
            f"cannot hold out images of a data set of {len(ranked)}; expected 2 or more different "
            f"ones"
        )
    limit = min(max(int(fraction * 2**64), ranked[0] + 1), ranked[-1])
    held = [i for i, value in enumerate(hashes) if value < limit]
    kept = [i for i, value in enumerate(hashes) if value >= limit]
    return kept, held


def split_holdout(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Choose items to hold out by their images' names; see `split_names`.

    All items of one image are on the same side, also those of repeated and joined data sets. A
    data set that was moved, grew or lost images leaves every other image on its side.

    Args:
        dataset: what to split.
        fraction: part of the images to hold out, above 0 and below 1.
        seed: another seed holds out other images.

    Returns:
        Indices of the kept and of the held-out items, each ascending.

    Raises:
        DataError: the fraction is out of range or there is only one image.
    """
    return split_names(_names_by_image(dataset), fraction, seed)


def image_hashes(dataset: Dataset) -> list[int]:
    """Return the hashes of a data set's images, each once, ascending."""
    return sorted({image_hash(name) for name in _names_by_image(dataset)})


def dataset_digest(dataset: Dataset) -> str:
    """Return a short name for classes, images and annotations, in their order."""
    digest = sha256("\n".join(dataset.classes).encode(errors="surrogateescape"))
    for index, name in enumerate(_names_by_image(dataset)):
        digest.update(image_hash(name).to_bytes(8, "big"))
        digest.update(dataset.annotation_bytes(index))
    return digest.hexdigest()[:16]


def _names_by_image(dataset: Dataset) -> list[str]:
    """Return the items' names; items of one image have one, wherever they come from."""
    first: dict[str, str] = {}
    for key, name in zip(dataset.keys, dataset.names, strict=True):
        first[key] = min(name, first.get(key, name))
    return [first[key] for key in dataset.keys]
