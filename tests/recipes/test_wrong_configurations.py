"""Wrong configurations: exit code 2, every line names a place, no traceback, nothing left behind.

Hand-written ones, and each shipped configuration with a key misspelt, a value of a wrong kind, or a
required key taken out.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from razorlite import cli
from razorlite.core import shipped
from razorlite.core.config import load
from razorlite.recipes import configs  # noqa: F401 registers the types
from tests.recipes.runs import detector, write

HEAD = "model.bbox_head"
NECK = "model.neck"
BACKBONE = "model.backbone"
TRAIN = {"max_steps": 4, "optimizer": {"type": "SGD", "lr": 0.01}}

OVERRIDES = [
    # numbers out of range
    "seed=-1",
    "seed=1.5",
    "seed=18446744073709551616",
    "shape=[0, 64]",
    "shape=[-64, 64]",
    "shape=[64]",
    "shape=[64, 64, 64]",
    "shape=[.nan, 64]",
    f"{HEAD}.num_classes=0",
    f"{HEAD}.num_classes=-3",
    f"{HEAD}.num_classes=3.0",
    f"{HEAD}.strides=[]",
    f"{HEAD}.strides=[8]",
    f"{HEAD}.strides=[0, 8]",
    f"{HEAD}.strides=[16, 32]",
    f"{HEAD}.in_channels=0",
    f"{HEAD}.in_channels=17",
    f"{HEAD}.feat_channels=-1",
    f"{HEAD}.stacked_convs=-1",
    f"{HEAD}.center_sample_radius=0",
    f"{HEAD}.regress_ranges=[[-1, 64]]",
    f"{HEAD}.loss_bbox={{type: GIoULoss, loss_weight: -1}}",
    f"{HEAD}.loss_bbox={{type: GIoULoss, loss_weight: .nan}}",
    f"{HEAD}.loss_bbox={{type: GIoULoss, eps: 0}}",
    f"{HEAD}.loss_cls={{type: FocalLoss, alpha: 2}}",
    f"{HEAD}.loss_cls={{type: FocalLoss, gamma: -1}}",
    f"{HEAD}.post_process.score_thr=1.5",
    f"{HEAD}.post_process.iou_threshold=-0.1",
    f"{HEAD}.post_process.max_per_img=0",
    f"{HEAD}.post_process.nms_pre=0",
    f"{HEAD}.norm=XN",
    f"{NECK}.in_channels=[]",
    f"{NECK}.in_channels=[40, 0]",
    f"{NECK}.in_channels=[40, 81]",
    f"{NECK}.in_channels=[80]",
    f"{NECK}.out_channels=0",
    f"{NECK}.num_outs=1",
    f"{NECK}.num_outs=3",
    f"{NECK}.start_level=5",
    f"{NECK}.start_level=-1",
    f"{BACKBONE}.width_mult=0",
    f"{BACKBONE}.width_mult=.inf",
    f"{BACKBONE}.width_mult=1e-9",
    f"{BACKBONE}.out_indices=[]",
    f"{BACKBONE}.out_indices=[2, 1]",
    f"{BACKBONE}.out_indices=[1, 9]",
    f"{BACKBONE}.frozen_stages=9",
    f"{BACKBONE}.frozen_stages=-2",
    f"{BACKBONE}={{type: ResNet, depth: 19}}",
    f"{BACKBONE}={{type: ResNet, depth: 18, strides: [8]}}",
    f"{BACKBONE}={{type: MobileNetV2, width: -1}}",
    f"{BACKBONE}={{type: Searchable}}",
    "train.max_steps=0",
    "train.max_epochs=3",
    "train.max_steps=null",
    "train.max_seconds=.nan",
    "train.max_seconds=-1",
    "train.clip_grad_norm=0",
    "train.clip_grad_norm=.nan",
    "train.accumulate=0",
    "train.log_every=0",
    "train.eval_every=0",
    "train.keep=-1",
    "train.amp=fp8",
    "train.best_metric=APP",
    "train.ema.decay=1",
    "train.ema.decay=.nan",
    "train.ema.warmup_steps=-1",
    "train.optimizer.lr=-0.1",
    "train.optimizer.lr=.nan",
    "train.optimizer.lr=.inf",
    "train.optimizer.lr=1e400",
    "train.optimizer.momentum=1.5",
    "train.optimizer.weight_decay=-1",
    "train.optimizer={type: AdamW, betas: [0.9, 1.0]}",
    "train.optimizer={type: AdamW, betas: [0.9]}",
    "train.optimizer={type: LBFGS}",
    "train.optimizer={type: FPN}",
    "train.optimizer.nesterov=true",
    "train.schedule={type: Cosine, warmup_steps: -1}",
    "train.schedule={type: Cosine, warmup_factor: 2}",
    "train.schedule={type: MultiStep, milestones: [5, 2]}",
    "train.schedule={type: MultiStep, milestones: [0]}",
    "train.schedule={type: MultiStep, milestones: [2], gamma: 0}",
    "train.schedule={type: OneCycle, rise: 1}",
    "train.schedule={type: FlatCosine, flat: 1}",
    "train.schedule={type: Polly}",
    "train.param_options.norm_decay_mult=-1",
    "train.param_options.patterns={nekc: {lr_mult: 2}}",
    "train.param_options.patterns={neck: {lr_mult: -2}}",
    "train.param_options.patterns={'re:(': {lr_mult: 2}}",
    "data.holdout=0",
    "data.holdout=1",
    "data.mean=[1, 2]",
    "data.std=[0, 1, 1]",
    "data.std=[1, 1, .nan]",
    "data.channels=gbr",
    "data.pad_multiple=0",
    "data.train.batch_size=0",
    "data.train.num_workers=-1",
    "data.train.last_epochs={epochs: 1, transforms: []}",
    "data.train.dataset.num_images=0",
    "data.train.dataset.seed=-1",
    "data.train.dataset.size=[4, 4]",
    "data.train.dataset.objects=[3, 1]",
    "data.train.dataset.scale=[0.5, 0.1]",
    "data.train.dataset.classes=[blob]",
    "data.train.dataset.classes=[circle, circle]",
    "data.train.dataset={type: RepeatDataset, times: 0, dataset: {type: ShapesDataset}}",
    "data.train.transforms=[{type: RandomFlip, horizontal: 1.5}]",
    "data.train.transforms=[{type: RandomFlip, horizontal: .nan}]",
    "data.train.transforms=[{type: RandomCrop, size: [0, 8]}]",
    "data.train.transforms=[{type: Resize}]",
    "data.train.transforms=[{type: ColourJitter, hue: 3}]",
    "data.train.transforms=[{type: RandomChoice, choices: []}]",
    "data.train.transforms={type: RandomFlip}",
    "data.train.transforms=[RandomFlip]",
    "metric={type: CocoMetric, kind: boxes}",
    "metric={type: VocMetric, iou: 0}",
    "metric={type: CocoMetrik}",
    "search.constraints.flops=1",
    "search.constraints.macs=0",
    "search.constraints.macs=many",
    "search.constraints.macs=[1, 2, 3]",
    "search.constraints.macs=['90%', '10%']",
    "search.metric=APP",
    "search.recalibrate_batches=-1",
    "search.max_trials=0",
    "search.searcher={type: EvolutionSearcher, population_size: 0}",
    "search.searcher={type: EvolutionSearcher, max_rounds: -1}",
    "search.searcher={type: EvolutionSearcher, mutation_prob: 2}",
    "search.searcher={type: RandomSearcher, max_trials: 0}",
    "prune={budget: {}, rounds: 0}",
    "prune={budget: {macs: 50%}, min_keep: 2}",
    "prune={budget: {macs: 50%}, round_to: 0}",
    "prune={budget: {flops: 50%}}",
    "mutator=null",
    "mutator.placeholder_mapping=null",
    "mutator.placeholder_mapping.all_blocks.choices=null",
    "mutator.placeholder_mapping.all_blocks.choices={a.b: {type: ShuffleBlock}}",
    "mutator.placeholder_mapping.all_blocks.choices={a: {type: ShuffleBlock, kernel_size: 4}}",
    "mutator.placeholder_mapping.all_blocks.choices={a: {type: Skip}}",
    "mutator.placeholder_mapping.none={choices: {a: {type: Skip}}}",
    "load_from=none.pt",
    'load_from="a\\0b"',
    "subnet=none.yaml",
    "distiller={teacher: {config: none, checkpoint: none.pt}, pairs: []}",
    "distiller={teacher: {config: demo/subnet, checkpoint: none.pt}, pairs: [{student: neck, "
    "loss: {type: PKD}, weight: -1}]}",
    "distiller={teacher: {config: demo/subnet, checkpoint: none.pt}, pairs: [{student: neck, "
    "loss: {type: SigmoidKL, tau: 0}}]}",
    "device=tpu",
    "custom_imports=os",
    # no values at all
    "seed",
    "=1",
    "seed.x=1",
    "model.type.x=1",
    "model",
    "model=null",
    "model=FCOS",
    "model=[FCOS]",
    "model={type: null}",
    "model={type: 3}",
    f"{NECK}.type=FPNN",
    f"{NECK}.out_chanels=16",
    "modle.type=FCOS",
    "data.train.transforms.0.size.7=1",
    "data.train.transforms.first=1",
    "seed=!!python/object/apply:os.system [exit]",
    "seed=[1",
    "seed={a: 1, a: 2}",
    "seed=*a",
    "seed=" + "[" * 100,
]


def complaints(capsys, *words: object) -> list[str]:
    """Return the lines of standard error of a command that must end with code 2."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 2
    message = capsys.readouterr().err.strip().split("\n")
    assert message[0].startswith("error: ")
    assert not any("Traceback" in line or len(line) > 700 for line in message)
    return [message[0].removeprefix("error: "), *message[1:]]


