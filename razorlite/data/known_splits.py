"""What splits are called: by folders, by files, and here."""

import os
import re
from collections import Counter
from pathlib import Path

ALL = "all"  # the split of a folder that is not divided
SPLITS = {
    **dict.fromkeys(("train", "trainval", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ORDER = {"train": 0, "val": 1, "test": 2}


def names_of_splits(files: list[Path]) -> dict[Path, str]:
    """Return a name for each file: that of the split that its path tells, else its own."""
    splits = {file: split_of(file) for file in files}
    taken = Counter(splits.values())
    names = {file: name if taken[name] == 1 else "" for file, name in splits.items()}
    order = sorted(files, key=lambda file: (ORDER.get(names[file], len(ORDER)), str(file)))
    own = {files[0]: ALL} if len(files) == 1 else _own_names(files)
    return {file: names[file] or own[file] for file in order}


def _own_names(files: list[Path]) -> dict[Path, str]:
    """Return the files' names without suffix, with their folders in front where some are equal."""
    if len({file.stem for file in files}) == len(files):
        return {file: file.stem for file in files}
    folder = os.path.commonpath([file.parent for file in files])
    return {file: "_".join(file.relative_to(folder).with_suffix("").parts) for file in files}


def split_of(file: Path) -> str:
    """Return train, val or test from a file's or its folder's name; "" where neither tells."""
    folder = file.parent.name.lower().rstrip("0123456789")
    return split_in(file.stem) or SPLITS.get(folder, "")


def split_in(name: str) -> str:
    """Return train, val or test if it is a word of a name, else ""."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")
