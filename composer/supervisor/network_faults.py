"""Faults of networks as rules: made from the faults and the containers of now, written when they differ.

The queues in which slow packets wait are held here, one for each container of a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from composer.network.delay import Delay, within
from composer.network.nft.apply import delete, replace
from composer.network.nft.faults import Faults, table_name, tables, waiting
from composer.network.publish import firewall
from composer.record import NetworkRow
from composer.supervisor.core import Core
from composer.supervisor.injected import Fault
from composer.supervisor.world import Live

NOTHING = Faults()
Key = tuple[int | str, ...]
"""A fault's number, a process, and its interfaces."""


class NetworkFaults:
    def __init__(self, core: Core) -> None:
        self.core = core
        self.written = NOTHING
        self.delays: dict[Key, Delay] = {}

    def settle(self, faults: Iterable[Fault], *, anew: bool = False) -> None:
        """Have just these; `anew` when it is not known what is written. Raises ConflictError."""
        faults = list(faults)
        wanted = Faults(
            apart=frozenset(pair for fault in of(faults, "partition") for pair in self.pairs(fault)),
            cut=frozenset(mac for fault in of(faults, "drop") for mac in self.macs(fault)),
        )
        if anew or wanted != self.written:
            self.write(wanted)
        slow = {key: made for fault in of(faults, "delay") for key, made in self.slow(fault)}
        for gone in self.delays.keys() - slow.keys():
            self.delays.pop(gone).close()
        for key in slow.keys() - self.delays.keys():
            try:
                self.delays[key] = slow[key]()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended

    def slow(self, fault: Fault) -> Iterator[tuple[Key, Callable[[], Delay]]]:
        """How to make what holds back the packets of each container that runs."""
        settings = fault["settings"]
        for live in self.core.world.containers.values():
            by = [row["interface"] for _, key, row in self.endpoints((live,)) if self.meant(fault, live, key)]
            if live.pid and by:
                key: Key = (fault["number"], live.pid, *by)
                yield key, partial(Delay, fault["number"], live.pid, by, **settings)

    def clean(self, faults: Iterable[Fault]) -> None:
        """Take away what a supervisor before this one left in containers."""
        for fault in of(faults, "delay"):
            for pid in (live.pid for live in self.core.world.containers.values() if live.pid):
                try:
                    with within(pid, firewall) as socket:
                        delete(socket, waiting(fault["number"], 0, ()).name)
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has just ended

    def write(self, wanted: Faults) -> None:
        with firewall() as socket:
            if wanted == NOTHING:
                for family in ("bridge", "inet"):
                    delete(socket, table_name(self.core.name), family)
            else:
                for table in tables(self.core.name, wanted):
                    replace(socket, table)
        self.written = wanted

    def pairs(self, fault: Fault) -> Iterator[tuple[str, str]]:
        """Every address of the first with every one of the others, of the same version."""
        one, *others = fault["targets"]
        for here in self.addresses(one):
            for there in (address for other in others for address in self.addresses(other)):
                if (":" in here) == (":" in there) and here != there:
                    yield here, there

    def addresses(self, service: str) -> Iterator[str]:
        for live in self.core.world.of_service(service):
            for row in live.networks.values():
                yield from (address.partition("/")[0] for address in row["addresses"])

    def macs(self, fault: Fault) -> Iterator[str]:
        """Of services on all their networks, and of everybody on a network."""
        for live, network, row in self.endpoints(self.core.world.containers.values()):
            if self.meant(fault, live, network):
                yield row["mac"]

    def meant(self, fault: Fault, live: Live, network: str) -> bool:
        return network in fault["targets"] or live.plan.slot.service in fault["targets"]

    def endpoints(self, lives: Iterable[Live]) -> Iterator[tuple[Live, str, NetworkRow]]:
        """Each with its network's key in the stack file."""
        keys = {network.name: key for key, network in self.core.stack.networks.items()}
        for live in lives:
            for name, row in live.networks.items():
                yield live, keys.get(name, name), row


def of(faults: Iterable[Fault], kind: str) -> Iterator[Fault]:
    return (fault for fault in faults if fault["kind"] == kind)
