"""The resolver as the programs in containers use it: glibc, busybox, dig, Python."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest

from composer.network.dns.resolvconf import container_text
from tests.network.dns.places import Place, place, served
from tests.network.dns.test_forward import ONE, says
from tests.network.dns.test_server import STACK, WEB, replicas
from tests.network.dns.upstream import Upstream

pytestmark = pytest.mark.kernel

ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b|\bfd00:[0-9a-f:]+")


def world(query: dns.message.Message) -> bytes:
    known = query.question[0].name.to_text() == "www.example.org."
    return says("192.0.2.1")(query) if known else says(rcode="NXDOMAIN")(query)


class Container:
    """A place where names are looked up with a resolv.conf made from the host's."""

    def __init__(self, where: Place, resolv_conf: Path) -> None:
        self.where = where
        self.resolv_conf = resolv_conf
        for address in (
            "10.1.0.1/32",
            "fd00::1/128",
        ):  # glibc asks for no family that the host has no address of
            self.run("ip", "address", "add", address, "dev", "lo")

    def run(self, *argv: str, status: int = 0) -> str:
        if not shutil.which(argv[0]):
            pytest.skip(f"{argv[0]} is not installed")
        done = self.where.command(list(argv), self.resolv_conf)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def found(self, *argv: str) -> set[str]:
        return set(ADDRESS.findall(self.run(*argv))) - {"127.0.0.11"}


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(container_text(f"nameserver {ONE}\nsearch lan.example\noptions edns0 trust-ad\n"))
    with place() as host, place() as where, served(host, (ONE,)) as resolver:
        udp, tcp = where.resolver_sockets()
        with Upstream(host, ONE, world):
            resolver.call(lambda r: r.set_zone(lambda: STACK))
            resolver.call(lambda r: r.add("web", udp, tcp, networks=("shop_default",)))
            made = Container(where, resolv_conf)
            yield made


def test_glibc(container: Container) -> None:
    assert container.found("getent", "ahostsv4", "web") == WEB
    assert container.found("getent", "ahosts", "db") == {"10.1.0.9", "fd00::9"}
    assert container.found("getent", "ahosts", "web.shop_default") == WEB
    assert container.found("getent", "ahostsv4", "www.example.org") == {"192.0.2.1"}
    assert "shop-db-1.shop_default" in container.run("getent", "hosts", "10.1.0.9")
    assert "shop-db-1.shop_default" in container.run("getent", "hosts", "fd00::9")


def test_glibc_is_told_that_a_name_has_no_address(container: Container) -> None:
    assert container.run("getent", "ahosts", "job", status=2) == ""


@pytest.mark.parametrize("option", ["use-vc", "single-request", "ndots:5", "timeout:1 attempts:1"])
def test_glibc_with_other_options(container: Container, option: str) -> None:
    text = container.resolv_conf.read_text().replace("search lan.example\n", "")
    container.resolv_conf.write_text(text + f"options {option}\n")
    assert container.found("getent", "ahostsv4", "web") == WEB


def test_busybox(container: Container) -> None:
    container.resolv_conf.write_text(
        container_text("")
    )  # its nslookup tries a search domain or the name, not both
    assert container.found("busybox", "nslookup", "db") == {"10.1.0.9", "fd00::9"}
    assert container.found("busybox", "nslookup", "-type=a", "web") == WEB
    assert "shop-db-1.shop_default" in container.run("busybox", "nslookup", "10.1.0.9")
    assert "NXDOMAIN" in container.run("busybox", "nslookup", "cache.shop_back.", status=1)


def test_dig(container: Container) -> None:
    assert container.found("dig", "+short", "web") == WEB
    assert container.found("dig", "+short", "+tcp", "web") == WEB
    assert container.found("dig", "+short", "+noedns", "web") == WEB
    assert container.found("dig", "+short", "AAAA", "db") == {"fd00::9"}
    assert container.run("dig", "+short", "-x", "10.1.0.9") == "shop-db-1.shop_default.\n"
    assert "status: NOERROR" in container.run("dig", "TXT", "web")
    assert "status: REFUSED" in container.run("dig", "CH", "TXT", "version.bind")
    assert "status: NOTIMP" in container.run("dig", "+opcode=UPDATE", "web")
    assert "status: BADVERS" in container.run("dig", "+edns=1", "+noednsnegotiation", "web")


def test_python_in_the_container(container: Container) -> None:
    code = "import socket; print({i[4][0] for i in socket.getaddrinfo('web', 80)})"
    assert container.found(sys.executable, "-c", code) == WEB


def test_a_service_of_many_replicas_is_looked_up_whole(tmp_path: Path) -> None:
    """glibc goes on by TCP when an answer was cut."""
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(container_text(""))
    with place() as host, place() as where, served(host) as resolver:
        udp, tcp = where.resolver_sockets()
        resolver.call(lambda r: r.set_zone(lambda: replicas(500)))
        resolver.call(lambda r: r.add("web", udp, tcp, networks=("shop_default",)))
        assert len(Container(where, resolv_conf).found("getent", "ahostsv4", "web")) == 500
