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
    names = (f"{hostname}.{domainname}", hostname) if domainname else (hostname,)
    rows += [(address, names) for address in addresses]
    return "".join(f"{address}\t{' '.join(found)}\n" for address, found in rows)


def hostname_file(hostname: str) -> str:
    return f"{hostname}\n"
