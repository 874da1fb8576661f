"""The OCI runtime-spec 1.2 `config.json` as types. A leaf: names of a format that others define.

The runtime holds what it is given to these types (`runtime.shape`), bounds of numbers and required fields
included. What only control groups read is open here, and checked there.
https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md and config-linux.md
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Required, TypedDict

# Of users and groups. The largest 32-bit number is no id: for the kernel it means "leave it as it is".
Id = Annotated[int, range(2**32 - 1)]
Seconds = Annotated[int, range(1, 2**31)]
# Of texts: a pattern they must match, and its name. An empty path is "not set".
Absolute = Annotated[str, ("/|$", "an absolute path")]
Variable = Annotated[str, ("[^=\0]+=[^\0]*$", "NAME=value")]


class User(TypedDict, total=False):
    uid: Id
    gid: Id
    umask: Annotated[int, range(0o1000)]
    additionalGids: list[Id]


class Capabilities(TypedDict, total=False):
    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    type: str
    soft: Annotated[int, range(2**64)]
    hard: Annotated[int, range(2**64)]


class ConsoleSize(TypedDict):
    height: Annotated[int, range(2**16)]
    width: Annotated[int, range(2**16)]


class Scheduler(TypedDict, total=False):
    policy: Required[str]
    nice: int
    priority: int
    flags: list[str]
    runtime: Annotated[int, range(2**64)]
    deadline: Annotated[int, range(2**64)]
    period: Annotated[int, range(2**64)]


# "class" is a word of the language.
IOPriority = TypedDict(
    "IOPriority", {"class": Required[str], "priority": Annotated[int, range(8)]}, total=False
)


class Process(TypedDict, total=False):
    terminal: bool
    consoleSize: ConsoleSize
    user: User
    args: list[str]
    env: list[Variable]
    cwd: Absolute
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    oomScoreAdj: Annotated[int, range(-1000, 1001)]
    apparmorProfile: str
    selinuxLabel: str
    scheduler: Scheduler
    ioPriority: IOPriority


class IDMapping(TypedDict):
    containerID: Id
    hostID: Id
    size: Annotated[int, range(1, 2**32)]


class Mount(TypedDict, total=False):
    destination: Required[Absolute]
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


class Root(TypedDict, total=False):
    path: Required[str]
    readonly: bool


class Namespace(TypedDict, total=False):
    type: Required[Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]]
    path: Absolute


class Device(TypedDict, total=False):
    type: Required[Literal["c", "b", "u", "p"]]
    path: Required[Absolute]
    major: Annotated[int, range(2**32)]
    minor: Annotated[int, range(2**32)]
    fileMode: Annotated[int, range(2**32)]
    uid: Id
    gid: Id


class DeviceRule(TypedDict, total=False):
    allow: Required[bool]
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
    rdma: dict[str, Any]
    unified: dict[str, str]


class SeccompArg(TypedDict, total=False):
    index: Required[int]
    value: Required[int]
    valueTwo: int
    op: Required[str]


class Syscall(TypedDict, total=False):
    names: Required[list[str]]
    action: Required[str]
    errnoRet: int
    args: list[SeccompArg]


class Seccomp(TypedDict, total=False):
    defaultAction: Required[str]
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[Syscall]


class SeccompConditions(TypedDict, total=False):
    """Of a rule in Docker's form of profiles; the specification has none."""

    arches: list[str]
    caps: list[str]
    minKernel: str


class TimeOffset(TypedDict, total=False):
    secs: int
    nanosecs: Annotated[int, range(10**9)]


class Personality(TypedDict, total=False):
    domain: Required[Literal["LINUX", "LINUX32"]]
    flags: list[str]


class Linux(TypedDict, total=False):
    namespaces: list[Namespace]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    timeOffsets: dict[str, TimeOffset]
    devices: list[Device]
    cgroupsPath: str
    resources: Resources
    sysctl: dict[str, str]
    seccomp: Seccomp
    rootfsPropagation: str
    maskedPaths: list[Absolute]
    readonlyPaths: list[Absolute]
    mountLabel: str
    intelRdt: dict[str, Any]
    personality: Personality


class Hook(TypedDict, total=False):
    path: Required[Absolute]
    args: list[str]
    env: list[Variable]
    timeout: Seconds


class Hooks(TypedDict, total=False):
    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Spec(TypedDict, total=False):
    ociVersion: Required[str]
    process: Process
    root: Required[Root]
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux
