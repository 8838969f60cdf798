"""Damaged journals and subnet files: one line or the same winner, never another one."""

import json
import os

import pytest
import yaml

from razorlite.core.errors import RazorliteError, RunFolderError, SubnetError
from tests.fuzz import Raw, guarded, mutants_of_bytes, mutants_of_tree, to_json
from tests.search.contract import small_space
from tests.search.test_failures import make_study


@pytest.fixture(scope="module")
def good(module_path):
    """Bytes of a journal and what each candidate of it scores."""
    path = module_path / "journal.jsonl"
    study = make_study(path)
    study.run()
    return path.read_bytes(), study


def resumed(path, data):
    """Return the winner of a resumed, damaged journal, or the message about it."""
    path.write_bytes(data)
    study = make_study(path)
    try:
        with guarded():
            return study.run(resume=True)
    except RazorliteError as error:
        return str(error)


def told_of(trial):
    return trial.number, trial.score, dict(trial.subnet.choices), dict(trial.cost)


def changed_lines(data, count, seed):
    """Yield journals of which one line's content is changed."""
    lines = data.decode().splitlines()
    for number in range(len(lines)):
        for mutant in mutants_of_tree(json.loads(lines[number]), count, seed + number):
            text = mutant.data.decode(errors="surrogatepass").encode(errors="surrogatepass")
            parts = [line.encode() for line in lines]
            parts[number] = text
            yield f"line {number}: {mutant.name}", b"\n".join(parts) + b"\n"


def test_damaged_journals_never_change_the_winner(tmp_path, good):
    data, study = good
    mutants = [(m.name, m.data) for m in mutants_of_bytes(data, 60, 7)]
    mutants += changed_lines(data, 3, 40)
    refused = 0
    for name, damaged in mutants:
        best = resumed(tmp_path / "journal.jsonl", damaged)
        if isinstance(best, str):
            refused += 1
            assert "journal.jsonl" in best, name
            assert "\n" not in best, name
            assert len(best) < 1000, name
        else:
            assert told_of(best) == told_of(study.best), name
    assert len(mutants) >= 100
    assert refused > len(mutants) / 2


def edited(data, number, **values):
    """Return a journal of which one line has other values; `...` takes one out."""
    lines = data.decode().splitlines()
    record = {**json.loads(lines[number]), **values}
    lines[number] = to_json({k: v for k, v in record.items() if v is not ...}).decode()
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"score": "0.9"}, "score wants a finite number, got 0.9"),
        ({"score": Raw("Infinity")}, "score wants a finite number, got inf"),
        ({"score": Raw("NaN")}, "score wants a finite number, got nan"),
        ({"score": Raw("1" + "0" * 400)}, "score wants a finite number, got 1000"),
        ({"score": True}, "score wants a finite number, got True"),
        ({"score": 5.0}, "score is 5.0, and by its AP it is -"),
        ({"score": 5.0, "scores": {}}, "search.metric 'AP' is not among the metrics , nor"),
        ({"score": None}, "a trial has a score or an error, got None and None"),
        ({"scores": {"AP": "many"}}, "scores wants names and numbers"),
        ({"error": "broken"}, "a trial has a score or an error"),
        ({"error": 3, "score": None}, "error wants a text or null, got 3"),
        ({"cost": ...}, "a trial lacks cost"),
        ({"cost": {}}, r"the cost is {'macs': \d+}, got {}"),
        ({"cost": {"macs": 1}}, r"the cost is {'macs': \d+}, got {'macs': 1}"),
        (
            {"cost": {"macs": 1, "ms": 2}},
            r"the cost is {.*}, got {'macs': 1, 'ms': 2} \(of another cost model",
        ),
        ({"cost": [1]}, r"the cost is {'macs': \d+}, got \[1\]"),
        ({"seconds": -1}, "seconds wants a number from 0, got -1"),
        ({"trial": 3}, "wants trial 2, got trial 3"),
        ({"trial": True}, "wants trial 2, got trial True"),
        ({"choices": {"place_0": "a"}}, "trial 2 is not what its batch proposes"),
        ({"more": 1}, "a trial has no more"),
    ],
)
def test_a_trial_that_makes_no_sense_is_named_with_its_line(tmp_path, good, values, message):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(edited(good[0], 4, **values))
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match=rf"journal.jsonl:5: {message}.*start in another"):
        make_study(path).run(resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:5], lines[4], *lines[5:]], ":6: wants trial 3, got trial 2"),
        (lambda lines: [*lines[:4], *lines[5:]], ":5: wants trial 2, got trial 3"),
        (lambda lines: [*lines, lines[-1]], ":23: a batch of proposals is missing before trial 18"),
        (
            lambda lines: [lines[0], *lines[2:]],
            ":2: a batch of proposals is missing before trial 0",
        ),
        (lambda lines: [*lines[:2], *lines[1:]], ":3: wants batch 1, got batch 0"),
        (lambda lines: [*lines[:7], *lines[8:]], ":8: trial 5 is missing before it"),
        (lambda lines: [b'{"kind": "train", "step": 1}'], ":1: wants the first line of a search's"),
        (lambda lines: [b"{}"], ":1: wants the first line of a search's journal, got one with not"),
        (lambda lines: lines[1:], ":1: wants the first line of a search's journal"),
        (
            lambda lines: [lines[0].replace(b'"format": 3', b'"format": 2'), *lines[1:]],
            "is of format 2, this version of razorlite reads 3; start the search anew in another",
        ),
        (lambda lines: [b"\x89PNG\r", b"\x00" * 99], ":1: not a JSON object"),
        (lambda lines: [*lines[:2], b"[" * 100_000, *lines[2:]], ":3: not a JSON object"),
        (lambda lines: [lines[0], b"7" * (17 << 20)], ":2: a line of more than 16,777,216 bytes"),
        (lambda lines: [*lines[:2], b"\x00" * 40, *lines[2:]], ":3: not a JSON object"),
    ],
)
def test_journals_that_are_none(tmp_path, good, change, message):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"\n".join(change(good[0].splitlines())) + b"\n")
    with guarded(), pytest.raises(RunFolderError, match=message) as caught:
        make_study(path).run(resume=True)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "values",
    [
        {"digest": "0" * 16},
        {"digest": None},
        {"proposals": [[0, 1, 2, 0, 1, 2]]},
        {"state": {}},
        {"state": None},
        {"batch": 1},
        {"more": 1},
        {"digest": ...},
    ],
)
def test_a_batch_that_was_changed_is_refused(tmp_path, good, values):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(edited(good[0], 1, **values))
    with pytest.raises(RunFolderError, match=r"journal.jsonl:2: batch 0 is damaged: it is not"):
        make_study(path).run(resume=True)


