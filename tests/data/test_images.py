"""Images of every kind, and those that would hang, crash or swamp a reader."""

import io
import logging
import os
import socket
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from razorlite.core.errors import ConfigError, DataError
from razorlite.data import CocoDataset, Decoding, ImageFolderDataset
from razorlite.data.images import upright
from tests.data.helpers import coco, kinds, noise, save_image

ORIENTATION = 274  # the EXIF tag
# what a viewer shows of the pixels  a b c / d e f, for each orientation
SHOWN = {
    1: ["abc", "def"],
    2: ["cba", "fed"],
    3: ["fed", "cba"],
    4: ["def", "abc"],
    5: ["ad", "be", "cf"],
    6: ["da", "eb", "fc"],
    7: ["fc", "eb", "da"],
    8: ["cf", "be", "ad"],
}


def letters(rows):
    return np.array([[ord(letter) for letter in row] for row in rows], dtype=np.uint8)


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def save_letters(path, orientation, **kwargs):
    """Write a b c / d e f, each letter's grey 1 pixel large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(letters(SHOWN[1])).save(path, exif=exif(orientation), **kwargs)
    return path


def grey(path, **kwargs):
    return Decoding(**kwargs).read(path)[0].numpy()


def refusal(path, **kwargs):
    """What is reported of an image, by a look at its header and by decoding alike."""
    texts = []
    for read in (Decoding(**kwargs).header, Decoding(**kwargs).read):
        with pytest.raises(OSError, match=r"^[^\n]+$") as error:
            read(path)
        texts.append(str(error.value))
    assert texts[0] == texts[1]
    return texts[0]


class TestOrientation:
    @pytest.mark.parametrize("orientation", SHOWN)
    @pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
    def test_all_eight_by_hand(self, tmp_path, orientation, suffix):
        lossless = {"lossless": True} if suffix == "webp" else {}
        path = save_letters(tmp_path / f"a.{suffix}", orientation, **lossless)
        shown, stored = letters(SHOWN[orientation]), letters(SHOWN[1])
        assert Decoding().header(path).size == (2, 3)
        assert Decoding().header(path).upright_size == shown.shape
        for how, expected in (("auto", shown), ("upright", shown), ("stored", stored)):
            assert (abs(grey(path, orientation=how).astype(int) - expected) <= 1).all()  # webp: YUV

    @pytest.mark.parametrize("orientation", SHOWN)
    def test_there_and_back(self, orientation):
        array = letters(SHOWN[1])[..., None]
        back = {6: 8, 8: 6}.get(orientation, orientation)
        assert (upright(upright(array, orientation), back) == array).all()
        assert (
            upright(array, orientation).squeeze(2).tolist() == letters(SHOWN[orientation]).tolist()
        )

    @pytest.mark.parametrize("orientation", range(2, 9))
    def test_boxes_lie_on_what_the_annotator_saw(self, tmp_path, orientation, caplog):
        # a light patch in a dark image, drawn as seen, with its box, and stored turned
        seen = np.zeros((40, 60) if orientation < 5 else (60, 40), dtype=np.uint8)
        seen[5:15, 20:32] = 255
        back = {6: 8, 8: 6}.get(orientation, orientation)
        stored = upright(seen[..., None], back)[..., 0]
        files = coco(tmp_path, [(1, 20, 5, 12, 10)], images=1, size=seen.shape)
        Image.fromarray(stored).save(
            tmp_path / "images" / "1.jpg", format="PNG", exif=exif(orientation)
        )
        for checked in (True, False):
            dataset = CocoDataset(**files, check_images=checked, strict=True)
            image, target = dataset[0]
            x1, y1, x2, y2 = target.boxes[0].int().tolist()
            assert (image[:, y1:y2, x1:x2] == 255).all()
            assert (image == 255).sum() == 3 * 10 * 12
        (line,) = [record.getMessage() for record in caplog.records]
        assert "1 images have an EXIF orientation" in line
        assert "1 are turned upright, 0 stay as stored" in line

    def test_lying_images_annotated_as_stored_stay_so(self, tmp_path, caplog):
        files = coco(tmp_path, [(1, 20, 5, 12, 10)], images=1)
        save_image(tmp_path / "images" / "1.jpg", exif=exif(6))
        assert CocoDataset(**files, strict=True)[0][0].shape == (3, 40, 60)
        assert "0 are turned upright, 1 stay as stored" in caplog.text
        with pytest.raises(DataError, match="the file is 40 x 60, annotated 60 x 40"):
            CocoDataset(**files, decoding=Decoding(orientation="upright"), strict=True)

    def test_square_ones_follow_the_setting(self, tmp_path):
        files = coco(tmp_path, [], images=1, size=(40, 40))
        stored = save_image(tmp_path / "images" / "1.jpg", (40, 40), exif=exif(8))
        plain = torch.from_numpy(np.array(Image.open(stored))).permute(2, 0, 1)
        assert torch.equal(CocoDataset(**files)[0][0], plain.rot90(1, (1, 2)))
        as_stored = Decoding(orientation="stored")
        assert torch.equal(CocoDataset(**files, decoding=as_stored)[0][0], plain)

    def test_class_folders(self, tmp_path, caplog):
        save_letters(tmp_path / "a" / "1.png", 3)
        dataset = ImageFolderDataset(root=str(tmp_path))
        assert dataset[0][0][0].tolist() == letters(SHOWN[3]).tolist()
        assert "1 images have an EXIF orientation" in caplog.text

    def test_broken_exif_says_nothing(self, tmp_path):
        path = save_image(tmp_path / "a.jpg", exif=b"Exif\0\0" + b"\xff" * 40)
        assert Decoding().header(path).orientation == 1
        assert Decoding().read(path).shape == (3, 40, 60)


class TestDeepPixels:
    """Pixels of more than 8 bits; the expected values are 255 / white * value by hand."""

    def save(self, tmp_path, values, dtype):
        path = tmp_path / "a.tif"
        Image.fromarray(np.array([values], dtype=dtype)).save(path)
        return path

    def test_sixteen_bits(self, tmp_path):
        path = self.save(tmp_path, [0, 257, 128 * 257, 65535], np.uint16)
        assert grey(path).tolist() == [[0, 1, 128, 255]]
        Image.open(path).save(tmp_path / "a.png")
        assert grey(tmp_path / "a.png").tolist() == [[0, 1, 128, 255]]

    def test_big_endian(self, tmp_path):
        path = tmp_path / "a.pgm"
        path.write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 257, 65535))
        assert grey(path).tolist() == [[1, 255]]

    def test_twelve_bits_in_sixteen_would_be_black(self, tmp_path):
        path = self.save(tmp_path, [0, 819, 4095], np.uint16)
        assert "grey values from 0 to 4095 are not on the scale of 16 bits" in refusal(path)
        assert grey(path, white=4095).tolist() == [[0, 51, 255]]
        assert grey(path, white=2047.5).tolist() == [[0, 102, 255]]

    def test_all_black_is_no_fault(self, tmp_path):
        assert grey(self.save(tmp_path, [0, 0], np.uint16)).tolist() == [[0, 0]]
        assert grey(self.save(tmp_path, [0, 0], np.float32)).tolist() == [[0, 0]]

    def test_floats_from_0_to_1(self, tmp_path):
        path = self.save(tmp_path, [0.0, 0.2, 0.5, 1.0], np.float32)
        assert grey(path).tolist() == [[0, 51, 128, 255]]

    def test_other_floats_want_their_white(self, tmp_path):
        path = self.save(tmp_path, [0.0, 100.0, 250.0], np.float32)
        assert "grey values from 0 to 250 are not on the scale of 0 to 1" in refusal(path)
        assert grey(path, white=255).tolist() == [[0, 100, 250]]

    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            ([-5, 60000], np.int32),
            ([0, 70000], np.int32),
            ([-0.5, 0.5], np.float32),
            ([np.nan, 0.5], np.float32),
            ([np.inf, 0.5], np.float32),
        ],
    )
    def test_what_would_wrap_is_refused(self, tmp_path, values, dtype):
        path = self.save(tmp_path, values, dtype)
        assert "are not on the scale of" in refusal(path)
        if not values[0] >= 0:
            assert "below 0, or not finite" in refusal(path, white=1000.0)

    @pytest.mark.parametrize(
        ("most", "fine"), [(4095, False), (4096, True), (65535, True), (0, True)]
    )
    def test_colours_of_twelve_bits_in_sixteen(self, tmp_path, most, fine):
        path = tmp_path / "a.png"
        row = b"\0" + struct.pack(">6H", 0, 0, 0, most, 0, 0)
        path.write_bytes(png(2, 1, row, kind=b"\x10\x02\0\0\0"))
        if fine:
            assert Decoding().read(path)[:, 0].tolist() == [[0, most >> 8], [0, 0], [0, 0]]
        else:
            assert "of which 12 are used at most" in refusal(path)

    @pytest.mark.parametrize(("bits", "kind"), [(8, "b"), (16, "h"), (32, "i")])
    def test_signed_values_do_not_wrap(self, tmp_path, bits, kind):
        path = tmp_path / "a.tif"
        path.write_bytes(signed_tiff(bits, struct.pack(f"<2{kind}", -1, 5)))
        message = refusal(path)  # older Pillows do not read signed bytes
        assert any(
            text in message for text in ("signed", "from -1 to 5", "no image of a known kind")
        )

    def test_a_data_set_names_them_at_once(self, tmp_path):
        files = coco(tmp_path, [], images=2)
        dark = Image.fromarray(np.full((40, 60), 700, dtype=np.uint16))
        dark.save(tmp_path / "images" / "1.jpg", format="PNG")
        dataset = CocoDataset(**files)
        assert (kinds(dataset), len(dataset)) == (["unreadable image"], 1)
        light = CocoDataset(**files, decoding=Decoding(white=1023), strict=True)
        assert (light[0][0] == 174).all()  # 700 * 255 / 1023 = 174.49

    @pytest.mark.parametrize("wrong", [{"white": 0}, {"white": float("nan")}, {"max_pixels": 0}])
    def test_impossible_settings(self, wrong):
        with pytest.raises(ConfigError, match=f"Decoding.{next(iter(wrong))} wants"):
            Decoding(**wrong)


class TestKinds:
    @pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
    def test_the_first_frame_counts(self, tmp_path, suffix):
        frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "green")]
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        image = Decoding().read(path)
        assert image.shape == (3, 6, 8)
        assert image[0].min() > 240
        assert image[1:].max() < 10

    def test_a_palette_with_transparency_keeps_its_colours(self, tmp_path):
        image = noise((6, 8)).quantize(16)
        expected = np.array(image.convert("RGB"))
        image.save(tmp_path / "a.png", transparency=bytes([0, 128] + [255] * 14))
        assert (Decoding().read(tmp_path / "a.png").permute(1, 2, 0).numpy() == expected).all()

    def test_large_images_are_converted_in_strips(self, tmp_path, monkeypatch):
        images = {m: noise((30, 40)).convert(m) for m in ("RGB", "P", "CMYK", "1", "LA")}
        for dtype in (np.uint16, np.float32):
            ramp = np.linspace(0, 1, 1200).reshape(30, 40) * (1 if dtype is np.float32 else 65535)
            images[str(dtype)] = Image.fromarray(ramp.astype(dtype))
        for image in images.values():
            image.save(tmp_path / "a.tif")
            whole = Decoding().read(tmp_path / "a.tif")
            with monkeypatch.context() as patch:
                patch.setattr("razorlite.data.images._STRIP", 290)  # seven rows
                assert torch.equal(Decoding().read(tmp_path / "a.tif"), whole)


def png(width, height, body=b"", kind=b"\x08\x02\0\0\0"):
    """A PNG file of the given size whose pixels are `body`, compressed."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    parts = [(b"IHDR", struct.pack(">II", width, height) + kind), (b"IDAT", zlib.compress(body))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")])


