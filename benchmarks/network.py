"""What networks cost and carry: setting up for many containers, throughput and connection rate.

    python -m benchmarks.network [--containers 50] [--seconds 2]

Runs as root in network namespaces of its own; the machine's network is not touched. Each path is measured
beside the same work over plain loopback, since machines differ: read the ratio. Where a Docker Engine can be
run, its published ports are measured too, with the same client and server.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from benchmarks.engine import IMAGE, Engine, engine
from benchmarks.stacks import Peer, composer
from composer.model.stack import Attachment, Network
from composer.network.endpoints import arrange, attach
from composer.network.lifecycle import ensure_network, remove_networks
from composer.network.nft.rules import PublishedPort
from composer.network.ports import PortWish, free, reserve
from composer.network.publish import publish, unpublish
from composer.network.registry import LeaseRequest, leases
from composer.network.relay import Relay
from composer.paths import Paths
from tests.network.conftest import Host, Space, entered
from tests.network.site import Site

Result = TypeVar("Result")
_CHUNK = 256 * 1024


def timed(what: str, work: Callable[[], Result], count: int = 1) -> Result:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"  {what:<44}{wall / count * 1e3:9.2f} ms {cpu / count * 1e3:9.2f} ms cpu")
    return result


def setting_up(site: Site, count: int) -> None:
    print(f"setting up, per call ({count} containers):")
    spaces = [site.host.space() for _ in range(count)]
    network = Network("front", "bench_front")
    record = timed("new network with its bridge", lambda: ensure_network(site.paths, "bench", network))
    timed("network that is there", lambda: ensure_network(site.paths, "bench", network))
    timed("firewall of the stack", lambda: publish(site.firewall, "bench", [record], []))
    requests = [LeaseRequest(record, f"bench/web-{number}") for number in range(count)]
    got = timed("leases, all containers at once", lambda: leases(site.paths, requests))
    made = [
        arrange(f"web-{number}", space.pid, [(record, lease, Attachment())])
        for number, (space, lease) in enumerate(zip(spaces, got, strict=True))
    ]

    def attach_all() -> None:
        for space, endpoints in zip(spaces, made, strict=True):
            attach(site.host.netlink, space.netlink, endpoints, site.firewall)

    timed("interface of a container, addresses, routes", attach_all, count)
    held = timed("port reserved", lambda: reserve(PortWish() for _ in range(count)), count)
    address = got[0].addresses[0].partition("/")[0]
    ports = [PublishedPort("", each.port, "tcp", 80, address) for each in held]
    timed("all ports published", lambda: publish(site.firewall, "bench", [record], ports))
    more = timed(
        "20 more networks, each",
        lambda: [ensure_network(site.paths, "bench", Network(f"n{n}", f"bench_n{n}")) for n in range(20)],
        20,
    )
    for each in held:
        free(each)
    timed("firewall removed", lambda: unpublish(site.firewall, "bench"))
    for space in spaces:
        space.end()
    timed("20 networks removed at once", lambda: remove_networks(site.paths, more))
    timed("the last one", lambda: remove_networks(site.paths, [record]))


@contextmanager
def child(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` in a forked process for the time of the block."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def swallow(listener: socket.socket) -> None:
    """Accept for ever; read each connection to its end."""
    listener.settimeout(None)
    listener.listen(1024)
    buffer = bytearray(_CHUNK)
    while True:
        accepted, _ = listener.accept()
        try:
            with accepted:
                while accepted.recv_into(buffer):
                    pass
        except ConnectionResetError:
            continue


def throughput(client: socket.socket, to: tuple[str, int], seconds: float) -> float:
    """Gbit/s of one connection."""
    data = bytes(_CHUNK)
    client.connect(to)
    start, sent = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        sent += client.send(data)
    elapsed = time.perf_counter() - start
    client.close()
    return sent * 8 / elapsed / 1e9


def connections(make: Callable[[], socket.socket], to: tuple[str, int], seconds: float) -> float:
    """Connections per second, one after the other."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        with make() as client:
            client.connect(to)
            client.shutdown(socket.SHUT_WR)
            client.recv(1)
        count += 1
    return count / (time.perf_counter() - start)


