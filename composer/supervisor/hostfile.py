"""Being told when a file of the host says something else, however it is replaced: /etc/resolv.conf."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio

from composer.inotify import CLOSE_WRITE, CREATE, DELETE, MOVED_TO, Inotify

MOST_LINKS = 40
"""As the kernel follows, path_resolution(7)."""


def text_of(path: Path) -> str:
    """Nothing when it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


async def follow(path: Path, changed: Callable[[str], None]) -> None:
    """Until cancelled: `changed` hears the file's text whenever it is another."""
    text = text_of(path)
    while True:
        with Inotify() as inotify:
            for each in on_the_way(path):
                try:
                    inotify.watch(each, CLOSE_WRITE | CREATE | DELETE | MOVED_TO)
                except OSError:
                    continue  # not there: what comes before it tells when it comes
            now = text_of(path)
            if now != text:
                text = now
                changed(text)
            await anyio.wait_readable(inotify)


def on_the_way(path: Path) -> Iterator[Path]:
    """The file, every link that leads to it, and the folders in which these can be replaced."""
    for _ in range(MOST_LINKS):
        yield path.parent
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
    yield path
