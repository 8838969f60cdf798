"""Plots: what they draw, and that few, many and no points all give a picture."""

import itertools
import math
import random

import pytest
from PIL import Image

from razorlite.core.errors import RunFolderError
from razorlite.visual import (
    pareto_front,
    plot_channels,
    plot_pareto,
    plot_parts,
    plot_search,
    plot_training,
)
from razorlite.visual.curves import _curves, _moving_mean
from razorlite.visual.plots import cost_unit


def is_picture(path):
    with Image.open(path) as image:
        colours = image.convert("RGB").getcolors(1 << 24)
    return image.format == "PNG" and image.width > 600 and len(colours) > 5


def trials(count):
    rng = random.Random(0)
    return [{"round": i // 50, "score": rng.random(), "macs": rng.random()} for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_searches_of_any_length_give_a_picture(tmp_path, count):
    assert is_picture(plot_search(trials(count), tmp_path / "new" / "search.png"))


def test_rounds_are_drawn_where_they_are_known(tmp_path):
    numbered = [{"trial": i, **t} for i, t in enumerate(trials(120))]
    bare = [{k: v for k, v in t.items() if k != "round"} for t in numbered]
    read = plot_search(numbered, tmp_path / "a.png").read_bytes()
    assert plot_search(bare, tmp_path / "c.png").read_bytes() != read


def test_the_control_is_drawn_beside_the_search(tmp_path):
    bare = plot_search(trials(5), tmp_path / "a.png").read_bytes()
    assert plot_search(trials(5), tmp_path / "b.png", control=[0.1, 0.9]).read_bytes() != bare


@pytest.mark.parametrize("count", [0, 1, 12])
def test_the_cost_of_parts_is_drawn_for_any_number_of_models(tmp_path, count):
    costs = {
        f"trial {i}": {"backbone": 2e7 + i, "neck": 1e6, "bbox_head": 4e6} for i in range(count)
    }
    assert is_picture(plot_parts(costs, tmp_path / "parts.png"))


def test_trials_without_a_score_are_left_out(tmp_path):
    scored = trials(3)
    failed = [{"round": 0, "score": None}, {"score": math.nan}, {}]
    a = plot_search(scored, tmp_path / "a.png").read_bytes()
    b = plot_search(failed + scored, tmp_path / "b.png").read_bytes()
    assert a == b


@pytest.mark.parametrize("count", [0, 1, 4, 1000])
def test_trade_offs_of_any_size_give_a_picture(tmp_path, count):
    points = [(3e8 * t["macs"], t["score"]) for t in trials(count)]
    path = plot_pareto(
        points,
        tmp_path / "pareto.png",
        chosen=points[0] if points else None,
        others={"random": [(2e8, 0.5), (1e8, math.nan)], "largest": []},
        cost="params",
    )
    assert is_picture(path)


def test_pareto_front_by_hand():
    points = [(3, 0.5), (1, 0.2), (2, 0.2), (2, 0.4), (4, 0.5), (1, 0.1), (3, 0.5)]
    assert pareto_front(points) == [(1, 0.2), (2, 0.4), (3, 0.5)]
    assert pareto_front([]) == []


def test_pareto_front_equals_a_pairwise_search():
    rng = random.Random(1)
    points = [(rng.randint(0, 12), rng.randint(0, 12)) for _ in range(80)]

    def beaten(p):
        return any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)

    assert pareto_front(points) == sorted({p for p in points if not beaten(p)})


def test_costs_of_ones_own_have_an_axis():
    assert cost_unit("energy_mj", [0.4, 3.7]) == (1, "energy_mj")
    assert cost_unit("macs", [4.2e6]) == (1e6, "M MACs")


@pytest.mark.parametrize(("count", "records"), [(0, "none"), (1, "one"), (300, "many")])
def test_trainings_of_any_length_give_a_picture(tmp_path, count, records):
    lines = [{"step": i, "lr": 0.1 / (i + 1), "loss": 300 / (i + 1)} for i in range(count)]
    lines += [{"step": count, "AP": 0.1, "AP50": 0.2}] if count > 1 else []
    assert is_picture(plot_training(lines, tmp_path / f"{records}.png"))


def test_curves_keep_what_can_be_drawn():
    lines = [
        {"step": 5, "epoch": 0, "loss": 1.0, "loss_cls": math.inf, "note": "text", "done": True},
        {"step": 9, "loss": math.nan, "metrics": {"AP": 0.5}, "lr": 1},
    ]
    assert _curves(lines) == {"loss": [(5, 1.0)], "metrics/AP": [(9, 0.5)], "lr": [(9, 1)]}


def test_moving_mean_equals_a_loop():
    values = [random.Random(i).random() for i in range(20)]
    for width, i in itertools.product((0, 1, 4), range(20)):
        window = values[max(0, i - width) : i + width + 1]
        assert _moving_mean(values, width)[i] == pytest.approx(sum(window) / len(window))


def test_costs_get_units():
    assert cost_unit("macs", [3.2e8, 1e7]) == (1e6, "M MACs")
    assert cost_unit("macs", [2e9]) == (1e9, "G MACs")
    assert cost_unit("params", [2500]) == (1e3, "k parameters")
    assert cost_unit("latency_ms", [1500.0]) == (1, "latency (ms)")
    assert cost_unit("macs", []) == (1, "MACs")


@pytest.mark.parametrize("count", [0, 1, 24, 200])
def test_prunings_of_any_size_give_a_picture(tmp_path, count):
    before = {f"backbone.some_long_name_of_a_stage.layer.{i}": 64 for i in range(count)}
    after = {name: 8 * (1 + i % 8) for i, name in enumerate(before)}
    path = plot_channels(before, after, tmp_path / "channels.png")
    assert is_picture(path)
    with Image.open(path) as image:
        assert image.height < 4000


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot write"):
        plot_search([], tmp_path / "file" / "search.png")
