"""One self-contained HTML page that says what was built, what it costs and what it reaches."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from razorlite.core.files import write_text_atomic
from razorlite.visual.page import Figure, definitions, found, page, paragraph, pictures, table
from razorlite.visual.rows import Column, Row, best_rows, columns, plain_rows

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


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
    tables: Sequence[Table] = (),
    more: Mapping[str, Any] | None = None,
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
        tables: further ones: title, headings, and lines of texts, whose first names the line.
        more: plain values that are in the JSON alone.

    Returns:
        The HTML file.

    Raises:
        RunFolderError: a file cannot be written.
    """
    path = Path(path)
    facts = dict(facts or {})
    content: dict[str, Any] = {"title": title, "rows": plain_rows(rows)}
    content |= {"findings": list(findings), "notes": list(notes), "facts": facts}
    content |= dict(more or {})
    parts = [
        f"<header><h1>{escape(title)}</h1>{paragraph(summary)}</header>",
        _comparison(rows),
        found(findings),
        *(table(*one) for one in tables),
        pictures(figures),
        _how(notes),
        _facts(facts),
    ]
    write_text_atomic(
        path.with_suffix(".json"), json.dumps(content, indent=2, ensure_ascii=False, default=str)
    )
    write_text_atomic(path, page(title, "\n".join(part for part in parts if part)))
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
    return "".join(f"<h3>{name}</h3>{definitions(items)}" for name, items in lists if items)


def _how(notes: Sequence[str]) -> str:
    body = "".join(paragraph(note) for note in notes)
    return f"<section><h2>How it was measured</h2>{body}</section>" if body else ""


def _facts(facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    items = [(str(name), str(value)) for name, value in facts.items()]
    return f"<section><h2>Run</h2>{definitions(items)}</section>"
