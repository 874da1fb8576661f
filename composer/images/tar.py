"""Reading tar: v7, ustar, pax and GNU, as strangers write it. Pure: bytes in, members out.

POSIX.1-2001 pax, GNU tar's manual ("Basic Tar Format"), and for sparse files its appendix. Names are bytes,
as the kernel has them. Every length that the stream announces is bounded before it is believed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from composer.errors import ImageError

BLOCK = 512
MAX_EXTENSION = 1024 * 1024  # bytes of one pax header or GNU long name
MAX_PATH = 4095  # bytes; PATH_MAX without its final zero
MAX_SPARSE = 65536  # pieces of one sparse file
MAX_SIZE = 1 << 44  # bytes of one file: what ext4 can hold
_NO_CLOCK = 10**11  # seconds from the epoch: times beyond are the epoch

REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"
_KINDS = {0: REGULAR, ord("7"): REGULAR, ord("S"): REGULAR, **{kind: kind for kind in b"0123456"}}
_ZERO = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."


class Member(NamedTuple):
    """One entry. `stored` bytes follow in the stream; `pieces` says where they go when the file has holes."""

    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    mtime: int  # nanoseconds
    size: int
    stored: int
    link: bytes
    device: tuple[int, int]
    xattrs: dict[bytes, bytes]
    pieces: tuple[tuple[int, int], ...] | None


class Stream:
    """Takes exact amounts from chunks of any size. `take` gives the next chunk, b"" at the end."""

    def __init__(self, take: Callable[[], bytes]) -> None:
        self._take = take
        self._chunk = b""
        self._at = 0
        self.position = 0

    def block(self) -> bytes:
        """The next 512 bytes; b"" at the end. Raises ImageError when only a part is there."""
        at = self._at
        block = self._chunk[at : at + BLOCK]
        if len(block) == BLOCK:
            self._at = at + BLOCK
            self.position += BLOCK
            return block
        return self.exactly(BLOCK) if block or self._refill() else b""

    def exactly(self, count: int) -> bytes:
        return b"".join(self.pieces(count))

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes as they come. Raises ImageError when the stream ends before."""
        while count:
            if self._at == len(self._chunk) and not self._refill():
                raise ImageError("the archive ends in the middle of an entry")
            view = memoryview(self._chunk)[self._at : self._at + count]
            self._at += len(view)
            self.position += len(view)
            count -= len(view)
            yield view

    def whole(self, count: int) -> memoryview | None:
        """The next `count` bytes in one piece, if they are here already: of small files nearly always."""
        end = self._at + count
        if end > len(self._chunk):
            return None
        view = memoryview(self._chunk)[self._at : end]
        self._at = end
        self.position += count
        return view

    def skip(self, count: int) -> None:
        if self._at + count <= len(self._chunk):  # nearly always: what pads an entry
            self._at += count
            self.position += count
            return
        for _ in self.pieces(count):
            pass

    def drain(self) -> None:
        """Read to the end, so that what follows the archive is hashed too."""
        while self._refill():
            pass

    def _refill(self) -> bool:
        self._chunk, self._at = self._take(), 0
        return bool(self._chunk)


def members(stream: Stream) -> Iterator[Member]:
    """The entries in order. What the caller leaves of an entry's bytes is skipped. Raises ImageError."""
    pax: dict[bytes, bytes] = {}
    sparse: list[tuple[int, int]] = []
    name = link = b""
    while block := stream.block():
        if block == _ZERO:
            return
        _verify(block)
        kind, size = block[156], number(block[124:136])
        if size < 0 or size > MAX_SIZE:
            raise ImageError(f"an entry of the archive claims {size} bytes")
        if kind in b"xgLK":
            extension = _extension(stream, size)
            if kind == ord("x"):
                pax, sparse = _pax(extension)
            elif kind == ord("L"):
                name = extension.split(b"\0", 1)[0]
            elif kind == ord("K"):
                link = extension.split(b"\0", 1)[0]
            continue  # a global header ("g") only holds comments in the archives of images
        member = _member(block, size, pax, name, link)
        end = stream.position + _padded(member.stored)
        if kind == ord("S"):
            pieces, real = _gnu_sparse(stream, block)
            end = stream.position + _padded(member.stored)
            member = member._replace(size=real, pieces=pieces)
        elif sparse or b"GNU.sparse.major" in pax or b"GNU.sparse.map" in pax:
            member = _pax_sparse(stream, member, pax, sparse)
        if member.pieces is not None:
            _check_pieces(member)
        yield member
        stream.skip(end - stream.position)
        pax, sparse, name, link = {}, [], b"", b""
    if pax or name or link:
        raise ImageError("the archive ends in the middle of an entry")


