"""CIFAR-10 as an archive and as batches, whole and broken."""

import io
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from razorlite.core.errors import DataError
from razorlite.data import CifarBatchesDataset, CifarTarDataset
from tests.data.helpers import cut_off, kinds


def png(grey):
    stream = io.BytesIO()
    Image.new("L", (4, 4), grey).save(stream, format="PNG")
    return stream.getvalue()


class TestArchive:
    def write(self, path, members, mode="w:gz"):
        """Write {name: bytes}."""
        with tarfile.open(path, mode) as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return str(path)

    def test_paths_of_every_kind(self, tmp_path):
        names = ["train/cat/0.png", "./train/cat/1.png", "/train/dog/0.png", "train//dog/1.png"]
        archive = self.write(tmp_path / "a.tar.gz", {n: png(i) for i, n in enumerate(names)})
        dataset = CifarTarDataset(archive=archive)
        greys, labels = zip(*(dataset[index] for index in range(4)), strict=True)
        assert [int(image[0, 0, 0]) for image in greys] == [0, 1, 2, 3]
        assert labels == (0, 0, 1, 1)
        with pytest.raises(DataError, match="no images under val/<class>/; there is train"):
            CifarTarDataset(archive=archive, split="val")

    def test_what_is_no_image_of_the_split_is_left_out(self, tmp_path):
        other = ["train/cat/._0.png", "train/.x/0.png", "train/cat/Thumbs.db", "train/cat/a.txt"]
        other += ["../train/cat/5.png", "train/cat/deep/0.png", "val/cat/0.png", "0.png"]
        members = {"train/cat/0.png": png(7), **dict.fromkeys(other, b"no image")}
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            link = tarfile.TarInfo("train/cat/link.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        dataset = CifarTarDataset(archive=str(tmp_path / "a.tar"))
        assert (dataset.names, dataset.classes) == (["train/cat/0.png"], ("cat",))

    def test_files_too_large_are_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("razorlite.data.cifar._MEMBER_BYTES", 1000)
        members = {"train/cat/0.png": png(7), "train/cat/1.png": bytes(2000)}
        dataset = CifarTarDataset(archive=self.write(tmp_path / "a.tar.gz", members))
        assert (len(dataset), kinds(dataset)) == (1, ["file too large for an image"])

    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
    def test_cut_off(self, tmp_path, mode):
        noise = np.random.default_rng(0).bytes(20_000)
        path = tmp_path / "a.tar"
        self.write(path, {f"train/cat/{i}.png": noise for i in range(3)}, mode)
        cut_off(path)
        with pytest.raises(DataError, match=r"no readable tar archive: [^\n]+$"):
            CifarTarDataset(archive=str(path))

    def test_broken_archive(self, tmp_path):
        (tmp_path / "cifar.tar.gz").write_bytes(b"no archive")
        with pytest.raises(DataError, match="no readable tar archive"):
            CifarTarDataset(archive=str(tmp_path / "cifar.tar.gz"))


class TestCifarBatches:
    def write(self, folder, content=None):
        batch = {"data": np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)}
        batch["labels"] = [1, 0]
        (folder / "test_batch").write_bytes(pickle.dumps(content or batch))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))

    def test_planes_are_red_green_blue(self, tmp_path):
        self.write(tmp_path)
        dataset = CifarBatchesDataset(root=str(tmp_path), split="test")
        image, label = dataset[1]
        assert (len(dataset), label, dataset.classes) == (2, 0, ("cat", "dog"))
        assert image.shape == (3, 32, 32)
        assert image[1, 2, 3] == (3072 + 1024 + 2 * 32 + 3) % 256

    def test_a_pickle_that_runs_code_is_refused(self, tmp_path):
        self.write(tmp_path, content=print)
        with pytest.raises(DataError, match=r"is no CIFAR batch: it wants builtins.print"):
            CifarBatchesDataset(root=str(tmp_path), split="test")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"data": np.zeros((2, 3072), np.uint8)}, "expected data and labels"),
            (
                {"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1]},
                r"expected \(2, 3072\) uint8",
            ),
            ({"data": np.zeros((2, 3072)), "labels": [0, 1]}, "float64"),
            (
                {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 5]},
                "labels from 0 to 1 expected",
            ),
            ([1, 2], "expected data and labels"),
        ],
    )
    def test_other_contents(self, tmp_path, content, message):
        self.write(tmp_path, content)
        with pytest.raises(DataError, match=message):
            CifarBatchesDataset(root=str(tmp_path), split="test")

    @pytest.mark.parametrize("data", [b"", b"\x80\x04.", b"garbage", b"]]]q\x00", b"c\n\n."])
    def test_broken_pickles(self, tmp_path, data):
        self.write(tmp_path)
        (tmp_path / "test_batch").write_bytes(data)
        with pytest.raises(DataError, match=r"is no CIFAR batch: [^\n]+$"):
            CifarBatchesDataset(root=str(tmp_path), split="test")
