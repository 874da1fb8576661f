"""A network that containers of a test share: a stack that grows by a service with each of them."""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from composer.api.service import Service
from composer.api.stack import Stack

LIVE: weakref.WeakSet[Network] = weakref.WeakSet()
"""All there are, for the reports of failed tests."""


class Network:
    """Containers on it find each other by name and alias. `internal`: it leads nowhere else."""

    def __init__(self, *, name: str = "net", internal: bool = False) -> None:
        self.name = f"{name}-{secrets.token_hex(4)}"
        self.internal = internal
        self.services: dict[str, dict[str, Any]] = {}
        self.volumes: set[str] = set()
        """All that were ever named: they go with the network."""
        self.lock = threading.Lock()
        LIVE.add(self)

    @property
    def stack(self) -> Stack:
        """The containers that are on it by now."""
        made = {
            "name": self.name,
            "services": self.services,
            "networks": {"default": {"internal": self.internal}},
            "volumes": {name: {} for name in sorted(self.volumes)},
        }
        return Stack(yaml=doubled(made), name=self.name, all_resources=True)

    def add(self, name: str, fields: Mapping[str, Any], aliases: Sequence[str], *, timeout: float) -> Service:
        """Start one more container. Raises FailedError."""
        with self.lock:
            networks = {"default": {"aliases": list(aliases)}}
            self.services[name] = {**fields, "networks": networks}
            named = (each["source"] for each in fields["volumes"] if each["type"] == "volume")
            self.volumes |= set(filter(None, named))
            stack = self.stack
            pidfd = os.pidfd_open(os.getpid())
            try:
                stack.up(name, timeout=timeout, no_deps=True, owner=pidfd)
            finally:
                os.close(pidfd)
            return stack[name]

    def discard(self, name: str, *, force: bool = True, volumes: bool = True) -> None:
        """Stop and remove one container; with `volumes` also those without a name."""
        with self.lock:
            if name in self.services:
                self.stack.stop(name, timeout=0 if force else None)
                self.stack.remove(name, volumes=volumes)
                del self.services[name]

    def create(self) -> Self:
        """It comes into being with its first container; there is nothing to do before."""
        return self

    def remove(self, *, force: bool = True, volumes: bool = True) -> None:
        """It is gone, with all that is on it."""
        with self.lock:
            self.stack.down(volumes=volumes, timeout=0 if force else None)
            self.services.clear()

    def __enter__(self) -> Self:
        return self.create()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.remove()


def doubled(value: Any) -> Any:
    """Every `$` doubled: what a test says is no stack file, and has no variables."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: doubled(item) for key, item in value.items()}
    return [doubled(item) for item in value] if isinstance(value, list) else value
