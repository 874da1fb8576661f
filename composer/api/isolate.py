"""A stack made fit to run many times at once on one host, or cut off from the world. Pure: JSON to JSON."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
BRIDGE = "com.docker.network.bridge.name"


def isolated(stack: Json) -> Json:
    """Nothing that a second copy would stumble over: fixed names, host ports, subnets, addresses, bridges.

    Ports are published on loopback, where the host has a free one. What is external stays shared.
    """
    name = stack["name"]
    return {
        **stack,
        "services": {key: _alone(service) for key, service in stack["services"].items()},
        "networks": {key: _own(network, name, key) for key, network in stack.get("networks", {}).items()},
        "volumes": {key: _own(volume, name, key) for key, volume in stack.get("volumes", {}).items()},
    }


def _alone(service: Json) -> Json:
    ports = [{**port, "host_ip": "127.0.0.1", "published": ""} for port in service.get("ports", ())]
    fixed = ("ipv4_address", "ipv6_address", "mac_address")
    networks = {
        name: {key: value for key, value in place.items() if key not in fixed}
        for name, place in service.get("networks", {}).items()
    }
    kept = {key: value for key, value in service.items() if key != "container_name"}
    return {**kept, "ports": ports, "networks": networks}


def _own(part: Json, stack: str, key: str) -> Json:
    if part.get("external"):
        return part
    kept = {field: value for field, value in part.items() if field != "ipam"}
    if BRIDGE in part.get("driver_opts", {}):
        kept["driver_opts"] = {name: value for name, value in part["driver_opts"].items() if name != BRIDGE}
    return {**kept, "name": f"{stack}_{key}"}


def internal(stack: Json) -> Json:
    """No network of the stack leads out. Published ports are still reached from this host."""
    networks = {
        key: network if network.get("external") else {**network, "internal": True}
        for key, network in stack.get("networks", {}).items()
    }
    return {**stack, "networks": networks}
