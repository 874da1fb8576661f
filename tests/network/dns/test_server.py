"""The resolver over real sockets, each asker in a network namespace of its own."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator
from functools import partial

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.network.dns import server
from composer.network.dns.server import Resolver
from composer.network.dns.zone import EndpointName, Zone, zone
from tests.network.dns.places import ADDRESS, Place, Served, place, served

pytestmark = pytest.mark.kernel

STACK = zone(
    [
        *[
            EndpointName("shop_default", f"shop-web-{n}", "web", f"{n:012x}", ("www",), (f"10.1.0.{n}",))
            for n in (1, 2, 3)
        ],
        EndpointName("shop_default", "shop-db-1", "db", "abcdefabcdef", (), ("10.1.0.9", "fd00::9")),
        EndpointName("shop_default", "shop-job-1", "job"),
        EndpointName("shop_back", "shop-db-1", "db", "abcdefabcdef", (), ("10.2.0.9",)),
        EndpointName("shop_back", "shop-cache-1", "cache", "fedcbafedcba", (), ("10.2.0.7",)),
    ]
)
WEB = {"10.1.0.1", "10.1.0.2", "10.1.0.3"}


def replicas(count: int) -> Zone:
    return zone(
        EndpointName(
            "shop_default", f"shop-web-{n}", "web", addresses=(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}",)
        )
        for n in range(count)
    )


@pytest.fixture
def container() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.fixture
def resolver() -> Iterator[Served]:
    """A resolver that forwards nothing."""
    with place() as host, served(host) as made:
        made.call(lambda r: r.set_zone(lambda: STACK))
        yield made


@pytest.fixture
def web(resolver: Served, container: Place) -> Served:
    """The same, and `container` is on shop_default."""
    udp, tcp = container.resolver_sockets()
    resolver.call(lambda r: r.add("shop-web-1", udp, tcp, networks=("shop_default",)))
    return resolver


def ask(where: Place, name: str, kind: str = "A", **more: object) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **more)  # type: ignore[arg-type]
    with where.client() as sock:
        sock.send(query.to_wire())
        reply = dns.message.from_wire(sock.recv(65535))
    assert query.is_response(reply)
    return reply


def ask_by_tcp(sock: socket.socket, name: str, kind: str = "A") -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    dns.query.send_tcp(sock, query)
    reply, _ = dns.query.receive_tcp(sock)
    assert query.is_response(reply)
    return reply


def texts(reply: dns.message.Message) -> set[str]:
    return {record.to_text() for rrset in reply.answer for record in rrset}


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "expected"),
    [
        ("web", "A", "NOERROR", WEB),
        ("wEb.Shop_Default", "A", "NOERROR", WEB),
        ("www", "A", "NOERROR", WEB),
        ("shop-web-2", "A", "NOERROR", {"10.1.0.2"}),
        ("000000000002", "A", "NOERROR", {"10.1.0.2"}),
        ("db", "A", "NOERROR", {"10.1.0.9"}),
        ("db", "AAAA", "NOERROR", {"fd00::9"}),
        ("db", "ANY", "NOERROR", {"10.1.0.9"}),
        ("9.0.1.10.in-addr.arpa", "PTR", "NOERROR", {"shop-db-1.shop_default."}),
        ("web", "AAAA", "NOERROR", set()),
        ("web", "TYPE65", "NOERROR", set()),
        ("job", "A", "NOERROR", set()),
        ("cache", "A", "NXDOMAIN", set()),
        ("cache.shop_back", "A", "NXDOMAIN", set()),
        ("7.0.2.10.in-addr.arpa", "PTR", "NXDOMAIN", set()),
        ("nobody", "A", "NXDOMAIN", set()),
        ("nobody", "AAAA", "NXDOMAIN", set()),
        ("x.web", "A", "NXDOMAIN", set()),
    ],
)
def test_answers(web: Served, container: Place, name: str, kind: str, rcode: str, expected: set[str]) -> None:
    for _ in range(2):  # the second comes from the ready answers
        reply = ask(container, name, kind)
        assert (dns.rcode.to_text(reply.rcode()), texts(reply)) == (rcode, expected)
    with container.client(socket.SOCK_STREAM) as sock:
        reply = ask_by_tcp(sock, name, kind)
        assert (dns.rcode.to_text(reply.rcode()), texts(reply)) == (rcode, expected)


def test_nobody_may_keep_an_answer(web: Served, container: Place) -> None:
    assert {rrset.ttl for rrset in ask(container, "web").answer} == {0}
    assert not ask(container, "nobody").authority


def test_each_asker_sees_the_networks_it_is_on(resolver: Served) -> None:
    with place() as front, place() as back, place() as both:
        for number, (where, networks) in enumerate(
            [(front, ("shop_default",)), (back, ("shop_back",)), (both, ("shop_back", "shop_default"))]
        ):
            udp, tcp = where.resolver_sockets()
            resolver.call(partial(Resolver.add, asker=str(number), udp=udp, tcp=tcp, networks=networks))
        assert texts(ask(front, "db")) == {"10.1.0.9"}
        assert texts(ask(back, "db")) == texts(ask(both, "db")) == {"10.2.0.9"}
        assert texts(ask(both, "web")) == WEB
        assert ask(back, "web").rcode() == dns.rcode.NXDOMAIN


def test_links_are_names_for_one_asker(resolver: Served) -> None:
    with place() as one, place() as other:
        for where, links in (one, {"Database": "db", "web": "shop-web-2", "lost": "cache"}), (other, {}):
            udp, tcp = where.resolver_sockets()
            on = "shop_default"
            resolver.call(
                partial(Resolver.add, asker=str(where.fd), udp=udp, tcp=tcp, networks=(on,), links=links)
            )
        assert texts(ask(one, "database")) == {"10.1.0.9"}
        assert texts(ask(one, "web")) == {"10.1.0.2"}
        assert ask(one, "lost").rcode() == dns.rcode.NXDOMAIN
        assert ask(other, "database").rcode() == dns.rcode.NXDOMAIN
        assert texts(ask(other, "web")) == WEB


def test_a_change_is_seen_by_the_next_question(web: Served, container: Place) -> None:
    for count in (1, 2, 0, 3):
        web.call(partial(Resolver.set_zone, zone=partial(replicas, count)))
        reply = ask(container, "web")
        assert len(texts(reply)) == count
        assert reply.rcode() == (dns.rcode.NOERROR if count else dns.rcode.NXDOMAIN)


def test_an_asker_moves_to_another_network(web: Served, container: Place) -> None:
    web.call(lambda r: r.change("shop-web-1", networks=("shop_back",)))
    assert texts(ask(container, "cache")) == {"10.2.0.7"}
    assert ask(container, "web").rcode() == dns.rcode.NXDOMAIN


def test_no_answer_is_wrong_while_the_zone_changes(web: Served, container: Place) -> None:
    """Every answer is one of the two zones' whole truth, and the last zone's once it was set."""
    done = threading.Event()

    def change() -> None:
        for n in range(300):
            web.call(partial(Resolver.set_zone, zone=partial(replicas, 3 + 4 * (n % 2))))
        done.set()

    thread = threading.Thread(target=change)
    thread.start()
    seen = set()
    while not done.is_set():
        seen.add(len(texts(ask(container, "web"))))
    thread.join()
    assert seen <= {3, 7}
    assert len(texts(ask(container, "web"))) == 7


def test_questions_asked_while_nobody_served_are_answered_later(resolver: Served, container: Place) -> None:
    udp, tcp = container.resolver_sockets()
    query = dns.message.make_query("web", "A")
    with container.client() as by_udp, container.client(socket.SOCK_STREAM) as by_tcp:
        by_udp.send(query.to_wire())
        dns.query.send_tcp(by_tcp, query)
        resolver.call(lambda r: r.add("web", udp, tcp, networks=("shop_default",)))
        assert texts(dns.message.from_wire(by_udp.recv(512))) == WEB
        assert texts(dns.query.receive_tcp(by_tcp)[0]) == WEB


def test_closing_leaves_the_sockets_to_others(resolver: Served, container: Place) -> None:
    udp, tcp = container.resolver_sockets()
    kept = udp.dup(), tcp.dup()
    resolver.call(lambda r: r.add("web", udp, tcp, networks=("shop_default",)))
    resolver.call(lambda r: r.remove("web"))
    resolver.call(lambda r: r.remove("web"))
    assert (udp.fileno(), tcp.fileno()) == (-1, -1)
    resolver.call(lambda r: r.add("web", *kept, networks=("shop_default",)))
    assert texts(ask(container, "web")) == WEB


def test_an_asker_is_added_once(web: Served) -> None:
    with place() as other:
        udp, tcp = other.resolver_sockets()
        with udp, tcp, pytest.raises(ValueError, match="already"):
            web.call(lambda r: r.add("shop-web-1", udp, tcp, networks=()))


# -- size --


@pytest.mark.parametrize("count", [30, 31, 4000, 6000])
def test_thousands_of_replicas(web: Served, container: Place, count: int) -> None:
    web.call(lambda r: r.set_zone(lambda: replicas(count)))
    plain = ask(container, "web")
    assert len(texts(plain)) == 30
    assert bool(plain.flags & dns.flags.TC) is (count > 30)
    wide = ask(container, "web", use_edns=0, payload=4096)
    assert len(texts(wide)) == min(count, 254)
    with container.client(socket.SOCK_STREAM) as sock:
        whole = ask_by_tcp(sock, "web")
    assert len(texts(whole)) == min(count, 4094)
    assert bool(whole.flags & dns.flags.TC) is (count > 4094)


def test_every_replica_comes_first_in_turn(web: Served, container: Place) -> None:
    firsts = [ask(container, "web").answer[0][0].to_text() for _ in range(30)]
    assert {address: firsts.count(address) for address in WEB} == dict.fromkeys(WEB, 10)


# -- harm --


def still_there(where: Place) -> bool:
    return texts(ask(where, "web")) == WEB


def test_packets_that_are_no_questions(web: Served, container: Place) -> None:
    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.one_of(st.binary(max_size=80), st.binary(max_size=9000), mutated()))
    def throw(data: bytes) -> None:
        with container.client() as sock:
            sock.send(data)

    throw()
    assert still_there(container)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(dns.message.make_query("web.shop_default", "A", use_edns=0).to_wire())
    for _ in range(draw(st.integers(1, 5))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def test_a_reply_is_never_replied_to(web: Served, container: Place) -> None:
    reply = dns.message.make_response(dns.message.make_query("web", "A"))
    with container.client() as sock:
        sock.send(reply.to_wire())
        assert still_there(container)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(512)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\5hello",
        b"\xff\xff" + bytes(70000),
        b"\x10\x01" + bytes(4097),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\x0c" + bytes(12),
        (b"\0\x0c" + bytes(12)) * 1000,
    ],
)
def test_streams_that_are_no_questions(web: Served, container: Place, data: bytes) -> None:
    with container.client(socket.SOCK_STREAM) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError as error:
            assert error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
    assert still_there(container)


def test_a_question_in_pieces_and_several_in_one(web: Served, container: Place) -> None:
    query = dns.message.make_query("web", "A")
    wire = query.to_wire()
    with container.client(socket.SOCK_STREAM) as sock:
        for octet in len(wire).to_bytes(2) + wire:
            sock.send(bytes((octet,)))
        assert texts(dns.query.receive_tcp(sock)[0]) == WEB
        sock.sendall((len(wire).to_bytes(2) + wire) * 50)
        assert [texts(dns.query.receive_tcp(sock)[0]) for _ in range(50)] == [WEB] * 50


def test_connections_that_say_nothing_keep_nobody_else_from_asking(web: Served, container: Place) -> None:
    idle = [container.client(socket.SOCK_STREAM) for _ in range(server.MAX_CONNECTIONS + 5)]
    assert still_there(container)
    with container.client(socket.SOCK_STREAM) as late:
        dns.query.send_tcp(late, dns.message.make_query("web", "A"))
        for sock in idle:
            sock.close()
        assert texts(dns.query.receive_tcp(late)[0]) == WEB


def test_an_asker_that_goes_takes_its_connections_along(web: Served, container: Place) -> None:
    with container.client(socket.SOCK_STREAM) as one, container.client(socket.SOCK_STREAM) as other:
        assert texts(ask_by_tcp(one, "web")) == texts(ask_by_tcp(other, "web")) == WEB
        web.call(lambda r: r.remove("shop-web-1"))
        assert one.recv(1) == other.recv(1) == b""


def test_a_connection_that_says_nothing_is_closed(
    web: Served, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE", 0.05)
    with container.client(socket.SOCK_STREAM) as sock:
        assert sock.recv(1) == b""


def test_a_flood_from_one_container_does_not_silence_another(web: Served, container: Place) -> None:
    wire = dns.message.make_query("web", "A").to_wire()
    done = threading.Event()

    def flood() -> None:
        with container.client() as udp, container.client(socket.SOCK_STREAM) as tcp:
            udp.setblocking(False)
            tcp.setblocking(False)
            while not done.is_set():
                for sock, data in (udp, wire), (tcp, (len(wire).to_bytes(2) + wire) * 100):
                    try:
                        sock.send(data)
                        sock.recv(65536)
                    except BlockingIOError:
                        pass

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        with place() as other:
            udp, tcp = other.resolver_sockets()
            web.call(lambda r: r.add("other", udp, tcp, networks=("shop_default",)))
            for _ in range(100):
                assert still_there(other)
    finally:
        done.set()
        thread.join()


def test_many_different_questions_do_not_fill_the_memory(web: Served, container: Place) -> None:
    with container.client() as sock:
        for number in range(300, 300 + 3 * server.MAX_HOT):
            sock.send(dns.message.make_query("web", f"TYPE{number}").to_wire())
            sock.recv(512)
    assert web.call(lambda r: [len(view.hot) for view in r._views.values()]) <= [server.MAX_HOT]
    assert still_there(container)


def test_out_of_descriptors_for_a_while(
    web: Served, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BREATH", 0.05)
    query = dns.message.make_query("web", "A")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with container.client() as by_udp, container.open(socket.SOCK_STREAM) as by_tcp:
        by_tcp.settimeout(10)
        with os.fdopen(os.dup(by_tcp.fileno())) as last:
            resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno(), hard))
            try:
                by_tcp.connect(ADDRESS)
                for _ in range(3):  # the loop comes round, and cannot accept
                    by_udp.send(query.to_wire())
                    assert texts(dns.message.from_wire(by_udp.recv(512))) == WEB
                assert not web.call(lambda r: r._askers["shop-web-1"].connections)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert texts(ask_by_tcp(by_tcp, "web")) == WEB


def test_a_question_with_a_long_tail(web: Served, container: Place) -> None:
    padding = dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(400))
    for _ in range(2):
        assert texts(ask(container, "web", use_edns=0, options=[padding])) == WEB


def test_a_container_may_serve_port_53_itself(web: Served, container: Place) -> None:
    with container.open() as own:
        own.bind(("127.0.0.1", 53))
        with container.open() as asker:
            asker.connect(("127.0.0.1", 53))
            asker.send(b"mine")
            assert own.recv(10) == b"mine"
    assert still_there(container)
