"""Predictions and exported files of small models with weights drawn at random."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torch import Tensor, nn, tensor
from torch.testing import assert_close

from razorlite import recipes
from razorlite.cli import main
from razorlite.core import config as core_config
from razorlite.core.errors import CheckpointError, ConfigError, DataError, ExportError
from razorlite.data import (
    CenterCrop,
    Pad,
    Preprocess,
    RandomFlip,
    Resize,
    TorchvisionTransform,
)
from razorlite.deploy import (
    Deployed,
    Exported,
    Predictor,
    agreement,
    count,
    export,
    files_of,
    open_file,
    pictures,
    read_meta,
)
from razorlite.deploy.export import _quiet
from razorlite.deploy.runtimes import META_NAME
from razorlite.engine.checkpoint_io import read_checkpoint, save_checkpoint
from razorlite.models.tasks.postprocess import PostProcess
from razorlite.recipes import Inferencer, build_model, load
from razorlite.recipes.card import ModelCard
from razorlite.recipes.exporting import describe
from razorlite.structures import Batch, Target
from tests.deploy.test_formats import needs_onnx

CONFIG = """\
model:
  type: FCOS
  backbone: {type: ShuffleNetV2, width: 0.5, out_indices: [0]}
  bbox_head:
    type: FCOSHead
    num_classes: 2
    in_channels: 48
    feat_channels: 8
    stacked_convs: 0
    norm: null
    strides: [8]
    post_process: {score_thr: 0.02, max_per_img: 20, iou_threshold: 0.3}
data:
  mean: [10.0, 20.0, 30.0]
  std: [40.0, 50.0, 60.0]
  channels: bgr
  pad_multiple: 32
  test: {dataset: {type: ShapesDataset}, transforms: [{type: Resize, size: [64, 96]}]}
