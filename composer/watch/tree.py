"""What is below some paths, and what of it has changed since one looked last: inotify(7).

Every directory below a path has a watch, and so has the nearest directory above it that exists: a path that
is not there yet, is replaced by a rename, or goes and comes back, is followed all the same. An event is taken
as a hint where to look; what has changed is decided by what was seen before. When the kernel had to drop
events, everything is looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from composer import inotify
from composer.errors import ComposerError

EVENTS: Final = (
    inotify.CLOSE_WRITE
    | inotify.ATTRIB
    | inotify.CREATE
    | inotify.DELETE
    | inotify.MOVED_FROM
    | inotify.MOVED_TO
    | inotify.MOVE_SELF
    | inotify.ONLYDIR
)
COMES_OR_GOES: Final = inotify.MOVED_FROM | inotify.DELETE | inotify.MOVED_TO | inotify.CREATE


class Change(NamedTuple):
    """What became of a path: `gone`, or there. A `directory` is or was one."""

    directory: bool = False
    gone: bool = False


class Tree:
    """Poll it for reading, then `take`. `wanted(path, is_directory)` says what counts."""

    def __init__(self, roots: Iterable[str], wanted: Callable[[str, bool], bool]) -> None:
        """`roots` are absolute. Raises ComposerError when the kernel has no watches left."""
        self.roots: Sequence[str] = sorted(set(roots))
        self.wanted = wanted
        self.events = inotify.Inotify()
        self.folders: dict[int, str] = {}
        self.numbers: dict[str, int] = {}
        self.seen: dict[str, tuple[int, ...]] = {}
        self.inside: dict[str, set[str]] = {}
        """Names seen in each directory that was seen."""
        self.changed: dict[str, Change] = {}
        self.take_all()
        self.changed.clear()

    def fileno(self) -> int:
        return self.events.fileno()

    def close(self) -> None:
        self.events.close()

    def files(self) -> dict[str, Change]:
        """Everything that is there."""
        return {path: Change(path in self.inside) for path in self.seen}

    def take(self) -> dict[str, Change]:
        """What has changed since the last call, or since the beginning."""
        for number, events, name in self.events.take():
            if events & inotify.OVERFLOW:
                self.take_all()
            folder = self.folders.get(number)
            if folder is None:
                continue
            if events & (inotify.IGNORED | inotify.MOVE_SELF):
                self.unwatch(folder)
                self.look_beyond(folder)
            elif not name:
                self.look(folder)
            else:
                path = os.path.join(folder, name)
                another = bool(events & inotify.ISDIR and events & COMES_OR_GOES)
                if another:
                    self.unwatch_below(path)
                self.look(path, written=not events & inotify.CREATE, whole=another)
        changed, self.changed = self.changed, {}
        return changed

    def take_all(self) -> None:
        for root in self.roots:
            self.look(root, whole=True)

    def look(self, path: str, *, written: bool = True, whole: bool = False) -> None:
        """Compare a path with what was seen of it. `whole`: also what is in directories that are known."""
        left = self.look_at(path, written, whole)
        while left:
            left += self.look_at(left.pop(), True, True)

    def look_at(self, path: str, written: bool, whole: bool) -> list[str]:
        """The paths in it that are to be looked at, too."""
        root = self.root_of(path)
        if root is None:
            self.look_beyond(path)
            return []
        if root == path:
            self.anchor(root)
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            self.gone(path)
            return []
        directory = stat.S_ISDIR(status.st_mode)
        if not self.wanted(path, directory):
            return []
        if (path in self.inside) != directory:
            self.gone(path)
        if directory:
            return self.look_into(path, status, whole)
        if written or status.st_nlink > 1 or not stat.S_ISREG(status.st_mode):
            # Whoever has just made a file is about to write it, and then closes it: that is the moment.
            self.note(path, (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino))
        return []

    def look_into(self, folder: str, status: os.stat_result, whole: bool) -> list[str]:
        known = folder in self.inside
        self.note(folder, (status.st_mode,), directory=True)
        if known and not whole:
            return []
        self.watch(folder)
        try:
            names = set(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            names = set()
        return [os.path.join(folder, name) for name in names | self.inside[folder]]

    def note(self, path: str, stamp: tuple[int, ...], *, directory: bool = False) -> None:
        if directory:
            self.inside.setdefault(path, set())
        if self.seen.get(path) != stamp:
            self.seen[path] = stamp
            self.changed[path] = Change(directory)
            parent, name = os.path.split(path)
            if parent in self.inside:
                self.inside[parent].add(name)

    def gone(self, path: str) -> None:
        """Forget a path and what was below it."""
        left = [path]
        while left:
            path = left.pop()
            names = self.inside.pop(path, None)
            left += [os.path.join(path, name) for name in names or ()]
            if self.seen.pop(path, None) is not None:
                self.changed[path] = Change(names is not None, gone=True)
                parent, name = os.path.split(path)
                self.inside.get(parent, set()).discard(name)

    def look_beyond(self, path: str) -> None:
        """Something happened on the way to a root, or to what a root is in."""
        for root in self.roots:
            if root == path or below(root, path):
                self.look(root, whole=True)

    def root_of(self, path: str) -> str | None:
        return next((root for root in self.roots if root == path or below(path, root)), None)

    def anchor(self, root: str) -> None:
        """Watch the nearest directory above that is there, which tells when the next one comes or goes."""
        folder = os.path.dirname(root)
        while not self.watch(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)

    def watch(self, folder: str) -> bool:
        """Raises ComposerError when the kernel has no watches left."""
        if folder in self.numbers:
            return True
        try:
            number = self.events.watch(Path(folder), EVENTS)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        except OSError as error:
            raise ComposerError(
                f"cannot watch {folder}: the kernel has no watches left ({error.strerror})",
                hint="raise it: `sysctl fs.inotify.max_user_watches=524288`; or ignore large folders",
            ) from error
        self.folders[number], self.numbers[folder] = folder, number
        return True

    def unwatch(self, folder: str) -> None:
        number = self.numbers.pop(folder, None)
        if number is not None:
            self.folders.pop(number, None)
            self.events.forget(number)

    def unwatch_below(self, path: str) -> None:
        """A directory that was moved away keeps its watches, under a name that is wrong."""
        for folder in [folder for folder in self.numbers if folder == path or below(folder, path)]:
            self.unwatch(folder)


def below(path: str, folder: str) -> bool:
    return path.startswith(folder if folder == "/" else f"{folder}/")
