"""The commands about configurations: what they come to, and what they may name."""

from razorlite.core import config as core_config
from razorlite.core import shipped
from razorlite.core.config import Config, Overrides
from razorlite.core.type_docs import explain_type, list_types, with_defaults
from razorlite.core.yaml_lines import with_blocks
from razorlite.recipes.expanding import expanded
from razorlite.recipes.experiment import ConfigLike, Experiment
from razorlite.recipes.paths import located

_WIDTH = 100


def show_config(config: ConfigLike, overrides: Overrides = (), *, defaults: bool = False) -> str:
    """Return a configuration as YAML text, merged with its bases and overrides.

    Args:
        config: a YAML file, the name of a shipped configuration, or a dict.
        overrides: "a.b=value" each.
        defaults: add what blocks leave out; types of modules of the user's own stay as they are,
            as nothing is imported.

    Raises:
        ConfigError: a file cannot be read, an override is wrong, or a recipe of distillation does
            not go with its models.
    """
    merged = _in_full(core_config.load(config, overrides, imports=False))
    if defaults:
        return core_config.Config(with_defaults(merged, Experiment), sources={}).dump()
    return merged.dump()


def cat_config(config: str, overrides: Overrides = ()) -> str:
    """Return a configuration as its file is written; what a recipe of distillation comes to behind.

    Args:
        config: a YAML file, or the name of a shipped configuration.
        overrides: "a.b=value" each; a block at the top in which one lies is written in full.

    Raises:
        ConfigError: there is no such file, an override is wrong, or the recipe does not go with its
            models.
    """
    merged = core_config.load(config, overrides, imports=False)
    text = shipped.find(config).read_text(encoding="utf-8")
    before = core_config.load(config, imports=False).tree
    changed = {k: v for k, v in merged.tree.items() if k not in before or before[k] != v}
    text = with_blocks(text, changed) if changed else text
    full = _in_full(merged)
    if full is merged:
        return text
    block = core_config.Config({"distiller": full.get("distiller")}, sources={}).dump()
    comment = "".join(f"# {line}\n" for line in block.splitlines())
    return f"{text.rstrip()}\n\n# in full:\n{comment}"


def _in_full(config: Config) -> Config:
    """Return a configuration with its `distiller` block in full, where that needs no imports."""
    if config.get("distiller.recipe") is None:
        return config
    core_config.check(config, Experiment)
    return config if config.unchecked else expanded(located(config))


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
