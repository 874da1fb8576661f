"""What differs between a container and its service, and what that forces.

One table: a field of `model.stack.Service` that is not named in it forces a new container.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Consequence = Literal["nothing", "live", "recreate"]

CONSEQUENCES: Mapping[str, Consequence] = {
    # Only steers how a stack is brought up, watched or shown.
    "name": "nothing",
    "scale": "nothing",
    "depends_on": "nothing",
    "profiles": "nothing",
    "build": "nothing",
    "pull_policy": "nothing",
    "develop": "nothing",
    "attach": "nothing",
    "update_config": "nothing",
    "rollback_config": "nothing",
    "deploy_mode": "nothing",
    "deploy_labels": "nothing",
    "endpoint_mode": "nothing",
    "placement": "nothing",
    "extensions": "nothing",
    "restart_unhealthy": "nothing",
    "on_connect": "nothing",
    "idle": "nothing",
    "expose": "nothing",
    # Without effect on a container of ours.
    "models": "nothing",
    "provider": "nothing",
    "use_api_socket": "nothing",
    # Read anew whenever they are needed, or written to the cgroup: the running process never sees them.
    "resources": "live",
    "healthcheck": "live",
    "restart": "live",
    "pre_stop": "live",
    "stop_grace_period": "live",
    "stop_signal": "live",
}


def differences(recorded: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, list[str]]:
    """The fields that differ, sorted, by consequence. Fields that force nothing are left out."""
    found: dict[str, list[str]] = {}
    if recorded == wanted:
        return found
    for field in sorted(recorded.keys() | wanted.keys()):
        if recorded.get(field) != wanted.get(field):
            consequence = CONSEQUENCES.get(field, "recreate")
            if consequence != "nothing":
                found.setdefault(consequence, []).append(field)
    return found


def sentence(fields: list[str], image: tuple[str, str]) -> str:
    """Why, in words. `image` is (reference before, reference now): the one field whose values are short."""
    words = [
        f"image {image[0]} → {image[1]}" if field == "image" and all(image) else field for field in fields
    ]
    if words == fields:
        return f"{', '.join(words)} changed"
    return ", ".join(words)