shape: [64, 96]
"""


@pytest.fixture(scope="module")
def run(module_path: Path) -> Path:
    """A run folder whose model says something everywhere."""
    tree = core_config.parse(CONFIG, "config")
    torch.manual_seed(0)
    model = build_model(tree)
    nn.init.normal_(model.bbox_head.conv_cls.weight, std=0.5)
    card = ModelCard(
        model="FCOS",
        classes=("cat", "dog"),
        preprocess=Preprocess(
            **{k: tree["data"][k] for k in ("mean", "std", "channels", "pad_multiple")}
        ),
        config=CONFIG,
    )
    content = {"model": model.state_dict(), "meta": card.to_meta()}
    (module_path / "checkpoints").mkdir()
    save_checkpoint(module_path / "checkpoints" / "best.pt", content)
    return module_path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images of different kinds and sizes, and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (80, 120)), ("b.png", (64, 96))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    Image.fromarray(rng.integers(0, 256, (50, 70), dtype=np.uint8)).save(folder / "grey.png")
    (folder / "no.jpg").write_bytes(b"not an image")
    return folder


def test_a_run_folder_is_all_that_is_needed(run, photos):
    inferencer = load(run, device="cpu")
    found = inferencer(photos)
    assert [Path(one.name).name for one in found] == ["a.jpg", "b.png", "grey.png", "no.jpg"]
    assert [bool(one.fault) for one in found] == [False, False, False, True]
    assert [one.size for one in found[:3]] == [(80, 120), (64, 96), (50, 70)]
    assert inferencer.classes == ("cat", "dog")
    assert all(len(one.detections) > 0 for one in found[:3])


def test_predictions_are_those_of_the_model_by_hand(run, photos):
    """Resize, blue first, normalise, predict, back to the size of the file."""
    inferencer = load(run, device="cpu")
    (found,) = inferencer(photos / "a.jpg")
    pixels = tensor(np.asarray(Image.open(photos / "a.jpg"))).permute(2, 0, 1)
    small, _ = Resize(size=(64, 96))(pixels, 0)
    mean, std = (tensor(v).view(3, 1, 1) for v in ([10.0, 20, 30], [40.0, 50, 60]))
    batch = ((small.flip(0) - mean) / std)[None]
    none = torch.zeros(0, 4), torch.zeros(0).long()
    target = Target(*none, size=(64, 96), original_size=(80, 120))
    with torch.no_grad():
        (want,) = inferencer.model.eval().predict(Batch(batch, [target]))
    assert_close(found.detections.boxes, want.boxes)
    assert_close(found.detections.scores, want.scores)


@pytest.fixture
def alone(run: Path, tmp_path: Path) -> Path:
    """The checkpoint of a run whose configuration is gone: all it has of `data` is its card."""
    content = read_checkpoint(run / "checkpoints" / "best.pt")
    tree = core_config.parse(CONFIG, "config")
    steps = tree.pop("data")["test"]["transforms"]
    content["meta"]["preprocess"]["transforms"] = steps
    content["meta"]["config"] = json.dumps(tree)  # which is YAML, too
    save_checkpoint(tmp_path / "moved" / "best.pt", content)
    return tmp_path / "moved" / "best.pt"


def test_a_checkpoint_predicts_and_exports_without_its_configuration(run, alone, photos):
    known = load(run, device="cpu")(photos / "a.jpg")[0].detections
    (found,) = load(alone, device="cpu")(photos / "a.jpg")
    assert torch.equal(found.detections.boxes, known.boxes)
    assert torch.equal(found.detections.scores, known.scores)
    exported = recipes.export(alone, format="torchscript").path
    carried = json.loads(read_meta(exported)[META_NAME])
    assert carried["preprocess"]["transforms"] == [{"type": "Resize", "size": [64, 96]}]
    assert carried["preprocess"]["pad_multiple"] == 32
    assert carried["classes"] == ["cat", "dog"]
    assert carried["razorlite"]
    alone.unlink()
    (again,) = load(exported)(photos / "a.jpg")
    assert_close(again.detections.boxes, known.boxes, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_an_onnx_file_carries_the_preprocessing(alone, tmp_path):
    needs_onnx()
    exported = recipes.export(alone, out=tmp_path / "a.onnx").path
    carried = json.loads(read_meta(exported)[META_NAME])["preprocess"]
    assert Preprocess.from_dict(carried) == load(alone, device="cpu").preprocess
    assert carried["transforms"] == [{"type": "Resize", "size": [64, 96]}]


def test_an_export_of_bare_weights_is_all_that_is_needed_from_then_on(run, tmp_path, photos):
    weights = read_checkpoint(run / "checkpoints" / "best.pt")["model"]
    torch.save(weights, tmp_path / "bare.pt")
    (tmp_path / "config.yaml").write_text(CONFIG)
    made = recipes.export(tmp_path / "config.yaml", tmp_path / "bare.pt", format="torchscript")
    (found,) = load(made.path)(photos / "a.jpg")
    (known,) = load(run, device="cpu")(photos / "a.jpg")
    assert {one["class"] for one in found.to_dict()["detections"]} <= {"0", "1"}
    assert load(made.path).class_names is None
    (named,) = load(tmp_path / "config.yaml", made.path)(photos / "a.jpg")
    assert torch.equal(named.detections.boxes, found.detections.boxes)
    assert_close(found.detections.boxes, known.detections.boxes, atol=1e-3, rtol=0)


def test_transforms_of_a_file_may_run_no_code(alone):
    content = read_checkpoint(alone)
    content["meta"]["preprocess"]["transforms"] = [{"type": "os.system", "command": "true"}]
    save_checkpoint(alone, content)
    with pytest.raises(CheckpointError, match=r"needs os.system, and a file may not run code"):
        load(alone)


def test_a_named_configuration_says_how_images_are_resized(alone, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG.replace("size: [64, 96]}]", "size: [96, 160]}]"))
    inferencer = load(other, alone, device="cpu")
    assert inferencer.preprocess.transforms == ({"type": "Resize", "size": [96, 160]},)


@pytest.mark.parametrize(
    "last",
    [
        CenterCrop(size=(60, 96)),
        RandomFlip(horizontal=1.0),
        Resize(size=(32, 48), keep_ratio=False),
        TorchvisionTransform(name="Pad", arguments={"padding": 4}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_places_that_cannot_be_scaled_back_are_refused(run, photos, last):
    """A classifier may see the middle alone; what is padded at the end alone stays in place."""
    inferencer = load(run, device="cpu")
    fine = [Resize(size=(64, 96)), Pad(multiple=64)]
    inferencer.transforms = fine
    assert inferencer(photos / "a.jpg")[0].detections is not None
    inferencer.transforms = [*fine, last]
    with pytest.raises(ConfigError, match=rf"a\.jpg: {type(last).__name__} cuts, mirrors or moves"):
        inferencer(photos / "a.jpg")
    inferencer.model.predict = lambda batch: torch.full((len(batch), 2), 0.5)
    assert inferencer(photos / "a.jpg")[0].probabilities is not None


def test_batches_of_mixed_sizes_change_nothing(run, photos):
    inferencer = load(run, device="cpu")
    inferencer.transforms = []
    one = inferencer(photos, batch_size=1)
    for mine, theirs in zip(inferencer(photos, batch_size=3), one, strict=True):
        assert (mine.name, mine.fault) == (theirs.name, theirs.fault)


def test_numbers_of_images_are_at_least_one(run, photos):
    with pytest.raises(ConfigError, match="batch_size wants a number of at least 1, got 0"):
        load(run, device="cpu")(photos, batch_size=0)
    with pytest.raises(ConfigError, match="limit wants a number of at least 1, got 0"):
        recipes.predict(photos, run, limit=0)


def test_images_in_memory(run):
    inferencer = load(run, device="cpu")
    array = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    as_tensor = torch.from_numpy(array).permute(2, 0, 1)
    mirrored = np.ascontiguousarray(array[..., ::-1])[..., ::-1]  # as of OpenCV's order
    results = inferencer([array, Image.fromarray(array), as_tensor, mirrored])
    assert [one.name for one in results] == ["0", "1", "2", "3"]
    for other in results[1:]:
        assert_close(other.detections.boxes, results[0].detections.boxes)


def test_grey_of_16_bits_in_memory_is_not_clipped(run):
    grey = np.full((8, 8), 128 * 257, dtype=np.uint16)
    (picture,) = pictures(Image.fromarray(grey))
    assert picture.image.unique().tolist() == [128]
    (dark,) = pictures(Image.fromarray(np.full((8, 8), 100, dtype=np.uint16)))
    assert "not on the scale of 16 bits" in dark.fault


def test_drawing_what_is_in_memory(run, tmp_path):
    inferencer = load(run, device="cpu")
    (found,) = inferencer(np.zeros((40, 60, 3), dtype=np.uint8))
    assert found.image.shape == (3, 40, 60)
    assert inferencer.draw(found, tmp_path / "x.png", 0.02).width == 720
    assert Image.open(tmp_path / "x.png").width == 720


def test_models_are_listed():
    assert "fcos/fcos_shufflenetv2_bccd" in Inferencer.list_models()


def test_an_image_that_cannot_be_resized_does_not_stop_the_others(run, photos):
    inferencer = load(run, device="cpu")
    inferencer.transforms = [Resize(short=800)]
    long = np.zeros((2, 40000, 3), dtype=np.uint8)
    faults = [one.fault for one in inferencer([long, np.zeros((80, 80, 3), dtype=np.uint8)])]
    assert "Resize would make" in faults[0]
    assert not faults[1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere/x.jpg", "no image or folder"),
        ("*.nothing", "no image in pattern"),
        (np.zeros((4, 4, 4), dtype=np.uint8), "expected uint8 RGB"),
        (torch.zeros(3, 4, 4), "expected uint8 RGB"),
        (np.array(["a"]), "expected uint8 RGB"),
        (7.5, "cannot predict on a float"),
        (True, "cannot predict on a bool"),
        (b"GIF89a", "cannot predict on a bytes"),
        ("", "the name of a source is empty"),
        ([], "no image to look at: the list is empty"),
        ([()], "no image to look at: the tuple is empty"),
        (iter(()), "no image to look at"),
    ],
)
def test_sources_that_are_none(source, message):
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        list(pictures(source))


def test_no_images_are_counted_nowhere():
    for known in (count, files_of):
        with pytest.raises(DataError, match="the list is empty"):
            known([])


def test_a_folder_without_images(tmp_path):
    with pytest.raises(DataError, match="no image in folder"):
        list(pictures(tmp_path))


def test_predict_writes_pictures_and_records(run, photos, tmp_path, capsys):
    sources = [str(photos / "a.jpg"), str(photos / "[bgn]*")]
    words = ["predict", *sources, "--model", str(run), "--out", str(tmp_path / "out"), "--json"]
    assert main([*words, "--score", "0.02"]) == 1
    printed = capsys.readouterr()
    assert printed.err.endswith("1 of 4 images could not be read; see above\n")
    shown = json.loads(printed.out)
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert shown["images"] == records
    assert records[0]["detections"][0].keys() == {"class", "label", "score", "box"}
    assert "fault" in records[3]
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"a.png", "b.png", "grey.png"}


def test_coco_file_of_predictions(run, photos, tmp_path):
    """It is a COCO json that pycocotools reads, and its scores are those of the records."""
    found = recipes.predict(photos, run, out=tmp_path / "out", score_threshold=0.1, device="cpu")
    truth = COCO(str(tmp_path / "out" / "coco.json"))
    assert [one["name"] for one in truth.loadCats([1, 2])] == ["cat", "dog"]
    entries = truth.loadAnns(truth.getAnnIds(imgIds=[2]))
    kept = found[1].detections[found[1].detections.scores >= 0.1]
    assert [one["score"] for one in entries] == kept.scores.tolist()
    x, y, width, height = entries[0]["bbox"]
    assert_close(tensor([x, y, x + width, y + height]), kept.boxes[0])
    assert entries[0]["category_id"] == int(kept.labels[0]) + 1


def test_images_of_one_name_have_pictures_of_their_own(run, photos, tmp_path):
    sources = [tmp_path / "a" / "a.jpg", tmp_path / "b" / "A.jpg", photos / "a.jpg"]
    for source in sources[:2]:
        source.parent.mkdir()
        shutil.copy(photos / "a.jpg", source)
    recipes.predict([str(source) for source in sources], run, out=tmp_path / "out", device="cpu")
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"a.png", "A_2.png", "a_3.png"}


@pytest.mark.parametrize("out", ["photos", "photos/../photos", "photos/sub"])
def test_pictures_do_not_take_the_place_of_what_is_looked_at(run, photos, out, tmp_path):
    (photos / "sub" / "heat").mkdir(parents=True)
    shutil.copy(photos / "b.png", photos / "sub" / "heat" / "c.png")
    before = (photos / "b.png").read_bytes()
    with pytest.raises(DataError, match=r"\.png is looked at, and pictures in"):
        recipes.predict(photos, run, out=tmp_path / out, device="cpu")
    assert (photos / "b.png").read_bytes() == before
    assert not (photos / "predictions.json").exists()


def test_images_are_read_as_the_configuration_says(run, tmp_path):
    """White of 14 bits; the file of a picture is read again so, too."""
    content = read_checkpoint(run / "checkpoints" / "best.pt")
    text = CONFIG.replace("{type: ShapesDataset}", "{type: CocoDataset, decoding: {white: 16383}}")
    content["meta"]["config"] = text
    save_checkpoint(tmp_path / "14.pt", content)
    Image.fromarray(np.full((64, 96), 16383, dtype=np.uint16)).save(tmp_path / "white.png")
    inferencer = load(tmp_path / "14.pt", device="cpu")
    (found,) = inferencer(tmp_path / "white.png")
    assert found.pixels().unique().tolist() == [255]
    (same,) = inferencer(np.full((64, 96, 3), 255, dtype=np.uint8))
    assert torch.equal(found.detections.scores, same.detections.scores)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["export", "a", "--out", "x.pth"],
            "x.pth: the name tells no format; end it in .onnx or .torchscript\n",
        ),
        (
            ["export", "a", "--out", "x.onnx", "--format", "torchscript"],
            "x.onnx ends like a file of onnx; expected .torchscript",
        ),
        (
            ["export", "a", "--out", "best.pt", "--format", "onnx"],
            "best.pt ends like no exported file; expected .onnx",
        ),
        (
            ["export", "a", "--calibration", "5"],
            "--calibration and --max-drop go with --int8",
        ),
        (["predict", "x.jpg", "--model", "nowhere"], "no image or folder x.jpg"),
        (["export", "nowhere"], "no run folder or file nowhere"),
        (["export", "runs/mne"], "name a checkpoint as well; did you mean 'mine'?"),
        (["export", "."], "holds no checkpoints/best.pt"),
        (["export", "a", "b", "c"], "expected MODEL, or CONFIG CHECKPOINT"),
    ],
)
def test_wrong_commands(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_file_may_not_run_code(run, tmp_path):
    content = torch.load(run / "checkpoints" / "best.pt")
    for text in (
        "custom_imports: [os]\n" + CONFIG,
        CONFIG.replace("type: FCOS\n", "type: os.system\n"),
    ):
        content["meta"]["config"] = text
        torch.save(content, tmp_path / "evil.pt")
        with pytest.raises(CheckpointError, match="a file may not run code"):
            load(tmp_path / "evil.pt")


def test_torchscript_gives_what_pytorch_gives(run, photos, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "model.torchscript"
    assert main(["export", str(run), "--out", str(path)]) == 0
    steps = ["exporting", "writing the model as", "comparing the file with PyTorch on 7", "timing"]
    told = [message for message in caplog.messages if message.startswith(tuple(steps))]
    assert [message.split()[0] for message in told] == [step.split()[0] for step in steps]
    assert told[0] == f"exporting {run / 'checkpoints' / 'best.pt'}"
    assert json.loads(read_meta(path)[META_NAME])["classes"] == ["cat", "dog"]
    _same_predictions(load(path), load(run, device="cpu"), photos)
    with pytest.raises(ConfigError, match="is an exported file already"):
        recipes.export(path)
    with pytest.raises(ConfigError, match="an exported file, which takes no subnet"):
        load(path, subnet=tmp_path / "subnet.yaml")
    with pytest.raises(ConfigError, match="an exported file has no modules"):
        load(path).heat_map(photos / "a.jpg", "backbone")


def test_exporters_say_nothing_of_their_own_insides():
    logger = logging.getLogger("onnx_ir.passes.common.initializer_deduplication")
    logging.getLogger("onnx_ir").setLevel(logging.INFO)
    try:
        with _quiet():
            assert not logger.isEnabledFor(logging.INFO)
        assert logger.isEnabledFor(logging.INFO)
    finally:
        logging.getLogger("onnx_ir").setLevel(logging.NOTSET)


@pytest.mark.slow
def test_onnx_gives_what_pytorch_gives(run, photos, tmp_path):
    needs_onnx()
    path = tmp_path / "model.onnx"
    assert main(["export", str(run), "--out", str(path), "--images", str(photos)]) == 0
    assert json.loads(read_meta(path)[META_NAME])["classes"] == ["cat", "dog"]
    _same_predictions(load(path), load(run, device="cpu"), photos)
    none = open_file(path)(torch.zeros(2, 3, 64, 64))
    assert [tuple(x.shape) for x in none] == [(2, 20, 4), (2, 20), (2, 20)]


def _same_predictions(exported, plain, photos):
    for mine, theirs in zip(exported(photos), plain(photos), strict=True):
        assert (mine.name, bool(mine.fault)) == (theirs.name, bool(theirs.fault))
        if not mine.fault:
            some = [x[None] for x in vars(mine.detections).values() if x is not None]
            others = [x[None] for x in vars(theirs.detections).values() if x is not None]
            agreement(some, others, mine.name)


class _Forgets(Deployed):
    """Changes its mind after it was written."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        boxes, scores, labels = super().forward(images)
        return boxes, scores * (0.5 if not torch.jit.is_tracing() else 1.0), labels


