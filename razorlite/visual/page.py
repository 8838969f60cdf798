"""The parts of a self-contained HTML page that can be read on any screen."""

import base64
import io
from collections.abc import Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path

from PIL import Image

Figure = tuple[str, str | Path | bytes]

_LARGE = 300_000  # bytes; larger pictures are photographs, which JPEG keeps smaller


def found(findings: Sequence[str]) -> str:
    """Return a section that lists what is seen, nothing for none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in findings)
    return f"<section><h2>What this shows</h2><ul>{items}</ul></section>" if items else ""


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a section with a table, whose first column names the rows."""
    top = "".join(f"<th scope='col'>{escape(head)}</th>" for head in heads)
    lines = (
        f"<tr><th scope='row'>{escape(first)}</th>"
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return (
        f"<section><h2>{escape(title)}</h2><div class='scroll'><table><thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def definitions(items: Sequence[tuple[str, str]]) -> str:
    """Return a list of terms and what is to be said of each."""
    lines = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in items)
    return f"<dl>{lines}</dl>"


def pictures(shown: Sequence[Figure], title: str = "Pictures") -> str:
    """Return a section of captions and pictures, files or bytes; nothing for none."""
    if not shown:
        return ""
    inside = "".join(_figure(caption, picture) for caption, picture in shown)
    return f"<section><h2>{escape(title)}</h2><div class='figures'>{inside}</div></section>"


def _figure(caption: str, picture: str | Path | bytes) -> str:
    text = escape(caption)
    if not isinstance(picture, bytes):
        file = Path(picture)
        if not file.is_file():
            return (
                f"<figure class='missing'>{escape(file.name)} is missing"
                f"<figcaption>{text}</figcaption></figure>"
            )
        picture = file.read_bytes()
    data, kind, (width, height) = _encoded(picture)
    wide = width >= 1.9 * height or width >= 1400
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    least = "" if kind == "jpeg" else f" style='--least: {width // 2}px'"  # of a plot's words
    image = f"<div class='scroll'><img src='{source}' alt='{text}'{least}></div>"
    span = " class='wide'" if wide else ""
    return f"<figure{span}>{image}<figcaption>{text}</figcaption></figure>"


def _encoded(picture: bytes) -> tuple[bytes, str, tuple[int, int]]:
    """Return the bytes to embed, their format, and the picture's width and height."""
    with Image.open(io.BytesIO(picture)) as image:
        size, kind = image.size, image.format
        if kind != "JPEG" and len(picture) > _LARGE:
            smaller = io.BytesIO()
            image.convert("RGB").save(smaller, format="JPEG", quality=88)
            if smaller.tell() < len(picture) / 2:
                return smaller.getvalue(), "jpeg", size
    return picture, str(kind).lower(), size


def paragraph(text: str) -> str:
    """Return a paragraph, nothing for no text."""
    return f"<p>{escape(text)}</p>" if text else ""


def page(title: str, body: str) -> str:
    """Return a whole page, which loads nothing from elsewhere."""
    written = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return _PAGE.format(title=escape(title), style=_STYLE, body=body, written=written)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<footer>Written by razorlite, {written}</footer>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light; --ink: #1f2937; --muted: #6b7280; --line: #e5e7eb; }
* { box-sizing: border-box; }
body { margin: 0; background: #f9fafb; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 8px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 0 0 .8rem; }
h3 { font-size: .95rem; margin: 1.2rem 0 .4rem; }
p { margin: 0 0 .7rem; max-width: 75ch; }
ul { margin: 0; padding-left: 1.2em; }
li { margin: 0 0 .4rem; max-width: 75ch; }
header { margin-bottom: 20px; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 18px; margin-bottom: 18px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 12px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { font-size: .85rem; color: var(--muted); border-bottom: 2px solid var(--line); }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
tbody th { font-weight: 600; }
tbody tr:last-child > * { border-bottom: 0; }
small { font-weight: 400; }
td.best { color: #15803d; font-weight: 700; background: #f0fdf4; }
.hint, figcaption, footer { color: var(--muted); font-size: .85rem; }
.hint { margin: .6rem 0 0; }
dl { display: grid; grid-template-columns: minmax(7em, max-content) 1fr; gap: 4px 16px;
  margin: 0; font-size: .92rem; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
.figures { display: grid; gap: 22px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figure.missing { color: var(--muted); border: 1px dashed var(--line); padding: 24px; }
img { display: block; width: 100%; height: auto; border: 1px solid var(--line);
  border-radius: 6px; }
figcaption { margin-top: 6px; }
footer { max-width: 1080px; margin: 0 auto; padding: 0 16px 28px; }
@media (max-width: 560px) {
  main { padding: 16px 8px 4px; }
  section { padding: 14px 12px; }
  th, td { padding: 8px; }
  tbody th { white-space: normal; min-width: 8em; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; }
  figure img { width: max(100%, var(--least, 100%)); max-width: none; }
}
@media print { section { break-inside: avoid; border: 0; } }
"""
