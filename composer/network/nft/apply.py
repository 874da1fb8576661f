"""Put a stack's table into the kernel, or take it away: one transaction, all or nothing.

`socket` is a Netlink(protocol=NETLINK_NETFILTER). Whoever does this more than once keeps it open: closing one
waits until what a transaction replaced has been freed, some ten milliseconds.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from composer.network.netlink import Message, Netlink, NetlinkError
from composer.network.nft import expr
from composer.network.nft.rules import UDP_PORTS, Table


def replace(socket: Netlink, table: Table) -> None:
    """Packets meet the old rules or the new ones, never a mixture. Raises NetlinkError."""
    socket.transaction(list(_messages(table)))


def delete(socket: Netlink, name: str) -> None:
    """No error when there is no such table."""
    socket.transaction([expr.delete_table(name)], forgive=(errno.ENOENT,))


def udp_ports(socket: Netlink, name: str) -> set[int]:
    """The UDP ports that the table in the kernel publishes."""
    try:
        answers = socket.dump(*expr.set_request(name, UDP_PORTS), "listing published ports")
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise
        return set()
    return {int.from_bytes(key, "big") for answer in answers for key in expr.keys(answer.body)}


def _messages(table: Table) -> Iterator[Message]:
    # Adding a table that exists is no error, deleting one that does not is: this order replaces it.
    yield expr.add_table(table.name)
    yield expr.delete_table(table.name)
    yield expr.add_table(table.name)
    for number, each in enumerate(table.sets, 1):
        yield expr.add_set(table.name, each.name, number, each.key, each.data)
        elements = (
            (expr.key(each.key, fields), expr.key(each.data, data) if data else b"")
            for fields, data in each.elements
        )
        yield from expr.add_elements(table.name, each.name, elements)
    for chain in table.chains:
        yield expr.add_chain(table.name, chain.name, chain.type, chain.hook, chain.priority)
        for rule in chain.rules:
            yield expr.add_rule(table.name, chain.name, rule.code, rule.text)
