"""`network connect` and `disconnect`: a container on one network more or less, at once if it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from composer.errors import ConflictError, NotFoundError
from composer.model.stack import Attachment
from composer.network import registry
from composer.supervisor import netfiles
from composer.supervisor.names import OWN_NETWORK
from composer.supervisor.net import slot
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core


async def connect(core: Core, live: Live, network: str, attachment: Attachment) -> None:
    """Raises ConflictError, NotFoundError."""
    record = registry.inspect(core.paths, network)
    mode = core.containers.service_of(live).network_mode
    if mode not in OWN_NETWORK:
        raise ConflictError(f"{live.name} has no networks of its own: it has `network_mode: {mode}`")
    if record.name in live.plan.networks:
        raise ConflictError(f"{live.name} is on network {record.name} already")
    core.net.know(record)
    await change(core, live, {record.name: attachment}, (*live.plan.networks, record.name))
    core.tell("network connect", live, network=record.name)


async def disconnect(core: Core, live: Live, network: str) -> None:
    """Raises NotFoundError."""
    record = registry.inspect(core.paths, network)
    if record.name not in live.plan.networks:
        raise NotFoundError(f"{live.name} is not on network {record.name}")
    await change(core, live, {}, tuple(name for name in live.plan.networks if name != record.name))
    registry.release(core.paths, [slot(core.name, live)], record.name)
    core.tell("network disconnect", live, network=record.name)


async def change(core: Core, live: Live, new: dict[str, Attachment], networks: tuple[str, ...]) -> None:
    """Have the container on `networks`, and after its next start too. On failure all is as it was."""
    service = core.containers.service_of(live)
    wanted = {name: at for name, at in core.net.wanted(live, service).items() if name in networks}
    places = await core.net.places(live, wanted | new)
    before = netfiles.addresses(live)
    if live.plan.alive:
        answer = await core.keeper.call("take", name=f"{live.plan.id}/netlink")
        core.net.reconnect(live, answer["fds"][f"{live.plan.id}/netlink"], places, service)
        netfiles.move(core, live, before)
    else:
        live.networks = core.net.expected(places)
    live.change(networks=networks)
    core.changed(live)
