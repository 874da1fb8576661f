"""Probes from the outside: a connection or an HTTP request in a container's network, by a socket made there.

Nothing runs in the container, so its image needs no shell and no curl, and a probe costs no process. A socket
belongs to the network namespace that its maker is in when making it; we are in the container's for as long.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from composer.model.stack import Probe
from composer.runtime.linux import CLONE_NEWNET
from composer.syscalls import setns

if TYPE_CHECKING:
    import ssl

Made = TypeVar("Made")
HOSTS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
LIMIT = 4096
"""Bytes of an answer that are read: its status, and what a person wants to see when it is a bad one."""


def socket_in(pid: int, family: int) -> socket.socket:
    """A TCP socket in the network namespace of a process. Raises OSError."""
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    return made_in(pid, lambda: socket.socket(family, kind))


def made_in(pid: int, make: Callable[[], Made]) -> Made:
    """What `make` opens, in the network namespace of a process. Raises OSError."""
    back = ours()
    theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(theirs, CLONE_NEWNET)
        try:
            return make()
        finally:
            setns(back, CLONE_NEWNET)
    finally:
        os.close(theirs)


@cache
def ours() -> int:
    """Our own network namespace, for the way back: asked for before we are anywhere else."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


async def look(pid: int, probe: Probe) -> tuple[bool, str]:
    """Whether what listens there is well, and what there was to see."""
    where = f"{probe.scheme}://localhost:{probe.port}{probe.path if probe.scheme != 'tcp' else ''}"
    try:
        connected = await connect(pid, probe.port)
        if probe.scheme == "tcp":
            connected.close()
            return True, f"{where}: connected"
        status, text = await ask(connected, probe)
    except (OSError, EOFError, ValueError) as error:
        code = error.errno if isinstance(error, OSError) else None
        return False, f"{where}: {os.strerror(code) if code else error}"
    fine = well(status, probe)
    return fine, f"{where}: {status}" if fine else f"{where}: {text}"


def well(status: int, probe: Probe) -> bool:
    return any(low <= status <= high for low, high in probe.status)


async def connect(pid: int, port: int) -> socket.socket:
    """To the container's own loopback, by IPv4 or else by IPv6. Raises OSError of the first."""
    failure: OSError | None = None
    for family, host in HOSTS:
        try:
            made = socket_in(pid, family)
        except OSError as error:
            failure = failure or error
            continue
        try:
            await asyncio.get_running_loop().sock_connect(made, (host, port))
        except OSError as error:
            made.close()
            failure = failure or error
        except BaseException:
            made.close()
            raise
        else:
            return made
    assert failure is not None
    raise failure


async def ask(connected: socket.socket, probe: Probe) -> tuple[int, str]:
    """The status of the answer, and its beginning. Raises OSError, EOFError, ValueError."""
    tls = probe.scheme == "https"
    reader, writer = await asyncio.open_connection(
        sock=connected,
        limit=LIMIT,
        ssl=anyones() if tls else None,
        server_hostname=probe.host if tls else None,
    )
    try:
        headers = {"Host": probe.host, "User-Agent": "composer", "Accept": "*/*", **probe.headers}
        lines = [f"{probe.method} {probe.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        await writer.drain()
        data = b""
        while len(data) < LIMIT and (more := await reader.read(LIMIT - len(data))):
            data += more
            # Not everybody closes when asked to: what is well, or has no more to come, is enough.
            if well(status_of(data), probe) or (b"\r\n\r\n" in data and probe.method == "HEAD"):
                break
    finally:
        writer.transport.abort()
    status = status_of(data)
    if not status:
        raise ValueError("the answer is not HTTP" if data else "the connection was closed without an answer")
    return status, data.decode("latin-1").strip()


def status_of(data: bytes) -> int:
    """The code of a status line, 0 if it is none (yet)."""
    line, newline, _ = data.partition(b"\n")
    words = line.split()
    if not newline or len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3:
        return 0
    return int(words[1]) if words[1].isdigit() else 0


@cache
def anyones() -> ssl.SSLContext:
    """Whether it answers is the question, not who signed its certificate."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
