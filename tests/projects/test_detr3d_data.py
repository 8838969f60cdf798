"""Key frames from files, what is done to images and matrices in step, and pictures of them."""

import codecs
import json
import math
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from projects.detr3d import (
    CropViews,
    FlipViews,
    GridMask,
    KeepObjects,
    NuScenesDataset,
    PadViews,
    PhotometricDistortion,
    ResizeViews,
)
from projects.detr3d.boxes import corners, decode, encode, logits, standing, wrapped
from projects.detr3d.drawing import draw_above, draw_frame, project_edge
from projects.detr3d.frames import CAMERAS, as_json, read_frames
from projects.detr3d.plain_pickle import read_plain_pickle
from projects.detr3d.sampling import project
from razorlite.core.errors import ConfigError, DataError
from razorlite.data import Preprocess, build_loader
from tests.projects.detr3d_toys import box, objects_of, write_frames


@pytest.fixture
def dataset(tmp_path):
    return NuScenesDataset(annotations=str(write_frames(tmp_path)))


class TestReading:
    def test_frames_of_json(self, dataset, tmp_path):
        assert len(dataset) == 2
        inputs, objects = dataset[1]
        assert inputs["images"].shape == (6, 3, 24, 40)
        assert inputs["images"].dtype == torch.uint8
        pixels = np.array(Image.open(tmp_path / "CAM_BACK_1.png"))
        assert np.array_equal(inputs["images"][3].permute(1, 2, 0).numpy(), pixels)
        assert objects.labels.tolist() == [0, 8]  # the third box is of no class
        assert_close(objects.boxes[0], torch.tensor([8, 4, -0.5, 4, 2, 1.5, 0.3, 1, 0.5]))
        assert objects.boxes[1, 7:].isnan().all()
        assert not objects.at_rest().boxes[1, 7:].any()
        assert objects.token == dataset.names[1] == "frame-1"

    def test_labels_follow_the_names(self, tmp_path):
        path = write_frames(tmp_path)
        dataset = NuScenesDataset(annotations=str(path), classes=["pedestrian", "truck", "car"])
        assert dataset[0][1].labels.tolist() == [2, 0]
        only = NuScenesDataset(annotations=str(path), classes=["truck", "pedestrian"])
        assert only[0][1].labels.tolist() == [1]

    def test_cameras_come_in_the_order_that_is_named(self, dataset, tmp_path):
        names = list(reversed(CAMERAS))
        other = NuScenesDataset(annotations=str(tmp_path / "frames.json"), cameras=names)
        for name in ("images", "lidar2img"):
            assert torch.equal(other[0][0][name], dataset[0][0][name].flip(0))

    def test_frames_without_an_image_are_left_out(self, tmp_path):
        path = write_frames(tmp_path)
        content = json.loads(path.read_text())
        content[0]["cameras"]["CAM_BACK"]["file"] = None
        path.write_text(json.dumps(content))
        dataset = NuScenesDataset(annotations=str(path))
        assert dataset.names == ["frame-1"]
        assert [fault.kind for fault in dataset.faults] == ["a camera without image"]
        with pytest.raises(DataError, match="CAM_BACK"):
            NuScenesDataset(annotations=str(path), strict=True)

    def test_an_image_of_another_size_than_its_matrix_is_for_is_told(self, dataset, tmp_path):
        Image.new("RGB", (20, 12)).save(tmp_path / "CAM_FRONT_0.png")
        with pytest.raises(OSError, match="has 12 x 20 pixels, its lidar2img is for 24 x 40"):
            dataset[0]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c[0]["boxes"][0].pop("cx"), "key frame 0 is malformed: KeyError: 'cx'"),
            (lambda c: c[1].update(lidar2ego=[[1]]), r"key frame 1 .* the shape \(1, 1\)"),
        ],
    )
    def test_malformed_frames_are_named(self, tmp_path, change, message):
        path = write_frames(tmp_path)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=message):
            read_frames(path)


def info_file(protocol):
    """Return the bytes of an info file of MMDetection3D 1.x with one sample."""
    camera = {
        "img_path": "n015__CAM_FRONT.jpg",
        "cam2img": np.diag([10.0, 20.0, 1.0]),
        "lidar2cam": np.eye(4)[[0, 2, 1, 3]].tolist(),
    }
    instance = {
        "bbox_label_3d": 1, "bbox_3d": np.arange(1.0, 8), "velocity": [np.nan, np.nan],
        "num_lidar_pts": np.int64(4), "num_radar_pts": 0, "attr_label": 6,
    }  # fmt: skip
    sample = {
        "token": "abc", "ego2global": np.eye(4), "lidar_points": {"lidar2ego": np.eye(4).tolist()},
        "images": dict.fromkeys(CAMERAS, camera), "instances": [instance],
    }  # fmt: skip
    content = {"metainfo": {"categories": {"bus": 0, "car": 1}}, "data_list": [sample]}
    return pickle.dumps(content, protocol=protocol)


