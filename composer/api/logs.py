"""What one container printed, its two streams apart."""

from __future__ import annotations

from pathlib import Path

from composer.logs import Source
from composer.logs.format import CONTENT, STREAM
from composer.logs.reader import Reader


def streams(log: Path) -> tuple[bytes, bytes]:
    """Standard output and standard error, as far as they are known."""
    found = {b"stdout": bytearray(), b"stderr": bytearray()}
    reader = Reader(Source(str(log)))
    try:
        for records in (*reader.batches(), reader.rest()):
            for record in records:
                found[record[STREAM]] += record[CONTENT:] + b"\n"
    finally:
        reader.close()
    return bytes(found[b"stdout"]), bytes(found[b"stderr"])
