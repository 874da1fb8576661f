"""User namespaces as the supervisor hands them out: whether this host can, which ids, and to whom.

Files keep the ids on disk that they have with Docker, since mounts translate; so a range of ids has to be a
stack's own only for as long as it runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from composer.bundle import userns
from composer.bundle.inputs import IDS, Account, Binding
from composer.disk import boot_id, locked, read_json, write_json
from composer.errors import ComposerError, UsageError
from composer.images.image import Image
from composer.model.stack import Service, Stack
from composer.paths import Paths
from composer.runtime import idmaps
from composer.runtime.namespaces import new_userns, root_of

DEFAULT = "private"
SWITCH = "COMPOSER_USERNS"
"""The variable that says `host` or `private` for services that do not say `userns_mode`."""
FIRST, RANGES = 0x80000000, 0x7FFE
"""Above the ids of people, systemd and subuid(5), which never are on disk either way."""
FACTS = "userns.json"
"""What of this is known until the machine or the kernel changes: the obstacle, and which stacks were told."""
NO_IDMAP = "is on a file system that cannot be shown under other ids"


class Chosen(NamedTuple):
    """`first` is the host's id of root in there, 0 without a user namespace; `why` there is none, and whether
    that is to be `told`; `join` the path of another container's, to share it."""

    first: int = 0
    join: str = ""
    why: str = ""
    told: bool = False


class Userns:
    """Made before there are threads: the kernel is asked by forking."""

    def __init__(self, paths: Paths, stack: str) -> None:
        self.paths, self.stack = paths, stack
        self.default = os.environ.get(SWITCH) or DEFAULT
        self.obstacle, asked = obstacle(paths)
        self.news = (
            f"containers run without user namespaces: {self.obstacle}" if asked and self.obstacle else ""
        )
        """What somebody should hear of once."""
        self._sample = -1
        self._known: dict[int, bool] = {}
        if not self.obstacle:
            rows = [{"containerID": 0, "hostID": FIRST, "size": IDS}]
            self._sample = new_userns(rows, rows)

    def choose(
        self,
        stack: Stack,
        service: Service,
        image: Image,
        account: Account,
        bindings: Sequence[Binding],
        partners: Iterable[int],
    ) -> Chosen:
        """What one container gets. `partners`: the processes whose namespaces it joins. Raises UsageError."""
        chosen = self._choose(stack, service, image, account, bindings, set(partners))
        if chosen.why and service.userns_mode == "private":
            raise UsageError(f"service {service.name}: userns_mode private cannot be: {chosen.why}")
        return chosen

    def _choose(
        self,
        stack: Stack,
        service: Service,
        image: Image,
        account: Account,
        bindings: Sequence[Binding],
        partners: set[int],
    ) -> Chosen:
        why = userns.objection(stack, service)
        if self.default not in ("host", "private"):
            raise UsageError(f"{SWITCH} is {self.default!r}", hint="host and private are known")
        if not why and not service.userns_mode and self.default == "host":
            why = f"{SWITCH} is host"
        why = why or self.obstacle or userns.misfit(account, bindings) or self._image(image)
        if why:
            return Chosen(why=why, told=why.endswith(NO_IDMAP))
        theirs = {(os.readlink(f"/proc/{pid}/ns/user"), root_of(pid)) for pid in partners}
        if not theirs:
            return Chosen(lease(self.paths, self.stack))
        (_, first), *others = theirs
        if others or not first:
            return Chosen(why="whose namespaces it shares has none")
        return Chosen(first, f"/proc/{min(partners)}/ns/user")

    def first_time(self) -> bool:
        """Whether nobody was told yet, in this boot, that data of this stack stands in the way."""
        file = self.paths.run / FACTS
        with locked(self.paths.run / "ids.lock"):
            facts = read_json(file) or {}
            told = facts.get("told") or []
            if self.stack not in told:
                write_json(file, {**facts, "told": [*told, self.stack]}, durable=False)
            return self.stack not in told

    def misfit(self, binding: Binding) -> str:
        """What about the source of a mount keeps it from being shown in a user namespace; "" for nothing."""
        if self.obstacle or binding.mount.type == "tmpfs":
            return ""
        told = ""
        if binding.mount.type == "bind":
            told = userns.of_source(binding.path, os.stat(binding.path), foreign=binding.owner is not None)
        recursive = binding.mount.recursive != "disabled"
        return told or ("" if idmaps.shown(self._sample, binding.path, recursive=recursive) else NO_IDMAP)

    def _image(self, image: Image) -> str:
        """Layers are looked at once per file system."""
        for overlay in image.root:
            for lower in overlay.lowers:
                device = os.stat(lower).st_dev
                if device not in self._known:
                    self._known[device] = idmaps.shown(self._sample, lower, recursive=False)
                if not self._known[device]:
                    return f"{lower}, of its image, {NO_IDMAP}"
        return ""


def obstacle(paths: Paths) -> tuple[str, bool]:
    """Why this host has none for containers ("" if it has), and whether that was asked just now."""
    if os.geteuid() != 0:
        return "composer does not run as root", False
    file = paths.run / FACTS
    facts = [boot_id(), os.uname().release, str(paths.state)]
    known = read_json(file)
    if known is not None and known.get("of") == facts:
        return str(known["obstacle"]), False
    paths.state.mkdir(parents=True, exist_ok=True)
    found = idmaps.obstacle(str(paths.state), FIRST, IDS)
    write_json(file, {"of": facts, "obstacle": found}, durable=False)
    return found, True


def lease(paths: Paths, stack: str) -> int:
    """The first id of a running stack; the same as long as it runs. Raises ComposerError."""
    file = paths.run / "ids.json"
    with locked(paths.run / "ids.lock"):
        table: dict[str, int] = read_json(file) or {}
        if stack not in table:
            table = {name: number for name, number in table.items() if paths.stack(name).run.exists()}
            taken = set(table.values())
            free = next((number for number in range(RANGES) if number not in taken), None)
            if free is None:
                raise ComposerError(
                    f"{RANGES} stacks run already, and no ids are left", hint=f"{SWITCH}=host"
                )
            table[stack] = free
            write_json(file, table, durable=False)
    return FIRST + table[stack] * IDS
