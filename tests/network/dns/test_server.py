"""The resolver over real sockets, each asker in a network namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator

import dns.message
import dns.rcode
import pytest

from composer.network.dns.zone import EndpointName, zone
from tests.network.dns.places import Place, Served, place, served

pytestmark = pytest.mark.kernel

STACK = zone(
    [
        *[
            EndpointName("shop_default", f"shop-web-{n}", "web", f"{n:012x}", ("www",), (f"10.1.0.{n}",))
            for n in (1, 2, 3)
        ],
        EndpointName("shop_default", "shop-db-1", "db", "abcdefabcdef", (), ("10.1.0.9", "fd00::9")),
        EndpointName("shop_back", "shop-db-1", "db", "abcdefabcdef", (), ("10.2.0.9",)),
        EndpointName("shop_back", "shop-cache-1", "cache", "fedcbafedcba", (), ("10.2.0.7",)),
    ]
)


@pytest.fixture
def container() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.fixture
def resolver(container: Place) -> Iterator[Served]:
    """A resolver that forwards nothing, with one asker on shop_default."""
    udp, tcp = container.resolver_sockets()
    with place() as host, served(host) as made:
        made.call(lambda r: r.set_zone(STACK))
        made.call(lambda r: r.add("shop-web-1", udp, tcp, networks=("shop_default",)))
        yield made


def ask(where: Place, name: str, kind: str = "A") -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    with where.client() as sock:
        sock.send(query.to_wire())
        reply = dns.message.from_wire(sock.recv(4096))
    assert query.is_response(reply)
    return reply


def texts(reply: dns.message.Message) -> set[str]:
    return {record.to_text() for rrset in reply.answer for record in rrset}


def test_a_service_is_all_its_containers(resolver: Served, container: Place) -> None:
    assert texts(ask(container, "web")) == {"10.1.0.1", "10.1.0.2", "10.1.0.3"}
    assert ask(container, "web").rcode() == dns.rcode.NOERROR


def test_names_of_networks_not_shared_do_not_exist(resolver: Served, container: Place) -> None:
    assert ask(container, "cache").rcode() == dns.rcode.NXDOMAIN
    assert texts(ask(container, "db")) == {"10.1.0.9"}
