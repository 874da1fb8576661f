"""The normal form to the typed Stack: text becomes bytes, nanoseconds, modes; old keys join the new ones.

The normal form was checked before; nothing here refuses anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from composer.model import own_keys, units
from composer.model import stack as s
from composer.model.digest import frozen
from composer.model.stack import FrozenMap

Data = Mapping[str, Any]
_TEXT_LISTS = (
    *(
        "cap_add",
        "cap_drop",
        "device_cgroup_rules",
        "dns",
        "dns_opt",
        "dns_search",
        "expose",
        "external_links",
    ),
    *("group_add", "links", "profiles", "security_opt", "volumes_from"),
)
_PLAIN = (
    *(
        "attach",
        "cgroup",
        "cgroup_parent",
        "container_name",
        "domainname",
        "hostname",
        "image",
        "init",
        "ipc",
    ),
    *("mac_address", "network_mode", "pid", "platform", "privileged", "pull_policy", "read_only", "runtime"),
    *("stdin_open", "stop_signal", "tty", "use_api_socket", "user", "userns_mode", "uts", "working_dir"),
)
_MAPS = ("annotations", "environment", "labels", "storage_opt", "sysctls")
_CONDITIONS = {"none": "no", "on-failure": "on-failure", "any": "always", "": "always"}


def typed(
    config: Data,
    *,
    working_dir: str,
    files: Iterable[str],
    name_given: bool,
    inactive: tuple[str, ...] = (),
    environment: Mapping[str, str],
) -> s.Stack:
    """`environment` is where secrets and configs from variables get their content."""
    return s.Stack(
        name=config["name"],
        services=_services(config.get("services", {})),
        networks=_each(config.get("networks"), _network),
        volumes=_each(config.get("volumes"), _volume),
        secrets=_each(config.get("secrets"), lambda key, data: _file_source(key, data, environment)),
        configs=_each(config.get("configs"), lambda key, data: _file_source(key, data, environment)),
        models=_each(config.get("models"), _model),
        working_dir=working_dir,
        files=tuple(files),
        name_given=name_given,
        inactive=inactive,
        limits=own_keys.limits(config.get(own_keys.LIMITS)),
    )


def _each(data: Data | None, make: Callable[[str, Data], Any]) -> FrozenMap:
    return FrozenMap({key: make(key, value or {}) for key, value in (data or {}).items()})


def _services(data: Data) -> FrozenMap:
    """Optional dependencies on services that are not active are no dependencies."""
    found: dict[str, s.Service] = {}
    for name, service in _each(data, _service).items():
        inactive = service.depends_on.keys() - data.keys()
        if inactive:
            left = {key: value for key, value in service.depends_on.items() if key not in inactive}
            service = service.replace(depends_on=FrozenMap(left))
        found[name] = service
    return FrozenMap(found)


def _map(data: Data | None) -> Mapping[str, Any]:
    return FrozenMap(data) if data else s.NOTHING


def _taken(data: Data, *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names if name in data}


def _bytes(data: Data, name: str) -> int:
    return int(data.get(name, 0))


def _time(data: Data, name: str) -> int | None:
    return units.duration(data[name]) if name in data else None


def _extensions(data: Data) -> Mapping[str, Any]:
    found = {key: frozen(value) for key, value in data.items() if key.startswith("x-")}
    return FrozenMap(found) if found else s.NOTHING


def _service(name: str, data: Data) -> s.Service:
    deploy: Data = data.get("deploy", {})
    found: dict[str, Any] = {"name": name, **_taken(data, *_PLAIN)}
    if found.get("pull_policy") == "refresh":
        after = units.duration(data.get("pull_refresh_after") or "24h")
        found["pull_policy"] = f"every_{after // s.SECOND}s"
    found |= {key: tuple(data[key]) for key in _TEXT_LISTS if key in data}
    found |= {key: _map(data[key]) for key in _MAPS if key in data}
    found |= {key: tuple(data[key]) for key in ("command", "entrypoint") if key in data}
    for key, make in _SERVICE_PARTS.items():
        if key in data:
            found[key] = make(data[key])
    return s.Service(
        **found,
        scale=data.get("scale", deploy.get("replicas", 1)),
        restart=_restart(data.get("restart", ""), deploy),
        stop_grace_period=_time(data, "stop_grace_period"),
        shm_size=_bytes(data, "shm_size"),
        resources=_resources(data, deploy.get("resources", {})),
        volumes=_mounts(data),
        secrets=_grants(data.get("secrets", ()), "/run/secrets/"),
        configs=_grants(data.get("configs", ()), "/"),
        update_config=_update(deploy.get("update_config")),
        rollback_config=_update(deploy.get("rollback_config")),
        deploy_mode=deploy.get("mode", "replicated"),
        deploy_labels=_map(deploy.get("labels")),
        endpoint_mode=deploy.get("endpoint_mode", ""),
        placement=frozen(deploy.get("placement", {})),
        restart_unhealthy=own_keys.restart_unhealthy(data.get(own_keys.RESTART_UNHEALTHY)),
        on_connect=own_keys.on_connect(data.get(own_keys.START)),
        idle=own_keys.idle(data.get(own_keys.IDLE)),
        extensions=_extensions(data),
    )


def _restart(policy: str, deploy: Data) -> s.RestartPolicy:
    """deploy.restart_policy wins over `restart`, whose form is condition[:attempts]."""
    if "restart_policy" in deploy:
        data = deploy["restart_policy"]
        return s.RestartPolicy(
            _CONDITIONS.get(data.get("condition", ""), "always"),  # type: ignore[arg-type]
            data.get("max_attempts"),
            _time(data, "delay"),
            _time(data, "window"),
        )
    condition, _, attempts = policy.partition(":")
    if condition not in ("always", "on-failure", "unless-stopped"):
        return s.RestartPolicy()
    return s.RestartPolicy(condition, int(attempts) if attempts.isdecimal() else None)  # type: ignore[arg-type]


def _resources(data: Data, resources: Data) -> s.Resources:
    limits: Data = resources.get("limits", {})
    kept: Data = resources.get("reservations", {})
    plain = _taken(
        data, "cpu_shares", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpuset"
    ) | _taken(data, "oom_kill_disable", "oom_score_adj")
    swappiness = data.get("mem_swappiness")
    return s.Resources(
        **plain,
        cpus=float(data.get("cpus", 0) or limits.get("cpus", 0)),
        memory=_bytes(data, "mem_limit") or _bytes(limits, "memory"),
        memory_reservation=_bytes(data, "mem_reservation") or _bytes(kept, "memory"),
        memory_swap=_bytes(data, "memswap_limit"),
        memory_swappiness=None if swappiness is None else int(swappiness),
        pids=data.get("pids_limit", 0) or limits.get("pids", 0),
        blkio=_blkio(data.get("blkio_config", {})),
        cpus_reservation=float(kept.get("cpus", 0)),
        devices=tuple(_device_request(one) for one in (*kept.get("devices", ()), *data.get("gpus", ()))),
    )


def _blkio(data: Data) -> s.BlkioConfig:
    if not data:
        return s.BlkioConfig()
    return s.BlkioConfig(
        weight=data.get("weight", 0),
        **{
            name: tuple(
                s.DeviceRate(one.get("path", ""), int(one.get("rate", one.get("weight", 0)))) for one in many
            )
            for name, many in data.items()
            if isinstance(many, list)
        },
    )


def _device_request(data: Data) -> s.DeviceRequest:
    return s.DeviceRequest(
        tuple(data.get("capabilities", ())),
        data.get("driver", ""),
        data.get("count", 0),
        tuple(data.get("device_ids", ())),
        _map(data.get("options")),
    )


def _update(data: Data | None) -> s.UpdateConfig | None:
    if data is None:
        return None
    return s.UpdateConfig(
        **_taken(data, "parallelism", "failure_action", "order"),
        max_failure_ratio=float(data.get("max_failure_ratio", 0)),
        delay=_time(data, "delay") or 0,
        monitor=_time(data, "monitor") or 0,
    )


def _hosts(lines: Iterable[str]) -> FrozenMap:
    found: dict[str, list[str]] = {}
    for line in lines:
        host, _, address = line.partition("=")
        found.setdefault(host, []).append(address)
    return FrozenMap({host: tuple(addresses) for host, addresses in found.items()})


def _ulimits(data: Data) -> FrozenMap:
    return FrozenMap(
        {
            name: s.Ulimit(value["soft"], value["hard"])
            if isinstance(value, dict)
            else s.Ulimit(value, value)
            for name, value in data.items()
        }
    )


def _healthcheck(data: Data) -> s.Healthcheck:
    names = ("interval", "timeout", "start_period", "start_interval")
    times: dict[str, Any] = {name: _time(data, name) for name in names}
    return s.Healthcheck(
        test=tuple(data.get("test", ())),
        **times,
        **_taken(data, "retries", "disable"),
        probe=own_keys.probe(data),
    )


def _port(data: Data) -> s.Port:
    return s.Port(**{"target": 0} | {key: value for key, value in data.items() if not key.startswith("x-")})


def _mounts(data: Data) -> tuple[s.Mount, ...]:
    return (*map(_mount, data.get("volumes", ())), *map(_tmpfs, data.get("tmpfs", ())))


def _mount(data: Data) -> s.Mount:
    bind, volume, tmpfs = data.get("bind", {}), data.get("volume", {}), data.get("tmpfs", {})
    kind = data["type"]
    return s.Mount(
        type=kind,
        target=data.get("target", ""),
        **_taken(data, "source", "read_only", "consistency"),
        **_taken(bind, "propagation", "create_host_path", "selinux", "recursive"),
        owner=own_keys.owner(bind.get(own_keys.OWNER)),
        **_taken(volume, "nocopy"),
        subpath=(data.get("image", {}) if kind == "image" else volume).get("subpath", ""),
        labels=_map(volume.get("labels")),
        tmpfs_size=_bytes(tmpfs, "size"),
        tmpfs_mode=tmpfs.get("mode"),
    )


def _tmpfs(line: str) -> s.Mount:
    """`/target` or `/target:size=64m,mode=1777,…`; what is not size or mode is passed on as it stands."""
    target, _, options = line.partition(":")
    size, mode, rest = 0, None, []
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        try:
            if name == "size":
                size = units.size(value)
            elif name == "mode":
                mode = int(value, 8)
            else:
                rest.append(option)
        except ValueError:
            rest.append(option)
    return s.Mount("tmpfs", target, tmpfs_size=size, tmpfs_mode=mode, tmpfs_options=tuple(rest))


def _grants(many: Iterable[Data], folder: str) -> tuple[s.FileGrant, ...]:
    """A target without a slash stands in `folder`."""
    found = []
    for data in many:
        target = data.get("target", data.get("source", ""))
        found.append(
            s.FileGrant(
                data.get("source", ""),
                target if target.startswith("/") else folder + target,
                **_taken(data, "uid", "gid"),
                mode=int(data.get("mode", "0444"), 8),
            )
        )
    return tuple(found)


def _attachment(key: str, data: Data) -> s.Attachment:
    return s.Attachment(
        aliases=tuple(data.get("aliases", ())),
        link_local_ips=tuple(data.get("link_local_ips", ())),
        driver_opts=_map(data.get("driver_opts")),
        **_taken(
            data, "ipv4_address", "ipv6_address", "mac_address", "interface_name", "priority", "gw_priority"
        ),
    )


def _hook(data: Data) -> s.Hook:
    return s.Hook(
        command=tuple(data.get("command", ())),
        environment=_map(data.get("environment")),
        **_taken(data, "user", "privileged", "working_dir"),
    )


def _first_step(data: Data) -> s.FirstStep:
    step = {key: value for key, value in data.items() if key != "per_replica"}
    return s.FirstStep(_service("", step), data.get("per_replica", False))


def _build(data: Data) -> s.Build:
    lists = ("cache_from", "cache_to", "entitlements", "no_cache_filter", "platforms", "ssh", "tags")
    maps = ("args", "additional_contexts", "labels")
    many: dict[str, Any] = {name: tuple(data[name]) for name in lists if name in data}
    many |= {name: _map(data[name]) for name in maps if name in data}
    return s.Build(
        **_taken(data, "context", "dockerfile", "dockerfile_inline", "target", "isolation", "network"),
        **_taken(data, "no_cache", "privileged", "pull"),
        **many,
        extra_hosts=_hosts(data.get("extra_hosts", ())),
        secrets=tuple(_build_secret(one) for one in data.get("secrets", ())),
        shm_size=_bytes(data, "shm_size"),
        ulimits=_ulimits(data.get("ulimits", {})),
    )


def _build_secret(data: Data) -> s.BuildSecret:
    mode = int(data["mode"], 8) if "mode" in data else None
    return s.BuildSecret(**_taken(data, "source", "target", "uid", "gid"), mode=mode)


def _watch(data: Data) -> tuple[s.WatchRule, ...]:
    return tuple(
        s.WatchRule(
            **_taken(rule, "path", "action", "target", "initial_sync"),
            ignore=tuple(rule.get("ignore", ())),
            include=tuple(rule.get("include", ())),
            exec=_hook(rule["exec"]) if "exec" in rule else None,
        )
        for rule in data.get("watch", ())
    )


_SERVICE_PARTS: dict[str, Callable[[Any], Any]] = {
    "build": _build,
    "depends_on": lambda data: _each(
        data, lambda _, one: s.Dependency(**_taken(one, "condition", "restart", "required"))
    ),
    "healthcheck": _healthcheck,
    "post_start": lambda many: tuple(map(_hook, many)),
    "pre_stop": lambda many: tuple(map(_hook, many)),
    "pre_start": lambda many: tuple(map(_first_step, many)),
    "networks": lambda data: _each(data, _attachment),
    "ports": lambda many: tuple(dict.fromkeys(map(_port, many))),
    "extra_hosts": _hosts,
    "ulimits": _ulimits,
    "devices": lambda many: tuple(
        s.Device(
            one.get("source", ""), one.get("target", one.get("source", "")), one.get("permissions", "rwm")
        )
        for one in many
    ),
    "logging": lambda data: s.Logging(data.get("driver", ""), _map(data.get("options"))),
    "develop": _watch,
    "provider": lambda data: s.Provider(data.get("type", ""), frozen(data.get("options", {}))),
    "models": lambda data: _each(data, lambda _, one: s.ModelUse(**_taken(one, "endpoint_var", "model_var"))),
}


def _network(key: str, data: Data) -> s.Network:
    ipam: Data = data.get("ipam", {})
    return s.Network(
        key=key,
        driver_opts=_map(data.get("driver_opts")),
        ipam_driver=ipam.get("driver", ""),
        ipam=tuple(
            s.IpamPool(
                **_taken(one, "subnet", "gateway", "ip_range"), aux_addresses=_map(one.get("aux_addresses"))
            )
            for one in ipam.get("config", ())
        ),
        labels=_map(data.get("labels")),
        extensions=_extensions(data),
        **{"name": key}
        | _taken(data, "name", "driver", "external", "internal", "attachable", "enable_ipv4", "enable_ipv6"),
    )


def _volume(key: str, data: Data) -> s.Volume:
    return s.Volume(
        key=key,
        driver_opts=_map(data.get("driver_opts")),
        labels=_map(data.get("labels")),
        extensions=_extensions(data),
        **{"name": key} | _taken(data, "name", "driver", "external"),
    )


def _file_source(key: str, data: Data, environment: Mapping[str, str]) -> s.FileSource:
    variable = data.get("environment", "")
    return s.FileSource(
        key=key,
        content=environment.get(variable) if variable else data.get("content"),
        labels=_map(data.get("labels")),
        **{"name": key} | _taken(data, "name", "file", "environment", "external"),
    )


def _model(key: str, data: Data) -> s.ModelSource:
    return s.ModelSource(
        key=key,
        runtime_flags=tuple(data.get("runtime_flags", ())),
        **{"name": key, "model": ""} | _taken(data, "name", "model", "context_size"),
    )
