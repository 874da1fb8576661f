"""User namespaces: who gets one, and what speaks against it. One table, so that nobody is surprised.

In a user namespace of its own a container's root is an unprivileged id of the host. What a service asks of
the machine itself would then be refused, and what it shares with the host would be seen under other ids: such
a service, and those that share namespaces with it, run as with Docker.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

from composer.bundle.inputs import IDS, Account, Binding
from composer.bundle.namespaces import SHARED, modes
from composer.errors import UsageError
from composer.model.stack import Service, Stack
from composer.runtime.capabilities import DEFAULT, resolve

MODES = ("", "host", "private")
WORKS_INSIDE = frozenset((*DEFAULT, "CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_SYS_PTRACE", "CAP_IPC_OWNER"))
"""Capabilities that mean the same in a user namespace, or that every container has (CAP_MKNOD)."""
SHARED_PLACES = ("/dev", "/proc", "/run", "/sys", "/tmp/.X11-unix", "/var/run")
"""Where sockets and files of the host's own services are, which look at who asks."""


def _machine_capabilities(service: Service) -> list[str]:
    chosen = resolve(service.cap_add, service.cap_drop, service.privileged)
    return [name for name in chosen if name not in WORKS_INSIDE]


OBJECTIONS: tuple[tuple[Callable[[Service], object], str], ...] = (
    (lambda service: service.userns_mode == "host", "userns_mode is host"),
    (lambda service: service.privileged, "it is privileged"),
    (lambda service: service.runtime, "another runtime makes it"),
    (lambda service: service.network_mode == "host", "it is on the host's network"),
    (lambda service: service.pid == "host", "it sees the host's processes"),
    (lambda service: service.ipc == "host", "it shares memory with the host"),
    (_machine_capabilities, "it has capabilities over the machine"),
    (
        lambda service: any(not name.startswith("net.") for name in service.sysctls),
        "kernels before 6.9 let only the host's root set its sysctls",
    ),
)
"""What a service asks for that a user namespace would break."""


def objection(stack: Stack, service: Service) -> str:
    """Why a service runs without, by what the stack says; "" for nothing. Raises UsageError."""
    if service.userns_mode not in MODES:
        raise UsageError(
            f"service {service.name}: userns_mode {service.userns_mode!r} is not known",
            hint="host and private are",
        )
    for one in together(stack, service):
        for applies, text in OBJECTIONS:
            if applies(one):
                return text if one.name == service.name else f"it shares namespaces with {one.name}: {text}"
    return ""


def together(stack: Stack, service: Service) -> list[Service]:
    """A service and all those of the stack that share namespaces with it, directly or not."""
    found = {service.name: service}
    links = [(name, other) for name, one in stack.services.items() for other in _partners(one)]
    links += [(service.name, other) for other in _partners(service)]
    grown = True
    while grown:
        new = {b for a, b in links if a in found} | {a for a, b in links if b in found}
        new = {name for name in new if name in stack.services and name not in found}
        found |= {name: stack.services[name] for name in sorted(new)}
        grown = bool(new)
    return list(found.values())


def _partners(service: Service) -> list[str]:
    texts = modes(service).values()
    return [text.partition(":")[2] for text in texts if text.startswith(SHARED[0])]


def misfit(account: Account, bindings: Sequence[Binding]) -> str:
    """Why one container of it runs without, by what was found on this host; "" for nothing."""
    owners = [binding.owner[1] for binding in bindings if binding.owner]
    if max(account.uid, account.gid, *account.groups, *(id for pair in owners for id in pair)) >= IDS:
        return f"its user has ids above {IDS - 1}"
    for binding in bindings:
        text = binding.misfit
        if text:
            return f"{binding.path}, mounted at {binding.mount.target}, {text}"
    return ""


def of_source(path: str, status: os.stat_result, *, foreign: bool = False) -> str:
    """What about the source of a bind mount would look different in a user namespace; "" for nothing.

    With `foreign` its owner is shown as somebody else anyway.
    """
    if stat.S_ISSOCK(status.st_mode):
        return "is a socket, whose other end sees who asks"
    if path == "/" or path in SHARED_PLACES or path.startswith(tuple(f"{x}/" for x in SHARED_PLACES)):
        return "belongs to the host's own services"
    if not foreign and max(status.st_uid, status.st_gid) >= IDS:
        return f"has an owner with an id above {IDS - 1}"
    return ""
