"""Pull and push: several layers at once, each unpacked while it comes.

A layer's download appends to its partial file; its unpacking reads the same file behind it. So a connection
that breaks is resumed without the unpacker noticing, and a slow disk never holds the network up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from composer.errors import ImageError, NotFoundError, RegistryError
from composer.images import config as formats
from composer.images.auth import Credentials, Keyring
from composer.images.config import Platform
from composer.images.image import Image, Progress
from composer.images.layout import Partial, digest_of
from composer.images.reference import Reference
from composer.images.registries import Endpoint, Registries, read
from composer.images.registry import TRIES, Registry, passes, wrong_size
from composer.images.store import check_portable
from composer.offline import refuse

if TYPE_CHECKING:
    from composer.images.documents import Descriptor, ImageConfig, Manifest
    from composer.images.store import Report, Store

AT_ONCE = 4  # layers in flight

T = TypeVar("T")


async def pull(store: Store, reference: Reference, platform: Platform, report: Report) -> Image:
    """See Store.pull. Cancelling it stops the threads at their next piece;

    what came is kept for the next time.
    """
    refuse(f"image {reference} is not pulled")
    stop = threading.Event()
    try:
        return await anyio.to_thread.run_sync(
            _pull, store, reference, platform, report, stop, abandon_on_cancel=True
        )
    finally:
        stop.set()


async def push(store: Store, reference: Reference, report: Report) -> str:
    """See Store.push."""
    refuse(f"image {reference} is not pushed")
    stop = threading.Event()
    try:
        return await anyio.to_thread.run_sync(_push, store, reference, report, stop, abandon_on_cancel=True)
    finally:
        stop.set()


async def digest(reference: Reference) -> str:
    """See Store.digest."""
    refuse(f"the registry of {reference} is not asked")
    return await anyio.to_thread.run_sync(_digest, reference)


async def login(registry: str, username: str, password: str) -> str:
    """Try credentials at a registry and keep them; says where. Raises RegistryError."""
    who = Credentials(username, password)

    def attempt() -> str:
        settings = read(os.environ)
        endpoint = settings.endpoints(Reference(registry, ""))[-1]
        with Registry(endpoint.replace(repository=""), settings, who) as server:
            server.ping()
        return Keyring(os.environ).put(registry, who)

    return await anyio.to_thread.run_sync(attempt)


def _pull(
    store: Store, reference: Reference, platform: Platform, report: Report, stop: threading.Event
) -> Image:
    def take(registry: Registry) -> Image:
        with store.layout.adding():
            return _Pull(store, registry, report, stop).run(reference, platform)

    return _from_any(reference, stop, take)


def peek(store: Store, reference: Reference, platform: Platform) -> tuple[Manifest, ImageConfig]:
    """What a registry says of an image, without its layers. Raises RegistryError, ImageError."""
    refuse(f"the registry of {reference} is not asked")

    def ask(registry: Registry) -> tuple[Manifest, ImageConfig]:
        pull = _Pull(store, registry, lambda _: None, threading.Event())
        with store.layout.adding():
            _, manifest, _ = pull.manifest(reference, platform)
            return manifest, pull.config(manifest)

    return _from_any(reference, threading.Event(), ask)


def fetch(store: Store, reference: Reference, blob: Descriptor) -> None:
    """Have one blob of a repository in the store; call it while `adding`. Raises ImageError."""
    stop = threading.Event()
    _from_any(reference, stop, lambda registry: _Pull(store, registry, lambda _: None, stop).blob(blob))


def _digest(reference: Reference) -> str:
    def ask(registry: Registry) -> str:
        return registry.digest(reference.wanted) or digest_of(registry.manifest(reference.wanted)[0])

    return _from_any(reference, threading.Event(), ask)


def _from_any(reference: Reference, stop: threading.Event, use: Callable[[Registry], T]) -> T:
    """What `use` makes of the first server for `reference` that does not fail: mirrors, then the registry."""
    settings = read(os.environ)
    failures: list[RegistryError] = []
    for endpoint in settings.endpoints(reference):
        try:
            with _open(endpoint, reference, settings, stop) as registry:
                return use(registry)
        except RegistryError as error:
            failures.append(error)
            if stop.is_set():
                break
    for mirror in failures[:-1]:
        failures[-1].add_note(f"before that, a mirror failed: {mirror.message}")
    raise failures[-1]


def _open(endpoint: Endpoint, reference: Reference, settings: Registries, stop: threading.Event) -> Registry:
    known_as = endpoint.host if endpoint.mirror else reference.registry
    return Registry(endpoint, settings, Keyring(os.environ).get(known_as), stop)


class _Pull:
    def __init__(self, store: Store, registry: Registry, report: Report, stop: threading.Event) -> None:
        self._store, self._registry = store, registry
        self._report, self._stop = report, stop

    def run(self, reference: Reference, platform: Platform) -> Image:
        if (current := self._current(reference, platform)) is not None:
            return current
        data, manifest, source = self.manifest(reference, platform)
        self._layers(manifest, self.config(manifest)["rootfs"]["diff_ids"])
        descriptor = self._store.layout.write(data, manifest["mediaType"])
        name = reference if reference.digest is None else None
        return self._store.add(descriptor, name, source=f"{reference.name}@{source}", report=self._report)

    def manifest(self, reference: Reference, platform: Platform) -> tuple[bytes, Manifest, str]:
        """The manifest for a platform, and the digest of what the registry has under the name."""
        data, kind = self._registry.manifest(reference.wanted)
        source = self._verified(data, reference.digest)
        if formats.parse_document(data, kind)["mediaType"] in formats.INDEXES:
            chosen = formats.choose(formats.parse_index(data, kind), platform)
            data, kind = self._registry.manifest(chosen["digest"])
            self._verified(data, chosen["digest"])
            if len(data) != chosen["size"]:
                raise RegistryError(f"a manifest of {reference.familiar} has not the announced size")
        return data, formats.parse_manifest(data, kind), source

    def _current(self, reference: Reference, platform: Platform) -> Image | None:
        """The image that is here, if the registry still means it by this tag."""
        entry = self._store.entry(str(reference), str(platform))
        if entry is None or formats.platform_of(entry.get("platform", {})) != platform:
            return None
        wanted = reference.digest or self._registry.digest(reference.wanted)
        if entry["annotations"].get("composer.source") != f"{reference.name}@{wanted}":
            return None
        return self._store.renew(entry)

    def _verified(self, data: bytes, digest: str | None) -> str:
        """The digest of a manifest; RegistryError when it is not the wanted one."""
        import hashlib

        if digest is None:
            return digest_of(data)
        algorithm = digest.partition(":")[0]
        if f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}" != digest:
            raise RegistryError(f"{self._registry.endpoint.host} sends another manifest than {digest}")
        return digest

    def config(self, manifest: Manifest) -> ImageConfig:
        descriptor = manifest["config"]
        if descriptor["size"] > formats.MAX_DOCUMENT:
            raise ImageError(f"the image configuration is said to have {descriptor['size']} bytes")
        self.blob(descriptor)
        config = formats.parse_config(self._store.layout.read(descriptor["digest"]))
        if len(config["rootfs"]["diff_ids"]) != len(manifest["layers"]):
            raise ImageError("the image's configuration and manifest differ in the number of layers")
        return config

    def blob(self, blob: Descriptor) -> None:
        """Have a blob in the store."""
        with self._store.layout.partial(blob["digest"]) as partial:
            if partial is not None:
                self._download(blob, partial, lambda _: None)

    def _layers(self, manifest: Manifest, diff_ids: list[str]) -> None:
        work = dict(zip((layer["digest"] for layer in manifest["layers"]), diff_ids, strict=True))
        layers = {layer["digest"]: layer for layer in manifest["layers"]}
        self._make_room(list(layers.values()))
        for digest, layer in layers.items():
            self._report(Progress(digest, "waiting", 0, layer["size"]))
        with ThreadPoolExecutor(AT_ONCE, "composer-layer") as pool:
            _all(
                [pool.submit(self._layer, layers[digest], diff_id) for digest, diff_id in work.items()],
                self._stop,
            )

    def _make_room(self, layers: list[Descriptor]) -> None:
        needed = sum(layer["size"] for layer in layers if not self._store.layout.has(layer["digest"]))
        status = os.statvfs(self._store.layout.root)
        if needed > status.f_bavail * status.f_frsize:
            raise ImageError(
                f"the image needs {needed >> 20} MiB and the disk has less",
                hint="`composer image prune` frees space",
            )

    def _layer(self, layer: Descriptor, diff_id: str) -> None:
        if self._stop.is_set():
            raise RegistryError("stopped")
        digest, size = layer["digest"], layer["size"]
        with self._store.layout.partial(digest) as partial:
            if partial is not None:
                self._both(layer, diff_id, partial)
        if not self._store.unpacked.has(diff_id):
            self._store.unpack(layer, diff_id, self._report)
        self._report(Progress(digest, "done", size, size))

    def _both(self, layer: Descriptor, diff_id: str, partial: Partial) -> None:
        """Download in a thread of its own, unpack in this one."""
        growing = _Growing(partial.descriptor, self._stop)

        def grew(seen: int) -> None:
            growing.grew(seen)
            self._report(Progress(layer["digest"], "downloading", seen, layer["size"]))

        def run() -> None:
            try:
                self._download(layer, partial, grew)
            except BaseException as error:  # raised in the reader's thread
                growing.end(error)
            else:
                growing.end(None)

        thread = threading.Thread(target=run, name="composer-download")
        thread.start()
        try:
            self._store.unpacked.ensure(diff_id, lambda: growing.opened())
        except BaseException:
            growing.abandon()
            raise
        finally:
            thread.join()
        growing.check()

    def _download(self, blob: Descriptor, partial: Partial, grew: Callable[[int], None]) -> None:
        """Fetch what is missing of a blob, as often as it takes while bytes still come."""
        digest, size = blob["digest"], blob["size"]
        failures = 0
        if partial.seen > size:
            partial.restart()  # an earlier writer was sent too much
        while partial.seen < size or size == 0:
            before = partial.seen
            try:
                self._some(digest, size, partial, grew)
                break
            except RegistryError as error:
                failures = 0 if partial.seen > before else failures + 1
                again = error.status is None or passes(error)
                if not again or failures >= TRIES or self._stop.is_set() or partial.seen > size:
                    raise
                self._registry.pause(failures + 1, error.retry_after or 0)
        partial.finish(size)
        grew(size)

    def _some(self, digest: str, size: int, partial: Partial, grew: Callable[[int], None]) -> None:
        with self._registry.blob(digest, partial.seen) as (start, pieces):
            if start != partial.seen:
                partial.restart()
            for piece in pieces:
                partial.write(piece)
                if partial.seen > size:
                    raise wrong_size(digest, self._registry.endpoint.host)
                if self._stop.is_set():
                    raise RegistryError("stopped")
                grew(partial.seen)
        if partial.seen < size:
            raise RegistryError(f"{self._registry.endpoint.host} ended the transfer early")


class _Growing:
    """Reads a file behind the one who writes it."""

    def __init__(self, descriptor: int, stop: threading.Event) -> None:
        self._descriptor, self._stop = descriptor, stop
        self._change = threading.Condition()
        self._there = self._at = 0
        self._ended = False
        self._error: BaseException | None = None

    def grew(self, there: int) -> None:
        with self._change:
            self._there = there
            self._change.notify()

    def end(self, error: BaseException | None) -> None:
        with self._change:
            self._ended, self._error = True, error
            self._change.notify()

    def abandon(self) -> None:
        """The content is wrong: nothing more of this image is worth its time."""
        self._stop.set()
        self.end(RegistryError("stopped"))

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def read(self, count: int) -> bytes:
        with self._change:
            while self._at >= self._there and not self._ended:
                self._change.wait()
            self.check()
            there = self._there
        data = os.pread(self._descriptor, min(count, max(0, there - self._at)), self._at)
        self._at += len(data)
        return data

    @contextmanager
    def opened(self) -> Iterator[_Growing]:
        yield self


def _all(futures: list[Future[None]], stop: threading.Event) -> None:
    """Wait for all; the first failure stops the rest and is raised."""
    first: BaseException | None = None
    for future in futures:
        try:
            future.result()
        except BaseException as error:  # not swallowed: raised below
            if first is None or (isinstance(first, RegistryError) and first.message == "stopped"):
                first = error
            stop.set()
    if first is not None:
        raise first


def _push(store: Store, reference: Reference, report: Report, stop: threading.Event) -> str:
    entry = store.entry(str(reference))
    if entry is None:
        raise NotFoundError(f"there is no image {reference.familiar!r}")
    check_portable(entry, reference.familiar)
    source = entry["annotations"].get("composer.source", "").partition("@")[0]
    registry_name, _, repository = source.partition("/")
    mount = repository if registry_name == reference.registry and repository != reference.repository else None
    data = store.layout.read(entry["digest"])
    return publish(store, reference, data, store.manifest(entry), mount=mount, report=report, stop=stop)


def publish(
    store: Store,
    reference: Reference,
    data: bytes,
    manifest: Manifest,
    *,
    mount: str | None = None,
    report: Report = lambda _: None,
    stop: threading.Event | None = None,
) -> str:
    """Send a manifest, `data`, and the blobs that it names; its digest. Raises RegistryError.

    `mount`: a repository of the same registry that may have them already.
    """
    stop = stop or threading.Event()
    settings = read(os.environ)
    endpoint = settings.endpoints(reference)[-1]
    blobs = {blob["digest"]: blob for blob in (*manifest["layers"], manifest["config"])}
    with _open(endpoint, reference, settings, stop) as registry:

        def send(blob: Descriptor) -> None:
            digest, size = blob["digest"], blob["size"]
            if registry.has(digest):
                report(Progress(digest, "exists", size, size))
                return
            descriptor = os.open(store.layout.path(digest), os.O_RDONLY | os.O_CLOEXEC)
            try:
                registry.upload(
                    blob,
                    lambda offset, count: os.pread(descriptor, count, offset),
                    mount,
                    lambda done: report(Progress(digest, "uploading", done, size)),
                )
            finally:
                os.close(descriptor)
            report(Progress(digest, "done", size, size))

        with ThreadPoolExecutor(AT_ONCE, "composer-push") as pool:
            _all([pool.submit(send, blob) for blob in blobs.values()], stop)
        return registry.put_manifest(reference.wanted, data, manifest["mediaType"])
