"""What is said of a container because of its service and image: labels, log settings, healthcheck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer import __version__
from composer.model.digest import config_hash
from composer.model.stack import Service
from composer.model.units import size
from composer.supervisor.world import Live

if TYPE_CHECKING:
    from composer.supervisor.core import Core

MAX_SIZE = 64 << 20
MAX_FILE = 2
"""Logs are bounded unless the file says otherwise: 128 MiB a container."""


def labels_of(core: Core, live: Live, service: Service, config: Mapping[str, Any]) -> dict[str, str]:
    """The image's, the service's, and those by which Docker Compose's tools know a container."""
    hash = config_hash(core.stack, service.name) if service.name in core.stack.services else ""
    return {
        **(config.get("Labels") or {}),
        **service.labels,
        "com.docker.compose.project": core.stack.name,
        "com.docker.compose.service": service.name,
        "com.docker.compose.container-number": str(live.plan.slot.number),
        "com.docker.compose.oneoff": str(live.plan.oneoff),
        "com.docker.compose.config-hash": hash,
        "com.docker.compose.project.working_dir": core.stack.working_dir,
        "com.docker.compose.project.config_files": ",".join(core.stack.files),
        "com.docker.compose.version": __version__,
    }


def log_settings(service: Service) -> dict[str, Any]:
    """The keeper's log fields for the service's `logging`."""
    options = service.logging.options
    if service.logging.driver == "none":
        return {"driver": "none"}
    return {
        "driver": "file",
        "max_size": size(options["max-size"]) if "max-size" in options else MAX_SIZE,
        "max_file": int(options.get("max-file", MAX_FILE if "max-size" not in options else 1)),
    }
