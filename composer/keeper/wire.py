"""The keeper's protocol, whole: verbs, events, framing, bounds. Pure but for reading a socket.

A frame is four bytes of length (big endian) and that many bytes of JSON, an object. Descriptors travel by
SCM_RIGHTS with the first byte of their frame, and its `fds` names them in order. Each side's first frame is
`{"keeper": 1}`, the version. Then requests carry a `number`, a `verb` and its fields, and each is answered:

    {"number": 7, "ok": {...}, "fds": [...]}  or  {"number": 7, "error": {"kind": ..., "text": ..., ...}}

`kind` is `request` (malformed), `absent` (no such thing), `state` (not now), `limit`, or `step`, which is the
runtime's, with `step`, `errno` and `path`. A failed create, start or exec leaves nothing behind.

    verb         answers when, with what
    create       the container stands before its program: pid; fds pidfd and its network's sockets.
                 Its fds stdin, stdout, stderr, if any, are used as they are, and nothing is drained.
                 With `runtime`, a program on PATH, that one makes it
    start        its program runs: pid
    exec         its program runs, too: pid; fds tty if it has one (the keeper keeps no copy).
                 Its fds: stdin, stdout, stderr; /dev/null for each that is absent. With `log`, what it prints
                 goes into the container's log instead, and the end of it into its exit, as `said`
    signal       sent, to a container or an exec; `state` if it has ended
    list         containers: [{id, kind, pid, state, container?, exit?}], descriptors: [names],
                 supervisor: {pid, starts}
    stream       fds stdin (a write end), or tty (the master: to write and resize, never to read)
    close_stdin  the keeper's copy of the write end is closed
    forget       an ended container or exec is forgotten, exit and all; one not started is given up
    put          its one fd is kept, under `name`, over the supervisor's death; replaces what was there
    take         fds: a copy of what was put; `<id>/pidfd` and `<id>/<socket>` are a container's own
    drop         what was put is closed
    reopen_log   the log file is opened again by its path
    subscribe    this connection gets the events from now on
    quit         every container has ended (killed if `kill`; else `state` while there is one) and the sockets
                 are gone. The keeper ends as soon as the supervisor has

Events have no `number`. An exec's exit also goes to the connection that asked for it; if that is gone, the
exec is forgotten at once. Exits of containers are kept until `forget`.

    {"event": "exit", "id": ..., "code": 0 or "signal": 9, "time": wall ns, "monotonic": ns}
    {"event": "log", "id": ..., "errno": ..., "text": ..., "lost": bytes}    cannot be written; 0: can
    {"event": "supervisor", "starts": 2}
"""

from __future__ import annotations

import array
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

VERSION = 1
HELLO = {"keeper": VERSION}
MAX_FRAME = 1 << 20
MAX_FDS = 16
MAX_NAME = 256
API_FD = 3
"""Where the supervisor finds the API's listening socket."""

Message = dict[str, Any]

# verb: field: type, or a tuple of it for one that may be absent
VERBS: Mapping[str, Mapping[str, type | tuple[type]]] = {
    "create": {
        "id": str,
        "bundle": str,
        "overlay": (dict,),
        "log": dict,
        "stdin": (bool,),
        "network_sockets": (bool,),
        "runtime": (str,),
    },
    "start": {"id": str},
    "exec": {"id": str, "container": str, "process": dict, "log": (bool,)},
    "signal": {"id": str, "signo": int},
    "list": {},
    "stream": {"id": str},
    "close_stdin": {"id": str},
    "forget": {"id": str},
    "put": {"name": str},
    "take": {"name": str},
    "drop": {"name": str},
    "reopen_log": {"id": str},
    "subscribe": {},
    "quit": {"kill": (bool,)},
}
OVERLAY: Mapping[str, type | tuple[type]] = {"lowers": list, "upper": str, "work": str, "options": (list,)}
LOG: Mapping[str, type | tuple[type]] = {
    "driver": (str,),  # "file" or "none"
    "path": (str,),
    "max_size": (int,),  # bytes, 0: no bound
    "max_file": (int,),  # files in all, the current one included
}


class WireError(Exception):
    """The other side does not speak this protocol, or not this version."""


def complaint(fields: Mapping[str, type | tuple[type]], given: Message) -> str:
    """What is wrong with the fields of a request; empty when nothing is."""
    for name in given.keys() - fields.keys() - {"number", "verb", "fds"}:
        return f"{name} is not known"
    for name, kind in fields.items():
        wanted = kind[0] if isinstance(kind, tuple) else kind
        if name not in given:
            if wanted is kind:
                return f"{name} is missing"
        elif type(given[name]) is not wanted:
            return f"{name} is not {wanted.__name__}"
        elif wanted is str and not 0 < len(given[name]) <= (MAX_NAME if name in ("id", "name") else 4096):
            return f"{name} is empty or too long"
    return ""


def encode(message: Message) -> bytes:
    """A frame. Its descriptors are for the caller to send with it."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_FRAME:
        raise WireError(f"a message of {len(data)} bytes is over the {MAX_FRAME} that fit")
    return struct.pack(">I", len(data)) + data


def rights(fds: list[int] | tuple[int, ...]) -> list[tuple[int, int, array.array[int]]]:
    """The ancillary data that carries `fds`."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


def receive(sock: socket.socket, size: int = 1 << 16) -> tuple[bytes, list[int]]:
    """One recvmsg(2). No bytes: the other side is gone. Raises BlockingIOError as the socket does."""
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(4 * 253), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) // 4 * 4])
    return data, list(fds)


class Decoder:
    """Bytes and descriptors in, messages out, whose `fds` has become {name: descriptor}, theirs to close."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.fds: list[int] = []
        """Descriptors that no message has claimed yet. Whoever gives up on the decoder closes them."""

    def feed(self, data: bytes, fds: list[int]) -> Iterator[Message]:
        """All messages that are complete now. Raises WireError at the first that cannot be one."""
        self._data += data
        self.fds += fds
        while len(self._data) >= 4:
            (length,) = struct.unpack_from(">I", self._data)
            if length > MAX_FRAME:
                raise WireError(f"a frame of {length} bytes")
            if len(self._data) < 4 + length:
                break
            body = bytes(self._data[4 : 4 + length])
            del self._data[: 4 + length]
            yield self._message(body)
        if len(self.fds) > MAX_FDS:
            raise WireError("descriptors without a message")

    def _message(self, body: bytes) -> Message:
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            raise WireError("a frame that is not JSON") from None
        if not isinstance(message, dict):
            raise WireError("a frame that is not an object")
        names = message.get("fds", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise WireError("fds is not a list of names")
        if len(names) > min(len(self.fds), MAX_FDS) or len(set(names)) < len(names):
            raise WireError("names of descriptors that did not come")
        message["fds"] = dict(zip(names, self.fds, strict=False))
        del self.fds[: len(names)]
        return message
