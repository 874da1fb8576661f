"""Logs on their way to journald and syslog: real sockets and files, somebody who is away for a while."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from composer.logs.forward import Forwarder
from composer.logs.journal import Journal, field
from composer.logs.syslog import FORMATS, Address, Server, Syslog, framed

STAMP = "2026-01-31T13:00:00.{:09}Z"


def record(number: int, text: str, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"{STAMP.format(number)} {stream} {tag} {text}\n".encode()


def receiver(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.settimeout(10)
    return made


def fields(message: bytes) -> dict[str, bytes]:
    """The native protocol read back."""
    found = {}
    while message:
        line, _, rest = message.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value
        message = rest
    return found


class Kept:
    """A sink that remembers, and can be away."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.away = False
        self.told, self._tell = os.pipe()

    def send(self, record: bytes) -> None:
        if self.away:
            raise OSError(111, "Connection refused")
        self.lines.append(record[40:])
        os.write(self._tell, b".")

    def close(self) -> None:
        pass

    def until(self, count: int) -> list[bytes]:
        while len(self.lines) < count:
            assert select.select([self.told], [], [], 10)[0], self.lines
            os.read(self.told, 1)
        return self.lines


@pytest.fixture
def forward(tmp_path: Path) -> Iterator[Callable[..., Forwarder]]:
    running: list[Forwarder] = []

    def make(sink: Kept, on_trouble: Callable[[str], None] = lambda _: None) -> Forwarder:
        running.append(Forwarder(tmp_path / "web.log", sink, 0, on_trouble))
        return running[-1]

    yield make
    for each in running:
        each.stop()
        each.thread.join(10)


def append(path: Path, *records: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(records))


def test_lines_go_as_they_come_over_rotation(tmp_path: Path, forward: Callable[..., Forwarder]) -> None:
    sink, log = Kept(), tmp_path / "web.log"
    append(log, record(1, "one"), record(2, "tw", tag="P"))
    forward(sink)
    assert sink.until(1) == [b"one"]
    append(log, record(3, "o"))
    sink.until(2)
    log.rename(tmp_path / "web.log.1")
    append(log, record(4, "three"))
    assert sink.until(3) == [b"one", b"two", b"three"]


def test_who_takes_over_goes_on_where_the_other_was(
    tmp_path: Path, forward: Callable[..., Forwarder]
) -> None:
    """Nothing twice and nothing left out, also among lines of one time."""
    log, first, second = tmp_path / "web.log", Kept(), Kept()
    append(log, record(1, "a"), record(1, "b"))
    ended = forward(first)
    first.until(2)
    ended.stop()
    ended.thread.join(10)
    append(log, record(1, "c"), record(2, "d"))
    forward(second)
    assert second.until(2) == [b"c", b"d"]


def test_while_somebody_is_away_lines_wait(tmp_path: Path, forward: Callable[..., Forwarder]) -> None:
    told: list[str] = []
    sink, log = Kept(), tmp_path / "web.log"
    sink.away = True
    reading, writing = os.pipe()

    def trouble(text: str) -> None:
        told.append(text)
        os.write(writing, b".")

    forward(sink, trouble)
    append(log, *(record(number, str(number)) for number in range(1, 1001)))
    assert select.select([reading], [], [], 10)[0]
    sink.away = False
    assert sink.until(1000) == [str(number).encode() for number in range(1, 1001)]
    assert told == ["Connection refused", ""]


def test_the_journal_gets_fields(tmp_path: Path) -> None:
    with receiver(tmp_path / "journal") as server:
        journal = Journal({"CONTAINER_NAME": "s-web-1"}, str(tmp_path / "journal"))
        journal.send(record(1, "hello", "stderr")[:-1])
        found = fields(server.recv(65536))
        assert found["MESSAGE"] == b"hello"
        assert (found["PRIORITY"], found["CONTAINER_NAME"]) == (b"3", b"s-web-1")
        journal.close()


def test_a_long_line_goes_to_the_journal_as_a_sealed_file(tmp_path: Path) -> None:
    with receiver(tmp_path / "journal") as server:
        journal = Journal({}, str(tmp_path / "journal"))
        long = "x" * 900_000
        journal.send(record(1, long)[:-1])
        _, (descriptor, *_), _, _ = socket.recv_fds(server, 16, 1)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            assert fields(file.read())["MESSAGE"] == long.encode()
            with pytest.raises(OSError):
                os.write(descriptor, b"more")
        journal.close()


def test_a_value_with_a_newline_is_told_by_its_length() -> None:
    assert fields(field(b"A", b"one\nA=two")) == {"A": b"one\nA=two"}


def server(address: Address, form: str) -> Server:
    return Server(address, 3, form, "web", 7, "here", {})


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("rfc5424", b"<30>1 2026-01-31T13:00:00Z here web 7 web - hello"),
        ("rfc5424micro", b"<30>1 2026-01-31T13:00:00.000001Z here web 7 web - hello"),
    ],
)
def test_syslog_formats(form: str, expected: bytes) -> None:
    line = record(1000, "hello")[:-1]
    assert FORMATS[form](server(Address("udp", ""), form), line) == expected


def test_rfc3164_is_of_this_place() -> None:
    line = record(0, "hello", "stderr")[:-1]
    made = FORMATS["rfc3164"](server(Address("udp", ""), "rfc3164"), line)
    assert made.startswith((b"<27>Jan 31 ", b"<27>Feb  1 "))
    assert made.endswith(b" here web[7]: hello")
    assert FORMATS[""](server(Address("udp", ""), ""), line).endswith(b":00 web[7]: hello")


def test_syslog_over_everything(tmp_path: Path) -> None:
    line, expected = record(1, "hello")[:-1], b" web 7 web - hello"
    with receiver(tmp_path / "log") as datagrams:
        sink = Syslog(server(Address("unixgram", str(tmp_path / "log")), "rfc5424"))
        sink.send(line)
        assert datagrams.recv(4096).endswith(expected)
        sink.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(10)
        sink = Syslog(server(Address("udp", "127.0.0.1", udp.getsockname()[1]), "rfc5424"))
        sink.send(line)
        assert udp.recv(4096).endswith(expected)
        sink.close()
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        sink = Syslog(server(Address("tcp", "127.0.0.1", tcp.getsockname()[1]), "rfc5424"))
        sink.send(line)
        sink.send(line)
        client, _ = tcp.accept()
        with client, client.makefile("rb") as lines:
            assert [lines.readline().endswith(expected + b"\n") for _ in range(2)] == [True, True]
        sink.close()
    messages = framed(server(Address("tcp+tls", "here"), "rfc5424"), b"one") + framed(
        server(Address("tcp+tls", "here"), "rfc3164"), b"two"
    )
    assert messages == b"3 onetwo\n"
    gone = Syslog(server(Address("unixgram", str(tmp_path / "nobody")), "rfc5424"))
    with pytest.raises(OSError, match="No such file"):
        gone.send(line)
