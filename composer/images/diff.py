"""Turns a directory into a layer's archive, the same bytes for the same content: `layers`, backwards.

Names are sorted, times are whole seconds (capped at SOURCE_DATE_EPOCH where one is given), and owners are
numbers. An overlay's whiteouts become `.wh.` entries again. Format: pax headers only where ustar has no
room (POSIX.1-2001 pax).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from composer.errors import ImageError
from composer.images.layers import OPAQUE, WHITEOUT, overlay_prefix
from composer.images.stream import CHUNK
from composer.images.tar import BLOCK
from composer.layered import Layered, Node

Write = Callable[[bytes], object]

_KEPT = ("user.", "system.posix_acl_", "security.capability")
_ELSEWHERE = (".redirect", ".metacopy")
_OFF = "mount it with redirect_dir=off,metacopy=off"
_OCTAL_SIZE = 1 << 33  # what eleven octal digits hold
_OCTAL_ID = 1 << 21


def pack(root: Path, write: Write, *, epoch: int | None = None, whiteouts: bool = True) -> None:
    """Write the archive of everything below `root`; `whiteouts` for the upper directory of an overlay.

    Sockets are left out, as tar(1) does. The directory must not change meanwhile.
    """
    _Packer(root, write, epoch, whiteouts).run()


class _Packer:
    def __init__(self, root: Path, write: Write, epoch: int | None, whiteouts: bool) -> None:
        self._root, self._out = root, write
        self._pending: list[bytes] = []
        self._length = 0
        self._epoch, self._whiteouts = epoch, whiteouts
        self._seen: dict[tuple[int, int], bytes] = {}

    def run(self) -> None:
        directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._walk(directory, b"")
        finally:
            os.close(directory)
        self.finish()

    def finish(self) -> None:
        self._write(bytes(2 * BLOCK))
        self._out(b"".join(self._pending))

    def tree(self, tree: Layered, node: Node) -> None:
        """The content of a directory of a layered tree."""
        for child in tree.children(node):
            path = os.fsencode(child.path.lstrip("/"))
            above, _, name = child.places[0].rpartition("/")
            directory = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if child.is_directory:
                    by_name = os.fsencode(f"/proc/self/fd/{directory}/{name}")
                    self._entry(path + b"/", "5", child.status, xattrs=_xattrs(by_name))
                else:
                    self._file(directory, os.fsencode(name), path, child.status)
            finally:
                os.close(directory)
            if child.is_directory:
                self.tree(tree, child)

    def _write(self, data: bytes) -> None:
        """Gather headers and small files: who hashes and compresses wants large pieces."""
        self._pending.append(data)
        self._length += len(data)
        if self._length >= CHUNK:
            self._out(b"".join(self._pending))
            self._pending.clear()
            self._length = 0

    def _walk(self, directory: int, path: bytes) -> None:
        """The content of one open directory. Descends by descriptors, so nothing outside is ever reached."""
        if self._whiteouts and path and _is_opaque(directory):
            self._write(header(path + OPAQUE, "0", time=self._time(os.fstat(directory))))
        for name in sorted(os.fsencode(name) for name in os.listdir(directory)):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                inner = os.open(
                    name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
                )
                try:
                    self._entry(path + name + b"/", "5", status, xattrs=_xattrs(inner))
                    self._walk(inner, path + name + b"/")
                finally:
                    os.close(inner)
            else:
                self._file(directory, name, path + name, status)

    def _file(self, directory: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        mode = status.st_mode
        if self._whiteouts and stat.S_ISCHR(mode) and status.st_rdev == 0:
            above, slash, leaf = path.rpartition(b"/")
            self._write(header(above + slash + WHITEOUT + leaf, "0", time=self._time(status)))
            return
        identity = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and identity in self._seen:
            self._entry(path, "1", status, link=self._seen[identity])
            return
        self._seen[identity] = path
        by_name = f"/proc/self/fd/{directory}/".encode() + name
        if stat.S_ISREG(mode):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                self._entry(path, "0", status, size=status.st_size, xattrs=_xattrs(file))
                self._content(file, status.st_size)
            finally:
                os.close(file)
        elif stat.S_ISLNK(mode):
            self._entry(path, "2", status, link=os.readlink(name, dir_fd=directory), xattrs=_xattrs(by_name))
        elif not stat.S_ISSOCK(mode):
            kind = "3" if stat.S_ISCHR(mode) else "4" if stat.S_ISBLK(mode) else "6"
            self._entry(path, kind, status, device=status.st_rdev, xattrs=_xattrs(by_name))

    def _content(self, file: int, size: int) -> None:
        """Exactly `size` bytes: a file that shrinks meanwhile is filled with zeros, one that grows is cut."""
        left = size
        while left:
            data = os.read(file, min(CHUNK, left)) or bytes(min(CHUNK, left))
            self._write(data)
            left -= len(data)
        if size % BLOCK:
            self._write(bytes(BLOCK - size % BLOCK))

    def _entry(
        self,
        path: bytes,
        kind: str,
        status: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        device: int = 0,
        xattrs: dict[bytes, bytes] | None = None,
    ) -> None:
        mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        time = self._time(status)
        self._write(header(path, kind, mode, owner, size, time, link, device, xattrs or {}))

    def _time(self, status: os.stat_result) -> int:
        seconds = int(status.st_mtime)
        return seconds if self._epoch is None else min(seconds, self._epoch)


def header(
    path: bytes,
    kind: str,
    mode: int = 0o644,
    owner: tuple[int, int] = (0, 0),
    size: int = 0,
    time: int = 0,
    link: bytes = b"",
    device: int = 0,
    xattrs: dict[bytes, bytes] | None = None,
) -> bytes:
    """The blocks that announce one entry."""
    pax = {b"SCHILY.xattr." + key: value for key, value in sorted((xattrs or {}).items())}
    if len(path) > 100:
        pax[b"path"] = path
    if len(link) > 100:
        pax[b"linkpath"] = link
    for key, value, bound in (
        ("uid", owner[0], _OCTAL_ID),
        ("gid", owner[1], _OCTAL_ID),
        ("size", size, _OCTAL_SIZE),
    ):
        if value >= bound:
            pax[key.encode()] = str(value).encode()
    if not 0 <= time < _OCTAL_SIZE:
        pax[b"mtime"] = str(time).encode()
    extended = b"".join(_record(key, value) for key, value in sorted(pax.items()))
    before = b""
    if extended:
        padding = bytes(-len(extended) % BLOCK)
        before = _block(b"PaxHeaders/" + path[-80:].strip(b"/"), "x", 0o644, (0, 0), len(extended), 0, b"", 0)
        before += extended + padding
    return before + _block(path[:100], kind, mode, owner, size, time, link[:100], device)


def _block(
    name: bytes, kind: str, mode: int, owner: tuple[int, int], size: int, time: int, link: bytes, device: int
) -> bytes:
    uid, gid = (number if number < _OCTAL_ID else 0 for number in owner)
    size, time = size if size < _OCTAL_SIZE else 0, time if 0 <= time < _OCTAL_SIZE else 0
    parts = (
        name.ljust(100, b"\0"),
        b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, time),
        b" " * 8,
        kind.encode(),
        link.ljust(100, b"\0"),
        b"ustar\x0000" + bytes(64),
        b"%07o\0%07o\0" % (os.major(device), os.minor(device)),
        bytes(167),
    )
    block = b"".join(parts)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`, where the length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _xattrs(file: int | bytes) -> dict[bytes, bytes]:
    follow = isinstance(file, int)
    kept: dict[bytes, bytes] = {}
    try:
        names = os.listxattr(file, follow_symlinks=follow)
    except OSError:
        return kept  # this file system has none
    for name in names:
        if name.endswith(_ELSEWHERE) and name.startswith(("trusted.overlay.", "user.overlay.")):
            raise ImageError("the overlay keeps a part of its upper directory in its lower ones", hint=_OFF)
        if name.startswith(_KEPT) and not name.startswith("user.overlay."):
            kept[os.fsencode(name)] = os.getxattr(file, name, follow_symlinks=follow)
    return kept


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, f"{overlay_prefix()}opaque") == b"y"
    except OSError:
        return False


def changes(upper: Path, below: Layered) -> Iterator[tuple[str, str]]:
    """What an overlay's upper directory says was done: ("A"dded, "C"hanged or "D"eleted, path), sorted."""
    for place in sorted(upper.rglob("*")):
        path, status = f"/{place.relative_to(upper)}", place.lstat()
        known = below.find(path, follow=False)
        gone = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
        if known is not None or not gone:
            yield "D" if gone else "C" if known is not None else "A", path


def export(tree: Layered, write: Write) -> None:
    """Write the archive of a whole root file system, whiteouts applied.

    Its layers must not change meanwhile.
    """
    packer = _Packer(Path("/"), write, None, whiteouts=False)
    packer.tree(tree, tree.root)
    packer.finish()
