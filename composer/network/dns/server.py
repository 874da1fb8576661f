"""The resolver of a stack: answers at 127.0.0.11 in every container, from sockets that were opened in there.

Runs in the event loop of whoever owns it and never blocks it. Who asks is known by the socket that was asked,
not by an address that could be forged. The sockets are duplicates of ones held elsewhere: closing ours loses
nothing, and what was asked meanwhile is answered later.

The hot path is one dictionary: the bytes of a question (all but its id) → endless ready answers. It belongs
to a view, the zone as seen from one set of networks, and goes when the zone goes: nobody ever sees a stale
answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from functools import cache, partial

from composer.network.dns import stream
from composer.network.dns.forward import Forwarder
from composer.network.dns.message import (
    ANY,
    MAX_QUERY,
    MAX_TCP,
    NXDOMAIN,
    SERVFAIL,
    MessageError,
    Query,
    answer,
    answers,
    failure,
    parse_query,
    relay,
)
from composer.network.dns.zone import Node, Zone, spell

BATCH = 64
"""Queries answered on one socket before others, and the rest of the process, have their turn."""
MAX_HOT = 4096
"""Weight of ready answers a view keeps: one each, and one more for every eight records."""
MAX_HOT_QUESTION = 300
"""Octets of the longest question with a ready answer: the longest name, and EDNS without options."""
MAX_OUTSIDE = 1000
"""Names of elsewhere that are remembered of one asker."""
MAX_FORWARDED = 100
"""Questions of one asker that may wait for upstreams at once; one more fails."""
MAX_CONNECTIONS = 32
"""TCP connections of one asker at once; the next wait in the listening socket."""
BREATH = 0.5
"""Seconds without accepting after the process ran out of descriptors."""
WAKING = 4.0
"""Seconds that who asks for a sleeper waits; then there is no answer, and resolvers ask again after five."""
IDLE = 10.0
"""Seconds a TCP connection may take for its next query, or to take in an answer."""


TROUBLES = {"silent": None, "servfail": SERVFAIL, "nxdomain": NXDOMAIN}
"""Ways to answer badly, with what is said."""

Sleeper = tuple[Zone, Callable[[], Awaitable[None]]]
"""The names of somebody who sleeps, and what wakes them: it returns once they can be talked to."""
_Source = tuple[str, int]
_NO_LINKS: Mapping[str, str] = {}


class _View:
    """The zone as somebody on `networks` sees it, through `links` of their own (alias → name)."""

    def __init__(
        self, zone: Callable[[], Zone], networks: tuple[str, ...], links: Mapping[bytes, bytes]
    ) -> None:
        self._zone = zone
        self._networks = networks
        self._links = links
        self.hot: dict[bytes, Iterator[bytes]] = {}
        self._weight = 0

    def find(self, name: bytes) -> Node | None:
        return self._zone().find(self._networks, self._links.get(name, name))

    def keep(self, question: bytes, ready: Iterator[bytes], records: int) -> None:
        """Have `ready` answers at hand for these bytes of a question."""
        if len(question) > MAX_HOT_QUESTION:
            return
        self._weight += 1 + records // 8
        if self._weight > MAX_HOT:
            self.hot.clear()
            self._weight = 1 + records // 8
        self.hot[question] = ready


class _Asker:
    """One container: its sockets, what it may see and whom its other questions go to (None: the host's)."""

    def __init__(self, udp: socket.socket, tcp: socket.socket) -> None:
        self.udp = udp
        self.tcp = tcp
        self.networks: tuple[str, ...] = ()
        self.links: Mapping[bytes, bytes] = {}
        self.upstreams: tuple[str, ...] | None = None
        self.view = _View(Zone, (), {})
        self.trouble = ""
        self.outside: set[bytes] = set()
        self.forwarded: set[asyncio.Task[None]] = set()
        self.connections: set[asyncio.Task[None]] = set()


class Resolver:
    """Answers the containers of a stack. Made and used inside a running asyncio loop."""

    def __init__(self, upstreams: tuple[str, ...] = ()) -> None:
        """`upstreams`: the host's resolvers, as addresses; those of `resolvconf.upstreams`."""
        self._loop = asyncio.get_running_loop()
        self._upstreams = upstreams
        self._forwarder = Forwarder()
        self._zone: Callable[[], Zone] = Zone
        self._sleepers: tuple[Sleeper, ...] = ()
        self._askers: dict[str, _Asker] = {}
        self._views: dict[tuple[tuple[str, ...], frozenset[tuple[bytes, bytes]]], _View] = {}
        self._closed = asyncio.Event()
        self.outside: dict[str, set[bytes]] = {}
        """Names that are none of ours, in wire form, by asker; so many of each as MAX_OUTSIDE says."""

    def add(
        self,
        asker: str,
        udp: socket.socket,
        tcp: socket.socket,
        *,
        networks: tuple[str, ...],
        upstreams: tuple[str, ...] | None = None,
        links: Mapping[str, str] = _NO_LINKS,
    ) -> None:
        """Answer on a bound UDP and a listening TCP socket, which are the resolver's own from now on.

        `networks`: those the asker is on; where several know a name, the first of them answers.
        `upstreams`: where other names are looked up, None for the host's resolvers, () for nowhere, as on
        internal networks. `links`: names for this asker alone → the names they stand for.
        """
        if asker in self._askers:
            raise ValueError(f"{asker} is answered already")
        udp.setblocking(False)
        tcp.setblocking(False)
        one = self._askers[asker] = _Asker(udp, tcp)
        one.outside = self.outside.setdefault(asker, set())
        self.change(asker, networks=networks, upstreams=upstreams, links=links)
        self._loop.add_reader(udp, self._on_udp, one)
        self._loop.add_reader(tcp, self._on_tcp, one)

    def change(
        self,
        asker: str,
        *,
        networks: tuple[str, ...],
        upstreams: tuple[str, ...] | None = None,
        links: Mapping[str, str] = _NO_LINKS,
    ) -> None:
        """The asker was put on other networks: as `add`, but for its sockets. Raises KeyError."""
        one = self._askers[asker]
        spelled = ((spell(alias), spell(name)) for alias, name in links.items())
        one.links = {alias: name for alias, name in spelled if alias and name}
        one.networks = networks
        one.upstreams = upstreams
        one.view = self._view(one)

    def trouble(self, asker: str, kind: str) -> None:
        """Answer a container badly from now on, as `TROUBLES` says; "" is well again. Unknown is ignored."""
        one = self._askers.get(asker)
        if one is not None and one.trouble != kind:
            one.trouble = kind
            one.view = self._view(one)

    def remove(self, asker: str) -> None:
        """Answer no more, and close the sockets. Nothing happens if the asker is not known."""
        one = self._askers.pop(asker, None)
        if one is None:
            return
        for sock in (one.udp, one.tcp):
            self._loop.remove_reader(sock)
            sock.close()
        for task in (*one.forwarded, *one.connections):
            task.cancel()

    def set_zone(self, zone: Callable[[], Zone], sleepers: Iterable[Sleeper] = ()) -> None:
        """Replace all names at once: the next question sees them, and has them made."""
        self._zone = cache(zone)
        self._sleepers = tuple(sleepers)
        self._views.clear()
        for one in self._askers.values():
            one.view = self._view(one)

    def set_upstreams(self, upstreams: tuple[str, ...]) -> None:
        """The host's resolvers are others now."""
        self._upstreams = upstreams
        self._forwarder.forget()

    async def run(self) -> None:
        """Answer until `close`, or until cancelled."""
        try:
            await self._closed.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of everything."""
        self._closed.set()
        tasks = [task for one in self._askers.values() for task in (*one.forwarded, *one.connections)]
        for asker in list(self._askers):
            self.remove(asker)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._forwarder.close()

    def _view(self, one: _Asker) -> _View:
        if one.trouble:
            return _View(Zone, (), {})  # without ready answers
        key = one.networks, frozenset(one.links.items())
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = _View(self._zone, one.networks, one.links)
        return view

    # -- UDP --

    def _on_udp(self, one: _Asker) -> None:
        receive, send, hot = one.udp.recvfrom, one.udp.sendto, one.view.hot
        try:
            for _ in range(BATCH):
                data, source = receive(MAX_QUERY + 1)
                ready = hot.get(data[2:])
                if ready is not None:
                    send(data[:2] + next(ready), source)
                elif reply := self._by_udp(one, data, source):
                    send(data[:2] + reply, source)
        except OSError:
            pass  # nothing left to read, or one answer that cannot be delivered: the rest stays readable

    def _by_udp(self, one: _Asker, data: bytes, source: _Source) -> bytes | None:
        """The answer; None if there is to be none, or not yet."""
        try:
            query = parse_query(data)
        except MessageError as error:
            return None if error.rcode is None else failure(data, error.rcode)
        if one.trouble:
            return _troubled(query, one.trouble)
        node = one.view.find(query.name)
        if node is not None and self._asleep(one, query) and len(one.forwarded) < MAX_FORWARDED:
            self._spawn(one.forwarded, self._awake(one, query, data[:2], source))
            return None
        if node is not None:
            records = _records(query, node)
            ready = answers(query, records, query.size)
            one.view.keep(data[2:], ready, len(records))
            return next(ready)
        reply = self._at_hand(one, query, query.size)
        if reply is None and len(one.forwarded) >= MAX_FORWARDED:
            return answer(query, SERVFAIL)
        if reply is None:
            self._spawn(one.forwarded, self._later(one, query, data[:2], source))
        return reply

    async def _later(self, one: _Asker, query: Query, ident: bytes, source: _Source) -> None:
        reply = await self._from_outside(one, query, query.size)
        try:
            one.udp.sendto(ident + reply, source)
        except OSError:
            pass  # the asker is gone

    # -- who sleeps --

    def _asleep(self, one: _Asker, query: Query) -> list[Callable[[], Awaitable[None]]]:
        """What wakes those whom the question is about."""
        name = one.links.get(query.name, query.name)
        return [wake for names, wake in self._sleepers if names.find(one.networks, name) is not None]

    async def _wake(self, one: _Asker, query: Query) -> bool:
        """Whether all of them are awake in time."""
        waking = [asyncio.ensure_future(wake()) for wake in self._asleep(one, query)]
        return not waking or not (await asyncio.wait(waking, timeout=WAKING))[1]

    async def _awake(self, one: _Asker, query: Query, ident: bytes, source: _Source) -> None:
        if await self._wake(one, query) and (node := one.view.find(query.name)) is not None:
            reply = next(answers(query, _records(query, node), query.size))
            try:
                one.udp.sendto(ident + reply, source)
            except OSError:
                pass  # the asker is gone

    # -- TCP --

    def _on_tcp(self, one: _Asker) -> None:
        try:
            while len(one.connections) < MAX_CONNECTIONS:
                connection, _ = one.tcp.accept()
                connection.setblocking(False)
                task = self._spawn(one.connections, self._converse(one, connection))
                task.add_done_callback(partial(self._hung_up, one, connection))
            self._loop.remove_reader(one.tcp)  # until a connection ends
        except BlockingIOError:
            pass
        except OSError:
            self._loop.remove_reader(one.tcp)
            self._loop.call_later(BREATH, self._accept, one)

    def _accept(self, one: _Asker) -> None:
        if one.tcp.fileno() >= 0:
            self._loop.add_reader(one.tcp, self._on_tcp, one)

    async def _converse(self, one: _Asker, connection: socket.socket) -> None:
        try:
            while True:
                async with asyncio.timeout(IDLE):
                    data = await stream.receive(connection, MAX_QUERY)
                reply = await self._by_tcp(one, data)
                if reply is None:
                    return
                async with asyncio.timeout(IDLE):
                    await stream.send(connection, data[:2] + reply)
                await asyncio.sleep(0)  # whoever sends without pause has no more than their turn
        except (OSError, EOFError):
            pass  # the asker is through, too slow, or sent what is no message

    def _hung_up(self, one: _Asker, connection: socket.socket, _: asyncio.Task[None]) -> None:
        connection.close()
        self._accept(one)

    async def _by_tcp(self, one: _Asker, data: bytes) -> bytes | None:
        """The answer; None if the conversation is over."""
        try:
            query = parse_query(data)
        except MessageError as error:
            return None if error.rcode is None else failure(data, error.rcode)
        if one.trouble:
            return _troubled(query, one.trouble)
        if one.view.find(query.name) is not None and not await self._wake(one, query):
            return None
        node = one.view.find(query.name)
        if node is not None:
            return next(answers(query, _records(query, node), MAX_TCP))
        return self._at_hand(one, query, MAX_TCP) or await self._from_outside(one, query, MAX_TCP)

    # -- the world outside --

    def _at_hand(self, one: _Asker, query: Query, limit: int) -> bytes | None:
        """The answer for a name that is none of ours, if nobody needs to be asked."""
        if len(one.outside) < MAX_OUTSIDE:
            one.outside.add(query.name)
        upstreams = self._upstreams if one.upstreams is None else one.upstreams
        if not upstreams:
            return answer(query, NXDOMAIN)
        known = self._forwarder.kept(query, upstreams)
        return relay(known[0], query, limit, known[1]) if known else None

    async def _from_outside(self, one: _Asker, query: Query, limit: int) -> bytes:
        upstreams = self._upstreams if one.upstreams is None else one.upstreams
        reply = await self._forwarder.ask(query, upstreams)
        return relay(reply, query, limit) if reply else answer(query, SERVFAIL)

    def _spawn(self, tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task


def _troubled(query: Query, kind: str) -> bytes | None:
    """The answer of a resolver that is out of order; None for none."""
    rcode = TROUBLES[kind]
    return None if rcode is None else answer(query, rcode)


def _records(query: Query, node: Node) -> tuple[bytes, ...]:
    if query.type == ANY:  # one set of records is enough (RFC 8482, section 4.1)
        return next(iter(node.values()), ())
    return node.get(query.type, ())
