"""Mutated configurations: each is read as YAML reads it, or refused with file and line."""

import yaml

from razorlite.core import config as core_config
from razorlite.core import shipped
from razorlite.core.errors import ConfigError
from razorlite.recipes.experiment import Experiment
from tests.fuzz import guarded, mutants_of_bytes, mutants_of_tree, to_json

NAME = "demo/supernet"


def _checked(path):
    """Return a file's merged tree, or the message about it."""
    try:
        with guarded():
            config = core_config.load(path)
            core_config.check(config, Experiment)
    except ConfigError as error:
        return str(error)
    return config.tree


def test_changed_values_are_read_or_refused_with_their_place(tmp_path):
    """JSON is YAML: what a node was changed to is there afterwards, or refused by location."""
    tree = core_config.load(NAME).tree
    path, refused = tmp_path / "config.yaml", 0
    for mutant in mutants_of_tree(tree, 100, seed=11):
        path.write_bytes(mutant.data)
        found = _checked(path)
        if isinstance(found, str):
            refused += 1
            assert all(str(path) in line or line.startswith("...") for line in found.splitlines())
            assert "Traceback" not in found
        else:
            assert to_json(found) == to_json(mutant.tree), mutant.name
    assert 40 < refused < 100


def test_changed_bytes_are_read_as_yaml_reads_them_or_refused(tmp_path):
    data = shipped.find(NAME).read_bytes()
    folder = shipped.find(NAME).parent
    path = tmp_path / "config.yaml"
    for mutant in mutants_of_bytes(data, 60, seed=12):
        path.write_bytes(mutant.data.replace(b"_base_: ../", f"_base_: {folder}/../".encode()))
        found = _checked(path)
        if isinstance(found, dict):
            plain = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
            assert plain.keys() - {"_base_"} <= found.keys(), mutant.name
