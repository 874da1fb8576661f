"""What containers are called: the names of a stack, from what runs and from what is wanted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from composer.model.stack import Attachment, Network, Service, Stack
from composer.network.dns.zone import EndpointName
from composer.record import NetworkRow
from composer.supervisor.world import Live

OWN_NETWORK = ("", "bridge", "default")
"""Network modes of containers that are on networks of ours."""


def attachments(stack: Stack, service: Service) -> dict[str, Attachment]:
    """The service's networks by their names on the host; none when it has no network of its own."""
    if service.network_mode not in OWN_NETWORK:
        return {}
    if service.network_mode:
        return {plain_network(stack.name).name: Attachment(mac_address=service.mac_address)}
    found = {
        stack.networks[key].name: attachment
        for key, attachment in service.networks.items()
        if key in stack.networks
    }
    if service.mac_address and not any(each.mac_address for each in found.values()):
        for name in sorted(found, key=lambda name: (-found[name].priority, name))[:1]:
            found[name] = found[name].replace(mac_address=service.mac_address)
    return found


def plain_network(stack: str) -> Network:
    """What a stack has for `network_mode: bridge`, where Docker has one for the whole host."""
    return Network(key="bridge", name=f"{stack}_bridge")


def called(
    container: str, service: str, identity: str, networks: Mapping[str, NetworkRow]
) -> Iterator[EndpointName]:
    """What a container is called on each of its networks. A one-off has no service's name unless told so."""
    for network, row in networks.items():
        yield EndpointName(
            network=network,
            container=container,
            service=service,
            short_id=identity[:12],
            aliases=tuple(row["aliases"]),
            addresses=tuple(address.partition("/")[0] for address in row["addresses"]),
        )


def running(live: Live) -> Iterator[EndpointName]:
    """Who stands by, and whom another one took over from, only has a name of its own."""
    plan = live.plan
    service = "" if plan.oneoff else plan.slot.service
    if plan.standby or plan.retired:
        rows: dict[str, NetworkRow] = {n: {**row, "aliases": []} for n, row in live.networks.items()}
        return called(live.name, "", plan.id, rows)
    return called(live.name, service, plan.id, live.networks)


def absent(stack: Stack, lives: Iterable[Live]) -> Iterator[EndpointName]:
    """The names of what does not run now: they exist, without addresses, so nobody else is asked for them."""
    for service in stack.services.values():
        for network, attachment in attachments(stack, service).items():
            yield EndpointName(network, "", service.name, aliases=attachment.aliases)
    for live in lives:
        for network in () if live.plan.oneoff else live.plan.networks:
            yield EndpointName(network, live.name, live.plan.slot.service)


def links(service: Service, rows: Mapping[str, NetworkRow]) -> Mapping[str, str]:
    """`db:database` makes database a name for db, for this container alone; `db` is a name already."""
    connected = [link for row in rows.values() for link in row["asked"].get("links", ())]
    pairs = (text.partition(":") for text in (*service.links, *service.external_links, *connected))
    return {alias: target for target, _, alias in pairs if alias and alias != target}
