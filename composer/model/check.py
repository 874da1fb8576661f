"""What a schema cannot say: references, cycles, contradictions; all of it at once. Reads the normal form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from composer.model import own_keys
from composer.model.kinds import nearest
from composer.model.normalise import SHARING

Path = tuple[str | int, ...]
Finding = tuple[Path, str, str | None]
"""Where, what is wrong, and what to do about it."""
Data = Mapping[str, Any]


def check(config: Data, enabled: set[str]) -> Iterator[Finding]:
    """Complaints about the active services and about what is at the top level."""
    services: Data = config.get("services", {})
    for name in services:
        if name in enabled:
            for rule in _SERVICE_RULES:
                for path, message, hint in rule(name, services[name], config, enabled):
                    yield ("services", name, *path), message, hint
    yield from _resources(config)
    yield from _stack_limits(services, enabled, config.get(own_keys.LIMITS))
    yield from _names({name: services[name] for name in services if name in enabled})
    yield from _cycles({name: services[name] for name in services if name in enabled})


def _source(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    if "build" not in service and not service.get("image") and "provider" not in service:
        yield (), "has neither an `image` nor a `build`", "say which image it runs, or how to build one"


def _build(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    build = service.get("build")
    if build is None:
        return
    if build.get("dockerfile_inline") and build.get("dockerfile"):
        yield ("build", "dockerfile_inline"), "`dockerfile` and `dockerfile_inline` exclude each other", None
    for key, context in build.get("additional_contexts", {}).items():
        if context.startswith("service:"):
            other = context.removeprefix("service:")
            path: Path = ("build", "additional_contexts", key)
            if other not in enabled:
                yield path, f"the service `{other}` does not exist", nearest(other, enabled)
            elif "build" not in config["services"][other]:
                yield path, f"the service `{other}` is not built", None
    platforms = build.get("platforms")
    if platforms and service.get("platform") and service["platform"] not in platforms:
        yield ("build", "platforms"), f"must list the service's own platform, `{service['platform']}`", None


def _references(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    """Networks, volumes, secrets, configs and models must be declared."""
    uses: list[tuple[str, str, Path]] = [
        ("networks", key, ("networks", key)) for key in service.get("networks", ())
    ]
    uses += [("models", key, ("models", key)) for key in service.get("models", ())]
    for index, volume in enumerate(service.get("volumes", ())):
        if volume.get("type") == "volume" and volume.get("source"):
            uses.append(("volumes", volume["source"], ("volumes", index)))
    for section in ("secrets", "configs"):
        for index, grant in enumerate(service.get(section, ())):
            uses.append((section, grant.get("source", ""), (section, index)))
    for index, grant in enumerate(service.get("build", {}).get("secrets", ())):
        uses.append(("secrets", grant.get("source", ""), ("build", "secrets", index)))
    for section, key, path in uses:
        declared = config.get(section, {})
        if key not in declared:
            word = section.removesuffix("s")
            hint = nearest(key, declared) or f"declare it under the top-level `{section}`"
            if section == "volumes" and "/" in key:
                hint = f"write ./{key} when you mean a folder"
            yield path, f"the {word} `{key}` is not declared", hint


def _named(service: Data, other: str) -> Path:
    """Where a dependency is named: in `depends_on`, unless another key implies it."""
    for key in ("links", "volumes_from"):
        for index, text in enumerate(service.get(key, ())):
            if text.split(":")[0] == other:
                return key, index
    modes = (key for key in SHARING if service.get(key) == f"service:{other}")
    return next(((key,) for key in modes), ("depends_on", other))


def _dependencies(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    services: Data = config["services"]
    for other, details in service.get("depends_on", {}).items():
        if other not in services:
            path = _named(service, other)
            yield path, f"depends on the unknown service `{other}`", nearest(other, services)
        elif other not in enabled and details.get("required", True):
            profiles = ", ".join(services[other].get("profiles", ()))
            yield (
                ("depends_on", other),
                f"depends on `{other}`, which is not active",
                f"activate one of its profiles ({profiles}), or set `required: false`",
            )
    mode = service.get("network_mode", "")
    if mode and service.get("networks"):
        yield ("network_mode",), "`network_mode` and `networks` exclude each other", None
    if mode.startswith("service:") and mode.removeprefix("service:") not in enabled:
        other = mode.removeprefix("service:")
        yield ("network_mode",), f"the service `{other}` does not exist", nearest(other, services)


def _health(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    test = service.get("healthcheck", {}).get("test")
    if test and test[0] not in ("CMD", "CMD-SHELL", "NONE"):
        yield (
            ("healthcheck", "test"),
            "a list must start with CMD, CMD-SHELL or NONE",
            f'write ["CMD", "{test[0]}", …]',
        )


def _own(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    """Our own keys."""
    health = service.get("healthcheck", {})
    asked = [key for key in ("test", *own_keys.PROBES) if health.get(key)]
    if len(asked) > 1:
        yield (
            ("healthcheck", asked[-1]),
            f"`{asked[0]}` and `{asked[1]}` exclude each other",
            "keep one of the two",
        )
    for key in own_keys.PROBES:
        if key in health:
            yield from _judged(("healthcheck", key), own_keys.probe, {key: health[key]})
    for number, mount in enumerate(service.get("volumes", ())):
        path = ("volumes", number, "bind", own_keys.OWNER)
        if mount["type"] == "bind":
            yield from _judged(path, own_keys.owner, mount.get("bind", {}).get(own_keys.OWNER))
        elif own_keys.OWNER in mount.get("bind", {}):
            yield path, "only a mount of type bind has a source whose owner counts", None
    key = own_keys.RESTART_UNHEALTHY
    yield from _judged((key,), own_keys.restart_unhealthy, service.get(key))
    for key, read in ((own_keys.START, own_keys.on_connect), (own_keys.IDLE, own_keys.idle)):
        if service.get(key) is not None:
            yield from _judged((key,), read, service[key])
            yield from _unheard(name, key, service)


def _unheard(name: str, key: str, service: Data) -> Iterator[Finding]:
    """A service that nothing could wake by a connection."""
    ports = service.get("ports", ())
    if service.get("network_mode", "") not in ("", "bridge", "default"):
        why = f"but `network_mode: {service['network_mode']}` leaves it no port that could be held"
    elif not ports:
        why = "but it publishes none"
    elif all(port.get("protocol", "tcp") != "tcp" for port in ports):
        why = "but it only publishes others: what is sent without a connection cannot be kept"
    else:
        return
    yield (key,), f"service `{name}` would be woken by a connection to a published TCP port, {why}", None


def _stack_limits(services: Data, enabled: set[str], value: Any) -> Iterator[Finding]:
    """The kernel refuses a share of processors that is larger than the one it is part of."""
    problems = list(_judged((own_keys.LIMITS,), own_keys.limits, value))
    yield from problems
    most = 0.0 if problems else own_keys.limits(value).cpus
    for name, service in services.items():
        of_deploy = service.get("deploy", {}).get("resources", {}).get("limits", {}).get("cpus", 0)
        if name in enabled and 0 < most < float(service.get("cpus", 0) or of_deploy):
            path = ("services", name, "cpus" if service.get("cpus") else "deploy")
            yield path, f"asks for more processors than the {most:g} that `{own_keys.LIMITS}` gives all", None


def _judged(path: Path, read: Callable[[Any], object], value: Any) -> Iterator[Finding]:
    try:
        read(value)
    except ValueError as error:
        yield path, str(error), None


_TWICE = (
    ("cpus", "limits", "cpus"),
    ("mem_limit", "limits", "memory"),
    ("mem_reservation", "reservations", "memory"),
    ("pids_limit", "limits", "pids"),
)


def _limits(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    resources = service.get("deploy", {}).get("resources", {})
    for key, group, new in _TWICE:
        if key in service and group in resources and resources[group].get(new, 0) != service[key]:
            yield (key,), f"differs from deploy.resources.{group}.{new}", "keep one of the two"


def _scale(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    replicas = service.get("deploy", {}).get("replicas")
    scale = service.get("scale", replicas)
    if replicas is not None and scale != replicas:
        yield ("scale",), f"is {scale}, but deploy.replicas is {replicas}", "keep one of the two"
    for path, value in ((("scale",), service.get("scale")), (("deploy", "replicas"), replicas)):
        if value is not None and value < 0:
            yield path, "must not be negative", None
    if scale is not None and scale > 1 and service.get("container_name"):
        yield (
            ("container_name",),
            f"a container's name is unique, so there cannot be {scale} of them",
            "remove container_name, or run one container only",
        )


def _watch(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    for index, rule in enumerate(service.get("develop", {}).get("watch", ())):
        if not rule.get("path"):
            yield ("develop", "watch", index), "needs a `path`", None
        if not rule.get("target") and rule.get("action") not in ("rebuild", "restart"):
            yield ("develop", "watch", index), f"`{rule.get('action')}` needs a `target`", None


_ELSEWHERE = {"npipe": "exist on Windows only", "cluster": "need a cluster"}


def _targets(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    taken: dict[str, str] = {}
    mounts: list[tuple[Path, str]] = [
        (("tmpfs", index), line.partition(":")[0]) for index, line in enumerate(service.get("tmpfs", ()))
    ]
    mounts += [(("volumes", i), v.get("target", "")) for i, v in enumerate(service.get("volumes", ()))]
    for path, target in mounts:
        if target in taken:
            yield path, f"`{target}` is already mounted by {taken[target]}", None
        taken[target] = f"{path[0]}[{path[1]}]"
    for index, volume in enumerate(service.get("volumes", ())):
        kind = volume.get("type")
        if kind == "bind" and "source" not in volume:
            yield ("volumes", index), "a bind mount needs a `source`", None
        elif kind in _ELSEWHERE:
            yield ("volumes", index), f"mounts of type `{kind}` {_ELSEWHERE[kind]}", "use bind or volume"


def _devices(name: str, service: Data, config: Data, enabled: set[str]) -> Iterator[Finding]:
    kept = service.get("deploy", {}).get("resources", {}).get("reservations", {})
    requests: list[tuple[Path, Data]] = [
        (("deploy", "resources", "reservations", "devices", i), one)
        for i, one in enumerate(kept.get("devices", ()))
    ]
    requests += [(("gpus", i), one) for i, one in enumerate(service.get("gpus", ()))]
    for path, request in requests:
        if "count" in request and "device_ids" in request:
            yield path, "`count` and `device_ids` exclude each other", None


_SERVICE_RULES: tuple[Callable[[str, Data, Data, set[str]], Iterator[Finding]], ...] = (
    *(
        _source,
        _build,
        _references,
        _dependencies,
        _health,
        _limits,
        _scale,
        _watch,
        _targets,
        _devices,
        _own,
    ),
)


_SOURCES = {"secrets": ("file", "environment"), "configs": ("file", "environment", "content")}


def _resources(config: Data) -> Iterator[Finding]:
    for key, volume in config.get("volumes", {}).items():
        if volume and volume.get("external"):
            for other in volume:
                if other not in ("name", "external") and not other.startswith("x-"):
                    yield ("volumes", key, other), "makes no sense for an external volume", "remove it"
    for section, sources in (
        ("secrets", ("file", "environment")),
        ("configs", ("file", "environment", "content")),
    ):
        for key, resource in config.get(section, {}).items():
            told = [one for one in sources if one in (resource or {})]
            words = ", ".join(sources)
            if len(told) > 1:
                yield (
                    (section, key),
                    f"has {' and '.join(told)}, which exclude each other",
                    f"keep one of {words}",
                )
            elif section == "secrets" and not told and "external" not in (resource or {}):
                yield (section, key), f"needs one of {words}, or `external: true`", None


def _names(services: Data) -> Iterator[Finding]:
    """A container's name is given to one service only."""
    taken: dict[str, str] = {}
    for name, service in services.items():
        told = service.get("container_name")
        if told in taken:
            yield (
                ("services", name, "container_name"),
                f"`{told}` is already the name of `{taken[told]}`",
                None,
            )
        elif told:
            taken[told] = name


def _cycles(services: Data) -> Iterator[Finding]:
    """Every dependency cycle once, shown as a path."""
    done: set[str] = set()
    for name in sorted(services):
        cycle = _cycle(services, name, done)
        if cycle:
            path = ("services", cycle[0], "depends_on", cycle[1])
            yield (
                path,
                f"the services depend on each other: {' → '.join(cycle)}",
                "remove one of these dependencies",
            )


def _cycle(services: Data, start: str, done: set[str]) -> list[str]:
    """A cycle that can be reached from `start`; marks all seen as done. Iterative: chains may be long."""
    trail: list[str] = [start]
    pending: list[Iterator[str]] = [iter(sorted(services[start].get("depends_on", ())))]
    if start in done:
        return []
    while pending:
        following = next(pending[-1], None)
        if following is None:
            done.add(trail.pop())
            pending.pop()
        elif following in trail:
            cycle = [*trail[trail.index(following) :], following]
            done.update(trail)
            return cycle
        elif following in services and following not in done:
            trail.append(following)
            pending.append(iter(sorted(services[following].get("depends_on", ()))))
    return []
