"""DETR3D goes through the commands: trained, resumed, counted, pruned, distilled, exported."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import razorlite
from projects.detr3d.convert import convert_file, converted
from projects.detr3d.detector import DETR3D
from projects.detr3d.distilling import QueryDistillation
from projects.detr3d.export import compare, export_onnx
from projects.detr3d.timing import timings
from razorlite import recipes
from razorlite.core.errors import CheckpointError
from razorlite.distill import Scene
from razorlite.prune import Channels
from razorlite.recipes.experiment import load_config
from razorlite.space import Subnet
from razorlite.structures import Batch
from tests.engine.toys import assert_same
from tests.projects.detr3d_toys import SHAPE, inputs_of, objects_of, tiny, write_frames
from tests.recipes.runs import last, lines, write

CONFIGS = "projects/detr3d/configs"
MODEL = {
    "type": "DETR3D",
    "img_backbone": {"type": "tests.projects.detr3d_toys.TinyBackbone"},
    "img_neck": {"type": "FPN", "in_channels": [8, 16], "out_channels": 16, "num_outs": 2},
    "pts_bbox_head": {
        "type": "DETR3DHead", "num_classes": 10, "num_query": 12, "num_layers": 2, "embed_dims": 16,
        "num_heads": 2, "feedforward_channels": 16, "num_levels": 2,
    },
    "grid_mask": {"type": "GridMask"},
}  # fmt: skip


def config(frames, **more):
    dataset = {"type": "NuScenesDataset", "annotations": str(frames)}
    resize = {"type": "ResizeViews", "size": list(SHAPE)}
    training = [{"type": "PhotometricDistortion"}, resize, {"type": "KeepObjects"}]
    train = {"max_steps": 6, "optimizer": {"type": "AdamW", "lr": 1e-3}, "log_every": 1}
    return {
        "custom_imports": ["projects.detr3d"],
        "model": MODEL,
        "data": {
            "train": {"dataset": dataset, "batch_size": 1, "transforms": training},
            "val": {"dataset": dataset, "batch_size": 2, "transforms": [resize]},
            "test": {"dataset": dataset, "batch_size": 2, "transforms": [resize]},
            "channels": "bgr",
        },
        "metric": {"type": "NuScenesMetric"},
        "train": {**train, "save_every": 2, "eval_every": 3, "best_metric": "NDS"},
        "shape": list(SHAPE),
        "device": "cpu",
        **more,
    }


@pytest.fixture(scope="module")
def trained(module_path):
    """Frames, a configuration and the folder of its run."""
    frames = write_frames(module_path, count=3)
    path = write(config(frames), module_path)
    recipes.train(path, module_path / "run")
    return frames, path, module_path / "run"


@pytest.mark.slow
def test_training_evaluates_by_name_and_resumes_exactly(trained, tmp_path, monkeypatch):
    _, path, whole = trained
    evaluated = [line for line in lines(whole) if line["kind"] == "eval"]
    assert [line["step"] for line in evaluated] == [3, 6]
    assert {"NDS", "mAP", "mAVE", "AP/car"} <= evaluated[0].keys()
    calls, loss = [], DETR3D.loss

    def failing(model, inputs, targets):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("as if the power had failed")
        return loss(model, inputs, targets)

    monkeypatch.setattr(DETR3D, "loss", failing)
    with pytest.raises(RuntimeError, match="power"):
        recipes.train(path, tmp_path / "run")
    recipes.train(path, tmp_path / "run", resume=True)
    assert_same(last(tmp_path / "run"), last(whole))
    assert lines(tmp_path / "run") == lines(whole)


def test_the_check_builds_all_of_it(tmp_path):
    path = write(config(write_frames(tmp_path)), tmp_path)
    assert recipes.check_config(path, imports=True) == []


@pytest.mark.slow
def test_results_are_written_for_submission(trained, tmp_path):
    _, path, folder = trained
    out = {"metric.submission": str(tmp_path / "results.json")}
    recipes.test(path, folder / "checkpoints/last.pt", overrides=out, as_json=True)
    content = json.loads((tmp_path / "results.json").read_text())
    assert set(content["results"]) == {"frame-0", "frame-1", "frame-2"}
    assert all(len(boxes) == 120 for boxes in content["results"].values())


def test_all_layers_are_counted_by_hand(tmp_path):
    queries, layers, dims = 12, 2, 16
    square = dims * dims
    each = 4 * square + 2 * queries * dims  # self-attention
    each += dims * 12 + square + 3 * dims + square  # cameras: weights, output, positions
    each += 2 * dims * 16  # feed-forward
    each += 2 * square + 10 * dims + 2 * square + 10 * dims  # classes and codes
    head = queries * (layers * each + 3 * dims)
    known = recipes.cost(write(config("frames.json"), tmp_path), as_json=True)
    maps = 6 * (8 * 27 * 128 + 2 * 64 * 9 * 128 + 8 * 16 * 9 * 32)  # stem, blocks
    maps += 6 * (8 * 16 * 128 + 16 * 16 * 32 + 16 * 16 * 9 * (128 + 32))  # pyramid
    assert known["macs"] == maps + head


@pytest.mark.slow
def test_pruning_reaches_half_and_the_slim_model_trains_on(trained, tmp_path):
    frames, _, folder = trained
    slim = {"prune": {"budget": {"macs": "50%"}, "round_to": 2}}
    train = {**config(frames)["train"], "max_steps": 2}
    path = write(config(frames, **slim, train=train), tmp_path)
    recipes.prune(path, folder / "checkpoints/last.pt", tmp_path / "slim")
    before = recipes.cost(path, as_json=True)["macs"]
    after = recipes.cost(path, tmp_path / "slim/subnet.yaml", as_json=True)["macs"]
    assert after <= 0.5 * before


@pytest.mark.slow
def test_zeroed_channels_prune_for_free():
    model = tiny().eval()
    channels = Channels(model, SHAPE)
    made = {group.name: group for group in channels.graph.prunable}
    assert {"img_backbone.stem", "img_neck.fpn_convs.0.conv"} <= made.keys()
    assert any(".ffns." in name for name in made)
    kept = {name: tuple(range(group.size // 2)) for name, group in made.items()}
    subnet = Subnet(channels=kept)
    zeroed, inputs = channels.masked(subnet), inputs_of()
    for got, expected in zip(channels.slim(subnet)(inputs), zeroed(inputs), strict=True):
        assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_features_and_queries_are_distilled(trained, tmp_path):
    frames, path, folder = trained
    teacher = {"config": str(path), "checkpoint": str(folder / "checkpoints/last.pt")}
    pairs = [{"student": "img_neck", "loss": {"type": "ChannelWiseDivergence"}}]
    terms = [{"type": "QueryDistillation", "best": 5}]
    block = {"distiller": {"teacher": teacher, "pairs": pairs, "terms": terms}}
    small = {**MODEL, "pts_bbox_head": {**MODEL["pts_bbox_head"], "num_layers": 1, "num_query": 8}}
    train = {**config(frames)["train"], "max_steps": 2}
    student = write(config(frames, model=small, train=train, **block), tmp_path)
    recipes.train(student, tmp_path / "run")
    names = [name for name in lines(tmp_path / "run")[0] if name.startswith("distill")]
    assert {"distill_img_neck", "distill_queries"} <= {n.split(".")[0] for n in names}


class _Side:
    def __init__(self, logits, codes):
        self.found = logits[None, None], codes[None, None]

    def raw(self, head):
        return self.found


def test_a_students_queries_learn_those_they_are_nearest_to():
    term = QueryDistillation(best=2)
    known = torch.tensor([[4.0, -4], [-4, 3], [-9, -9]])
    codes = torch.zeros(3, 10)
    codes[:, 0] = torch.tensor([1.0, 20, 50])
    order = [2, 0, 1]
    scene = Scene(None, _Side(known[order], codes[order]), _Side(known, codes))
    losses = term(scene)
    assert float(losses["boxes"]) == 0  # whatever their numbers
    moved = codes.clone()
    moved[0, 0] += 2  # metres, of the query with the share s of the scores
    scene = Scene(None, _Side(known, moved), _Side(known, codes))
    scores = known.sigmoid().amax(1)[:2]
    assert float(term(scene)["boxes"]) == pytest.approx(0.25 * 2 * float(scores[0] / scores.sum()))


class TestCheckpoints:
    def test_original_weights_give_the_same_boxes(self):
        # the original gives (cx, cy, w, l, cz, h, sin, cos) with yaw' = -yaw - pi / 2
        weight, x = torch.randn(10, 4), torch.randn(4)
        old = weight @ x
        state = {"pts_bbox_head.reg_branches.0.4.weight": weight, "other": weight}
        new = converted(state)["pts_bbox_head.reg_branches.0.4.weight"] @ x
        assert_close(new[[3, 2]], old[[2, 3]])
        yaw = torch.atan2(new[6], new[7])
        assert_close(torch.sin(-yaw - torch.pi / 2), old[6] / old[6:8].norm())
        assert_close(torch.cos(-yaw - torch.pi / 2), old[7] / old[6:8].norm())
        assert_close(new[[0, 1, 4, 5, 8, 9]], old[[0, 1, 4, 5, 8, 9]])
        assert torch.equal(converted(state)["other"], weight)

    def test_a_file_is_converted_once_and_loads(self, tmp_path):
        model, other = tiny(), tiny()
        old, new = tmp_path / "old.pth", tmp_path / "new.pth"
        torch.save({"state_dict": model.state_dict(), "meta": {}}, old)
        convert_file(old, new)
        other.load_state_dict(torch.load(new, weights_only=True)["state_dict"])
        name = "reg_branches.1.4.bias"
        before, after = (m.pts_bbox_head.get_parameter(name) for m in (model, other))
        assert_close(
            after[[2, 3, 6, 7]], torch.stack([before[3], before[2], -before[7], -before[6]])
        )
        with pytest.raises(CheckpointError, match="converted already"):
            convert_file(new, tmp_path / "twice.pth")

    def test_other_files_are_told(self):
        with pytest.raises(CheckpointError, match=r"no DETR3D: expected layers reg_branches\.N\.4"):
            converted({"fc.weight": torch.zeros(1)})


@pytest.mark.slow
def test_exported_file_finds_the_same(tmp_path):
    model, inputs = tiny(), inputs_of()
    model.loss(inputs, [objects_of()])  # moves the norms' statistics
    path = export_onnx(model.eval(), tmp_path / "detr3d.onnx", SHAPE)
    found = compare(model, path, inputs)
    assert found.count > 50
    assert found.boxes < 1e-3
    assert found.scores < 1e-4


def test_predictions_are_sorted_and_bounded():
    model, inputs = tiny(max_per_frame=7).eval(), inputs_of(2)
    first, second = model.predict(Batch(inputs))
    assert len(first) == len(second) == 7
    assert (first.scores.diff() <= 0).all()
    nowhere = tiny(reported=(200.0, 200, 0, 300, 300, 1)).eval()
    assert [len(found) for found in nowhere.predict(Batch(inputs))] == [0, 0]


def test_a_frame_without_objects_is_learnt_from():
    losses = tiny().loss(inputs_of(), [objects_of(0)])
    assert losses["loss_bbox"].item() == 0
    assert losses["loss_cls"].item() > 0


@pytest.mark.slow
def test_queries_layers_blocks_sizes_and_widths_are_searched(tmp_path):
    frames = write_frames(tmp_path, count=4)
    searcher = {"type": "EvolutionSearcher", "population_size": 3, "max_rounds": 1}
    searcher |= {"num_mutation": 1, "num_crossover": 1}
    search = {"searcher": searcher, "constraints": {"macs": "60%"}, "metric": "NDS"}
    search |= {"recalibrate_batches": 1, "allow_test_split": True, "retraining": None}
    space = {"type": "ElasticDETR3D", "queries": [12, 6], "decoder_layers": [2, 1]}
    space |= {"blocks": {"layer1": [2, 1]}, "image_scales": [1.0, 0.5]}
    widths = {"type": "ChannelWidths", "round_to": 2, "shares": [0.5]}
    train = {"max_steps": 2, "optimizer": {"type": "AdamW", "lr": 1e-3}}
    path = write(config(frames, mutator=[space, widths], search=search, train=train), tmp_path)
    recipes.train(path, tmp_path / "supernet")
    weights = tmp_path / "supernet/checkpoints/last.pt"
    found = recipes.search(path, weights, tmp_path / "search")
    assert {"queries", "decoder_layers", "layer1.blocks", "image_scale"} < found.choices.keys()
    assert {
        "img_neck.lateral_convs.0.conv.width",
        "img_backbone.layer2.0.0.width",
    } < found.choices.keys()
    chosen = recipes.test(path, weights, tmp_path / "search/subnet.yaml", as_json=True)
    whole = recipes.cost(config(frames), as_json=True)["macs"]
    assert chosen["macs"] <= 0.6 * whole


def test_nothing_in_razorlite_knows_of_projects():
    package = Path(razorlite.__file__).parent
    sources = (path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    assert not any("detr3d" in source.lower() or "projects." in source for source in sources)


@pytest.mark.parametrize(
    "name",
    [
        "detr3d_r101_gridmask",
        "detr3d_r50_light",
        "detr3d_r50_search",
        "detr3d_r18_keyframe",
        "detr3d_r18_keyframe_fewer_queries",
        "detr3d_r18_keyframe_pruned",
    ],
)
def test_configurations_are_right(name):
    load_config(f"{CONFIGS}/{name}.yaml")


def test_parts_are_timed():
    found = timings(tiny(), SHAPE, rounds=1)
    assert [name for name in found if name.startswith("inference")] == [
        f"inference: {part}" for part in ("backbone", "neck", "head", "decoding")
    ]
    assert {"step: backward", "step: matching and losses"} <= found.keys()
    assert all(seconds >= 0 for seconds in found.values())
