"""Detectors with queries, whose number, and that of the decoder layers, can fall."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from razorlite.structures import Inputs


@runtime_checkable
class QueryModel(Protocol):
    """A model with a set of learnt queries and a stack of decoder layers that all learn.

    Attributes:
        num_queries: how many there are.
        num_decoder_layers: how many there are; the model without the last of them is one, too.
    """

    @property
    def num_queries(self) -> int: ...

    @property
    def num_decoder_layers(self) -> int: ...

    def keep_queries(self, kept: Sequence[int]) -> None:
        """Drop all other queries, in place."""

    def keep_decoder_layers(self, count: int) -> None:
        """Drop all decoder layers behind the first ones, in place."""

    def query_scores(self, inputs: Inputs) -> Tensor:
        """Return (N, Q), the probability of the likeliest class of each query, 0 to 1."""


@torch.no_grad()
def fewer_rows(table: nn.Embedding, kept: Sequence[int]) -> nn.Embedding:
    """Return a table of some rows of another, which learns as that does."""
    weight = table.weight[torch.tensor(kept, device=table.weight.device)].clone()
    learns = table.weight.requires_grad
    fewer: nn.Embedding = nn.Embedding.from_pretrained(weight, freeze=not learns)  # type: ignore[no-untyped-call]
    return fewer
