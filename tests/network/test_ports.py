"""Reserving host ports, against a real kernel in a namespace of our own."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from composer.errors import ConflictError, UsageError
from composer.network.ports import PortWish, candidates, free, holder, reserve
from tests.network.conftest import Host

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(
    ("published", "ports"), [("", (0,)), ("80", range(80, 81)), ("8000-8002", range(8000, 8003))]
)
def test_candidates(published: str, ports: range) -> None:
    assert candidates(published) == ports


@pytest.mark.parametrize("published", ["0", "65536", "90-80", "a", "80-", "-80", "1-70000", "80.5", " 80"])
def test_what_is_no_port_is_refused(published: str) -> None:
    with pytest.raises(UsageError):
        candidates(published)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_a_port_is_reserved_for_both_ip_versions(host: Host, protocol: str) -> None:
    (first,) = reserve([PortWish(published="8080", protocol=protocol)])
    for host_ip in ("", "127.0.0.1", "::1") if protocol != "sctp" else ("",):
        with pytest.raises(ConflictError, match=f"{protocol} port 8080"):
            reserve([PortWish(host_ip, "8080", protocol)])
    free(first)
    (again,) = reserve([PortWish(published="8080", protocol=protocol)])
    free(again)


def test_a_random_port_is_the_same_for_both_ip_versions(host: Host) -> None:
    (got,) = reserve([PortWish()])
    assert {held.getsockname()[1] for held in got.sockets} == {got.port}
    assert {held.family for held in got.sockets} == {socket.AF_INET, socket.AF_INET6}
    free(got)


def test_a_range_gives_the_first_free_ones_in_order(host: Host) -> None:
    taken = host.listen("127.0.0.1", 8001)
    got = reserve([PortWish("127.0.0.1", "8000-8003")] * 3)
    assert [reservation.port for reservation in got] == [8000, 8002, 8003]
    with pytest.raises(ConflictError, match="every tcp port of 8000-8003 is taken"):
        reserve([PortWish("127.0.0.1", "8000-8003")])
    for reservation in got:
        free(reservation)
    taken.close()


def test_the_holder_is_named(host: Host) -> None:
    script = "import socket; s = socket.create_server(('127.0.0.1', 8080)); print(flush=True); input()"
    with subprocess.Popen(["python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ConflictError) as caught:
            reserve([PortWish(published="8080", owner="web-1")])
        assert caught.value.message == (
            f"web-1: tcp port 8080 of this host is taken by python3 (process {other.pid})"
        )
        other.communicate(b"\n")


def test_a_reservation_names_its_process(host: Host) -> None:
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 8):
        pytest.skip("before Linux 6.8 the kernel tells nobody of a socket that is bound and does not listen")
    (got,) = reserve([PortWish(published="8080")])
    found = holder("tcp", 8080)
    assert found is not None
    assert found.pid == os.getpid()
    free(got)
    assert holder("tcp", 8080) is None


def test_all_or_none(host: Host) -> None:
    (first,) = reserve([PortWish(published="8081")])
    with pytest.raises(ConflictError):
        reserve([PortWish(published="8080"), PortWish(published="8081")])
    (second,) = reserve([PortWish(published="8080")])
    free(first)
    free(second)


def test_remains_of_closed_connections_are_not_in_the_way(host: Host) -> None:
    server = host.listen("127.0.0.1", 8080)
    client = host.open()
    client.connect(("127.0.0.1", 8080))
    accepted, _ = server.accept()
    accepted.close()
    client.recv(1)
    client.close()
    server.close()
    (got,) = reserve([PortWish(published="8080")])
    free(got)


def test_an_address_that_the_host_lacks(host: Host) -> None:
    with pytest.raises(ConflictError, match=r"no address 192\.0\.2\.77"):
        reserve([PortWish("192.0.2.77", "8080")])


def test_nobody_else_gets_a_reserved_port(host: Host) -> None:
    (got,) = reserve([PortWish(published="8080")])
    with pytest.raises(OSError, match="in use"):
        host.listen("127.0.0.1", 8080)
    assert host.open().connect_ex(("127.0.0.1", 8080)) != 0
    free(got)


def test_without_ipv6(host: Host) -> None:
    host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    (got,) = reserve([PortWish(published="8080")])
    assert [held.family for held in got.sockets] == [socket.AF_INET]
    free(got)
