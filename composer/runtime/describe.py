"""What this runtime is and can: `spec`, `features`, `--version`.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/features.md
"""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from composer.runtime import capabilities, mounts, namespaces, seccomp
from composer.runtime.errors import StepError
from composer.runtime.options import OCI_VERSION

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

_SAFE = ["nosuid", "noexec", "nodev"]
MOUNTS: tuple[dict[str, Any], ...] = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": [*_SAFE, "mode=1777", "size=65536k"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": _SAFE},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_SAFE, "ro"]},
    {
        "destination": "/sys/fs/cgroup",
        "type": "cgroup",
        "source": "cgroup",
        "options": [*_SAFE, "relatime", "ro"],
    },
)
MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"),
    "/sys/devices/virtual/powercap",
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default_spec() -> dict[str, Any]:
    """A specification to begin with: a shell on a terminal, shut in well."""
    allowed = list(capabilities.DEFAULT)
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), allowed),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "composer",
        "mounts": list(MOUNTS),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
        },
    }


def spec(args: Namespace) -> int:
    path = f"{args.bundle}/config.json"
    try:
        with open(path, "x") as file:
            file.write(json.dumps(default_spec(), indent=2) + "\n")
    except FileExistsError:
        raise StepError("spec", path=path, text="exists already") from None
    return 0


def features(_: Namespace) -> int:
    print(
        json.dumps(
            {
                "ociVersionMin": "1.0.0",
                "ociVersionMax": OCI_VERSION,
                "hooks": list(HOOKS),
                "mountOptions": list(mounts.WORDS),
                "linux": {
                    "namespaces": sorted(namespaces.FLAGS),
                    "capabilities": list(capabilities.NAMES),
                    "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": True},
                    "seccomp": {"enabled": True, **seccomp.supported()},
                    "apparmor": {"enabled": True},
                    "selinux": {"enabled": True},
                    "intelRdt": {"enabled": False},
                    "mountExtensions": {"idmap": {"enabled": True}},
                },
            },
            indent=2,
        )
    )
    return 0
