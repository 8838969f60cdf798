"""Predictions as a COCO json."""

from collections.abc import Iterable
from typing import Any

from razorlite.deploy.prediction import Prediction
from razorlite.evaluation import detection_entries


def coco_dict(predictions: Iterable[Prediction], score_threshold: float = 0.0) -> dict[str, Any]:
    """Return predictions as a COCO json's tree, each annotation with its `score`.

    Ids count from 1 in the order of the images; category ids from 1 in the order of the classes.
    Images that could not be read are left out. `annotations` alone is COCO's format of results.

    Args:
        predictions: of a detector.
        score_threshold: lowest score that is written.

    Raises:
        DataError: a prediction is of a classifier.
    """
    tree: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    for one in predictions:
        tree["categories"] = [{"id": i, "name": name} for i, name in enumerate(one.classes, 1)]
        if not one.fault:
            number = len(tree["images"]) + 1
            height, width = one.size
            name = one.name if one.frame is None else f"{one.name}#{one.frame}"
            tree["images"].append(
                {"id": number, "file_name": name, "height": height, "width": width}
            )
            for entry in detection_entries(one.found(score_threshold)):
                entry |= {"id": len(tree["annotations"]) + 1, "image_id": number}
                tree["annotations"].append(entry)
    return tree
