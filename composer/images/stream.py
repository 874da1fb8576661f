"""Bytes on their way: decompression by what the bytes say, hashing, reading ahead in a thread."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from composer.errors import ImageError

CHUNK = (
    1024 * 1024
)  # bytes; of this order the C code below lets go of Python's lock and the cost per chunk is nil
MAX_WINDOW_LOG = 27  # zstd may ask for 128 MiB of memory, which is what its own tool allows

Read = Callable[[int], bytes]


class _Gzip:
    """zlib's decompressor with the interface that those of bz2, lzma and zstd share."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    def decompress(self, data: bytes, limit: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, limit)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _zstd() -> Any:
    from backports.zstd import DecompressionParameter, ZstdDecompressor

    return ZstdDecompressor(options={DecompressionParameter.window_log_max: MAX_WINDOW_LOG})


def _bzip2() -> Any:
    from bz2 import BZ2Decompressor

    return BZ2Decompressor()


def _xz() -> Any:
    from lzma import LZMADecompressor

    return LZMADecompressor(memlimit=256 * 1024 * 1024)


MAGIC: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": _Gzip,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": _bzip2,
    b"\xfd7zXZ\x00": _xz,
    **{bytes((0x50 + number, 0x2A, 0x4D, 0x18)): _zstd for number in range(16)},  # zstd's skippable frames
}


def decompressed(read: Read) -> Iterator[bytes]:
    """Chunks of the plain bytes behind `read`, whichever way they are compressed.

    Raises ImageError when damaged.

    Several members or frames in a row are one stream, as for gzip(1) and zstd(1).
    """
    data = b""
    while len(data) < 6 and (more := read(CHUNK)):
        data += more
    if not _maker(data):
        while data:
            yield data
            data = read(CHUNK)
        return
    while make := _maker(data):
        inner = make()
        while not inner.eof:
            try:
                plain = inner.decompress(data, CHUNK)
            except Exception as error:  # each library has its own kinds, and all mean this
                raise ImageError(f"the compressed data is damaged: {error}") from error
            if plain:
                yield plain
            data = b""
            if not inner.eof and inner.needs_input and not (data := read(CHUNK)):
                raise ImageError("the compressed data ends too early")
        data = inner.unused_data
        while len(data) < 6 and (more := read(CHUNK)):
            data += more
    while data:
        if data.strip(b"\0"):
            raise ImageError("the compressed data is followed by something else")
        data = read(CHUNK)


def _maker(data: bytes) -> Callable[[], Any] | None:
    for magic, make in MAGIC.items():
        if data.startswith(magic):
            return make
    return None


class Ahead:
    """Runs an iterator of chunks in a thread, at most `depth` chunks ahead of whoever takes them.

    Leave the block and the thread ends; an exception of the iterator is raised where the chunks are taken.
    An iterator that may wait for others needs `abandon`, which makes it give up.
    """

    def __init__(
        self, chunks: Iterator[bytes], *, depth: int = 8, abandon: Callable[[], None] | None = None
    ) -> None:
        self._chunks, self._depth, self._abandon = chunks, depth, abandon
        self._ready: deque[bytes] = deque()
        self._change = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._stopped = True
            ended = self._ended
            self._change.notify_all()
        if not ended and self._abandon is not None:
            self._abandon()
        self._thread.join()

    def _run(self) -> None:
        try:
            for chunk in self._chunks:
                with self._change:
                    while len(self._ready) >= self._depth and not self._stopped:
                        self._change.wait()
                    if self._stopped:
                        return
                    self._ready.append(chunk)
                    self._change.notify_all()
        except BaseException as error:  # handed over, whatever it is
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def take(self) -> bytes:
        """The next chunk; b"" after the last."""
        with self._change:
            while not self._ready and not self._ended:
                self._change.wait()
            if self._ready:
                chunk = self._ready.popleft()
                self._change.notify_all()
                return chunk
        if self._error is not None:
            raise self._error
        return b""
