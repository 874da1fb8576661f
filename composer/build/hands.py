"""Carries steps out on a mounted tree. K; only in a process that `mounting.alone` was called in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from composer.build.context import Item, Source
from composer.build.copy import Mode, Writer, mode_of, owner_of
from composer.build.ignore import Ignore, patterns
from composer.build.mounting import harvest, mounted
from composer.build.run import Job, Runner, account_of
from composer.build.site import Site
from composer.build.snapshot import Snapshot
from composer.build.walk import CopyJob, Standing
from composer.errors import ImageError
from composer.images.image import RootOverlay
from composer.images.stream import MAGIC

_TAR_MAGIC = 257  # where `ustar` stands in an archive's first block


class Worker:
    """The hands of one build."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.runner = Runner(site.request, site.cache, site.source)

    def run(self, snapshot: Snapshot, job: Job, place: Path, output: Callable[[str], None]) -> Path:
        with mounted(snapshot, place) as root:
            touched = self.runner.run(job, root, place, output)
        return harvest(snapshot, place, touched)

    def folder(self, snapshot: Snapshot, path: str, user: str, place: Path) -> Path | None:
        """A directory that a later step works in, the user's; None when it is there."""
        node = snapshot.tree().find(path)
        if node is not None and node.is_directory:
            return None
        with mounted(snapshot, place) as root:
            account = account_of(root, user)
            with _writing(root, (account.uid, account.gid), None, owners=False) as writer:
                os.close(writer.directory(path))
        return harvest(snapshot, place)

    def copy(self, snapshot: Snapshot, job: CopyJob, place: Path) -> Path:
        mode = mode_of(job.chmod) if job.chmod else None
        source = self.site.source(job.origin)
        exclude = Ignore(patterns("\n".join(job.exclude)))
        items = [i for p in job.sources for i in source.select(p, exclude, parents=job.parents)]
        items += [Item(name, data=text.encode(errors="surrogateescape")) for name, text in job.texts]
        texts = snapshot.text("etc/passwd"), snapshot.text("etc/group")
        owner = owner_of(job.chown, *texts) if job.chown else None
        try:
            if job.link is None:
                with mounted(snapshot, place) as root:
                    self._write(root, job, place, items, source, owner, mode)
                return harvest(snapshot, place)
            (place / "upper0").mkdir()
            self._write(place / "upper0", job, place, items, source, owner, mode)
            return standing(place / "upper0", job.link)
        except OSError as error:
            raise ImageError(
                f"cannot copy to {job.target}: {error.filename or ''} {error.strerror}"
            ) from error

    def _write(
        self,
        root: Path,
        job: CopyJob,
        place: Path,
        items: list[Item],
        source: Source,
        owner: tuple[int, int] | None,
        mode: Mode | None,
    ) -> None:
        archives = [item for item in items if job.unpack is not False and is_archive(item)]
        plain = [item for item in items if item not in archives]
        with _writing(root, owner, mode, owners=source.owners) as writer:
            if plain:
                writer.put(plain, job.target)
            for number, item in enumerate(archives):
                assert item.node is not None
                self._unpack(writer, item.node.places[0], job.target, place / f"archive{number}")
        for number, url in enumerate(job.urls):
            self._far(root, job, url, place / f"far{number}", owner, mode)

    def _unpack(self, writer: Writer, archive: str, target: str, place: Path) -> None:
        """An archive's content into the target directory, with the owners it says."""
        from composer.images.layers import unpack

        place.mkdir()
        place.chmod(0o755)
        with open(archive, "rb") as file:
            unpack(file.read, place)
        writer.owners = True
        content = Source((RootOverlay("/", (str(place),)),))
        writer.put(content.select(".", Ignore(())), target)

    def _far(
        self,
        root: Path,
        job: CopyJob,
        url: str,
        place: Path,
        owner: tuple[int, int] | None,
        mode: Mode | None,
    ) -> None:
        """A download, as a file for its owner alone unless --chmod says more; or a repository's tree."""
        fetched = self.site.fetcher.get(url, job.checksum, keep_git=job.keep_git)
        tree = Source((RootOverlay("/", (str(fetched.path.parent),)),), owners=False)
        exclude = Ignore(patterns("\n".join(job.exclude)))
        with _writing(
            root, owner, mode or (None if fetched.path.is_dir() else mode_of("600")), owners=False
        ) as writer:
            items = list(tree.select(fetched.path.name, exclude))
            if job.unpack and is_archive(items[0]):
                self._unpack(writer, str(fetched.path), job.target, place)
                return
            if not fetched.path.is_dir():
                items = [items[0].replace(name=fetched.name)]
            writer.put(items, job.target)


class _writing:
    """A Writer that is closed at the end."""

    def __init__(self, root: Path, owner: tuple[int, int] | None, mode: Mode | None, *, owners: bool) -> None:
        self.writer = Writer(root, owner=owner, mode=mode, owners=owners)

    def __enter__(self) -> Writer:
        return self.writer

    def __exit__(self, *_: object) -> None:
        self.writer.close()


def standing(upper: Path, found: Iterable[Standing]) -> Path:
    """Directories that the tree below has already come out of a layer as they are there."""
    for path, mode, uid, gid in found:
        made = upper / path.lstrip("/")
        if made.is_dir() and not made.is_symlink():
            os.chown(made, uid, gid)
            made.chmod(mode)
    return upper


def is_archive(item: Item) -> bool:
    """Whether ADD unpacks a file: by its content, compressed or not."""
    if item.node is None or item.is_directory:
        return False
    try:
        file = os.open(item.node.places[0], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(file, "rb") as opened:
        start = opened.read(512)
        if start[_TAR_MAGIC : _TAR_MAGIC + 5] == b"ustar":
            return True
        if not any(start.startswith(magic) for magic in MAGIC):
            return False
        opened.seek(0)
        return _holds_archive(opened.read)


def _holds_archive(read: Callable[[int], bytes]) -> bool:
    """Whether the first block behind a compression is an archive's."""
    from composer.images.stream import decompressed

    try:
        start = next(iter(decompressed(read)), b"")
    except ImageError:
        return False
    return start[_TAR_MAGIC : _TAR_MAGIC + 5] == b"ustar"
