"""Which tensors of a file are a model's weights: nested layouts, prefixes, averaged copies."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from razorlite.core.errors import CheckpointError
from razorlite.engine.checkpoint_names import own_names, without_bookkeeping

_HOLDERS = ("model", "state_dict", "model_state_dict", "ema_state_dict")  # the commonest first
_DEPTH = 4  # of mappings in mappings
_PREFIXES = 4  # that are looked at in a mapping, the commonest ones
_AVERAGED = {"ema", "average", "averaged", "avg", "swa"}

KeyPath = tuple[str, ...]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Candidate:
    """Tensors of a file that could be a model's.

    Attributes:
        keys: names of the mappings they lie in.
        prefix: what was cut off their names.
        state: the tensors by what is left of their names.
        averaged: whether they are averages of what was trained.
        found: how many of the model's tensors are there.
        fits: how many have the model's shape.
    """

    keys: KeyPath
    prefix: str
    state: State
    averaged: bool
    found: int
    fits: int

    @property
    def name(self) -> str:
        """What a user calls it by."""
        return ".".join([*self.keys, self.prefix]).strip(".") or "the file itself"

    @property
    def rank(self) -> tuple[int, int, bool, int, bool]:
        """What is wanted least comes last: fewer fit, a teacher's, an unusual place, a prefix."""
        usual = [_HOLDERS.index(part) for part in self.keys[:1] if part in _HOLDERS]
        return (
            -self.fits,
            -self.found,
            "teacher" in _words(self),
            min(usual, default=9),
            bool(self.prefix),
        )


def find_weights(
    content: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    *,
    path: object,
    prefix: str = "",
    ema: bool = True,
    whole_names: bool = False,
) -> State | None:
    """Return the tensors of a file that are a model's, under the model's names.

    The mapping and the prefix are taken under which most of the model's tensors lie.

    Args:
        content: of the file.
        expected: the model's tensors.
        path: the file, for messages.
        prefix: take this one: a mapping of the file, or what its names start with.
        ema: take averaged weights, where there are both; else those that were trained.
        whole_names: cut nothing off; for names that are changed afterwards.

    Returns:
        The tensors; None if none is the model's.

    Raises:
        CheckpointError: several fit alike, nothing is under the prefix, or there are averaged
            weights only and others are wanted.
    """
    candidates = list(_candidates(content, expected, prefix, whole_names))
    if prefix and not candidates:
        starts = sorted({key.split(".")[0] for _, state in _mappings(content) for key in state})
        raise CheckpointError(
            f"{path} has nothing under {prefix!r}; its names start with {', '.join(starts[:8])}"
        )
    candidates = [c for c in candidates if c.found]
    if not candidates:
        return None
    enough = max(c.found for c in candidates) / 2
    averages = [c for c in candidates if c.averaged and c.found >= enough]
    trained = [c for c in candidates if not c.averaged]
    if not ema and not trained:
        raise CheckpointError(f"{path} has averaged weights only; leave out load_from.ema=false")
    if ema and averages:
        best = _best(averages, path)  # what is not averaged, such as buffers, comes from the others
        rest = _best(trained, path).state if trained else {}
        return {**{k: v for k, v in rest.items() if k in expected}, **best.state}
    return _best(trained, path).state


def _best(candidates: list[Candidate], path: object) -> Candidate:
    ranked = sorted(candidates, key=lambda candidate: candidate.rank)
    first, *others = ranked
    rivals = [c for c in others if c.rank == first.rank and not _same(c.state, first.state)]
    if rivals:
        names = " and ".join(c.name for c in [first, *rivals[:2]])
        raise CheckpointError(
            f"{path} holds several models that fit alike: {names}; name one by load_from.prefix"
        )
    return first


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        one[key] is other[key] or torch.equal(one[key], other[key]) for key in one
    )


def _candidates(
    content: Mapping[str, Any], expected: Mapping[str, Tensor], prefix: str, whole_names: bool
) -> Iterator[Candidate]:
    swapped = _swapped(content)
    for keys, tensors in _mappings(content):
        state = without_bookkeeping(tensors)
        if prefix:
            cuts = _asked_for(keys, state, prefix)
        else:
            cuts = [""] if whole_names else _prefixes(state, expected)
        for cut in cuts:
            own = {k.removeprefix(cut): v for k, v in state.items() if k.startswith(cut)}
            own = own_names(own, expected)
            found = [key for key in own if key in expected]
            fits = [key for key in found if own[key].shape == expected[key].shape]
            candidate = Candidate(keys, cut, own, False, len(found), len(fits))
            averaged = bool(_words(candidate) & _AVERAGED) ^ (keys in swapped)
            yield Candidate(keys, cut, own, averaged, len(found), len(fits))


def tensor_names(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all tensors of a file, wherever in it."""
    for _, state in _mappings(content):
        yield from state


def _mappings(content: Mapping[str, Any], keys: KeyPath = ()) -> Iterator[tuple[KeyPath, State]]:
    """Yield all mappings that hold tensors, and where."""
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if state:
        yield keys, state
    if len(keys) < _DEPTH:
        for key, value in content.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from _mappings(value, (*keys, key))


def _prefixes(state: State, expected: Mapping[str, Tensor]) -> list[str]:
    """Return what names start with before one of the model's, the commonest first."""
    votes = Counter({"": 0})
    for key in state:
        starts = [0, *(found.end() for found in re.finditer(r"\.", key))]
        votes.update(key[:start] for start in starts if key[start:] in expected)
    return [prefix for prefix, _ in votes.most_common(_PREFIXES)]


def _asked_for(keys: KeyPath, state: State, prefix: str) -> list[str]:
    """Return what to cut off a mapping's names, if a prefix means it or some of its names."""
    stem = prefix.removesuffix(".")
    if ".".join(keys) == stem:
        return [""]
    inside = stem.removeprefix(".".join(keys)).lstrip(".") if keys else stem
    for start in (f"{stem}.", f"{inside}.", prefix):
        if any(key.startswith(start) for key in state):
            return [start]
    return []


def _words(candidate: Candidate) -> set[str]:
    return set(re.split(r"[._]", ".".join([*candidate.keys, candidate.prefix]).lower()))


def _swapped(content: Mapping[str, Any]) -> set[KeyPath]:
    """Return places whose names tell the reverse of what lies there.

    Our training checkpoints, and OpenMMLab's, have the average as the model and what is trained
    beside it.
    """
    ema = content.get("ema")
    if isinstance(ema, Mapping) and isinstance(ema.get("average"), Mapping):
        return {("model",), ("ema", "average")}
    meta = content.get("meta")
    if isinstance(meta, Mapping) and {"cfg", "mmengine_version", "dataset_meta"} & set(meta):
        return {("state_dict",), ("ema_state_dict",)} if "ema_state_dict" in content else set()
    return set()
