"""Heat maps of modules whose maps are known."""

import pytest
import torch
from PIL import Image
from torch import Tensor, nn, tensor
from torch.testing import assert_close

from razorlite.cli import main
from razorlite.core.errors import ConfigError, DataError
from razorlite.deploy import heat_map
from razorlite.deploy.heat import channel_mean, first_direction, weighted_sum
from razorlite.structures import Batch, Target
from tests.deploy.test_deploy import photos, run  # noqa: F401  fixtures
from tests.deploy.test_formats import _built


class Net(nn.Module):
    """Two channels, red minus green and blue, each averaged to the logit of a class."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 1, bias=False)
        self.maps.weight = nn.Parameter(tensor([[1.0, -1, 0], [0, 0, 1]]).view(2, 3, 1, 1))
        self.act = nn.ReLU(inplace=True)
        self.both = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.both((self.act(self.maps(images)),) * 2)[0].mean((2, 3))

    def predict(self, batch: Batch) -> list[Tensor]:
        return list(self(batch.inputs).softmax(1))


RED = tensor([[4.0, 0], [2, 0]])
BLUE = tensor([[0.0, 1], [0, 0]])
IMAGES = torch.stack([RED, tensor([[0.0, 2], [0, 0]]), BLUE])[None]


def test_channel_mean():
    assert_close(channel_mean(tensor([1.0, 3]).view(1, 2, 1, 1)), tensor([[[2.0]]]))


def test_first_direction_of_one_direction():
    # every cell is a multiple of (3, -4), of length 5, whichever sign the decomposition gives
    shares = tensor([[1.0, 2], [0, 0.5]])
    maps = tensor([3.0, -4]).view(1, 2, 1, 1) * shares
    assert_close(first_direction(maps), 5 * shares[None])
    assert_close(first_direction(-maps), 5 * shares[None])


def test_first_direction_leaves_out_what_lies_the_other_way():
    maps = tensor([[[[2.0, -1.0, 0.0]]]])
    assert_close(first_direction(maps), tensor([[[2.0, 0.0, 0.0]]]))


def test_channels_are_summed_by_weight():
    maps = tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])
    slopes = tensor([2.0, -1.0]).view(1, 2, 1, 1)
    assert_close(weighted_sum(maps, slopes), tensor([[[0.0, 3.0]]]))  # relu(2 - 3), 4 - 1


def test_activation_is_before_what_changes_it_in_place():
    # channels [[4, -2], [2, 0]] and [[0, 1], [0, 0]]: means [[2, -0.5], [1, 0]], spread over 2.5
    made = heat_map(Net(), Batch(IMAGES), "maps")
    assert_close(made.values, tensor([[1.0, 0.0], [0.6, 0.2]]))
    assert (made.found, made.label) == (None, None)


@pytest.mark.parametrize(("number", "label", "expected"), [(0, 0, RED / 4), (1, 1, BLUE)])
def test_gradcam_of_a_class(number, label, expected):
    model = Net().requires_grad_(False)
    made = heat_map(model, Batch(IMAGES), "act", method="gradcam", detection=number)
    assert_close(made.values, expected)
    assert made.label == label


def test_slopes_are_averaged_or_each_cells_own():
    # a score of the upper left cell alone: its slope is 1 there, 1 / 4 on average
    model, keep = Net(), tensor([[4.0, 0], [0, 0]])
    model.both.register_forward_hook(lambda m, i, o: (o[0] * keep, *o[1:]))
    averaged = heat_map(model, Batch(IMAGES), "act", method="gradcam")
    own = heat_map(model, Batch(IMAGES), "act", method="hirescam")
    assert_close(averaged.values, RED / 4)
    assert_close(own.values, keep / 4)


def test_several_maps_are_averaged():
    made = heat_map(Net(), Batch(IMAGES), "both", method="eigencam")
    assert_close(made.values, heat_map(Net(), Batch(IMAGES), "act", method="eigencam").values)


def test_padding_is_cut_off_and_the_original_size_is_back():
    padded = torch.nn.functional.pad(IMAGES, (0, 3, 0, 1))
    padded[:, 0, 2:] = padded[:, 0, :, 2:] = 9.0  # redder than the image
    none = torch.zeros(0, 4), torch.zeros(0).long()
    target = Target(*none, size=(2, 2), original_size=(4, 4))
    values = heat_map(Net(), Batch(padded, [target]), "act", method="gradcam").values
    assert values.shape == (4, 4)
    assert_close(values[0, 0], tensor(1.0))
    assert_close(values[0, 3], tensor(0.0))


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        ("map", ConfigError, "the model has no module 'map'; did you mean 'maps'?"),
        ("", ConfigError, "no module ''; there is act, both, maps"),
    ],
)
def test_wrong_names(module, error, message):
    with pytest.raises(error) as caught:
        heat_map(Net(), Batch(IMAGES), module)
    assert message in str(caught.value)


def test_what_cannot_be_explained():
    with pytest.raises(DataError, match="number 2 is to be explained, counted from 0; got 2 in"):
        heat_map(Net(), Batch(IMAGES), "act", method="gradcam", detection=2)
    model = Net()
    model.unused = nn.Conv2d(1, 1, 1)
    with pytest.raises(ConfigError, match="gives no maps when the model runs"):
        heat_map(model, Batch(IMAGES), "unused")


@pytest.mark.parametrize("name", ["fcos", "faster", "detr"])
def test_the_detection_explained_is_that_of_predict(name):
    torch.manual_seed(1)
    model, batch = _built(name), Batch(torch.rand(1, 3, 64, 96))
    (found,) = model.predict(batch)
    module = "backbone.first" if name != "detr" else "backbone"
    made = heat_map(model, batch, module, method="gradcam", detection=1)
    assert_close(made.found.boxes, found.boxes[1:2], atol=1e-3, rtol=1e-4)
    assert_close(made.found.scores, found.scores[1:2])
    assert made.label == int(found.labels[1])
    assert made.values.max() == 1
    assert made.values.min() >= 0


def test_pictures_of_heat_maps(run, photos, tmp_path, capsys, caplog):  # noqa: F811
    out = tmp_path / "out"
    words = ["predict", str(photos / "a.jpg"), "--model", str(run), "--out", str(out)]
    own = ["--heatmap", "bbox_head.conv_cls", "--heatmap-method", "gradcam", "--detection", "2"]
    assert main([*words, *own]) == 0
    with Image.open(out / "heat" / "a.png") as picture:
        assert picture.width == 720
    assert (out / "a.png").is_file()
    capsys.readouterr()
    assert main([*words[:4], "--heatmap", "backbone"]) == 2
    assert "say by --out where" in capsys.readouterr().err
    unknown = [*words[:-1], str(tmp_path / "new"), "--heatmap", "bbox_head.conv_class"]
    assert main(unknown) == 2
    assert "did you mean 'bbox_head.conv_cls'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()  # no picture without the others
    assert main([*words, *own[:-1], "5000"]) == 0
    assert "a.jpg: no heat map of detection 5000, got " in caplog.text
    assert main([*words, "--detection", "2"]) == 2
    assert "go with --heatmap MODULE" in capsys.readouterr().err
