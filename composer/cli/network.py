"""`composer network …`: the networks of this host."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Mapping
from typing import Any

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb, refused
from composer.cli.render.listing import listing, show
from composer.cli.volume import complain, labelled, pairs
from composer.errors import ComposerError, ConflictError, NotFoundError, UsageError
from composer.model.digest import to_json
from composer.model.kinds import is_address
from composer.model.stack import NOTHING, Attachment, FrozenMap, IpamPool, Network
from composer.network import registry
from composer.network.registry import NetworkRecord
from composer.record import stacks

NETWORKS = Positional(
    "NETWORK", "Names of networks, or the beginning of their ids", many=True, complete="network"
)
DRIVERS = ("bridge", "macvlan", "ipvlan")

VERBS = {
    "ls": Verb(
        "ls",
        "List networks",
        (
            Flag(
                "filter",
                "list",
                "name=…, id=…, driver=…, label=…[=…], type=custom|builtin, scope=local, dangling=true|false",
                "f",
                metavar="KEY=VALUE",
            ),
            common.FORMAT,
            Flag("no-trunc", "bool", "Whole ids"),
            Flag("quiet", "bool", "Only ids", "q"),
        ),
    ),
    "create": Verb(
        "create",
        "Create a network that stacks can use as `external`",
        (
            Flag("attachable", "bool", "Others may join; here as always"),
            Flag("aux-address", "list", "An address not to be given (repeatable)", metavar="NAME=IP"),
            Flag("driver", "str", "The driver", "d", default="bridge", choices=DRIVERS),
            Flag("gateway", "list", "The gateway of a subnet (repeatable)", metavar="IP"),
            Flag("internal", "bool", "Without a way outside"),
            Flag("ip-range", "list", "Addresses are given from here (repeatable)", metavar="CIDR"),
            Flag("ipv4", "bool", "With IPv4 addresses", default=True),
            Flag("ipv6", "bool", "With IPv6 addresses"),
            Flag("label", "list", "A label (repeatable)", metavar="KEY=VALUE"),
            Flag("opt", "list", "An option of the driver (repeatable)", "o", metavar="KEY=VALUE"),
            Flag("subnet", "list", "A subnet (repeatable)", metavar="CIDR"),
        ),
        (Positional("NETWORK", "Its name"),),
        examples=(("create --subnet 10.9.0.0/24 shared", "with a subnet of one's own"),),
    ),
    "inspect": Verb(
        "inspect",
        "Show everything about networks",
        (Flag("format", "str", "A Go template", "f"),),
        (NETWORKS,),
    ),
    "rm": Verb(
        "rm", "Remove networks", (Flag("force", "bool", "No error for one that is gone", "f"),), (NETWORKS,)
    ),
    "prune": Verb(
        "prune",
        "Remove networks that no stack made and no container uses",
        (Flag("force", "bool", "Do not ask", "f"),),
    ),
}
ONE = Positional("NETWORK", "Its name", complete="network")
CONTAINER = Positional("CONTAINER", "Its name, or the beginning of its id", complete="container")
VERBS["connect"] = Verb(
    "connect",
    "Put a container on a network",
    (
        Flag("alias", "list", "A further name there (repeatable)", metavar="NAME"),
        Flag("driver-opt", "list", "An option of its place there (repeatable)", metavar="KEY=VALUE"),
        Flag("gw-priority", "int", "The highest has the default route", metavar="N"),
        Flag("ip", "str", "An IPv4 address", metavar="IP"),
        Flag("ip6", "str", "An IPv6 address", metavar="IP"),
        Flag(
            "link",
            "list",
            "Have a container's name, or ALIAS for it (repeatable)",
            metavar="CONTAINER[:ALIAS]",
        ),
        Flag("link-local-ip", "list", "A link-local address (repeatable)", metavar="IP"),
    ),
    (ONE, CONTAINER),
    examples=(("connect shared shop-web-1", "at once if it runs"),),
)
VERBS["disconnect"] = Verb(
    "disconnect",
    "Take a container off a network",
    (Flag("force", "bool", "Also one that is gone, whose addresses are still taken", "f"),),
    (ONE, CONTAINER),
)
FILTERS: common.Known = {
    "name": (),
    "id": (),
    "driver": (),
    "label": (),
    "type": ("custom", "builtin"),
    "scope": ("local", "global", "swarm"),
    "dangling": common.TRUTHS,
}
COLUMNS = {"NETWORK ID": "ID", "NAME": "Name", "DRIVER": "Driver", "SCOPE": "Scope"}


def run_ls(context: Context, *, filter: list[str], format: str, no_trunc: bool, quiet: bool) -> int:
    chosen = common.filters(filter, FILTERS)
    rows = [
        as_json(record, whole=no_trunc)
        for record in registry.networks(context.paths)
        if all(matches(context, record, *one) for one in chosen)
    ]
    if quiet:
        show("\n".join(row["ID"] for row in rows))
    else:
        show(listing(rows, COLUMNS, format))
    return 0


def matches(context: Context, record: NetworkRecord, key: str, value: str) -> bool:
    match key:
        case "name":
            return value in record.name
        case "id":
            return record.id.startswith(value)
        case "driver":
            return value == record.driver
        case "scope":
            return value == "local"
        case "type":
            return value == "custom"  # nothing here is built in
        case "dangling":
            return (not registry.held(context.paths, record.name)) == common.true(value)
    return labelled(record.labels, value)


def as_json(record: NetworkRecord, *, whole: bool) -> dict[str, Any]:
    """The keys of Docker's `network ls --format json`."""
    return {
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(record.created)),
        "Driver": record.driver,
        "ID": record.id if whole else record.id[:12],
        "IPv6": str(bool(record.gateway(6))).lower(),
        "Internal": str(record.internal).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(record.labels.items())),
        "Name": record.name,
        "Scope": "local",
    }


