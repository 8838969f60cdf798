"""What the pages say exists: commands, options, configurations, files, links, anchors."""

import re
import sys

import pytest
import yaml

from razorlite.cli import _one_value_each
from razorlite.cli.parser import build_parser
from razorlite.core import shipped
from tests.docs.pages import DOCS, PAGES, READABLE, ROOT, anchors, blocks, commands, links

GENERATED = re.compile(r"(models|reference/(commands|configuration|types|python|api/[\w.]+))\.md")
OURS = [page for page in READABLE if not page.name.startswith("from_")]  # these name others' files


def test_anchors_and_commands_are_found_in_pages(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A *b* (c): d\n[x](y.md#z) `[no](no)`\n```\n# no\n```\n")
    assert anchors(page) == {"a-b-c-d"}
    assert links(page) == ["y.md#z"]
    text = "razorlite cost a \\\n  --json  # why\ncp x y && razorlite demo\n"
    assert list(commands(text)) == [["cost", "a", "--json"], ["demo"]]


@pytest.mark.parametrize("page", READABLE, ids=lambda page: page.name)
def test_commands_are_understood(page, capsys):
    parser = build_parser()
    for block in blocks(page):
        for words in commands(block.text) if block.language in ("", "bash") else ():
            try:
                parser.parse_known_args(_one_value_each(words))
            except SystemExit:
                pytest.fail(f"razorlite {' '.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", READABLE, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = (page.parent / name).resolve() if name else page
        if DOCS in target.parents and GENERATED.fullmatch(target.relative_to(DOCS).as_posix()):
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", OURS, ids=lambda page: page.name)
def test_files_of_the_repository_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:configs|tools|tests|projects|razorlite)/[\w./-]+\.\w+\b", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"_base_: ([\w-]+/[\w-]+)$", text, re.M):
        shipped.find(name)


@pytest.mark.parametrize("page", READABLE, ids=lambda page: page.name)
def test_yaml_is_yaml(page):
    for block in blocks(page):
        if block.language == "yaml":
            yaml.safe_load(block.text.replace("val: …", "val: null"))


def test_the_site_lists_every_page():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"([\w/.]+\.md)$", text, re.M))
    written = {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert written == {name for name in named if not GENERATED.fullmatch(name)}


def test_llms_txt_names_every_page():
    names = {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert set(links(DOCS / "llms.txt")) == names


def test_messages_name_pages_that_are_there():
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "razorlite").rglob("*.py"))
    joined = re.sub(r'"\n\s*f?"', "", "\n".join(texts))
    found = re.findall(r"\b(docs/[\w/]+\.md)(?:#([\w-]+))?", joined)
    assert found
    for name, anchor in found:
        assert (ROOT / name).exists(), name
        assert not anchor or anchor in anchors(ROOT / name), f"{name}#{anchor}"


def test_docstrings_become_lists(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "tools/docs")])
    from docstrings import markdown

    def scaled(x):
        """Scale <a> thing.

        Args:
            x: (N,) pixels,
                or none.

        Returns:
            Twice | it.
        """

    assert markdown(scaled) == (
        "Scale &lt;a> thing.\n\n**Arguments**\n\n- **`x`**: (N,) pixels, or none.\n\n"
        "**Returns** Twice &#124; it."
    )
