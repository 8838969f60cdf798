"""Downloads: one place for each URL, whole or not at all."""

import hashlib
import http.client
import io
import urllib.error

import pytest
import torch

from razorlite.core.downloads import download
from razorlite.core.errors import CheckpointError

DIGITS = hashlib.sha256(b"good").hexdigest()[:8]


class Web:
    """Answers requests from a table; counts them."""

    def __init__(self):
        self.pages, self.lengths, self.asked = {}, {}, []

    def __call__(self, request, timeout):
        url = request.full_url
        self.asked.append(url)
        if isinstance(self.pages[url], Exception):
            raise self.pages[url]
        answer = io.BytesIO(self.pages[url])
        answer.headers = {"Content-Length": self.lengths.get(url, str(len(self.pages[url])))}
        return answer


@pytest.fixture
def web(tmp_path, monkeypatch):
    web = Web()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", web)
    return web


def test_equal_base_names_are_different_files(web):
    first, second = "https://a.org/v1/best.pth", "https://a.org/v2/best.pth"
    web.pages = {first: b"1", second: b"2"}
    assert download(first).read_bytes() == b"1"
    assert download(second).read_bytes() == b"2"
    assert download(first).read_bytes() == b"1"
    assert web.asked == [first, second]
    assert download(first).name.endswith("-best.pth")


def test_files_with_a_checksum_are_shared_under_their_name(web, tmp_path):
    url = f"https://a.org/resnet-{DIGITS}.pth"
    web.pages = {url: b"good"}
    kept = tmp_path / "checkpoints" / f"resnet-{DIGITS}.pth"
    assert download(url) == kept
    kept.write_bytes(b"cut")
    assert download(url).read_bytes() == b"good"
    assert len(web.asked) == 2
    assert download(url + "?download=1") == kept
    assert len(web.asked) == 2


def no_answer(url):
    return urllib.error.HTTPError(url, 404, "Not Found", {}, None)


@pytest.mark.parametrize(
    ("page", "length", "words"),
    [
        (b"half", "8", "the connection ended after 4 of 8 bytes"),
        (b"evil", None, f"its SHA-256 starts with {hashlib.sha256(b'evil').hexdigest()[:8]}, not"),
        (no_answer(""), None, "HTTP Error 404: Not Found"),
        (urllib.error.URLError("no route to host"), None, "no route to host"),
        (http.client.InvalidURL("control characters"), None, "control characters"),
        (TimeoutError("timed out"), None, "timed out"),
    ],
)
def test_failures_are_one_line_and_leave_no_file(web, tmp_path, page, length, words):
    url = f"https://a.org/resnet-{DIGITS}.pth"
    web.pages = {url: page}
    if length:
        web.lengths = {url: length}
    with pytest.raises(CheckpointError) as caught:
        download(url)
    message = str(caught.value)
    assert message.startswith(f"cannot download {url} (")
    assert words in message
    assert message.endswith("; fetch it yourself and give the file's path")
    assert "\n" not in message
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("tail", ["", "..", "%2e%2e%2fevil", "a b?x=1", "x" * 300, "?id=7"])
def test_no_url_leads_out_of_the_cache(web, tmp_path, tail):
    url = f"https://a.org/{tail}"
    web.pages = {url: b"x"}
    assert download(url).parent == tmp_path / "checkpoints"
