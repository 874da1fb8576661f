"""What a process is born with: limits, priorities, personality. The host's rights are needed, or its /proc.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md#process
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Mapping
from typing import Any

from composer.runtime import linux
from composer.runtime.errors import StepError

_RLIMITS = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        (
            *("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS"),
            *("SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"),
        )
    )
}
_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_POLICY_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}


def rlimits(process: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """(kernel number, soft, hard) of each limit. Raises StepError."""
    found: dict[int, tuple[int, int, int]] = {}
    for row in process.get("rlimits") or ():
        number = _RLIMITS.get(row["type"])
        if number is None:
            raise StepError("rlimits", errno.EINVAL, row["type"], "no such limit")
        if number in found:
            raise StepError("rlimits", errno.EINVAL, row["type"], "is given twice")
        found[number] = (number, _infinite(row["soft"]), _infinite(row["hard"]))
    return list(found.values())


def _infinite(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 2**63 - 1 else value


def prepare(process: Mapping[str, Any], processes: int, pid: int = 0) -> None:
    """Of another process, or of this one for what is cloned from it to inherit; `processes` is an open /proc.

    Raises OSError, StepError.
    """
    score = process.get("oomScoreAdj")
    if score is not None:
        linux.write_file(f"{pid or 'self'}/oom_score_adj", str(score), processes)
    for number, _, hard in rlimits(process):
        _make_room(pid, number, hard)
    priority = process.get("ioPriority")
    if priority:
        class_ = _IO_CLASSES.get(priority["class"])
        if class_ is None:
            raise StepError("ioPriority", errno.EINVAL, priority["class"], "no such class")
        linux.ioprio_set(pid, class_, priority.get("priority", 0))


def _make_room(pid: int, number: int, hard: int) -> None:
    """Raise the hard limit if need be; the limits themselves come last, so that they cannot hinder us."""
    soft, now = resource.prlimit(pid, number)
    if now == resource.RLIM_INFINITY or (hard != resource.RLIM_INFINITY and hard <= now):
        return
    try:
        resource.prlimit(pid, number, (soft, hard))
    except (PermissionError, ValueError):
        name = next(name for name, known in _RLIMITS.items() if known == number)
        text = f"may not be raised to {hard} here, at most {now} (CAP_SYS_RESOURCE is missing)"
        raise StepError("rlimits", errno.EPERM, name, text) from None


def schedule(pid: int, scheduler: Mapping[str, Any] | None) -> None:
    """sched_setattr(2) for the container's process, whose own rights may not suffice."""
    if not scheduler:
        return
    policy = _POLICIES.get(scheduler["policy"])
    if policy is None:
        raise StepError("scheduler", errno.EINVAL, scheduler["policy"], "no such policy")
    flags = 0
    for name in scheduler.get("flags") or ():
        if name not in _POLICY_FLAGS:
            raise StepError("scheduler", errno.EINVAL, name, "no such flag")
        flags |= _POLICY_FLAGS[name]
    values = (scheduler.get(key, 0) for key in ("nice", "priority", "runtime", "deadline", "period"))
    linux.sched_setattr(pid, policy, flags, *values)


def set_personality(personality: Mapping[str, Any] | None) -> None:
    if not personality:
        return
    domain = _PERSONALITIES.get(personality.get("domain", "LINUX"))
    if domain is None:
        raise StepError("personality", errno.EINVAL, personality["domain"], "no such domain")
    if personality.get("flags"):
        raise StepError("personality", errno.EINVAL, "", "the specification defines no flags")
    linux.personality(domain)
