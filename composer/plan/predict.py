"""What an action will have made of the world, and so the whole plan: the function that acts, on predictions.

Predictions are hopeful: stopping ends a container, a healthcheck that somebody waits for turns healthy, a
one-shot that somebody waits for ends with 0, and pulling or building what is already here brings the same
image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from composer.model.stack import FrozenMap
from composer.plan.actions import (
    Action,
    AwaitConnection,
    BuildImage,
    ContainerAction,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    FreezeContainer,
    ImageAction,
    KillContainer,
    NetworkAction,
    PullImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RestartContainer,
    RollBack,
    RunHooks,
    RunSteps,
    StartContainer,
    StopContainer,
    TakeOver,
    UpdateContainer,
    VolumeAction,
)
from composer.plan.health import Health
from composer.plan.observed import Container, ImageState, NetworkState, Observed, VolumeState
from composer.plan.options import Desired, Options
from composer.plan.step import step

PASSES = 10_000
"""More than any plan can need: each pass brings some instance a phase further."""


def simulate(desired: Desired, observed: Observed, options: Options, now: int) -> list[Action]:
    """All actions until nothing is left to do, in an order in which they can be done."""
    return foresee(desired, observed, options, now)[0]


def foresee(
    desired: Desired, observed: Observed, options: Options, now: int
) -> tuple[list[Action], Observed]:
    """The whole plan, and the world after it."""
    done: list[Action] = []
    for _ in range(PASSES):
        found = step(desired, observed, options, now)
        actions = found.actions
        for action in actions:
            observed = predict(observed, action, desired.stack.name, now)
        done += actions
        if not actions:
            hoped = hopeful(desired, observed)
            dues = [entry.due for entry in found.blocked if entry.due is not None]
            if hoped == observed and not dues:
                return done, observed
            if hoped == observed:
                now = min(dues)
            observed = hoped
    raise AssertionError(f"the plan does not end: {done[-3:]}")


def hopeful(desired: Desired, observed: Observed) -> Observed:
    """`observed` once what is under way has come to its end, and to a good one."""
    return observed.replace(containers=tuple(_hoped(desired, one) for one in observed.containers))


def _hoped(desired: Desired, container: Container) -> Container:
    awaited = desired.awaited.get(container.slot.service)
    if not container.alive or container.oneoff:
        return container
    if container.kill_at is not None:
        return container.replace(state="exited", kill_at=None, exit_code=143)
    if awaited == "service_completed_successfully":
        return container.replace(state="exited", exit_code=0)
    waits = awaited == "service_healthy" or container.standby
    if waits and container.health and container.health.status == "starting":
        return container.replace(health=container.health.replace(status="healthy"))
    return container


def predict(observed: Observed, action: Action, stack: str, now: int) -> Observed:
    """`observed` once `action` has been done, at `now`, for the stack of that name."""
    match action:
        case CreateContainer():
            return observed.replace(containers=(*observed.containers, _created(action, now)))
        case RemoveContainer():
            kept = tuple(c for c in observed.containers if c.name != action.name)
            return observed.replace(containers=kept)
        case TakeOver():
            return observed.replace(containers=tuple(_handed_over(action, c) for c in observed.containers))
        case RollBack():
            failures = {**observed.failures, action.subject: action.because}
            return observed.replace(failures=FrozenMap(failures))
        case ContainerAction():
            effect = EFFECTS[type(action)]
            return observed.replace(
                containers=tuple(
                    c.replace(**effect(action, c, now)) if c.name == action.name else c
                    for c in observed.containers
                )
            )
        case PullImage() | BuildImage():
            known = observed.images.get(action.image)
            state = ImageState(known.id if known else f"to come: {action.image}", now)
            return observed.replace(images=_with(observed.images, action.image, state))
        case CreateNetwork():
            network = NetworkState(action.name, action.key, stack, action.digest)
            return observed.replace(networks=_with(observed.networks, action.name, network))
        case CreateVolume():
            volume = VolumeState(action.name, action.key, stack)
            return observed.replace(volumes=_with(observed.volumes, action.name, volume))
        case RemoveNetwork() | RemoveVolume() | RemoveImage():
            return _gone(observed, action)
    raise TypeError(f"no prediction for {action!r}")


def _gone(observed: Observed, action: Action) -> Observed:
    match action:
        case NetworkAction():
            return observed.replace(networks=_without(observed.networks, action.name))
        case VolumeAction():
            return observed.replace(volumes=_without(observed.volumes, action.name))
        case ImageAction():
            return observed.replace(images=_without(observed.images, action.image))
    raise TypeError(f"no prediction for {action!r}")


def _created(action: CreateContainer, now: int) -> Container:
    return Container(
        slot=action.slot,
        name=action.name,
        digests=action.digests,
        image=action.image,
        image_id=action.image_id,
        restart=action.restart,
        networks=action.networks,
        volumes=action.volumes,
        created_at=now,
        standby=action.standby,
    )


def _handed_over(action: TakeOver, container: Container) -> Container:
    if container.name == action.name:
        return container.replace(standby=False)
    return container.replace(retired=True) if container.name == action.of else container


def _started(action: StartContainer, container: Container, now: int) -> dict[str, Any]:
    completes = action.awaited == "service_completed_successfully"
    healthy = action.awaited == "service_healthy" or container.health is not None
    return {
        "state": "exited" if completes else "running",
        "begun_at": now,
        "started_at": now,
        "finished_at": now if completes else 0,
        "exit_code": 0,
        "oom": False,
        "restarts": 0,
        "tries": 0,
        "backoff": 0,
        "stopped": False,
        "again": False,
        "health": Health(began=now, status="healthy") if healthy else None,
        "hooks": tuple(kind for kind in container.hooks if kind == "pre_start"),
        "gated": False,
    }


def _restarted(action: RestartContainer, container: Container, now: int) -> dict[str, Any]:
    counters = {"restarts": action.restarts, "tries": action.tries, "backoff": action.backoff}
    fresh = {"state": "running", "started_at": now, "finished_at": 0, "exit_code": 0, "oom": False}
    health = container.health and Health(began=now)
    return {**fresh, **counters, "again": False, "stopped": False, "health": health}


def _stopped(action: ContainerAction, container: Container, now: int) -> dict[str, Any]:
    again = isinstance(action, StopContainer) and action.again
    if not container.alive:
        return {"stopped": True, "gated": False}
    tries = action.tries if isinstance(action, StopContainer) and again else container.tries
    code = 137 if isinstance(action, KillContainer) else 143
    return {
        "state": "exited",
        "exit_code": code,
        "finished_at": now,
        "kill_at": None,
        "stopped": not again,
        "again": again,
        "tries": tries,
        "gated": False,
    }


def _prepared(action: RunSteps, container: Container, now: int) -> dict[str, Any]:
    return {"hooks": (*container.hooks, "pre_start")}


def _hooked(action: RunHooks, container: Container, now: int) -> dict[str, Any]:
    return {"hooks": (*container.hooks, "post_start")}


def _gated(action: AwaitConnection, container: Container, now: int) -> dict[str, Any]:
    return {"gated": True, "stopped": False}


def _frozen(action: FreezeContainer, container: Container, now: int) -> dict[str, Any]:
    return {"gated": True, "state": "paused"}


def _updated(action: UpdateContainer, container: Container, now: int) -> dict[str, Any]:
    return {"digests": action.digests, "restart": action.restart}


EFFECTS: Mapping[type[Action], Callable[[Any, Container, int], dict[str, Any]]] = {
    StartContainer: _started,
    AwaitConnection: _gated,
    FreezeContainer: _frozen,
    RestartContainer: _restarted,
    StopContainer: _stopped,
    KillContainer: _stopped,
    RunSteps: _prepared,
    RunHooks: _hooked,
    UpdateContainer: _updated,
}


def _with(mapping: Mapping[str, Any], key: str, value: object) -> Mapping[str, Any]:
    return FrozenMap({**mapping, key: value})


def _without(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return FrozenMap({name: value for name, value in mapping.items() if name != key})
