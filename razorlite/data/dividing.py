"""Dividing a data set so that pictures that belong together stay so and classes are balanced."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from razorlite.core.errors import DataError
from razorlite.data.dataset import Dataset
from razorlite.data.examining import content_digests, labels_of_objects
from razorlite.data.splitting import image_hash


def divide(
    dataset: Dataset, fractions: Mapping[str, float], *, group: str = "", seed: int = 0
) -> dict[str, list[int]]:
    """Divide a data set's items among splits, each class in the same shares as far as possible.

    Iterative stratification: the class with the fewest objects left is dealt out first, each group
    of images to the split that lacks most of it.

    Args:
        dataset: what to divide.
        fractions: name of each split to its share of the images; they add up to 1.
        group: a regular expression that finds in an image's name what it shares with those that
            must stay together (its first group, else all of the match), such as "^(.*?)_". Images
            of equal content stay together anyway.
        seed: another one divides differently.

    Returns:
        Name of each split to indices, ascending.

    Raises:
        DataError: the fractions do not add up to 1, the expression is none or finds nothing in a
            name, or there are fewer groups than splits.
    """
    _check(fractions)
    groups = _groups(dataset, _keys(dataset, group), seed)
    if len(groups) < len(fractions):
        raise DataError(
            f"cannot divide {len(groups)} groups of images among {len(fractions)} splits; expected "
            f"at least one for each"
        )
    labels = labels_of_objects(dataset)
    counts = np.array([_class_counts(labels, items, len(dataset.classes)) for items in groups])
    owner = _dealt(counts, np.array(list(fractions.values())))
    return {
        split: sorted(
            i for items, one in zip(groups, owner, strict=True) if one == k for i in items
        )
        for k, split in enumerate(fractions)
    }


def _check(fractions: Mapping[str, float]) -> None:
    total = sum(fractions.values())
    positive = bool(fractions) and all(share > 0 for share in fractions.values())
    if not (positive and abs(total - 1) <= 1e-6):  # nan is neither
        shown = ", ".join(f"{name}={value:g}" for name, value in fractions.items())
        raise DataError(
            f"fractions {shown} add up to {total:g}; expected numbers above 0, 1 in all"
        )


def _keys(dataset: Dataset, group: str) -> list[str]:
    """Return what each image shares with those that must stay with it."""
    if not group:
        return list(dataset.keys)
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise DataError(f"group {group!r} is no regular expression: {error}") from error
    keys = []
    for name in dataset.names:
        found = pattern.search(name)
        if found is None:
            raise DataError(f"group {group!r} finds nothing in {name!r}")
        keys.append(found[1] if pattern.groups else found[0])
    return keys


def _groups(dataset: Dataset, keys: Sequence[str], seed: int) -> list[list[int]]:
    """Return the items of each group, in an order that hangs on the names and the seed alone."""
    leader: dict[object, int] = {}
    parent = list(range(len(keys)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return item

    for item, shared in enumerate(zip(keys, content_digests(dataset), strict=True)):
        for key in shared:
            parent[root(item)] = root(leader.setdefault(key, item))
    found: dict[int, list[int]] = defaultdict(list)
    for item in range(len(keys)):
        found[root(item)].append(item)
    names = dataset.names
    return sorted(found.values(), key=lambda items: min(image_hash(names[i], seed) for i in items))


def _class_counts(
    labels: Sequence[Sequence[int]], items: Sequence[int], classes: int
) -> NDArray[np.int64]:
    """Return (C + 1,): objects of each class, and images."""
    own = np.array([label for item in items for label in labels[item]], dtype=np.int64)
    return np.append(np.bincount(own, minlength=classes), len(items))


def _dealt(counts: NDArray[np.int64], shares: NDArray[np.float64]) -> list[int]:
    """Return which split each of (G, C + 1) counted groups goes to."""
    lacking = shares[:, None] * counts.sum(axis=0)
    owner = np.full(len(counts), -1)
    while (owner < 0).any():
        waiting = np.flatnonzero(owner < 0)
        left = counts[waiting].sum(axis=0)
        rarest = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        having = waiting[counts[waiting, rarest] > 0]
        for one in having[np.argsort(-counts[having, rarest], kind="stable")]:
            split = int(np.lexsort((-lacking[:, -1], -lacking[:, rarest]))[0])
            owner[one] = split
            lacking[split] -= counts[one]
    return _none_empty(owner, len(shares))


def _none_empty(owner: NDArray[np.int64], splits: int) -> list[int]:
    """Give a split that got nothing a group of the one that has most."""
    for split in range(splits):
        sizes = np.bincount(owner, minlength=splits)
        if not sizes[split]:
            owner[np.flatnonzero(owner == sizes.argmax())[-1]] = split
    owners: list[int] = owner.tolist()
    return owners
