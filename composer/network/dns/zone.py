"""The names of a stack as DNS sees them: which name has which records on which network. Pure.

A zone is never changed: whenever an endpoint comes or goes a new one takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from composer.network.dns.message import (
    MAX_NAME,
    PTR,
    MessageError,
    address_record,
    encode_name,
    pointer_record,
    reverse_name,
)
from composer.value import Value

TTL = 0
"""Seconds that others may keep our answers: whoever asks again must see what is, not what was."""

Node = Mapping[int, tuple[bytes, ...]]
"""A name that exists: type → records. A missing type is "no data", a name without node "no such name"."""


class EndpointName(Value):
    """One container on one network, and what it is called there.

    Without addresses the names exist and have no data: an asker is told so at once, and the names of the
    stack are not sent to upstreams while their containers are being replaced.
    """

    network: str
    container: str
    service: str = ""
    short_id: str = ""
    aliases: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


class Zone(Value):
    """Per network: names in wire form and lower case → their records."""

    networks: Mapping[str, Mapping[bytes, Node]] = {}

    def find(self, networks: Iterable[str], name: bytes) -> Node | None:
        """What `name` is for somebody on `networks`: the first of them that knows it answers."""
        for network in networks:
            node = self.networks.get(network, _NO_NAMES).get(name)
            if node is not None:
                return node
        return None


_NO_NAMES: Mapping[bytes, Node] = {}


def zone(endpoints: Iterable[EndpointName]) -> Zone:
    """The zone of `endpoints`.

    A container is found by its service, its own name, its short id and its aliases, each also followed by
    `.<network>`, and by its addresses. What no DNS name can spell (a label beyond 63 octets) is left out, as
    nobody can ask for it. Raises ValueError for an address that is none.
    """
    networks: dict[str, dict[bytes, dict[int, dict[bytes, None]]]] = {}
    for endpoint in endpoints:
        names = networks.setdefault(endpoint.network, {})
        records = [address_record(address, TTL) for address in endpoint.addresses]
        for name in _names(endpoint):
            node = names.setdefault(name, {})
            for kind, record in records:
                node.setdefault(kind, {})[record] = None
        pointer = _pointer(endpoint)
        for address in endpoint.addresses if pointer else ():
            names.setdefault(reverse_name(address), {PTR: {pointer: None}})
    return Zone(
        networks={
            network: {name: {k: tuple(r) for k, r in node.items()} for name, node in names.items()}
            for network, names in networks.items()
        }
    )


def _names(endpoint: EndpointName) -> Iterator[bytes]:
    network = spell(endpoint.network)
    for name in {endpoint.service, endpoint.container, endpoint.short_id, *endpoint.aliases} - {""}:
        plain = spell(name)
        if plain:
            yield plain
        if plain and network and len(plain) + len(network) <= MAX_NAME + 1:
            yield plain[:-1] + network


def _pointer(endpoint: EndpointName) -> bytes:
    try:
        return pointer_record(f"{endpoint.container}.{endpoint.network}", TTL)
    except MessageError:
        return b""


@lru_cache(4096)
def spell(name: str) -> bytes | None:
    """A name in wire form; None if no DNS name can spell it."""
    try:
        return encode_name(name)
    except MessageError:
        return None
