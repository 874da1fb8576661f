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


_ANY = {"com.docker.network.driver.mtu": ("mtu", _mtu)}
_TABLE: dict[str, dict[str, tuple[str, Callable[[str], Any]]]] = {
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
        values: dict[str, Any] = {}
        complaints = []
        for name, text in options.items():
            field, read = _TABLE[driver].get(name, ("", str))
            try:
                values |= {field: read(text)} if field else {}
            except ValueError as error:
                complaints.append(Complaint(f"{name}: {error}", path=("driver_opts", name)))
        if complaints:
            raise StackFileError(complaints)
        return cls(driver, **values)


def unknown(driver: str, options: Mapping[str, str]) -> list[str]:
    """The options that mean nothing to the driver here; for a warning."""
    return [name for name in options if name not in _TABLE.get(driver or "bridge", {})]
