"""One self-contained HTML page that says what was built, what it costs and what it reaches."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from razorlite.core.files import write_text_atomic
from razorlite.visual.rows import Column, Row, best_rows, columns, plain_rows

Figure = tuple[str, str | Path | bytes]

_LARGE = 300_000  # bytes; larger pictures are photographs, which JPEG keeps smaller


def write_report(
    path: str | Path,
    *,
    title: str,
    rows: Sequence[Row],
    summary: str = "",
    findings: Sequence[str] = (),
    figures: Sequence[Figure] = (),
    notes: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write `path` (HTML) and a JSON file of the same name beside it.

    The page holds its pictures and styles and loads nothing from elsewhere. The JSON holds
    `title`, `rows`, `findings`, `notes` and `facts`; its rows always have `name`, `macs`, `params`,
    `latency_ms`, `AP` and `AP50`, null where unknown.

    Args:
        path: the HTML file.
        title: headline.
        rows: one a model: `name`, the figures of `print_table`, and `note`, which explains the row.
        summary: a paragraph under the headline.
        findings: what the rows show, in plain words.
        figures: caption and picture (file or bytes, PNG or JPEG); a file that is missing is named
            in its place.
        notes: how the figures were measured, a paragraph each.
        facts: what ran where: data set, machine, versions, seed, duration.

    Returns:
        The HTML file.

    Raises:
        RunFolderError: a file cannot be written.
    """
    path = Path(path)
    facts = dict(facts or {})
    content: dict[str, Any] = {"title": title, "rows": plain_rows(rows)}
    content |= {"findings": list(findings), "notes": list(notes), "facts": facts}
    parts = [
        f"<header><h1>{escape(title)}</h1>{_paragraph(summary)}</header>",
        _comparison(rows),
        _found(findings),
        _pictures(figures),
        _how(notes),
        _facts(facts),
    ]
    write_text_atomic(
        path.with_suffix(".json"), json.dumps(content, indent=2, ensure_ascii=False, default=str)
    )
    write_text_atomic(path, _page(title, "\n".join(part for part in parts if part)))
    return path


def _comparison(rows: Sequence[Row]) -> str:
    if not rows:
        return "<section><h2>Models</h2><p>No model was measured.</p></section>"
    shown = columns(rows)
    heads = "".join(f"<th scope='col'>{_head(column)}</th>" for column in shown)
    best = [best_rows(rows, column) for column in shown]
    body = "".join(_line(i, row, shown, best) for i, row in enumerate(rows))
    table = f"<thead><tr><th scope='col'>Model</th>{heads}</tr></thead><tbody>{body}</tbody>"
    return (
        f"<section><h2>Models</h2><div class='scroll'><table>{table}</table></div>"
        f"{_hint(rows, best)}{_explanations(rows, shown)}</section>"
    )


def _hint(rows: Sequence[Row], best: Sequence[set[int]]) -> str:
    """Say what the colour means, or why there is none."""
    if len({row.get("steps") for row in rows}) > 1:
        return "<p class='hint'>The rows differ in training: none is marked as the best.</p>"
    if not any(best):
        return ""
    within = any(key.endswith("_interval") for row in rows for key in row)
    noise = ", and what lies within the interval of the best" if within else ""
    return f"<p class='hint'>The best value of each column{noise} is green.</p>"


def _found(findings: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in findings)
    return f"<section><h2>What this shows</h2><ul>{items}</ul></section>" if items else ""


def _head(column: Column) -> str:
    unit = f" <small>{escape(column.unit)}</small>" if column.unit else ""
    return f"{escape(column.label)}{unit}"


def _line(index: int, row: Row, shown: Sequence[Column], best: Sequence[set[int]]) -> str:
    cells = "".join(
        f"<td{' class=best' if index in winners else ''}>{escape(column.text(row))}</td>"
        for column, winners in zip(shown, best, strict=True)
    )
    return f"<tr><th scope='row'>{escape(str(row.get('name', '')))}</th>{cells}</tr>"


def _explanations(rows: Sequence[Row], shown: Sequence[Column]) -> str:
    """Say what each row is and what each column means."""
    models = [(str(row.get("name", "")), str(row["note"])) for row in rows if row.get("note")]
    meanings = [(column.heading, column.meaning) for column in shown if column.meaning]
    lists = [("What the rows are", models), ("What the columns mean", meanings)]
    return "".join(f"<h3>{name}</h3>{_definitions(items)}" for name, items in lists if items)


def _definitions(items: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in items)
    return f"<dl>{lines}</dl>"


def _pictures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    shown = "".join(_figure(caption, picture) for caption, picture in figures)
    return f"<section><h2>Pictures</h2><div class='figures'>{shown}</div></section>"


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
    data, kind, wide = _encoded(picture)
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    image = f"<div class='scroll'><img src='{source}' alt='{text}'></div>"
    span = " class='wide'" if wide else ""
    return f"<figure{span}>{image}<figcaption>{text}</figcaption></figure>"


def _encoded(picture: bytes) -> tuple[bytes, str, bool]:
    """Return the bytes to embed, their format, and whether the picture wants the full width."""
    with Image.open(io.BytesIO(picture)) as image:
        wide, kind = image.width >= 1.9 * image.height or image.width >= 1400, image.format
        if kind != "JPEG" and len(picture) > _LARGE:
            smaller = io.BytesIO()
            image.convert("RGB").save(smaller, format="JPEG", quality=88)
            if smaller.tell() < len(picture) / 2:
                return smaller.getvalue(), "jpeg", wide
    return picture, str(kind).lower(), wide


def _how(notes: Sequence[str]) -> str:
    body = "".join(_paragraph(note) for note in notes)
    return f"<section><h2>How it was measured</h2>{body}</section>" if body else ""


def _facts(facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    items = [(str(name), str(value)) for name, value in facts.items()]
    return f"<section><h2>Run</h2>{_definitions(items)}</section>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _page(title: str, body: str) -> str:
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
  figure.wide img { width: 680px; max-width: none; }
}
@media print { section { break-inside: avoid; border: 0; } }
"""
