"""Tables as Docker prints them: upper-case heads, three spaces between columns, nothing to draw."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of aligned columns, without spaces at their ends."""
    widths = [max(map(width, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "   ".join(pad(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )


def fitted(
    head: Sequence[str], rows: Sequence[Sequence[str]], columns: int, least: Mapping[str, int]
) -> list[list[str]]:
    """The rows with some cells cut, so that the table is no wider than `columns` if that is possible.

    `least`: how narrow which column may become, in the order in which they give.
    """
    cut = [list(row) for row in rows]
    for name, size in least.items():
        at = list(head).index(name)
        widths = [max(map(width, column)) for column in zip(head, *cut, strict=True)]
        over = sum(widths) + 3 * (len(widths) - 1) - columns
        if over > 0:
            room = max(widths[at] - over, size, width(name))
            for row in cut:
                row[at] = shorten(row[at], room)
    return cut


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
