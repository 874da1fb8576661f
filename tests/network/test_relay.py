"""The relay for IPv6 clients, between real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from composer.network.ports import PortWish, free, reserve
from composer.network.relay import Relay
from tests.network.conftest import Host, talk

pytestmark = pytest.mark.kernel


def _with_relay(
    host: Host, protocol: str, target: int, work: Callable[[Relay, socket.socket, int], Awaitable[None]]
) -> None:
    async def main() -> None:
        (got,) = reserve([PortWish(protocol=protocol)])
        listener = next(held for held in got.sockets if held.family == socket.AF_INET6)
        relay = Relay()
        relay.serve(listener, [("127.0.0.1", target)])
        try:
            await work(relay, listener, got.port)
        finally:
            relay.close()
            free(got)
            await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize(("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_a_client_of_the_ipv6_loopback_is_served_by_ipv4(host: Host, protocol: str, kind: int) -> None:
    server = host.listen("127.0.0.1", 80, kind)

    async def work(relay: Relay, listener: socket.socket, port: int) -> None:
        for _ in range(3):
            client = host.open(socket.AF_INET6, kind)
            peer, _ = await asyncio.to_thread(talk, client, server, ("::1", port))
            assert peer[0] == "127.0.0.1"
            client.close()

    _with_relay(host, protocol, 80, work)


def test_much_data_and_a_half_closed_connection(host: Host) -> None:
    server = host.listen("127.0.0.1", 80)
    sent = bytes(range(256)) * 40_000

    def exchange(port: int) -> bytes:
        with socket.create_connection(("::1", port), 5) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(1 << 20), b""))

    def echo() -> None:
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(5)
            data = b"".join(iter(lambda: accepted.recv(1 << 20), b""))
            accepted.sendall(data)

    async def work(relay: Relay, listener: socket.socket, port: int) -> None:
        got, _ = await asyncio.gather(asyncio.to_thread(exchange, port), asyncio.to_thread(echo))
        assert got == sent

    _with_relay(host, "tcp", 80, work)


def test_many_at_once_who_listen_slowly_and_some_who_break_off(host: Host) -> None:
    """Each gets all of its own; what breaks is no matter of the others, and nothing stays open."""
    server = host.listen("127.0.0.1", 80)
    told = bytes(range(256)) * 4096

    def serve() -> None:
        for _ in range(60):
            accepted, _ = server.accept()
            accepted.settimeout(5)
            try:
                with accepted:
                    name = accepted.recv(2)
                    accepted.sendall(name + told)
            except OSError:
                continue

    async def work(relay: Relay, listener: socket.socket, port: int) -> None:
        serving = asyncio.create_task(asyncio.to_thread(serve))
        before = len(os.listdir("/proc/self/fd"))

        async def ask(number: int) -> None:
            reader, writer = await asyncio.open_connection("::1", port, limit=1024)
            writer.write(number.to_bytes(2))
            if number % 3 == 0:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return
            heard = await asyncio.wait_for(reader.read(2), 10)
            assert heard == number.to_bytes(2)
            assert await asyncio.wait_for(reader.readexactly(len(told)), 10) == told
            assert await reader.read() == b""
            writer.close()

        await asyncio.gather(*map(ask, range(60)))
        await serving
        async with asyncio.timeout(10):
            while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110 - nobody tells of a closing
                await asyncio.sleep(0)

    _with_relay(host, "tcp", 80, work)


def test_nobody_behind_it_ends_the_connection(host: Host) -> None:
    async def work(relay: Relay, listener: socket.socket, port: int) -> None:
        reader, writer = await asyncio.open_connection("::1", port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()

    _with_relay(host, "tcp", 81, work)


def test_new_targets_serve_new_connections(host: Host) -> None:
    first, second = host.listen("127.0.0.1", 80), host.listen("127.0.0.1", 81)

    async def work(relay: Relay, listener: socket.socket, port: int) -> None:
        await asyncio.to_thread(talk, host.open(socket.AF_INET6), first, ("::1", port))
        relay.serve(listener, [("127.0.0.1", 9), ("127.0.0.1", 81)])
        await asyncio.to_thread(talk, host.open(socket.AF_INET6), second, ("::1", port))

    _with_relay(host, "tcp", 80, work)
