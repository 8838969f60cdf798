"""A task of its own: cubes in space, seen by two cameras. Nothing in razorlite/ knows of it.

The world's x points to the right, y down, z ahead, in metres; a camera's projection (3, 4) takes
(x, y, z, 1) to (u * depth, v * depth, depth) in pixels.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.registry import register
from razorlite.data import Dataset, Transform
from razorlite.data.transforms.base import chance
from razorlite.evaluation import Metric
from razorlite.structures import Annotation, Batch, Inputs, Record

CLASSES = ("red", "green")
SIZE = (32, 64)  # (height, width) of both images in pixels
BASELINE = 1.2  # metres between the cameras
SIDE = 0.6  # of a cube in metres
SPACE = ((-1.6, 1.6), (-0.3, 0.3), (3.0, 6.0))  # where centres lie
SHADES = ((220, 60, 60), (60, 200, 60))


@dataclass(frozen=True)
class Cubes(Annotation):
    """What both images show: `centers` (N, 3) in metres, `labels` (N,), and where it comes from."""

    centers: Tensor
    labels: Tensor
    token: str = ""
    flipped: tuple[str, ...] = ()

    def original(self) -> "Cubes":
        """Return the cubes as they stand in the world: flipped images show a mirrored one."""
        if not self.flipped:
            return self
        return replace(self, centers=self.centers * self.centers.new_tensor([-1, 1, 1]), flipped=())


@dataclass(frozen=True)
class FoundCubes(Record):
    """What the model finds in a scene: (K, 3) centres in metres, (K,) scores, (K,) labels."""

    centers: Tensor
    scores: Tensor
    labels: Tensor


def cameras(size: tuple[int, int] = SIZE) -> Tensor:
    """Return the projections (2, 3, 4) of both cameras for images of (height, width) pixels."""
    height, width = size
    inner = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    outer = torch.eye(3, 4).repeat(2, 1, 1)
    outer[:, 0, 3] = torch.tensor([BASELINE / 2, -BASELINE / 2])
    return inner @ outer


def project(projections: Tensor, points: Tensor) -> Tensor:
    """Return (…, 3, Q) u * depth, v * depth and depth of (Q, 3) points by (…, 3, 4) projections."""
    return projections[..., :3] @ points.T + projections[..., 3:]


def need_pair(inputs: Any) -> dict[str, Tensor]:
    assert set(inputs) == {"images", "projections"}, "the transform wants both cameras"
    return dict(inputs)


class CubesDataset(Dataset):
    """Scenes of one or two cubes, drawn when they are asked for."""

    def __init__(self, *, scenes: int, seed: int = 0) -> None:
        self.classes, self.seed, self.length = CLASSES, seed, scenes
        self.keys = [f"scene-{seed}-{index}" for index in range(scenes)]
        self._faults: list[Any] = []

    @property
    def faults(self) -> list[Any]:
        return self._faults

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Cubes]:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        low, high = torch.tensor(SPACE).T
        count = 1 + index % 2
        centers = low + (high - low) * torch.rand(count, 3, generator=generator)
        labels = torch.randint(len(CLASSES), (count,), generator=generator)
        projections = cameras()
        images = torch.stack([_drawn(one, centers, labels) for one in projections])
        cubes = Cubes(centers, labels, token=self.keys[index])
        return {"images": images, "projections": projections}, cubes


def _drawn(projection: Tensor, centers: Tensor, labels: Tensor) -> Tensor:
    """Return a (3, H, W) image: far cubes first, each as the square of its side."""
    image = torch.full((3, *SIZE), 120, dtype=torch.uint8)
    u, v, depth = project(projection, centers)
    for i in depth.argsort(descending=True).tolist():
        x, y = float(u[i] / depth[i]), float(v[i] / depth[i])
        half = 0.4 * SIZE[1] * SIDE / float(depth[i])
        rows = slice(max(0, round(y - half)), max(0, round(y + half)))
        columns = slice(max(0, round(x - half)), max(0, round(x + half)))
        shade = torch.tensor(SHADES[int(labels[i])], dtype=torch.uint8)
        image[:, rows, columns] = shade[:, None, None]
    return image


class MirrorWorld(Transform):
    """Flips both images and moves both cameras with them, so that they see the mirrored world."""

    def __init__(self, *, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        pair = need_pair(inputs)
        if not chance(self.prob):
            return pair, target
        width = pair["images"].shape[-1]
        flip = torch.tensor([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])
        mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
        seen = {
            "images": pair["images"].flip(-1),
            "projections": flip @ pair["projections"] @ mirror,
        }
        centers = target.centers * torch.tensor([-1.0, 1, 1])
        return seen, replace(target, centers=centers, flipped=(*target.flipped, "x"))


class ShrinkBoth(Transform):
    """Scales both images, and their projections with them."""

    def __init__(self, *, size: tuple[int, int]) -> None:
        self.size = tuple(size)

    def __call__(self, inputs: Any, target: Any) -> tuple[Any, Any]:
        pair = need_pair(inputs)
        height, width = pair["images"].shape[-2:]
        scale = torch.tensor([self.size[1] / width, self.size[0] / height, 1.0])
        images = F.interpolate(pair["images"].float(), self.size, mode="bilinear", antialias=True)
        projections = scale[:, None] * pair["projections"]
        return {"images": images.round().to(torch.uint8), "projections": projections}, target


class CubeFinder(nn.Module):
    """Reference points in space, looked up in the maps of both cameras, as DETR3D does.

    https://arxiv.org/abs/2110.06922
    """

    def __init__(self, *, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = nn.Sequential(
            _conv(3, width), _conv(width, width), _conv(width, 2 * width, stride=1)
        )
        self.hidden = nn.Linear(2 * width + 3, 4 * width)
        self.classes = nn.Linear(4 * width, num_classes)
        self.offsets = nn.Linear(4 * width, 3)
        nn.init.constant_(self.classes.bias, -3.0)
        axes = [torch.linspace(*ends, n) for ends, n in zip(SPACE, (9, 1, 7), strict=True)]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
        self.points: Tensor
        self.register_buffer("points", points * torch.tensor([1.0, 0, 1]))

    def example(self, shape: tuple[int, int]) -> Inputs:
        """Return one scene of two empty images."""
        return {"images": torch.zeros(1, 2, 3, *shape), "projections": cameras(shape)[None]}

    def forward(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return logits (B, Q, C) and centres (B, Q, 3)."""
        images, projections = inputs["images"], inputs["projections"]
        maps = self.backbone(images.flatten(0, 1))
        height, width = images.shape[-2], images.shape[-1]
        seen = self._looked_up(maps, projections.flatten(0, 1), height, width)
        both = seen.unflatten(0, (-1, 2)).mean(1).transpose(1, 2)
        where = torch.zeros_like(projections[:, 0, :1, :1]) + self.points
        hidden = self.hidden(torch.cat([both, where], dim=2)).relu()
        return self.classes(hidden), where + self.offsets(hidden)

    def _looked_up(self, maps: Tensor, projections: Tensor, height: Any, width: Any) -> Tensor:
        """Return (B * 2, D, Q): what lies at each point's place; zeros out of sight."""
        u, v, depth = project(projections, self.points).unbind(1)
        grid = torch.stack([2 * u / depth / width - 1, 2 * v / depth / height - 1], dim=-1)
        return F.grid_sample(maps, grid[:, :, None], align_corners=False).squeeze(3)

    def loss(self, inputs: Any, targets: list[Cubes]) -> dict[str, Tensor]:
        """Each cube is the task of the reference point next to it."""
        logits, centers = self(inputs)
        wanted, offsets = torch.zeros_like(logits), []
        for scene, cubes in enumerate(targets):
            near = torch.cdist(cubes.centers, self.points).argmin(1)
            wanted[scene, near, cubes.labels] = 1
            offsets.append((centers[scene, near] - cubes.centers).abs().mean(1))
        count = max(1, sum(map(len, offsets)))
        classes = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        return {"loss_classes": classes / count, "loss_offsets": torch.cat(offsets).mean()}

    @torch.no_grad()
    def predict(self, batch: Batch) -> list[FoundCubes]:
        """Return the best ten of each scene, in the world as it is, best first."""
        logits, centers = self(batch.inputs)
        scores, places = logits.float().sigmoid().flatten(1).topk(10)
        points, labels = places // self.num_classes, places % self.num_classes
        rows = zip(centers, points, scores, labels, strict=True)
        return [FoundCubes(c[p], s, kind) for c, p, s, kind in rows]


