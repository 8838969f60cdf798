"""Rows that compare models: how each value is called, scaled and printed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """How one value of a row is shown.

    Attributes:
        key: name in the row.
        label: heading.
        unit: of the number as it is shown; empty for a score.
        scale: what the row's number is divided by.
        digits: after the decimal point.
        best: whether the lowest ("min") or the highest ("max") value is the best; "" for none.
        meaning: one sentence for readers of a report.
    """

    key: str
    label: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 3
    best: str = "max"
    meaning: str = ""

    @property
    def heading(self) -> str:
        """Return the label with its unit, such as "MACs (M)"."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def text(self, row: Row) -> str:
        """Return a row's value as it is printed, ± half its interval; "–" if it has none."""
        value = number(row, self.key)
        return "–" if value is None else f"{self._shown(value)}{self._range(row)}"

    def _shown(self, value: float) -> str:
        return f"{value / self.scale:,.{self.digits}f}"

    def _range(self, row: Row) -> str:
        ends = interval_of(row, self.key)
        return f" ±{self._shown((ends[1] - ends[0]) / 2)}" if ends else ""


_COSTS = (
    Column("steps", "Steps", digits=0, best="", meaning="batches that the weights have seen"),
    Column(
        "macs",
        "MACs",
        best="min",
        meaning="multiply-accumulate operations of convolutions and matrix products for one image",
    ),
    Column("params", "Parameters", best="min", meaning="weights and biases that training sets"),
    Column(
        "latency_ms",
        "Latency",
        "ms",
        digits=1,
        best="min",
        meaning="median time for one image on the machine that wrote this report",
    ),
)
_SCORES = (
    Column("AP", "AP", meaning="COCO average precision, mean over IoU 0.50 to 0.95"),
    Column("AP50", "AP50", meaning="average precision at IoU 0.50"),
    Column("AP75", "AP75", meaning="average precision at IoU 0.75"),
    Column("mAP", "mAP", meaning="mean average precision at IoU 0.50, as VOC counts it"),
    Column("top1", "top-1", meaning="share of images whose class comes first"),
    Column("top5", "top-5", meaning="share of images whose class is among the first five"),
)
_ALWAYS = ("macs", "params", "latency_ms", "AP", "AP50")
_UNITS = ((1e9, "G", 2), (1e6, "M", 2), (1e3, "k", 1))


def columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that at least one row fills, with units that suit the largest value."""
    filled = [c for c in (*_COSTS, *_SCORES) if any(number(r, c.key) is not None for r in rows)]
    return [_suited(c, rows) if c.key in ("macs", "params") else c for c in filled]


def number(row: Row, key: str) -> float | None:
    """Return a row's finite number, or None."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def interval_of(row: Row, key: str) -> tuple[float, float] | None:
    """Return the least and the greatest value that a row gives by `KEY_interval`, if it does."""
    ends = row.get(f"{key}_interval")
    return None if ends is None else (float(ends[0]), float(ends[1]))


def best_rows(rows: Sequence[Row], column: Column) -> set[int]:
    """Return which rows print the best value of a column; none where all print the same.

    Rows that differ in training (`steps`) have no best. Where rows have intervals, those whose
    value lies in the interval of the best one are as good.
    """
    values = {i: v for i, row in enumerate(rows) if (v := number(row, column.key)) is not None}
    alike = len({row.get("steps") for row in rows}) < 2
    if not (column.best and alike) or len({column.text(rows[i]) for i in values}) < 2:
        return set()
    pick = min if column.best == "min" else max
    winner = pick(values, key=lambda i: values[i])
    low, high = interval_of(rows[winner], column.key) or (values[winner],) * 2
    best = column.text(rows[winner])
    return {i for i in values if low <= values[i] <= high or column.text(rows[i]) == best}


def plain_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows as JSON takes them: every expected key there, null for NaN and infinity."""
    return [{key: _plain(row.get(key)) for key in ("name", *_ALWAYS, *row)} for row in rows]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _suited(column: Column, rows: Sequence[Row]) -> Column:
    largest = max(number(row, column.key) or 0 for row in rows)
    for scale, unit, digits in _UNITS:
        if largest >= scale:
            return Column(**{**vars(column), "scale": scale, "unit": unit, "digits": digits})
    return Column(**{**vars(column), "digits": 0})
