"""The commands about configurations: what they come to, and what they may name."""

from razorlite.core import config as core_config
from razorlite.core.config import Overrides
from razorlite.core.type_docs import explain_type, list_types, with_defaults
from razorlite.recipes.experiment import ConfigLike, Experiment

_WIDTH = 100


def show_config(config: ConfigLike, overrides: Overrides = (), *, defaults: bool = False) -> str:
    """Return a configuration as YAML text, merged with its bases and overrides.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each.
        defaults: add what blocks leave out; types of modules of the user's own stay as they are,
            as nothing is imported.

    Raises:
        ConfigError: a file cannot be read, or an override is wrong.
    """
    merged = core_config.load(config, overrides, imports=False)
    if defaults:
        return core_config.Config(with_defaults(merged, Experiment), sources={}).dump()
    return merged.dump()


def show_types(name: str | None = None) -> str:
    """Return what a configuration may name as `type`: all of them, or one with its arguments.

    Raises:
        ConfigError: there is no such type.
    """
    if name is not None:
        return explain_type(name)
    lines: list[str] = []
    for section, types in list_types().items():
        lines += ["", f"{section}:"] if lines else [f"{section}:"]
        width = max(map(len, types))
        lines += [f"  {n:{width}}  {about}".rstrip()[:_WIDTH] for n, about in types.items()]
    return "\n".join(lines)
