"""A host of one's own: each test lives in a fresh network namespace, so it can disturb nothing and nobody."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from composer.network import links
from composer.network.netlink import Netlink
from composer.paths import Paths

if TYPE_CHECKING:
    from tests.network.site import Site

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNET = 0x40000000
SELF = "/proc/thread-self/ns/net"


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def entered(namespace: int) -> Iterator[None]:
    """Be in a network namespace for the time of the block; sockets opened there stay there."""
    before = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
    _check(_LIBC.setns(namespace, _NEWNET))
    try:
        yield
    finally:
        _check(_LIBC.setns(before, _NEWNET))
        os.close(before)


class Space:
    """A network namespace kept by a sleeping process: a container, or another host."""

    ended = False
    directory: Path

    def __init__(self) -> None:
        ready, done = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _LIBC.unshare(_NEWNET)
            os.write(done, b"x")
            signal.pause()
            os._exit(0)
        os.read(ready, 1)
        os.close(ready)
        os.close(done)
        self.namespace = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with self.inside():
            self.netlink = Netlink()
        self._opened: list[socket.socket] = []

    @contextmanager
    def inside(self) -> Iterator[None]:
        with entered(self.namespace):
            yield

    def open(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        with self.inside():
            made = socket.socket(family, kind)
        made.settimeout(5)
        self._opened.append(made)
        return made

    def listen(self, address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        made = self.open(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(64)
        return made

    def run(self, *command: str) -> str:
        with self.inside():
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def status(self, *command: str) -> int:
        with self.inside():
            return subprocess.run(command, check=False, capture_output=True).returncode

    def mac(self, name: str) -> bytes:
        return bytes.fromhex(links.find(self.netlink, [name])[name].mac.replace(":", ""))

    def send_raw(self, interface: str, to: bytes, packet: bytes, protocol: int = 0x0800) -> None:
        """Put a frame on the wire as it is, whatever this namespace's own routing thinks of it."""
        with self.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((interface, protocol))
            raw.send(to + self.mac(interface) + protocol.to_bytes(2, "big") + packet)

    def scratch(self, name: str, content: str) -> Path:
        """A file for a command to read; gone with the test."""
        path = self.directory / name
        path.write_text(content)
        return path

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        for opened in self._opened:
            opened.close()
        self.netlink.close()
        os.close(self.namespace)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Host(Space):
    """The namespace the test itself is in."""

    def __init__(self, make: Callable[[], Space], directory: Path) -> None:
        self.directory = directory
        self.pid = os.getpid()
        self.namespace = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
        self.netlink = Netlink()
        self.netlink.request([links.set_up("lo")])
        self._opened = []
        self.space = make

    def end(self) -> None:
        for opened in self._opened:
            opened.close()
        self.netlink.close()
        os.close(self.namespace)

    @contextmanager
    def watch_links(self) -> Iterator[Callable[[str], None]]:
        """Gives a function that waits until an interface with this prefix is deleted."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as events:
            events.bind((0, 1))
            events.settimeout(10)

            def gone(prefix: str) -> None:
                while True:
                    data = events.recv(65536)
                    if data[4] == 17 and prefix.encode() in data:
                        return

            yield gone

    def neighbour(self, here: str = "198.51.100.1/24", there: str = "198.51.100.2/24") -> Space:
        """Another host on the same wire, whose default route is by us."""
        other = self.space()
        name = f"lan{other.pid}"[:15]
        self.run("ip", "link", "add", name, "type", "veth", "peer", "lan0", "netns", str(other.pid))
        self.run("ip", "address", "add", here, "dev", name, *(["nodad"] if ":" in here else []))
        self.run("ip", "link", "set", name, "up")
        other.run("ip", "link", "set", "lo", "up")
        other.run("ip", "address", "add", there, "dev", "lan0", *(["nodad"] if ":" in there else []))
        other.run("ip", "link", "set", "lan0", "up")
        return other


def _end(spaces: list[Space]) -> None:
    for space in spaces:
        space.end()


@contextmanager
def own_host(directory: Path) -> Iterator[Host]:
    """A fresh network namespace, entered; `Host.space()` makes more of them. What is started stays in it."""
    outside = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
    _check(_LIBC.unshare(_NEWNET))
    spaces: list[Space] = []

    def make() -> Space:
        spaces.append(Space())
        return spaces[-1]

    with ExitStack() as stack:
        stack.callback(os.close, outside)
        stack.callback(lambda: _check(_LIBC.setns(outside, _NEWNET)))
        this = Host(make, directory)
        stack.callback(this.end)
        stack.callback(_end, spaces)
        yield this


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with own_host(tmp_path) as this:
        yield this


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "run", tmp_path / "state")


@pytest.fixture
def site(host: Host, paths: Paths) -> Iterator[Site]:
    """The stack `demo` on that host."""
    from tests.network.site import Site

    with Site(host, paths) as this:
        yield this


def talk(client: socket.socket, server: socket.socket, to: tuple[str, int]) -> tuple[Any, Any]:
    """Connect (or send a datagram) and be heard. Returns whom the server saw, and what it answered came
    from.
    """
    if client.type == socket.SOCK_DGRAM:
        client.sendto(b"hello", to)
        data, peer = server.recvfrom(100)
        server.sendto(data[::-1], peer)
        answer, source = client.recvfrom(100)
        assert answer == b"olleh"
        return peer, source
    client.connect(to)
    accepted, peer = server.accept()
    with accepted:
        accepted.settimeout(5)
        client.sendall(b"hello")
        accepted.sendall(accepted.recv(100)[::-1])
        assert client.recv(100) == b"olleh"
    return peer, client.getpeername()


def udp(source: str, target: str, port: int, source_port: int = 53, data: bytes = b"forged") -> bytes:
    """An IPv4 packet with a datagram (no UDP checksum)."""
    body = struct.pack(">HHHH", source_port, port, 8 + len(data), 0) + data
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:] + body


def icmp6(source: str, target: str, kind: int, body: bytes) -> bytes:
    """An IPv6 packet with an ICMPv6 message; `body` follows the checksum."""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    message = bytes((kind, 0, 0, 0)) + body
    pseudo = ends + struct.pack(">IxxxB", len(message), 58) + message
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    message = message[:2] + struct.pack(">H", ~total & 0xFFFF) + message[4:]
    return struct.pack(">IHBB", 6 << 28, len(message), 58, 255) + ends + message


def silent(client: socket.socket, to: tuple[str, int]) -> bool:
    """Whether nothing accepts there: refused, unreachable, or no answer within a quarter of a second."""
    client.settimeout(0.25)
    try:
        client.connect(to)
    except OSError:
        return True
    return False


def unheard(server: socket.socket | Netlink) -> bool:
    """Whether nothing has reached this socket."""
    return not select.select([server], [], [], 0.1)[0]
