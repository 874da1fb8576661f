"""Names that are not ours, put to upstreams that do well, badly or nothing at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest

from composer.network.dns import forward, server
from tests.network.dns.places import Place, Served, place, served
from tests.network.dns.test_server import STACK, ask, ask_by_tcp, texts
from tests.network.dns.upstream import Behaviour, Upstream, answer

pytestmark = pytest.mark.kernel

ONE, TWO, THREE = "127.0.0.2", "127.0.0.3", "127.0.0.4"


@pytest.fixture
def host() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.fixture
def container() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.fixture
def web(host: Place, container: Place) -> Iterator[Served]:
    """A resolver of three upstreams, with one asker."""
    udp, tcp = container.resolver_sockets()
    with served(host, (ONE, TWO, THREE)) as made:
        made.call(lambda r: r.set_zone(lambda: STACK))
        made.call(lambda r: r.add("shop-web-1", udp, tcp, networks=("shop_default",)))
        yield made


def says(*values: str, ttl: int = 300, rcode: str = "NOERROR") -> Callable[[dns.message.Message], bytes]:
    def behave(query: dns.message.Message) -> bytes:
        reply = answer(query, *values, ttl=ttl)
        reply.set_rcode(dns.rcode.from_text(rcode))
        return reply.to_wire(max_size=65535)

    return behave


def quiet(_: dns.message.Message) -> None:
    return None


def cut(query: dns.message.Message) -> bytes:
    reply = answer(query, "192.0.2.1")
    reply.flags |= dns.flags.TC
    return reply.to_wire()


def many(query: dns.message.Message) -> bytes:
    return answer(query, *[f"192.0.2.{n}" for n in range(200)]).to_wire(max_size=65535)


def test_other_names_are_looked_up_outside(web: Served, host: Place, container: Place) -> None:
    with Upstream(host, ONE, says("192.0.2.1", "192.0.2.2")) as upstream:
        reply = ask(container, "Example.ORG")
    assert texts(reply) == {"192.0.2.1", "192.0.2.2"}
    assert not reply.flags & dns.flags.AA
    assert reply.flags & dns.flags.RA
    assert [(transport, query.question[0].name.to_text()) for transport, query, _ in upstream.asked] == [
        ("udp", "example.org.")
    ]


def test_our_names_never_leave(web: Served, host: Place, container: Place) -> None:
    with Upstream(host, ONE, says("192.0.2.1")) as upstream:
        for name, kind in ("web", "AAAA"), ("web", "MX"), ("job", "A"), ("db", "A"):
            assert not texts(ask(container, name, kind)) & {"192.0.2.1"}
    assert not upstream.asked


def test_networks_without_way_out_ask_nobody(web: Served, host: Place, container: Place) -> None:
    web.call(lambda r: r.change("shop-web-1", networks=("shop_default",), upstreams=()))
    with Upstream(host, ONE, says("192.0.2.1")) as upstream:
        assert ask(container, "example.org").rcode() == dns.rcode.NXDOMAIN
        assert texts(ask(container, "db")) == {"10.1.0.9"}
    assert not upstream.asked


def test_a_services_own_upstreams_come_instead_of_the_hosts(
    web: Served, host: Place, container: Place
) -> None:
    web.call(lambda r: r.change("shop-web-1", networks=("shop_default",), upstreams=(THREE,)))
    with Upstream(host, ONE, says("192.0.2.1")) as first, Upstream(host, THREE, says("192.0.2.3")):
        assert texts(ask(container, "example.org")) == {"192.0.2.3"}
    assert not first.asked


def test_ports_and_ids_are_drawn_anew_for_each_question(web: Served, host: Place, container: Place) -> None:
    with Upstream(host, ONE, says("192.0.2.1", ttl=0)) as upstream:
        for _ in range(20):
            ask(container, "example.org")
    assert len({query.id for _, query, _ in upstream.asked}) > 15
    assert len({port for _, _, port in upstream.asked}) > 15


# -- keeping --


def test_a_reply_is_kept_for_its_time(web: Served, host: Place, container: Place) -> None:
    with Upstream(host, ONE, says("192.0.2.1")) as upstream:
        for name in ("example.org", "EXAMPLE.org", "example.org"):
            assert texts(ask(container, name)) == {"192.0.2.1"}
        with container.client(socket.SOCK_STREAM) as sock:
            assert texts(ask_by_tcp(sock, "example.org")) == {"192.0.2.1"}
        assert len(upstream.asked) == 1
        ask(container, "example.org", "AAAA")
        assert len(upstream.asked) == 2


@pytest.mark.parametrize(
    "behave",
    [says("192.0.2.1", ttl=0), says(rcode="NXDOMAIN"), says(rcode="SERVFAIL")],
    ids=["0", "no SOA", "fail"],
)
def test_what_may_not_be_kept_is_asked_again(
    web: Served, host: Place, container: Place, behave: Behaviour
) -> None:
    with Upstream(host, ONE, behave) as upstream:
        for _ in range(3):
            ask(container, "example.org")
    assert len(upstream.asked) == 3


def test_a_negative_reply_is_kept_as_its_soa_says(web: Served, host: Place, container: Place) -> None:
    def behave(query: dns.message.Message) -> bytes:
        reply = answer(query)
        reply.set_rcode(dns.rcode.NXDOMAIN)
        reply.authority.append(dns.rrset.from_text("org.", 900, "IN", "SOA", "a.org. b.org. 1 2 3 4 60"))
        return reply.to_wire()

    with Upstream(host, ONE, behave) as upstream:
        for _ in range(3):
            reply = ask(container, "example.org")
            assert reply.rcode() == dns.rcode.NXDOMAIN
            assert len(reply.authority) == 1
    assert len(upstream.asked) == 1


def test_a_reply_is_asked_for_again_when_its_time_is_over(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MAX_AGE", 0.05)
    deadline = time.monotonic() + 10
    with Upstream(host, ONE, says("192.0.2.1")) as upstream:
        while len(upstream.asked) < 2 and time.monotonic() < deadline:
            assert texts(ask(container, "example.org")) == {"192.0.2.1"}
    assert len(upstream.asked) == 2


def test_other_upstreams_forget_what_was_kept(web: Served, host: Place, container: Place) -> None:
    with Upstream(host, ONE, says("192.0.2.1")), Upstream(host, TWO, says("192.0.2.2")):
        assert texts(ask(container, "example.org")) == {"192.0.2.1"}
        web.call(lambda r: r.set_upstreams((TWO,)))
        assert texts(ask(container, "example.org")) == {"192.0.2.2"}


def test_what_is_kept_is_bounded(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "MAX_KEPT", 5)
    with Upstream(host, ONE, says("192.0.2.1")) as upstream:
        for number in range(20):
            ask(container, f"{number}.example.org")
        assert web.call(lambda r: len(r._forwarder._kept)) == 5
        ask(container, "19.example.org")
        assert len(upstream.asked) == 20
        ask(container, "0.example.org")
        assert len(upstream.asked) == 21


def test_what_many_ask_at_once_is_put_once(web: Served, host: Place, container: Place) -> None:
    asked, go = threading.Event(), threading.Event()

    def behave(query: dns.message.Message) -> bytes:
        asked.set()
        go.wait(10)
        return says("192.0.2.1", ttl=0)(query)

    with Upstream(host, ONE, behave) as upstream, container.client() as sock:
        for ident in range(20):
            sock.send(dns.message.make_query("example.org", "A", id=ident).to_wire())
        asked.wait(10)
        assert web.call(lambda r: len(r._askers["shop-web-1"].forwarded)) == 20
        go.set()
        replies = [dns.message.from_wire(sock.recv(512)) for _ in range(20)]
    assert {reply.id for reply in replies} == set(range(20))
    assert len(upstream.asked) == 1


# -- failing --


def test_an_upstream_that_does_not_listen_costs_nothing(web: Served, host: Place, container: Place) -> None:
    with Upstream(host, THREE, says("192.0.2.3")):
        assert texts(ask(container, "example.org")) == {"192.0.2.3"}


def test_no_upstream_at_all_is_told_at_once(web: Served, container: Place) -> None:
    assert ask(container, "example.org").rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    "odd", ["", "no address", "\0", "127.0.0.1/8", "x" * 300, "fe80::1%gone", "2001:db8::1"]
)
def test_an_upstream_that_cannot_be_reached_is_passed_over(
    web: Served, host: Place, container: Place, odd: str
) -> None:
    web.call(lambda r: r.change("shop-web-1", networks=(), upstreams=(odd, TWO)))
    with Upstream(host, TWO, says("192.0.2.2")):
        assert texts(ask(container, "example.org")) == {"192.0.2.2"}


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
def test_a_failing_upstream_is_passed_over(web: Served, host: Place, container: Place, rcode: str) -> None:
    with Upstream(host, ONE, says(rcode=rcode)):
        assert dns.rcode.to_text(ask(container, "example.org").rcode()) == rcode
        with Upstream(host, TWO, says("192.0.2.2")):
            assert texts(ask(container, "example.org")) == {"192.0.2.2"}


def test_a_quiet_upstream_is_passed_over_and_asked_last_next_time(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "STAGGER", 0.05)
    with Upstream(host, ONE, quiet) as first, Upstream(host, TWO, says("192.0.2.2", ttl=0)):
        for _ in range(3):
            assert texts(ask(container, "example.org")) == {"192.0.2.2"}
        assert len(first.asked) == 1


def test_a_slow_upstream_may_still_answer(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "STAGGER", 0.05)
    others = threading.Event()

    def slow(query: dns.message.Message) -> bytes:
        others.wait(10)
        return says("192.0.2.1")(query)

    def note(_: dns.message.Message) -> None:
        others.set()

    with Upstream(host, ONE, slow), Upstream(host, TWO, note):
        assert texts(ask(container, "example.org")) == {"192.0.2.1"}


def test_a_lost_packet_is_sent_again(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "RESEND", 0.05)
    seen: list[int] = []

    def second(query: dns.message.Message) -> bytes | None:
        seen.append(query.id)
        return says("192.0.2.1")(query) if len(seen) > 1 else None

    web.call(lambda r: r.set_upstreams((ONE,)))
    with Upstream(host, ONE, second):
        assert texts(ask(container, "example.org")) == {"192.0.2.1"}
    assert len(set(seen)) == 1


def test_when_nobody_answers_in_time_the_asker_is_told(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "STAGGER", 0.01)
    monkeypatch.setattr(forward, "DEADLINE", 0.1)
    with Upstream(host, ONE, quiet), Upstream(host, TWO, quiet), Upstream(host, THREE, quiet):
        assert ask(container, "example.org").rcode() == dns.rcode.SERVFAIL
        with container.client(socket.SOCK_STREAM) as sock:
            assert ask_by_tcp(sock, "example.org").rcode() == dns.rcode.SERVFAIL
    assert web.call(lambda r: r._forwarder._asking) == {}


def test_questions_that_wait_are_bounded(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_FORWARDED", 8)
    with Upstream(host, ONE, quiet), container.client() as sock:
        for number in range(20):
            sock.send(dns.message.make_query(f"{number}.example.org", "A").to_wire())
        told = [dns.message.from_wire(sock.recv(512)) for _ in range(12)]
        assert {reply.rcode() for reply in told} == {dns.rcode.SERVFAIL}
        assert texts(ask(container, "db")) == {"10.1.0.9"}
        web.call(lambda r: r.remove("shop-web-1"))


def test_one_asker_waiting_does_not_take_all_places(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.MAX_FORWARDED * 2 < forward.MAX_QUESTIONS
    monkeypatch.setattr(forward, "MAX_QUESTIONS", 3)
    with Upstream(host, ONE, quiet), container.client() as sock:
        for number in range(5):
            sock.send(dns.message.make_query(f"{number}.example.org", "A").to_wire())
        told = [dns.message.from_wire(sock.recv(512)) for _ in range(2)]
    assert {reply.rcode() for reply in told} == {dns.rcode.SERVFAIL}


# -- size --


def test_a_cut_reply_is_fetched_whole_by_tcp(web: Served, host: Place, container: Place) -> None:
    with Upstream(host, ONE, cut, many) as upstream:
        plain = ask(container, "example.org")
        wide = ask(container, "example.org", use_edns=0, payload=4096)
        with container.client(socket.SOCK_STREAM) as sock:
            whole = ask_by_tcp(sock, "example.org")
    assert plain.flags & dns.flags.TC
    assert 20 < len(texts(plain)) < 32
    assert len(texts(wide)) == len(texts(whole)) == 200
    assert [transport for transport, _, _ in upstream.asked] == ["udp", "tcp"]


def test_without_tcp_a_cut_reply_is_passed_on_as_such(web: Served, host: Place, container: Place) -> None:
    with Upstream(host, ONE, cut, quiet):
        reply = ask(container, "example.org")
    assert reply.flags & dns.flags.TC
    assert texts(reply) == {"192.0.2.1"}


def test_an_upstream_that_hangs_by_tcp_as_well(
    web: Served, host: Place, container: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "TCP_PATIENCE", 0.05)
    done = threading.Event()

    def hang(_: dns.message.Message) -> None:
        done.wait(10)

    with Upstream(host, ONE, cut, hang):
        assert texts(ask(container, "example.org")) == {"192.0.2.1"}
        done.set()


def test_an_upstream_that_knows_no_edns(web: Served, host: Place, container: Place) -> None:
    def old(query: dns.message.Message) -> bytes:
        if query.edns < 0:
            return says("192.0.2.1")(query)
        return query.id.to_bytes(2) + bytes.fromhex("81810000000000000000")

    with Upstream(host, ONE, old) as upstream:
        assert texts(ask(container, "example.org", use_edns=0)) == {"192.0.2.1"}
    assert [query.edns for _, query, _ in upstream.asked] == [0, -1]


# -- forgery --


def other_id(query: dns.message.Message) -> bytes:
    query.id ^= 1
    return says("6.6.6.6")(query)


def other_name(query: dns.message.Message) -> bytes:
    forged = dns.message.make_query("evil.example", "A", id=query.id)
    return says("6.6.6.6")(forged)


def other_type(query: dns.message.Message) -> bytes:
    forged = dns.message.make_query(query.question[0].name, "AAAA", id=query.id)
    return dns.message.make_response(forged).to_wire()


def a_question(query: dns.message.Message) -> bytes:
    return query.to_wire()


def broken(query: dns.message.Message) -> bytes:
    return says("6.6.6.6")(query)[:-3]


def rubbish(_: dns.message.Message) -> bytes:
    return b"\xff" * 40


@pytest.mark.parametrize("forge", [other_id, other_name, other_type, a_question, broken, rubbish])
def test_what_is_no_reply_to_the_question_is_not_heard(
    web: Served, host: Place, container: Place, forge: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "STAGGER", 0.05)
    with Upstream(host, ONE, forge), Upstream(host, TWO, says("192.0.2.2")):
        assert texts(ask(container, "example.org")) == {"192.0.2.2"}


def test_a_reply_from_elsewhere_is_not_heard(web: Served, host: Place, container: Place) -> None:
    """The kernel drops what does not come from the upstream that was asked, whatever it says."""
    with host.open() as other:
        other.bind((TWO, 53))

        def overtaken(query: dns.message.Message) -> bytes:
            other.sendto(says("6.6.6.6")(query), (ONE, upstream.asked[-1][2]))
            other.sendto(says("6.6.6.6")(query), ("127.0.0.1", upstream.asked[-1][2]))
            return says("192.0.2.1")(query)

        with Upstream(host, ONE, overtaken) as upstream:
            assert texts(ask(container, "example.org")) == {"192.0.2.1"}
