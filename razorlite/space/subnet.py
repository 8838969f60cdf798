"""One point of a search space, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from razorlite.core.errors import SubnetError
from razorlite.core.files import write_text_atomic
from razorlite.space._reading import parse_file
from razorlite.space.dimension import Values


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """What is chosen: operations, kept channels, dropped parts, or all of them.

    Attributes:
        choices: dimension (or module path in some files) to its value: the name of an operation,
            a number of channels, ...
        channels: channel group to the indices that are kept.
        dropped: `blocks` to paths of residual blocks, `layers` and `queries` to numbers of decoder
            layers and queries that are gone; `channels` are those of the model without them.
        fingerprint: names the search space; empty where it is not known.
        cost: such as macs and params.
        scores: such as AP.
        origin: where it came from: plain values.
    """

    choices: Values = field(default_factory=dict)
    channels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dropped: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    fingerprint: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_pruned(self) -> bool:
        """Whether channels or parts of a model are gone."""
        return bool(self.channels or self.dropped)

    def with_results(
        self,
        *,
        cost: Mapping[str, float] | None = None,
        scores: Mapping[str, float] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> Subnet:
        """Return the same choices with other costs and scores; None keeps what there is."""
        return replace(
            self,
            cost=self.cost if cost is None else dict(cost),
            scores=self.scores if scores is None else dict(scores),
            origin=self.origin if origin is None else dict(origin),
        )

    def save(self, path: str | Path) -> None:
        """Write the subnet as YAML, whole or not at all.

        Raises:
            RunFolderError: the file cannot be written.
        """
        write_text_atomic(path, self.to_yaml())

    def to_yaml(self) -> str:
        """Return the text of the file that `load` reads."""
        tree = self.to_dict()
        return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)

    def to_dict(self) -> dict[str, Any]:
        """Return what the file says as plain values."""
        tree: dict[str, Any] = {"format": 1}
        for name in ("fingerprint", "origin", "cost", "scores", "choices"):
            value = getattr(self, name)
            if value:
                tree[name] = value if isinstance(value, str) else dict(value)
        for name, lists in (("dropped", self.dropped), ("channels", self.channels)):
            if lists:
                tree[name] = {key: list(values) for key, values in lists.items()}
        return tree

    @classmethod
    def load(cls, path: str | Path) -> Subnet:
        """Read a subnet file: ours, or either dialect of MMRazor's.

        MMRazor 0.x keys by space id and lists the one choice, 1.x keys by module path and names
        it; both under `chosen`. Where 0.x prunes (AutoSlim), it has for each layer how many of the
        first channels stay, as `out_channels`, of `raw_out_channels`.

        The keys stay as they are; a space's `load` makes them its own and checks every choice.

        Raises:
            SubnetError: the file cannot be read or is malformed; one line names the file and the
                fault.
        """
        try:
            return cls(**parse_file(Path(path)))
        except SubnetError as error:
            raise SubnetError(f"{path}: {error}") from error


class _Dumper(yaml.SafeDumper):
    """Writes lists of channels on one line."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        return super().represent_sequence(tag, sequence, flow_style=True)

    def ignore_aliases(self, data: Any) -> bool:
        return True
