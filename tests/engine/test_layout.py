"""Layout of memory and precision: what is saved does not show them, and resuming is exact."""

import pytest
import torch
from torch import Tensor, nn

from razorlite.core.compute import Compute
from razorlite.core.errors import RazorliteError
from razorlite.engine.checkpoint_io import read_checkpoint, save_checkpoint
from razorlite.engine.ema import EmaConfig
from razorlite.engine.hooks import Hook
from razorlite.structures import Batch
from tests.engine.toys import ToyLoader, assert_same, make_runner

CPU = torch.device("cpu")


class ConvToy(nn.Module):
    """Two convolutions with a batch norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.norm(self.first(images)).relu()).float().mean((1, 2, 3))

    def loss(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss_fit": (self(images) - targets).square().mean()}


class Maps(ToyLoader):
    """Batches of (B, 3, 8, 8) images in a layout."""

    def __init__(self, layout: torch.memory_format) -> None:
        super().__init__()
        self.layout = layout

    def batch(self, epoch: int, index: int) -> Batch:
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(9 * epoch + index))
        return Batch(images.to(memory_format=self.layout), images.sum((1, 2, 3)))


class Stop(RazorliteError):
    """Ends a run in the middle."""


class StopAt(Hook):
    def __init__(self, step):
        self.step = step

    def before_step(self, run):
        if run.step_number == self.step:
            raise Stop


def runner_of(folder, *, memory_format="channels_last", amp=None, **more):
    compute = Compute.of(CPU, amp, memory_format)
    torch.manual_seed(0)
    return make_runner(
        folder,
        model=compute.place(ConvToy()),
        loader=Maps(compute.layout),
        amp=amp,
        memory_format=memory_format,
        ema=EmaConfig(decay=0.9, warmup_steps=2),
        clip_grad_norm=1.0,
        save_every=2,
        **more,
    )


def saved(folder):
    content = read_checkpoint(folder / "checkpoints/last.pt")
    return {key: content[key] for key in ("model", "optimizer", "ema", "step", "rng")}


def tensors(tree):
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors(part)


@pytest.mark.parametrize("memory_format", ["channels_last", "contiguous"])
@pytest.mark.parametrize("amp", [None, "bf16"])
def test_a_resumed_run_equals_one_that_ran_through(tmp_path, memory_format, amp):
    settings = {"memory_format": memory_format, "amp": amp}
    runner_of(tmp_path / "whole", **settings).run()
    with pytest.raises(Stop):
        runner_of(tmp_path / "cut", hooks=[StopAt(5)], **settings).run()
    runner_of(tmp_path / "cut", **settings).run(resume=True)
    assert_same(saved(tmp_path / "cut"), saved(tmp_path / "whole"))


def test_moments_come_back_in_the_layout_of_their_parameters(tmp_path):
    runner_of(tmp_path, max_steps=2).run()
    runner = runner_of(tmp_path, hooks=[StopAt(2)])
    with pytest.raises(Stop):
        runner.run(resume=True)
    weight = runner.state.model.last.weight
    assert weight.stride() == (54, 1, 18, 6)  # of (2, 6, 3, 3), channels last
    kept = runner.state.update.optimizer.state[weight]
    assert {kept[name].stride() for name in ("exp_avg", "exp_avg_sq")} == {weight.stride()}


def test_files_do_not_depend_on_the_layout(tmp_path):
    for memory_format in ("channels_last", "contiguous"):
        runner_of(tmp_path / memory_format, memory_format=memory_format, max_steps=2).run()
    last, plain = (saved(tmp_path / name) for name in ("channels_last", "contiguous"))
    assert all(tensor.is_contiguous() for tensor in tensors(last))
    torch.testing.assert_close(last["model"], plain["model"], rtol=1e-3, atol=1e-5)


def test_shared_tensors_are_written_once_and_versions_kept(tmp_path):
    weight = torch.zeros(64, 64, 3, 3).to(memory_format=torch.channels_last)
    state = nn.BatchNorm2d(1).state_dict()
    save_checkpoint(tmp_path / "a.pt", {"model": {"a": weight, "b": weight.detach()}})
    save_checkpoint(tmp_path / "b.pt", {"model": state})
    assert (tmp_path / "a.pt").stat().st_size < 1.5 * weight.nbytes
    kept = torch.load(tmp_path / "b.pt", weights_only=True)["model"]
    assert kept._metadata == state._metadata
