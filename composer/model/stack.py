"""The typed model: one immutable tree that the planner and everything after it use.

Units are exact: sizes in bytes, durations in nanoseconds, modes as integers, CPU shares as fractions of one
CPU. Short syntax, interpolation, merging, profiles and paths are all behind us here. Names of fields are the
Compose Specification's. No parsing and no defaults that depend on the host may enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from composer.value import Value

SECOND = 1_000_000_000


class FrozenMap(dict[str, Any]):
    """A mapping that cannot be changed, so that values that hold it stay values."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a FrozenMap cannot be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


NOTHING: Mapping[str, Any] = FrozenMap()

Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]


class Dependency(Value):
    condition: Condition = "service_started"
    restart: bool = False
    required: bool = True


class Probe(Value):
    """A look from the outside, at a port of the container. `status`: ranges of codes that are well."""

    scheme: Literal["tcp", "http", "https"]
    port: int
    path: str = "/"
    method: str = "GET"
    host: str = "localhost"
    headers: Mapping[str, str] = NOTHING
    status: tuple[tuple[int, int], ...] = ((200, 399),)


class Healthcheck(Value):
    """`test` starts with CMD, CMD-SHELL or NONE; empty means the image's own test. None: not said.

    With `probe` there is no `test`.
    """

    test: tuple[str, ...] = ()
    interval: int | None = None
    timeout: int | None = None
    retries: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    disable: bool = False
    probe: Probe | None = None


class Port(Value):
    """`published` is "", "8080" or a range "8000-8010"; a range picks the first free one."""

    target: int
    published: str = ""
    host_ip: str = ""
    protocol: str = "tcp"
    mode: str = "ingress"
    name: str = ""
    app_protocol: str = ""


OWN_USER = "@"
"""The user that the container runs as."""


class Mount(Value):
    """One entry of `volumes` (or of `tmpfs`). `source` is a host path, a key of Stack.volumes, or ""."""

    type: Literal["bind", "volume", "tmpfs", "image"]
    target: str
    source: str = ""
    read_only: bool = False
    consistency: str = ""
    propagation: str = ""
    create_host_path: bool = True
    selinux: str = ""
    recursive: str = ""
    owner: str = ""
    """Who, in the container, is shown as the owner of what the source's owner has: a user, or `OWN_USER`."""
    nocopy: bool = False
    subpath: str = ""
    labels: Mapping[str, str] = NOTHING
    tmpfs_size: int = 0
    tmpfs_mode: int | None = None
    tmpfs_options: tuple[str, ...] = ()


class FileGrant(Value):
    """A use of a secret or config by a service. `target` is a path; mode 0o444 unless said."""

    source: str
    target: str
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444


class Attachment(Value):
    """A service's place on a network."""

    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    mac_address: str = ""
    interface_name: str = ""
    priority: int = 0
    gw_priority: int = 0
    driver_opts: Mapping[str, str] = NOTHING
    links: tuple[str, ...] = ()
    """As a service's `links`, of `network connect --link`; files have no such key here."""


class Ulimit(Value):
    """-1 is unlimited."""

    soft: int
    hard: int


class DeviceRate(Value):
    path: str
    rate: int


