"""The drivers and their options, under Docker's names. Pure.

One row per option: a name that stands in no row is reported by `unknown`, never silently dropped.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Self

from composer.errors import Complaint, StackFileError
from composer.network.links import IPVLAN_MODES, MACVLAN_MODES
from composer.value import Value

DRIVERS = ("bridge", "macvlan", "ipvlan", "host", "none")


def _boolean(text: str) -> bool:
    value = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}.get(text.lower())
    if value is None:
        raise ValueError(f"{text!r} is not true or false")
    return value


def _mtu(text: str) -> int:
    if not text.isdecimal() or not 68 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not an MTU between 68 and 65535")
    return int(text)


def _interface(text: str) -> str:
    if not re.fullmatch(r"[^\s/:]{1,15}", text) or text in (".", ".."):
        raise ValueError(f"{text!r} is not an interface name (1 to 15 characters)")
    return text


def _host_ip(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _one_of(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is none of {', '.join(names)}")
        return text

    return read


_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.IFNAME\.([a-z0-9_]+)=([-0-9]+)")


def _sysctls(text: str) -> tuple[tuple[str, str], ...]:
    """Settings of one interface, as (name below /proc/sys/net with {} for the interface, value)."""
    found = []
    for entry in text.split(","):
        match = _SYSCTL.fullmatch(entry.strip())
        if match is None:
            raise ValueError(f"{entry.strip()!r} is no setting such as net.ipv4.conf.IFNAME.rp_filter=1")
        found.append((f"{match[1]}/{match[2]}/{{}}/{match[3]}", match[4]))
    return tuple(found)


_Table = Mapping[str, tuple[str, Callable[[str], Any]]]
_ANY: _Table = {"com.docker.network.driver.mtu": ("mtu", _mtu)}
_TABLE: Mapping[str, _Table] = {
    "bridge": {
        **_ANY,
        "com.docker.network.bridge.name": ("link", _interface),
        "com.docker.network.bridge.enable_icc": ("icc", _boolean),
        "com.docker.network.bridge.enable_ip_masquerade": ("masquerade", _boolean),
        "com.docker.network.bridge.host_binding_ipv4": ("host_ip", _host_ip),
        "com.docker.network.container_iface_prefix": ("prefix", _interface),
    },
    "macvlan": {
        **_ANY,
        "parent": ("link", _interface),
        "macvlan_mode": ("mode", _one_of(*MACVLAN_MODES)),
    },
    "ipvlan": {
        **_ANY,
        "parent": ("link", _interface),
        "ipvlan_mode": ("mode", _one_of(*IPVLAN_MODES)),
        "ipvlan_flag": ("flag", _one_of("bridge", "private", "vepa")),
    },
    "host": {},
    "none": {},
}
_ENDPOINT: _Table = {
    "com.docker.network.endpoint.ifname": ("interface", _interface),
    "com.docker.network.endpoint.sysctls": ("sysctls", _sysctls),
}


class Options(Value):
    """`mtu` 0 is 1500, or the parent's. `host_ip` is where ports are published that say no address."""

    driver: str
    link: str = ""
    mtu: int = 0
    icc: bool = True
    masquerade: bool = True
    host_ip: str = ""
    prefix: str = "eth"
    mode: str = ""
    flag: str = "bridge"

    @property
    def has_addresses(self) -> bool:
        return self.driver not in ("host", "none")

    @classmethod
    def read(cls, driver: str, options: Mapping[str, str]) -> Self:
        """Raises StackFileError for an unknown driver or a value that makes no sense."""
        if driver not in _TABLE:
            raise StackFileError(
                [Complaint(f"there is no network driver {driver!r}", hint=f"drivers: {', '.join(DRIVERS)}")]
            )
        return cls(driver, **_read(_TABLE[driver], options))


class EndpointOptions(Value):
    """What a service's `driver_opts` on a network can say. `sysctls` as `_sysctls` has them."""

    interface: str = ""
    sysctls: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, options: Mapping[str, str]) -> Self:
        """Raises StackFileError for a value that makes no sense."""
        return cls(**_read(_ENDPOINT, options))


def _read(table: _Table, options: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    complaints = []
    for name, text in options.items():
        field, read = table.get(name, ("", str))
        try:
            values |= {field: read(text)} if field else {}
        except ValueError as error:
            complaints.append(Complaint(f"{name}: {error}", path=("driver_opts", name)))
    if complaints:
        raise StackFileError(complaints)
    return values


def without_effect(options: Mapping[str, str], driver: str = "") -> list[str]:
    """Those that mean nothing to a network of `driver`, or without one to a service's place on any."""
    table = _TABLE.get(driver, {}) if driver else _ENDPOINT
    return [name for name in options if name not in table]
