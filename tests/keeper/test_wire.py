"""The frames: whole or in pieces, with their descriptors, and what is refused."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.keeper.wire import (
    MAX_FDS,
    MAX_FRAME,
    VERBS,
    Decoder,
    Message,
    WireError,
    complaint,
    encode,
    receive,
    rights,
)

json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
messages = st.lists(st.dictionaries(st.text().filter(lambda key: key != "fds"), json), max_size=5)


@settings(max_examples=40)
@given(messages, st.integers(1, 50))
def test_messages_survive_any_cut(sent: list[Message], step: int) -> None:
    data = b"".join(map(encode, sent))
    decoder = Decoder()
    got = [message for at in range(0, len(data), step) for message in decoder.feed(data[at : at + step], [])]
    assert got == [{**message, "fds": {}} for message in sent]


@given(st.binary(max_size=200))
def test_garbage_is_a_wire_error_or_waits(data: bytes) -> None:
    decoder = Decoder()
    try:
        for message in decoder.feed(data, []):
            assert isinstance(message, dict)
    except WireError:
        pass


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"\xff", b'{"fds":1}', b'{"fds":[1]}', b'{"fds":["absent"]}', b"[" * 100_000],
)
def test_a_frame_that_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        list(Decoder().feed(struct.pack(">I", len(body)) + body, []))


def test_a_frame_that_is_too_long_is_refused_by_its_length() -> None:
    with pytest.raises(WireError):
        list(Decoder().feed(struct.pack(">I", MAX_FRAME + 1), []))
    with pytest.raises(WireError):
        encode({"text": "x" * MAX_FRAME})


def test_descriptors_nobody_names_are_bounded() -> None:
    with pytest.raises(WireError):
        list(Decoder().feed(b"\0", list(range(MAX_FDS + 1))))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def test_descriptors_find_their_messages(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    files = [os.memfd_create(name) for name in ("one", "two", "three")]
    left.sendmsg([encode({"n": 1, "fds": ["a", "b"]})], rights(files[:2]))
    left.sendall(encode({"n": 2}))
    left.sendmsg([encode({"n": 3, "fds": ["c"]})], rights(files[2:]))
    left.shutdown(socket.SHUT_WR)
    decoder, got = Decoder(), []
    while (read := receive(right, 7))[0]:
        got += list(decoder.feed(*read))
    assert [list(message["fds"]) for message in got] == [["a", "b"], [], ["c"]]
    names = [os.readlink(f"/proc/self/fd/{fd}") for message in got for fd in message["fds"].values()]
    assert names == [f"/memfd:{name} (deleted)" for name in ("one", "two", "three")]
    for fd in [*files, *(fd for message in got for fd in message["fds"].values())]:
        os.close(fd)


@pytest.mark.parametrize(
    ("verb", "fields", "said"),
    [
        ("start", {"id": "web-1"}, ""),
        ("start", {}, "id is missing"),
        ("start", {"id": ""}, "id is empty or too long"),
        ("start", {"id": "x" * 257}, "id is empty or too long"),
        ("start", {"id": 1}, "id is not str"),
        ("start", {"id": "a", "more": 1}, "more is not known"),
        ("signal", {"id": "a", "signo": True}, "signo is not int"),
        ("quit", {}, ""),
        ("quit", {"kill": 1}, "kill is not bool"),
    ],
)
def test_fields_are_checked(verb: str, fields: Message, said: str) -> None:
    assert complaint(VERBS[verb], {"number": 1, "verb": verb, "fds": {}, **fields}) == said
