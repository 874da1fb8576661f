"""The files that say where a container is: /etc/hosts, /etc/hostname and /etc/resolv.conf.

They go with the network: who is on another one's has that one's files, who is on the host's has the host's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from composer.bundle import files, namespaces
from composer.errors import NotFoundError
from composer.model.stack import Service
from composer.network.dns.resolvconf import container_text, upstreams
from composer.supervisor.hostfile import text_of
from composer.supervisor.net import host_resolv_conf
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core

NAMES = ("hosts", "hostname", "resolv.conf")
HOSTS = Path("/etc/hosts")
HERE = ("127.0.0.1",)
"""What `host-gateway` is for a container on the host's network."""


def small_files(core: Core, live: Live, service: Service, hostname: str) -> dict[str, str]:
    """Paths of the files, by their places in the container; written unless they are another one's."""
    owner = live
    while service.network_mode.startswith(namespaces.SHARED):
        owner = partner(core, service.network_mode)
        service = core.containers.service_of(owner)
    run = core.here.container_run(owner.name)
    if owner is live:
        texts = of_host(service) if service.network_mode == "host" else own(live, service, hostname)
        for name, text in (texts | {"hostname": files.hostname_file(hostname)}).items():
            path = run / name
            path.write_text(text)
            os.chmod(path, 0o644)
    return {f"/etc/{name}": str(run / name) for name in NAMES}


def own(live: Live, service: Service, hostname: str) -> dict[str, str]:
    rows = live.networks.values()
    addresses = [address.partition("/")[0] for row in rows for address in row["addresses"]]
    gateways = tuple(row["gateway"] for row in rows if row["gateway"])[:1]
    return {
        "hosts": files.hosts(
            hostname, service.domainname, addresses=addresses, extra=service.extra_hosts, gateways=gateways
        ),
        "resolv.conf": container_text(host_resolv_conf(), search=service.dns_search, options=service.dns_opt),
    }


def of_host(service: Service) -> dict[str, str]:
    """Those of the host, with what the service says of its own."""
    rows = [
        f"{address}\t{name}\n"
        for name, targets in service.extra_hosts.items()
        for target in targets
        for address in (HERE if target == files.GATEWAY else (target,))
    ]
    resolv = host_resolv_conf()
    if service.dns or service.dns_search or service.dns_opt:
        servers = service.dns or upstreams(resolv)
        resolv = container_text(
            resolv, search=service.dns_search, options=service.dns_opt, nameservers=servers
        )
    return {"hosts": text_of(HOSTS).rstrip("\n") + "\n" + "".join(rows), "resolv.conf": resolv}


def partner(core: Core, mode: str) -> Live:
    """The running container behind `service:web` or `container:name`. Raises NotFoundError."""
    way, _, name = mode.partition(":")
    lives = [core.live(name)] if way == "container" else core.world.of_service(name)
    for live in lives:
        if live.plan.alive and live.pid:
            return live
    raise NotFoundError(f"{mode} is not running")
