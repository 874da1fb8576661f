"""The networks of this host and who has which address in them, on disk, under one lock.

    <state>/networks/<name>.json     one NetworkRecord <state>/networks/.leases.json    {network: {"next":
    {subnet: last address}, "slots": {slot: [addresses, mac]}}}

A slot is `<stack>/<container>`: its lease outlives the container, so addresses stay over a restart and a
recreate. Nothing of the kernel enters here, except that new subnets avoid the routes that are passed in.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from composer.disk import locked, read_json, write_json
from composer.errors import Complaint, ConflictError, NotFoundError, StackFileError, UsageError
from composer.model.stack import NOTHING, Attachment, FrozenMap, Network
from composer.network.addresses import Pool, choose, claim, mac_of, pools
from composer.network.options import Options
from composer.paths import Paths
from composer.value import Value

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
_LEASES = ".leases.json"
_ANYWHERE = Attachment()


class NetworkRecord(Value):
    """A network of this host. `owner` is the stack that made it, "" for `network create`; `link` its bridge
    (or, for macvlan and ipvlan, the parent interface); `created` seconds since the epoch."""

    name: str
    id: str
    driver: str
    link: str
    pools: tuple[Pool, ...]
    owner: str = ""
    internal: bool = False
    attachable: bool = False
    options: Mapping[str, str] = NOTHING
    labels: Mapping[str, str] = NOTHING
    created: float = 0.0

    def gateway(self, version: int) -> str:
        """ "" when the network has no addresses of that IP version."""
        return next((pool.gateway for pool in self.pools if pool.version == version), "")

    @property
    def settings(self) -> Options:
        return Options.read(self.driver, self.options)


class Lease(Value):
    """The addresses of a slot in a network, with prefix length, and its MAC."""

    network: str
    slot: str
    addresses: tuple[str, ...]
    mac: str


class LeaseRequest(Value):
    record: NetworkRecord
    slot: str
    attachment: Attachment = Attachment()


def _file(paths: Paths, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a network name", hint="letters, digits, '_', '.' and '-'")
    return paths.networks / f"{name}.json"


def find(paths: Paths, name: str) -> NetworkRecord | None:
    return _read(_file(paths, name))


def _read(path: Path) -> NetworkRecord | None:
    """A file that a power cut left empty is as good as none."""
    try:
        value = read_json(path)
    except ValueError:
        return None
    return None if value is None else _from_json(value)


def inspect(paths: Paths, name: str) -> NetworkRecord:
    """The network with this name, or whose id starts with it. Raises NotFoundError."""
    record = find(paths, name)
    if record is None:
        matches = [record for record in networks(paths) if record.id.startswith(name)]
        if len(matches) != 1:
            raise NotFoundError(f"there is no network {name}", hint="`composer network ls` lists them")
        record = matches[0]
    return record


def networks(paths: Paths) -> list[NetworkRecord]:
    """All networks, by name."""
    if not paths.networks.is_dir():
        return []
    found = map(_read, sorted(paths.networks.glob("[!.]*.json")))
    return [record for record in found if record is not None]


def create(paths: Paths, owner: str, network: Network, routes: Iterable[str]) -> NetworkRecord:
    """Record a network that is not there yet, or return the one that somebody made first."""
    options = Options.read(network.driver or "bridge", network.driver_opts)
    if options.driver in ("macvlan", "ipvlan") and not options.link:
        path = ("networks", network.key, "driver_opts")
        raise StackFileError(
            [Complaint(f"{options.driver} needs the option `parent`, an interface", path=path)]
        )
    with locked(paths.host_lock):
        if (there := find(paths, network.name)) is not None:
            return there
        others = networks(paths)
        identity = os.urandom(32).hex()
        in_use = {pool.subnet: other.name for other in others for pool in other.pools}
        chosen: tuple[Pool, ...] = ()
        if options.has_addresses:
            chosen = pools(network, [*routes, *in_use], hashlib.sha256(identity.encode()).digest())
        _refuse_overlap(network.name, chosen, in_use)
        record = NetworkRecord(
            name=network.name,
            id=identity,
            driver=options.driver,
            link=options.link or (f"ct-{identity[:11]}" if options.driver == "bridge" else ""),
            pools=chosen,
            owner=owner,
            internal=network.internal,
            attachable=network.attachable,
            options=FrozenMap(network.driver_opts),
            labels=FrozenMap(network.labels),
            created=time.time(),
        )
        taken = next(
            (o.name for o in others if o.driver == record.driver == "bridge" and o.link == record.link), ""
        )
        if taken:
            raise ConflictError(f"network {taken} already uses the bridge name {record.link}")
        paths.networks.mkdir(parents=True, exist_ok=True)
        # A stack's network is made anew if a power cut takes it away; what people made themselves must last.
        write_json(_file(paths, record.name), _to_json(record), durable=not owner)
        return record


def _refuse_overlap(name: str, chosen: Iterable[Pool], in_use: Mapping[str, str]) -> None:
    for pool in chosen:
        subnet = ipaddress.ip_network(pool.subnet)
        for other, owner in in_use.items():
            if subnet.overlaps(ipaddress.ip_network(other)):
                raise ConflictError(
                    f"the subnet {pool.subnet} of network {name} overlaps {other} of network {owner}",
                    hint="choose another subnet, or leave it out",
                )


def remove(paths: Paths, name: str) -> None:
    """Forget the network and its leases; no error when it is not there."""
    with locked(paths.host_lock):
        _file(paths, name).unlink(missing_ok=True)
        leases_ = _read_leases(paths)
        if leases_.pop(name, None) is not None:
            _write_leases(paths, leases_)


def drift(record: NetworkRecord, network: Network) -> list[str]:
    """The fields in which an existing network is not what the stack asks for; empty is fine."""
    asked = [pool for pool in network.ipam if pool.subnet]
    have = {pool.subnet: pool for pool in record.pools}
    versions = {pool.version for pool in record.pools}
    addressed = Options.read(record.driver, record.options).has_addresses
    differs = {
        "driver": (network.driver or "bridge") != record.driver,
        "driver_opts": dict(network.driver_opts) != dict(record.options),
        "internal": network.internal != record.internal,
        "labels": dict(network.labels) != dict(record.labels),
        "enable_ipv4": addressed and network.enable_ipv4 != (4 in versions),
        "enable_ipv6": addressed and network.enable_ipv6 and 6 not in versions,
        "ipam": any(
            _unlike(have.get(_canonical(pool.subnet)), pool.gateway, pool.ip_range) for pool in asked
        ),
    }
    return [field for field, differs_ in differs.items() if differs_]


def _canonical(subnet: str) -> str:
    return str(ipaddress.ip_network(subnet, strict=False))


def _unlike(pool: Pool | None, gateway: str, ip_range: str) -> bool:
    return pool is None or (bool(gateway) and gateway != pool.gateway) or ip_range != pool.ip_range


def lease(paths: Paths, record: NetworkRecord, slot: str, attachment: Attachment = _ANYWHERE) -> Lease:
    """`leases` for one."""
    return leases(paths, [LeaseRequest(record, slot, attachment)])[0]


def leases(paths: Paths, requests: Sequence[LeaseRequest]) -> list[Lease]:
    """An address per IP version for each request; what a slot has it keeps, unless it asks for another.

    Fixed addresses are served first. Raises ConflictError when an address is taken or a pool is full;
    nothing is kept then.
    """
    with locked(paths.host_lock):
        book = _read_leases(paths)
        order = sorted(requests, key=lambda r: not (r.attachment.ipv4_address or r.attachment.ipv6_address))
        holders = {name: _holders(book, name) for name in {request.record.name for request in order}}
        granted = {id(request): _grant(book, request, holders[request.record.name]) for request in order}
        if any(changed for _, changed in granted.values()):
            _write_leases(paths, book)
    return [granted[id(request)][0] for request in requests]


def _holders(book: dict[str, Any], network: str) -> dict[str, str]:
    """By address, the slot that has it."""
    slots = book.get(network, {"slots": {}})["slots"]
    return {address.partition("/")[0]: slot for slot, (held, _) in slots.items() for address in held}


def _grant(book: dict[str, Any], request: LeaseRequest, holders: dict[str, str]) -> tuple[Lease, bool]:
    """`holders` of the network follow."""
    record, slot, wish = request.record, request.slot, request.attachment
    page = book.setdefault(record.name, {"next": {}, "slots": {}})
    old_addresses, old_mac = page["slots"].get(slot, ((), ""))
    addresses: list[str] = []
    for version, wanted in ((4, wish.ipv4_address), (6, wish.ipv6_address)):
        own = [pool for pool in record.pools if pool.version == version]
        kept = next((a for a in old_addresses if (":" in a) == (version == 6)), "")
        if wanted:
            pool = claim(own, holders, wanted, slot, record.name)
            addresses.append(f"{wanted}/{pool.subnet.partition('/')[2]}")
        elif kept:
            addresses.append(kept)
        elif own:
            addresses.append(_next(page, own, holders, record.name))
    first = addresses[0].partition("/")[0] if addresses else ""
    mac = wish.mac_address or mac_of(first, hashlib.sha256(f"{record.id}/{slot}".encode()).digest())
    changed = list(old_addresses) != addresses or old_mac != mac
    page["slots"][slot] = [addresses, mac]
    for address in old_addresses:
        holders.pop(address.partition("/")[0], None)
    holders |= {address.partition("/")[0]: slot for address in addresses}
    return Lease(record.name, slot, tuple(addresses), mac), changed


def _next(page: dict[str, Any], pools_: Iterable[Pool], holders: Mapping[str, str], network: str) -> str:
    for pool in pools_:
        address = choose(pool, holders, page["next"].get(pool.subnet, ""))
        if address:
            page["next"][pool.subnet] = address
            return f"{address}/{pool.subnet.partition('/')[2]}"
    raise ConflictError(f"network {network} has no free address left", hint="give it a larger subnet")


def release(paths: Paths, slots: Iterable[str], network: str = "") -> None:
    """Take back every lease of these slots, in all networks or in one."""
    gone = set(slots)
    _forget(paths, lambda where, slot: slot in gone and network in ("", where))


def keep_only(paths: Paths, stack: str, slots: Iterable[str]) -> None:
    """Take back the leases of the stack's slots that are not among `slots`: what a crash may have left."""
    prefix, live = f"{stack}/", set(slots)
    _forget(paths, lambda _, slot: slot.startswith(prefix) and slot not in live)


