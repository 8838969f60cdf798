"""What tells the images and annotations of a training from others."""

from razorlite.data import dataset_digest
from razorlite.recipes.splits import Splits


def data_digests(splits: Splits) -> dict[str, str]:
    """Return digests of what is trained and evaluated on, by split, as `dataset_digest` has them.

    Raises:
        DataError: a data set cannot be read.
    """
    train = None if splits.experiment.without_data else splits.train
    used = {"data.train": train, "data.val": splits.val}
    return {name: dataset_digest(part) for name, part in used.items() if part is not None}
