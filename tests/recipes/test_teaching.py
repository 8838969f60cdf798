"""A teacher has its own preprocessing and its own classes."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from razorlite import recipes
from razorlite.core.errors import ConfigError
from razorlite.data import Preprocess, Resize, ShapesDataset, build_loader
from razorlite.distill import Scene, Side
from razorlite.distill.losses import PKD
from razorlite.engine.checkpoint import read_checkpoint
from razorlite.engine.checkpoint_io import save_checkpoint
from razorlite.recipes import teaching
from razorlite.recipes.checking import check_config
from razorlite.recipes.experiment import read
from razorlite.recipes.teaching import build_distiller
from tests.recipes.runs import split, write
from tests.recipes.test_classes import THREE, TURNED, plain, shapes

CPU = torch.device("cpu")
BGR = {"channels": "bgr", "mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0]}
CAFFE = Preprocess(**BGR, pad_multiple=32)


@pytest.fixture(scope="module")
def teacher(module_path):
    """A teacher's configuration and checkpoint, trained on BGR images of turned classes."""
    config = plain(data={**BGR, "train": shapes(classes=TURNED)})
    recipes.train(config, module_path / "run")
    return write(config, module_path, "teacher.yaml"), module_path / "run/checkpoints/last.pt"


def student(teacher, places=("neck",), **data):
    pairs = [{"student": place, "loss": {"type": "PKD"}} for place in places]
    block = {"teacher": dict(zip(("config", "checkpoint"), map(str, teacher), strict=True))}
    data = {"train": split(8, 0), **data}
    return read(plain(data=data, distiller={**block, "pairs": pairs}))[1]


def made(teacher, classes=THREE, **more):
    experiment = student(teacher, **more)
    return build_distiller(experiment, experiment.model(), classes, CPU)


def loader(preprocess, size=(48, 64)):
    return build_loader(
        ShapesDataset(num_images=4, size=size, seed=1),
        transforms=[Resize(short=[20, 40])],
        batch_size=4,
        preprocess=replace(preprocess, pad_multiple=32),
    )


def test_the_teacher_sees_its_own_images(teacher):
    distiller = made(teacher)
    seen = []
    distiller.teacher.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    [batch], [theirs] = loader(Preprocess()), loader(CAFFE)
    distiller.teach(batch)
    assert torch.equal(seen[0], theirs.images)


def test_a_configuration_gives_the_teacher_its_precision(teacher):
    experiment = student(teacher)
    block = replace(experiment.distiller.teacher, precision="bf16")
    experiment = replace(experiment, distiller=replace(experiment.distiller, teacher=block))
    distiller = build_distiller(experiment, experiment.model(), THREE, CPU)
    seen = []
    distiller.teacher.neck.register_forward_hook(lambda _, __, maps: seen.append(maps[0].dtype))
    [batch] = loader(Preprocess())
    recorded = distiller.teach(batch).taps["neck"]
    assert seen == [torch.bfloat16]
    assert {t.dtype for t in recorded} == {torch.float32}


def test_a_precision_that_there_is_not_is_refused_by_the_check(teacher, tmp_path):
    block = {"config": str(teacher[0]), "checkpoint": str(teacher[1]), "precision": "int8"}
    tree = plain(distiller={"teacher": block, "recipe": "pkd"})
    with pytest.raises(ConfigError, match=r"teacher\.precision.*bf16.*'int8'") as caught:
        check_config(write(tree, tmp_path, "wrong.yaml"))
    assert "\n" not in str(caught.value)


def test_batches_of_labels_tell_their_padding():
    class Labelled(ShapesDataset):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            return image, int(target.labels[0])

    dataset = Labelled(num_images=2, size=(30, 20))
    [batch] = build_loader(dataset, batch_size=2, preprocess=Preprocess(pad_multiple=32))
    assert batch.image_sizes() == [(30, 20)] * 2
    assert batch.to("cpu").image_sizes() == [(30, 20)] * 2


def test_without_a_data_block_the_checkpoint_says_how(teacher, tmp_path):
    tree = plain()
    del tree["data"], tree["train"]
    distiller = made((write(tree, tmp_path), teacher[1]))
    [batch], [theirs] = loader(Preprocess()), loader(CAFFE)
    assert torch.equal(distiller.models()[0].inputs(batch), theirs.images)


