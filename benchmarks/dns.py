"""Questions per second to the resolver of a container, ours beside aardvark-dns and Docker's, in one run.

    python -m benchmarks.dns [--seconds 3] [--rounds 3]

Needs root. Every resolver knows a service of three containers and is asked over UDP, from a network
namespace, by the same client: a process of its own that keeps 1 or 32 questions in flight; a question whose
answer is late by a second counts as lost. The resolvers take turns, and the median round is shown.
aardvark-dns is measured where podman put it, Docker where an engine of our own can be run.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from benchmarks.engine import engine
from composer.network.dns.server import Resolver
from composer.network.dns.zone import EndpointName, zone
from tests.network.dns.places import Place, place

AARDVARK = "/usr/lib/podman/aardvark-dns"
QUESTION = bytes.fromhex("01000001000000000000") + b"\3web\0\0\1\0\1"
ADDRESSES = ("10.88.0.2", "10.88.0.3", "10.88.0.4")
fork = multiprocessing.get_context("fork")

Measured = tuple[float, float, float, int]
"""Questions per second, median and 99th percentile in milliseconds, questions lost."""


class Target:
    """A resolver: how to get to where it is asked from, its address, and the asker's own."""

    def __init__(self, name: str, enter: Callable[[], None], resolver: str, asker: str = "") -> None:
        self.name = name
        self.enter = enter
        self.resolver = resolver
        self.asker = asker

    def measure(self, in_flight: int, seconds: float) -> Measured:
        ours, theirs = fork.Pipe()
        client = fork.Process(target=lambda: theirs.send(self._load(in_flight, seconds)))
        client.start()
        measured: Measured = ours.recv()
        client.join()
        return measured

    def _load(self, in_flight: int, seconds: float) -> Measured:
        self.enter()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if self.asker:
            sock.bind((self.asker, 0))
        sock.connect((self.resolver, 53))
        sock.settimeout(1)
        receive, send, now = sock.recv, sock.send, time.perf_counter
        took: list[float] = []
        sent: dict[bytes, float] = {}
        lost = number = 0
        start = now()
        while now() < start + seconds:
            while len(sent) < in_flight:
                number = (number + 1) & 0xFFFF
                ident = number.to_bytes(2)
                sent[ident] = now()
                send(ident + QUESTION)
            try:
                ident = receive(4096)[:2]
            except TimeoutError:
                lost += len(sent)
                sent.clear()
                continue
            if ident in sent:
                took.append(now() - sent.pop(ident))
        took.sort()
        return len(took) / seconds, took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3, lost


# -- ours --


def _serve(udp: socket.socket, tcp: socket.socket, ready: Callable[[], None]) -> None:
    async def main() -> None:
        resolver = Resolver()
        names = (EndpointName("net", f"web{n}", "web", addresses=(a,)) for n, a in enumerate(ADDRESSES))
        resolver.set_zone(lambda: zone(names))
        resolver.add("web0", udp, tcp, networks=("net",), upstreams=())
        ready()
        await resolver.run()

    asyncio.run(main())


@contextmanager
def ours() -> Iterator[Target]:
    with place() as where:
        udp, tcp = where.resolver_sockets()
        ready = fork.Event()
        server = fork.Process(target=_serve, args=(udp, tcp, ready.set))
        server.start()
        ready.wait()
        try:
            yield Target("composer", where.enter, "127.0.0.11")
        finally:
            server.terminate()
            server.join()
            udp.close()
            tcp.close()


# -- aardvark-dns --


def _run(where: Place, *argv: str) -> None:
    enter = ["nsenter", f"--net=/proc/self/fd/{where.fd}"]
    subprocess.run([*enter, *argv], pass_fds=[where.fd], check=True, stderr=subprocess.DEVNULL)


@contextmanager
def aardvark() -> Iterator[Target]:
    with place() as where, tempfile.TemporaryDirectory() as folder:
        for address in ("10.88.0.1", ADDRESSES[0]):
            _run(where, "ip", "address", "add", f"{address}/32", "dev", "lo")
        containers = [f"{str(n) * 64} {a}  web{n},web\n" for n, a in enumerate(ADDRESSES)]
        Path(folder, "net").write_text("".join(["10.88.0.1\n", *containers]))
        _run(where, AARDVARK, "--config", folder, "--port", "53", "run")
        try:
            yield Target("aardvark-dns", where.enter, "10.88.0.1", ADDRESSES[0])
        finally:
            os.kill(int(Path(folder, "aardvark.pid").read_text()), signal.SIGTERM)


# -- Docker --


@contextmanager
def docker() -> Iterator[Target | None]:
    """Three containers on a network of their own; the first is asked from."""
    with engine() as running:
        if running is None:
            yield None
            return
        running.run("network", "create", "names")
        flags = ("--network", "names", "--network-alias", "web")
        pids = [running.container(*flags) for _ in ADDRESSES]
        where = Place(f"/proc/{pids[0]}/ns/net")
        try:
            yield Target("Docker", where.enter, "127.0.0.11")
        finally:
            where.close()


def peers() -> list[Callable[[], AbstractContextManager[Target | None]]]:
    return [ours, *([aardvark] if Path(AARDVARK).exists() else []), docker]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    Place().enter()
    with ExitStack() as stack:
        targets = [target for start in peers() if (target := stack.enter_context(start()))]
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {os.uname().release}")
        print(f"{'':14} in flight      q/s    p50 ms   p99 ms   lost")
        for in_flight in (1, 32):
            rounds = [[t.measure(in_flight, options.seconds) for t in targets] for _ in range(options.rounds)]
            for target, measured in zip(targets, zip(*rounds, strict=True), strict=True):
                rate, p50, p99, lost = (statistics.median(values) for values in zip(*measured, strict=True))
                print(f"{target.name:14} {in_flight:9} {rate:8.0f} {p50:9.3f} {p99:8.3f} {lost:6.0f}")


if __name__ == "__main__":
    main()
