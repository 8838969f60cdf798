"""DETR3D as an ONNX file, compared with PyTorch on frames of six cameras.

python -m projects.detr3d.export CONFIG CHECKPOINT detr3d.onnx
"""

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from projects.detr3d.detector import DETR3D
from razorlite.core.errors import ConfigError, ExportError
from razorlite.core.files import make_folder
from razorlite.deploy.runtimes import needed
from razorlite.recipes.building import build, load_into
from razorlite.recipes.experiment import read
from razorlite.structures import example_inputs

_OPSET = 20  # DeformConv came with 19
_OUTPUTS = ("boxes", "scores", "labels")


class Deployed(nn.Module):
    """Normalised images and matrices to boxes, as a file holds it.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: DETR3D) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, lidar2img: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (1, K, 9) boxes, (1, K) scores and (1, K) labels, best first.

        Args:
            images: (1, N, 3, H, W) normalised and padded.
            lidar2img: (1, N, 4, 4) for these.
        """
        raw = self.model({"images": images, "lidar2img": lidar2img})
        return self.model.pts_bbox_head.decode(raw)


@dataclass(frozen=True)
class Difference:
    """How far two runtimes are apart at most, over the boxes that both give.

    Attributes:
        boxes: metres, radians and metres per second.
        scores: of scores.
        count: boxes compared.
    """

    boxes: float
    scores: float
    count: int


def export_onnx(model: DETR3D, path: str | Path, shape: tuple[int, int]) -> Path:
    """Write a model for images of one size as ONNX; deformable convolutions are its DeformConv.

    Args:
        model: on the CPU.
        path: the file.
        shape: (height, width) in pixels of the padded images.

    Raises:
        ExportError: a package is missing, or the model cannot be written.
    """
    onnx = needed("onnx")
    inputs: Any = example_inputs(model, shape)
    make_folder(Path(path).parent)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                Deployed(model.eval()),
                (inputs["images"], inputs["lidar2img"]),
                dynamo=True,
                input_names=["images", "lidar2img"],
                output_names=list(_OUTPUTS),
                opset_version=_OPSET,
                custom_translation_table=_translations(),
                verbose=False,
            )
        except Exception as error:
            raise ExportError(f"the model cannot be written as ONNX: {error}"[:300]) from error
    assert program is not None
    onnx.save(program.model_proto, str(path))
    return Path(path)


def compare(model: DETR3D, path: str | Path, inputs: Mapping[str, Tensor]) -> Difference:
    """Run a file by ONNX Runtime and return how far its boxes are from PyTorch's.

    Boxes are matched by rank; those whose scores are nearer to a neighbour's than 1e-5 may change
    places and are left out.

    Args:
        model: that was written.
        path: the file.
        inputs: one frame: "images" (1, N, 3, H, W) and "lidar2img" (1, N, 4, 4).

    Raises:
        ExportError: ONNX Runtime is missing.
    """
    session = needed("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    boxes, scores, labels = (torch.from_numpy(x)[0] for x in found)
    with torch.no_grad():
        expected = Deployed(model.eval())(inputs["images"], inputs["lidar2img"])
    other_boxes, other_scores, other_labels = (x[0] for x in expected)
    gaps = (other_scores[1:] - other_scores[:-1]).abs() > 1e-5
    ends = torch.ones(1, dtype=torch.bool)
    sure = torch.cat([ends, gaps]) & torch.cat([gaps, ends]) & (labels == other_labels)
    apart = (boxes - other_boxes)[sure].abs()
    return Difference(
        boxes=float(apart.max()) if len(apart) else float("nan"),
        scores=float((scores - other_scores).abs().max()),
        count=len(apart),
    )


def _translations() -> dict[Any, Any]:
    """Return how ONNX writes torchvision's deformable convolution."""
    script = needed("onnxscript")
    op = script.opset20

    def deform_conv2d(
        x: Any, weight: Any, offset: Any, mask: Any, bias: Any,
        stride_h: int, stride_w: int, pad_h: int, pad_w: int, dil_h: int, dil_w: int,
        n_weight_grps: int, n_offset_grps: int, use_mask: bool,
    ) -> Any:  # fmt: skip
        given = (x, weight, offset, bias, mask) if use_mask else (x, weight, offset, bias)
        return op.DeformConv(
            *given,
            strides=[stride_h, stride_w],
            pads=[pad_h, pad_w, pad_h, pad_w],
            dilations=[dil_h, dil_w],
            group=n_weight_grps,
            offset_group=n_offset_grps,
        )

    return {torch.ops.torchvision.deform_conv2d.default: deform_conv2d}


def main(arguments: list[str]) -> None:
    """Write the model of a configuration and a checkpoint, and say how far the file is from it."""
    if len(arguments) != 3:
        raise ConfigError("usage: python -m projects.detr3d.export CONFIG CHECKPOINT FILE.onnx")
    config, checkpoint, path = arguments
    experiment = read(config)[1]
    built = build(experiment)
    load_into(built, checkpoint)
    model: Any = built.model
    export_onnx(model, path, experiment.shape)
    inputs: Any = example_inputs(model, experiment.shape)
    noise = {**inputs, "images": torch.randn(inputs["images"].shape)}
    print(f"wrote {path}: {compare(model, path, noise)}")


if __name__ == "__main__":
    main(sys.argv[1:])
