"""How far two files are apart, and which parts stay in float for it."""

from types import SimpleNamespace

import pytest
import torch
from torch import tensor

from razorlite.deploy import sensitivity
from razorlite.deploy.sensitivity import Sensitivity, apart

BOXES = tensor([[[0.0, 0, 10, 10], [20, 20, 30, 30]]])
SCORES, LABELS = tensor([[0.8, 0.2]]), tensor([[0, 1]])


def test_the_same_is_not_apart():
    assert apart((BOXES, SCORES, LABELS), (BOXES, SCORES, LABELS)) == pytest.approx(0, abs=1e-6)


def test_half_an_overlap_and_half_a_score():
    """0.8 of the weight overlaps by half; 0.2 scores half, which weighs 0.1 of 0.9 from there."""
    moved = BOXES.clone()
    moved[0, 0] = tensor([0, 0, 5, 10.0])
    found = apart((BOXES, SCORES, LABELS), (moved, tensor([[0.8, 0.1]]), LABELS))
    first = 1 - (0.8 * 0.5 + 0.2 * 0.5)
    second = 1 - (0.8 * 0.5 + 0.1 * 0.5) / 0.9
    assert found == pytest.approx((first + second) / 2, abs=1e-5)


def test_other_labels_and_nothing_found():
    expected = BOXES, SCORES, LABELS
    assert apart(expected, (BOXES, SCORES, 1 - LABELS)) == pytest.approx(1)
    assert apart(expected, (BOXES, SCORES * 0, LABELS)) == pytest.approx(0.5)  # of both sides
    assert apart((BOXES, SCORES * 0, LABELS), (BOXES, SCORES * 0, LABELS)) == 0


def test_probabilities():
    assert apart((tensor([[0.7, 0.3]]),), (tensor([[0.5, 0.5]]),)) == pytest.approx(0.2)


def tried(monkeypatch, gains, seconds=60):
    """Return the sensitivity of parts, each of which takes something off a distance of 1."""
    tries = []

    def distance(calibrated, floats, batches, expected):
        tries.append(tuple(floats))
        return 1 - sum(gains[part] for part in floats)

    monkeypatch.setattr(sensitivity, "_mean", distance)
    parts = {name: [name] for name in gains}
    calibrated = SimpleNamespace(network=SimpleNamespace(parts=lambda: parts))
    images = [torch.zeros(1, 3, 8, 8)]
    return Sensitivity(calibrated, lambda x: (x,), images, seconds=seconds), tries


GAINS = {"a": 0.1, "b": 0.5, "c": 0.0, "d": -0.1, "e": 0.2, "f": 0.0, "g": 0.0, "h": 0.0}


def test_the_most_sensitive_parts_stay_until_it_is_close_enough(monkeypatch):
    found, tries = tried(monkeypatch, GAINS)
    choice = found.choose(0.6)
    assert (choice.floats, found.whole) == (("b",), 1)
    assert choice.distance == pytest.approx(0.5)
    assert tries == [(), *[(part,) for part in GAINS], ("b",)]
    choice = found.choose(0.0)
    assert choice.floats == ("b", "e")  # a quarter of eight
    assert choice.distance == pytest.approx(0.3)


def test_close_enough_at_once_tries_nothing(monkeypatch):
    found, tries = tried(monkeypatch, GAINS)
    assert (found.choose(1.0).floats, tries) == ((), [()])


def test_without_time_nothing_is_tried(monkeypatch, caplog):
    caplog.set_level("INFO")
    found, tries = tried(monkeypatch, GAINS, seconds=0)
    choice = found.choose(0.0)
    assert (choice.floats, tries, list(found.more(choice))) == ((), [()], [])
    assert "tried 0 of 8 parts" in caplog.text


@pytest.mark.parametrize(
    ("count", "counts"), [(4, [1]), (8, [1, 2]), (12, [1, 2, 3]), (24, [1, 2, 4, 6])]
)
def test_more_parts_double_up_to_a_quarter(monkeypatch, count, counts):
    """Close enough at once, but not for a metric."""
    gains = {f"p{i}": 0.01 * (i + 1) for i in range(count)}
    found, _ = tried(monkeypatch, gains)
    first = found.choose(1.0)
    more = list(found.more(first))
    order = list(reversed(gains))
    assert [x.floats for x in more] == [tuple(order[:n]) for n in counts]
    assert more[0].distance == pytest.approx(1 - 0.01 * count)


def test_more_parts_beside_those_chosen(monkeypatch):
    found, _ = tried(monkeypatch, {**GAINS, **{f"more{i}": 0.01 for i in range(8)}})
    first = found.choose(0.6)
    assert first.floats == ("b",)
    more = [("b", "e"), ("b", "e", "a"), ("b", "e", "a", "more0")]  # one, two, and all three
    assert [x.floats for x in found.more(first)] == more