def test_a_configuration_that_contradicts_the_checkpoint_is_refused(teacher, tmp_path):
    rgb = write(plain(data={"train": shapes(classes=TURNED)}), tmp_path, "rgb.yaml")
    with pytest.raises(ConfigError, match=r"distiller.teacher.config .*rgb.yaml.*channels bgr"):
        made((rgb, teacher[1]))
    other = write(plain(data={**BGR, "train": shapes(classes=list(THREE))}), tmp_path, "c.yaml")
    with pytest.raises(ConfigError, match=r"lists the classes \['circle'.*for \['triangle'"):
        made((other, teacher[1]))


@pytest.mark.parametrize(
    "place", ["bbox_head.conv_cls", "*conv_cls@0", "bbox_head", "bbox_head[0]", ""]
)
def test_class_maps_of_other_classes_are_refused(teacher, place):
    with pytest.raises(ConfigError, match=r"\['circle'.*teacher's \['triangle', 'circle'"):
        made(teacher, places=("neck", place))
    made(teacher, classes=TURNED, places=("neck", place))


def test_a_module_that_counts_classes_itself_says_them_in_its_output_alone():
    class Own(nn.Module):
        num_classes = 3

        def __init__(self):
            super().__init__()
            self.body = nn.Identity()

    assert teaching._tells_classes("", Own())
    assert not teaching._tells_classes("body", Own())


@pytest.mark.parametrize("place", ["neck", "backbone[0]", "bbox_head:input"])
def test_features_do_not_depend_on_classes(teacher, place):
    made(teacher, places=(place,))


def test_a_teacher_that_is_not_ours_is_taken_by_its_configuration(teacher, tmp_path):
    foreign = tmp_path / "foreign.pt"
    save_checkpoint(foreign, {"state_dict": read_checkpoint(teacher[1])["model"]})
    assert made((teacher[0], foreign)).models()[0].prepare is not None
    with pytest.raises(ConfigError, match="teacher's"):  # as its configuration spells them out
        made((teacher[0], foreign), places=("bbox_head.conv_cls",))


def test_padding_that_the_teacher_cannot_take_is_refused(teacher):
    with pytest.raises(ConfigError, match=r"multiples of 32.*of 16; set data.pad_multiple=32"):
        made(teacher, pad_multiple=16)
    made(teacher, pad_multiple=64)


def test_metrics_are_those_of_the_teachers_own_images(teacher):
    """The loss equals one worked out by hand from both sides' own batches."""
    distiller = made(teacher)
    own = student(teacher).model()
    [batch], [theirs] = loader(Preprocess()), loader(CAFFE)
    with torch.no_grad():
        with distiller.recorder(own) as recorder:
            own(batch.images)
            scene = Scene(batch, Side(own, recorder), distiller.teach(batch))
            metric = distiller.compare(scene)["neck"]
        maps = zip(_neck(own, batch.images), _neck(distiller.teacher, theirs.images), strict=True)
        expected = sum(PKD()(one, other) for one, other in maps)
    torch.testing.assert_close(metric, expected)


def _neck(model: nn.Module, images: torch.Tensor):
    return model.neck(model.backbone(images))


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (
            [{"type": "Resize", "size": [32, 32]}, {"type": "RandomFlip"}],
            "RandomFlip of data.train",
        ),
        ([{"type": "Resize", "short": [32, 48]}], "Resize of data.train draws"),
        ([{"type": "Resize", "size": [32, 32]}, {"type": "Pad", "multiple": 32}], None),
    ],
)
def test_outputs_are_kept_where_images_look_the_same_in_each_epoch(transforms, message):
    data = {"train": {"dataset": {"type": "ShapesDataset"}, "transforms": transforms}}
    block = {"teacher": "a.yaml", "checkpoint": "a.pt", "recipe": "pkd", "cache": 0.5}
    tree = {"model": {"type": "ResNet", "depth": 18}, "data": data, "distiller": block}
    if message is None:
        assert read(tree)[1].distiller.cache == 0.5
        return
    with pytest.raises(ConfigError, match=f"distiller.cache: wants .*{message}"):
        read(tree)


def test_outputs_of_a_moving_teacher_are_not_kept():
    tree = {"model": {"type": "ResNet", "depth": 18}}
    tree["distiller"] = {"teacher": "ema", "recipe": "pkd", "cache": 0.5}
    with pytest.raises(ConfigError, match="cache: keeps what a teacher with fixed weights gives"):
        read(tree)