_ADLER = 65521  # RFC 1950


@lru_cache(4096)
def _mode_and_owner(fields: bytes) -> tuple[int, int, int]:
    return number(fields[:8]) & 0o7777, number(fields[8:16]), number(fields[16:24])


@lru_cache(4096)  # modes, owners and times are the same in entry after entry
def number(field: bytes) -> int:
    """A numeric field: octal digits, or with the top bit set a big-endian number (GNU). Raises ImageError."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        return value - (1 << bits) if field[0] & 0x40 else value - (1 << (bits - 1))
    digits = field.split(b"\0", 1)[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise ImageError(f"a number in the archive is damaged: {field!r}") from None


def _verify(block: bytes) -> None:
    """Compare the sum of all bytes, the checksum itself as blanks. Old writers summed signed bytes."""
    field = block[148:156]
    expected = number(field)
    # zlib sums bytes, modulo a prime, thirty times as fast; what differs there is looked at closely.
    if zlib.adler32(block) & 0xFFFF == (1 + expected + sum(field) - 8 * 32) % _ADLER:
        return
    total = sum(block) - sum(field) + 8 * 32
    if total != expected and total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]) != expected:
        raise ImageError("this is not a tar archive, or it is damaged: a header has a wrong checksum")


def _member(block: bytes, size: int, pax: dict[bytes, bytes], name: bytes, link: bytes) -> Member:
    if not name:
        name = block[:100].split(b"\0", 1)[0]
        if block[257:263] == b"ustar\0" and block[345]:
            name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    kind = _KINDS.get(block[156])
    if kind is None:
        raise ImageError(f"the archive has an entry of the unknown type {chr(block[156])!r}: {name!r:.200}")
    mode, uid, gid = _mode_and_owner(block[100:124])
    seconds = number(block[136:148])
    mtime = seconds * 1_000_000_000 if abs(seconds) < _NO_CLOCK else 0
    link = link or block[157:257].split(b"\0", 1)[0]
    xattrs: dict[bytes, bytes] = {}
    if pax:
        name = pax.get(b"GNU.sparse.name") or pax.get(b"path", name)
        link = pax.get(b"linkpath", link)
        uid, gid = _decimal(pax, b"uid", uid), _decimal(pax, b"gid", gid)
        size = _decimal(pax, b"size", size)
        if b"mtime" in pax:
            mtime = _time(pax[b"mtime"])
        xattrs = {key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)}
    if kind == REGULAR and block[156] != ord("S") and name.endswith(b"/"):
        kind = DIRECTORY  # how v7 wrote directories
    if len(name) > MAX_PATH or len(link) > MAX_PATH:
        raise ImageError(f"the archive has a name of more than {MAX_PATH} bytes: {name!r:.200}")
    if not 0 <= uid < 1 << 32 or not 0 <= gid < 1 << 32 or not 0 <= size <= MAX_SIZE:
        raise ImageError(f"an owner or size in the archive is out of range: {name!r:.200}")
    stored = size if kind == REGULAR else 0
    device = (0, 0)
    if kind in (CHARACTER, BLOCK_DEVICE):
        device = (number(block[329:337]), number(block[337:345]))
    return Member(name, kind, mode, uid, gid, mtime, stored, stored, link, device, xattrs, None)


def _extension(stream: Stream, size: int) -> bytes:
    if size > MAX_EXTENSION:
        raise ImageError(f"the archive has an extended header of {size} bytes")
    data = stream.exactly(size)
    stream.skip(_padded(size) - size)
    return data


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _pax(data: bytes) -> tuple[dict[bytes, bytes], list[tuple[int, int]]]:
    """The records `length key=value\\n`, and the sparse map of format 0.0, which repeats its keys."""
    records: dict[bytes, bytes] = {}
    offsets: list[int] = []
    sparse: list[tuple[int, int]] = []
    while data:
        length, blank, _ = data.partition(b" ")
        if not blank or not length.isdigit() or len(length) > 8:
            raise ImageError("an extended header of the archive is damaged")
        record, data = data[len(length) + 1 : int(length)], data[int(length) :]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise ImageError("an extended header of the archive is damaged")
        value = value[:-1]
        if b"\0" in value and not key.startswith(_XATTR):
            raise ImageError(f"a value in the archive holds a zero byte: {key!r:.100}")
        if key == b"GNU.sparse.offset":
            offsets.append(_natural(value))
        elif key == b"GNU.sparse.numbytes" and offsets:
            sparse.append((offsets[-1], _natural(value)))
        else:
            records[key] = value
    return records, sparse


def _decimal(pax: dict[bytes, bytes], key: bytes, otherwise: int) -> int:
    value = pax.get(key)
    return _natural(value) if value else otherwise


def _natural(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ImageError(f"a number in the archive is damaged: {value!r:.100}")
    return int(value)


def _time(value: bytes) -> int:
    """Seconds with any number of decimals as nanoseconds; what no clock shows is the epoch."""
    whole, _, fraction = value.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    whole = whole.lstrip(b"-")
    if (
        len(whole) > len(str(_NO_CLOCK)) - 1
        or not (whole or b"0").isdigit()
        or not (fraction or b"0").isdigit()
    ):
        return 0
    return sign * (int(whole or b"0") * 1_000_000_000 + int((fraction + b"0" * 9)[:9]))


def _gnu_sparse(stream: Stream, block: bytes) -> tuple[tuple[tuple[int, int], ...], int]:
    """The old GNU format: four pieces in the header, twenty-one in each of the blocks that follow."""
    pieces = _pairs(block[386:482])
    real, more = number(block[483:495]), block[482]
    while more:
        extension = stream.exactly(BLOCK)
        pieces += _pairs(extension[:504])
        more = extension[504]
        if len(pieces) > MAX_SPARSE:
            raise ImageError(f"a sparse file in the archive has more than {MAX_SPARSE} pieces")
    return tuple(pieces), real


def _pairs(data: bytes) -> list[tuple[int, int]]:
    entries = (data[at : at + 24] for at in range(0, len(data) - 23, 24))
    return [(number(entry[:12]), number(entry[12:])) for entry in entries if entry[0]]


def _pax_sparse(
    stream: Stream, member: Member, pax: dict[bytes, bytes], sparse: list[tuple[int, int]]
) -> Member:
    """The three pax formats: 0.0 repeats records, 0.1 has one list, 1.0 puts it before the data."""
    real = _decimal(pax, b"GNU.sparse.realsize", _decimal(pax, b"GNU.sparse.size", member.size))
    stored = member.stored
    if b"GNU.sparse.map" in pax:
        numbers = [_natural(text) for text in pax[b"GNU.sparse.map"].split(b",")]
        sparse = list(zip(numbers[::2], numbers[1::2], strict=False))
    elif pax.get(b"GNU.sparse.major") == b"1":
        sparse, used = _leading_map(stream, stored)
        stored -= used
    return member._replace(size=real, stored=stored, pieces=tuple(sparse))


def _leading_map(stream: Stream, stored: int) -> tuple[list[tuple[int, int]], int]:
    """Decimal numbers, one a line, padded to whole blocks:

    how many pieces, then offset and length of each.
    """
    data, wanted, used = b"", 1, 0
    while data.count(b"\n") < wanted:
        used += BLOCK
        if used > stored or used > MAX_EXTENSION * 2:
            raise ImageError("the map of a sparse file in the archive is damaged")
        data += stream.exactly(BLOCK)
        if wanted == 1 and b"\n" in data:
            wanted = 1 + 2 * min(_natural(data.split(b"\n", 1)[0]), MAX_SPARSE)
    numbers = [_natural(text) for text in data.split(b"\n")[1:wanted]]
    return list(zip(numbers[::2], numbers[1::2], strict=True)), used


def _check_pieces(member: Member) -> None:
    """Pieces go upwards, do not overlap, end within the file, and are as long as the stored bytes."""
    end = total = 0
    for offset, length in member.pieces or ():
        if offset < end or offset + length > member.size:
            raise ImageError(f"a sparse file in the archive is damaged: {member.name!r:.200}")
        end, total = offset + length, total + length
    if total != member.stored or member.size > MAX_SIZE:
        raise ImageError(f"a sparse file in the archive is damaged: {member.name!r:.200}")
