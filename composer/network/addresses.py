"""Which subnet a network gets, and which address an endpoint. Pure: what is taken is passed in.

Subnets are Docker's default pools, then one more range so that a host does not run out after 31 networks.
Within a pool addresses are handed out in a circle, so a freed one comes back last, when no neighbour
remembers it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping

from composer.errors import Complaint, ConflictError, StackFileError
from composer.model.stack import IpamPool, Network
from composer.value import Value

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_POOLS = (("172.16.0.0/12", 16, 1), ("192.168.0.0/16", 20, 0), ("10.64.0.0/10", 20, 0))
"""Range, size of the subnets in it, how many to leave out at its start (172.16 is not Docker's)."""

_WHOLE_WORLD = 8
"""Routes shorter than this (a VPN's 0.0.0.0/1) steer traffic; they do not say that the addresses are in
use.
"""


class Pool(Value):
    """A subnet of a network. `ip_range` is where addresses are chosen from, `reserved` are never chosen."""

    subnet: str
    gateway: str
    ip_range: str = ""
    reserved: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        return 6 if ":" in self.subnet else 4


def free_subnet(taken: Iterable[str]) -> str:
    """The first default subnet that overlaps none of `taken` (prefixes). Raises ConflictError when there
    is none.
    """
    used = [net for net in map(_network, taken) if net.version == 4 and net.prefixlen >= _WHOLE_WORLD]
    spans = [(int(net.network_address), int(net.broadcast_address)) for net in used]
    for base, size, skip in _POOLS:
        whole = ipaddress.IPv4Network(base)
        step = 1 << (32 - size)
        start = int(whole.network_address) + skip * step
        for first in range(start, int(whole.broadcast_address), step):
            if not any(low < first + step and first <= high for low, high in spans):
                return f"{ipaddress.IPv4Address(first)}/{size}"
    raise ConflictError(
        "every default address pool overlaps a network or a route of this host",
        hint="give the network a subnet of its own (networks.<name>.ipam.config), or remove unused networks",
    )


def unique_local(digest: bytes, taken: Collection[str]) -> str:
    """A /64 of IPv6 unique local addresses (RFC 4193) made of `digest` (at least 8 bytes)."""
    number = int.from_bytes(digest[:7], "big")
    while True:
        subnet = str(ipaddress.IPv6Network(((0xFD << 120) | (number << 64), 64)))
        if subnet not in taken:
            return subnet
        number = (number + 1) % (1 << 56)


def pools(network: Network, taken: Iterable[str], digest: bytes) -> tuple[Pool, ...]:
    """The pools of a new network: those it asks for, and a chosen one for each IP version it lacks.

    `taken` are prefixes in use by routes and other networks; asking for one that overlaps a network is the
    caller's to refuse. Raises StackFileError for an `ipam` that makes no sense, ConflictError when no
    subnet is free.
    """
    taken = list(taken)
    found: list[Pool] = []
    complaints: list[Complaint] = []
    for place, wanted in enumerate(network.ipam):
        path = ("networks", network.key, "ipam", "config", place)
        try:
            if wanted.subnet:
                found.append(_asked(wanted))
            elif wanted.gateway or wanted.ip_range or wanted.aux_addresses:
                complaints.append(Complaint("needs a subnet as well", path=path))
        except ValueError as error:
            complaints.append(Complaint(str(error), path=path))
    for one, other in ((a, b) for i, a in enumerate(found) for b in found[:i]):
        if _network(one.subnet).overlaps(_network(other.subnet)):
            message = f"the subnets {other.subnet} and {one.subnet} overlap"
            complaints.append(Complaint(message, path=("networks", network.key, "ipam")))
    if complaints:
        raise StackFileError(complaints)
    versions = {pool.version for pool in found}
    if network.enable_ipv4 and 4 not in versions:
        found.append(_pool(free_subnet([*taken, *(pool.subnet for pool in found)])))
    if network.enable_ipv6 and 6 not in versions:
        found.append(_pool(unique_local(digest, taken)))
    allowed = {4} if network.enable_ipv4 else set()
    allowed |= {6} if network.enable_ipv6 or 6 in versions else set()
    return tuple(pool for pool in found if pool.version in allowed)


def _pool(subnet: str) -> Pool:
    return Pool(subnet, str(_network(subnet).network_address + 1))


def _asked(wanted: IpamPool) -> Pool:
    """Raises ValueError with a sentence for people."""
    subnet = _network(wanted.subnet)
    if subnet.num_addresses < 4 and subnet.version == 4:
        raise ValueError(f"the subnet {wanted.subnet} has no room for a gateway and a container")
    gateway = _inside(wanted.gateway, subnet, "gateway") if wanted.gateway else subnet.network_address + 1
    if wanted.ip_range:
        part = _network(wanted.ip_range)
        if part.version != subnet.version or not part.subnet_of(subnet):  # type: ignore[arg-type]
            raise ValueError(f"the ip_range {wanted.ip_range} is not inside the subnet {wanted.subnet}")
    reserved = [str(_inside(value, subnet, name)) for name, value in wanted.aux_addresses.items()]
    return Pool(str(subnet), str(gateway), wanted.ip_range, tuple(reserved))


def _network(text: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a subnet such as 172.28.0.0/16") from None


def _inside(text: str, subnet: IPNetwork, what: str) -> IPAddress:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{what} {text!r} is not an IP address") from None
    if address not in subnet:
        raise ValueError(f"{what} {text} is not inside the subnet {subnet}")
    return address


def choose(pool: Pool, taken: Collection[str], last: str) -> str | None:
    """The next free address after `last` ("" at first), in a circle; None when the pool is full."""
    subnet = _network(pool.subnet)
    span = _network(pool.ip_range) if pool.ip_range else subnet
    low, high = int(span.network_address), int(span.broadcast_address)
    never = {int(ipaddress.ip_address(text)) for text in (pool.gateway, *pool.reserved)}
    never.add(int(subnet.network_address))
    if subnet.version == 4:
        never.add(int(subnet.broadcast_address))
    make = ipaddress.IPv4Address if subnet.version == 4 else ipaddress.IPv6Address
    start = int(ipaddress.ip_address(last)) + 1 if last else low
    for number in _circle(low, high, start, len(taken) + len(never) + 1):
        if number not in never and (text := str(make(number))) not in taken:
            return text
    return None


def _circle(low: int, high: int, start: int, steps: int) -> Iterator[int]:
    """`steps` numbers are enough to meet a free one, if there is one."""
    size = high - low + 1
    offset = start - low if low <= start <= high else 0
    for step in range(min(steps, size)):
        yield low + (offset + step) % size


def claim(pools: Iterable[Pool], holders: Mapping[str, str], wanted: str, slot: str, network: str) -> Pool:
    """The pool in which `slot` may have just the address `wanted`. `holders` says whose the taken ones are.

    Raises ConflictError when the address is outside, set aside, or somebody else's.
    """
    pools = tuple(pools)
    address = ipaddress.ip_address(wanted)
    pool = next((pool for pool in pools if address in _network(pool.subnet)), None)
    if pool is None:
        subnets = ", ".join(pool.subnet for pool in pools) or "none"
        raise ConflictError(
            f"the address {wanted} of {slot} is not in network {network}", hint=f"its subnets: {subnets}"
        )
    subnet = _network(pool.subnet)
    edge = (subnet.network_address, subnet.broadcast_address if subnet.version == 4 else None)
    if wanted in (pool.gateway, *pool.reserved) or address in edge:
        raise ConflictError(f"the address {wanted} of {slot} is set aside in network {network}")
    holder = holders.get(wanted, slot)
    if holder != slot:
        raise ConflictError(
            f"the address {wanted} of {slot} in network {network} belongs to {holder}",
            hint="give fixed addresses outside of ip_range, so that no other container is given them",
        )
    return pool


def mac_of(address: str, digest: bytes) -> str:
    """02:42 and the IPv4 address, so that a neighbour's cached MAC stays right when an address is handed on.

    Without IPv4, four bytes of `digest`.
    """
    tail = ipaddress.ip_address(address).packed if address and ":" not in address else digest[:4]
    return (b"\x02\x42" + tail).hex(":")
