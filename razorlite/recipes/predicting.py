"""The command `predict`: what a model finds in images, as lines, files and pictures."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from razorlite.core.errors import DataError
from razorlite.core.files import make_folder, write_text_atomic
from razorlite.data import Decoding
from razorlite.deploy import Prediction, count
from razorlite.engine.launch import DeviceChoice
from razorlite.recipes.loading import Inferencer
from razorlite.visual import draw_detections

_log = logging.getLogger("razorlite")


def predict(
    source: Any,
    model: str | Path,
    checkpoint: str | Path | None = None,
    *,
    subnet: str | Path | None = None,
    out: str | Path | None = None,
    score_threshold: float = 0.3,
    batch_size: int = 1,
    device: DeviceChoice = "auto",
) -> list[Prediction]:
    """Return what a model finds in images, and leave pictures and a file of it if asked to.

    An image that cannot be read is named and does not stop the others.

    Args:
        source: a path, a folder, a pattern such as "photos/*.jpg", an image in memory, or a list.
        model: a run folder, a checkpoint, an exported file, or a configuration.
        checkpoint: weights, where `model` is a configuration.
        subnet: a subnet file.
        out: folder for predictions.json and one picture of each image.
        score_threshold: lowest score that is drawn and written.
        batch_size: images at a time.
        device: auto, cpu or cuda.

    Raises:
        CheckpointError: the model cannot be read or does not say enough.
        DataError: there is no image, or none could be read.
        RunFolderError: the folder cannot be written.
    """
    total = count(source)  # a wrong path is reported before a model is loaded
    inferencer = Inferencer(model, checkpoint, subnet=subnet, device=device)
    found, taken = [], set[str]()
    for prediction in inferencer.stream(source, batch_size=batch_size):
        found.append(prediction)
        if prediction.fault:
            _log.warning("%s: %s", prediction.name, prediction.fault)
        elif out is not None:
            _draw(prediction, _picture(prediction, Path(out), taken), score_threshold)
    if out is not None:
        records = [prediction.to_dict(score_threshold) for prediction in found]
        make_folder(Path(out))
        write_text_atomic(Path(out) / "predictions.json", json.dumps(records, indent=1) + "\n")
    if all(prediction.fault for prediction in found):
        raise DataError(f"none of {total or len(found)} images could be read; see above")
    return found


def lines(predictions: list[Prediction], score_threshold: float = 0.3) -> Iterator[str]:
    """Yield a line for each image that tells what is in it."""
    for prediction in predictions:
        if prediction.fault:
            continue
        yield f"{prediction.name}: {_summary(prediction, score_threshold)}"


def _summary(prediction: Prediction, score_threshold: float) -> str:
    if prediction.probabilities is not None:
        best = prediction.probabilities.topk(min(3, len(prediction.probabilities)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return ", ".join(f"{prediction.classes[label]} {score:.2f}" for label, score in pairs)
    assert prediction.detections is not None
    labels = prediction.detections.labels[prediction.detections.scores >= score_threshold]
    names = [prediction.classes[label] for label in labels.tolist()]
    counts = {name: names.count(name) for name in prediction.classes if name in names}
    return ", ".join(f"{n} {name}" for name, n in counts.items()) or "nothing"


def _picture(prediction: Prediction, folder: Path, taken: set[str]) -> Path:
    """Return where an image's picture goes: its own name, numbered where another has it."""
    stem = Path(prediction.name).stem
    names = (stem, *(f"{stem}_{number}" for number in range(2, len(taken) + 3)))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return folder / f"{name}.png"


def _draw(prediction: Prediction, path: Path, score_threshold: float) -> None:
    if prediction.detections is None or not Path(prediction.name).is_file():
        return
    draw_detections(
        Decoding().read(prediction.name),
        prediction.detections,
        classes=prediction.classes,
        score_threshold=score_threshold,
        path=path,
    )
