"""Types in words, and configurations with their defaults."""

import pytest

from razorlite import cli
from razorlite.core.config import ConfigError, load
from razorlite.core.registry import names
from razorlite.core.type_docs import explain_type, list_types, with_defaults
from razorlite.recipes.experiment import Experiment, load_config


def test_every_type_is_listed_once_with_a_line_of_its_own():
    sections = list_types()
    listed = [name for types in sections.values() for name in types]
    assert sorted(listed) == names()
    ours = [
        line
        for section, types in sections.items()
        if "torch" not in section
        for name, line in types.items()
        if name in ("FPN", "ResNet", "CocoDataset", "Cosine")
    ]
    assert all(ours)
    assert {"models.backbones", "models.necks", "data", "data.transforms"} <= set(sections)


def test_a_type_tells_arguments_defaults_and_docs(capsys):
    assert cli.main(["config", "types", "FPN"]) == 0
    message = capsys.readouterr().out
    assert "out_channels: a whole number of at least 1\n      channels of every output." in message
    assert "start_level: a whole number of at least 0, by default 0" in message
    assert "Cosine" in explain_type("Cosine")
    assert "lr: " in explain_type("SGD")
    with pytest.raises(ConfigError, match=r"no type 'FPNN'; did you mean 'FPN'"):
        explain_type("FPNN")


@pytest.mark.parametrize("name", names())
def test_each_type_can_be_explained(name):
    assert explain_type(name).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["demo/supernet", "demo/prune", "retinanet_r50_fpn_1x_coco"])
def test_defaults_change_nothing(name):
    full = with_defaults(load(name), Experiment)
    assert full["seed"] == 0
    assert full["model"]["neck"]["norm_on_lateral"] is True
    assert load_config(full).tree == full
    assert with_defaults(load(full), Experiment) == full


def test_show_imports_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spy.py").write_text("open('sprung', 'w').close()\n")
    (tmp_path / "x.yaml").write_text("custom_imports: [spy]\nmodel: {type: spy.Net, a: {b: 1}}\n")
    for words in (["x.yaml"], ["x.yaml", "--defaults"]):
        assert cli.main(["config", "show", *words]) == 0
        assert "type: spy.Net" in capsys.readouterr().out
    assert cli.main(["config", "check", "x.yaml"]) == 0
    assert "'spy.Net' is not checked" in capsys.readouterr().out
    assert not (tmp_path / "sprung").exists()
