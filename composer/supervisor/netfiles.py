"""The files that say where a container is: /etc/hosts, /etc/hostname and /etc/resolv.conf.

They go with the network: who is on another one's has that one's files, who is on the host's has the host's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from composer.bundle import files, namespaces
from composer.disk import read_json
from composer.errors import NotFoundError
from composer.model.stack import Service
from composer.network.dns.resolvconf import container_text, upstreams
from composer.paths import StackPaths
from composer.record import stacks
from composer.supervisor.hostfile import text_of
from composer.supervisor.naming import host_resolv_conf
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core

SHORTEST_ID = 3
"""Digits with which an id may be told."""
FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
HOSTS = Path("/etc/hosts")
HERE = ("127.0.0.1",)
"""What `host-gateway` is for a container on the host's network."""


class Partner(NamedTuple):
    """A running container whose namespaces another one joins. `bundle` is its OCI configuration."""

    pid: int
    bundle: dict[str, Any]

    @property
    def files(self) -> dict[str, str]:
        """Paths of its files, by their places in the container."""
        mounts = {each["destination"]: each.get("source", "") for each in self.bundle["mounts"]}
        return {place: mounts[place] for place in FILES}


def small_files(core: Core, live: Live, service: Service, hostname: str) -> dict[str, str]:
    """Paths of the files, by their places in the container; written unless they are another one's."""
    if service.network_mode.startswith(namespaces.SHARED):
        return partner(core, service.network_mode).files
    run = core.here.container_run(live.name)
    texts = of_host(service) if service.network_mode == "host" else own(live, service, hostname)
    texts["/etc/hostname"] = files.hostname_file(hostname)
    found = {place: run / place.rpartition("/")[2] for place in FILES}
    for place, path in found.items():
        path.write_text(texts[place])
        os.chmod(path, 0o644)
    return {place: str(path) for place, path in found.items()}


def named(core: Core, service: Service) -> Service:
    """The service under the name that it has: who is on another's network has that one's."""
    if not service.network_mode.startswith(namespaces.SHARED):
        return service
    bundle = partner(core, service.network_mode).bundle
    return service.replace(
        hostname=bundle.get("hostname", ""), domainname=bundle.get("domainname", service.domainname)
    )


def move(core: Core, live: Live, before: Iterable[str]) -> None:
    """Its addresses are others than `before`: /etc/hosts says so, and keeps what else is written there."""
    bundle = bundle_of(core.here, live.name)
    if "hostname" in bundle:
        path = core.here.container_run(live.name) / "hosts"
        names = files.own_names(bundle["hostname"], bundle.get("domainname", ""))
        path.write_text(files.moved(path.read_text(), names, before, addresses(live)))


def addresses(live: Live) -> list[str]:
    return [address.partition("/")[0] for row in live.networks.values() for address in row["addresses"]]


def own(live: Live, service: Service, hostname: str) -> dict[str, str]:
    gateways = tuple(row["gateway"] for row in live.networks.values() if row["gateway"])[:1]
    return {
        "/etc/hosts": files.hosts(
            hostname,
            service.domainname,
            addresses=addresses(live),
            extra=service.extra_hosts,
            gateways=gateways,
        ),
        "/etc/resolv.conf": container_text(
            host_resolv_conf(), search=service.dns_search, options=service.dns_opt
        ),
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
    return {"/etc/hosts": text_of(HOSTS).rstrip("\n") + "\n" + "".join(rows), "/etc/resolv.conf": resolv}


def partner(core: Core, mode: str) -> Partner:
    """The running container behind `service:web` or `container:name`, which may be of another stack.

    Raises NotFoundError.
    """
    way, _, name = mode.partition(":")
    for live in core.world.containers.values() if way == "container" else core.world.of_service(name):
        if live.plan.alive and live.pid and (way == "service" or called(name, live.name, live.plan.id)):
            return Partner(live.pid, bundle_of(core.here, live.name))
    for record in stacks(core.paths) if way == "container" else ():
        for row in record["containers"] if record["stack"] != core.name else ():
            if row["pid"] and called(name, row["name"], row["id"]) and is_of(row["pid"], row["id"]):
                return Partner(row["pid"], bundle_of(core.paths.stack(record["stack"]), row["name"]))
    raise NotFoundError(f"{mode} is not running", hint="`composer container ls` lists what runs")


def called(text: str, name: str, identity: str) -> bool:
    return text == name or (len(text) >= SHORTEST_ID and identity.startswith(text))


def is_of(pid: int, identity: str) -> bool:
    """Whether a process is of that container, as its control group says: a record may be late."""
    try:
        return identity in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def bundle_of(stack: StackPaths, name: str) -> dict[str, Any]:
    """Raises NotFoundError when the container is being removed."""
    found = read_json(stack.container_run(name) / "config.json")
    if found is None:
        raise NotFoundError(f"container {name} is gone")
    return dict(found)
