"""The codec, judged by dnspython, and by bytes that mean harm."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from composer.network.dns import message
from composer.network.dns.message import MessageError, Query

LABEL = st.text("abcXYZ-_09", min_size=1, max_size=63)
NAME = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
IDENT = b"\x12\x34"


def ask(name: str, kind: str = "A", **more: object) -> Query:
    return message.parse_query(dns.message.make_query(name, kind, **more).to_wire())  # type: ignore[arg-type]


def wire(name: str) -> bytes:
    data = dns.name.from_text(name).to_wire()
    assert data is not None
    return data


def read(body: bytes) -> dns.message.Message:
    return dns.message.from_wire(IDENT + body)


def addresses(count: int) -> list[bytes]:
    return [message.address_record(f"10.0.{n // 256}.{n % 256}", 0)[1] for n in range(count)]


# -- names --


@given(NAME)
def test_names_are_written_as_dnspython_writes_them(name: str) -> None:
    assert message.encode_name(name) == wire(name).lower()
    assert message.encode_name(name + ".") == message.encode_name(name)


@pytest.mark.parametrize("name", ["", ".", "a..b", ".a", "a" * 64, ".".join(["a" * 63] * 4), "ü" * 32])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(MessageError):
        message.encode_name(name)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6, network="fc00::/7")))
def test_reverse_names(address: object) -> None:
    assert message.reverse_name(str(address)) == dns.reversename.from_address(str(address)).to_wire()


@pytest.mark.parametrize("address", ["", "1.2.3", "1.2.3.4/8", "fe80::1%lo", "::g", "localhost"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        message.address_record(address, 0)
    with pytest.raises(ValueError, match="not an IP address"):
        message.reverse_name(address)


# -- questions --


@given(NAME, st.sampled_from(["A", "AAAA", "PTR", "MX", "ANY", "TYPE65"]), st.booleans())
def test_questions_are_read_whatever_their_case(name: str, kind: str, dnssec: bool) -> None:
    query = ask(name, kind, want_dnssec=dnssec)
    assert query.name == wire(name).lower()
    assert query.type == dns.rdatatype.from_text(kind)
    assert query.dnssec_ok is dnssec
    assert query.question[: len(query.name)] == wire(name)


@pytest.mark.parametrize(
    ("payload", "size"), [(None, 512), (0, 512), (511, 512), (1232, 1232), (4096, 4096), (65535, 4096)]
)
def test_edns_says_how_much_fits(payload: int | None, size: int) -> None:
    query = ask("web") if payload is None else ask("web", use_edns=0, payload=payload)
    assert (query.size, query.edns) == (size, payload is not None)


def test_edns_options_are_stepped_over() -> None:
    options = [
        dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"a cookie"),
        dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(100)),
    ]
    assert ask("web", use_edns=0, options=options).edns


HEADER = bytes.fromhex("123401000001000000000000")
QUESTION = b"\3web\0\0\1\0\1"
ROOT_OPT = bytes.fromhex("00002904d0000000000000")


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (HEADER[:11], None),
        (HEADER[:2] + b"\x81" + HEADER[3:] + QUESTION, None),
        (HEADER, message.FORMERR),
        (HEADER + b"\3we", message.FORMERR),
        (HEADER + b"\3web", message.FORMERR),
        (HEADER + b"\3web\0", message.FORMERR),
        (HEADER + b"\3web\0\0\1\0", message.FORMERR),
        (HEADER + b"\3web\0\0\1\0\3", message.REFUSED),
        (HEADER + b"\xc0\x0c\0\1\0\1", message.FORMERR),
        (HEADER + b"\x40" + bytes(64) + b"\0\0\1\0\1", message.FORMERR),
        (HEADER + b"\x3f" * 64 * 4 + b"\0\0\1\0\1", message.FORMERR),
        (HEADER + QUESTION + b"more", message.FORMERR),
        (HEADER[:2] + b"\x28" + HEADER[3:] + QUESTION, message.NOTIMP),
        (HEADER[:2] + b"\x03" + HEADER[3:] + QUESTION, message.FORMERR),
        (HEADER[:5] + b"\2" + HEADER[6:] + QUESTION * 2, message.FORMERR),
        (HEADER[:5] + b"\0" + HEADER[6:], message.FORMERR),
        (HEADER[:11] + b"\1" + QUESTION, message.FORMERR),
        (HEADER[:10] + b"\xff\xff" + QUESTION + ROOT_OPT, message.FORMERR),
        (HEADER[:11] + b"\2" + QUESTION + ROOT_OPT * 2, message.FORMERR),
        (HEADER[:11] + b"\1" + QUESTION + b"\1a" + ROOT_OPT, message.FORMERR),
        (HEADER[:11] + b"\1" + QUESTION + ROOT_OPT[:6] + b"\1" + ROOT_OPT[7:], message.BADVERS),
        (HEADER + QUESTION + bytes(4096), message.FORMERR),
    ],
)
def test_what_is_no_question(data: bytes, rcode: int | None) -> None:
    with pytest.raises(MessageError) as caught:
        message.parse_query(data)
    assert caught.value.rcode == rcode
    if rcode is not None:
        told = read(message.failure(data, rcode))
        assert told.rcode() == rcode
        assert told.flags & dns.flags.QR


# -- harm --

MESSAGES = [
    dns.message.make_query("web", "A").to_wire(),
    dns.message.make_query("a.long.name.of.some.host.example", "AAAA", use_edns=0).to_wire(),
]


@st.composite
def damaged(draw: st.DrawFn, wires: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(wires)))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data[: draw(st.integers(0, 600))])


@given(
    st.one_of(st.binary(max_size=600), st.binary(max_size=300).map(lambda b: HEADER + b), damaged(MESSAGES))
)
@example(HEADER + QUESTION)
def test_any_bytes_are_a_question_or_an_error(data: bytes) -> None:
    try:
        query = message.parse_query(data)
    except MessageError as error:
        if error.rcode is not None:
            assert read(message.failure(data, error.rcode)).flags & dns.flags.QR
        return
    told = dns.message.from_wire(data[:2] + next(message.answers(query, addresses(40), query.size)))
    assert len(told.to_wire()) <= query.size
    assert wire(told.question[0].name.to_text()).lower() == query.name
    assert message.parse_query(HEADER[:2] + message.question(query, edns=True)).name == query.name


def reply_to(query: dns.message.Message, *answer: str) -> bytes:
    reply = dns.message.make_response(query, recursion_available=True)
    for line in answer:
        name, ttl, kind, *values = line.split("|")
        rrset = dns.rrset.from_text(name, int(ttl), "IN", kind, *values)
        section = reply.authority if kind in ("SOA", "NS") else reply.answer
        section.append(rrset)
    return reply.to_wire(max_size=65535)


ASKED = dns.message.make_query("www.example.org", "A", use_edns=0, id=1)
SOA = "example.org.|900|SOA|ns.example.org. me.example.org. 1 2 3 4 60"
REPLIES = [
    reply_to(ASKED, "www.example.org.|300|A|192.0.2.1|192.0.2.2"),
    reply_to(ASKED, "www.example.org.|300|CNAME|cdn.example.net.", "cdn.example.net.|20|A|192.0.2.7"),
    reply_to(ASKED, "www.example.org.|300|TXT|" + '"' + "x" * 200 + '"', "example.org.|5|NS|ns.example.org."),
    reply_to(ASKED, SOA),
]


@given(st.one_of(st.binary(max_size=600), damaged(REPLIES)), st.integers(512, 600), st.integers(0, 400))
def test_any_bytes_are_a_reply_or_an_error(data: bytes, limit: int, age: int) -> None:
    query = message.parse_query(ASKED.to_wire())
    try:
        reply = message.parse_reply(data)
    except MessageError:
        return
    message.lifetime(reply)
    if message.answers_to(reply, query):
        assert len(message.relay(reply, query, limit, age)) + 2 <= limit


@pytest.mark.parametrize("size", [512, 65535])
def test_the_worst_messages_are_read_in_time_that_grows_with_their_length(size: int) -> None:
    pointers = b"\xc0\x0c" + bytes(10)
    data = HEADER[:2] + b"\x81\0\0\1\xff\xff\0\0\0\0" + QUESTION + pointers * (size // 12)
    before = time.process_time()
    with pytest.raises(MessageError):
        message.parse_reply(data[:size])
    assert time.process_time() - before < 1


# -- answers --


def test_every_container_is_first_equally_often_and_the_order_changes() -> None:
    answers = message.answers(ask("web"), addresses(5), 512)
    orders = [tuple(r.address for r in read(body).answer[0].to_rdataset()) for body in islice(answers, 500)]
    assert set(Counter(order[0] for order in orders).values()) == {100}
    assert all(len(set(order)) == 5 for order in orders)
    assert len({order[:2] for order in orders}) > 15


@pytest.mark.parametrize("edns", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 27, 28, 29, 30, 300, 5000])
@pytest.mark.parametrize("limit", [512, 1232, 65535])
def test_what_does_not_fit_is_cut_and_said_to_be(count: int, limit: int, edns: bool) -> None:
    query = ask("web", use_edns=0 if edns else None)
    body = next(message.answers(query, addresses(count), limit))
    told = read(body)
    given_ = len(told.answer[0]) if told.answer else 0
    overhead = 12 + len(query.question) + 11 * edns
    assert len(body) + 2 <= limit
    assert given_ == min(count, (limit - overhead) // 16)
    assert bool(told.flags & dns.flags.TC) is (given_ < count)
    assert (told.edns == 0) is edns


def test_all_of_many_replicas_are_given_over_time() -> None:
    bodies = islice(message.answers(ask("web"), addresses(1000), 512), 1000)
    assert len({r.address for body in bodies for r in read(body).answer[0]}) == 1000


def test_an_answer_to_a_name_is_authoritative_a_failure_is_not() -> None:
    for rcode in (message.NOERROR, message.NXDOMAIN, message.SERVFAIL):
        told = read(message.answer(ask("web"), rcode))
        assert bool(told.flags & dns.flags.AA) is (rcode != message.SERVFAIL)
        assert told.flags & dns.flags.RA
        assert told.rcode() == rcode


# -- upstreams --


def test_a_question_to_an_upstream_leaves_the_askers_options_behind() -> None:
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"a cookie")
    query = ask("WWW.Example.org", "AAAA", use_edns=0, options=[cookie], want_dnssec=True, payload=4096)
    put = read(message.question(query, edns=True))
    assert put.question[0].name.to_text() == "www.example.org."
    assert (put.options, put.payload, put.ednsflags) == ((), 1232, dns.flags.DO)
    assert read(message.question(query, edns=False)).edns == -1


@pytest.mark.parametrize("data", REPLIES, ids=["addresses", "alias", "text", "none"])
@pytest.mark.parametrize("age", [0, 7, 1000])
def test_a_relayed_reply_says_the_same_only_older(data: bytes, age: int) -> None:
    reply, query = message.parse_reply(data), message.parse_query(ASKED.to_wire())
    told, original = read(message.relay(reply, query, 4096, age)), dns.message.from_wire(data)
    assert told.answer == original.answer
    assert told.authority == original.authority
    for now, then in zip(told.answer + told.authority, original.answer + original.authority, strict=True):
        assert now.ttl == max(then.ttl - age, 0)


@pytest.mark.parametrize("limit", range(512, 1300, 37))
def test_a_relayed_reply_is_cut_between_records(limit: int) -> None:
    lines = [f"www.example.org.|9|TXT|{'y' * 90}{n}" for n in range(12)]
    reply = message.parse_reply(reply_to(ASKED, *lines, "example.org.|5|NS|ns.example.org."))
    body = message.relay(reply, message.parse_query(ASKED.to_wire()), limit)
    told = read(body)
    assert limit - 150 < len(body) + 2 <= limit
    assert told.flags & dns.flags.TC
    assert 0 < len(told.answer[0]) < 12 or not told.authority


def test_an_asker_without_edns_gets_none() -> None:
    reply = message.parse_reply(REPLIES[0])
    assert read(message.relay(reply, ask("www.example.org"), 512)).edns == -1


@pytest.mark.parametrize(
    ("lines", "rcode", "seconds"),
    [
        (["www.example.org.|300|A|192.0.2.1"], "NOERROR", 300),
        (["www.example.org.|300|CNAME|a.example.", "a.example.|20|A|192.0.2.7"], "NOERROR", 20),
        ([SOA], "NOERROR", 60),
        ([SOA], "NXDOMAIN", 60),
        ([], "NXDOMAIN", 0),
        ([SOA], "SERVFAIL", 0),
    ],
)
def test_how_long_a_reply_holds(lines: list[str], rcode: str, seconds: int) -> None:
    data = bytearray(reply_to(ASKED, *lines))
    data[3] |= dns.rcode.from_text(rcode)
    assert message.lifetime(message.parse_reply(bytes(data))) == seconds


def test_only_replies_to_the_question_count() -> None:
    reply = message.parse_reply(REPLIES[0])
    assert message.answers_to(reply, ask("WWW.example.ORG"))
    assert not message.answers_to(reply, ask("www.example.com"))
    assert not message.answers_to(reply, ask("www.example.org", "AAAA"))