class TestInfoFiles:
    @pytest.mark.parametrize("protocol", [2, 4, 5])
    def test_are_read_without_running_anything(self, tmp_path, protocol):
        path = tmp_path / "infos.pkl"
        path.write_bytes(info_file(protocol))
        (frame,) = read_frames(path)
        (only,) = frame.boxes
        assert (only.name, only.points, only.attribute) == ("car", (4, 0), "vehicle.parked")
        assert only.numbers[:7] == (1, 2, 3, 4, 5, 6, 7)
        assert all(math.isnan(v) for v in only.numbers[7:])
        camera = frame.cameras["CAM_FRONT"]
        assert camera.file == "samples/CAM_FRONT/n015__CAM_FRONT.jpg"
        assert camera.lidar2img.tolist() == [
            [10, 0, 0, 0], [0, 0, 20, 0], [0, 1, 0, 0], [0, 0, 0, 1],
        ]  # fmt: skip

    def test_become_json_that_reads_alike(self, tmp_path):
        path, other = tmp_path / "infos.pkl", tmp_path / "frames.json"
        path.write_bytes(info_file(4))
        frames = read_frames(path)
        other.write_text(json.dumps(as_json(frames)))
        assert as_json(read_frames(other)) == as_json(frames)

    def test_what_would_run_code_is_refused(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "made"),)

        path = tmp_path / "infos.pkl"
        path.write_bytes(pickle.dumps([Evil()]))
        with pytest.raises(DataError, match=r"asks for \w+\.mkdir, which may run code"):
            read_plain_pickle(path)
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("data", [b"", b"no pickle", b"\x80\x04N", info_file(4)[:-40]])
    def test_other_files_are_told(self, tmp_path, data):
        path = tmp_path / "infos.pkl"
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"infos\.pkl"):
            read_frames(path)

    def test_old_bytes_are_those_of_latin1_alone(self, tmp_path):
        class Odd:
            def __reduce__(self):
                return codecs.encode, ("abc", "rot13")

        path = tmp_path / "infos.pkl"
        path.write_bytes(pickle.dumps(Odd()))
        with pytest.raises(DataError, match="bytes of an unknown encoding"):
            read_plain_pickle(path)


def seen(inputs, points):
    """Return where each camera sees (Q, 3) points, (N, Q, 2) pixels, of those ahead of it."""
    pixels, depth = project(points[None], inputs["lidar2img"][None])
    return torch.where(depth[..., None] > 0, pixels, 0.0)[0]


POINTS = torch.tensor([[1.0, 9, 0], [8, 3, -1], [-7, -4, 1]])


