"""Files of tensors from anywhere: read, or refused in one line without harm."""

import io
import os
import pickle
import struct
import zipfile

import pytest
import torch
from torch import nn

from razorlite.core.errors import CheckpointError
from razorlite.core.tensor_files import named_tensors, read_tensor_file
from tests.fuzz import guarded


def refusal(path):
    with guarded(), pytest.raises(CheckpointError) as caught:
        read_tensor_file(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "; " in message  # what to do
    return message


def rezipped(data, change, method=zipfile.ZIP_STORED):
    """Write an archive anew with its parts, {name: bytes}, changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    change(parts)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def saved(content, **options):
    out = io.BytesIO()
    torch.save(content, out, **options)
    return out.getvalue()


def with_count(data, old, new):
    """Let a pickle state another number of values for a storage of `old`, below 256."""

    def change(parts):
        name = next(name for name in parts if name.endswith("data.pkl"))
        value = b"\x8a\x08" + struct.pack("<q", new)
        place = parts[name].index(b"K" + bytes([old]))
        parts[name] = parts[name][:place] + value + parts[name][place + 2 :]

    return rezipped(data, change)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int64", "bool", "complex64"])
def test_what_torch_saves_is_read(tmp_path, legacy, dtype):
    shared = torch.arange(20).to(getattr(torch, dtype))
    content = {
        "all": shared,
        "part": shared[3:7],
        "rows": shared.view(4, 5)[:, 1],
        "none": shared[:0],
        "parameter": nn.Parameter(torch.ones(2)),
        "plain": [1, (2.0, "x"), {None: True}],
    }
    path = tmp_path / "a.pt"
    path.write_bytes(saved(content, _use_new_zipfile_serialization=not legacy))
    read = read_tensor_file(path)
    assert read["plain"] == content["plain"]
    assert all(torch.equal(read[key], content[key]) for key in content if key != "plain")


def test_packed_archives_are_read(tmp_path):
    path, content = tmp_path / "a.pt", {"a": torch.randn(100)}
    path.write_bytes(rezipped(saved(content), lambda parts: None, zipfile.ZIP_DEFLATED))
    assert torch.equal(read_tensor_file(path)["a"], content["a"])


def test_archives_without_checksums_are_read(tmp_path):
    path, content = tmp_path / "a.pt", {"a": torch.randn(100)}
    data = bytearray(saved(content))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sums = [struct.pack("<I", entry.CRC) for entry in archive.infolist()]
    for crc in sums:
        data = data.replace(crc, bytes(4))
    path.write_bytes(data)
    assert torch.equal(read_tensor_file(path)["a"], content["a"])


def test_one_wrong_bit_in_the_weights(tmp_path):
    path, weights = tmp_path / "a.pt", torch.randn(100)
    data = bytearray(saved({"a": weights}))
    data[data.index(weights.numpy().tobytes()) + 9] ^= 4
    path.write_bytes(data)
    assert "Bad CRC-32" in refusal(path)


@pytest.mark.parametrize("count", [201, 10**12, -1, 2**62])
def test_storages_larger_than_their_bytes(tmp_path, count):
    """PyTorch would read what lies behind them in memory."""
    path = tmp_path / "a.pt"
    path.write_bytes(with_count(saved({"a": torch.zeros(200)}), 200, count))
    message = refusal(path)
    assert f"of {count} values" in message or f"to hold {count} values, but has 800" in message


def test_packed_bombs(tmp_path):
    path = tmp_path / "a.pt"

    def unfold(parts):
        name = next(name for name in parts if name.endswith("/data/0"))
        parts[name] = bytes(4 * 10**7)

    data = rezipped(saved({"a": torch.zeros(10**7)}), unfold, zipfile.ZIP_DEFLATED)
    path.write_bytes(data)
    assert len(data) < 10**5
    assert "would unfold to 40000" in refusal(path)


def test_parts_of_one_name(tmp_path):
    path = tmp_path / "a.pt"
    data = io.BytesIO(saved({"a": torch.zeros(3)}))
    with zipfile.ZipFile(data, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(next(n for n in archive.namelist() if n.endswith("/data/0")), b"")
    path.write_bytes(data.getvalue())
    assert "two parts have the same name" in refusal(path)


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_legacy_file_without_a_storage(tmp_path):
    """PyTorch would take the memory as it found it."""
    data = saved({"a": torch.ones(3)}, _use_new_zipfile_serialization=False)
    key = pickle.dumps([next(iter(torch_keys(data)))], protocol=2)
    path = tmp_path / "a.pt"
    path.write_bytes(data.replace(key, pickle.dumps([], protocol=2)))
    assert "is missing" in refusal(path)


def torch_keys(data):
    """Return the list of storages, the fifth pickle of a legacy file."""
    file = io.BytesIO(data)
    for _ in range(3):
        pickle.load(file)
    loader = pickle.Unpickler(file)
    loader.persistent_load = lambda saved: torch.zeros(3).storage()
    loader.load()
    return pickle.load(file)


def huge(*_):
    return torch.zeros(1).expand(10**12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.zeros(3, device="meta"), "without values (on the meta device)"),
        (lambda: torch.eye(3).to_sparse(), "a sparse tensor"),
        (lambda: torch.eye(3).to_sparse_csr(), "a sparse tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8), "quantised"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested|needs"),
        (huge, "more than the file of"),
    ],
    ids=["meta", "sparse", "sparse rows", "quantised", "nested", "repeated"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_weights(tmp_path, make, words):
    path = tmp_path / "a.pt"
    torch.save({"model": {"conv.weight": make()}}, path)
    message = refusal(path)
    assert any(word in message for word in words.split("|"))
    assert "model.conv.weight" in message or "needs" in message


def test_a_list_that_holds_itself(tmp_path):
    loop = [torch.ones(2)]
    loop.append(loop)
    torch.save(loop, tmp_path / "a.pt")
    assert torch.equal(read_tensor_file(tmp_path / "a.pt")[1][0], torch.ones(2))


def test_numbers_are_no_names(tmp_path):
    with pytest.raises(CheckpointError, match=r"a.pt names a tensor by 3, a int: that is no state"):
        named_tensors({"a": torch.ones(1), 3: torch.ones(1), 4: "no tensor"}, "a.pt")


def folder(path):
    path.mkdir()


def loop(path):
    path.symlink_to(path)


OTHERS = {
    "empty": b"",
    "text": b"weights: 3\n",
    "json": b'{"a": 1}',
    "safetensors": struct.pack("<Q", 60)
    + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} ',
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "numpy": b"\x93NUMPY\x01\x00" + bytes(100),
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zeros": bytes(20000),
    "memo": b"\x80\x02]r\xff\xff\xff\xff.",
    "text pickle": b"(lp0\n.",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files(tmp_path, name):
    path = tmp_path / "a.pt"
    path.write_bytes(OTHERS[name])
    refusal(path)


def test_archives_of_other_things(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    assert "a zip archive without tensors" in refusal(path)


@pytest.mark.parametrize("make", [folder, loop, getattr(os, "mkfifo", folder)])
def test_what_is_no_file(tmp_path, make):
    make(tmp_path / "a.pt")
    assert "is no file" in refusal(tmp_path / "a.pt")


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "a.pt").write_bytes(saved({}))

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("razorlite.core.tensor_files.open", forbidden, raising=False)
    assert "permission denied; make it readable" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("variable", ["1", "0"])
def test_the_environment_does_not_weaken_the_guard(tmp_path, monkeypatch, variable):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", variable)
    torch.save({"a": nn.Linear(1, 1)}, tmp_path / "a.pt")
    assert "could execute code: refused" in refusal(tmp_path / "a.pt")
