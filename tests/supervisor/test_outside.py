"""Probes from the outside, against real listeners in this network namespace."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from composer.model.stack import FrozenMap, Probe
from composer.supervisor.outside import look, status_of

pytestmark = pytest.mark.kernel


@contextmanager
def answering(answer: bytes, asked: list[bytes] | None = None, *, stays: bool = False) -> Iterator[int]:
    """A server that says the same to everybody, and closes, unless it `stays`; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                request = client.recv(4096)
                if asked is not None:
                    asked.append(request)
                client.sendall(answer)
                with suppress(ConnectionError):
                    if stays:
                        client.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def seen(probe: Probe) -> tuple[bool, str]:
    return asyncio.run(look(os.getpid(), probe))


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nfine", True),
        (b"HTTP/1.0 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\nno such page", False),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nthe disk is full", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", False),
        (b"", False),
        (b"x" * 100_000, False),
    ],
)
def test_answers(answer: bytes, well: bool) -> None:
    with answering(answer) as port:
        found, text = seen(Probe("http", port))
    assert found is well
    assert text.startswith(f"http://localhost:{port}/: ")
    if b"disk" in answer:
        assert "the disk is full" in text


def test_the_request_is_as_asked_for() -> None:
    asked: list[bytes] = []
    with answering(b"HTTP/1.1 418 Teapot\r\n\r\n", asked) as port:
        headers = FrozenMap({"X-Token": "abc"})
        probe = Probe("http", port, "/healthz?full=1", "HEAD", "shop.example", headers, ((418, 418),))
        assert seen(probe) == (True, f"http://localhost:{port}/healthz?full=1: 418")
    lines = asked[0].decode().split("\r\n")
    assert lines[0] == "HEAD /healthz?full=1 HTTP/1.1"
    assert {"Host: shop.example", "X-Token: abc", "Connection: close"} <= set(lines)


def test_who_is_well_need_not_close() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", stays=True) as port:
        assert seen(Probe("http", port))[0]


def test_tcp() -> None:
    with answering(b"") as port:
        assert seen(Probe("tcp", port)) == (True, f"tcp://localhost:{port}: connected")
    assert seen(Probe("tcp", port)) == (False, f"tcp://localhost:{port}: Connection refused")


def test_a_process_that_is_gone() -> None:
    assert asyncio.run(look(2**22 + 1, Probe("tcp", 1)))[0] is False


def test_we_are_back_at_home() -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    seen(Probe("tcp", 1))
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.1 200\n", 200),
        (b"HTTP/1.1 200 OK", 0),
        (b"HTTP/2 200\n", 0),
        (b"\n", 0),
    ],
)
def test_status_lines(data: bytes, status: int) -> None:
    assert status_of(data) == status
