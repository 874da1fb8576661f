"""Network settings under /proc/sys/net, in the network namespace of the calling thread."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/proc/sys/net")


def read(name: str) -> str | None:
    """`name` as in "ipv4/ip_forward"; None when this kernel has no such setting."""
    try:
        return (_ROOT / name).read_text().strip()
    except FileNotFoundError:
        return None


def write(name: str, value: str) -> bool:
    """Write unless it is so already. False when this kernel has no such setting. Raises OSError (read-only
    /proc).
    """
    old = read(name)
    if old is not None and old != value:
        (_ROOT / name).write_text(value)
    return old is not None


def has_ipv6() -> bool:
    """Whether new interfaces may have IPv6 addresses."""
    return read("ipv6/conf/all/disable_ipv6") == "0" and read("ipv6/conf/default/disable_ipv6") == "0"
