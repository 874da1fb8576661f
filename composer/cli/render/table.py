"""Tables as Docker prints them: upper-case heads, three spaces between columns, nothing to draw."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of aligned columns, without spaces at their ends."""
    widths = [max(map(width, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "   ".join(pad(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )


Step = tuple[str, int]
"""A column and how narrow it may become; 0: it may go."""


def fitted(
    head: Sequence[str], rows: Sequence[Sequence[str]], columns: int, steps: Sequence[Step]
) -> tuple[list[str], list[list[str]]]:
    """Head and rows, columns cut or left out step by step until they fit into `columns`."""
    head, cut = list(head), [list(row) for row in rows]
    for name, least in steps:
        widths = [max(map(width, column)) for column in zip(head, *cut, strict=True)]
        over = sum(widths) + 3 * (len(widths) - 1) - columns
        if over <= 0:
            break
        at = head.index(name)
        if not least:
            for row in (head, *cut):
                del row[at]
            continue
        room = max(widths[at] - over, least, width(name))
        for row in cut:
            row[at] = shorten(row[at], room)
    return head, cut


def pad(text: str, size: int) -> str:
    return text + " " * (size - width(text))


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def shorten(text: str, size: int) -> str:
    """`text` in at most `size` columns, with … where something was cut."""
    if width(text) <= size:
        return text
    kept = text[: max(size - 1, 0)]
    while width(kept) > size - 1 and kept:
        kept = kept[:-1]
    return kept + "…"
