"""Mutated checkpoints: refused in one line that names the file, or harmless."""

import io

import pytest
import torch

from razorlite.core.errors import CheckpointError
from razorlite.core.tensor_files import read_tensor_file
from razorlite.engine.ema import EmaConfig
from tests.engine.toys import assert_same, make_runner
from tests.fuzz import Raw, guarded, mutants_of_bytes, mutants_of_tree

EMA = EmaConfig(decay=0.5, warmup_steps=0)
DELETED = object()


def runner(folder, steps, **settings):
    return make_runner(folder, max_steps=steps, log_every=2, ema=EMA, norm=True, **settings)


@pytest.fixture(scope="module")
def saved(module_path):
    """The bytes of last.pt after four steps."""
    started = runner(module_path, 4)
    started.run()
    return started.state.last.read_bytes()


def written(content):
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def dump(tree):
    """Write a mutated tree; what JSON cannot express is text here."""
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, dict):
        return {key: dump(value) for key, value in tree.items()}
    return type(tree)(map(dump, tree)) if isinstance(tree, list | tuple) else tree


def one_line(error, path):
    """Return an error's message, which has to be of one line and name the file."""
    message = str(error)
    assert "\n" not in message
    assert str(path) in message
    return message


def resumed(folder, data):
    """Resume from bytes; return the refusal, or nothing where the run went to its end."""
    going_on = runner(folder, 6)
    going_on.state.last.parent.mkdir(parents=True, exist_ok=True)
    going_on.state.last.write_bytes(data)
    try:
        with guarded():
            going_on.run(resume=True)
    except CheckpointError as error:
        return one_line(error, going_on.state.last)
    assert all(value.isfinite().all() for value in going_on.state.model.state_dict().values())
    return None


@pytest.mark.parametrize("seed", range(3))
def test_states_with_something_wrong(saved, tmp_path, seed):
    good = torch.load(io.BytesIO(saved), weights_only=True)
    for mutant in mutants_of_tree(good, 20, seed, lambda tree: written(dump(tree))):
        resumed(tmp_path, mutant.data)


def test_bytes_that_differ(saved, tmp_path):
    path, refused = tmp_path / "last.pt", 0
    good = torch.load(io.BytesIO(saved), weights_only=True)
    for mutant in mutants_of_bytes(saved, 60, seed=1):
        path.write_bytes(mutant.data)
        try:
            with guarded():
                content = read_tensor_file(path)
        except CheckpointError as error:
            refused += bool(one_line(error, path))
        else:
            assert_same(content, good)
    assert refused > 30


def at(tree, path, value):
    """Return a tree with another value, or none, at a path."""
    if not path:
        return value
    tree = tree.copy() if isinstance(tree, dict) else list(tree)
    tree[path[0]] = at(tree[path[0]], path[1:], value)
    if tree[path[0]] is DELETED:
        del tree[path[0]]
    return tree


WRONG = [DELETED, None, "x", -1, {"a": 1}, torch.full((1, 1), torch.nan)]
PLACES = [
    ("model",),
    ("model", "first.weight"),
    ("optimizer",),
    ("optimizer", "state"),
    ("optimizer", "state", 0),
    ("optimizer", "state", 0, "step"),
    ("optimizer", "state", 1, "exp_avg"),
    ("optimizer", "param_groups"),
    ("update",),
    ("ema",),
    ("ema", "updates"),
    ("ema", "average"),
    ("ema", "average", "last.weight"),
    ("progress",),
    ("progress", "step"),
    ("progress", "seconds"),
    ("progress", "lr"),
    ("progress", "figures"),
    ("progress", "settled"),
    ("progress", "accumulate"),
    ("rng",),
    ("rng", 0),
    ("rng", 0, "python"),
    ("rng", 0, "numpy", 1),
    ("rng", 0, "torch"),
    ("ranks", 0, "window", "sums"),
    ("ranks", 0, "window", "images"),
    ("ranks", 0, "statistics"),
    ("meta",),
]
HARMLESS = [
    (("optimizer", "state", 0), DELETED),
    *((place, "a") for place in [("update",), ("progress", "figures"), ("meta",)]),
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "/".join(map(str, place)))
def test_no_entry_may_be_anything(saved, tmp_path, place):
    content = torch.load(io.BytesIO(saved), weights_only=True)
    for value in WRONG:
        refusal = resumed(tmp_path, written(at(content, place, value)))
        mark = next(iter(value)) if isinstance(value, dict) else value
        assert refusal or any(place == p and mark is m for p, m in HARMLESS), (place, value)


@pytest.mark.parametrize("best", [float("nan"), float("inf"), "x"])
def test_a_best_score_that_none_could_beat_is_refused(saved, tmp_path, best):
    content = torch.load(io.BytesIO(saved), weights_only=True)
    assert "best" in resumed(tmp_path, written(at(content, ("progress", "best"), best)))