def run_create(
    context: Context,
    *,
    attachable: bool,
    aux_address: list[str],
    driver: str,
    gateway: list[str],
    internal: bool,
    ip_range: list[str],
    ipv4: bool,
    ipv6: bool,
    label: list[str],
    opt: list[str],
    subnet: list[str],
    network: str,
) -> int:
    from composer.network.lifecycle import ensure_network

    if not (ipv4 or ipv6):
        raise UsageError("a network needs addresses", hint="say --ipv6, or leave out --ipv4=false")
    if registry.find(context.paths, network) is not None:
        raise ConflictError(f"a network named {network} exists already")
    wanted = Network(
        key=network,
        name=network,
        driver=driver,
        driver_opts=pairs(opt, "--opt"),
        ipam=ipam(subnet, gateway, ip_range, pairs(aux_address, "--aux-address")),
        internal=internal,
        attachable=True,
        enable_ipv4=ipv4,
        enable_ipv6=ipv6,
        labels=pairs(label, "--label"),
    )
    print(ensure_network(context.paths, "", wanted).id)
    return 0


def ipam(
    subnets: list[str], gateways: list[str], ranges: list[str], kept: Mapping[str, str] = NOTHING
) -> tuple[IpamPool, ...]:
    """Each gateway, range and address that is kept goes with the subnet it lies in. Raises UsageError."""
    for flag, texts in (("--gateway", gateways), ("--aux-address", kept.values())):
        if wrong := [text for text in texts if not is_address(text)]:
            raise refused(flag, wrong[0], "no IP address")
    parts = [(text, cidr(text, "--ip-range")) for text in ranges]
    found = []
    for text in subnets:
        subnet = cidr(text, "--subnet")
        gateway = next((ip for ip in gateways if ipaddress.ip_address(ip) in subnet), "")
        part = next((text for text, part in parts if part[0] in subnet), "")
        aux = {name: ip for name, ip in kept.items() if ipaddress.ip_address(ip) in subnet}
        found.append(IpamPool(subnet=text, gateway=gateway, ip_range=part, aux_addresses=FrozenMap(aux)))
    for flag, given, taken in (
        ("--gateway", gateways, [pool.gateway for pool in found]),
        ("--ip-range", ranges, [pool.ip_range for pool in found]),
        ("--aux-address", kept.values(), [ip for pool in found for ip in pool.aux_addresses.values()]),
    ):
        if lost := [text for text in given if text not in taken]:
            raise UsageError(f"{flag} {lost[0]} lies in no --subnet")
    return tuple(found)


