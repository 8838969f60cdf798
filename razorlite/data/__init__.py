"""Data sets, transforms and loaders."""

from razorlite.data._collating import collate
from razorlite.data.cifar import CifarBatchesDataset, CifarTarDataset
from razorlite.data.classification import ImageFolderDataset
from razorlite.data.coco import CocoDataset
from razorlite.data.dataset import Dataset, Subset
from razorlite.data.faults import Fault
from razorlite.data.images import Decoding
from razorlite.data.joining import ConcatDataset
from razorlite.data.loader import Loader, build_loader
from razorlite.data.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalise,
    Preprocess,
    Renormalise,
)
from razorlite.data.relabelling import relabelled
from razorlite.data.repeating import ClassBalancedDataset, RepeatDataset
from razorlite.data.shapes import ShapesDataset
from razorlite.data.splitting import dataset_digest, image_hashes, split_holdout, split_names
from razorlite.data.transforms import (
    CachedMixUp,
    CachedMosaic,
    CenterCrop,
    ColourJitter,
    HSVJitter,
    Pad,
    RandomAffine,
    RandomChoice,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    RandomIoUCrop,
    RandomResizedCrop,
    RandomSizeCrop,
    Resize,
    ScaleJitter,
    TorchvisionTransform,
    Transform,
)
from razorlite.data.voc import SplitPart, VocDataset
from razorlite.data.yolo import YoloDataset

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "CachedMixUp",
    "CachedMosaic",
    "CenterCrop",
    "CifarBatchesDataset",
    "CifarTarDataset",
    "ClassBalancedDataset",
    "CocoDataset",
    "ColourJitter",
    "ConcatDataset",
    "Dataset",
    "Decoding",
    "Fault",
    "HSVJitter",
    "ImageFolderDataset",
    "Loader",
    "Normalise",
    "Pad",
    "Preprocess",
    "RandomAffine",
    "RandomChoice",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomIoUCrop",
    "RandomResizedCrop",
    "RandomSizeCrop",
    "Renormalise",
    "RepeatDataset",
    "Resize",
    "ScaleJitter",
    "ShapesDataset",
    "SplitPart",
    "Subset",
    "TorchvisionTransform",
    "Transform",
    "VocDataset",
    "YoloDataset",
    "build_loader",
    "collate",
    "dataset_digest",
    "image_hashes",
    "relabelled",
    "split_holdout",
    "split_names",
]
