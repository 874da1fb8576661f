"""Requests to nf_tables: tables, chains, sets and rules, and what they are answered with. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from composer.network.netlink import (
    APPEND,
    CREATE,
    Answer,
    Message,
    attribute,
    attributes,
    be32,
    be64,
    nested,
    string,
)
from composer.network.nft.expr import ACCEPT, LIST_ELEMENT, TYPES, VALUE, host32

FAMILIES = {"inet": 1, "ip": 2, "bridge": 7, "ip6": 10}
HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}

_SUBSYSTEM = 10 << 8
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE, _NEW_CHAIN, _GET_CHAIN = 0, 1, 2, 3, 4
_NEW_RULE, _GET_RULE, _DELETE_RULE, _NEW_SET, _NEW_ELEMENT, _GET_ELEMENT = 6, 7, 8, 9, 12, 13
_MAP, _DYNAMIC = 0x8, 0x20
_MOST = 400
"""Elements per message: their list is one attribute, whose size is a 16-bit number."""


class Name(NamedTuple):
    """A table, by family and name: what can be asked of the kernel about it, as messages."""

    family: str
    table: str

    def _message(self, kind: int, what: str, *parts: bytes, flags: int = CREATE) -> Message:
        body = struct.pack("=BBH", FAMILIES[self.family], 0, 0) + string(1, self.table) + b"".join(parts)
        return Message(_SUBSYSTEM | kind, flags, body, what)

    def add(self) -> Message:
        return self._message(_NEW_TABLE, f"adding nftables table {self.table}")

    def delete(self) -> Message:
        return self._message(_DELETE_TABLE, f"deleting nftables table {self.table}", flags=0)

    def get(self) -> Message:
        return self._message(_GET_TABLE, f"looking up nftables table {self.table}", flags=0)

    def add_chain(self, name: str, kind: str, hook: str, priority: int) -> Message:
        where = nested(4, be32(1, HOOKS[hook]), attribute(2, struct.pack(">i", priority)))
        parts = (string(3, name), where, be32(5, ACCEPT), string(7, kind))
        return self._message(_NEW_CHAIN, f"adding nftables chain {self.table} {name}", *parts)

    def add_rule(self, chain: str, code: bytes, text: str) -> Message:
        """At the end of the chain."""
        what = f"adding nftables rule “{text}”"
        return self._message(_NEW_RULE, what, string(2, chain), nested(4, code), flags=CREATE | APPEND)

    def delete_rule(self, chain: str, handle: int) -> Message:
        what = f"deleting a rule of {self.table} {chain}"
        return self._message(_DELETE_RULE, what, string(2, chain), be64(3, handle), flags=0)

    def add_set(
        self, name: str, number: int, kinds: tuple[str, ...], data: tuple[str, ...], most: int = 0
    ) -> Message:
        """A set, or with `data` a map, or with `most` one that rules fill up to so many elements. `number` is
        unlike for each set of a transaction.
        """
        kind, size = _type(kinds)
        flags = (_MAP if data else 0) | (_DYNAMIC if most else 0)
        parts = [string(2, name), be32(3, flags), be32(4, kind), be32(5, size)]
        if most:
            parts.append(nested(9, be32(1, most)))
        if data:
            kind, size = _type(data)
            parts += [be32(6, kind), be32(7, size)]
        if kinds == ("ifname",):
            # nft's own note (type 0, 4 bytes: host byte order), without which it shows such names as empty.
            parts.append(attribute(13, b"\0\4" + host32(1)))
        return self._message(_NEW_SET, f"adding nftables set {self.table} {name}", *parts, be32(10, number))

    def add_elements(self, name: str, elements: Iterable[tuple[bytes, bytes]]) -> Iterator[Message]:
        """`elements` are (key, data), with empty data for a plain set."""
        encoded = []
        for this, data in elements:
            parts = nested(1, attribute(VALUE, this))
            if data:
                parts += nested(2, attribute(VALUE, data))
            encoded.append(nested(LIST_ELEMENT, parts))
        for start in range(0, len(encoded), _MOST):
            listed = nested(3, *encoded[start : start + _MOST])
            what = f"filling nftables set {self.table} {name}"
            yield self._message(_NEW_ELEMENT, what, string(2, name), listed)

    def list_elements(self, name: str) -> tuple[int, bytes]:
        """Message type and body of a dump; `keys` reads its answers."""
        message = self._message(_GET_ELEMENT, "", string(2, name))
        return message.type, message.body

    def list_rules(self, chain: str) -> tuple[int, bytes]:
        message = self._message(_GET_RULE, "", string(2, chain))
        return message.type, message.body


def list_chains() -> tuple[int, bytes]:
    """Message type and body of a dump of all chains of all families."""
    return _SUBSYSTEM | _GET_CHAIN, struct.pack("=BBH", 0, 0, 0)


def keys(answer: Answer) -> Iterator[bytes]:
    """The keys in one answer to `list_elements`."""
    for kind, listed in attributes(answer.body[4:]):
        if kind == 3:
            for _, element in attributes(listed):
                yield bytes(dict(attributes(dict(attributes(element))[1]))[VALUE])


def _type(kinds: tuple[str, ...]) -> tuple[int, int]:
    """nft's number for the type, and its size; the fields of a concatenation fill whole registers."""
    number = size = 0
    for kind in kinds:
        number = number << 6 | TYPES[kind][0]
        size += TYPES[kind][1] if len(kinds) == 1 else (TYPES[kind][1] + 3) & ~3
    return number, size