def cidr(text: str, flag: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Raises UsageError."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise refused(flag, text, "no subnet", "as in 10.1.0.0/16") from None


def run_inspect(context: Context, *, format: str, network: list[str]) -> int:
    rows = [details(context, registry.inspect(context.paths, name)) for name in network]
    print(listing(rows, {}, format) if format else json.dumps(rows, indent=4))
    return 0


def details(context: Context, record: NetworkRecord) -> dict[str, Any]:
    """All that is known about a network, under Docker's names."""
    return {
        "Name": record.name,
        "Id": record.id,
        "Created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
        "Scope": "local",
        "Driver": record.driver,
        "EnableIPv4": bool(record.gateway(4)),
        "EnableIPv6": bool(record.gateway(6)),
        "IPAM": {
            "Driver": "default",
            "Config": [
                {key: value for key, value in entry.items() if value}
                for pool in record.pools
                for entry in [{"Subnet": pool.subnet, "Gateway": pool.gateway, "IPRange": pool.ip_range}]
            ],
        },
        "Internal": record.internal,
        "Attachable": record.attachable,
        "Containers": {row["id"]: endpoint(row, record.name) for row in members(context, record.name)},
        "Options": dict(record.options),
        "Labels": dict(record.labels),
        "Stack": record.owner,
        "Interface": record.link,
    }


def members(context: Context, name: str) -> list[Any]:
    """Rows of the containers that are on a network now."""
    return [
        row
        for record in stacks(context.paths)
        for row in record["containers"]
        if name in row["networks"] and row["state"] in ("running", "paused")
    ]


def endpoint(row: Any, network: str) -> dict[str, str]:
    place = row["networks"][network]
    ipv4 = next((address for address in place["addresses"] if ":" not in address), "")
    ipv6 = next((address for address in place["addresses"] if ":" in address), "")
    return {"Name": row["name"], "MacAddress": place["mac"], "IPv4Address": ipv4, "IPv6Address": ipv6}


def run_rm(context: Context, *, force: bool, network: list[str]) -> int:
    failed: list[ComposerError] = []
    for name in network:
        try:
            if force and registry.find(context.paths, name) is None:
                continue
            remove(context, registry.inspect(context.paths, name))
            print(name)
        except ComposerError as error:
            failed.append(error)
    return complain(failed)


def remove(context: Context, record: NetworkRecord) -> None:
    """Raises ConflictError while a container holds an address there, running or not."""
    from composer.network.lifecycle import remove_networks

    if holders := {lease.slot.partition("/")[2] for lease in registry.held(context.paths, record.name)}:
        raise ConflictError(
            f"network {record.name} is in use by {', '.join(sorted(holders))}",
            hint=f"`composer -p {record.owner} down`" if record.owner else "take those stacks down first",
        )
    remove_networks(context.paths, [record])


def run_prune(context: Context, *, force: bool) -> int:
    from composer.cli.ask import sure

    if not sure("This removes all networks that no container uses.", force):
        return 1
    owners = {record["stack"] for record in stacks(context.paths) if record["containers"]}
    removed = []
    for record in registry.networks(context.paths):
        if record.owner not in owners and not registry.held(context.paths, record.name):
            remove(context, record)
            removed.append(record.name)
    if removed:
        print("Deleted Networks:", *removed, sep="\n")
    return 0


def run_connect(
    context: Context,
    *,
    alias: list[str],
    driver_opt: list[str],
    gw_priority: int | None,
    ip: str,
    ip6: str,
    link: list[str],
    link_local_ip: list[str],
    network: str,
    container: str,
) -> int:
    wanted = Attachment(
        aliases=tuple(alias),
        ipv4_address=ip or "",
        ipv6_address=ip6 or "",
        link_local_ips=tuple(link_local_ip),
        links=tuple(link),
        gw_priority=gw_priority or 0,
        driver_opts=pairs(driver_opt, "--driver-opt"),
    )
    return switch(context, network, container, connect=True, attachment=to_json(wanted))


def run_disconnect(context: Context, *, force: bool, network: str, container: str) -> int:
    try:
        return switch(context, network, container, connect=False)
    except NotFoundError:
        slots = [lease.slot for lease in registry.held(context.paths, network)]
        left = [slot for slot in slots if force and slot.partition("/")[2] == container]
        if not left:
            raise
        registry.release(context.paths, left, network)
        return 0


def switch(context: Context, network: str, container: str, **fields: Any) -> int:
    """Ask the supervisor of the container's stack."""
    from composer.api.client import Supervisor
    from composer.cli.container import find

    stack, row = find(context, container)
    name = registry.inspect(context.paths, network).name
    with Supervisor.start(context.paths.stack(stack)) as supervisor:
        supervisor.call("network", container=row["name"], network=name, **fields)
    return 0
