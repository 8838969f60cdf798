"""What a teacher gave for each image, kept in memory for the next time that the image comes."""

import hashlib
import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from razorlite.core.errors import ConfigError
from razorlite.distill.taps import Recorded
from razorlite.structures import Inputs, tensors_of

_log = logging.getLogger("razorlite")
_GIGABYTE = 1e9


class LessonCache:
    """A teacher's outputs by the pixels of each image.

    An image is known by a hash of its normalised pixels, padding included: another crop is another
    image, so that nothing wrong is ever found. A batch is looked up as a whole; one with a new
    image is left to the teacher. Outputs are kept in the precision and layout that they came in,
    and equal the teacher's to the bit, where it computes each image for itself (convolutions do).

    Args:
        gigabytes: most memory of this process.
        images: of the whole data set; where they would need more, nothing is kept, and that is
            logged once. None to keep what there is room for.
    """

    def __init__(self, gigabytes: float, images: int | None = None) -> None:
        self._bound, self._images = gigabytes * _GIGABYTE, images
        self._rows: dict[bytes, list[Tensor]] = {}
        self._forms: dict[bytes, Recorded] = {}
        self._bytes, self._full = 0, False

    def get(self, inputs: Inputs) -> Recorded | None:
        """Return what was recorded for inputs, if all of their images are known."""
        if self._full and not self._rows:
            return None
        rows = [self._rows.get(key) for key in _keys(inputs)]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows):
            return None
        columns = iter(zip(*known, strict=True))
        return self._forms[_shape(inputs)].kept(lambda form: _stacked(form, next(columns)))

    def put(self, inputs: Inputs, recorded: Recorded) -> None:
        """Keep what was recorded for inputs, as far as there is room.

        Raises:
            ConfigError: something recorded has no row for each image.
        """
        if self._full:
            return
        tensors: list[Tensor] = []
        form = recorded.kept(lambda tensor: tensors.append(tensor) or _form_of(tensor))  # type: ignore[func-returns-value]
        _check_rows(tensors, len(tensors_of(inputs)[0]))
        size = sum(tensor[0].numel() * tensor.element_size() for tensor in tensors)
        if not self._fits(size):
            return
        self._forms[_shape(inputs)] = form
        for number, key in enumerate(_keys(inputs)):
            if key not in self._rows and self._bytes + size <= self._bound:
                self._rows[key] = [tensor[number].clone() for tensor in tensors]
                self._bytes += size

    def _fits(self, size: int) -> bool:
        """Return whether all images have room, given the bytes of one; log where they have not."""
        needed = size * (self._images or 1)
        self._full = needed > self._bound
        if self._full:
            _log.warning(
                "distiller.cache: the teacher's outputs for %s images need %.3g GB, more than the "
                "%.3g GB given, so that none are kept; raise distiller.cache or leave it out",
                self._images, needed / _GIGABYTE, self._bound / _GIGABYTE,
            )  # fmt: skip
        return not self._full


def _keys(inputs: Inputs) -> Iterator[bytes]:
    """Yield a hash of each image's values."""
    tensors = tensors_of(inputs)
    for number in range(len(tensors[0])):
        digest = hashlib.blake2b(_shape(inputs), digest_size=16)
        for tensor in tensors:
            values = tensor[number].detach().cpu().contiguous().view(torch.uint8)
            digest.update(values.numpy().tobytes())
        yield digest.digest()


def _shape(inputs: Inputs) -> bytes:
    return repr([tuple(tensor.shape[1:]) for tensor in tensors_of(inputs)]).encode()


def _form_of(tensor: Tensor) -> Tensor:
    """Return a tensor's shape and layout without its values."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _stacked(form: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """Return rows as one tensor, in the layout that they were recorded in."""
    shape = (len(rows), *form.shape[1:])
    whole = torch.empty_strided(shape, form.stride(), dtype=form.dtype, device=rows[0].device)
    return torch.stack(list(rows), out=whole)


def _check_rows(tensors: Sequence[Tensor], images: int) -> None:
    wrong = next((t for t in tensors if t.ndim == 0 or len(t) != images), None)
    if wrong is not None:
        raise ConfigError(
            f"distiller.cache keeps outputs image by image, and the teacher's recorded tensor of "
            f"shape {tuple(wrong.shape)} has no row for each of {images} images; leave cache out",
            key="cache",
        )
