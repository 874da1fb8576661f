"""Questions about the world outside, put to upstream resolvers.

Upstreams are asked from the namespace this process lives in, the host's, whichever container wants to know:
so a host whose resolver is on 127.0.0.53 needs nothing special, and what one container learned serves the
next.

Each question has its own socket, so the kernel draws a random port for it and drops what comes from
elsewhere; with the random id and the comparison of the question, that is what can be done against forged
replies (RFC 5452).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time

from composer.network.dns import stream
from composer.network.dns.message import (
    AD,
    CD,
    FORMERR,
    MAX_TCP,
    MAX_UDP,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    TC,
    MessageError,
    Query,
    Reply,
    answers_to,
    lifetime,
    parse_reply,
    question,
)

DEADLINE = 4.5
"""Seconds until an asker is told that nobody answered. glibc, musl and busybox give up after 5."""
STAGGER = 0.8
"""Seconds after which the next upstream is asked too. The earlier ones may still answer."""
RESEND = 1.5
"""Seconds after which a question is sent a second time; a packet may get lost."""
TCP_PATIENCE = 2.0
"""Seconds after which a reply that was cut is passed on as it is."""
AVOID = 15.0
"""Seconds for which an upstream that kept quiet is asked last."""
MAX_QUESTIONS = 256
"""Different questions under way at once; one more fails."""
MAX_KEPT = 1024
"""Replies kept, the oldest go first; with `MAX_KEPT_SIZE` octets each that is 4 MiB at most."""
MAX_KEPT_SIZE = 4096
MAX_AGE, MAX_NEGATIVE_AGE = 60, 5
"""Seconds a reply is kept at most, with answers and without. The host's resolver has the real cache."""

_PORT = 53
_SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_Key = tuple[bytes, bytes, int, bool, tuple[str, ...]]


class Forwarder:
    """Asks upstreams, and keeps what they said for a little while. Belongs to one event loop."""

    def __init__(self) -> None:
        self._kept: dict[_Key, tuple[float, float, Reply]] = {}
        """Question → when it was answered, until when that holds, the reply."""
        self._asking: dict[_Key, asyncio.Task[Reply | None]] = {}
        self._quiet: dict[str, float] = {}
        """Upstream → until when it is asked last."""

    def kept(self, query: Query, upstreams: tuple[str, ...]) -> tuple[Reply, int] | None:
        """What is still known, and how many seconds old it is."""
        found = self._kept.get(_key(query, upstreams))
        if found is None:
            return None
        since, until, reply = found
        now = time.monotonic()
        return (reply, int(now - since)) if now < until else None

    async def ask(self, query: Query, upstreams: tuple[str, ...]) -> Reply | None:
        """The first good reply, else a reported failure, else None. What many ask is put once."""
        key = _key(query, upstreams)
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= MAX_QUESTIONS:
                return None
            task = self._asking[key] = asyncio.create_task(self._settle(key, query, upstreams))
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Drop what is kept: the upstreams are others now, or say something else."""
        self._kept.clear()
        self._quiet.clear()

    async def close(self) -> None:
        """Give up all questions under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self, key: _Key, query: Query, upstreams: tuple[str, ...]) -> Reply | None:
        try:
            reply = await self._first_good(query, upstreams)
        finally:
            del self._asking[key]
        if reply:
            self._keep(key, reply)
        return reply

    def _keep(self, key: _Key, reply: Reply) -> None:
        age = min(lifetime(reply), MAX_AGE if reply.counts[0] else MAX_NEGATIVE_AGE)
        if age > 0 and len(reply.data) <= MAX_KEPT_SIZE:
            self._kept.pop(key, None)
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            now = time.monotonic()
            self._kept[key] = now, now + age, reply

    async def _first_good(self, query: Query, upstreams: tuple[str, ...]) -> Reply | None:
        now = time.monotonic()
        waiting = sorted(upstreams, key=lambda upstream: self._quiet.get(upstream, now) > now)
        tries: set[asyncio.Task[Reply | None]] = set()
        failure = None
        try:
            async with asyncio.timeout(DEADLINE):
                while waiting or tries:
                    if waiting:
                        asked = waiting.pop(0)
                        tries.add(asyncio.create_task(self._try(asked, query)))
                    patience = STAGGER if waiting else None
                    done, tries = await asyncio.wait(
                        tries, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not done:
                        self._quiet[asked] = time.monotonic() + AVOID
                    for reply in (task.result() for task in done):
                        if reply and reply.rcode in (NOERROR, NXDOMAIN):
                            return reply
                        failure = reply or failure
        except TimeoutError:
            pass
        finally:
            for task in tries:
                task.cancel()
        return failure

    async def _try(self, upstream: str, query: Query) -> Reply | None:
        """What one upstream says; None if it cannot be reached."""
        try:
            reply = await _by_udp(upstream, query, edns=True)
            self._quiet.pop(upstream, None)
            if reply.rcode in (FORMERR, NOTIMP):
                reply = await _by_udp(upstream, query, edns=False)
            return await _by_tcp(upstream, query) or reply if reply.flags & TC else reply
        except (OSError, ValueError):  # ValueError: what looks up addresses does not take it for text
            return None


def _key(query: Query, upstreams: tuple[str, ...]) -> _Key:
    return query.name, query.question[-4:], query.flags & (AD | CD), query.dnssec_ok, upstreams


async def _by_udp(upstream: str, query: Query, *, edns: bool) -> Reply:
    """Raises OSError when the upstream's host says that nobody listens. Waits for ever otherwise."""
    loop = asyncio.get_running_loop()
    family, address = _address(upstream)
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(address)
        ident = os.urandom(2)
        message = ident + question(query, edns=edns)
        resend = loop.call_later(RESEND, _send_again, sock, message)
        try:
            sock.send(message)
            while True:
                data = await loop.sock_recv(sock, MAX_UDP)
                if reply := _reply(data, ident, query):
                    return reply
        finally:
            resend.cancel()


def _send_again(sock: socket.socket, message: bytes) -> None:
    try:
        sock.send(message)
    except OSError:
        pass  # the one who waits for the reply meets the same error, or the deadline


async def _by_tcp(upstream: str, query: Query) -> Reply | None:
    family, address = _address(upstream)
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        ident = os.urandom(2)
        try:
            async with asyncio.timeout(TCP_PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, address)
                await stream.send(sock, ident + question(query, edns=True))
                return _reply(await stream.receive(sock, MAX_TCP), ident, query)
        except (OSError, EOFError):
            return None


def _reply(data: bytes, ident: bytes, query: Query) -> Reply | None:
    """The reply in `data`, if it is one to the question with that id."""
    if data[:2] != ident:
        return None
    try:
        reply = parse_reply(data)
    except MessageError:
        return None
    return reply if answers_to(reply, query) else None


def _address(upstream: str) -> tuple[socket.AddressFamily, _SocketAddress]:
    """Family and address for `socket`. A link-local one carries its scope: `fe80::1%eth0`. Raises OSError."""
    info = socket.getaddrinfo(upstream, _PORT, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    return info[0][0], info[0][4]
