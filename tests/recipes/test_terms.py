"""Distillation from configurations: terms and teachers of one's own, supernets, pruning."""

from types import SimpleNamespace

import pytest
import torch

from razorlite import recipes
from razorlite.core.errors import ConfigError
from razorlite.data import Preprocess
from razorlite.engine.checkpoint import read_checkpoint, read_state_dict
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.recipes import building
from razorlite.recipes.building import build
from razorlite.recipes.checking import check_config
from razorlite.recipes.experiment import read
from razorlite.recipes.splits import Splits
from razorlite.recipes.steps import build_step
from razorlite.recipes.teaching import build_distiller
from tests.distill.own_terms import Elsewhere
from tests.recipes.own_steps import stop_and_resume
from tests.recipes.runs import last, lines, write
from tests.recipes.test_checking import faults, supernet
from tests.recipes.test_classes import plain, shapes
from tests.recipes.test_teaching import loader

OWN = "tests.distill.own_terms"
TRAIN = {"max_steps": 3, "log_every": 1, "save_every": 1}
TRAIN |= {"optimizer": {"type": "AdamW", "lr": 1e-3}}
WATCHED = {"train": shapes(4), "val": shapes(4)}
PAIR = {"student": "neck", "loss": {"type": "AttentionTransfer"}}


@pytest.fixture(scope="module")
def teacher(module_path):
    """A `teacher` block: the plain detector with weights of its own."""
    config = write(plain(data={"train": shapes(4)}), module_path)
    torch.manual_seed(5)
    save_checkpoint(
        module_path / "teacher.pt", {"model": build(read(config)[1]).model.state_dict()}
    )
    return {"config": str(config), "checkpoint": str(module_path / "teacher.pt")}


def student(**more):
    return plain(**{"data": {"train": shapes(4)}, "train": TRAIN, **more})


def test_a_term_of_ones_own_is_trained_and_resumed_exactly(teacher, tmp_path):
    term = {"type": f"{OWN}.AssignedLogits", "weight": 2.0, "ramp": True}
    block = {"teacher": teacher, "terms": [term], "pairs": [PAIR]}
    stopping = {"type": "tests.recipes.own_steps.LearntFactor", "start": 1.0}
    config = write(student(distiller=block, step=[{"type": "DistilledStep"}, stopping]), tmp_path)
    stop_and_resume(config, tmp_path)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    found = [line for line in lines(tmp_path / "run") if line["kind"] == "train"]
    assert [line["step"] for line in found] == [1, 2, 3]
    assert all(line["distill_assigned.logits"] > 0 for line in found)
    state = last(tmp_path / "run")
    assert set(state["step"]["terms"]) == {"1.factor", "1.objects"}
    assert state["step"]["terms"]["1.factor"].item() != 1.0
    assert state["step"]["terms"]["1.objects"] > 0
    names = set(build(read(config)[1]).model.state_dict())
    assert set(read_state_dict(tmp_path / "run/checkpoints/last.pt")) == names


def test_a_teacher_may_be_any_module_with_its_own_preprocessing(tmp_path):
    torch.manual_seed(3)
    weights = Elsewhere(stride=8).state_dict()
    save_checkpoint(tmp_path / "elsewhere.pt", {"model": weights})
    own = {"mean": [0.0, 0.0, 0.0], "std": [255.0, 255.0, 255.0]}
    module = {"model": {"type": f"{OWN}.Elsewhere", "stride": 8}, "preprocess": own}
    block = {
        "teacher": {**module, "checkpoint": str(tmp_path / "elsewhere.pt")},
        "terms": [{"type": f"{OWN}.MatchMaps"}],
    }
    config = write(student(distiller=block), tmp_path)
    assert check_config(config, imports=True) == []
    experiment = read(config)[1]
    model = experiment.model()
    distiller = build_distiller(
        experiment, model, ("circle", "square", "triangle"), torch.device("cpu")
    )
    assert torch.equal(distiller.teacher.encode.weight, weights["encode.weight"])
    seen = []
    distiller.teacher.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    [batch], [theirs] = loader(Preprocess()), loader(Preprocess(**own))
    distiller.teach(batch)
    assert torch.equal(seen[0], theirs.images)
    assert one_step(config)[2]["distill_MatchMaps"] > 0


