"""Checkpoints as OpenMMLab's detectors are saved: read, translated or refused."""

import shlex
import subprocess
import sys
import tarfile
import types
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import razorlite
from razorlite.core.errors import CheckpointError
from razorlite.engine.checkpoint import WeightsError, load_weights, read_state_dict
from razorlite.engine.checkpoint_io import read_checkpoint
from razorlite.models.backbones.resnet import ResNet
from razorlite.models.backbones.resnet_blocks import PluginConfig
from razorlite.models.deformable import DeformableConv2d
from razorlite.models.detectors.detr import DETR
from razorlite.models.heads.fcos_head import FCOSHead
from razorlite.models.heads.retina_head import RetinaHead
from razorlite.models.plugins import ContextBlock
from tests.models import golden
from tests.models.test_detr import detr_r50, small_detr

NAMES = sorted(path.name.split(".")[0] for path in golden.FOLDER.glob("*.keys.txt"))
RTMDET = {
    "rtmdet_tiny": "rtmdet_tiny_8xb32-300e_coco",
    "rtmdet_s": "rtmdet_s_8xb32-300e_coco",
    "rtmdet_ins_tiny": "rtmdet-ins_tiny_8xb32-300e_coco",
}


def build(name: str) -> nn.Module:
    """Return the model of a list of keys, its weights not yet set."""
    with torch.device("meta"):
        if name in RTMDET:
            path = golden.FOLDER.parents[1] / f"configs/rtmdet/{RTMDET[name]}.yaml"
            model = razorlite.build_model(path, overrides=["model.bbox_head.num_classes=4"])
        elif name == "mask_rcnn_r50_gcb":
            block = PluginConfig(
                layer=partial(ContextBlock, ratio=1 / 4), stages=(False, True, True, True)
            )
            model = golden.mask_rcnn_r50(plugins=[block])
        else:
            known = {"retinanet_r18": lambda: golden.retinanet_r50(18), "detr_r50": detr_r50}
            model = known.get(name, getattr(golden, name, None))()
    return model.to_empty(device="cpu")


def weights_of(name: str) -> OrderedDict[str, Tensor]:
    """Return a state dict with a list's names and shapes; tensor i is full of i, in few bytes."""
    rows = enumerate(golden.keys(name))
    return OrderedDict((key, torch.tensor(float(i)).expand(shape)) for i, (key, shape) in rows)


def mmengine_file(path: Path, state: dict[str, Tensor], **more: object) -> Path:
    """Write what mmengine's runner saves, without its own objects."""
    meta = {
        "epoch": 12,
        "iter": 87960,
        "cfg": "model = dict()",
        "dataset_meta": {"CLASSES": ("a",)},
    }
    torch.save({"meta": meta, "state_dict": state, "param_schedulers": [{}], **more}, path)
    return path


