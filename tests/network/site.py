"""A stack's networks on a host of one's own, with containers to be put on them."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

from composer.model.stack import Attachment, Network
from composer.network import endpoints
from composer.network.lifecycle import ensure_network
from composer.network.nft.rules import PublishedPort
from composer.network.publish import firewall, publish
from composer.network.registry import LeaseRequest, NetworkRecord, leases
from composer.paths import Paths
from tests.network.conftest import Host, Space


class _Closable(Protocol):
    def close(self) -> None: ...


Closes = TypeVar("Closes", bound=_Closable)


class Site:
    """A stack's networks on one host, with containers to be put on them."""

    def __init__(self, host: Host, paths: Paths, stack: str = "demo") -> None:
        self.host, self.paths, self.stack = host, paths, stack
        self.records: dict[str, NetworkRecord] = {}
        self.firewall = firewall()
        self.guarded = True
        self._closing: list[Any] = []

    def network(self, name: str, **fields: object) -> NetworkRecord:
        network = Network(key=name, name=f"{self.stack}_{name}", **fields)  # type: ignore[arg-type]
        self.records[name] = ensure_network(self.paths, self.stack, network)
        self.publish()
        return self.records[name]

    def container(self, name: str, *networks: str) -> tuple[Space, list[endpoints.Endpoint]]:
        space = self.host.space()
        slot = f"{self.stack}/{name}"
        wishes = [(self.records[network], Attachment()) for network in networks]
        got = leases(self.paths, [LeaseRequest(record, slot, wish) for record, wish in wishes])
        places = [(record, lease, wish) for (record, wish), lease in zip(wishes, got, strict=True)]
        made = endpoints.arrange(name, space.pid, places, guarded=self.guarded)
        endpoints.attach(self.host.netlink, space.netlink, made, self.firewall)
        return space, made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for each in self._closing:
            each.close()
        self.firewall.close()

    def closing(self, each: Closes) -> Closes:
        """Have it closed with the site."""
        self._closing.append(each)
        return each

    def publish(self, *ports: PublishedPort) -> None:
        publish(self.firewall, self.stack, self.records.values(), ports)