def signed_tiff(bits, data):
    """A TIFF file of two signed grey values in one row."""
    tags = {
        256: 2,
        257: 1,
        258: bits,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: 1,
        279: len(data),
        339: 2,
    }
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    ahead = data.ljust(8, b"\0")
    return (
        b"II*\0" + struct.pack("<I", 16) + ahead + struct.pack("<H", len(tags)) + entries + bytes(4)
    )


class TestHostile:
    @pytest.mark.parametrize("size", [(20000, 10000), (9000, 8000), (60000, 60000)])
    def test_huge(self, tmp_path, size):
        (tmp_path / "a.png").write_bytes(png(*size))
        text = refusal(tmp_path / "a.png")
        assert f"{size[0]} x {size[1]}" in text or str(size[0] * size[1]) in text
        assert "decoding.max_pixels = 64000000" in text

    def test_the_limit_is_a_setting(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
        path = save_image(tmp_path / "a.png")
        assert "60 x 40 pixels are more than decoding.max_pixels = 400" in refusal(
            path, max_pixels=400
        ) or "2400 pixels" in refusal(path, max_pixels=400)
        assert Decoding(max_pixels=2400).read(path).shape == (3, 40, 60)

    def test_large_text(self, tmp_path):
        info = PngImagePlugin.PngInfo()
        info.add_text("c", "x" * 2**21, zip=True)
        Image.new("RGB", (8, 6)).save(tmp_path / "a.png", pnginfo=info)
        assert "too large" in refusal(tmp_path / "a.png").lower()

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
    @pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
    def test_what_is_no_file_is_not_opened(self, tmp_path, kind):
        files = coco(tmp_path, [])
        path = tmp_path / "images" / "1.jpg"
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            here = os.getcwd()
            os.chdir(path.parent)  # names of sockets are short
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(path.name)
            os.chdir(here)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        dataset = CocoDataset(**files)
        assert kinds(dataset) == ["unreadable image"]
        assert "not a file" in dataset.faults[0].what
        with pytest.raises(OSError, match="not a file"):
            Decoding().read(path)

    @pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 5000 + ".jpg", "\udcff.jpg"])
    def test_names_that_no_file_can_have(self, tmp_path, name):
        entry = {"id": 9, "file_name": name, "height": 40, "width": 60}
        dataset = CocoDataset(**coco(tmp_path, [], extra_images=[entry]))
        assert (len(dataset), len(dataset.faults)) == (2, 1)
        with pytest.raises(OSError, match=r"^.+$"):
            Decoding().header(tmp_path / name)

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"", "the file is empty"),
            (b"<html>404</html>", "no image of a known kind"),
            (png(0, 5), r"\w"),
            (png(5, 5, b"\0"), r"\w"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n", "to be run"),
            (b"BM" + b"\xff" * 60, r"\w"),
        ],
        ids=["empty", "text", "no width", "too few pixels", "a program", "noise"],
    )
    def test_broken_files(self, tmp_path, data, text):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(OSError, match=text):
            Decoding().read(tmp_path / "a.png")

    def test_one_that_vanishes_after_the_list_was_made(self, tmp_path):
        dataset = CocoDataset(**coco(tmp_path, []))
        (tmp_path / "images" / "1.jpg").unlink()
        with pytest.raises(OSError, match="No such file"):
            dataset[0]

    def test_in_memory_as_on_disk(self):
        stream = io.BytesIO()
        noise((6, 8)).save(stream, format="PNG")
        assert torch.equal(
            Decoding().decode(stream.getvalue()),
            torch.from_numpy(np.array(noise((6, 8)))).permute(2, 0, 1),
        )


