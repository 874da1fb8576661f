"""Where COPY takes files from: a user's folder with its .dockerignore, or the tree of a stage or image. K.

Reads only. Links are followed inside the tree alone, by `layered`. What is selected gets a digest of its
content, modes and names (of stages and images also owners), never of times: a touched file is the same file.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from posixpath import basename, normpath
from typing import Any

from composer.build.cache import Cache
from composer.build.ignore import Ignore, expression
from composer.images.image import RootOverlay
from composer.layered import Layered, Node
from composer.value import Value

_SETTLED = 2_000_000_000  # ns: a file that changed later than this ago may change again within the same tick
_MOST_FILES = 2_000_000
_KEPT = ("user.", "system.posix_acl_", "security.capability")


class Item(Value):
    """One thing to be copied: `name` below the target directory ("" is: its content only).

    Of a file or a link there is one entry, ("", node); of a directory all that is in it, the path relative to
    it, directories before their content. `data` is the text of a heredoc instead.
    """

    name: str
    node: Node | None = None
    entries: tuple[tuple[str, Node], ...] = ()
    data: bytes | None = None

    @property
    def is_directory(self) -> bool:
        return self.node is not None and self.node.is_directory


class Source:
    """A tree to copy from. `owners`: who files belong to counts, and is kept.

    `identity` tells a tree that never changes from all others; () for one that may change.
    """

    def __init__(
        self,
        roots: tuple[RootOverlay, ...],
        *,
        ignore: Ignore | None = None,
        owners: bool = True,
        identity: tuple[str, ...] = (),
    ) -> None:
        self.roots, self.ignore, self.owners, self.identity = roots, ignore or Ignore(()), owners, identity
        self.tree = Layered((overlay.target, overlay.lowers) for overlay in roots)

    def overlays(self, node: Node) -> list[RootOverlay]:
        """What a directory of the tree is made of: itself, and other overlays below it."""
        below = [
            root for root in self.roots if root.target.startswith(f"{node.path}/") and root.target != "/"
        ]
        inner = [RootOverlay(root.target.removeprefix(node.path), root.lowers) for root in below]
        return [RootOverlay("", node.places), *inner]

    def select(self, pattern: str, exclude: Ignore, *, parents: bool = False) -> Iterator[Item]:
        """What a source argument stands for. Nothing is found: no item."""
        above, pivot, _ = pattern.partition("/./")
        left_out = len([part for part in normpath(f"/{above}").split("/") if part]) if pivot else 0
        for node in self._find(pattern, deep=parents):
            path = node.path.lstrip("/")
            name = basename(path)
            if parents:
                name = "/".join(path.split("/")[left_out:])
            if not node.is_directory:
                if not exclude.ignores(basename(path)):
                    yield Item(name, node, (("", node),))
                continue
            yield Item(name if parents else "", node, tuple(self._below(node, exclude)))

    def _find(self, pattern: str, *, deep: bool) -> list[Node]:
        """`deep`: `**` stands for any number of folders, none too; otherwise for one name, as `*`."""
        parts = [part for part in normpath("/" + pattern).split("/") if part]
        found = [self.tree.root]
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            if deep and part == "**":
                found = list(
                    {node.path: node for top in found for node in self._all(top, files=last)}.values()
                )
            elif re.search(r"[*?\[]", part):
                match = re.compile(expression(part.replace("**", "*")), re.DOTALL).fullmatch
                found = [
                    child
                    for node in found
                    if node.is_directory
                    for child in self.tree.children(node)
                    if match(child.path.rpartition("/")[2])
                ]
            else:
                plain = re.sub(r"\\(.)", r"\1", part)
                found = [
                    c for node in found if (c := self.tree.find(f"{node.path}/{plain}", follow=not last))
                ]
            if last:
                found = [c for node in found if (c := self.tree.find(node.path))]
        return [node for node in found if self._wanted(node)]

    def _all(self, top: Node, *, files: bool) -> Iterator[Node]:
        """A folder and all folders below it; or the files."""
        if top.is_directory != files:
            yield top
        for child in self.tree.children(top) if top.is_directory else ():
            yield from self._all(child, files=files)

    def _wanted(self, node: Node) -> bool:
        path = node.path.lstrip("/")
        return node.is_directory or not path or not self.ignore.ignores(path)

    def _below(self, top: Node, exclude: Ignore) -> Iterator[tuple[str, Node]]:
        """Everything wanted in a directory. One that is ignored appears when something in it is kept."""
        matches = self._matches(top.path.lstrip("/"))
        yield from self._walk(top, len(top.path) + 1, exclude, matches, (), ())

    def _matches(self, path: str) -> tuple[bool, ...]:
        matches: tuple[bool, ...] = ()
        parts = path.split("/") if path else []
        for length in range(1, len(parts) + 1):
            _, matches = self.ignore.match("/".join(parts[:length]), matches)
        return matches

    def _walk(
        self,
        folder: Node,
        cut: int,
        exclude: Ignore,
        above: tuple[bool, ...],
        excluded_above: tuple[bool, ...],
        waiting: tuple[tuple[str, Node], ...],
    ) -> Iterator[tuple[str, Node]]:
        for child in self.tree.children(folder):
            path, relative = child.path.lstrip("/"), child.path[cut:]
            ignored, matches = self.ignore.match(path, above)
            excluded, excluded_matches = exclude.match(relative, excluded_above)
            if child.is_directory:
                gone = ignored and not self.ignore.may_keep_below(path)
                gone = gone or (excluded and not exclude.may_keep_below(relative))
                if gone:
                    continue
                pending = (*waiting, (relative, child))
                if not ignored and not excluded:
                    yield from pending
                    pending = ()
                for entry in self._walk(child, cut, exclude, matches, excluded_matches, pending):
                    if pending and entry == pending[-1]:
                        waiting = ()
                    yield entry
            elif not ignored and not excluded and not stat.S_ISSOCK(child.status.st_mode):
                yield from waiting
                waiting = ()
                yield relative, child

    # Digests

    def digest(self, items: list[Item]) -> str:
        """Of the content of all items, their names and modes."""
        whole = hashlib.sha256()
        for item in items:
            whole.update(f"{item.name}\0".encode(errors="surrogateescape"))
            if item.data is not None:
                whole.update(hashlib.sha256(item.data).digest())
            for number, (path, node) in enumerate(item.entries):
                if number > _MOST_FILES:
                    raise OSError(7, f"more than {_MOST_FILES} files", path)
                whole.update(self._of_one(path, node).encode(errors="surrogateescape"))
        return whole.hexdigest()

    def _of_one(self, path: str, node: Node) -> str:
        mode = node.status.st_mode
        owner = f"{node.status.st_uid}:{node.status.st_gid}" if self.owners else ""
        text = f"{path}\0{mode:o}\0{owner}\0"
        if stat.S_ISREG(mode):
            text += self.of_file(node)
        elif stat.S_ISLNK(mode):
            text += os.readlink(node.places[0])
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            text += str(node.status.st_rdev)
        if self.owners:
            text += "".join(f"\0{name}={value.hex()}" for name, value in sorted(attributes(node).items()))
        return text + "\n"

    def of_file(self, node: Node) -> str:
        return of_file(node.places[0])


class Folder(Source):
    """A folder of the user. Digests of files are remembered with everything that changes when a file does."""

    def __init__(self, path: str, ignore: Ignore | None, cache: Cache) -> None:
        super().__init__((RootOverlay("/", (path,)),), ignore=ignore, owners=False)
        self.known: dict[str, Any] = {}
        self.path, self.cache = path, cache
        self.before: Mapping[str, Any] | None = None
        self.changed = False

    def of_file(self, node: Node) -> str:
        if self.before is None:
            self.before = self.cache.note("files", self.path) or {}
        status = node.status
        stamp = [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino]
        kept = self.known.get(node.path) or self.before.get(node.path)
        if kept is not None and kept[:4] == stamp:
            self.known[node.path] = kept
            return str(kept[4])
        digest = of_file(node.places[0])
        if status.st_ctime_ns < time.time_ns() - _SETTLED:
            self.known[node.path] = [*stamp, digest]
            self.changed = True
        return digest

    def save(self) -> None:
        if self.changed:
            self.cache.remember({**(self.before or {}), **self.known}, "files", self.path)
            self.changed = False


def attributes(node: Node) -> dict[str, bytes]:
    """The extended attributes of a file that belong to it wherever it goes."""
    place = node.places[0]
    names = [name for name in os.listxattr(place, follow_symlinks=False) if name.startswith(_KEPT)]
    return {
        name: os.getxattr(place, name, follow_symlinks=False)
        for name in names
        if not name.startswith("user.overlay.")
    }


def of_file(path: str) -> str:
    """The digest of a regular file's content."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
