"""Configurations: YAML that spells out constructor calls, checked whole before anything is built.

A block `{type: FPN, in_channels: [64, 128], out_channels: 64}` is the call `FPN(in_channels=…,
out_channels=…)` of a class or function registered as "FPN". Signatures are the schema:

- a scalar, list, tuple, dict or Literal is checked against the parameter's annotation;
- a dataclass annotation takes a block without `type` whose keys are the fields;
- any other class takes a block with `type`, a registered class of that kind, built recursively;
- `Factory[T]` takes the same block and builds it when called; `Partial[T]` also lets arguments
  be missing until then;
- a parameter annotated `Given[T]` is the program's to give, and no key of the block;
- `Callable` takes the name of a registered function, or a block.

Where `null` is no legal value it stands for the parameter's default. Objects that are already built
may stand in for blocks when a configuration is given as a dict.
"""

from typing import Any, TypeVar

from razorlite.core._config_interpret import Factory, Partial, interpret
from razorlite.core._config_load import Config, LocatedConfigError, Overrides, load, raise_faults
from razorlite.core._config_signature import Given, annotate, signature_of
from razorlite.core.errors import ConfigError
from razorlite.core.yaml_lines import parse as parse_yaml
from razorlite.core.yaml_lines import plain

__all__ = [
    "Config",
    "ConfigError",
    "Factory",
    "Given",
    "LocatedConfigError",
    "Overrides",
    "Partial",
    "annotate",
    "build",
    "check",
    "load",
    "parse",
    "raise_faults",
    "signature_of",
]

T = TypeVar("T")


def parse(text: str, name: str) -> dict[str, Any]:
    """Return the tree of YAML text as configurations are written; bases are not looked up.

    Args:
        text: a block of `key: value` lines.
        name: of its source, for messages.

    Raises:
        ConfigError: all faults found, one a line.
    """
    faults: list[str] = []
    tree = plain(parse_yaml(text, name, faults))
    raise_faults(faults)
    if not isinstance(tree, dict):
        raise ConfigError(f"{name}: wants 'key: value' lines, got {type(tree).__name__}")
    return tree


def check(config: Config, schema: type[object]) -> None:
    """Check the whole tree against a class's signature and those it names.

    Blocks that would be built at once (dataclasses, transforms) are, for what their constructors
    check; a `Factory` is not called.

    Where the configuration may not import, blocks of unknown types are left out and remarked on in
    `config.unchecked`.

    Raises:
        ConfigError: all faults, one a line: "fcos.yaml:12: neck.out_chanels: FPN takes no
            'out_chanels'; did you mean 'out_channels'?"
    """
    try:
        interpret(config, schema)
    except LocatedConfigError as error:
        if str(error) or not config.unchecked:
            raise


def build(config: Config, schema: type[T]) -> T:
    """Check the whole tree, then build the class with everything nested in it.

    Raises:
        ConfigError: as `check`, or a constructor's own, with the block's file and line in front.
    """
    return interpret(config, schema)