def test_a_detector_of_torchvision_teaches():
    kind = "torchvision.models.detection.ssdlite320_mobilenet_v3_large"
    pixels = {"mean": [0.0, 0.0, 0.0], "std": [255.0, 255.0, 255.0]}  # it normalises by itself
    module = {"type": kind, "weights_backbone": None, "num_classes": 4}
    pairs = [{**PAIR, "student": "neck[0]", "teacher": "backbone[0]", "resize": True}]
    block = {"teacher": {"model": module, "preprocess": pixels}, "pairs": pairs}
    step, _, metrics = one_step(student(distiller=block))
    assert metrics["distill_neck[0]"] > 0
    assert type(step.distiller.teacher).__name__ == "SSD"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{}", "distiller.teacher: takes one of config and model"),
        ("{config: a.yaml}", "needs 'checkpoint'"),
        ("{config: a.yaml, checkpoint: a.pt, model: {type: ResNet, depth: 18}}", "takes one of"),
        ("{model: {type: ResNet, depth: 18}, subnet: a.yaml}", "goes with a configuration only"),
        ("{config: a.yaml, checkpoint: a.pt, preprocess: {}}", "goes with a module only"),
        ("{model: {type: ResNet, depth: 18}, checkpoint: none.pt}", "no file 'none.pt'"),
        ("smallest_path", "largest_path"),
    ],
)
def test_wrong_teachers_are_refused(block, message):
    pairs = "pairs: [{student: neck, loss: {type: PKD}}]"
    [line] = faults(student(), f"distiller={{teacher: {block}, {pairs}}}")
    assert message in line


def test_the_check_finds_terms_that_record_what_is_not_there():
    model = {"model": {"type": f"{OWN}.Elsewhere"}}
    term = {"type": f"{OWN}.AssignedLogits", "head": "bbox_haed"}
    tree = student(distiller={"teacher": model, "terms": [term]})
    with pytest.raises(
        ConfigError, match="distiller: the teacher Elsewhere has no module 'bbox_haed'"
    ):
        check_config(tree, imports=True)
    with pytest.raises(ConfigError, match=r"distiller.pairs: is empty; name a recipe, or at"):
        check_config(student(distiller={"teacher": model}), imports=True)


def test_pairs_are_compared_on_shapes_to_the_end(teacher):
    pairs = [{**PAIR, "loss": {"type": kind}} for kind in ("PKD", "FeatureMSE", "SigmoidKL")]
    assert check_config(student(distiller={"teacher": teacher, "pairs": pairs})) == []


STEPS = [{"type": "DistilledStep"}, {"type": "SandwichStep", "random_paths": 1}]


def one_step(tree):
    """Build what an experiment trains, take one step of it, return step, model and metrics."""
    experiment = read(tree)[1]
    built, device = build(experiment), torch.device("cpu")
    splits = Splits(experiment, device)
    step = build_step(
        experiment,
        built,
        lambda: build_distiller(experiment, built.model, splits.classes, device),
    )
    batch = next(iter(splits.train_loader()))
    metrics = step(built.model.train(), batch, lambda loss: loss.backward())
    return step, built.model, {name: float(value) for name, value in metrics.items()}


