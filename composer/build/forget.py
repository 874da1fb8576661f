"""What the build cache forgets: what nobody came across for two weeks, and what does not fit. K.

One knob: COMPOSER_BUILD_CACHE, the bytes that steps, downloads and cache mounts may take together. What was
not used for the longest time goes first. Never while something is built.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from composer.build.cache import Cache, read
from composer.disk import write_json
from composer.errors import UsageError

UNUSED = 14 * 24 * 3600
"""Seconds after which a step that no build came across is forgotten."""
VARIABLE = "COMPOSER_BUILD_CACHE"
LARGEST = 20 * 1024**3
"""Bytes, when the variable says nothing."""


class Item(NamedTuple):
    """Something that takes room: when it was last used (seconds since the epoch), and its bytes."""

    used: float
    size: int
    path: Path


def largest(environment: Mapping[str, str]) -> int:
    """The bytes that the cache may take. Raises UsageError."""
    from composer.model.units import size

    text = environment.get(VARIABLE, "")
    try:
        return size(text) if text else LARGEST
    except ValueError as error:
        raise UsageError(f"{VARIABLE}: {error}") from error


def trim(cache: Cache, *, unused: float = UNUSED, most: int = LARGEST) -> int:
    """Forget what was not used for so many seconds, and what is over `most` bytes; the bytes that went."""
    if not cache.root.is_dir():
        return 0
    lock = os.open(cache.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _trim(cache.root, time.time() - unused, most)
    except BlockingIOError:
        return 0
    finally:
        os.close(lock)


def size(cache: Cache) -> int:
    """Bytes on the disk; what the image store has as well counts in both."""
    return sum(item.size for item in items(cache.root))


def items(root: Path) -> Iterator[Item]:
    used = _layers(root)
    for path in _entries(root / "layers"):
        yield Item(used.get(path.name, 0.0), _kept_size(path), path)
    for kind in ("fetched", "mounts"):
        for path in _entries(root / kind):
            if path.suffix != ".lock" and path.suffix != ".new":
                status = path.lstat()
                yield Item(max(status.st_atime, status.st_mtime), _size(path), path)


def _trim(root: Path, before: float, most: int) -> int:
    for kind in ("steps", "notes"):
        for path in _entries(root / kind):
            if path.stat().st_mtime < before:
                path.unlink()
    for path in (root / "work").glob("*.lock"):
        path.unlink()
    freed = 0
    kept = []
    for item in items(root):
        if item.used < before:
            freed += _remove(item)
        else:
            kept.append(item)
    total = sum(item.size for item in kept)
    for item in sorted(kept):
        if total <= most:
            break
        total -= item.size
        freed += _remove(item)
    known = {path.name for path in _entries(root / "layers")}
    for path in _entries(root / "steps"):
        record = read(path) or {}
        if record.get("layer") and record["layer"] not in known:
            path.unlink()
    return freed


def _layers(root: Path) -> dict[str, float]:
    """When each layer was last used: what led to it is touched by every build that comes across it."""
    found: dict[str, float] = {}
    for path in _entries(root / "steps"):
        layer = str((read(path) or {}).get("layer") or "")
        if layer:
            found[layer] = max(found.get(layer, 0.0), path.stat().st_mtime)
    return found


def _entries(folder: Path) -> Iterator[Path]:
    yield from list(folder.iterdir()) if folder.is_dir() else ()


def _kept_size(layer: Path) -> int:
    """A layer never changes, so it is measured once."""
    note = layer / "size"
    known = read(note)
    if not isinstance(known, int):
        known = _size(layer)
        write_json(note, known, durable=False)
    return known


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_blocks * 512
    return sum(
        os.lstat(os.path.join(place, name)).st_blocks * 512
        for place, folders, files in os.walk(path)
        for name in (*folders, *files)
    )


def _remove(item: Item) -> int:
    remove: Callable[[Path], object] = shutil.rmtree if item.path.is_dir() else os.unlink
    remove(item.path)
    return item.size
