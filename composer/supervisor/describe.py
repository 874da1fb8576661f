"""What is said of a container because of its service and image: its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer import __version__
from composer.model.digest import config_hash
from composer.model.stack import Service
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core


def labels_of(core: Core, live: Live, service: Service, config: Mapping[str, Any]) -> dict[str, str]:
    """The image's, the service's, and those by which Docker Compose's tools know a container."""
    awaited = (f"{name}:{on.condition}:{str(on.restart).lower()}" for name, on in service.depends_on.items())
    hash = config_hash(core.stack, service.name) if service.name in core.stack.services else ""
    return {
        **(config.get("Labels") or {}),
        **service.labels,
        "com.docker.compose.project": core.stack.name,
        "com.docker.compose.service": service.name,
        "com.docker.compose.container-number": str(live.plan.slot.number),
        "com.docker.compose.oneoff": str(live.plan.oneoff),
        "com.docker.compose.config-hash": hash,
        "com.docker.compose.image": live.plan.image_id,
        "com.docker.compose.depends_on": ",".join(awaited),
        "com.docker.compose.project.working_dir": core.stack.working_dir,
        "com.docker.compose.project.config_files": ",".join(core.stack.files),
        "com.docker.compose.version": __version__,
    }
