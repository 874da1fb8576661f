"""Finds what was changed in an unpacked layer, by reading its archive again. Writes nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from composer.errors import ImageError
from composer.images import tar
from composer.images.layers import WHITEOUT
from composer.images.stream import Ahead, Read, decompressed
from composer.syscalls import NO_SYMLINKS, open_in_root


def compare(read: Read, directory: Path) -> None:
    """Raise ImageError for the first file whose bytes, or link whose target, is not what the archive says.

    Of a name that comes twice the last entry counts, so a name is only compared where the archive has it
    once.
    """
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    doubtful: dict[bytes, str] = {}
    seen: set[bytes] = set()
    try:
        with Ahead(decompressed(read)) as ahead:
            stream = tar.Stream(ahead.take)
            for member in tar.members(stream):
                name = b"/".join(part for part in member.name.split(b"/") if part not in (b"", b"."))
                if WHITEOUT in name or member.kind == tar.DIRECTORY:
                    continue
                doubtful.pop(name, None)
                if name not in seen and (wrong := _differs(root, name, member, stream)):
                    doubtful[name] = wrong
                seen.add(name)
            stream.drain()
    finally:
        os.close(root)
    for name, wrong in doubtful.items():
        raise ImageError(f"an unpacked layer was changed: {os.fsdecode(name)!r} {wrong}", hint=_HINT)


_HINT = "remove the image and pull it again"


def _differs(root: int, name: bytes, member: tar.Member, stream: tar.Stream) -> str:
    """What is wrong with one entry; "" when nothing is. Entries behind links of the layer are left out."""
    try:
        file = open_in_root(root, name, os.O_PATH | os.O_NOFOLLOW, resolve=NO_SYMLINKS)
    except FileNotFoundError:
        return "is gone"
    except OSError:
        return ""
    try:
        mode = os.fstat(file).st_mode
        if member.kind == tar.SYMBOLIC_LINK:
            same = stat.S_ISLNK(mode) and os.readlink(b"", dir_fd=file) == member.link
            return "" if same else "leads elsewhere"
        if member.kind != tar.REGULAR or member.pieces is not None:
            return ""
        if not stat.S_ISREG(mode):
            return "is no file"
        return _content(f"/proc/self/fd/{file}", member, stream)
    finally:
        os.close(file)


def _content(path: str, member: tar.Member, stream: tar.Stream) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for view in stream.pieces(member.stored):
            at = 0
            while at < len(view):
                data = os.read(descriptor, len(view) - at)
                if not data or data != view[at : at + len(data)]:
                    return "has other bytes"
                at += len(data)
        return "is longer" if os.read(descriptor, 1) else ""
    finally:
        os.close(descriptor)