class BlkioConfig(Value):
    weight: int = 0
    weight_device: tuple[DeviceRate, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()


class Device(Value):
    source: str
    target: str
    permissions: str = "rwm"


class DeviceRequest(Value):
    """gpus, or deploy.resources.reservations.devices. `count` -1 is all."""

    capabilities: tuple[str, ...] = ()
    driver: str = ""
    count: int = 0
    device_ids: tuple[str, ...] = ()
    options: Mapping[str, str] = NOTHING


class Resources(Value):
    """The limits of one container, gathered from deploy.resources and the service's own keys. 0: not said."""

    cpus: float = 0.0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_rt_period: int = 0
    cpu_rt_runtime: int = 0
    cpuset: str = ""
    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int = 0
    pids: int = 0
    blkio: BlkioConfig = BlkioConfig()
    cpus_reservation: float = 0.0
    devices: tuple[DeviceRequest, ...] = ()


class RestartPolicy(Value):
    """`restart` and deploy.restart_policy in one. `max_attempts` None: without limit."""

    condition: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    max_attempts: int | None = None
    delay: int | None = None
    window: int | None = None


class UnhealthyRestart(Value):
    """Restart what is unhealthy, `attempts` times (None: always); a run of `window` ns counts as new."""

    attempts: int | None = None
    window: int | None = None


class UpdateConfig(Value):
    parallelism: int = 1
    delay: int = 0
    failure_action: str = "pause"
    monitor: int = 0
    max_failure_ratio: float = 0.0
    order: str = "stop-first"


class Hook(Value):
    command: tuple[str, ...]
    user: str = ""
    privileged: bool = False
    working_dir: str = ""
    environment: Mapping[str, str | None] = NOTHING


class Logging(Value):
    driver: str = ""
    options: Mapping[str, str] = NOTHING


class BuildSecret(Value):
    source: str
    target: str = ""
    uid: str = ""
    gid: str = ""
    mode: int | None = None


class Build(Value):
    context: str = ""
    dockerfile: str = ""
    dockerfile_inline: str = ""
    args: Mapping[str, str | None] = NOTHING
    target: str = ""
    additional_contexts: Mapping[str, str] = NOTHING
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    entitlements: tuple[str, ...] = ()
    extra_hosts: Mapping[str, tuple[str, ...]] = NOTHING
    isolation: str = ""
    labels: Mapping[str, str] = NOTHING
    network: str = ""
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    privileged: bool = False
    pull: bool = False
    secrets: tuple[BuildSecret, ...] = ()
    shm_size: int = 0
    ssh: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    ulimits: Mapping[str, Ulimit] = NOTHING


class WatchRule(Value):
    path: str
    action: Literal["sync", "rebuild", "restart", "sync+restart", "sync+exec"]
    target: str = ""
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    initial_sync: bool = False
    exec: Hook | None = None


class Provider(Value):
    """`options` holds the values as written: strings, numbers, booleans, or lists of them."""

    type: str
    options: Mapping[str, Any] = NOTHING


class ModelUse(Value):
    endpoint_var: str = ""
    model_var: str = ""


class FirstStep(Value):
    """A step of `pre_start`: a container of its own, described by `container` (its name is empty)."""

    container: Service
    per_replica: bool = False


class Service(Value):
    """One service, as desired. Keys that only steer loading (extends, profiles' effect) are gone."""

    name: str
    image: str = ""
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str | None] = NOTHING
    working_dir: str = ""
    user: str = ""
    group_add: tuple[str, ...] = ()
    hostname: str = ""
    domainname: str = ""
    container_name: str = ""
    labels: Mapping[str, str] = NOTHING
    annotations: Mapping[str, str] = NOTHING
    profiles: tuple[str, ...] = ()
    attach: bool = True

    scale: int = 1
    depends_on: Mapping[str, Dependency] = NOTHING
    restart: RestartPolicy = RestartPolicy()
    restart_unhealthy: UnhealthyRestart | None = None
    on_connect: bool = False
    """It starts with the first connection to one of its published ports."""
    idle: int = 0
    """Nanoseconds without connections after which it is frozen until the next one; 0: never."""
    healthcheck: Healthcheck | None = None
    stop_grace_period: int | None = None
    stop_signal: str = ""
    init: bool | None = None
    tty: bool = False
    stdin_open: bool = False
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    pre_start: tuple[FirstStep, ...] = ()
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None
    deploy_mode: str = "replicated"
    deploy_labels: Mapping[str, str] = NOTHING
    endpoint_mode: str = ""
    placement: Mapping[str, Any] = NOTHING

    networks: Mapping[str, Attachment] = NOTHING
    network_mode: str = ""
    ports: tuple[Port, ...] = ()
    expose: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    external_links: tuple[str, ...] = ()
    extra_hosts: Mapping[str, tuple[str, ...]] = NOTHING
    dns: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    mac_address: str = ""

    volumes: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    secrets: tuple[FileGrant, ...] = ()
    configs: tuple[FileGrant, ...] = ()
    read_only: bool = False
    shm_size: int = 0
    storage_opt: Mapping[str, str] = NOTHING

    resources: Resources = Resources()
    ulimits: Mapping[str, Ulimit] = NOTHING
    sysctls: Mapping[str, str] = NOTHING
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    security_opt: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    cgroup: str = ""
    cgroup_parent: str = ""
    ipc: str = ""
    pid: str = ""
    uts: str = ""
    userns_mode: str = ""
    runtime: str = ""

    platform: str = ""
    pull_policy: str = ""
    logging: Logging = Logging()
    develop: tuple[WatchRule, ...] = ()
    provider: Provider | None = None
    models: Mapping[str, ModelUse] = NOTHING
    use_api_socket: bool = False
    extensions: Mapping[str, Any] = NOTHING


class IpamPool(Value):
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    aux_addresses: Mapping[str, str] = NOTHING


class Network(Value):
    """`key` is the name in the file, `name` the one on the host."""

    key: str
    name: str
    driver: str = ""
    driver_opts: Mapping[str, str] = NOTHING
    ipam_driver: str = ""
    ipam: tuple[IpamPool, ...] = ()
    external: bool = False
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    labels: Mapping[str, str] = NOTHING
    extensions: Mapping[str, Any] = NOTHING


class Volume(Value):
    key: str
    name: str
    driver: str = ""
    driver_opts: Mapping[str, str] = NOTHING
    external: bool = False
    labels: Mapping[str, str] = NOTHING
    extensions: Mapping[str, Any] = NOTHING


class FileSource(Value):
    """A secret or a config. Exactly one of file, environment, content is set, unless external.

    For `environment` the value was read when the file was loaded and stands in `content`.
    """

    key: str
    name: str
    file: str = ""
    environment: str = ""
    content: str | None = None
    external: bool = False
    labels: Mapping[str, str] = NOTHING


class ModelSource(Value):
    key: str
    name: str
    model: str
    context_size: int = 0
    runtime_flags: tuple[str, ...] = ()


class StackLimits(Value):
    """What all containers together may use; 0 is without limit. CPUs, bytes, processes."""

    cpus: float = 0.0
    memory: int = 0
    pids: int = 0


class Stack(Value):
    """A whole stack, as desired: only active services and the resources that they use."""

    name: str
    services: Mapping[str, Service]
    networks: Mapping[str, Network] = NOTHING
    volumes: Mapping[str, Volume] = NOTHING
    secrets: Mapping[str, FileSource] = NOTHING
    configs: Mapping[str, FileSource] = NOTHING
    models: Mapping[str, ModelSource] = NOTHING
    working_dir: str = ""
    files: tuple[str, ...] = ()
    name_given: bool = False
    """True when -p, `name:` or the environment named it; False when the folder did."""
    limits: StackLimits = StackLimits()
    inactive: tuple[str, ...] = ()
    """Services that the files have and no active profile selects: what runs of them is no orphan."""
