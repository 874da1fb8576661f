"""The one netlink codec: requests packed with `struct`, sent in batches, answered before `send` returns.

The kernel works a request off in the context of the sender (netlink(7)), so when sendmsg(2) returns every
answer stands in the receive queue: nothing here waits or polls. Only framing lives here; what the messages
mean is the matter of `links`, `conntrack`, `ports` and `nft`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from composer.errors import ComposerError

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK, _STRICT_CHECK = 270, 1, 10, 11, 12

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
_CAPPED, _EXT_ACK_TLVS, _DUMP_INTERRUPTED = 0x100, 0x200, 0x10
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF

_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")

_CHUNK = 128 * 1024
"""Bytes per sendmsg: well under the default send buffer (net.core.wmem_default, 208 KiB)."""
_BUFFER = 256 * 1024
_BATCH = 20
"""Requests per sendmsg: the answers to all of them, at up to 8 KiB each, fit the default receive buffer."""


class NetlinkError(ComposerError):
    """The kernel refused a request. `errno` as in errno(3); `text` is the kernel's own remark, if any."""

    def __init__(self, number: int, text: str, what: str) -> None:
        remark = f" ({text})" if text else ""
        super().__init__(f"{what}: {os.strerror(number)}{remark}")
        self.errno = number
        self.text = text


class Message(NamedTuple):
    """One request. `what` names it in errors, for people: "adding bridge ct-12ab"."""

    type: int
    flags: int
    body: bytes
    what: str


class Answer(NamedTuple):
    """One message from the kernel; `body` starts behind the netlink header."""

    type: int
    sequence: int
    body: memoryview


def attribute(kind: int, value: bytes) -> bytes:
    """A padded attribute. `value` is at most 65531 bytes."""
    size = len(value)
    return _ATTRIBUTE.pack(size + 4, kind) + value + bytes(-size & 3)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u32(kind: int, value: int) -> bytes:
    """In the host's byte order, as rtnetlink has it."""
    return attribute(kind, _U32.pack(value))


def be16(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(2, "big"))


def be32(kind: int, value: int) -> bytes:
    """In network byte order, as nfnetlink has it."""
    return attribute(kind, value.to_bytes(4, "big"))


def be64(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(8, "big"))


