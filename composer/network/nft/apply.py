"""Put a stack's table into the kernel, or take it away: one transaction, all or nothing.

`socket` is a Netlink(protocol=NETLINK_NETFILTER). Whoever does this more than once keeps it open: closing one
waits until what a transaction replaced has been freed, some ten milliseconds.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence

from composer.network.netlink import Message, Netlink, NetlinkError
from composer.network.nft import expr
from composer.network.nft.messages import Name, keys
from composer.network.nft.table import Set, Table


def replace(socket: Netlink, table: Table) -> None:
    """Packets meet the old rules or the new ones, never a mixture. Raises NetlinkError."""
    name = Name(table.family, table.name)
    # Adding a table that exists is no error, deleting one that does not is: this order replaces it.
    socket.transaction([name.add(), name.delete(), *_messages(table)])


def add_elements(socket: Netlink, table: Table, elements: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
    """Add to the sets of `table`, which is made first when it is not there. Raises NetlinkError."""
    name = Name(table.family, table.name)
    filled = [
        message
        for each in table.sets
        for message in name.add_elements(
            each.name, ((expr.key(each.key, e), b"") for e in elements[each.name])
        )
    ]
    ensure(socket, table)
    if filled:
        socket.transaction(filled)


def ensure(socket: Netlink, table: Table) -> None:
    """Make `table` unless there is one of its name; what that says is not looked at."""
    if not socket.request([Name(table.family, table.name).get()], forgive=(errno.ENOENT,)):
        make(socket, table)


def make(socket: Netlink, table: Table) -> None:
    """A table that is not there. Nothing is replaced, so nothing has to be waited for when closing."""
    socket.transaction(list(_messages(table)))


def delete(socket: Netlink, name: str, family: str = "inet") -> None:
    """No error when there is no such table."""
    socket.transaction([Name(family, name).delete()], forgive=(errno.ENOENT,))


def numbers(socket: Netlink, table: str, name: str) -> set[int]:
    """The elements of a set of ports; none when there is no such set."""
    return {int.from_bytes(key, "big") for key in _elements(socket, table, name)}


def elements(socket: Netlink, table: str, this: Set) -> Iterator[tuple[str | int, ...]]:
    """What is in the kernel's set of this name and type; of other protocols than ours nothing."""
    for key in _elements(socket, table, this.name):
        try:
            yield expr.fields(this.key, key)
        except ValueError:
            continue


def _elements(socket: Netlink, table: str, name: str) -> list[bytes]:
    try:
        answers = socket.dump(*Name("inet", table).list_elements(name), "listing a set")
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise
        return []
    return [key for answer in answers for key in keys(answer)]


def _messages(table: Table) -> Iterator[Message]:
    name = Name(table.family, table.name)
    yield name.add()
    for number, each in enumerate(table.sets, 1):
        yield name.add_set(each.name, number, each.key, each.data, each.size)
        yield from name.add_elements(each.name, _encoded(each))
    for chain in table.chains:
        yield name.add_chain(chain.name, chain.type, chain.hook, chain.priority)
        for rule in chain.rules:
            yield name.add_rule(chain.name, rule.code, rule.text)


def _encoded(each: Set) -> Iterator[tuple[bytes, bytes]]:
    for fields, data in each.elements:
        yield expr.key(each.key, fields), expr.key(each.data, data) if data else b""
