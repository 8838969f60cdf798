"""A `distiller` block in few words, and what it comes to."""

import pytest
import yaml

from razorlite import cli, recipes
from razorlite.core.errors import ConfigError
from razorlite.recipes.expanding import read_expanded
from tests.recipes.runs import split, write
from tests.recipes.test_classes import PLAIN, plain

WIDE = {
    **PLAIN,
    "neck": {**PLAIN["neck"], "out_channels": 24},
    "bbox_head": {**PLAIN["bbox_head"], "in_channels": 24},
}
PAIR = {
    "student": "neck",
    "loss": {"type": "PKD"},
    "connector": {"type": "ConvConnector", "student_channels": 16, "teacher_channels": 24},
    "weight": 2.0,
}


@pytest.fixture
def teacher(tmp_path):
    """A wider teacher's configuration; its checkpoint is not there."""
    return write(plain(model=WIDE), tmp_path, "teacher.yaml")


def distilled(folder, **block):
    block = {"teacher": "./teacher.yaml", "checkpoint": "./none.pt", **block}
    return write(plain(data={"train": split(8, 0)}, distiller=block), folder, "student.yaml")


def test_a_file_a_checkpoint_and_a_recipe_are_enough(teacher, tmp_path):
    config, experiment = read_expanded(distilled(tmp_path, recipe="pkd"))
    block = config.get("distiller")
    assert block["pairs"] == [PAIR]
    assert block["teacher"] == {
        "config": str(teacher),
        "checkpoint": "./none.pt",
    }
    assert block.keys() == {"teacher", "pairs"}
    assert experiment.distiller.pairs[0].weight == 2.0


def test_pairs_of_ones_own_come_behind(teacher, tmp_path):
    own = {"student": "backbone[0]", "loss": {"type": "PKD"}}
    path = distilled(tmp_path, recipe="pkd", pairs=[own], warmup_steps=3)
    config, experiment = read_expanded(path)
    assert config.get("distiller.pairs") == [PAIR, own]
    assert experiment.distiller.warmup_steps == 3


def test_without_a_recipe_the_teacher_becomes_a_block(teacher, tmp_path):
    pairs = [{"student": "backbone", "loss": {"type": "PKD"}}]
    config, _ = read_expanded(distilled(tmp_path, pairs=pairs))
    assert config.get("distiller.pairs") == pairs
    assert config.get("distiller.teacher.config") == str(teacher)


def test_several_teachers(teacher, tmp_path):
    block = {"config": "./teacher.yaml", "checkpoint": "./none.pt"}
    encoder = {"model": {"type": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 5}}
    encoder["model"] |= {"kernel_size": 8, "stride": 8}
    both = {"teacher": None, "checkpoint": None, "teachers": {"big": block, "encoder": encoder}}
    path = distilled(tmp_path, **both, recipe={"big": "pkd", "encoder": "at"})
    config, _ = read_expanded(path)
    assert [(p["student"], p["teacher"]) for p in config.get("distiller.pairs")] == [
        ("neck", "big.neck"),
        ("neck[0]", "encoder[0]"),
    ]
    path = distilled(tmp_path, **both, recipe={"bigg": "pkd"})
    with pytest.raises(ConfigError, match="'bigg' is no name of `teachers`"):
        read_expanded(path)


def test_the_commands_show_it(teacher, tmp_path, capsys):
    path = distilled(tmp_path, recipe="pkd")
    assert cli.main(["config", "show", str(path)]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["distiller"]["pairs"] == [PAIR]
    assert cli.main(["config", "cat", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(path.read_text())
    comment = shown[len(path.read_text()) :].replace("# in full:\n", "").replace("\n# ", "\n")
    assert yaml.safe_load(comment.strip().removeprefix("# "))["distiller"]["pairs"] == [PAIR]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"recipe": "pdk"}, r"student.yaml:\d+: distiller.recipe: no recipe 'pdk'.*'pkd'"),
        ({"recipe": "ld"}, r"student.yaml:\d+: distiller.recipe: .*distributions of box sides"),
        ({"recipe": "pkd", "checkpoint": None}, "'checkpoint', the weights of the configuration"),
        ({"recipe": None}, "name a recipe, or at least one position"),
    ],
)
def test_faults_are_told_with_their_line(teacher, tmp_path, block, message):
    with pytest.raises(ConfigError, match=message):
        recipes.check_config(distilled(tmp_path, **block))


def test_the_check_asks_for_the_checkpoint(teacher, tmp_path):
    with pytest.raises(ConfigError, match=r"distiller.teacher.*no file '\./none.pt'"):
        recipes.check_config(distilled(tmp_path, recipe="pkd"))