def string(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(data: memoryview | bytes) -> Iterator[tuple[int, memoryview]]:
    """(kind without flag bits, value) of each attribute in `data`; stops at the first that is cut off."""
    view, start = memoryview(data), 0
    while start + 4 <= len(view):
        size, kind = _ATTRIBUTE.unpack_from(view, start)
        if size < 4 or start + size > len(view):
            return
        yield kind & _TYPE_MASK, view[start + 4 : start + size]
        start += (size + 3) & ~3


def text(value: memoryview | bytes) -> str:
    """A NUL-terminated string."""
    return bytes(value).split(b"\0", 1)[0].decode(errors="replace")


class Netlink:
    """A netlink socket; it belongs to the network namespace that it was opened in.

    Wrap a descriptor that was opened inside a container's namespace to act there without entering it.
    Synchronous; one user at a time.
    """

    def __init__(self, descriptor: int | None = None, *, protocol: int = NETLINK_ROUTE) -> None:
        if descriptor is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        else:
            self._socket = socket.socket(fileno=descriptor)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def join(self, group: int) -> None:
        """Be told of what happens in a multicast group; for a socket that is used for nothing else."""
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def drain(self) -> None:
        """Throw away what was told, also that more was told than there is room for (ENOBUFS)."""
        while True:
            try:
                self._socket.recv(_BUFFER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def request(self, messages: Iterable[Message], *, forgive: Sequence[int] = ()) -> list[Answer]:
        """Do all `messages` in order, each on its own: one that fails does not stop those after it.

        Returns what the kernel answered (to RTM_GET* requests). Raises NetlinkError for the first failure
        whose errno is not in `forgive`, further ones as notes.
        """
        answers: list[Answer] = []
        failures: list[NetlinkError] = []
        for chunk in _chunks(messages):
            self._exchange(chunk, answers, failures, forgive)
        _raise(failures)
        return answers

    def transaction(self, messages: Sequence[Message], *, forgive: Sequence[int] = ()) -> None:
        """Do all or nothing: an nfnetlink batch for nf_tables (the subsystem with number 10).

        Raises NetlinkError as `request` does, or ENOBUFS when the batch is larger than a socket takes.
        """
        body = struct.pack("=BBH", 0, 0, socket.htons(10))
        batch = [Message(16, REQUEST, body, "beginning"), *messages, Message(17, REQUEST, body, "committing")]
        size = sum(len(message.body) + 16 for message in batch)
        if size > _CHUNK:
            # SO_SNDBUFFORCE: a batch must be one datagram, and a stack may publish thousands of ports.
            self._socket.setsockopt(socket.SOL_SOCKET, 32, 2 * size)
        failures: list[NetlinkError] = []
        self._exchange(batch, [], failures, forgive, acknowledged=len(batch) - 2)
        _raise(failures)

    def dump(self, kind: int, body: bytes, what: str) -> list[Answer]:
        """Everything the kernel lists for this request; asked again when the list changed meanwhile."""
        while True:
            self._send([Message(kind, DUMP, body, what)], 0)
            answers: list[Answer] = []
            while (done := self._part(answers, what)) is None:
                pass
            if done:
                return answers

    def _part(self, answers: list[Answer], what: str) -> bool | None:
        """One recvmsg of a dump: None when more comes, then whether the dump is consistent."""
        for answer, flags in _split(self._socket.recv(_BUFFER)):
            if answer.type in (_ERROR, _DONE):
                code = _code(answer.body)
                if code:
                    raise NetlinkError(code, _remark(answer.body, flags), what)
                return not flags & _DUMP_INTERRUPTED
            answers.append(answer)
        return None

    def _exchange(
        self,
        chunk: Sequence[Message],
        answers: list[Answer],
        failures: list[NetlinkError],
        forgive: Sequence[int],
        acknowledged: int = -1,
    ) -> None:
        """Send `chunk` and read every answer. Only one message asks for an acknowledgement: silence is
        success.
        """
        if not chunk:
            return
        first = self._send(chunk, acknowledged % len(chunk))
        heard = False
        while True:
            try:
                data = self._socket.recv(_BUFFER, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            for answer, flags in _split(data):
                if answer.sequence < first:
                    continue  # left over from an exchange that a signal cut short
                heard = True
                if answer.type != _ERROR:
                    answers.append(answer)
                elif code := _code(answer.body):
                    what = chunk[min(answer.sequence - first, len(chunk) - 1)].what
                    if code not in forgive:
                        failures.append(NetlinkError(code, _remark(answer.body, flags), what))
        if not heard:
            raise NetlinkError(errno.EPROTO, "no answer", chunk[0].what)

    def _send(self, messages: Sequence[Message], acknowledged: int) -> int:
        first = self._sequence + 1
        parts: list[bytes] = []
        for place, (kind, flags, body, _) in enumerate(messages):
            flags |= REQUEST | (ACK if place == acknowledged and flags & DUMP != DUMP else 0)
            parts += (
                _HEADER.pack(len(body) + 16, kind, flags, first + place, 0),
                body,
                bytes(-len(body) & 3),
            )
        self._sequence += len(messages)
        self._socket.sendto(b"".join(parts), (0, 0))
        return first


def _chunks(messages: Iterable[Message]) -> Iterator[list[Message]]:
    chunk: list[Message] = []
    size = 0
    for message in messages:
        if chunk and (size > _CHUNK or len(chunk) == _BATCH):
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += len(message.body) + 16
    yield chunk


def _split(data: bytes) -> Iterator[tuple[Answer, int]]:
    view, start = memoryview(data), 0
    while start + 16 <= len(view):
        size, kind, flags, sequence, _ = _HEADER.unpack_from(view, start)
        if size < 16 or start + size > len(view):
            raise NetlinkError(errno.EBADMSG, "cut-off answer", "reading from netlink")
        yield Answer(kind, sequence, view[start + 16 : start + size]), flags
        start += (size + 3) & ~3


def _code(body: memoryview) -> int:
    """The errno in an NLMSG_ERROR or NLMSG_DONE; 0 is success."""
    return -int(_I32.unpack_from(body)[0]) if len(body) >= 4 else 0


def _remark(body: memoryview, flags: int) -> str:
    """The extended acknowledgement's text (NLMSGERR_ATTR_MSG)."""
    if not flags & _EXT_ACK_TLVS:
        return ""
    behind = 4 + 16
    if not flags & _CAPPED:
        behind = 4 + _U32.unpack_from(body, 4)[0]
    return next((text(value) for kind, value in attributes(body[behind:]) if kind == 1), "")


def _raise(failures: list[NetlinkError]) -> None:
    if failures:
        for other in failures[1:]:
            failures[0].add_note(other.message)
        raise failures[0]