class TestPublishedForms:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_model_takes_a_file_with_the_references_names(self, name, tmp_path):
        state = weights_of(name)
        statistics = {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
        path = mmengine_file(tmp_path / "a.pth", OrderedDict({**statistics, **state}))
        model = build(name)
        report = load_weights(model, path)
        assert report.complete
        assert len(report.loaded) == len(state)
        mine = model.state_dict(keep_vars=True)
        last = {id(value): i for i, value in enumerate(mine.values())}
        for value in mine.values():  # where two names share a tensor the later one wins
            assert (value == last[id(value)]).all()

    @pytest.mark.parametrize("name", NAMES)
    def test_heads_for_other_classes_stay_and_the_rest_is_loaded(self, name, tmp_path):
        state = weights_of(name)
        heads = [k for k in state if "fc_cls" in k or "_cls." in k or "rtm_cls" in k]
        heads = [k for k in heads if "rpn" not in k]
        for key in heads:
            rows = (state[key].shape[0] * 20, *state[key].shape[1:])
            state[key] = torch.zeros(1).expand(rows)
        path = mmengine_file(tmp_path / "a.pth", state)
        model = build(name)
        with pytest.raises(WeightsError, match="does not fit the model") as caught:
            load_weights(model, path)
        report = load_weights(model, path, strict=False)
        assert report == caught.value.report
        assert [key for key, *_ in report.mismatched] == heads
        assert report.outcome().startswith(f"loaded {len(state) - len(heads)} of {len(state)}; ")

    def test_the_summary_names_classes(self, tmp_path):
        state = weights_of("faster_rcnn_r50")
        head = "roi_head.bbox_head."
        for layer, rows in (("fc_cls", 81), ("fc_reg", 320)):
            state[f"{head}{layer}.weight"] = torch.zeros(1).expand(rows, 1024)
            state[f"{head}{layer}.bias"] = torch.zeros(1).expand(rows)
        report = load_weights(
            build("faster_rcnn_r50"), mmengine_file(tmp_path / "a.pth", state), strict=False
        )
        assert report.outcome() == (
            f"loaded {len(state) - 4} of {len(state)}; {head}fc_cls has 81 rows, model has 5, "
            f"{head}fc_reg has 320 rows, model has 16: left at initialisation"
        )

    @pytest.mark.parametrize("key", ["state_dict", "model", "ema_state_dict", None])
    @pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
    def test_holders_and_prefixes(self, key, prefix, tmp_path):
        state = {f"{prefix}{k}": v for k, v in weights_of("retinanet_r18").items()}
        if prefix:
            state["steps"] = torch.tensor(100)
        torch.save({key: state} if key else state, tmp_path / "a.pth")
        assert load_weights(build("retinanet_r18"), tmp_path / "a.pth").complete

    def test_the_average_is_what_state_dict_holds(self, tmp_path):
        """mmengine swaps them when it saves: the weights in training are under ema_state_dict."""
        average, trained = {"weight": torch.ones(1, 1)}, {"module.weight": torch.zeros(1, 1)}
        path = mmengine_file(tmp_path / "a.pth", average, ema_state_dict=trained)
        assert read_state_dict(path) == average

    def test_the_copies_of_version_2_are_left_out(self, tmp_path):
        state = {"a.weight": torch.ones(1, 1), "ema_a_weight": torch.zeros(1, 1)}
        other = {"ema_b_weight": torch.ones(1)}
        path = mmengine_file(tmp_path / "a.pth", {**state, **other})
        assert list(read_state_dict(path)) == ["a.weight", "ema_b_weight"]


def loaded(model: nn.Module, old: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Return a model's weights after it has loaded a file with old names."""
    load_weights(model, mmengine_file(folder / "old.pth", old))
    return model.state_dict()


class TestOldNames:
    def test_fcos_of_early_versions(self, tmp_path):
        def head() -> nn.ModuleDict:
            return nn.ModuleDict({"bbox_head": FCOSHead(num_classes=2, in_channels=8)})

        source = head().state_dict()
        old = {k.replace("bbox_head.conv_", "bbox_head.fcos_"): v for k, v in source.items()}
        assert "bbox_head.fcos_centerness.weight" in old
        assert_close(loaded(head(), old, tmp_path), source)

    def test_retinanet_with_plain_convolutions(self, tmp_path):
        make = partial(RetinaHead, num_classes=2, in_channels=8)
        source = make().state_dict()
        old = {k.replace(".conv.", "."): v for k, v in source.items()}
        assert "cls_convs.0.weight" in old
        assert_close(loaded(make(), old, tmp_path), source)

    def test_deformable_convolution(self, tmp_path):
        source, model = (nn.ModuleDict({"conv2": DeformableConv2d(4, 4, 3)}) for _ in range(2))
        nn.init.normal_(source["conv2"].conv_offset.weight)
        old = {k.replace(".conv_offset", "_offset"): v for k, v in source.state_dict().items()}
        assert set(old) == {"conv2.weight", "conv2_offset.weight", "conv2_offset.bias"}
        assert_close(loaded(model, old, tmp_path), source.state_dict())

    @pytest.mark.parametrize("first", [False, True])
    def test_detr_of_version_2(self, first, tmp_path):
        source, images = small_detr().eval(), torch.randn(1, 3, 64, 64)
        old = {_of_version_2(k, first): v for k, v in source.state_dict().items()}
        model = small_detr().eval()
        loaded(model, old, tmp_path)
        assert_close(model(images), source(images))

    def test_a_name_that_the_model_has_is_not_touched(self, tmp_path):
        model = nn.ModuleDict({"fcos_cls": nn.Linear(1, 1), "conv_cls": nn.Linear(1, 1)})
        source = {k: torch.full_like(v, i) for i, (k, v) in enumerate(model.state_dict().items())}
        assert_close(loaded(model, source, tmp_path), source)

    def test_old_and_new_name_in_one_file_are_not_merged(self, tmp_path):
        model = nn.ModuleDict({"conv_cls": nn.Linear(1, 1, bias=False)})
        both = {"fcos_cls.weight": torch.zeros(1, 1), "conv_cls.weight": torch.ones(1, 1)}
        with pytest.raises(WeightsError, match=r"1 unexpected: fcos_cls\.weight"):
            loaded(model, both, tmp_path)


def _of_version_2(key: str, first: bool) -> str:
    """Return the name of a DETR's tensor in MMDetection 2, or in its first versions."""
    lists = [("self_attn", "attentions.0"), ("cross_attn", "attentions.1"), (".ffn.", ".ffns.0.")]
    early = [("cross_attn", "multihead_attn"), ("decoder.post_norm", "decoder.norm")]
    if key.startswith(("encoder.", "decoder.")):
        for new, old in early if first else lists:
            key = key.replace(new, old)
        return f"bbox_head.transformer.{key}"
    key = key.replace("neck.convs.0.conv.", "bbox_head.input_proj.")
    return f"bbox_head.{key}" if key.startswith("query_embedding") else key


@pytest.fixture
def mmengine(tmp_path, monkeypatch) -> Path:
    """A stand-in for mmengine, there while a file is written, and the folder to import it from."""
    folder = tmp_path / "site"
    package = folder / "mmengine" / "logging"
    package.mkdir(parents=True)
    source = "class HistoryBuffer:\n    def __init__(self, values): self._log_history = values\n"
    (package / "history_buffer.py").write_text(source)
    module = types.ModuleType("mmengine.logging.history_buffer")
    exec(source, module.__dict__)
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return folder


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestRefused:
    def test_history_buffers_and_the_command_that_converts_them(self, mmengine, tmp_path):
        from mmengine.logging.history_buffer import HistoryBuffer

        hub = {"log_scalars": {"train/loss": HistoryBuffer(np.ones(3))}}
        state = {"weight": torch.full((1, 1), 3.0), "bias": torch.zeros(1)}
        path = mmengine_file(tmp_path / "the file.pth", OrderedDict(state), message_hub=hub)
        message = refusal(path)
        assert f"{path} needs mmengine.logging.history_buffer.HistoryBuffer, more than" in message
        python, *rest = shlex.split(message[message.index("python -c ") :])
        environment = {"PYTHONPATH": str(mmengine), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, *rest], check=True, env=environment)
        assert python == "python"
        model = nn.Linear(1, 1)
        assert load_weights(model, tmp_path / "the file_weights.pt").complete
        assert model.weight.item() == 3

    @pytest.mark.parametrize(
        "value", [np.float64(1), np.ones(3), Path("a"), np.dtype("f4"), slice(1)], ids=str
    )
    @pytest.mark.parametrize("zipped", [True, False])
    def test_other_objects(self, value, zipped, tmp_path):
        content = {"state_dict": {"weight": torch.ones(1)}, "meta": {"best": value}}
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        message = refusal(tmp_path / "a.pth")
        assert "so loading it could execute code: refused" in message
        assert "python -c" in message

    def test_objects_in_the_state_dict_of_a_published_file_alone(self, tmp_path):
        """Published files keep only `meta` and `state_dict`, in the form before PyTorch 1.6."""
        content = {"meta": {"epoch": 1}, "state_dict": OrderedDict(weight=torch.ones(1))}
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
        assert_close(read_state_dict(tmp_path / "a.pth"), {"weight": torch.ones(1)})

    def test_what_the_oldest_supported_version_says_is_understood(self, tmp_path, monkeypatch):
        torch.save({}, tmp_path / "a.pth")
        reason = (
            "Weights only load failed. This file can still be loaded, to do so you have two "
            "options\n WeightsUnpickler error: Unsupported global: GLOBAL "
            "numpy.core.multiarray.scalar was not an allowed global by default. Please use …"
        )

        def load(*_, **__):
            raise torch.serialization.pickle.UnpicklingError(reason)

        monkeypatch.setattr(torch, "load", load)
        assert "a.pth needs numpy.core.multiarray.scalar, more than" in refusal(tmp_path / "a.pth")

    def test_programs(self, tmp_path):
        path = tmp_path / "a.pt"
        torch.jit.trace(nn.Linear(1, 1), torch.ones(1)).save(path)
        message = refusal(path)
        assert "is a TorchScript program, so loading it could execute code" in message
        command = shlex.split(message[message.index("python -c ") :])
        subprocess.run([sys.executable, *command[1:]], check=True)
        assert load_weights(nn.Linear(1, 1), tmp_path / "a_weights.pt").complete

    def test_tar_files(self, tmp_path, monkeypatch):
        with tarfile.open(tmp_path / "a.pth", "w") as archive:
            archive.add(__file__, "pickle")
        monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
        assert "is a tar file of PyTorch 0.1, so loading" in refusal(tmp_path / "a.pth")

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
    def test_truncated(self, part, zipped, tmp_path):
        state = {"weight": torch.randn(200, 10), "bias": torch.randn(1000)}
        path = tmp_path / "a.pth"
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
        assert "is truncated, damaged or no PyTorch checkpoint" in refusal(path)

    def test_backbones_refuse_alike(self, tmp_path):
        torch.save({"state_dict": {"weight": torch.ones(1)}, "best": np.float64(1)}, tmp_path / "a")
        with pytest.raises(CheckpointError, match=r"a needs numpy\S+scalar, more than .* convert"):
            ResNet(depth=18, pretrained=str(tmp_path / "a"))

    def test_a_detector_checkpoint_is_a_source_of_backbones(self, tmp_path):
        path = mmengine_file(tmp_path / "a.pth", weights_of("retinanet_r18"))
        assert ResNet(depth=18, pretrained=str(path)).conv1.weight.unique().item() == 0


def test_detr_is_among_the_models():
    assert isinstance(build("detr_r50"), DETR)
