"""Actions as the progress display names them: `Container web-1  Starting`, as Docker Compose does. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from composer.plan.actions import (
    Action,
    AwaitConnection,
    BuildImage,
    ContainerAction,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    FreezeContainer,
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

DOING: Mapping[type[Action], tuple[str, str]] = {
    PullImage: ("Pulling", "Pulled"),
    BuildImage: ("Building", "Built"),
    RemoveImage: ("Removing", "Removed"),
    CreateNetwork: ("Creating", "Created"),
    RemoveNetwork: ("Removing", "Removed"),
    CreateVolume: ("Creating", "Created"),
    RemoveVolume: ("Removing", "Removed"),
    CreateContainer: ("Creating", "Created"),
    UpdateContainer: ("Updating", "Updated"),
    StartContainer: ("Starting", "Started"),
    AwaitConnection: ("Opening ports", "Waiting for a connection"),
    FreezeContainer: ("Looking whether it idles", "Looked whether it idles"),
    RestartContainer: ("Restarting", "Restarted"),
    RunSteps: ("Preparing", "Prepared"),
    RunHooks: ("Running hooks", "Started"),
    TakeOver: ("Taking over", "Took over"),
    RollBack: ("Rolling back", "Rolled back"),
    StopContainer: ("Stopping", "Stopped"),
    KillContainer: ("Killing", "Killed"),
    RemoveContainer: ("Removing", "Removed"),
}
UNTOLD: Mapping[type[Action], tuple[str, ...]] = {StopContainer: ("done",), KillContainer: ("begin", "done")}
"""The end of stopping is an event, and told when it comes; a kill is a part of stopping."""


def name(action: Action) -> str:
    """What the action is about, as in `Network app_default`."""
    if isinstance(action, ContainerAction):
        return f"Container {action.name}"
    if isinstance(action, NetworkAction):
        return f"Network {action.name}"
    if isinstance(action, VolumeAction):
        return f"Volume {action.name}"
    if isinstance(action, RollBack):
        return f"Service {action.service}"
    return f"Image {action.subject[1]}"


def progress(action: Action, phase: str, text: str) -> dict[str, Any]:
    """The frame for `begin`, `done` or `failed` of an action. `because` goes along for --explain."""
    doing, done = DOING[type(action)]
    if phase == "failed":
        return {"id": name(action), "text": "Error", "state": "error", "detail": text}
    finished = phase == "done"
    return {
        "id": name(action),
        "text": done if finished else doing,
        "state": "done" if finished else "working",
        "because": action.because,
    }