def test_a_file_that_differs_is_not_kept(run, tmp_path):
    inferencer = load(run, device="cpu")
    path = tmp_path / "model.torchscript"
    path.write_text("before")
    images = [torch.rand(1, 3, 64, 96) * 255]
    model = _Forgets(inferencer.model, inferencer.preprocess)
    with pytest.raises(ExportError, match="detection of label"):
        export(model, path, format="torchscript", images=images)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["model.torchscript"]


def test_what_is_kept_is_what_prediction_keeps():
    """Three images of random boxes: the same as one image and one class after the other."""
    torch.manual_seed(0)
    corners = torch.rand(3, 50, 2) * 60
    boxes = torch.cat((corners, corners + 5 + torch.rand(3, 50, 2) * 30), -1)
    scores, labels = torch.rand(3, 50), torch.randint(0, 4, (3, 50))
    scores[0, 40:] = 0
    for threshold, least in ((0.4, 0.0), (None, 0.0), (0.4, 20.0)):
        settings = PostProcess(iou_threshold=threshold, max_per_img=30, min_bbox_size=least)
        out = settings.keep_fixed(boxes, scores, labels)
        assert [x.shape[1] for x in out] == [30, 30, 30]
        for i in range(3):
            full = scores[i] > 0
            want = settings.finish(boxes[i, full], scores[i, full], labels[i, full])
            got = [x[i, : len(want)] for x in out]
            assert_close(got, [want.boxes, want.scores, want.labels])
            assert (out[1][i, len(want) :] == 0).all()


