"""The site is built without a warning: every link and anchor leads somewhere."""

import subprocess
import sys

import pytest

from tests.docs.pages import ROOT


@pytest.mark.slow
def test_the_site_is_built(tmp_path):
    pytest.importorskip("material")
    words = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in ("index.html", "reference/api/razorlite.search/index.html", "quickstart.md"):
        assert (tmp_path / page).exists(), page
