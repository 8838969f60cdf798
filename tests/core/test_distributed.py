"""What goes between processes lies where their backend can take it."""

import pytest
import torch
import torch.distributed as dist

from razorlite.core import distributed
from razorlite.core.distributed import all_reduce_max, all_reduce_mean
from razorlite.engine.exchange import agree, average_tensors, broadcast_tensors


class SentError(Exception):
    """The tensor has reached the collective."""


@pytest.mark.parametrize(
    "exchange",
    [
        all_reduce_mean,
        all_reduce_max,
        lambda value: average_tensors([value]),
        lambda value: broadcast_tensors([value]),
        lambda value: agree([torch.nn.Parameter(value)], [True]),
    ],
)
def test_every_collective_gets_tensors_where_the_backend_takes_them(exchange, monkeypatch):
    def collective(value, *_, **__):
        assert value.device.type == "meta"  # stands for a GPU
        raise SentError

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "_exchange_device", lambda: torch.device("meta"))
    monkeypatch.setattr(dist, "all_reduce", collective)
    monkeypatch.setattr(dist, "broadcast", collective)
    with pytest.raises(SentError):
        exchange(torch.zeros(2))


def test_nccl_takes_the_gpu_of_this_process_and_gloo_takes_any(monkeypatch):
    value = torch.zeros(2)
    monkeypatch.setattr(dist, "get_backend", lambda: "gloo")
    assert distributed.for_exchange(value) is value
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert distributed._exchange_device() == torch.device("cuda", 1)
