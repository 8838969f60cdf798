"""Images, masks and faults of the files that annotation tools leave."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from razorlite.core.errors import DataError
from razorlite.data.files import files_under, relative
from razorlite.data.images import IMAGE_SUFFIXES, Decoding


def images_by_name(folder: Path) -> dict[str, list[Path]]:
    """Return the images of a folder and those below it by their names."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files_under(folder):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            found[file.name].append(file)
    return found


def image_called(path: str, known: dict[str, list[Path]], folder: Path) -> Path:
    """Return the image whose path ends as the given one does, as far as one does.

    Raises:
        DataError: there is none of this name, or several are as near.
    """
    parts = PurePosixPath(path.replace("\\", "/")).parts or ("",)
    same = known.get(parts[-1], [])
    for start in range(len(parts)):
        found = [file for file in same if file.parts[start - len(parts) :] == parts[start:]]
        if len(found) == 1:
            return found[0]
        if found:
            named = " or ".join(relative(file, folder) for file in found)
            raise DataError(f"the image {path} could be {named} of {folder}; rename all but one")
    raise DataError(f"no image {parts[-1]} below {folder}; put the images beside the xml file")


def size_of(image: Path, masks: Sequence[Path] = ()) -> tuple[int, int]:
    """Return the (height, width) of an image: upright, as tools show it, unless its masks lie."""
    try:
        header = Decoding().header(image)
    except OSError as error:
        raise DataError(f"{image}: {error}") from error
    lie = any(mask_values(mask).shape == header.size for mask in masks[:1])
    return header.size if lie else header.upright_size


def mask_values(file: Path) -> np.ndarray:
    """Return the numbers in a PNG of masks, (H, W) or of several channels."""
    with malformed(file), Image.open(file) as picture:
        return np.asarray(picture)


def image_beside(file: Path, name: str) -> Path:
    """Return the image that an annotation file names, however its writer's machine did."""
    parts = name.replace("\\", "/")
    for path in (file.parent / parts, file.parent / Path(parts).name):
        if path.is_file():
            return path
    raise DataError(f"{file} names the image {name}, which is not there")


@contextmanager
def malformed(file: Path) -> Iterator[None]:
    """Name the file in which something is not as it should be."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {error}") from error
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{file}: {type(error).__name__}: {error}") from error
