"""The content store: an OCI image layout (image-layout.md) that survives kill -9 at any instant.

K.

Below the root: `oci-layout`, `index.json`, `blobs/<algorithm>/<hex>`, and `partial/<hex>`, what is being
written.

* A blob that is there is whole: it appears by rename, after its bytes were verified and reached the disk. *
A partial file is locked by the one who writes it. Whoever gets the lock next finds the blob there, or goes
on from the bytes that are; so one download is shared by all processes, and a broken one is resumed. * Who
reads a blob verifies it: `open` and `read` raise ImageError rather than give wrong bytes to the end. *
`index.json` is replaced as a whole, by one writer at a time. * Blobs are deleted only under the exclusive
`sweeping` lock; whoever adds some and has not yet named them in the index holds `adding`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.disk import locked, write_atomic
from composer.errors import ImageError
from composer.images.config import MAX_DOCUMENT, OCI_INDEX
from composer.images.reference import is_digest

if TYPE_CHECKING:
    from composer.images.documents import Descriptor

CHUNK = 1024 * 1024


class Verified:
    """A file that is read once from the beginning, and must hold `size` bytes of `digest` (size -1: any).

    The read that finds the end, or one byte too many, raises ImageError when they are wrong.
    """

    def __init__(self, descriptor: int, digest: str, size: int = -1) -> None:
        self._descriptor = descriptor
        self._expected, self._size = digest, size
        self._hash = hashlib.new(digest.partition(":")[0])
        self._seen = 0

    def read(self, count: int = CHUNK) -> bytes:
        data = os.read(self._descriptor, count)
        self._hash.update(data)
        self._seen += len(data)
        if self._seen > self._size >= 0 or (not data and count):
            check(self._expected, self._size, self._hash, self._seen)
        return data

    def abandon(self) -> None:
        """A file never makes its reader wait."""

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Verified:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check(digest: str, size: int, seen: Any, count: int) -> None:
    """Raise ImageError unless `count` bytes that were hashed into `seen` are the announced ones."""
    if size >= 0 and count != size:
        raise ImageError(
            f"{short(digest)} should have {size} bytes and has {count if count < size else 'more'}"
        )
    actual = f"{digest.partition(':')[0]}:{seen.hexdigest()}"
    if actual != digest:
        raise ImageError(f"the content of {short(digest)} has the digest {short(actual)}")


def short(digest: str) -> str:
    """A digest as people compare it: its first twelve digits."""
    return digest.partition(":")[2][:12] or digest


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """The store below `root`, which is made at the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        if not is_digest(digest):
            raise ImageError(f"{digest!r} is not a digest")
        algorithm, _, digits = digest.partition(":")
        return self.root / "blobs" / algorithm / digits

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def size(self, digest: str) -> int:
        return self.path(digest).stat().st_size

    def open(self, digest: str, size: int = -1) -> Verified:
        """A reader of a blob that verifies it. Raises ImageError when it is absent."""
        try:
            descriptor = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ImageError(f"{short(digest)} is not in the store") from None
        return Verified(descriptor, digest, size)

    def read(self, digest: str, limit: int = MAX_DOCUMENT) -> bytes:
        """All bytes of a small blob, verified."""
        with self.open(digest) as reader:
            data = bytearray()
            while chunk := reader.read():
                data += chunk
                if len(data) > limit:
                    raise ImageError(f"{short(digest)} is larger than {limit} bytes")
        return bytes(data)

    def write(self, data: bytes, media_type: str) -> Descriptor:
        """Store a small blob; the same bytes twice are one."""
        digest = digest_of(data)
        if not self.has(digest):
            self._make()
            write_atomic(self.path(digest), data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    @contextmanager
    def partial(self, digest: str) -> Iterator[Partial | None]:
        """The one place where a blob grows, locked for us; None when it is whole. Waits for other writers."""
        self._make()
        path = self.root / "partial" / self.path(digest).name
        while not self.has(digest):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not _is_still(descriptor, path):
                    continue  # its writer finished it, or a sweep took it, while we waited
                yield Partial(self, digest, descriptor, path)
                return
            finally:
                os.close(descriptor)
        yield None

    @contextmanager
    def scratch(self) -> Iterator[Fresh]:
        """A place to write a blob whose digest is known only at its end."""
        self._make()
        path = self.root / "partial" / f"new-{os.getpid()}-{os.urandom(6).hex()}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Fresh(self, descriptor, path)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Every blob in the store."""
        blobs = self.root / "blobs"
        for algorithm in sorted(blobs.iterdir()) if blobs.is_dir() else ():
            for path in algorithm.iterdir():
                if is_digest(f"{algorithm.name}:{path.name}"):
                    yield f"{algorithm.name}:{path.name}"

    def entries(self) -> list[dict[str, Any]]:
        """The manifests that the index names, as they stand there."""
        try:
            data = (self.root / "index.json").read_bytes()
        except FileNotFoundError:
            return []
        try:
            entries = json.loads(data)["manifests"]
        except (ValueError, KeyError, TypeError) as error:
            where = self.root / "index.json"
            raise ImageError(
                f"the index of the image store is damaged: {error}", hint=f"see {where}"
            ) from error
        return list(entries)

    @contextmanager
    def changing(self) -> Iterator[list[dict[str, Any]]]:
        """The entries of the index, to be changed in place; written if the block ends well."""
        self._make()
        with locked(self.root / "index.lock"):
            entries = self.entries()
            yield entries
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
            write_atomic(self.root / "index.json", json.dumps(index, indent=1).encode())

    @contextmanager
    def adding(self) -> Iterator[None]:
        """While blobs are added that no entry of the index leads to yet."""
        self._make()
        with locked(self.root / "sweep.lock", shared=True):
            yield

    @contextmanager
    def sweeping(self, *, wait: bool = True) -> Iterator[bool]:
        """While blobs are deleted.

        Waits for those who add, or without `wait` gives False when there are any.
        """
        self._make()
        descriptor = os.open(self.root / "sweep.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
        try:
            yield held
        finally:
            os.close(descriptor)

    def delete(self, digest: str) -> int:
        """Remove a blob; the bytes that became free. Only while `sweeping`."""
        path = self.path(digest)
        size = path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
        return size

    def sweep_partial(self) -> None:
        """Remove what broken writers left. Only while `sweeping`, when there are no writers."""
        for path in (self.root / "partial").iterdir():
            path.unlink(missing_ok=True)

    def _make(self) -> None:
        if (self.root / "oci-layout").exists():
            return
        self.root.mkdir(parents=True, exist_ok=True)
        # Layers hold set-uid files of strangers: nobody but us may reach them.
        for name in ("blobs/sha256", "blobs/sha384", "blobs/sha512", "partial", "layers", "unfinished"):
            (self.root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.root / "index.lock"):
            if not (self.root / "index.json").exists():
                index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
                write_atomic(self.root / "index.json", json.dumps(index).encode())
            write_atomic(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


class Partial:
    """A blob that grows to a known digest. What `seen` counts is in the file and hashed."""

    def __init__(self, layout: Layout, digest: str, descriptor: int, path: Path) -> None:
        self._layout, self._path = layout, path
        self.digest, self.descriptor = digest, descriptor
        self.restart(keep=True)

    def restart(self, *, keep: bool = False) -> None:
        """Begin anew; with `keep` from what an earlier writer left."""
        self._hash = hashlib.new(self.digest.partition(":")[0])
        self.seen = 0
        if not keep:
            os.ftruncate(self.descriptor, 0)
        while chunk := os.pread(self.descriptor, CHUNK, self.seen):
            self._hash.update(chunk)
            self.seen += len(chunk)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.descriptor, view, self.seen)
            self._hash.update(view[:written])
            self.seen += written
            view = view[written:]

    def finish(self, size: int = -1) -> None:
        """Verify and make it a blob. Wrong bytes are thrown away and raise ImageError."""
        try:
            check(self.digest, size, self._hash, self.seen)
        except ImageError:
            self.restart()
            raise
        os.fsync(self.descriptor)
        self._path.rename(self._layout.path(self.digest))


class Fresh:
    """A blob of yet unknown digest."""

    def __init__(self, layout: Layout, descriptor: int, path: Path) -> None:
        self._layout, self._path = layout, path
        self.descriptor = descriptor
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._hash.update(view)
        self._size += len(view)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def finish(self, media_type: str) -> Descriptor:
        """Make it a blob under the digest of what was written."""
        digest = f"sha256:{self._hash.hexdigest()}"
        if not self._layout.has(digest):
            os.fsync(self.descriptor)
            self._path.rename(self._layout.path(digest))
        return {"mediaType": media_type, "digest": digest, "size": self._size}


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
