"""DNS messages as bytes: read questions and upstreams' replies, write answers. Pure: no sockets, no clock.

RFC 1035 (format), RFC 2308 (negative answers), RFC 6891 (EDNS). What is read comes from strangers: every loop
moves forward and ends with the message, compression pointers are stepped over and never followed, and nothing
but `MessageError` is raised.

Answers are made without the two octets of the message id: the same answer then serves everybody who asks the
same question, and whoever sends it puts the asker's id in front.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from random import Random
from socket import AF_INET, AF_INET6, inet_pton
from struct import Struct
from typing import NamedTuple

from composer.errors import ComposerError
from composer.value import Value

A, SOA, PTR, AAAA, OPT, ANY = 1, 6, 12, 28, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE, RCODE = 0x7800, 0x000F
DNSSEC_OK = 0x8000

MAX_QUERY = 4096
"""Octets of the longest query that is read; a longer one is malformed."""
MIN_UDP, MAX_UDP = 512, 4096
"""Octets of a UDP answer: without EDNS, and whatever EDNS asks for."""
MAX_TCP = 65535
MAX_NAME = 255
"""Octets of a name in wire form."""
OWN_UDP_SIZE = 1232
"""Octets we let an upstream send by UDP: what passes any path unfragmented (DNS flag day 2020)."""

_HEADER = Struct("!6H")
_ANSWER_HEADER = Struct("!5H")
_RECORD = Struct("!HHIH")
_TTL = Struct("!I")
_OPT = Struct("!BHHIH")  # name, type, size, rcode and flags, length
_ID_SIZE = 2
_HEADER_SIZE = 12
_TO_QUESTION = b"\xc0\x0c"
_shuffle = Random().shuffle  # its own state, whatever others seed theirs with


class MessageError(ComposerError):
    """Not a message one can work with. `rcode` is what to tell the sender; None: say nothing."""

    def __init__(self, message: str, *, rcode: int | None = FORMERR) -> None:
        super().__init__(message)
        self.rcode = rcode


class Query(Value):
    """One question. `name` is in wire form and lower case, `size` the most octets a UDP answer may have."""

    question: bytes
    name: bytes
    type: int
    flags: int
    size: int = MIN_UDP
    edns: bool = False
    dnssec_ok: bool = False


class _Record(NamedTuple):
    type: int
    klass: int
    ttl: int
    ttl_at: int
    end: int


class Reply(Value):
    """An upstream's reply. `data` ends before its OPT record; `counts` are answer, authority, additional."""

    data: bytes
    question_end: int
    flags: int
    rcode: int
    counts: tuple[int, int, int]
    records: tuple[_Record, ...]


# -- names and records --


def encode_name(name: str) -> bytes:
    """`web.shop_default` in wire form, lower case. A final dot is allowed.

    Raises MessageError for an empty label, one of more than 63 octets, and more than 255 octets in all.
    """
    labels = name.removesuffix(".").encode("utf-8", "surrogateescape").lower().split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        raise MessageError(f"{name!r} is not a DNS name: a label has 1 to 63 octets")
    wire = b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"
    if len(wire) > MAX_NAME:
        raise MessageError(f"{name!r} is not a DNS name: it has more than {MAX_NAME} octets")
    return wire


def decode_name(wire: bytes) -> str:
    """The inverse of `encode_name`, with odd octets escaped as in RFC 4343."""
    labels, at = [], 0
    while wire[at]:
        label = wire[at + 1 : at + 1 + wire[at]]
        plain = (chr(c) if 0x21 <= c < 0x7F and c not in b'".;\\' else f"\\{c:03}" for c in label)
        labels.append("".join(plain))
        at += 1 + wire[at]
    return ".".join(labels) or "."


def reverse_name(address: str) -> bytes:
    """The name below in-addr.arpa or ip6.arpa that stands for an address, in wire form. Raises ValueError."""
    if ":" in address:
        nibbles = _packed(address).hex()
        return encode_name(".".join(reversed(nibbles)) + ".ip6.arpa")
    return encode_name(".".join(str(octet) for octet in reversed(_packed(address))) + ".in-addr.arpa")


def address_record(address: str, ttl: int) -> tuple[int, bytes]:
    """Type and bytes of the A or AAAA record for the name that is asked. Raises ValueError."""
    kind = AAAA if ":" in address else A
    return kind, _record(kind, ttl, _packed(address))


def pointer_record(name: str, ttl: int) -> bytes:
    """The PTR record to `name`, for the name that is asked. Raises MessageError as `encode_name`."""
    return _record(PTR, ttl, encode_name(name))


