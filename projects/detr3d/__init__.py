"""DETR3D: 3D boxes from the images of all cameras of a car, outside razorlite/.

Named under `custom_imports: [projects.detr3d]`, this registers the model, its data and its metric.
"""

from projects.detr3d.dataset import NuScenesDataset
from projects.detr3d.detector import DETR3D
from projects.detr3d.distilling import QueryDistillation
from projects.detr3d.grid_mask import GridMask
from projects.detr3d.head import DETR3DHead
from projects.detr3d.matching import HungarianAssigner3D
from projects.detr3d.metric import NuScenesMetric
from projects.detr3d.records import Found, Objects
from projects.detr3d.space import ElasticDETR3D
from projects.detr3d.views import (
    CropViews,
    FlipViews,
    KeepObjects,
    PadViews,
    PhotometricDistortion,
    ResizeViews,
)

__all__ = [
    "DETR3D",
    "CropViews",
    "DETR3DHead",
    "ElasticDETR3D",
    "FlipViews",
    "Found",
    "GridMask",
    "HungarianAssigner3D",
    "KeepObjects",
    "NuScenesDataset",
    "NuScenesMetric",
    "Objects",
    "PadViews",
    "PhotometricDistortion",
    "QueryDistillation",
    "ResizeViews",
]
