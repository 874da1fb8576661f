"""The OCI runtime-spec 1.2 `config.json` as types. A leaf: names of a format that others define.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md and config-linux.md
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class User(TypedDict, total=False):
    uid: int
    gid: int
    umask: int
    additionalGids: list[int]


class Capabilities(TypedDict, total=False):
    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    type: str
    soft: int
    hard: int


class ConsoleSize(TypedDict):
    height: int
    width: int


class Process(TypedDict, total=False):
    terminal: bool
    consoleSize: ConsoleSize
    user: User
    args: list[str]
    env: list[str]
    cwd: str
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    oomScoreAdj: int
    apparmorProfile: str
    selinuxLabel: str
    scheduler: dict[str, Any]
    ioPriority: dict[str, Any]


class IDMapping(TypedDict):
    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    destination: str
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


class Root(TypedDict, total=False):
    path: str
    readonly: bool


class Namespace(TypedDict, total=False):
    type: Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]
    path: str


class Device(TypedDict, total=False):
    type: str
    path: str
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class DeviceRule(TypedDict, total=False):
    allow: bool
    type: str
    major: int
    minor: int
    access: str


class Resources(TypedDict, total=False):
    devices: list[DeviceRule]
    memory: dict[str, Any]
    cpu: dict[str, Any]
    pids: dict[str, int]
    blockIO: dict[str, Any]
    hugepageLimits: list[dict[str, Any]]
    network: dict[str, Any]
    unified: dict[str, str]


class Linux(TypedDict, total=False):
    namespaces: list[Namespace]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    timeOffsets: dict[str, dict[str, int]]
    devices: list[Device]
    cgroupsPath: str
    resources: Resources
    sysctl: dict[str, str]
    seccomp: dict[str, Any]
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    intelRdt: dict[str, Any]
    personality: dict[str, Any]


class Hook(TypedDict, total=False):
    path: str
    args: list[str]
    env: list[str]
    timeout: int


class Spec(TypedDict, total=False):
    ociVersion: str
    process: Process
    root: Root
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: dict[str, list[Hook]]
    annotations: dict[str, str]
    linux: Linux
