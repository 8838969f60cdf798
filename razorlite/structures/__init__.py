"""What travels between data, models and metrics: frozen dataclasses of tensors.

Boxes are x1, y1, x2, y2 in pixels, x to the right, y down; labels count from 0.
"""

from razorlite.structures.annotation import Annotation, Label, as_annotation
from razorlite.structures.batch import Batch
from razorlite.structures.detections import Detections
from razorlite.structures.example import (
    inputs_of,
    is_shape,
    map_tensors,
    tensors_in,
    training_calls,
)
from razorlite.structures.frames import Frame
from razorlite.structures.inputs import (
    Inputs,
    example_inputs,
    images_of,
    input_names,
    is_images,
    map_images,
    map_inputs,
    tensors_of,
    with_noise,
)
from razorlite.structures.packing import Record, packed, sent, unpacked
from razorlite.structures.target import Target

__all__ = [
    "Annotation",
    "Batch",
    "Detections",
    "Frame",
    "Inputs",
    "Label",
    "Record",
    "Target",
    "as_annotation",
    "example_inputs",
    "images_of",
    "input_names",
    "inputs_of",
    "is_images",
    "is_shape",
    "map_images",
    "map_inputs",
    "map_tensors",
    "packed",
    "sent",
    "tensors_in",
    "tensors_of",
    "training_calls",
    "unpacked",
    "with_noise",
]
