"""Pages that mkdocs makes of the code: commands, configuration, types, Python names, models.

Named under `hooks` in mkdocs.yml. Also puts the Markdown of each page beside its HTML, which
llms.txt points to.
"""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import api  # noqa: E402
import settings  # noqa: E402


def generated() -> dict[str, str]:
    """Return the pages that are made of the code, by their place below docs/."""
    return {
        "models.md": models(),
        "reference/commands.md": settings.commands(),
        "reference/configuration.md": settings.configuration(),
        "reference/types.md": settings.types(),
        "reference/python.md": api.index(),
        **api.pages(),
    }


def models() -> str:
    """Return configs/README.md with names of configurations in the place of links to them."""
    text = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\[([^\]]*)\]\(([\w./-]+)\.yaml\)", r"`\2`", text)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for name, text in generated().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_post_build(config: Any) -> None:
    """Write the Markdown of each hand-written page beside the site's."""
    docs, site = Path(config["docs_dir"]), Path(config["site_dir"])
    for page in docs.rglob("*.md"):
        target = site / page.relative_to(docs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(page.read_bytes())
