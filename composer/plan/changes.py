"""What differs between a container and its service, and what that forces.

One table: a field of `model.stack.Service` that is not named in it forces a new container.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from composer.model.stack import Service

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


def sentence(
    fields: Iterable[str], before: Service | None, after: Service, image: tuple[str, str] = ("", "")
) -> str:
    """Why, in words: each field, or each entry of it where it is known what the container was made from.

    `image`: reference before, reference now.
    """
    words: list[str] = []
    bare = True
    for field in fields:
        if field == "image" and all(image):
            words.append(f"image {image[0]} → {image[1]}")
            bare = False
            continue
        told = _details(field, before, after)
        words += told or [field]
        bare = bare and not told
    return f"{', '.join(words)}{' changed' if bare else ''}"


def _details(field: str, before: Service | None, after: Service) -> list[str]:
    if before is None or not hasattr(after, field):
        return []
    from composer.plan.details import details  # only when something changed

    return details(field, before, after)
