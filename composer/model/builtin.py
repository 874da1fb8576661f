"""The networks that every host has: `host`, `none` and `bridge`, where a stack names them as its own. Pure.

Older files say `networks: {net: {external: true, name: host}}` where others say `network_mode: host`. Both
mean the same, and from here on there is only the second.
"""

from __future__ import annotations

from composer.errors import Complaint, StackFileError
from composer.model.stack import FrozenMap, Network, Service, Stack

_NAMES = ("host", "none", "bridge")
_DRIVERS = {"host": "host", "none": "none", "null": "none"}


def without_builtin(stack: Stack) -> Stack:
    """The stack with `network_mode` for such networks. Raises StackFileError for a service that also wants
    others, as Docker does.
    """
    modes = {key: mode for key, network in stack.networks.items() if (mode := _mode(network))}
    if not modes:
        return stack
    services = {name: _on(service, modes) for name, service in stack.services.items()}
    networks = {key: network for key, network in stack.networks.items() if key not in modes}
    return stack.replace(services=FrozenMap(services), networks=FrozenMap(networks))


def _mode(network: Network) -> str:
    if network.external:
        return network.name if network.name in _NAMES else ""
    return _DRIVERS.get(network.driver, "")


def _on(service: Service, modes: dict[str, str]) -> Service:
    found = [key for key in service.networks if key in modes]
    if not found:
        return service
    if len(service.networks) > 1:
        message = f"`{found[0]}` is the {modes[found[0]]} network, which excludes every other"
        raise StackFileError([Complaint(message, path=("services", service.name, "networks"))])
    return service.replace(networks=FrozenMap(), network_mode=modes[found[0]])
