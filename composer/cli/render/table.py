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
    return text if width(text) <= size else text[: max(size - 1, 0)] + "…"