def test_detections_that_hang_on_rounding_are_no_fault_of_the_file():
    # the second and third overlap at one score: rounding chooses which of them is kept
    boxes = tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30], [20, 22, 30, 32], [50, 50, 60, 60]]])
    scores, labels = tensor([[0.9, 0.8, 0.8, 0.5]]), tensor([[1, 0, 0, 2]])
    both = [boxes, scores, labels]
    one, other = ([x[:, kept] for x in both] for kept in ([0, 1, 3], [0, 2, 3]))
    with pytest.raises(ExportError, match="the file lacks the detection of label 0"):
        agreement(one, other, "x")
    with pytest.raises(ExportError, match="the file lacks"):
        agreement(one, other, "x", lambda: [one, one])
    found = agreement(one, other, "x", lambda: [one, other])
    assert (found.found, found.unstable) == (2, 2)
    wrong = [other[0] + 5, *other[1:]]
    with pytest.raises(ExportError, match="the file lacks"):  # three of three; two would do
        agreement(one, wrong, "x", lambda: [one, other])


def test_differences_are_found_and_ties_are_not():
    boxes = tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]]])
    scores, labels = tensor([[0.9, 0.5, 0.0]]), tensor([[1, 0, 0]])
    same = agreement([boxes, scores, labels], [boxes.flip(1), scores.flip(1), labels.flip(1)], "x")
    assert (same.found, same.box, same.score) == (2, 0, 0)
    for changed in (
        [boxes + 0.2, scores, labels],
        [boxes, scores - 0.01, labels],
        [boxes, scores, 1 - labels],
    ):
        with pytest.raises(ExportError, match="x, image 0"):
            agreement([boxes, scores, labels], changed, "x")
    one = [boxes[:, :1], scores[:, :1], labels[:, :1]]
    assert agreement(one, one, "x").found == 1
    with pytest.raises(ExportError, match="x, image 0"):
        agreement(one, [one[0] + 5, *one[1:]], "x")
    none = [one[0], one[1] * 0, one[2]]
    for pair in ((one, none), (none, one)):
        with pytest.raises(ExportError, match="x, image 0"):
            agreement(*pair, "x")
        assert agreement(*pair, "x", lambda: [one, none]).unstable == 1
    with pytest.raises(ExportError, match="probabilities differ"):
        agreement([tensor([[0.5, 0.5]])], [tensor([[0.6, 0.4]])], "x")


