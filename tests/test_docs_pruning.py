"""The examples of docs/pruning.md run as they stand, in ten lines at most."""

import re
from pathlib import Path

import pytest

from razorlite.cost import count

TEXT = (Path(__file__).parents[1] / "docs/pruning.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- run -->\n```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_examples_are_short():
    assert len(EXAMPLES) == 5
    for example in EXAMPLES:
        lines = [line for line in example.splitlines() if line and "import" not in line]
        assert len(lines) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_gives_the_cheaper_model(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(EXAMPLES[number], names)
    channels = names["channels"]
    counted, macs = count(names["slim"], channels.example), names["subnet"].cost["macs"]
    assert counted.params == names["subnet"].cost["params"]
    if not hasattr(names["slim"], "roi_heads"):  # how many regions there are follows from weights
        assert counted.macs == macs
    if allowed := re.search(r'macs="(\d+)%"', EXAMPLES[number]):
        share = int(allowed[1]) / 100
        assert 0.9 * share <= macs / channels.cost.whole["macs"] <= share
    if "again" in names:
        theirs, ours = names["again"].state_dict(), names["slim"].state_dict()
        assert all(theirs[name].equal(value) for name, value in ours.items())
