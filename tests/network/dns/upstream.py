"""An upstream resolver for tests: a function decides what it answers; what it was asked is written down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import dns.message
import dns.query
import dns.rrset

from tests.network.dns.places import Place

Behaviour = Callable[[dns.message.Message], bytes | None]


def answer(query: dns.message.Message, *values: str, ttl: int = 300, kind: str = "A") -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    if values:
        reply.answer.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", kind, *values))
    return reply


class Upstream:
    """Serves `address`:53 in `where`. `by_udp` and `by_tcp` make the replies; None keeps quiet."""

    def __init__(
        self, where: Place, address: str, by_udp: Behaviour, by_tcp: Behaviour | None = None
    ) -> None:
        self.asked: list[tuple[str, dns.message.Message, int]] = []
        """Transport, question and the asker's port, in order of arrival."""
        self._by_udp = by_udp
        self._by_tcp = by_tcp or by_udp
        self._udp, self._tcp = where.open(socket.SOCK_DGRAM), where.open(socket.SOCK_STREAM)
        self._udp.bind((address, 53))
        self._tcp.bind((address, 53))
        self._tcp.listen()
        self._threads = [threading.Thread(target=self._serve_udp), threading.Thread(target=self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._udp, self._tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # a datagram socket is not connected; its reader is woken all the same
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self) -> None:
        while data := self._udp.recvfrom(65535):
            wire, source = data
            if not wire:
                return
            query = dns.message.from_wire(wire)
            self.asked.append(("udp", query, source[1]))
            reply = self._by_udp(query)
            if reply is not None:
                self._udp.sendto(reply, source)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, source = self._tcp.accept()
            except OSError:
                return
            with connection:
                query, _ = dns.query.receive_tcp(connection)
                self.asked.append(("tcp", query, source[1]))
                reply = self._by_tcp(query)
                if reply is not None:
                    connection.sendall(len(reply).to_bytes(2) + reply)