class TestTransforms:
    @pytest.mark.parametrize(
        ("transform", "size", "moved"),
        [
            (ResizeViews(size=(12, 60)), (12, 60), lambda u, v: (1.5 * u, v / 2)),
            (CropViews(size=(16, 30)), (16, 30), lambda u, v: (u - 5, v - 8)),
            (CropViews(size=(16, 40), place="top"), (16, 40), lambda u, v: (u, v)),
            (CropViews(size=(16, 40), place="center"), (16, 40), lambda u, v: (u, v - 4)),
            (FlipViews(prob=1.0), (24, 40), lambda u, v: (40 - u, v)),
            (FlipViews(prob=0.0), (24, 40), lambda u, v: (u, v)),
            (PadViews(multiple=32), (32, 64), lambda u, v: (u, v)),
        ],
    )
    def test_matrices_follow_the_pixels(self, dataset, transform, size, moved):
        inputs, objects = dataset[0]
        before = inputs["lidar2img"].clone()
        changed, same = transform(inputs, objects)
        assert tuple(changed["images"].shape) == (6, 3, *size)
        assert same is objects
        u, v = seen(inputs, POINTS).unbind(-1)
        ahead = (u != 0) | (v != 0)
        expected = torch.stack(moved(u, v), dim=-1)[ahead]
        assert_close(seen(changed, POINTS)[ahead], expected, rtol=1e-4, atol=1e-3)
        assert torch.equal(inputs["lidar2img"], before)

    def test_a_bright_pixel_goes_where_the_matrix_says(self, dataset):
        inputs, objects = dataset[0]
        u, v = seen(inputs, POINTS)[0, 0].long().tolist()
        images = torch.zeros_like(inputs["images"])
        images[0, :, v, u] = 255
        changed = {**inputs, "images": images}
        for transform in (CropViews(size=(16, 36)), FlipViews(prob=1.0)):
            changed, _ = transform(changed, objects)
        u, v = seen(changed, POINTS)[0, 0].long().tolist()
        assert (changed["images"][0, :, v, u] == 255).all()

    def test_random_windows_are_inside(self, dataset):
        torch.manual_seed(0)
        places = set()
        for _ in range(20):
            changed, _ = CropViews(size=(20, 30), place="random")(*dataset[0])
            move = (dataset[0][0]["lidar2img"] - changed["lidar2img"])[0]
            places.add((round(float(move[0, 1]), 3), round(float(move[1, 1]), 3)))
        assert len(places) > 10

    def test_a_window_larger_than_the_images_is_told(self, dataset):
        with pytest.raises(ConfigError, match=r"CropViews.size \[30, 30\] is larger"):
            CropViews(size=(30, 30))(*dataset[0])

    def test_objects_without_points_or_beyond_the_space_go(self):
        objects = objects_of(4)
        objects.points[1] = torch.tensor([0, 5])
        moved = objects.boxes.clone()
        moved[2, 0] = 51.2
        moved[3, 6] = 3.5
        _, kept = KeepObjects()({}, objects.with_boxes(moved))
        assert kept.labels.tolist() == [0, 3]
        assert float(kept.boxes[1, 6]) == pytest.approx(3.5 - 2 * math.pi)
        assert len(KeepObjects(space=None, lidar_points=0)({}, objects)[1]) == 4

    def test_light_and_colours_change_alone(self, dataset):
        inputs, objects = dataset[0]
        torch.manual_seed(0)
        changed, same = PhotometricDistortion()(inputs, objects)
        assert same is objects
        assert torch.equal(changed["lidar2img"], inputs["lidar2img"])
        assert changed["images"].dtype == torch.uint8
        moves = (changed["images"].float() - inputs["images"].float()).abs().flatten(1).mean(1)
        assert (moves > 0).sum() >= 4
        assert len(set(moves.tolist())) > 3  # each camera on its own
        still = PhotometricDistortion(
            brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0, swap=False
        )
        unchanged = still(inputs, objects)[0]["images"].float()
        assert (unchanged - inputs["images"].float()).abs().max() <= 1


def test_batches_are_padded_and_blue_comes_first(dataset):
    rule = Preprocess(mean=(1, 2, 3), std=(1, 1, 1), channels="bgr", pad_multiple=32)
    loader = build_loader(dataset, transforms=[], batch_size=2, preprocess=rule, training=False)
    (batch,) = loader
    assert batch.inputs["images"].shape == (2, 6, 3, 32, 64)
    assert batch.inputs["lidar2img"].shape == (2, 6, 4, 4)
    expected = dataset[1][0]["images"].float().flip(1) - torch.tensor([1.0, 2, 3]).view(3, 1, 1)
    assert_close(batch.inputs["images"][1, :, :, :24, :40], expected)
    assert not batch.inputs["images"][..., 24:, :].any()
    assert [target.token for target in batch.targets] == ["frame-0", "frame-1"]


class TestGridMask:
    def test_blanks_squares_in_training_alone(self):
        mask, images = GridMask(prob=1.0), torch.ones(1, 6, 3, 40, 60)
        torch.manual_seed(3)
        blanked = mask(images)
        assert torch.equal(blanked, blanked[:, :1, :1].expand_as(blanked))  # alike in all images
        one = blanked[0, 0, 0]
        empty = one == 0
        assert 0.05 < empty.float().mean() < 0.5  # a quarter, with bars of half the step
        rows, columns = empty.any(1), empty.any(0)
        assert torch.equal(empty, rows[:, None] & columns)  # squares: all but the bars
        assert mask.eval()(images) is images
        assert GridMask(prob=0.0)(images) is images


