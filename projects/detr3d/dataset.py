"""Key frames of nuScenes: images of all cameras, their matrices, and boxes around the car."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from projects.detr3d.frames import CAMERAS, Box, KeyFrame, read_frames
from projects.detr3d.records import Objects
from projects.detr3d.scoring import CLASSES
from razorlite.core.files import resolve
from razorlite.core.registry import register
from razorlite.data import Dataset, Decoding, Fault
from razorlite.data.dataset import ClassNames, Kept
from razorlite.data.faults import FaultReport
from razorlite.data.files import need_file, need_folder


@register()
class NuScenesDataset(Dataset):
    """Key frames of a JSON file, or of an info file of MMDetection3D 1.x, with their images.

    Items are ({"images": (N, 3, H, W) uint8, "lidar2img": (N, 4, 4) float32}, `Objects`). A frame
    of which a camera or an image is not named is left out, and so are boxes of other classes.

    Args:
        annotations: the .json or .pkl file.
        root: folder that the images' paths start from; that of the file by default.
        classes: names in the order of the labels; DETR3D's by default. Labels in files of numbers
            are known by the names that the file gives them.
        cameras: names in the order in which the model sees them.
        decoding: how image files are read.
        cache: keep decoded images in memory.
        strict: raise an error instead of leaving out what is faulty.

    Raises:
        DataError: a file cannot be read or is malformed, or no frame is left.
    """

    def __init__(
        self,
        *,
        annotations: str,
        root: str | None = None,
        classes: ClassNames | None = None,
        cameras: Sequence[str] = CAMERAS,
        decoding: Decoding | None = None,
        cache: bool = False,
        strict: bool = False,
    ) -> None:
        path = need_file(resolve(annotations), "annotation file")
        self.folder = path.parent if root is None else need_folder(resolve(root), "image folder")
        self.classes, self.cameras = tuple(classes or CLASSES), tuple(cameras)
        self._decoding = decoding or Decoding()
        self._report = FaultReport(str(path), strict)
        self._frames = [frame for frame in read_frames(path) if self._has_images(frame)]
        self._objects = [self._known(frame) for frame in self._frames]
        self.keys = [str(self._path(frame, self.cameras[0])) for frame in self._frames]
        self._kept: Kept[Tensor] = Kept(cache)
        self._report.close(len(self._frames), sum(map(len, self._objects)))

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with the data and was left out."""
        return self._report.faults

    @property
    def names(self) -> list[str]:
        """The samples' tokens."""
        return [frame.token for frame in self._frames]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[Mapping[str, Tensor], Objects]:
        frame = self._frames[index]
        matrices = np.stack([frame.cameras[name].lidar2img for name in self.cameras])
        inputs = {
            "images": self._kept.get(index, self._images),
            "lidar2img": torch.from_numpy(matrices.astype(np.float32)),
        }
        return inputs, self._objects[index]

    def labels_of(self, index: int) -> set[int]:
        """Return the labels of an item."""
        return self._objects[index].class_labels()

    def count(self, index: int) -> int:
        """Return how many objects an item has."""
        return len(self._objects[index])

    def note(self, fault: Fault) -> None:
        """Take a fault met while training."""
        self._report.late(fault)

    def keep_image(self, index: int) -> None:
        """Decode the images of a frame and keep them, if they are kept."""
        self._kept.try_get(index, self._images)

    def _images(self, index: int) -> Tensor:
        """Return the (N, 3, H, W) images of a frame.

        Raises:
            OSError: one cannot be read, or is not of the size that its matrix is for.
        """
        frame = self._frames[index]
        images = [self._image(frame, name) for name in self.cameras]
        if len({image.shape for image in images}) > 1:
            raise OSError(f"{frame.token}: the cameras' images differ in size; they must be alike")
        return torch.stack(images)

    def _image(self, frame: KeyFrame, name: str) -> Tensor:
        path = self._path(frame, name)
        image = self._decoding.read(path)
        if tuple(image.shape[1:]) != frame.cameras[name].size:
            raise OSError(
                f"{path} has {image.shape[1]} x {image.shape[2]} pixels, its lidar2img is for "
                f"{' x '.join(map(str, frame.cameras[name].size))}"
            )
        return image

    def _path(self, frame: KeyFrame, name: str) -> Path:
        return self.folder / str(frame.cameras[name].file)

    def _has_images(self, frame: KeyFrame) -> bool:
        lacking = [
            n for n in self.cameras if n not in frame.cameras or frame.cameras[n].file is None
        ]
        if lacking:
            self._report.add(frame.token, "a camera without image", ", ".join(lacking))
        return not lacking

    def _known(self, frame: KeyFrame) -> Objects:
        """Return the objects of the classes."""
        boxes = [box for box in frame.boxes if self._counts(frame, box)]
        return Objects(
            boxes=torch.tensor([box.numbers for box in boxes]).view(-1, 9),
            labels=torch.tensor([self.classes.index(str(b.name)) for b in boxes], dtype=torch.long),
            points=torch.tensor([box.points for box in boxes], dtype=torch.long).view(-1, 2),
            attributes=tuple(box.attribute for box in boxes),
            token=frame.token,
            lidar2global=torch.from_numpy(frame.lidar2global),
            ego=torch.from_numpy(frame.ego.copy()),
        )

    def _counts(self, frame: KeyFrame, box: Box) -> bool:
        if box.name not in self.classes:
            self._report.set_aside("of other classes")
            return False
        if np.isfinite(box.numbers[:7]).all() and min(box.numbers[3:6]) > 0:
            return True
        self._report.add(frame.token, "a box without size", str(box.numbers[:7]))
        return False