class TestClassFolders:
    def write(self, root):
        for name in ("cat/1.png", "dog/1.jpg"):
            save_image(root / name)
        return root

    def test_what_browsers_and_archivers_leave_is_no_data(self, tmp_path, caplog):
        self.write(tmp_path)
        save_image(tmp_path / ".ipynb_checkpoints" / "1.png")
        save_image(tmp_path / "__MACOSX" / "1.png")
        (tmp_path / "cat" / "._1.png").write_bytes(b"resource fork")
        (tmp_path / "cat" / "Thumbs.db").write_bytes(b"")
        dataset = ImageFolderDataset(root=str(tmp_path), strict=True)
        assert (dataset.classes, len(dataset)) == (("cat", "dog"), 2)
        assert not caplog.records

    def test_other_suffixes_are_told(self, tmp_path, caplog):
        self.write(tmp_path)
        save_image(tmp_path / "cat" / "2.JFIF", format="JPEG")
        (tmp_path / "cat" / "3.heic").write_bytes(b"")
        assert len(ImageFolderDataset(root=str(tmp_path), strict=True)) == 3
        assert "1 files do not have the suffix of an image" in caplog.text
        assert "3.heic" in caplog.text

    def test_links_in_a_circle_end(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
        (tmp_path / "cat" / "up").symlink_to(tmp_path)
        (tmp_path / "dog" / "more").symlink_to(tmp_path / "elsewhere")
        save_image(tmp_path / "elsewhere" / "5.png")
        dataset = ImageFolderDataset(root=str(tmp_path), classes=["dog"])
        assert [key[-10:] for key in dataset.keys] == ["/dog/1.jpg", "more/5.png"]

    def test_an_empty_class_keeps_its_label_and_is_named(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "bird").mkdir()
        dataset = ImageFolderDataset(root=str(tmp_path))
        assert dataset.classes == ("bird", "cat", "dog")
        assert kinds(dataset) == ["class folder without images"]
        assert [dataset[i][1] for i in range(2)] == [1, 2]

    def test_one_class_is_told(self, tmp_path, caplog):
        save_image(tmp_path / "cat" / "1.png")
        ImageFolderDataset(root=str(tmp_path))
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
        assert "one class only, 'cat'" in caplog.text

    def test_no_classes(self, tmp_path):
        save_image(tmp_path / "1.png")
        with pytest.raises(DataError, match=r"no class folders; expected .*/<class>/<image>"):
            ImageFolderDataset(root=str(tmp_path))

    @pytest.mark.parametrize("classes", [["cat", "cat"], []])
    def test_classes_come_once(self, tmp_path, classes):
        with pytest.raises(ConfigError, match=r"classes wants a value (without|that is not)"):
            ImageFolderDataset(root=str(self.write(tmp_path)), classes=classes)
