"""The configurations that come with razorlite, found by name."""

from pathlib import Path

from razorlite.core.errors import ConfigError
from razorlite.core.registry import suggestion

_PACKAGE = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """Return the folder of shipped configurations: inside the package, or beside it in a clone."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def configs() -> list[Path]:
    """Return all shipped configurations but the bases, sorted."""
    files = folder().rglob("*.yaml")
    return sorted(path for path in files if "_base_" not in path.parts)


def name(config: Path) -> str:
    """Return the name under which `find` finds a shipped configuration."""
    return config.relative_to(folder()).with_suffix("").as_posix()


def summary(config: Path) -> str:
    """Return the first comment line of a configuration, or an empty text."""
    lines = config.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ") for line in lines if line.startswith("#")), "")


def find(name: str | Path) -> Path:
    """Return the file that `name` means: an existing file, or a shipped configuration.

    Args:
        name: a path, or a shipped configuration's path under configs/ or bare name; the ending
            ".yaml" may be left out.

    Raises:
        ConfigError: there is none; the message suggests near names.
    """
    path = Path(name)
    return path if path.is_file() else find_shipped(path)


def find_shipped(name: str | Path) -> Path:
    """Return the shipped configuration that `name` means, or a base by its path under configs/.

    Raises:
        ConfigError: there is none, or several; the message suggests near names.
    """
    path = Path(name)
    known = configs() if "_base_" not in path.parts else folder().rglob("*.yaml")
    matches = [config for config in known if _means(path, config)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"{name} could be {' or '.join(map(str, matches))}; name its folder too")
    raise ConfigError(f"no config {str(name)!r}{_hint(path)} (shipped ones: razorlite config list)")


def near_yaml(path: Path) -> str:
    """Return "; did you mean 'x.yaml'?" for a YAML file near a missing one, or an empty string."""
    names = sorted(other.name for other in path.parent.glob("*.y*ml"))
    same = [name for name in names if Path(name).stem == path.name]
    return suggestion(same[0] if same else path.name, names)


def _means(path: Path, config: Path) -> bool:
    relative = config.relative_to(folder()).with_suffix("")
    expected = path.with_suffix("") if path.suffix in {".yaml", ".yml"} else path
    return expected.parts in (relative.parts, ("configs", *relative.parts), relative.parts[-1:])


def _hint(path: Path) -> str:
    """Suggest a file beside the missing one, else a shipped configuration."""
    return near_yaml(path) or suggestion(path.stem, [config.stem for config in configs()])
