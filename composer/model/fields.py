"""THE table: one row per key of a stack file, in the order in which `config` prints them.

A row says what the value may be (`kind`), when text becomes a number or boolean (`cast`), what the short form
means (`normal`), how several files merge (`merge`) and which entries replace each other (`unique`), what is
filled in (`default`), whether it is a path (`paths`), what a change forces, whether we act on it, and what
it is for. Everything that treats fields alike reads this table; functions that a row names live beside
their matter.

`*` stands for any key or index. A key without rows below it is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

from composer.model import kinds as k
from composer.model import normal as n
from composer.model import paths as p
from composer.model import unique as u

Change = Literal["nothing", "live", "restart", "recreate"]
Support = Literal["acts", "warned", "refused"]
Merge = Literal["deep", "replace", "list", "hosts", "build", "names", "dependencies", "logging", "pools"]

STRUCT = "struct"
"""A mapping with known keys; printed even when it is empty."""
PART = "part"
"""A mapping with known keys; left out when nothing is set in it."""
MAP = "map"
NAMES = "names"
"""A mapping whose entries may say nothing; those are null."""
LIST = "list"


class Field(NamedTuple):
    path: tuple[str, ...]
    kind: Any
    doc: str = ""
    cast: Callable[[Any], Any] | None = None
    normal: Callable[[Any], Any] | None = None
    merge: Merge = "deep"
    unique: Callable[[Any], str] | None = None
    default: Callable[[Any], Any] | None = None
    paths: Callable[[Any, p.Base], Any] | None = None
    change: Change = "recreate"
    support: Support = "acts"
    why: str = ""


def _rows(prefix: str, *rows: tuple[str, Any, str] | tuple[str, Any, str, dict[str, Any]]) -> list[Field]:
    start = tuple(prefix.split(".")) if prefix else ()
    return [
        Field(
            (*start, *(row[0].split(".") if row[0] else ())),
            row[1],
            row[2],
            **(row[3] if len(row) > 3 else {}),
        )
        for row in rows
    ]


_LIVE: dict[str, Any] = {"change": "live"}
_NOTHING: dict[str, Any] = {"change": "nothing"}
_INT: dict[str, Any] = {"cast": k.to_int}
_BOOL: dict[str, Any] = {"cast": k.to_bool}
_FLOAT: dict[str, Any] = {"cast": k.to_float}
_PAIRS: dict[str, Any] = {"merge": "list", "unique": u.key}
_UNIQUE: dict[str, Any] = {"unique": u.key}
_RATE = k.kept(k.size, "0")
_WEIGHT = k.kept(k.natural, 0)


def _warned(why: str, **more: Any) -> dict[str, Any]:
    return {"support": "warned", "why": why, "change": "nothing", **more}


_SWARM = "it only means something to a cluster scheduler"
_ATTESTED = "images get no attestations"
_WINDOWS = "it only means something on Windows"


def _hook(prefix: str, kind: str = STRUCT) -> list[Field]:
    return _rows(
        prefix,
        ("", kind, "One command run inside the container."),
        ("command", k.command, "The command."),
        ("user", k.string, "Who runs it."),
        ("privileged", k.boolean, "Run it with every capability."),
        ("working_dir", k.string, "Where it runs."),
        ("environment", k.environment, "Variables added for it."),
    )


def _update(prefix: str, doc: str) -> list[Field]:
    return _rows(
        prefix,
        ("", STRUCT, doc, _NOTHING),
        ("parallelism", k.unsigned, "Containers changed at once.", _INT),
        ("delay", k.duration, "Pause between groups."),
        ("failure_action", k.string, "What happens when one fails."),
        ("monitor", k.duration, "How long to watch each for failure."),
        ("max_failure_ratio", k.number, "The share of failures that is still well.", _FLOAT),
        ("order", k.string, "start-first or stop-first."),
    )


def _device_request(prefix: str, normal: Callable[[Any], Any] | None = None) -> list[Field]:
    return _rows(
        prefix,
        (
            "",
            LIST,
            "Devices asked for by what they can do.",
            _warned("GPU runtimes are not supported", normal=normal),
        ),
        ("*", STRUCT, "One request.", {"default": n.count_all}),
        ("*.capabilities", k.strings, "What the device must be able to do."),
        ("*.driver", k.string, "The driver that provides it."),
        ("*.count", k.device_count, "How many, or `all`."),
        ("*.device_ids", k.strings, "Which ones."),
        ("*.options", k.mapping, "Options of the driver."),
    )


def _grants(prefix: str, word: str, folder: str, default: Any) -> list[Field]:
    return _rows(
        prefix,
        ("", LIST, f"Which {word}s the container sees.", {"unique": u.grant(folder)}),
        ("*", STRUCT, f"One {word}.", {"normal": n.source, "default": default}),
        ("*.source", k.string, f"The key of the {word}."),
        ("*.target", k.string, "Where it is mounted."),
        ("*.uid", k.string, "The owner."),
        ("*.gid", k.string, "The group."),
        ("*.mode", k.file_mode, "The file mode, octal."),
    )


def _ulimits(prefix: str) -> list[Field]:
    return _rows(
        prefix,
        ("", MAP, "Resource limits of processes (setrlimit)."),
        (
            "*",
            k.ulimit,
            "One limit: a number, or soft and hard.",
            {"merge": "replace", "normal": n.limit, **_INT},
        ),
        ("*.soft", None, "The soft limit.", _INT),
        ("*.hard", None, "The hard limit.", _INT),
    )


def _devices_throttled(prefix: str, value: str, kind: Any, doc: str) -> list[Field]:
    return _rows(
        prefix,
        ("", LIST, doc),
        ("*", STRUCT, "One device.", {"default": n.filled("path", value), **_LIVE}),
        ("*.path", k.kept(k.string, ""), "The device."),
        (f"*.{value}", kind, "The value."),
    )


def _container(prefix: str) -> list[Field]:
    """The keys that describe one container; `pre_start` steps take them too."""
    return [
        *_rows(
            prefix,
            ("annotations", k.mapping, "Metadata for the runtime.", _PAIRS),
            ("blkio_config", STRUCT, "Limits on block devices.", _LIVE),
            ("blkio_config.weight", k.natural, "Relative share of bandwidth, 10 to 1000."),
        ),
        *_devices_throttled(
            f"{prefix}.blkio_config.weight_device", "weight", k.kept(k.natural, 0), "Share per device."
        ),
        *_devices_throttled(f"{prefix}.blkio_config.device_read_bps", "rate", _RATE, "Bytes read a second."),
        *_devices_throttled(f"{prefix}.blkio_config.device_read_iops", "rate", _RATE, "Reads per second."),
        *_devices_throttled(
            f"{prefix}.blkio_config.device_write_bps", "rate", _RATE, "Bytes written a second."
        ),
        *_devices_throttled(f"{prefix}.blkio_config.device_write_iops", "rate", _RATE, "Writes per second."),
        *_rows(
            prefix,
            ("cap_add", k.strings, "Capabilities added to the default set.", _UNIQUE),
            ("cap_drop", k.strings, "Capabilities taken away.", _UNIQUE),
            ("cgroup_parent", k.string, "The cgroup to start below."),
            ("cgroup", k.string, "host or private cgroup namespace."),
            ("cpu_count", k.integer, "Usable CPUs.", _warned(_WINDOWS, **_INT)),
            ("cpu_percent", k.number, "Usable share of CPU.", _warned(_WINDOWS, **_FLOAT)),
            ("cpu_period", k.integer, "Length of a CFS period in microseconds.", _INT | _LIVE),
            ("cpu_quota", k.integer, "CPU time per CFS period in microseconds.", _INT | _LIVE),
            ("cpu_rt_period", k.integer, "Length of a real-time period.", _INT | _LIVE),
            ("cpu_rt_runtime", k.integer, "Real-time runtime per period.", _INT | _LIVE),
            ("cpus", k.number, "How many CPUs may be used, in fractions.", _FLOAT | _LIVE),
            ("cpuset", k.string, "Which CPUs may be used.", _LIVE),
            ("cpu_shares", k.integer, "Relative weight against other containers.", _INT | _LIVE),
            ("command", k.command, "Replaces the image's command.", {"merge": "replace"}),
        ),
        *_grants(f"{prefix}.configs", "config", "", None),
        *_rows(
            prefix,
            ("credential_spec", STRUCT, "A managed service account.", _warned(_WINDOWS)),
            ("credential_spec.config", k.string, "From a config."),
            ("credential_spec.file", k.string, "From a file."),
            ("credential_spec.registry", k.string, "From the registry."),
            ("device_cgroup_rules", k.strings, "Rules for the device cgroup."),
            ("devices", LIST, "Devices of the host.", {"unique": u.device}),
            ("devices.*", STRUCT, "One device.", {"normal": n.device}),
            ("devices.*.source", k.string, "The device on the host."),
            ("devices.*.target", k.string, "Its path in the container."),
            ("devices.*.permissions", k.string, "Any of r, w, m."),
            ("dns", k.strings, "Name servers.", _PAIRS | {"normal": n.dns}),
            ("dns_opt", k.strings, "Resolver options.", _PAIRS),
            ("dns_search", k.strings, "Search domains.", _PAIRS),
            ("domainname", k.string, "The domain name."),
            ("entrypoint", k.command, "Replaces the image's entrypoint.", {"merge": "replace"}),
            ("environment", k.environment, "Variables of the container.", _PAIRS),
            (
                "env_file",
                LIST,
                "Files with variables.",
                {"merge": "list", "unique": u.env_file, "normal": n.env_files},
            ),
            ("env_file.*", STRUCT, "One file."),
            ("env_file.*.path", k.string, "The file.", {"paths": p.absolute}),
            ("env_file.*.required", k.opt_out, "An absent file is an error unless this is false."),
            ("env_file.*.format", k.string, "`raw`: values are taken as they stand."),
            ("extra_hosts", k.hosts, "Lines for /etc/hosts.", {"merge": "hosts"}),
            ("group_add", k.texts, "More groups of the user."),
        ),
        *_device_request(f"{prefix}.gpus", n.gpus),
        *_rows(
            prefix,
            ("hostname", k.string, "The host name."),
            ("image", k.string, "The image."),
            ("init", k.optional_boolean, "Run a small init as process 1.", _BOOL),
            ("ipc", k.string, "IPC namespace: host, shareable, service:NAME."),
            ("isolation", k.string, "Isolation technology.", _warned(_WINDOWS)),
            ("labels", k.mapping, "Labels of the container.", _PAIRS),
            (
                "label_file",
                k.strings,
                "Files with labels.",
                {"merge": "list", "normal": n.one_or_many, "paths": p.each},
            ),
            ("logging", STRUCT, "Where output goes.", {"merge": "logging"}),
            ("logging.driver", k.string, "The driver."),
            ("logging.options", k.options, "Its options."),
            ("mem_limit", k.size, "Most memory, in bytes or with a unit.", _LIVE),
            ("mem_reservation", k.size, "Memory kept for it under pressure.", _LIVE),
            ("memswap_limit", k.size, "Most memory and swap together; -1 is unlimited.", _LIVE),
            ("mem_swappiness", k.size, "How eagerly its memory is swapped, 0 to 100.", _LIVE),
            ("mac_address", k.string, "The MAC address."),
            (
                "models",
                NAMES,
                "AI models that it uses.",
                _warned("models are not served", merge="names", normal=n.names),
            ),
            ("models.*", STRUCT, "One model."),
            ("models.*.endpoint_var", k.string, "The variable that gets its address."),
            ("models.*.model_var", k.string, "The variable that gets its name."),
            ("network_mode", k.string, "host, none, service:NAME, container:NAME."),
            ("networks", NAMES, "Networks it joins.", {"merge": "names", "normal": n.names}),
            ("networks.*", STRUCT, "Its place on one network."),
            ("networks.*.aliases", k.strings, "More names there.", _UNIQUE),
            ("networks.*.driver_opts", k.options, "Options of the driver."),
            ("networks.*.gw_priority", k.integer, "The highest gives the default route."),
            ("networks.*.interface_name", k.string, "The name of the interface."),
            ("networks.*.ipv4_address", k.string, "A fixed IPv4 address."),
            ("networks.*.ipv6_address", k.string, "A fixed IPv6 address."),
            ("networks.*.link_local_ips", k.strings, "Link-local addresses.", _UNIQUE),
            ("networks.*.mac_address", k.string, "The MAC address there."),
            ("networks.*.priority", k.integer, "The highest is connected first."),
            ("oom_kill_disable", k.boolean, "Never kill it when memory runs out.", _BOOL | _LIVE),
            ("oom_score_adj", k.integer, "Who is killed first, -1000 to 1000.", _INT),
            ("pid", k.string, "PID namespace: host, service:NAME."),
            ("pids_limit", k.integer, "Most processes; -1 is unlimited.", _INT | _LIVE),
            ("platform", k.string, "The platform, os/arch/variant."),
            ("privileged", k.boolean, "All capabilities and devices.", _BOOL),
            ("pull_policy", k.string, "When to pull: always, missing, never, build, daily, …", _NOTHING),
            (
                "pull_refresh_after",
                k.duration,
                "How old an image may become, for `refresh`.",
                _NOTHING,
            ),
            ("read_only", k.boolean, "The root is read-only.", _BOOL),
            ("runtime", k.string, "Another OCI runtime."),
        ),
        *_grants(f"{prefix}.secrets", "secret", "/run/secrets", n.secret_target),
        *_rows(
            prefix,
            ("security_opt", k.strings, "no-new-privileges, seccomp, apparmor, label."),
            ("shm_size", k.size, "The size of /dev/shm."),
            ("stop_grace_period", k.optional_duration, "How long after the signal it is killed.", _LIVE),
            ("stop_signal", k.string, "The signal that asks it to stop.", _LIVE),
            ("storage_opt", k.options, "Options of the storage driver."),
            ("sysctls", k.mapping, "Kernel parameters of its namespaces.", _PAIRS),
            ("tmpfs", k.strings, "Mounts of tmpfs.", _PAIRS),
        ),
        *_ulimits(f"{prefix}.ulimits"),
        *_rows(
            prefix,
            (
                "use_api_socket",
                k.boolean,
                "The engine's socket inside.",
                _warned("there is no engine socket"),
            ),
            ("user", k.string, "Who runs the process: name or id[:group]."),
            ("userns_mode", k.string, "User namespace."),
            ("uts", k.string, "UTS namespace: host."),
            ("volumes", LIST, "Mounts.", {"unique": u.mount}),
            ("volumes.*", STRUCT, "One mount.", {"normal": n.mount, "paths": p.mount}),
            ("volumes.*.type", k.string, "volume, bind, tmpfs or image."),
            ("volumes.*.source", k.string, "A volume's key or a path."),
            ("volumes.*.target", k.string, "Where it is mounted."),
            ("volumes.*.read_only", k.boolean, "May not be written.", _BOOL),
            ("volumes.*.consistency", k.string, "Ignored on Linux, as everywhere.", _NOTHING),
            ("volumes.*.bind", STRUCT, "Options of a bind mount.", {"default": n.create_host_path}),
            ("volumes.*.bind.selinux", k.string, "z or Z."),
            ("volumes.*.bind.propagation", k.string, "Mount propagation."),
            ("volumes.*.bind.create_host_path", k.opt_out, "Make the source when it is absent."),
            ("volumes.*.bind.recursive", k.string, "How submounts are taken along."),
            ("volumes.*.volume", STRUCT, "Options of a volume."),
            ("volumes.*.volume.labels", k.mapping, "Labels of the volume.", {"merge": "list"}),
            ("volumes.*.volume.nocopy", k.boolean, "Do not fill it from the image.", _BOOL),
            ("volumes.*.volume.subpath", k.string, "A folder inside the volume."),
            ("volumes.*.tmpfs", STRUCT, "Options of a tmpfs."),
            ("volumes.*.tmpfs.size", k.size, "Its size."),
            ("volumes.*.tmpfs.mode", k.natural, "Its mode."),
            ("volumes.*.image", STRUCT, "Options of an image mount."),
            ("volumes.*.image.subpath", k.string, "A folder inside the image."),
            ("volumes_from", k.strings, "The mounts of another service or container."),
            ("working_dir", k.string, "The working directory."),
        ),
    ]


_SERVICE = "services.*"

FIELDS: tuple[Field, ...] = (
    *_rows(
        "",
        ("name", k.string, "The name of the stack.", _NOTHING),
        ("services", MAP, "What runs."),
        ("services.*", STRUCT, "One service."),
    ),
    *_rows(
        _SERVICE,
        ("profiles", k.strings, "Active only with one of these profiles.", _UNIQUE | _NOTHING),
        ("deploy", STRUCT, "How it is deployed."),
        ("deploy.mode", k.string, "replicated or global.", _warned(_SWARM)),
        ("deploy.replicas", k.optional_integer, "How many containers.", _INT | _NOTHING),
        ("deploy.labels", k.mapping, "Labels of the service.", _PAIRS | _warned(_SWARM)),
    ),
    *_update(f"{_SERVICE}.deploy.update_config", "How changes are rolled out."),
    *_update(f"{_SERVICE}.deploy.rollback_config", "How changes are rolled back."),
    *_rows(
        f"{_SERVICE}.deploy",
        ("resources", PART, "Limits and reservations."),
        ("resources.limits", STRUCT, "What it may use at most.", _LIVE),
        ("resources.limits.cpus", k.number, "CPUs, in fractions.", _LIVE),
        ("resources.limits.memory", k.size, "Memory.", _LIVE),
        ("resources.limits.pids", k.integer, "Processes.", _LIVE),
        ("resources.reservations", STRUCT, "What is kept for it.", _LIVE),
        ("resources.reservations.cpus", k.number, "CPUs, in fractions.", _LIVE),
        ("resources.reservations.memory", k.size, "Memory.", _LIVE),
    ),
    *_device_request(f"{_SERVICE}.deploy.resources.reservations.devices"),
    *_rows(
        f"{_SERVICE}.deploy",
        ("resources.reservations.generic_resources", LIST, "User-defined resources.", _warned(_SWARM)),
        ("resources.reservations.generic_resources.*", STRUCT, "One resource."),
        (
            "resources.reservations.generic_resources.*.discrete_resource_spec",
            STRUCT,
            "A countable one.",
            {"default": n.filled("kind", "value")},
        ),
        (
            "resources.reservations.generic_resources.*.discrete_resource_spec.kind",
            k.kept(k.string, ""),
            "Its kind.",
        ),
        (
            "resources.reservations.generic_resources.*.discrete_resource_spec.value",
            k.kept(k.integer, 0),
            "How many.",
        ),
        ("restart_policy", STRUCT, "When it is started again.", _NOTHING),
        ("restart_policy.condition", k.string, "none, on-failure or any.", _NOTHING),
        ("restart_policy.delay", k.optional_duration, "Pause between attempts.", _NOTHING),
        ("restart_policy.max_attempts", k.unsigned, "How often.", _INT | _NOTHING),
        ("restart_policy.window", k.optional_duration, "When an attempt counts as success.", _NOTHING),
        ("placement", PART, "Which nodes.", _warned(_SWARM)),
        ("placement.constraints", k.strings, "Conditions on nodes."),
        ("placement.preferences", LIST, "Preferences among nodes."),
        ("placement.preferences.*", STRUCT, "One preference."),
        ("placement.preferences.*.spread", k.string, "Spread over a label."),
        ("placement.max_replicas_per_node", k.integer, "At most per node.", _INT),
        ("endpoint_mode", k.string, "vip or dnsrr.", _warned(_SWARM)),
    ),
    *_rows(
        _SERVICE,
        ("develop", STRUCT, "Support for development.", _NOTHING),
        ("develop.watch", LIST, "What happens when files change.", _NOTHING),
        ("develop.watch.*", STRUCT, "One rule."),
        ("develop.watch.*.path", k.string, "The path that is watched.", {"paths": p.absolute}),
        ("develop.watch.*.action", k.string, "sync, rebuild, restart, sync+restart, sync+exec."),
        ("develop.watch.*.target", k.string, "Where files go in the container."),
    ),
    *_hook(f"{_SERVICE}.develop.watch.*.exec", PART),
    *_rows(
        _SERVICE,
        ("develop.watch.*.include", k.strings, "Only these.", {"normal": n.one_or_many}),
        ("develop.watch.*.ignore", k.strings, "Not these.", {"normal": n.one_or_many}),
        ("develop.watch.*.initial_sync", k.boolean, "Sync everything first."),
        ("restart", k.string, "no, always, on-failure[:n], unless-stopped.", _LIVE),
        ("scale", k.optional_integer, "How many containers.", _INT | _NOTHING),
        ("attach", k.optional_boolean, "Show its output in `up`.", _NOTHING),
        ("container_name", k.string, "The name of its only container."),
        (
            "provider",
            STRUCT,
            "Something else provides this service.",
            _warned("provider plugins are not run"),
        ),
        ("provider.type", k.string, "The program."),
        ("provider.options", k.provider_options, "Its options."),
        ("extends", STRUCT, "Start from another service.", {"normal": n.extends} | _NOTHING),
        ("extends.file", k.string, "The file it stands in.", {"paths": p.absolute}),
        ("extends.service", k.string, "The service."),
        ("external_links", k.strings, "Links to containers of other stacks."),
        ("links", k.strings, "Names for other services.", _UNIQUE),
        ("pre_start", LIST, "Steps before the first start, each in its own container."),
        ("pre_start.*", STRUCT, "One step."),
    ),
    *_container(f"{_SERVICE}.pre_start.*"),
    *_rows(
        _SERVICE,
        ("pre_start.*.per_replica", k.boolean, "Once per container instead of once per service.", _NOTHING),
        ("post_start", LIST, "Commands after the start."),
        ("pre_stop", LIST, "Commands before the stop.", _LIVE),
    ),
    *_hook(f"{_SERVICE}.post_start.*"),
    *_hook(f"{_SERVICE}.pre_stop.*"),
    *_container(_SERVICE),
    *_rows(
        _SERVICE,
        (
            "build",
            STRUCT,
            "How the image is built.",
            {"merge": "build", "normal": n.build, "default": n.build_context, **_NOTHING},
        ),
        ("build.context", k.string, "The build context: a folder or a URL.", {"paths": p.context}),
        ("build.dockerfile", k.string, "The Dockerfile, inside the context."),
        ("build.dockerfile_inline", k.string, "The Dockerfile's text."),
        ("build.entitlements", k.strings, "Extra privileges of the build."),
        ("build.args", k.environment, "Values of ARG.", _PAIRS),
        ("build.provenance", k.string, "Provenance attestation.", _warned(_ATTESTED, normal=n.text)),
        ("build.sbom", k.string, "SBOM attestation.", _warned(_ATTESTED, normal=n.text)),
        ("build.ssh", k.ssh_keys, "SSH agents for RUN --mount=type=ssh.", {"normal": n.ssh}),
        ("build.labels", k.mapping, "Labels of the image.", _PAIRS),
        ("build.cache_from", k.strings, "Where cached layers come from."),
        ("build.cache_to", k.strings, "Where cached layers go."),
        ("build.no_cache", k.boolean, "Build every step anew."),
        ("build.no_cache_filter", k.strings, "Build these stages anew."),
        (
            "build.additional_contexts",
            k.mapping,
            "More named contexts.",
            _PAIRS | {"normal": n.key_values, "paths": p.contexts},
        ),
        ("build.pull", k.boolean, "Pull base images even when present."),
        ("build.extra_hosts", k.hosts, "Lines for /etc/hosts while building.", {"merge": "hosts"}),
        ("build.isolation", k.string, "Isolation technology.", _warned(_WINDOWS)),
        ("build.network", k.string, "The network of RUN."),
        ("build.target", k.string, "The stage to build."),
    ),
    *_grants(f"{_SERVICE}.build.secrets", "secret", "", None),
    *_rows(
        _SERVICE,
        ("build.shm_size", k.size, "The size of /dev/shm while building."),
        ("build.tags", k.strings, "More names of the image.", _UNIQUE),
    ),
    *_ulimits(f"{_SERVICE}.build.ulimits"),
    *_rows(
        _SERVICE,
        ("build.platforms", k.strings, "Platforms to build for."),
        ("build.privileged", k.boolean, "Build with all privileges."),
        (
            "depends_on",
            MAP,
            "What must be there first.",
            {"merge": "dependencies", "normal": n.dependencies, **_NOTHING},
        ),
        ("depends_on.*", STRUCT, "One dependency."),
        ("depends_on.*.condition", k.string, "started, healthy or completed."),
        ("depends_on.*.restart", k.boolean, "Restart together with it.", _BOOL),
        ("depends_on.*.required", k.optional_boolean, "It may be inactive when this is false.", _BOOL),
        ("expose", k.texts, "Ports for other services.", {"unique": u.exposed} | _NOTHING),
        ("healthcheck", STRUCT, "How health is judged.", _LIVE),
        ("healthcheck.test", k.health_test, "The command.", {"merge": "replace", **_LIVE}),
        ("healthcheck.timeout", k.optional_duration, "How long one probe may take.", _LIVE),
        ("healthcheck.interval", k.optional_duration, "Pause between probes.", _LIVE),
        ("healthcheck.retries", k.unsigned, "Failures until unhealthy.", _INT | _LIVE),
        ("healthcheck.start_period", k.optional_duration, "Failures that do not count yet.", _LIVE),
        ("healthcheck.start_interval", k.optional_duration, "Pause between probes until then.", _LIVE),
        ("healthcheck.disable", k.boolean, "No healthcheck, not even the image's.", _BOOL | _LIVE),
        ("ports", LIST, "Published ports.", {"unique": u.port, "normal": n.ports}),
        ("ports.*", STRUCT, "One port.", {"default": n.port_defaults}),
        ("ports.*.name", k.string, "What it is."),
        ("ports.*.mode", k.string, "host or ingress."),
        ("ports.*.host_ip", k.address, "The host's address."),
        ("ports.*.target", k.natural, "The container's port.", _INT),
        ("ports.*.published", k.string, "The host's port or range."),
        ("ports.*.protocol", k.string, "tcp, udp or sctp."),
        ("ports.*.app_protocol", k.string, "What is spoken there."),
        ("stdin_open", k.boolean, "Keep standard input open.", _BOOL),
        ("tty", k.boolean, "Give it a terminal.", _BOOL),
    ),
    *_rows(
        "jobs",
        (
            "",
            k.unsupported,
            "Containers that are run when something triggers them.",
            {"support": "refused", "why": "nothing triggers jobs"},
        ),
    ),
    *_rows(
        "networks",
        ("", MAP, "Networks of the stack."),
        ("*", STRUCT, "One network.", {"normal": n.resource}),
        ("*.name", k.string, "Its name on the host."),
        ("*.driver", k.string, "bridge, host, none, …"),
        ("*.driver_opts", k.options, "Options of the driver."),
        ("*.ipam", PART, "Address management."),
        ("*.ipam.driver", k.string, "Its driver."),
        ("*.ipam.config", LIST, "Address pools.", {"merge": "pools"}),
        ("*.ipam.config.*", STRUCT, "One pool."),
        ("*.ipam.config.*.subnet", k.string, "The subnet."),
        ("*.ipam.config.*.gateway", k.string, "The gateway."),
        ("*.ipam.config.*.ip_range", k.string, "Where addresses are taken from."),
        ("*.ipam.config.*.aux_addresses", k.mapping, "Addresses that are taken already."),
        ("*.ipam.options", k.options, "Options of the driver.", _UNIQUE),
        ("*.external", k.boolean, "It exists already.", _BOOL),
        ("*.internal", k.boolean, "No way out.", _BOOL),
        ("*.attachable", k.boolean, "Others may join.", _warned(_SWARM, **_BOOL)),
        ("*.labels", k.mapping, "Labels.", _PAIRS),
        ("*.enable_ipv4", k.optional_boolean, "IPv4.", _BOOL),
        ("*.enable_ipv6", k.optional_boolean, "IPv6.", _BOOL),
    ),
    *_rows(
        "volumes",
        ("", MAP, "Volumes of the stack."),
        ("*", STRUCT, "One volume.", {"normal": n.resource, "paths": p.volume}),
        ("*.name", k.string, "Its name on the host."),
        ("*.driver", k.string, "The driver."),
        ("*.driver_opts", k.options, "Options of the driver."),
        ("*.external", k.boolean, "It exists already.", _BOOL),
        ("*.labels", k.mapping, "Labels.", _PAIRS),
    ),
    *(
        row
        for word in ("secret", "config")
        for row in _rows(
            f"{word}s",
            ("", MAP, f"The {word}s of the stack."),
            (
                "*",
                STRUCT,
                f"One {word}.",
                {"normal": n.resource, "default": n.with_source if word == "config" else None},
            ),
            ("*.name", k.string, "Its name on the host."),
            ("*.file", k.string, "The file that holds it.", {"paths": p.local}),
            ("*.environment", k.string, "The variable that holds it."),
            ("*.content", k.string, "The text itself."),
            ("*.external", k.boolean, "It exists already.", _BOOL),
            ("*.labels", k.mapping, "Labels.", _warned(_SWARM, **_PAIRS)),
            ("*.driver", k.string, "The driver.", _warned(_SWARM)),
            ("*.driver_opts", k.options, "Options of the driver.", _warned(_SWARM)),
            ("*.template_driver", k.string, "The template driver.", _warned(_SWARM)),
        )
    ),
    *_rows(
        "models",
        ("", MAP, "AI models of the stack.", _warned("models are not served")),
        ("*", STRUCT, "One model."),
        ("*.name", k.string, "Its name."),
        ("*.model", k.string, "The model."),
        ("*.context_size", k.integer, "The size of its context."),
        ("*.runtime_flags", k.strings, "Flags of the inference engine."),
    ),
)


class Node:
    """One step of a path: its own row, and what may follow."""

    __slots__ = ("any", "children", "field")

    def __init__(self) -> None:
        self.field: Field | None = None
        self.children: dict[str, Node] = {}
        self.any: Node | None = None


@cache
def tree(column: str | None = None) -> Node:
    """The rows as a tree; with a column, only those rows (and their parents) where that column is set."""
    root = Node()
    default = Field._field_defaults.get(column, None) if column else None
    for row in FIELDS:
        if column is not None and getattr(row, column) == default:
            continue
        node = root
        for part in row.path:
            if part == "*":
                node.any = node.any or Node()
                node = node.any
            else:
                node = node.children.setdefault(part, Node())
        node.field = row
    return root


def walk(
    value: Any, node: Node, visit: Callable[[Any, Field, tuple[str | int, ...]], Any], path: Any = ()
) -> Any:
    """Call `visit` for every value with a row in `node`, parents first; its answer replaces the value."""
    if node.field is not None:
        value = visit(value, node.field, path)
    if isinstance(value, dict):
        for key in value if node.any else [key for key in node.children if key in value]:
            below = node.children.get(key) or node.any
            if below is not None:
                value[key] = walk(value[key], below, visit, (*path, key))
    elif isinstance(value, list) and node.any is not None:
        for index, item in enumerate(value):
            value[index] = walk(item, node.any, visit, (*path, index))
    return value


def consequences() -> dict[str, Change]:
    """What a change of a field of `stack.Service` forces, as far as the table says it."""
    start = ("services", "*")
    found = {row.path[2]: row.change for row in FIELDS if row.path[:2] == start and len(row.path) == 3}
    return found | {"resources": "live", "name": "nothing", "extensions": "nothing"}
