"""The stack's firewall as it was last written, and the watch over it: who takes it away gets it put back."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio

from composer.network.endpoints import guard
from composer.network.nft.rules import PublishedPort
from composer.network.publish import firewall, is_published, publish, unpublish, watch
from composer.network.registry import NetworkRecord

Sender = tuple[str, list[str]]
"""A MAC, and the addresses that may be sent from with it."""


class Rules:
    """`socket` is for everybody who has something to do with the firewall."""

    def __init__(self, stack: str) -> None:
        self.stack = stack
        self.socket = firewall()
        self.written: tuple[list[NetworkRecord], list[PublishedPort]] | None = None
        self.removed = False

    def write(self, networks: list[NetworkRecord], ports: list[PublishedPort]) -> None:
        """Have just these rules. Raises NetlinkError."""
        if self.written != (networks, ports):
            publish(self.socket, self.stack, networks, ports)
            self.written, self.removed = (networks, ports), False

    def put_back(self, senders: Iterable[Sender]) -> None:
        """Write everything again that stands in the kernel and is not known to. Raises NetlinkError."""
        assert self.written is not None
        publish(self.socket, self.stack, *self.written)
        guard(self.socket, self.stack, senders)

    async def watch(self, lost: Callable[[], None]) -> None:
        """Until cancelled: `lost` hears when the rules are no more what was written."""
        with watch() as events:
            while True:
                await anyio.wait_readable(events)
                events.drain()
                if self.written is not None and not is_published(self.socket, self.stack, self.written[0]):
                    lost()

    def remove(self) -> None:
        """Have none. The kernel frees what goes in the background, and whoever closes `socket` waits for it:
        the earlier the better.
        """
        if not self.removed:
            unpublish(self.socket, self.stack)
            self.written, self.removed = None, True