class TestBoxes:
    def test_codes_by_hand(self):
        one = torch.tensor([1.0, 2, 3, 4, 2, 1, math.pi / 6, 0.5, -0.5])
        code = [1, 2, math.log(4), math.log(2), 3, 0, 0.5, math.sqrt(3) / 2, 0.5, -0.5]
        assert_close(encode(one), torch.tensor(code))
        assert_close(decode(encode(one)), one)
        assert float(standing(one)[2]) == 2.5

    def test_corners_by_hand(self):
        # heading along +y: the length lies on y, the left is -x
        one = torch.tensor([[10.0, 20, 1, 4, 2, 2, math.pi / 2, 0, 0]])
        front = [[9.0, 22, 0], [9, 22, 2], [11, 22, 2], [11, 22, 0]]
        assert_close(corners(one)[0, :4], torch.tensor(front))
        assert_close(corners(one)[0, 4:], torch.tensor(front) - torch.tensor([0.0, 4, 0]))

    def test_angles_wrap(self):
        angles = torch.tensor([0.0, 4.0, -4.0, 7.0])
        assert (wrapped(angles).abs() <= math.pi).all()
        assert_close(wrapped(angles).sin(), angles.sin())

    def test_logits_stay_finite_at_the_ends(self):
        assert_close(logits(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([-11.5129, 0, 11.5129]))


class TestDrawing:
    def test_an_edge_ends_where_it_comes_too_near(self):
        matrix = torch.eye(4)[[0, 2, 1, 3]].double()  # looks along y, one pixel a radian
        ends = torch.tensor([[0.0, -1, 0], [0, 9, 0.9]]).double()
        line = project_edge(ends, matrix)
        share = 1.1 / 10  # of the way, where y is 0.1
        assert_close(line, torch.tensor([[0, 0.9 * share / 0.1], [0, 0.1]]).double())
        assert project_edge(-ends.abs(), matrix) is None

    def test_picture_has_all_cameras_and_the_ground(self, dataset, tmp_path):
        inputs, objects = dataset[0]
        path = draw_frame(
            inputs["images"], inputs["lidar2img"], objects, path=tmp_path / "pictures/frame.png"
        )
        picture = Image.open(path)
        assert picture.size == (3 * 40 + 48, 48)
        left = np.array(picture.crop((0, 0, 40, 24)))  # FRONT_LEFT, the third camera
        same = (left == inputs["images"][2].permute(1, 2, 0).numpy()).all(2).mean()
        assert same > 0.5

    def test_from_above_ahead_is_up_and_right_is_right(self):
        one = torch.tensor([11.0, 33, 0, 4, 2, 1, 0, 0, 0])
        picture = np.array(draw_above([(one, "#ff0000")], 220))
        y, x = np.nonzero((picture == [255, 0, 0]).all(2))
        # 2 pixels a metre, the lidar in the middle
        assert x.mean() == pytest.approx(110 + 2 * 11, abs=2)
        assert y.mean() == pytest.approx(110 - 2 * 33, abs=2)


@pytest.fixture(scope="module")
def keyframe(test_data):
    path = test_data / "nuscenes_keyframe" / "keyframe.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def test_real_key_frame(keyframe):
    dataset = NuScenesDataset(annotations=str(keyframe))
    (frame,) = read_frames(keyframe)
    known = json.loads(keyframe.read_text())
    assert list(dataset.classes) == known["detr3d_class_order"]
    assert list(dataset.cameras) == known["camera_order"]
    objects = dataset._objects[0]
    assert len(objects) == 68  # one of the 69 is outside the ten classes
    assert dataset.left_out() == {}
    _, kept = KeepObjects()({}, objects)
    assert len(kept) < len(objects)
    matrices = torch.from_numpy(
        np.stack([frame.cameras[name].lidar2img for name in dataset.cameras])
    )
    pixels, depth = project(objects.boxes[None, :, :3].double(), matrices[None])
    u, v = pixels[0].unbind(-1)
    inside = (depth[0] > 0) & (u > 0) & (u < 1600) & (v > 0) & (v < 900)
    # the file counts 84 pairs of box and camera in view, of corners; centres are a few fewer
    assert 68 <= int(inside.sum()) <= 84


def test_second_log_has_no_images(keyframe):
    path = keyframe.with_name("second_log_no_images.json")
    assert [len(frame.boxes) for frame in read_frames(path)] == [37, 38]
    with pytest.raises(DataError, match="no usable image is left"):
        NuScenesDataset(annotations=str(path))


def test_boxes_of_no_size_are_left_out(tmp_path):
    path = write_frames(tmp_path)
    content = json.loads(path.read_text())
    content[0]["boxes"].append({**box("car"), "w": 0.0})
    path.write_text(json.dumps(content))
    dataset = NuScenesDataset(annotations=str(path))
    assert dataset.count(0) == 2
    assert [fault.kind for fault in dataset.faults] == ["a box without size"]