def test_a_supernet_whose_largest_path_teaches_the_others():
    logits = {"student": "bbox_head.conv_cls", "loss": {"type": "SigmoidKL"}, "join": True}
    block = {"teacher": "largest_path", "pairs": [logits], "task_weight": 0.0}
    step, model, metrics = one_step(supernet(distiller=block, step=STEPS))
    own = metrics["loss_cls"] + metrics["loss_bbox"] + metrics["loss_centerness"]
    extra = metrics["distill_bbox_head.conv_cls"]
    assert extra > 0
    assert metrics["loss"] == pytest.approx(own + extra, rel=1e-5)
    space, paths = step.base_step.space, step.base_step.paths
    assert len({tuple(path.choices.values()) for path in paths}) == 3
    on_paths = set()
    for path in paths:
        space.select(path)
        on_paths |= set(space.active_parameters())
    # boxes of the smaller paths learn nothing, the largest path's own losses reach all of its parts
    assert {p for p in model.parameters() if p.grad is not None} <= on_paths
    assert model.bbox_head.conv_reg.weight.grad is not None


@pytest.mark.parametrize("taught_by", ["largest_path", "teacher"])
def test_the_check_compares_all_forms_of_a_supernet(taught_by, request, monkeypatch):
    monkeypatch.setattr(building, "tabulate", _ends)  # counting takes seconds
    widths = {"type": "ChannelWidths", "shares": [0.5], "round_to": 4, "ignore": ["backbone.*"]}
    pair = {"student": "neck", "loss": {"type": "ChannelWiseDivergence"}}
    block = {"teacher": taught_by, "pairs": [pair]}
    if taught_by == "teacher":
        block["teacher"] = request.getfixturevalue("teacher")
    tree = student(distiller=block, step=STEPS, mutator=widths)
    [line] = faults(tree)
    assert "the student has 8 channels, the teacher 16 in some of the supernet's forms" in line
    if taught_by == "largest_path":
        widths["ignore"] += ["neck.*"]
        assert all("batch_size" in remark for remark in check_config(tree))


def _ends(space, shape):
    largest, smallest = (space.decode(point) for point in (space.counts - 1, 0 * space.counts))
    return SimpleNamespace(largest=lambda: largest, smallest=lambda: smallest)


def test_a_supernet_learns_from_a_teacher(teacher):
    block = {"teacher": teacher, "pairs": [{**PAIR, "resize": True}]}
    step, model, metrics = one_step(supernet(distiller=block))
    assert metrics["distill_neck"] > 0
    own = metrics["loss_cls"] + metrics["loss_bbox"] + metrics["loss_centerness"]
    assert metrics["loss"] == pytest.approx(own + metrics["distill_neck"], rel=1e-5)
    active = set(step.base_step.space.active_parameters())
    trained = {p for p in model.parameters() if p.grad is not None}
    assert trained <= active


@pytest.mark.parametrize(
    "step", ["null", "[{type: DistilledStep}]", "[{type: SandwichStep}, {type: DistilledStep}]"]
)
def test_a_largest_path_without_others_is_refused(step):
    tree = supernet(distiller={"teacher": "largest_path", "pairs": [PAIR]})
    message = faults(tree, f"step={step}")[-1]
    assert "{type: SandwichStep}" in message


def test_what_pruning_left_learns_from_the_whole_model(teacher, tmp_path, caplog):
    block = {"teacher": teacher, "pairs": [PAIR]}
    more = {"prune": {"budget": {"macs": "80%"}, "round_to": 2}, "train": {**TRAIN, "max_steps": 1}}
    config = write(student(distiller=block, data=WATCHED, **more), tmp_path)
    with caplog.at_level("INFO"):
        recipes.prune(config, teacher["checkpoint"], tmp_path / "run")
    assert [text for text in caplog.messages if text.startswith("scored the teacher")]
    assert [text for text in caplog.messages if "on val, its student" in text]
    found = [line for line in lines(tmp_path / "run") if line["kind"] == "train"]
    assert len(found) == 1
    assert all(line["distill_neck"] > 0 for line in found)
    slim = read_checkpoint(tmp_path / "run/checkpoints/last.pt")["model"]
    whole = read_checkpoint(teacher["checkpoint"])["model"]
    assert slim.keys() == whole.keys()
    assert sum(t.numel() for t in slim.values()) < sum(t.numel() for t in whole.values())
