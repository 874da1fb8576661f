"""The text of /etc/hosts and /etc/hostname in a container."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from composer.errors import UsageError

GATEWAY = "host-gateway"

LOCAL = (
    ("127.0.0.1", ("localhost",)),
    ("::1", ("localhost", "ip6-localhost", "ip6-loopback")),
    ("fe00::", ("ip6-localnet",)),
    ("ff00::", ("ip6-mcastprefix",)),
    ("ff02::1", ("ip6-allnodes",)),
    ("ff02::2", ("ip6-allrouters",)),
)


def own_names(hostname: str, domainname: str) -> str:
    return f"{hostname}.{domainname} {hostname}" if domainname else hostname


def hosts(
    hostname: str,
    domainname: str = "",
    *,
    addresses: Iterable[str] = (),
    extra: Mapping[str, tuple[str, ...]] | None = None,
    gateways: tuple[str, ...] = (),
) -> str:
    """/etc/hosts. `addresses` are the container's own; `gateways` are what `host-gateway` stands for.

    Raises UsageError when an entry asks for the gateway and there is none.
    """
    rows: list[tuple[str, tuple[str, ...]]] = list(LOCAL)
    for name, targets in (extra or {}).items():
        for target in targets:
            if target == GATEWAY and not gateways:
                raise UsageError(f"extra_hosts: {name} is to be the host, but no network leads there")
            rows += [(address, (name,)) for address in (gateways if target == GATEWAY else (target,))]
    rows += [(address, (own_names(hostname, domainname),)) for address in addresses]
    return "".join(f"{address}\t{' '.join(found)}\n" for address, found in rows)


def moved(text: str, names: str, old: Iterable[str], new: Iterable[str]) -> str:
    """/etc/hosts of a container whose addresses were `old` and are `new`. Other lines stay as they are."""
    new = list(new)
    gone = set(old) - set(new)
    lines = [line for line in text.splitlines() if (line.split() or [""])[0] not in gone]
    there = {(line.split() or [""])[0] for line in lines}
    lines += [f"{address}\t{names}" for address in new if address not in there]
    return "".join(f"{line}\n" for line in lines)


def hostname_file(hostname: str) -> str:
    return f"{hostname}\n"