def held(paths: Paths, network: str) -> list[Lease]:
    """Who has which address in the network."""
    page = _read_leases(paths).get(network, {"slots": {}})
    return [Lease(network, slot, tuple(addresses), mac) for slot, (addresses, mac) in page["slots"].items()]


def stacks_on(paths: Paths, networks: Iterable[str]) -> set[str]:
    """Names of the stacks that have addresses in these networks."""
    book = _read_leases(paths)
    return {slot.partition("/")[0] for name in networks for slot in book.get(name, {}).get("slots", ())}


def _forget(paths: Paths, gone: Callable[[str, str], bool]) -> None:
    with locked(paths.host_lock):
        book = _read_leases(paths)
        pages = [(name, page["slots"]) for name, page in book.items()]
        dead = [(slots, slot) for name, slots in pages for slot in slots if gone(name, slot)]
        for slots, slot in dead:
            del slots[slot]
        if dead:
            _write_leases(paths, book)


def _read_leases(paths: Paths) -> dict[str, Any]:
    """A file that a power cut damaged is as good as none: no container is alive that holds an address."""
    try:
        return dict(read_json(paths.networks / _LEASES) or {})
    except ValueError:
        return {}


def _write_leases(paths: Paths, book: dict[str, Any]) -> None:
    paths.networks.mkdir(parents=True, exist_ok=True)
    write_json(paths.networks / _LEASES, book, durable=False)


def _to_json(record: NetworkRecord) -> dict[str, Any]:
    return {**record.__dict__, "pools": [pool.__dict__ for pool in record.pools]}


def _from_json(value: dict[str, Any]) -> NetworkRecord:
    pools_ = tuple(Pool(**{**pool, "reserved": tuple(pool["reserved"])}) for pool in value["pools"])
    maps = {key: FrozenMap(value[key]) for key in ("options", "labels")}
    return NetworkRecord(**{**value, **maps, "pools": pools_})
