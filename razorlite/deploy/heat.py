"""Where in an image a module responds, and where a detection comes from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from razorlite.core.errors import ConfigError, DataError
from razorlite.data.files import near
from razorlite.evaluation.evaluate import eval_mode
from razorlite.models.detectors.single_stage import Detector
from razorlite.structures import Batch, Detections

HeatMethod = Literal["activation", "eigencam", "gradcam", "hirescam"]
OF_A_SCORE = ("gradcam", "hirescam")  # methods that explain one detection


@dataclass(frozen=True)
class HeatMap:
    """How much each pixel of an image counts.

    Attributes:
        values: (H, W) from 0 to 1, of the original image.
        module: whose maps they are.
        method: how they were made.
        found: the one detection that was explained; None where none was.
        label: of what was explained, also by a classifier; None where nothing was.
    """

    values: Tensor
    module: str
    method: HeatMethod
    found: Detections | None = None
    label: int | None = None


def heat_map(
    model: nn.Module,
    batch: Batch,
    module: str,
    *,
    method: HeatMethod = "activation",
    detection: int = 0,
) -> HeatMap:
    """Return where a module of a model responds in one image.

    Args:
        model: a detector or classifier; its weights stay as they are.
        batch: one image, as the model takes it.
        module: name of one of its modules that gives maps (1, C, H, W), one or several; several are
            averaged, each enlarged to the image.
        method: "activation", the mean over the channels, its range spread from 0 to 1; "eigencam",
            the share of the first principal direction of the channels in each cell (Eigen-CAM,
            https://arxiv.org/abs/2008.00299, eq. 4); "gradcam", the channels weighted by how much
            the score of a detection grows with each (Grad-CAM, https://arxiv.org/abs/1610.02391,
            eq. 1 and 2), of a classifier the logit of a class. As that growth is averaged over the
            whole image, places light up that look like the object anywhere; "hirescam" weights each
            cell by its own (HiResCAM, https://arxiv.org/abs/2011.08891, eq. 2), and shows what this
            detection comes from.
        detection: which one these two explain, 0 for the best; of a classifier, the best class.

    Raises:
        ConfigError: there is no such module, or it gives no maps.
        DataError: there are fewer detections than that.
        ExportError: the detector has no scores that can be differentiated.
    """
    known = {name: one for name, one in model.named_modules() if name}
    if module not in known:
        raise ConfigError(f"the model has no module {module!r}{near(module, known)}")
    score, found, label = None, None, None
    with eval_mode(model), _outputs(known[module]) as outputs:
        if method in OF_A_SCORE:
            score, found, label = _scored(model, batch, detection)
        else:
            with torch.no_grad():
                cast(Any, model).predict(batch)
    maps = list(_maps(outputs, module))
    raw = _mean([one[0] for one in _per_map(maps, method, score)], batch)
    return HeatMap(_spread(raw, whole=method == "activation"), module, method, found, label)


@contextmanager
def _outputs(module: nn.Module) -> Iterator[list[Any]]:
    """Collect what a module gives, before a later one can change it in place."""
    found: list[Any] = []

    def keep(_: nn.Module, __: Any, output: Any) -> Any:
        found.append(output)
        return _copied(output)

    handle = module.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) in (tuple, list):
        return type(value)(map(_copied, value))
    return value


def _maps(outputs: Iterable[Any], module: str) -> Iterator[Tensor]:
    """Yield the maps of all calls of a module."""
    flat = list(_tensors(outputs))
    for one in flat:
        if one.ndim != 4 or len(one) != 1:
            shape = tuple(one.shape)
            raise ConfigError(f"module {module} gives {shape}, expected maps (1, C, H, W)")
        yield one
    if not flat:
        raise ConfigError(f"module {module} gives no maps when the model runs; name another one")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | Mapping):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)


def _scored(
    model: nn.Module, batch: Batch, detection: int
) -> tuple[Tensor, Detections | None, int]:
    """Return a score to differentiate, 0-dim, its detection, and its label."""
    inputs = cast(Tensor, batch.inputs).detach().requires_grad_()  # weights may be frozen
    frame = batch.frames()[0]
    with torch.enable_grad():
        if not isinstance(model, Detector):
            scores, labels = model(inputs)[0].sort(descending=True)
            boxes, count = None, len(scores)
        else:
            sizes = torch.tensor([frame.size], device=inputs.device)
            candidates = model.decode(inputs, sizes)
            boxes, scores, labels = (x[0] for x in model.post_process.keep_fixed(*candidates))
            count = int((scores > 0).sum())
    if detection >= count:
        raise DataError(
            f"number {detection} is to be explained, counted from 0; got {count} in all"
        )
    own = slice(detection, detection + 1)
    if boxes is None:
        return scores[detection], None, int(labels[detection])
    box = frame.to_original(boxes[own].detach())
    one = Detections(box, scores[own].detach(), labels[own]).to("cpu")
    return scores[detection], one, int(labels[detection])


def _per_map(maps: Sequence[Tensor], method: HeatMethod, score: Tensor | None) -> Iterator[Tensor]:
    """Yield (1, h, w) for each map."""
    if score is None:
        reduce = channel_mean if method == "activation" else first_direction
        yield from (reduce(one.float()) for one in maps)
        return
    slopes = torch.autograd.grad(score, list(maps), allow_unused=True)
    for one, slope in zip(maps, slopes, strict=True):
        own = torch.zeros_like(one) if slope is None else slope
        own = own.float().mean((2, 3), keepdim=True) if method == "gradcam" else own.float()
        yield weighted_sum(one.detach().float(), own)


def channel_mean(maps: Tensor) -> Tensor:
    """Return the (N, H, W) means over the channels of (N, C, H, W) maps."""
    return maps.mean(1)


def first_direction(maps: Tensor) -> Tensor:
    """Return how far each cell lies in the direction that most of the cells' length is in.

    The direction is the first right singular vector of the cells by channels, its sign such that
    the mean over the cells is not negative; what lies the other way is 0.

    Args:
        maps: (N, C, H, W).

    Returns:
        (N, H, W), at least 0.
    """
    cells = maps.flatten(2).transpose(1, 2)  # (N, H W, C)
    direction: Tensor = torch.linalg.eigh(cells.transpose(1, 2) @ cells).eigenvectors[..., -1:]
    along: Tensor = (cells @ direction).squeeze(2)
    along = along * along.sum(1, keepdim=True).sign()
    return along.clamp(min=0).view(len(maps), *maps.shape[2:])


def weighted_sum(maps: Tensor, slopes: Tensor) -> Tensor:
    """Return the weighted sum over the channels where it is positive, else 0.

    Args:
        maps: (N, C, H, W).
        slopes: weights, (N, C, H, W) or (N, C, 1, 1).

    Returns:
        (N, H, W), at least 0.
    """
    return (maps * slopes).sum(1).clamp(min=0)


def _mean(maps: Sequence[Tensor], batch: Batch) -> Tensor:
    """Return the (H, W) mean of (h, w) maps over the original image."""
    frame, canvas = batch.frames()[0], batch.images.shape[-2:]
    height, width = frame.size
    large = [
        F.interpolate(one[None, None], tuple(canvas), mode="bilinear", align_corners=False)
        for one in maps
    ]
    own = torch.cat(large).mean(0, keepdim=True)[..., :height, :width]
    whole = F.interpolate(own, frame.original, mode="bilinear", align_corners=False)
    return whole[0, 0].detach().cpu()


def _spread(values: Tensor, *, whole: bool) -> Tensor:
    """Return (H, W) values divided by the greatest, after the least was taken off if `whole`."""
    values = values - values.min() if whole else values
    return values / values.max().clamp(min=torch.finfo(values.dtype).tiny)
