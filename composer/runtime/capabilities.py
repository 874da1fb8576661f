"""Capabilities: names, Docker's default set, cap_add and cap_drop, and giving a process its five sets.

capabilities(7), include/uapi/linux/capability.h, Linux 6.18. Standard library only.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence

from composer.runtime import linux

# By number, from 0.
NAMES: tuple[str, ...] = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL"),
    *("CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE"),
    *("CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER"),
    *("CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT"),
    *("CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME"),
    *("CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL"),
    *("CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM"),
    *("CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)
_NUMBERS = {name: number for number, name in enumerate(NAMES)}

# What Docker gives a container that asks for nothing.
DEFAULT: tuple[str, ...] = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"),
    *("CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD"),
    *("CAP_AUDIT_WRITE", "CAP_SETFCAP"),
)

_AMBIENT_RAISE, _AMBIENT_CLEAR = 2, 4


def resolve(add: Sequence[str], drop: Sequence[str], privileged: bool) -> list[str]:
    """The capabilities of a service with `cap_add` and `cap_drop`, in the order of numbers.

    Names may lack `CAP_` and be in any case; ALL, or CAP_ALL, is everything. As Docker has it: adding ALL
    gives all but what is dropped by name, dropping ALL leaves what is added by name, and of a name in both
    the adding counts otherwise. Raises ValueError for unknown names.
    """
    added, dropped = [{_name(word) for word in words} for words in (add, drop)]
    if privileged:
        return list(NAMES)
    if "ALL" in added:
        chosen = set(NAMES) - dropped
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = set(DEFAULT) - dropped | added
    return [name for name in NAMES if name in chosen]


def _name(word: str) -> str:
    name = word.upper()
    if name in ("ALL", "CAP_ALL"):
        return "ALL"
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in _NUMBERS:
        raise ValueError(f"there is no capability {word}")
    return name


def apply(capabilities: Mapping[str, Sequence[str]]) -> None:
    """Gives the calling process the five sets of OCI `process.capabilities`. Raises OSError.

    Comes after the change of user, which would empty the ambient set, and with CAP_SETPCAP effective, which
    shrinking the bounding set takes. What the process does not have itself cannot be given and is left out,
    as the specification demands; `missing` says what that is.
    """
    _, own, _ = linux.capget()
    bounding = bits(capabilities.get("bounding") or ())
    for number in range(len(NAMES)):
        if not bounding >> number & 1:
            _drop(number)
    sets = {
        name: bits(capabilities.get(name) or ()) & own for name in ("effective", "permitted", "inheritable")
    }
    permitted = sets["permitted"]
    linux.capset(sets["effective"] & permitted, permitted, sets["inheritable"])
    linux.prctl(linux.PR_CAP_AMBIENT, _AMBIENT_CLEAR)
    # The kernel wants an ambient capability in two other sets.
    ambient = bits(capabilities.get("ambient") or ()) & permitted & sets["inheritable"]
    for number in range(len(NAMES)):
        if ambient >> number & 1:
            linux.prctl(linux.PR_CAP_AMBIENT, _AMBIENT_RAISE, number)


def missing(capabilities: Mapping[str, Sequence[str]]) -> list[str]:
    """The names that `apply` would leave out: unknown here, or not the caller's to give. For a warning."""
    _, own, _ = linux.capget()
    names = {name for part in capabilities.values() for name in part}
    return sorted(name for name in names if not bits([name]) & own)


def bits(names: Iterable[str]) -> int:
    """The set as the kernel writes it, without names it could not know."""
    return sum({1 << _NUMBERS[name] for name in names if name in _NUMBERS})


def _drop(number: int) -> None:
    """From the bounding set, where it may be missing already. An older kernel does not know all numbers."""
    try:
        linux.prctl(linux.PR_CAPBSET_DROP, number)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