def test_what_is_told_of_a_file_counts_each_detection_once(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"")
    one = [tensor([[[0.0, 0, 10, 10]]]), tensor([[0.9]]), tensor([[1]])]
    result = Exported(path, "onnx", ((1, 3, 8, 8),), agreement(one, one, "x"), (2.0, 1.0))
    assert "1 detections on images of 1x3x8x8 agree with PyTorch: boxes" in describe(result)
    assert result.to_dict()["compared"] == {"detections": 1}
    assert result.to_dict()["milliseconds"] == {"pytorch": 2.0, "file": 1.0}
    both = agreement([tensor([[0.5, 0.5]] * 3)], [tensor([[0.5, 0.5]] * 3)], "x")
    result = Exported(path, "onnx", ((3, 3, 8, 8),), both)
    assert "3 images of 3x3x8x8 agree with PyTorch: scores within 0" in describe(result)
    assert result.to_dict()["compared"] == {"images": 3}


def test_a_classifier_gives_probabilities():
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

        def predict(self, batch: Batch) -> Tensor:
            return self(batch.inputs).softmax(1)

    predictor = Predictor(Mean(), classes=("r", "g", "b"), preprocess=Preprocess())
    (found,) = predictor(np.full((4, 5, 3), 100, dtype=np.uint8))
    values = (100 - tensor([123.675, 116.28, 103.53])) / tensor([58.395, 57.12, 57.375])
    assert_close(found.probabilities, values.softmax(0))
    assert list(found.to_dict()["classes"]) == ["b", "g", "r"]
