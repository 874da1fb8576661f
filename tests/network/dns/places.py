"""Network namespaces for tests, nothing in them but loopback, and a resolver that runs in one of them."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from composer.network.dns.server import Resolver
from composer.network.netlink import NETLINK_NETFILTER, Netlink
from composer.network.nft import resolver
from composer.network.nft.apply import make

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
ADDRESS = ("127.0.0.11", 53)

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def _call(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _make() -> int:
    _call(_libc.unshare(CLONE_NEWNET))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Place:
    """A network namespace. It lives as long as this object, or a socket opened in it."""

    def __init__(self, existing: str | None = None) -> None:
        with ThreadPoolExecutor(1) as thread:
            work = _make if existing is None else partial(os.open, existing, os.O_RDONLY | os.O_CLOEXEC)
            self.fd = thread.submit(work).result()

    def close(self) -> None:
        os.close(self.fd)

    def enter(self) -> None:
        """Move the calling thread here for good."""
        _call(_libc.setns(self.fd, CLONE_NEWNET))

    def run(self, work: Callable[[], T]) -> T:
        with ThreadPoolExecutor(1, initializer=self.enter) as thread:
            return thread.submit(work).result()

    def open(self, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        return self.run(lambda: socket.socket(socket.AF_INET, kind))

    def resolver_sockets(self) -> tuple[socket.socket, socket.socket]:
        """What a container hands up: UDP, bound, and TCP, listening; with the rules that lead there."""
        udp, tcp = self.open(socket.SOCK_DGRAM), self.open(socket.SOCK_STREAM)
        for each in (udp, tcp):
            each.bind((ADDRESS[0], 0))
        tcp.listen()
        with self.run(lambda: Netlink(protocol=NETLINK_NETFILTER)) as rules:
            make(rules, resolver.table(udp.getsockname()[1], tcp.getsockname()[1]))
        return udp, tcp

    def client(self, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        sock = self.open(kind)
        sock.settimeout(10)
        sock.connect(ADDRESS)
        return sock

    def command(self, argv: list[str], resolv_conf: Path) -> subprocess.CompletedProcess[str]:
        """Run a program here, with that resolv.conf."""
        mount = f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"'
        enter = ["nsenter", f"--net=/proc/self/fd/{self.fd}", "unshare", "--mount", "sh", "-c", mount, "sh"]
        return subprocess.run(
            [*enter, *argv], pass_fds=[self.fd], capture_output=True, text=True, timeout=30, check=False
        )


class Served:
    """A resolver in a thread of its own, which lives in `host`."""

    def __init__(self, host: Place, upstreams: tuple[str, ...]) -> None:
        self._host = host
        self._upstreams = upstreams
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main)
        self._thread.start()
        self._ready.wait(10)

    def _main(self) -> None:
        self._host.enter()
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.resolver = Resolver(self._upstreams)
        self._ready.set()
        await self.resolver.run()

    def call(self, work: Callable[[Resolver], T]) -> T:
        """Do something with the resolver, in its loop."""

        async def do() -> T:
            return work(self.resolver)

        return asyncio.run_coroutine_threadsafe(do(), self.loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.resolver.close(), self.loop).result(10)
        self._thread.join(10)


@contextmanager
def place() -> Iterator[Place]:
    made = Place()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def served(host: Place, upstreams: tuple[str, ...] = ()) -> Iterator[Served]:
    made = Served(host, upstreams)
    try:
        yield made
    finally:
        made.close()