def carrying(site: Site, seconds: float) -> None:
    site.network("front")
    other = site.host.neighbour()
    (web, made), (peer, _) = site.container("web-1", "front"), site.container("peer-1", "front")
    address = made[0].addresses[0].partition("/")[0]
    site.publish(PublishedPort("", 8080, "tcp", 80, address))
    (relayed,) = reserve([PortWish("::1", "8080")])
    paths: list[tuple[str, Space, Space, str, int]] = [
        ("plain loopback, for comparison", site.host, site.host, "127.0.0.1", 81),
        ("127.0.0.1:port", site.host, web, "127.0.0.1", 8080),
        ("[::1]:port, through the relay", site.host, web, "::1", 8080),
        ("another host to port", other, web, "198.51.100.1", 8080),
        ("container to container", peer, web, address, 80),
        ("container to port (hairpin)", peer, web, "198.51.100.1", 8080),
    ]
    listeners = {site.host: site.host.listen("127.0.0.1", 81), web: web.listen("0.0.0.0", 80)}
    print(f"carrying ({seconds:g} s each):")
    with ExitStack() as running:
        for listener in listeners.values():
            running.enter_context(child(lambda listener=listener: swallow(listener)))  # type: ignore[misc]
        running.enter_context(child(lambda: asyncio.run(_relay(relayed.sockets[0], (address, 80)))))
        for what, client, _, target, port in paths:
            one_path(what, client, (target, port), seconds)
    free(relayed)
    with engine() as docker:
        if docker is None:
            print("  (no Docker Engine to compare with)")
        else:
            carried_by_docker(site, other, docker, seconds)
        coming_up(site, docker)


def coming_up(site: Site, docker: Engine | None) -> None:
    """Whole commands on stacks that are mostly network."""
    tools = [composer(site.paths.state.parent / "whole")]
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    compose = shutil.which("docker-compose", path=beside)
    if docker is not None and compose:
        tools.append(Peer("docker compose", [compose], IMAGE, {"DOCKER_HOST": f"unix://{docker.sock}"}))
    print("whole commands, median seconds of three:")
    for what, services, own in (("50 services on one network", 50, False), ("20 networks", 20, True)):
        for tool in tools:
            folder = site.paths.state.parent / f"up{services}{len(tool.name)}"
            folder.mkdir()
            (folder / "compose.yaml").write_text(stack_of(tool.image, services, own_networks=own))
            took = [(tool.run(folder, ["up", "-d"]), tool.run(folder, ["down", "-t", "0"])) for _ in range(3)]
            up, down = (statistics.median(each) for each in zip(*took, strict=True))
            print(f"  {f'{what}, {tool.name}':<44}{up:9.2f} s up {down:9.2f} s down")


def stack_of(image: str, count: int, *, own_networks: bool) -> str:
    command = {"image": image, "command": ["/bin/sleep", "100000"]}
    names = [f"s{number}" for number in range(count)]
    if not own_networks:
        return json.dumps({"services": dict.fromkeys(names, command)})
    services = {name: {**command, "networks": [name]} for name in names}
    return json.dumps({"services": services, "networks": dict.fromkeys(names)})


def carried_by_docker(site: Site, other: Space, docker: Engine, seconds: float) -> None:
    pid = docker.container("-p", "8090:80")
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with entered(namespace):
        listener = socket.create_server(("0.0.0.0", 80))
    os.close(namespace)
    with listener, child(lambda: swallow(listener)):
        for what, client, target in (
            ("127.0.0.1:port", site.host, "127.0.0.1"),
            ("[::1]:port", site.host, "::1"),
            ("another host to port", other, "198.51.100.1"),
        ):
            one_path(f"{what}, Docker", client, (target, 8090), seconds)


def one_path(what: str, client: Space, to: tuple[str, int], seconds: float) -> None:
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    _wait_for(client, family, to)
    speed = throughput(client.open(family), to, seconds)
    with client.inside():
        rate = connections(lambda: socket.socket(family), to, seconds)
    print(f"  {what:<44}{speed:9.1f} Gbit/s {rate:9.0f} connections/s")


async def _relay(listener: socket.socket, target: tuple[str, int]) -> None:
    relay = Relay()
    relay.serve(listener, [target])
    await asyncio.Event().wait()


def _wait_for(client: Space, family: int, to: tuple[str, int]) -> None:
    deadline = time.monotonic() + 10
    while True:
        with client.open(family) as probe:
            if not probe.connect_ex(to):
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens at {to}")


def main(arguments: Iterable[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args(list(arguments))
    if ctypes.CDLL(None).unshare(0x40000000):
        raise SystemExit("needs root, for network namespaces of its own")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {os.uname().release}")
    spaces: list[Space] = []

    def make() -> Space:
        spaces.append(Space())
        return spaces[-1]

    with tempfile.TemporaryDirectory() as directory:
        host = Host(make, Path(directory))
        paths = Paths(Path(directory) / "run", Path(directory) / "state")
        try:
            with Site(host, paths, "bench") as site:
                setting_up(site, options.containers)
                carrying(site, options.seconds)
        finally:
            for space in spaces:
                space.end()


if __name__ == "__main__":
    main(sys.argv[1:])
