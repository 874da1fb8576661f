"""Rows shown as `--format` asks: a table, JSON, or a template. One way for every command that lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from composer.cli.render.table import table

Row = Mapping[str, Any]
Columns = Mapping[str, str | Callable[[Any], str]]
"""Heads, each with a key of the rows, or with a function of a row."""


def listing(rows: Sequence[Row], columns: Columns, format: str = "table", *, array: bool = False) -> str:
    """`array`: as JSON the rows are one array, as some of Docker's commands have it, not one object a line.

    Raises UsageError for a template that is not understood.
    """
    if format in ("", "table"):
        return table(list(columns), [[cell(row, get) for get in columns.values()] for row in rows])
    if format == "json":
        return compact(list(rows)) if array else "\n".join(map(compact, rows))
    from composer.cli.render.template import render

    return render(format, rows)


def compact(value: Any) -> str:
    """JSON as Docker prints it: people look for `"State":"running"` in it."""
    return json.dumps(value, separators=(",", ":"))


def cell(row: Row, get: str | Callable[[Any], str]) -> str:
    return str(row[get]) if isinstance(get, str) else get(row)


def show(text: str) -> None:
    """Print a listing; nothing at all when it is empty."""
    if text:
        print(text)
