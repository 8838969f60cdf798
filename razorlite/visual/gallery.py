"""A page of pictures that lie beside it, for a screen of any width."""

from collections.abc import Sequence
from html import escape
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

from razorlite.core.files import write_text_atomic

_STYLE = (
    "body{margin:1rem auto;max-width:100rem;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;"
    "color:#1f2937}main{display:grid;gap:1rem;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr))}figure{margin:0}"
    "img{width:100%;height:auto;border:1px solid #e5e7eb}"
    "figcaption{font-size:.85rem;overflow-wrap:anywhere}"
)


def write_gallery(
    path: str | Path, pictures: Sequence[tuple[str, Path]], *, title: str, about: str = ""
) -> Path:
    """Write an HTML page that shows picture files, each with its caption.

    Args:
        path: the HTML file.
        pictures: caption and file; linked relative to the page, so that both can be moved together.
        title: headline.
        about: a paragraph below it.

    Raises:
        RunFolderError: the file cannot be written.
    """
    folder = Path(path).parent
    shown = "\n".join(_figure(text, relpath(file, folder)) for text, file in pictures)
    head = f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    write_text_atomic(
        path,
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width,initial-scale=1'>{head}</head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(about)}</p><main>\n{shown}\n</main></body></html>\n",
    )
    return Path(path)


def _figure(caption: str, file: str) -> str:
    text = escape(caption)
    source = quote(Path(file).as_posix())
    return (
        f"<figure><a href='{source}'><img src='{source}' alt='{text}' loading='lazy'></a>"
        f"<figcaption>{text}</figcaption></figure>"
    )