@pytest.fixture(scope="module")
def sound(module_path):
    tree = detector({"train": copy.deepcopy(TRAIN)})
    return write(tree, module_path)


@pytest.mark.parametrize("override", OVERRIDES)
def test_by_hand(sound, override, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (line, *more) = complaints(capsys, "config", "check", sound, "--set", override)
    assert not more
    assert line.startswith(("--set ", str(sound))), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "override",
    [
        "train.best_metric=APP",
        f"{HEAD}.in_channels=17",
        "seed=-1",
        "data.holdout=0",
        f"{HEAD}.strides=[16, 32]",
    ],
)
def test_training_refuses_it_before_anything_is_made(sound, override, capsys, tmp_path):
    words = ["train", sound, "--work-dir", tmp_path / "run", "--set", override]
    (_,) = complaints(capsys, *words)
    assert not (tmp_path / "run").exists()


def _places(tree: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield (path of the block, key, value) of every entry of nested blocks."""
    for key, value in tree.items():
        yield path, key, value
        if isinstance(value, dict) and "." not in key:
            yield from _places(value, f"{path}.{key}" if path else key)


def _mutants(name: str) -> Iterator[tuple[str, str]]:
    """Yield (kind of mistake, override) for a sample of a shipped configuration's entries."""
    tree = load(name, imports=False).tree
    entries = [entry for entry in _places(tree) if "placeholder_mapping" not in entry[0]]
    step = max(1, len(entries) // 3)
    for path, key, value in entries[len(name) % step :: step]:
        where = f"{path}.{key}" if path else key
        if "choices" in where or "patterns" in where or "constraints" in where:
            continue
        yield "misspelt", f"{where}q=1"
        yield "wrong kind", f"{where}={'{zz: 1}' if not isinstance(value, dict) else '[7, x]'}"


SHIPPED = [
    (name, kind, override)
    for name in sorted(map(shipped.name, shipped.configs()))
    for kind, override in _mutants(name)
]


@pytest.mark.parametrize(("name", "kind", "override"), SHIPPED)
def test_shipped_ones_with_a_mistake(name, kind, override, capsys):
    words = ["config", "check", name, "--set", override]
    lines = complaints(capsys, *words)
    assert any(override.partition("=")[0] in line for line in lines), lines
    assert all(re.match(r"--set |\S+\.yaml(:\d+)?: |\.\.\. and", line) for line in lines), lines


@pytest.mark.parametrize("name", sorted(map(shipped.name, shipped.configs())))
def test_shipped_ones_without_their_model(name, capsys):
    (line,) = complaints(capsys, "config", "check", name, "--set", "model=null")
    assert line.endswith("needs 'model'")


def test_there_are_enough():
    assert len(OVERRIDES) >= 160
    assert len(SHIPPED) >= 200
