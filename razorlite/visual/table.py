"""The table that compares models, for a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from razorlite.core.streams import safe_console
from razorlite.visual.rows import Row, best_rows, columns

if TYPE_CHECKING:
    from rich.console import Console

_WIDEST = 500  # characters, more than any table has


def print_table(rows: Sequence[Row], *, title: str = "", console: "Console | None" = None) -> None:
    """Print one line per model, values with units, the best of each column in bold green.

    A terminal too narrow for the table breaks its lines; no value is cut short.

    Args:
        rows: `name` and any of `macs`, `params` (plain counts), `latency_ms`, `AP`, `AP50`,
            `AP75`, `mAP`, `top1`, `top5`.
        title: above the table.
        console: where to print; the terminal by default.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    shown = columns(rows)
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("Model", min_width=12)
    for column in shown:
        table.add_column(f"{column.label}\n{column.unit}".strip(), justify="right")
    best = [best_rows(rows, column) for column in shown]
    for index, row in enumerate(rows):
        texts = (column.text(row) for column in shown)
        cells = [
            f"[bold green]{t}[/]" if index in b else t for t, b in zip(texts, best, strict=True)
        ]
        table.add_row(escape(str(row.get("name", ""))), *cells)
    console = console or safe_console()
    table.width = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
    console.print(table, soft_wrap=True)