@pytest.mark.parametrize("kept", ["", "header", "torn"])
def test_an_empty_and_a_torn_journal_go_on(tmp_path, good, kept):
    data, study = good
    path = tmp_path / "journal.jsonl"
    header = data[: data.index(b"\n") + 1]
    path.write_bytes({"": b"", "header": header, "torn": data[:-30]}[kept])
    assert make_study(path).run(resume=True).number == study.best.number
    assert path.read_bytes().count(b"\n") == data.count(b"\n")


def test_pipes_and_folders_are_no_journals(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(RunFolderError, match="is no file but a folder, a pipe or a device"):
            make_study(path).run(resume=True)


def subnet_tree():
    space = small_space()
    subnet = space.decode([0, 1, 2, 0, 1, 2]).with_results(
        cost={"macs": 12, "latency_ms": 3.7}, scores={"AP": 0.5}, origin={"made_by": "search"}
    )
    return space, yaml.safe_load(subnet.to_yaml())


def loaded(path, space):
    """Return the subnet of a file, or the message about it."""
    try:
        with guarded():
            return space.load(path)
    except SubnetError as error:
        return str(error)


HOSTILE = {
    "aliases": ("a: &a [x, x]\nb: &b [*a, *a]\n", "line 2: aliases"),
    "deep": ("[" * 3_000, "nested too deeply"),
    "many keys": ("".join(f"k{i}: a\n" for i in range(1_000)), "no dimension of this search space"),
    "a date": ("place_0: 2021-13-45\n", "not YAML"),
    "an empty whole number": ("place_0: !!int ''\n", "not YAML"),
    "code": ("!!python/object/apply:os.system ['false']\n", "not YAML"),
    "infinite cost": ("choices: {}\ncost: {macs: .inf}\n", "cost.macs wants a finite number, got"),
    "no number": ("choices: {}\nscores: {AP: .nan}\n", "scores.AP wants a finite number, got nan"),
    "too large": ("choices: {}\ncost: {macs: 1" + "0" * 400 + "}\n", "wants a finite number"),
    "negative channel": ("channels: {g: [-1, 2]}\n", "of the first channels stay, got [-1, 2]"),
    "channel twice": ("channels: {g: [1, 1]}\n", "of the first channels stay, got [1, 1]"),
    "key twice": ("place_0: a\nplace_1: b\nplace_0: b\n", "line 3: 'place_0' is written twice"),
    "huge": ("#" * (5 << 20), "has more than 4,194,304 bytes"),
    "a line in a key": ('"a\\nb": x\n', "a b is no dimension of this search space"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_subnet_files(tmp_path, name):
    text, message = HOSTILE[name]
    path = tmp_path / "subnet.yaml"
    path.write_text(text)
    text = loaded(path, small_space())
    assert message in text
    assert "\n" not in text
    assert len(text) < 500


def test_pipes_and_folders_are_no_subnet_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert "is no file but a folder, a pipe" in loaded(path, small_space())


def test_damaged_subnet_files_are_one_line_or_a_point_of_the_space(tmp_path):
    space, tree = subnet_tree()
    path = tmp_path / "subnet.yaml"
    text = yaml.safe_dump(tree, sort_keys=False).encode()
    mutants = [*mutants_of_tree(tree, 60, 3, dump=to_json), *mutants_of_bytes(text, 60, 4)]
    for mutant in mutants:
        path.write_bytes(mutant.data)
        subnet = loaded(path, space)
        if isinstance(subnet, str):
            assert "\n" not in subnet, mutant.name
            assert str(path) in subnet, mutant.name
            assert len(subnet) < 1000, mutant.name
            continue
        assert subnet.choices.keys() == space.choices.keys(), mutant.name
        assert all(name in space.choices[p] for p, name in subnet.choices.items()), mutant.name
        assert all(abs(value) < float("inf") for value in subnet.cost.values()), mutant.name