def _conv(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


@register()
class CenterPrecision(Metric):
    """Average precision where a cube counts as found within a distance of its centre.

    Args:
        distance: in metres.
        classes: names of the labels.
    """

    def __init__(self, *, distance: float = 0.5, classes: list[str] | None = None) -> None:
        super().__init__()
        self.distance, self.classes = distance, classes

    def update(self, predictions: list[FoundCubes], targets: list[Cubes]) -> None:
        """Take what was found and what there is, records as they are."""
        self.items += [
            (f.to("cpu"), t.to("cpu")) for f, t in zip(predictions, targets, strict=True)
        ]

    def compute(self) -> dict[str, float]:
        """Return "mAP" and "AP/<class>"."""
        self.need_items()
        names = self.classes or CLASSES
        values = {f"AP/{name}": self._precision(label) for label, name in enumerate(names)}
        return {"mAP": sum(values.values()) / len(values), **values}

    def value_names(self) -> list[str]:
        """Return "mAP", and those of the classes that are known."""
        return ["mAP", *(f"AP/{name}" for name in self.classes or ())]

    def _precision(self, label: int) -> float:
        hits: list[tuple[float, bool]] = []
        total = 0
        for found, cubes in self.items:
            left = list(cubes.centers[cubes.labels == label])
            total += len(left)
            chosen = found.labels == label
            for score, center in zip(found.scores[chosen], found.centers[chosen], strict=True):
                near = [i for i, c in enumerate(left) if float((c - center).norm()) < self.distance]
                hits.append((float(score), bool(near)))
                if near:
                    left.pop(near[0])
        hits.sort(key=lambda hit: -hit[0])
        right, area = 0, 0.0
        for number, (_, hit) in enumerate(hits, start=1):
            right += hit
            area += hit * right / number
        return area / max(1, total)