def _packed(address: str) -> bytes:
    try:
        return inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except OSError:
        raise ValueError(f"{address!r} is not an IP address") from None


def _record(kind: int, ttl: int, data: bytes) -> bytes:
    return _TO_QUESTION + _RECORD.pack(kind, IN, ttl, len(data)) + data


# -- reading --


def parse_query(data: bytes) -> Query:
    """The question of a query: exactly one, class IN, opcode QUERY. Raises MessageError."""
    if len(data) < _HEADER_SIZE or data[2] & 0x80:
        raise MessageError("not a query", rcode=None)
    _, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & OPCODE:
        raise MessageError("an operation other than QUERY", rcode=NOTIMP)
    if (questions, answers, authorities) != (1, 0, 0) or flags & TC or len(data) > MAX_QUERY:
        raise MessageError("not one question")
    name_end = _name_end(data, _HEADER_SIZE, compressed=False)
    end = name_end + 4
    if data[name_end + 2 : end] != b"\0\1":
        raise MessageError("a class other than IN", rcode=REFUSED if end <= len(data) else FORMERR)
    edns = _edns(data, end, additionals)
    return Query(
        question=data[_HEADER_SIZE:end],
        name=data[_HEADER_SIZE:name_end].lower(),  # a label's length is below 64 and so no letter
        type=int.from_bytes(data[name_end : name_end + 2]),
        flags=flags,
        size=edns[0] if edns else MIN_UDP,
        edns=edns is not None,
        dnssec_ok=edns is not None and edns[1],
    )


def parse_reply(data: bytes) -> Reply:
    """A reply, walked through once so that a broken one goes no further. Raises MessageError."""
    if not _HEADER_SIZE <= len(data) <= MAX_TCP or not data[2] & 0x80:
        raise MessageError("not a reply")
    _, flags, questions, *counts = _HEADER.unpack_from(data)
    if questions > 1:
        raise MessageError("more than one question")
    position = question_end = (
        _name_end(data, _HEADER_SIZE, compressed=False) + 4 if questions else _HEADER_SIZE
    )
    if question_end > len(data):
        raise MessageError("the question is cut off")
    rcode = flags & RCODE
    found = [0, 0, 0]
    records = []
    for section in (section for section, count in enumerate(counts) for _ in range(count)):
        record = _record_at(data, position)
        if record.type == OPT:
            # Whatever follows is additional; leaving it out keeps every compression pointer right.
            rcode |= record.ttl >> 24 << 4
            break
        found[section] += 1
        records.append(record)
        position = record.end
    return Reply(data[:position], question_end, flags, rcode, (found[0], found[1], found[2]), tuple(records))


def lifetime(reply: Reply) -> int:
    """Seconds a reply may be kept: the least TTL; a negative one, what its SOA record says (RFC 2308, 5)."""
    if reply.rcode not in (NOERROR, NXDOMAIN) or reply.flags & TC:
        return 0
    answers, authorities, _ = reply.counts
    ttls = [record.ttl for record in reply.records[:answers]]
    if not answers or reply.rcode == NXDOMAIN:
        soas = [r for r in reply.records[answers : answers + authorities] if r.type == SOA]
        minima = [_TTL.unpack_from(reply.data, soa.end - 4)[0] for soa in soas]
        ttls += [soa.ttl for soa in soas] + minima if soas else [0]
    return min(ttls)


def _name_end(data: bytes, start: int, *, compressed: bool) -> int:
    """Where the name at `start` ends. The question's own, the first of a message, has nothing to point to."""
    position = start
    try:
        while length := data[position]:
            if length >= 0xC0 and compressed:
                return position + 2
            position += length + 1
            if length > 63 or position - start >= MAX_NAME:
                raise MessageError("a bad name")
    except IndexError:
        raise MessageError("a name is cut off") from None
    return position + 1


def _record_at(data: bytes, position: int) -> _Record:
    head = _name_end(data, position, compressed=True)
    if head + _RECORD.size > len(data):
        raise MessageError("a record is cut off")
    kind, klass, ttl, size = _RECORD.unpack_from(data, head)
    end = head + _RECORD.size + size
    if end > len(data):
        raise MessageError("a record is cut off")
    return _Record(kind, klass, ttl, head + 4, end)


