"""Checkpoints: whole or not at all, nothing executed, every key accounted for."""

import errno
import pickle

import pytest
import torch
from torch import nn

from razorlite.core import files
from razorlite.core.errors import CheckpointError, RunFolderError
from razorlite.engine.checkpoint import (
    WeightsError,
    compare,
    is_finite,
    load_weights,
    read_state_dict,
)
from razorlite.engine.checkpoint_io import (
    keep_copy,
    read_checkpoint,
    read_training_checkpoint,
    save_checkpoint,
)
from tests.engine.toys import Toy, assert_same, weights


@pytest.fixture
def saved(tmp_path):
    """A checkpoint of a toy."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"model": Toy(norm=True).state_dict()})
    return path


def refusal(call, *args, kind=CheckpointError, **kwargs):
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestFiles:
    def test_round_trip(self, tmp_path):
        content = {"model": {"a": torch.ones(2)}, "progress": {"step": 3}, "names": ["x"]}
        save_checkpoint(tmp_path / "new" / "a.pt", content)
        assert_same(read_checkpoint(tmp_path / "new" / "a.pt"), {"format": 1, **content})

    @pytest.mark.parametrize("part", [0, 1, 100, 0.5, 0.99])
    def test_truncated(self, saved, part):
        data = saved.read_bytes()
        saved.write_bytes(data[: int(part * len(data)) if isinstance(part, float) else part])
        message = refusal(read_checkpoint, saved)
        assert f"{saved} is truncated, damaged or no PyTorch checkpoint" in message
        assert "use another checkpoint" in message

    @pytest.mark.parametrize("data", [b"hello", b"\x89PNG\r\n\x1a\n", b"{}", b"\x80\x04."])
    def test_other_files(self, tmp_path, data):
        path = tmp_path / "a.pt"
        path.write_bytes(data)
        message = refusal(read_checkpoint, path)
        assert str(path) in message
        assert "\x80" in str(data) or "truncated, damaged or no PyTorch checkpoint" in message

    def test_one_flipped_byte(self, saved):
        data = bytearray(saved.read_bytes())
        data[data.index(b"data.pkl") + 70] ^= 0xFF
        saved.write_bytes(bytes(data))
        refusal(read_checkpoint, saved)

    @pytest.mark.parametrize("make", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
    def test_nothing_in_it_is_executed(self, tmp_path, make):
        canary, path = tmp_path / "executed", tmp_path / "evil.pt"

        class Evil:
            def __reduce__(self):
                return (open, (str(canary), "w"))

        make({"model": {"a": torch.ones(1)}, "x": Evil()}, path)
        message = refusal(load_weights, nn.Linear(1, 1), path)
        assert "could execute code: refused" in message
        assert "convert it" in message
        assert not canary.exists()

    def test_absent_file_and_folder(self, saved, tmp_path):
        assert "did you mean 'last.pt'" in refusal(read_checkpoint, tmp_path / "lst.pt")
        run = tmp_path / "run"
        save_checkpoint(run / "checkpoints" / "last.pt", {})
        message = refusal(read_checkpoint, run)
        assert message == (
            f"{run} is a folder, not a checkpoint; name {run / 'checkpoints' / 'last.pt'}"
        )

    def test_no_weights_in_it(self, tmp_path):
        save_checkpoint(tmp_path / "a.pt", {"epoch": 3})
        message = refusal(read_state_dict, tmp_path / "a.pt")
        assert "holds no weights (found format, epoch)" in message
        torch.save([1, 2], tmp_path / "b.pt")
        assert "holds a list, no checkpoint" in refusal(read_checkpoint, tmp_path / "b.pt")

    def test_weights_are_no_training_state(self, saved):
        message = refusal(read_training_checkpoint, saved)
        assert "holds no optimizer and no progress and no rng" in message
        torch.save({"format": 2}, saved)
        assert "has checkpoint format 2, this version reads 1" in refusal(
            read_training_checkpoint, saved
        )

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (errno.ENOSPC, "the disk is full; free some space or choose another folder"),
            (errno.EROFS, "the file system is read-only; choose another folder"),
            (errno.EACCES, "permission denied; choose a folder you may write to"),
        ],
    )
    @pytest.mark.parametrize("where", ["write", "fsync", "replace", "open"])
    def test_failed_write_leaves_the_old_file(self, saved, monkeypatch, number, reason, where):
        before = saved.read_bytes()
        fail_at(where, number, monkeypatch)
        message = refusal(save_checkpoint, saved, {"model": {}}, kind=RunFolderError)
        monkeypatch.undo()
        assert message == f"cannot write {saved}: {reason}"
        assert saved.read_bytes() == before
        assert [p.name for p in saved.parent.iterdir()] == [saved.name]

    def test_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "a").write_text("")
        message = refusal(save_checkpoint, tmp_path / "a" / "b.pt", {}, kind=RunFolderError)
        assert "a part of the path is a file" in message or "is in the way" in message

    @pytest.mark.parametrize("links", [True, False])
    def test_copies_are_kept_and_pruned(self, tmp_path, monkeypatch, links):
        if not links:
            monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
        source = tmp_path / "last.pt"
        for step in range(4):
            save_checkpoint(source, {"step": step})
            keep_copy(source, tmp_path / f"step_{step}.pt", pattern="step_*.pt", keep=2)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "step_2.pt", "step_3.pt"]
        assert read_checkpoint(tmp_path / "step_2.pt")["step"] == 2


def fail_at(where, number, monkeypatch):
    """Let a call that writing a file makes fail with a system error."""

    def fail(*args, **kwargs):
        raise OSError(number, "by the system")

    if where in ("fsync", "replace"):
        monkeypatch.setattr(files.os, where, fail)
    elif where == "open":
        monkeypatch.setattr(files, "open", fail, raising=False)
    else:
        unwritable = lambda *args, **kwargs: Unwritable(open(*args, **kwargs), fail)  # noqa: E731, SIM115
        monkeypatch.setattr(files, "open", unwritable, raising=False)


class Unwritable:
    """A file whose writes fail."""

    def __init__(self, file, fail):
        self.file, self.write = file, fail

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


class TestLoadWeights:
    def test_copies_all(self, saved):
        model = Toy(norm=True)
        report = load_weights(model, saved)
        assert report.complete
        assert report.summary() == "9 of 9 tensors fit"
        assert (report.outcome(), report.details()) == ("loaded 9 of 9", "")
        assert_same(weights(model), dict(read_checkpoint(saved)["model"]))

    @pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", None])
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_common_forms(self, tmp_path, key, prefix):
        source, model = Toy(), Toy()
        state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
        torch.save({key: state, "epoch": 1} if key else state, tmp_path / "a.pt")
        load_weights(model, tmp_path / "a.pt")
        assert_same(weights(model), weights(source))

    def test_another_model_is_refused_and_nothing_copied(self, saved):
        model = Toy(width=5)
        before = weights(model)
        with pytest.raises(WeightsError) as caught:
            load_weights(model, saved)
        assert_same(weights(model), before)
        message = str(caught.value)
        assert (
            "does not fit the model: 1 of 4 tensors fit; 5 unexpected: norm.weight, norm" in message
        )
        assert "3 mis-shaped: first.weight (4, 3), model (5, 3)" in message
        assert caught.value.details.splitlines() == [
            "            key                       file    model",
            "unexpected  norm.weight               (4,)",
            "unexpected  norm.bias                 (4,)",
            "unexpected  norm.running_mean         (4,)",
            "unexpected  norm.running_var          (4,)",
            "unexpected  norm.num_batches_tracked  ()",
            "mis-shaped  first.weight              (4, 3)  (5, 3)",
            "mis-shaped  first.bias                (4,)    (5,)",
            "mis-shaped  last.weight               (1, 4)  (1, 5)",
        ]

    def test_what_fits_is_loaded_if_asked_for_and_told(self, saved, caplog):
        model = Toy(width=5)
        report = load_weights(model, saved, strict=False)
        assert report.loaded == ("last.bias",)
        assert caplog.messages == [f"{saved}: {report.outcome()}"]
        assert report.outcome() == (
            "loaded 1 of 4; first has 4 rows, model has 5, last.weight has shape (1, 4), model has "
            "(1, 5): left at initialisation; 5 unexpected: norm.weight, norm.bias, "
            "norm.running_mean, …: not used"
        )
        assert torch.equal(model.last.bias, read_checkpoint(saved)["model"]["last.bias"])

    def test_no_key_in_common(self, saved):
        message = refusal(load_weights, nn.Sequential(nn.Linear(3, 3)), saved, strict=False)
        assert "is of another model: 0 of 2 tensors fit; 2 missing: 0.weight, 0.bias" in message
        report = compare(nn.Linear(2, 3), {})
        assert report.outcome() == (
            "loaded 0 of 2; 2 missing: weight, bias: left at initialisation"
        )
        assert report.details().splitlines()[1] == "missing  weight        (3, 2)"

    def test_prefix_key_map_and_ignore(self, tmp_path):
        source = nn.ModuleDict({"body": nn.Linear(3, 4), "fc": nn.Linear(1, 9)})
        torch.save(source.state_dict(), tmp_path / "a.pt")
        body = nn.Linear(3, 4)
        assert load_weights(body, tmp_path / "a.pt", prefix="body.").complete
        assert torch.equal(body.weight, source["body"].weight)
        toy = nn.ModuleDict({"first": nn.Linear(3, 4)})
        renamed = {"key_map": {"body.": "first."}, "ignore": ("fc.*",)}
        assert load_weights(toy, tmp_path / "a.pt", **renamed).complete
        dropped = {"key_map": lambda key: key.replace("body", "first") if "fc" not in key else None}
        assert load_weights(toy, tmp_path / "a.pt", **dropped).complete

    def test_files_from_before_the_batch_counter(self, tmp_path):
        model = Toy(norm=True)
        state = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
        torch.save(state, tmp_path / "old.pt")
        assert load_weights(Toy(norm=True), tmp_path / "old.pt").complete


def test_finite():
    assert is_finite({})
    assert is_finite({"a": torch.ones(2), "b": torch.ones(1, dtype=torch.int64), "c": None})
    assert not is_finite({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])})
