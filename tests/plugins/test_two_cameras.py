"""A task outside razorlite/ goes through every command: two cameras, matrices, its own metric."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from razorlite import recipes
from razorlite.core import distributed
from razorlite.core.errors import CheckpointError, ConfigError, DataError
from razorlite.data import Preprocess, build_loader
from razorlite.data.preprocess import Renormalise
from razorlite.deploy import Deployed
from razorlite.prune import Channels
from razorlite.recipes.classes import compare
from razorlite.structures import Batch, packed
from tests.engine.toys import assert_same
from tests.plugins.two_cameras import (
    SIZE,
    CenterPrecision,
    CubeFinder,
    Cubes,
    CubesDataset,
    FoundCubes,
    MirrorWorld,
    ShrinkBoth,
    cameras,
    project,
)
from tests.recipes.runs import last, lines, ranks, write

HERE = "tests.plugins.two_cameras"


def split(scenes, seed, **more):
    dataset = {"type": f"{HERE}.CubesDataset", "scenes": scenes, "seed": seed}
    return {"dataset": dataset, "batch_size": 4, **more}


def config(**more):
    train = {"max_steps": 8, "optimizer": {"type": "AdamW", "lr": 3e-3}, "log_every": 1}
    transforms = [{"type": f"{HERE}.MirrorWorld"}, {"type": f"{HERE}.ShrinkBoth", "size": [16, 32]}]
    shrunk = [transforms[1]]
    return {
        "custom_imports": [HERE],
        "model": {"type": f"{HERE}.CubeFinder", "num_classes": 2, "width": 8},
        "data": {
            "train": split(14, 0, transforms=transforms),
            "val": split(6, 1, transforms=shrunk),
            "test": split(6, 2, transforms=shrunk),
            "pad_multiple": 1,
        },
        "metric": {"type": "CenterPrecision"},
        "train": {**train, "save_every": 3, "eval_every": 4, "ema": {"decay": 0.9}},
        "shape": [16, 32],
        "device": "cpu",
        **more,
    }


@pytest.fixture(scope="module")
def trained(module_path):
    """A configuration and the folder of its run."""
    path = write(config(), module_path)
    recipes.train(path, module_path / "run")
    return path, module_path / "run"


def scene(index=1):
    return CubesDataset(scenes=4)[index]


def seen(inputs, cubes):
    """Return where the centres lie in both images, (2, N, 2) pixels."""
    u, v, depth = project(inputs["projections"], cubes.centers).unbind(1)
    return torch.stack([u / depth, v / depth], dim=-1)


def test_cameras_see_a_cube_where_it_is_drawn():
    inputs, cubes = scene(0)
    for image, place in zip(inputs["images"], seen(inputs, cubes)[:, 0], strict=True):
        x, y = place.int().tolist()
        shade = image[:, y, x].tolist()
        assert shade == ([220, 60, 60] if int(cubes.labels[0]) == 0 else [60, 200, 60])


def test_transforms_move_images_and_cameras_in_step():
    inputs, cubes = scene()
    mirrored, other = MirrorWorld(prob=1.0)(inputs, cubes)
    assert torch.equal(mirrored["images"], inputs["images"].flip(-1))
    # a pixel at u is at 64 - u in the mirror, and the world's x points the other way
    expected = seen(inputs, cubes) * torch.tensor([-1, 1]) + torch.tensor([64, 0])
    assert_close(seen(mirrored, other), expected)
    assert_close(other.original().centers, cubes.centers)
    small, same = ShrinkBoth(size=(16, 16))(inputs, cubes)
    assert small["images"].shape == (2, 3, 16, 16)
    assert_close(seen(small, same), seen(inputs, cubes) * torch.tensor([16 / 64, 16 / 32]))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_hold_images_of_all_cameras_and_their_matrices(workers):
    rule = Preprocess(mean=(100, 50, 20), std=(10, 20, 40), pad_multiple=24, channels="bgr")
    loader = build_loader(
        CubesDataset(scenes=3),
        transforms=[],
        batch_size=2,
        num_workers=workers,
        preprocess=rule,
        training=False,
    )
    batch, rest = loader
    loader.close()
    assert (len(batch), len(rest)) == (2, 1)
    assert batch.inputs["images"].shape == (2, 2, 3, 48, 72)
    assert batch.image_sizes() == [SIZE, SIZE]
    assert torch.equal(batch.inputs["projections"], cameras().expand(2, 2, 3, 4))
    pixels = scene(1)[0]["images"].float().flip(1)  # blue first, so the mean of blue is the first
    expected = (pixels - torch.tensor([100.0, 50, 20]).view(3, 1, 1)) / torch.tensor(
        [10.0, 20, 40]
    ).view(3, 1, 1)
    assert_close(batch.inputs["images"][1, :, :, :32, :64], expected)
    assert not batch.inputs["images"][:, :, :, 32:].any()
    assert not batch.inputs["images"][..., 64:].any()
    assert [target.token for target in batch.targets] == ["scene-0-0", "scene-0-1"]
    assert all(isinstance(target, Cubes) for target in batch.targets)
    maps = batch.inputs["images"].flatten(0, 1)  # a view, laid out as convolutions like it
    assert maps.data_ptr() == batch.inputs["images"].data_ptr()
    assert maps.is_contiguous(memory_format=torch.channels_last)


def test_samples_that_do_not_fit_together_are_told():
    class Odd(CubesDataset):
        def __getitem__(self, index):
            inputs, cubes = super().__getitem__(index)
            return {**inputs, "projections": inputs["projections"][: 1 + index]}, cubes

    with pytest.raises(DataError, match=r"'projections' of the shapes \(1, 3, 4\), \(2, 3, 4\)"):
        next(iter(build_loader(Odd(scenes=2), training=False)))


def test_a_teacher_of_other_preprocessing_sees_its_own_images_and_the_same_matrices():
    own, other = Preprocess(), Preprocess(mean=(0, 0, 0), std=(255, 255, 255), channels="bgr")

    def batch(rule):
        return next(iter(build_loader(CubesDataset(scenes=2), preprocess=rule, training=False)))

    view = Renormalise(own, other, "cpu")(batch(own).inputs, [SIZE] * 2)
    assert_same(view, batch(other).inputs)


def test_training_evaluates_by_the_names_of_the_classes(trained):
    path, folder = trained
    evaluated = [line for line in lines(folder) if line["kind"] == "eval"]
    assert [line["step"] for line in evaluated] == [4, 8]
    metrics = recipes.test(path, folder / "checkpoints/last.pt", as_json=True)
    assert set(metrics) == {"mAP", "AP/red", "AP/green", "macs", "params"}
    again = recipes.test(path, folder / "checkpoints/last.pt", as_json=True)
    assert metrics == again


def test_resumed_training_ends_with_the_same_weights(trained, tmp_path, monkeypatch):
    path, whole = trained
    calls, loss = [], CubeFinder.loss

    def failing(model, inputs, targets):
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("as if the power had failed")
        return loss(model, inputs, targets)

    monkeypatch.setattr(CubeFinder, "loss", failing)
    with pytest.raises(RuntimeError, match="power"):
        recipes.train(path, tmp_path / "run")
    recipes.train(path, tmp_path / "run", resume=True)
    assert 6 < len(calls) < 6 + 8  # not from the beginning
    assert_same(last(tmp_path / "run"), last(whole))
    assert lines(tmp_path / "run") == lines(whole)


def test_cost_counts_both_cameras_by_hand(trained):
    # of 32 x 64 images: 3 -> 16 -> 16 -> 32 channels at 16 x 32, 8 x 16 and 8 x 16
    convolutions = 16 * 27 * 512 + 16 * 144 * 128 + 32 * 144 * 128
    points = 9 * 7
    linear = points * (35 * 64 + 64 * 2 + 64 * 3)
    known = recipes.cost(trained[0], shape=SIZE, overrides=["model.width=16"], as_json=True)
    assert known["macs"] == 2 * convolutions + 2 * 9 * points + linear
    assert known["params"] == sum(p.numel() for p in CubeFinder(num_classes=2).parameters())


def test_channels_are_followed_from_the_images_through_the_matrices():
    groups = Channels(CubeFinder(num_classes=2, width=8), SIZE).graph.prunable
    makers = {group.name: group.size for group in groups}
    assert makers == {"backbone.0.0": 8, "backbone.1.0": 8, "backbone.2.0": 16, "hidden": 32}
    (looked_up,) = [group for group in groups if group.name == "backbone.2.0"]
    assert ("hidden", "in") in {(member.module, member.side) for member in looked_up.members}


def test_pruning_gives_a_smaller_model_that_trains_on(trained, tmp_path):
    path, folder = trained
    slim = {"prune": {"budget": {"macs": "60%"}, "round_to": 2}}
    path = write(config(**slim, train={**config()["train"], "max_steps": 2}), tmp_path)
    recipes.prune(path, folder / "checkpoints/last.pt", tmp_path / "slim")
    assert last(tmp_path / "slim")["model"]["hidden.weight"].shape[1] < 16 + 3
    before = recipes.cost(path, as_json=True)["macs"]
    after = recipes.cost(path, tmp_path / "slim/subnet.yaml", as_json=True)["macs"]
    assert after <= 0.6 * before


def test_distillation_hands_the_teacher_both_cameras(trained, tmp_path):
    path, folder = trained
    teacher = {"config": str(path), "checkpoint": str(folder / "checkpoints/last.pt")}
    pairs = [{"student": "backbone", "loss": {"type": "ChannelWiseDivergence"}}]
    block = {"distiller": {"teacher": teacher, "pairs": pairs}}
    train = {**config()["train"], "max_steps": 2}
    student = write(config(**block, train=train), tmp_path)
    assert recipes.check_config(student, imports=True) == []
    recipes.train(student, tmp_path / "run")
    assert all(line["distill_backbone"] > 0 for line in lines(tmp_path / "run")[:2])


class TestTheCheck:
    def faults(self, tmp_path, *overrides):
        with pytest.raises(ConfigError) as caught:
            recipes.check_config(write(config(), tmp_path), overrides, imports=True)
        return str(caught.value)

    def test_accepts_the_task(self, tmp_path):
        assert recipes.check_config(write(config(), tmp_path), imports=True) == []

    def test_finds_a_wrong_argument(self, tmp_path):
        assert "did you mean 'width'" in self.faults(tmp_path, "model.widht=4")

    def test_finds_too_few_classes(self, tmp_path):
        assert "2 classes, ['red', 'green']" in self.faults(tmp_path, "model.num_classes=1")

    def test_finds_an_unknown_metric(self, tmp_path):
        found = self.faults(tmp_path, "train.best_metric=mApp")
        assert "train.best_metric" in found
        assert "mAP" in found

    def test_finds_a_model_that_predicts_no_batch(self, tmp_path, monkeypatch):
        monkeypatch.setattr(CubeFinder, "predict", lambda self, images, frames: [])
        found = self.faults(tmp_path)
        assert "model: predict of CubeFinder takes images, frames; it is given one raz" in found
        monkeypatch.delattr(CubeFinder, "predict")
        assert "model: CubeFinder has no predict(batch)" in self.faults(tmp_path)

    def test_finds_transforms_of_one_image(self, tmp_path):
        flip = "data.train.transforms=[{type: RandomFlip, horizontal: 1.0}]"
        found = self.faults(tmp_path, flip, "data.train.batch_size=1")
        assert "data.train: RandomFlip cannot take inputs by name (images, projections)" in found


def test_classes_are_compared_by_name():
    dataset = CubesDataset(scenes=2)
    with pytest.raises(ConfigError, match="tells 1 apart"):
        compare(CubeFinder(num_classes=1), dataset.classes, dataset=dataset)


def test_metric_by_hand():
    metric = CenterPrecision(distance=0.5, classes=["red", "green"])
    centers = torch.tensor([[0.0, 0, 4], [1, 0, 4], [0, 0, 5], [0.2, 0, 4]])
    found = FoundCubes(centers, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 1, 0, 0]))
    truth = Cubes(torch.tensor([[0.0, 0, 4.3], [0, 0, 5.2]]), torch.tensor([0, 0]))
    metric.update([found], [truth])
    # red: hits at rank 1 and 2 of 3, both cubes found: (1/1 + 2/2) / 2; green has none
    assert metric.compute() == {"mAP": 0.5, "AP/red": 1.0, "AP/green": 0.0}


def test_records_of_any_kind_are_gathered_in_the_order_of_one_process(monkeypatch):
    def judged(index):
        _, cubes = scene(index)
        return FoundCubes(cubes.centers, torch.ones(len(cubes.labels)), cubes.labels), cubes

    ranks = [[judged(0), judged(2)], [judged(1)]]
    monkeypatch.setattr(distributed, "is_distributed", lambda: True)

    def gathered(mine):  # what pickles here has no tensor left
        return pickle.loads(pickle.dumps([mine, packed(ranks[1])]))

    monkeypatch.setattr(distributed, "gather_objects", gathered)
    metric = CenterPrecision()
    metric.items = ranks[0]
    metric.gather()
    assert [cubes.token for _, cubes in metric.items] == [f"scene-0-{i}" for i in range(3)]
    assert_same(
        [vars(cubes) | {"found": vars(found)} for found, cubes in metric.items],
        [vars(c) | {"found": vars(f)} for f, c in map(judged, range(3))],
    )


def test_predicting_a_batch_of_one_scene():
    inputs, cubes = scene()
    model = CubeFinder(num_classes=2).eval()
    batch = Batch({k: v[None].float() for k, v in inputs.items()}, [replace(cubes, token="x")])
    (found,) = model.predict(batch)
    assert found.centers.shape == (10, 3)
    assert (found.scores.diff() <= 0).all()


def test_what_wants_single_images_says_so(trained, tmp_path):
    path, folder = trained
    checkpoint = folder / "checkpoints/last.pt"
    with pytest.raises(ConfigError, match="CubeFinder takes images, projections, not single im"):
        recipes.load(path, checkpoint, device="cpu")
    with pytest.raises(ConfigError, match="exported files take one image"):
        Deployed(CubeFinder(num_classes=2), None)
    with pytest.raises(CheckpointError, match=f"needs {HERE}.*a file may not run code"):
        recipes.load(checkpoint)


@pytest.mark.slow
def test_widths_of_the_model_are_searched(tmp_path):
    searcher = {"type": "EvolutionSearcher", "population_size": 4, "max_rounds": 1}
    searcher |= {"num_mutation": 2, "num_crossover": 2}
    search = {"searcher": searcher, "recalibrate_batches": 1, "metric": "mAP"}
    search |= {"constraints": {"macs": "80%"}, "retraining": None}
    widths = {"type": "ChannelWidths", "round_to": 2, "shares": [0.5, 1.0]}
    train = {"max_steps": 4, "optimizer": {"type": "AdamW", "lr": 1e-3}}
    path = write(config(mutator=[widths], search=search, train=train), tmp_path)
    recipes.train(path, tmp_path / "supernet")
    weights = tmp_path / "supernet/checkpoints/last.pt"
    recipes.search(path, weights, tmp_path / "search")
    chosen = recipes.test(path, weights, tmp_path / "search/subnet.yaml", as_json=True)
    assert chosen["macs"] <= 0.8 * recipes.cost(path, as_json=True)["macs"]


@pytest.mark.slow
def test_two_processes_evaluate_what_one_does(tmp_path):
    data = config()["data"]
    path = write(config(data={**data, "test": data["val"]}), tmp_path)
    ranks("train", path, folder=tmp_path / "run")
    together = [line for line in lines(tmp_path / "run") if line["kind"] == "eval"][-1]
    alone = recipes.test(path, tmp_path / "run/checkpoints/last.pt", as_json=True)
    assert {name: together[name] for name in ("mAP", "AP/red", "AP/green")} == pytest.approx(
        {name: alone[name] for name in ("mAP", "AP/red", "AP/green")}
    )


@pytest.mark.slow
def test_it_learns(tmp_path):
    train = {"max_steps": 200, "optimizer": {"type": "AdamW", "lr": 3e-3}}
    train["schedule"] = {"type": "Cosine", "warmup_steps": 10}
    data = {"train": split(160, 0, transforms=[{"type": f"{HERE}.MirrorWorld"}], batch_size=8)}
    data |= {"val": split(40, 1), "test": split(40, 2), "pad_multiple": 1}
    changed = {"data": data, "shape": list(SIZE)}
    changed["metric"] = {"type": "CenterPrecision", "distance": 0.3}
    model = {"type": f"{HERE}.CubeFinder", "num_classes": 2}
    path = write(config(**changed, model=model, train=train), tmp_path)
    untrained = recipes.train(path, tmp_path / "start", ["train.max_steps=1"])["mAP"]
    learnt = recipes.train(path, tmp_path / "run")["mAP"]
    assert learnt > max(0.25, 3 * untrained)