def _edns(data: bytes, position: int, additionals: int) -> tuple[int, bool] | None:
    """The most octets of an answer and the DO bit, if the query speaks EDNS (RFC 6891, section 6.1)."""
    found = None
    for _ in range(additionals):
        record = _record_at(data, position)
        if record.type == OPT:
            if found or data[position]:
                raise MessageError("a bad OPT record")
            if record.ttl >> 16 & 0xFF:
                raise MessageError("an EDNS version other than 0", rcode=BADVERS)
            found = min(max(record.klass, MIN_UDP), MAX_UDP), bool(record.ttl & DNSSEC_OK)
        position = record.end
    if position != len(data):
        raise MessageError("octets after the end")
    return found


# -- writing --


def failure(data: bytes, rcode: int) -> bytes:
    """The answer to a query of which no more than the header may make sense."""
    flags = QR | RA | int.from_bytes(data[2:4]) & (OPCODE | RD) | rcode & RCODE
    extended = rcode > RCODE
    return _ANSWER_HEADER.pack(flags, 0, 0, 0, extended) + (_opt(rcode) if extended else b"")


def answer(
    query: Query, rcode: int, records: bytes = b"", count: int = 0, *, truncated: bool = False
) -> bytes:
    """The answer to `query`: an authoritative one, unless it is a failure."""
    flags = QR | RA | query.flags & (RD | CD) | rcode & RCODE | (TC if truncated else 0)
    if rcode in (NOERROR, NXDOMAIN):
        flags |= AA
    header = _ANSWER_HEADER.pack(flags, 1, count, 0, query.edns)
    return header + query.question + records + (_opt(rcode) if query.edns else b"")


def answers(query: Query, records: Sequence[bytes], limit: int) -> Iterator[bytes]:
    """Endless answers with `records`, all of one length, each answer in another order.

    Every record is first equally often, and the order changes after each round. Where `limit` octets do not
    hold them all, each answer has another part of them and says that it is truncated.
    """
    if len(records) == 1 or not records:
        return repeat(answer(query, NOERROR, b"".join(records), len(records)))
    return _shuffled(query, list(records), limit)


def _shuffled(query: Query, records: list[bytes], limit: int) -> Iterator[bytes]:
    size = len(records[0])
    count = min(len(records), (limit - _ID_SIZE - len(answer(query, NOERROR))) // size)
    truncated = count < len(records)
    whole = answer(query, NOERROR, bytes(count * size), count, truncated=truncated)
    start = _ANSWER_HEADER.size + len(query.question)
    head, tail = whole[:start], whole[start + count * size :]
    while True:
        _shuffle(records)
        ring = b"".join(records) + b"".join(records[: count - 1])
        for place in range(0, len(records) * size, size):
            yield head + ring[place : place + count * size] + tail


def question(query: Query, *, edns: bool) -> bytes:
    """The message, without its id, that puts `query` to an upstream; the asker's EDNS options stay behind."""
    flags = RD | query.flags & (AD | CD)
    header = _ANSWER_HEADER.pack(flags, 1, 0, 0, edns)
    opt = _OPT.pack(0, OPT, OWN_UDP_SIZE, DNSSEC_OK if query.dnssec_ok else 0, 0) if edns else b""
    return header + query.name + query.question[-4:] + opt


def answers_to(reply: Reply, query: Query) -> bool:
    """Whether a reply is to the question of `query`. A server that cannot even read it may leave it out."""
    if reply.question_end == _HEADER_SIZE:
        return not reply.records and reply.rcode != NOERROR
    asked = reply.data[_HEADER_SIZE : reply.question_end]
    return asked[:-4].lower() == query.name and asked[-4:] == query.question[-4:]


def relay(reply: Reply, query: Query, limit: int, age: int = 0) -> bytes:
    """An upstream's reply as answer to `query`: `age` seconds older, as much of it as `limit` octets hold."""
    opt = _opt(reply.rcode) if query.edns else b""
    room = limit - _HEADER_SIZE - len(query.question) - len(opt) + reply.question_end
    kept = [record for record in reply.records if record.end <= room]
    flags = QR | RA | reply.flags & (AA | AD | TC) | query.flags & (RD | CD) | reply.rcode & RCODE
    if len(kept) < sum(reply.counts[:2]):
        flags |= TC
    body = bytearray(reply.data[: kept[-1].end if kept else reply.question_end])
    for record in kept if age else ():
        _TTL.pack_into(body, record.ttl_at, max(record.ttl - age, 0))
    counts = []
    left = len(kept)
    for count in reply.counts:
        counts.append(min(count, left))
        left -= counts[-1]
    header = _ANSWER_HEADER.pack(flags, 1, counts[0], counts[1], counts[2] + query.edns)
    return header + query.question + body[reply.question_end :] + opt


def _opt(rcode: int) -> bytes:
    return _OPT.pack(0, OPT, MAX_UDP, rcode >> 4 << 24, 0)
