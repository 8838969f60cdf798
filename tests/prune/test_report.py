"""What pruning can reach, as data and as text."""

import json

import pytest
import torch.nn.functional as F

from razorlite.prune import Channels
from razorlite.prune.report import lines
from tests.trace.zoo import Net, conv


def _channels():
    return Channels(
        Net(
            lambda m, x: m.c(F.gumbel_softmax(m.b(m.a(x).relu()), dim=1)),
            a=conv(3, 4, bias=False),
            b=conv(4, 8, bias=False),
            c=conv(8, 2, bias=False),
        ),
        (2, 2),
    )


def test_report_by_hand():
    found = _channels().report()
    # a reads 3 and makes 4, b makes 8, c 2: 12 + 32 + 16 weights; without a's channels c's are left
    assert found["whole"] == {"macs": 4 * 60, "params": 60}
    assert found["reach"] == {"params": pytest.approx(44 / 60), "macs": pytest.approx(44 / 60)}
    a, b, c = found["groups"]
    assert a == {
        "name": "a",
        "size": 4,
        "blocks": [4],
        "members": [
            {"layer": "a", "side": "out", "channels": 4},
            {"layer": "b", "side": "in", "channels": 4},
        ],
        "fixed": "",
    }
    assert found["left"] == {"b": b["fixed"]}
    assert "gumbel_softmax" in b["fixed"]
    assert "test_report.py:" in b["fixed"]
    assert c["fixed"] == "output of the model"
    assert json.loads(json.dumps(found)) == found


def test_report_as_text():
    first, second, third, last = lines(_channels().report())
    assert first == "a: 4 units; a out, b in"
    assert second.startswith("left alone: b: ")
    assert third == "left alone: c: output of the model"
    assert last == (
        "1 of 3 groups can shrink; in reach are 73.3% of the parameters and 73.3% of the MACs"
    )


def test_command_shows_a_configuration(tmp_path, capsys):
    from razorlite.cli import main

    config = tmp_path / "net.yaml"
    config.write_text(
        "model:\n  type: torchvision.ops.Conv2dNormActivation\n  in_channels: 3\n"
        "  out_channels: 4\n"
        "shape: [8, 8]\n"
    )
    assert main(["prune", str(config), "--show"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == "left alone: 0: output of the model"
    assert last.startswith("0 of 1 groups can shrink")
    assert main(["prune", str(config)]) != 0
    assert "CONFIG alone goes with --show" in capsys.readouterr().err
