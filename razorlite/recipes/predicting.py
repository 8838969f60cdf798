"""The command `predict`: what a model finds in images, as lines, files and pictures."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from razorlite.core.errors import ConfigError, DataError
from razorlite.core.files import make_folder, write_text_atomic
from razorlite.core.progress import progress
from razorlite.deploy import PLAIN, HeatMethod, Prediction, View, coco_dict, count, files_of
from razorlite.deploy.heat import OF_A_SCORE
from razorlite.engine.launch import DeviceChoice
from razorlite.recipes.loading import Inferencer

_log = logging.getLogger("razorlite")


@dataclass(frozen=True)
class Heat:
    """Which heat maps are drawn, see `razorlite.deploy.heat_map`.

    Attributes:
        module: name of a module of the model.
        method: activation, eigencam, gradcam or hirescam.
        detection: which one the last two explain, 0 for the best; of images with fewer there is no
            map.
    """

    module: str
    method: HeatMethod = "activation"
    detection: int = 0

    def fits(self, prediction: Prediction) -> bool:
        """Return whether an image has what is to be explained."""
        found = prediction.detections
        return self.method not in OF_A_SCORE or found is None or self.detection < len(found)


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
    views: Sequence[View] = PLAIN,
    limit: int | None = None,
    heat: Heat | None = None,
) -> list[Prediction]:
    """Return what a model finds in images, and leave pictures and a file of it if asked to.

    An image that cannot be read is named and does not stop the others.

    Args:
        source: a path, a folder, a pattern such as "photos/*.jpg", a video file, the number of a
            camera, an image in memory, or a list of these.
        model: a run folder, a checkpoint, an exported file, or a configuration.
        checkpoint: weights, where `model` is a configuration.
        subnet: a subnet file.
        out: folder for predictions.json, coco.json (of detectors) and one picture of each image.
        score_threshold: lowest score that is drawn and written.
        batch_size: images at a time.
        device: auto, cpu or cuda.
        views: ways in which each image is looked at, such as `razorlite.deploy.AUGMENTED`.
        limit: images or frames at most; a camera goes on for ever without.
        heat: heat maps to draw of each image, in a folder heat/ of `out`.

    Returns:
        Predictions in the order of the images, frames of videos without their pixels.

    Raises:
        CheckpointError: the model cannot be read or does not say enough.
        ConfigError: heat maps are asked for and there is no `out`, or no such module; or a number
            is below 1.
        DataError: there is no image, none could be read, or pictures would take their place.
        RunFolderError: the folder cannot be written.
    """
    if heat is not None and out is None:
        raise ConfigError("heat maps are pictures; say by --out where to write them")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit wants a number of at least 1, got {limit}")
    total = count(source)  # a wrong path is reported before a model is loaded
    if out is not None:
        _check_apart(source, Path(out))
    inferencer = Inferencer(model, checkpoint, subnet=subnet, device=device, views=views)
    found, taken = [], set[str]()
    stream = islice(inferencer.stream(source, batch_size=batch_size), limit)
    for prediction in progress(stream, "images", total if limit is None else limit):
        found.append(replace(prediction, image=None))
        if prediction.fault:
            _log.warning("%s: %s", _called(prediction), prediction.fault)
        elif out is not None and (heat or prediction.detections is not None):
            path = _picture(prediction, Path(out), taken)
            _draw(inferencer, prediction, path, score_threshold, heat)
    if out is not None:
        _write(found, make_folder(Path(out)), score_threshold)
    if all(prediction.fault for prediction in found):
        raise DataError(f"none of {total or len(found)} images could be read; see above")
    return found


def _check_apart(source: Any, out: Path) -> None:
    """Refuse a folder in which a picture would take the place of an image that is looked at."""
    folders = {out.resolve(), (out / "heat").resolve()}
    for file in files_of(source):
        if file.suffix.lower() == ".png" and file.parent.resolve() in folders:
            raise DataError(
                f"{file} is looked at, and pictures in {out} may take its place; name another "
                f"folder by --out"
            )


def _draw(
    inferencer: Inferencer, prediction: Prediction, path: Path, threshold: float, heat: Heat | None
) -> None:
    """Write an image with where it was seen (first, as it may be refused) and what is in it."""
    if heat is not None and heat.fits(prediction):
        made = inferencer.heat_map(
            prediction.pixels(), heat.module, method=heat.method, detection=heat.detection
        )
        inferencer.draw_heat(prediction, made, path.parent / "heat" / path.name)
    elif heat is not None:
        count = len(prediction.detections or ())
        number = heat.detection + 1
        _log.warning("%s: no heat map of detection %d, got %d", _called(prediction), number, count)
    if prediction.detections is not None:
        inferencer.draw(prediction, path, threshold)


def _write(found: Sequence[Prediction], folder: Path, score_threshold: float) -> None:
    records = [prediction.to_dict(score_threshold) for prediction in found]
    write_text_atomic(folder / "predictions.json", json.dumps(records, indent=1) + "\n")
    if not any(prediction.probabilities is not None for prediction in found):
        tree = coco_dict(found, score_threshold)
        write_text_atomic(folder / "coco.json", json.dumps(tree) + "\n")


def _called(prediction: Prediction) -> str:
    frame = "" if prediction.frame is None else f", frame {prediction.frame}"
    return f"{prediction.name}{frame}"


def lines(predictions: list[Prediction], score_threshold: float = 0.3) -> Iterator[str]:
    """Yield a line for each image that tells what is in it."""
    for prediction in predictions:
        if prediction.fault:
            continue
        yield f"{_called(prediction)}: {_summary(prediction, score_threshold)}"


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
    if prediction.frame is not None:
        stem = f"{stem}_{prediction.frame:06}"
    numbered = (f"{stem}_{number}" for number in range(2, len(taken) + 3))
    name = next(name for name in chain([stem], numbered) if name.casefold() not in taken)
    taken.add(name.casefold())
    return folder / f"{name}.png"
