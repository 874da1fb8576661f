"""What a stack file leaves unsaid: the default network, names, implied dependencies, inherited settings.

Works on the merged tree in long form, in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from composer.model import fields
from composer.model.merge import merge
from composer.model.paths import clean

SHARING = ("network_mode", "ipc", "pid", "uts", "cgroup")


def normalise(config: dict[str, Any], name: str, environment: Mapping[str, str]) -> None:
    config["name"] = name
    services: dict[str, Any] = config.get("services") or {}
    _networks(config, services)
    for service in services.values():
        _service(service, environment)
    _names(config, name)


def _networks(config: dict[str, Any], services: dict[str, Any]) -> None:
    uses_default = False
    for service in services.values():
        if "provider" in service or "network_mode" in service:
            continue
        if not service.get("networks"):
            service["networks"] = {"default": None}
        uses_default = uses_default or "default" in service["networks"]
    networks = config.get("networks") or {}
    if uses_default:
        networks.setdefault("default", None)
    if networks:
        config["networks"] = networks


def _service(service: dict[str, Any], environment: Mapping[str, str]) -> None:
    if service.get("pull_policy") == "if_not_present":
        service["pull_policy"] = "missing"
    build = service.get("build")
    if isinstance(build, dict):
        if build.get("context") is None:
            build["context"] = "."
        if build.get("dockerfile") is None and build.get("dockerfile_inline") is None:
            build["dockerfile"] = "Dockerfile"
        if "args" in build:
            build["args"] = passed_through(build["args"], environment, keep=False)
    if "environment" in service:
        service["environment"] = passed_through(service["environment"], environment, keep=True)
    implied = _implied(service)
    if implied:
        service["depends_on"] = implied | (service.get("depends_on") or {})
    for volume in service.get("volumes") or ():
        if isinstance(volume.get("target"), str):
            volume["target"] = clean(volume["target"])
    _first_steps(service)


def passed_through(value: Any, environment: Mapping[str, str], *, keep: bool) -> Any:
    """Variables named without a value take ours; those that we do not have stay without, or go."""
    if isinstance(value, list):
        lines = []
        for line in value:
            if isinstance(line, str) and "=" not in line:
                if line in environment:
                    line = f"{line}={environment[line]}"
                elif not keep:
                    continue
            lines.append(line)
        return lines
    if not isinstance(value, dict):
        return value
    return {
        key: environment.get(key) if item is None else item
        for key, item in value.items()
        if keep or item is not None or key in environment
    }


def _implied(service: dict[str, Any]) -> dict[str, Any]:
    """Dependencies that other keys bring along."""
    names = [link.split(":")[0] if link.count(":") == 1 else link for link in service.get("links") or ()]
    for key in SHARING:
        value = service.get(key)
        if isinstance(value, str) and value.startswith("service:"):
            names.append(value.removeprefix("service:"))
    found = {name: {"condition": "service_started", "restart": True, "required": True} for name in names}
    for source in service.get("volumes_from") or ():
        if not source.startswith("container:"):
            found.setdefault(
                source.split(":")[0], {"condition": "service_started", "restart": False, "required": True}
            )
    return found


def _first_steps(service: dict[str, Any]) -> None:
    """A pre_start step is the service's container with some keys changed, without its mounts."""
    steps = service.get("pre_start")
    if not isinstance(steps, list):
        return
    rules = fields.tree("merge").children["services"].any
    shared = fields.tree().children["services"].any
    assert shared is not None
    taken = shared.children["pre_start"].any
    assert taken is not None
    parent = {key: value for key, value in service.items() if key in taken.children and key != "volumes"}
    for index, step in enumerate(steps):
        steps[index] = merge(_copy(parent), step, rules)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _names(config: dict[str, Any], name: str) -> None:
    for section in ("networks", "volumes", "configs", "secrets"):
        resources = config.get(section) or {}
        for key, resource in resources.items():
            resource = resources[key] = resource or {}
            if resource.get("name") is None:
                resource["name"] = key if resource.get("external") is True else f"{name}_{key}"
