"""A plan without a supervisor: the stack as its record and the disk have it, simulated to the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from composer.model.stack import FrozenMap, Stack
from composer.network import registry
from composer.paths import Paths
from composer.plan.actions import Action
from composer.plan.observed import NetworkState, Observed
from composer.plan.options import Desired
from composer.plan.predict import simulate
from composer.record import Record
from composer.supervisor.desires import digests, network_digests, options_of
from composer.supervisor.images import Images
from composer.supervisor.volumes import Volumes
from composer.supervisor.words import progress
from composer.supervisor.world import World, live_of

Prediction = tuple[str, str, str]


def forecast(paths: Paths, stack: Stack, record: Record, options: Mapping[str, Any]) -> list[Prediction]:
    """What `options` would do: subject, action, cause."""
    desired = Desired.of(stack, digests(stack), network_digests(stack))
    return told(simulate(desired, observed(paths, stack, record), options_of(options), time.time_ns()))


def told(actions: list[Action]) -> list[Prediction]:
    frames = [progress(action, "begin", "") for action in actions]
    return [(frame["id"], frame["text"], frame["because"]) for frame in frames]


def observed(paths: Paths, stack: Stack, record: Record) -> Observed:
    """What is, by the record and the disk."""
    world = World(paths.stack(stack.name).container_state)
    for row in record["containers"]:
        live = live_of(row)
        world.containers[live.name] = live
    for network in stack.networks.values():
        found = registry.find(paths, network.name)
        if found is not None:
            digest = record["networks"].get(network.name, "")
            world.networks[network.name] = NetworkState(network.name, network.key, found.owner, digest)
    Volumes(paths, world).look(volume.name for volume in stack.volumes.values())
    desired = Desired.of(stack, FrozenMap())
    Images(paths, world).look((desired.image(service), service) for service in stack.services.values())
    return world.observed()
