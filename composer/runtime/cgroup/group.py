"""One control group: its directories in every hierarchy, and what can be done with them."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from composer.runtime import bpf
from composer.runtime.cgroup import devices, events, resources, tree
from composer.runtime.cgroup.files import CgroupError, failed, keyed, read, write
from composer.runtime.cgroup.hierarchies import Layout
from composer.runtime.cgroup.stats import Stats, collect

# What v2 counts only where it is switched on. The rest is switched on when a limit asks for it.
_COUNTED = frozenset({"cpu", "io", "memory", "pids"})


class Group:
    """A group by its path; made by `cgroup.open`. Holds no descriptor and no state of its own.

    `path` is the OCI cgroupsPath, `directories` what it stands for (each once), `unified` the v2 one among
    them: open it and hand it to clone3(2) as CLONE_INTO_CGROUP to start a process inside at no cost.
    """

    __slots__ = ("_v1", "directories", "layout", "path", "unified")

    def __init__(self, path: str, layout: Layout, v1: dict[str, str], unified: str | None) -> None:
        self.path = path
        self.unified = unified
        self.directories = tuple(dict.fromkeys([*v1.values(), *([unified] if unified else [])]))
        self.layout = layout
        self._v1 = v1

    # --- making and limiting

    def create(self, limits: Mapping[str, Any]) -> None:
        """Makes the group and limits it by OCI `linux.resources`. Raises CgroupError; `remove` clears what
        was made.

        An empty group that an earlier, interrupted attempt left behind is taken over.
        """
        writes = self._writes(limits)
        rules = devices.parse(limits.get("devices") or [])
        for directory in self.directories:
            if not tree.make(directory) and read(f"{directory}/cgroup.procs"):
                raise CgroupError("the group is in use: it already holds processes", path=directory)
        if "cpuset" in self._v1:
            tree.inherit_cpuset(self._v1["cpuset"])
        if self.unified:
            needed = {item.controller for item in writes if item.version == "v2"} - {"cgroup"}
            self._enable(self.unified, frozenset(needed))
        self._apply(writes)
        self._restrict_devices(rules)

    def update(self, limits: Mapping[str, Any]) -> None:
        """New limits for a group that may be running; what is not mentioned stays. Raises CgroupError."""
        writes = self._writes(self._completed(limits))
        if (limits.get("memory") or {}).get("checkBeforeUpdate"):
            self._check_memory(limits["memory"].get("limit") or 0)
        if self.unified:
            needed = {item.controller for item in writes if item.version == "v2"} - {"cgroup"}
            self._enable(self.unified, frozenset(needed))
        self._apply(writes)
        self._restrict_devices(devices.parse(limits.get("devices") or []))

    def _writes(self, limits: Mapping[str, Any]) -> list[resources.Write]:
        v2 = self.layout.v2 if self.layout.unified else None
        return resources.writes(limits, frozenset(self.layout.mounts), v2)

    def _completed(self, limits: Mapping[str, Any]) -> Mapping[str, Any]:
        """On v2 the quota stands in one file with the period: a new period alone must not lift it."""
        cpu = limits.get("cpu") or {}
        if "cpu" in self._v1 or not cpu.get("period") or cpu.get("quota"):
            return limits
        quota = read(f"{self.unified}/cpu.max").split()[0]
        return {**limits, "cpu": {**cpu, "quota": -1 if quota == "max" else int(quota)}}

    def _check_memory(self, limit: int) -> None:
        usage = self.stats()["memory"]["usage"]
        if 0 < limit < usage:
            raise CgroupError(f"{limit} is below what is in use ({usage})", field="memory.limit")

    def _apply(self, writes: list[resources.Write]) -> None:
        """Some files bound each other (memory and memory+swap, quota and burst), and which must go first
        depends on what they hold: a write the kernel refuses is tried once more after all others.
        """
        refused = [item for item in writes if not self._write(item, last=False)]
        for item in refused:
            self._write(item, last=True)

    def _write(self, item: resources.Write, *, last: bool) -> bool:
        directory = self._v1[item.controller] if item.version == "v1" else self.unified
        for place, (file, text) in enumerate(item.choices):
            if not file:
                return True
            path = f"{directory}/{file}"
            try:
                write(path, text)
                return True
            except OSError as error:
                if error.errno == errno.ENOENT and place + 1 < len(item.choices):
                    continue
                if error.errno in (errno.EINVAL, errno.EBUSY) and not last:
                    return False
                raise failed(f"writing {text!r}", error, path, item.field) from None
        return True

    def _restrict_devices(self, rules: list[devices.Rule]) -> None:
        if not rules:
            return
        if "devices" in self._v1:
            for file, pairs in groupby(devices.lines(rules), key=itemgetter(0)):
                _write_lines(f"{self._v1['devices']}/{file}", dict.fromkeys(line for _, line in pairs))
        elif self.unified:
            try:
                _attach(self.unified, devices.program(rules))
            except OSError as error:
                raise failed("attaching the device program", error, self.unified, "devices") from None
        else:
            raise CgroupError("there is no devices controller here", field="devices")

    def _enable(self, directory: str, needed: frozenset[str]) -> None:
        """Makes v2 controllers available in `directory` by switching them on in all groups above it."""
        wanted = (needed | _COUNTED) & self.layout.v2
        missing = wanted - _words(f"{directory}/cgroup.controllers")
        if not missing or not self.layout.unified:
            return
        parent = posixpath.dirname(directory)
        if parent != self.layout.unified:
            self._enable(parent, needed)
        for controller in sorted(missing):
            path = f"{parent}/cgroup.subtree_control"
            try:
                write(path, f"+{controller}")
            except OSError as error:
                # Without a limit that asks for it, a missing controller only means fewer figures.
                if controller in needed:
                    raise failed(f"switching the {controller} controller on", error, path) from None

    # --- processes

    def join(self, pid: int) -> None:
        """Moves a process, with all its threads, into the group in every hierarchy. Raises CgroupError.

        After a pause of some 50 ms the first move waits for an RCU grace period (6 ms and more): `enter`
        does not.
        """
        for directory in self.directories:
            tree.move(f"{directory}/cgroup.procs", pid)

    def enter(self, *, cloned: bool) -> None:
        """Moves the calling process itself, which must have one thread only, in every hierarchy.

        A thread that moves itself through v1's `tasks` needs no global lock, unlike any other kind of move.
        v2 has no such way, but clone3(2) starts a process in the group: then say `cloned`. Raises
        CgroupError.
        """
        for path in self.doors(cloned=cloned):
            tree.move(path, 0)

    def doors(self, *, cloned: bool) -> list[str]:
        """The files by which a process comes in that writes "0" to each of them, as `enter` does."""
        v1 = [f"{directory}/tasks" for directory in self.directories if directory != self.unified]
        return v1 if cloned or not self.unified else [*v1, f"{self.unified}/cgroup.procs"]

    def pids(self) -> list[int]:
        """All processes inside, in groups below as well. Empty when there is no such group."""
        directory = self.unified or self._v1.get("freezer") or self.directories[0]
        return tree.inside(directory)

    def exists(self) -> bool:
        return any(os.path.isdir(directory) for directory in self.directories)

    # --- freezing and ending

    def freeze(self) -> None:
        """Stops everything inside and waits until it stands. Raises CgroupError, thawed again, if it does
        not.
        """
        try:
            self._freeze(True)
        except CgroupError:
            self._freeze(False)
            raise

    def thaw(self) -> None:
        self._freeze(False)

    @property
    def frozen(self) -> bool:
        if self.unified:
            return keyed(read(f"{self.unified}/cgroup.events")).get("frozen") == 1
        return "freezer" in self._v1 and read(f"{self._v1['freezer']}/freezer.state").strip() == "FROZEN"

    def _freeze(self, on: bool) -> None:
        if self.unified:
            path, text = f"{self.unified}/cgroup.freeze", str(int(on))
        elif "freezer" in self._v1:
            path, text = f"{self._v1['freezer']}/freezer.state", "FROZEN" if on else "THAWED"
        else:
            raise CgroupError("there is no freezer in this layout", hint="mount the v1 freezer or cgroup v2")
        try:
            write(path, text)
        except OSError as error:
            raise failed("freezing" if on else "thawing", error, path) from None
        if self.unified:
            events.reached(self.unified, "frozen", int(on))
        else:
            events.settled(path, text)

    def kill(self) -> None:
        """Kills everything inside and waits until it is gone. A missing group is empty already."""
        # An interrupted attempt to make or remove the group may have left only some of its directories.
        unified = self.unified if self.unified and os.path.isdir(self.unified) else None
        if unified:
            try:
                write(f"{unified}/cgroup.kill", "1")
            except FileNotFoundError:  # Before Linux 5.14.
                self._kill_frozen()
        elif not self.unified and os.path.isdir(self._v1.get("freezer", "")):
            self._kill_frozen()
        # Ends of processes are told at once, those of groups only every 10 ms. And whoever may write to v1
        # hierarchies can have left the group in one of them only.
        for directory in reversed(self.directories):
            tree.end(directory)
        if unified:
            events.reached(unified, "populated", 0)

    def _kill_frozen(self) -> None:
        """What stands still cannot fork away from its killer."""
        self.freeze()
        for pid in self.pids():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self.thaw()

    def remove(self) -> None:
        """Removes the group and those below it. Raises CgroupError while processes that do not end are
        inside.
        """
        for directory in self.directories:
            for group in reversed(list(tree.walk(directory))):
                tree.remove(group, self.unified)

    # --- figures

    def stats(self) -> Stats:
        """The counters; units in `stats`. Raises CgroupError when the group is gone."""
        try:
            offered = _words(f"{self.unified}/cgroup.controllers") if self.layout.v2 else frozenset[str]()
            return collect(self._v1, self.unified, offered)
        except OSError as error:
            raise failed("reading", error, error.filename or self.path) from None

    def oom_kills(self) -> int:
        """How many processes the kernel has killed here for want of memory; 0 where nobody counts."""
        for path in self._oom_files():
            try:
                return keyed(read(path)).get("oom_kill", 0)
            except FileNotFoundError:
                pass
        return 0

    def oom_event(self) -> int | None:
        """A descriptor that becomes readable when memory ran out; None where nobody counts. The caller
        closes it.

        It may also wake for other memory events, and before the victim is counted: look at `oom_kills`
        then, and again when a process has ended. v1 also wakes it when the group is removed.
        """
        for path in self._oom_files():
            try:
                return events.shortage(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise failed("watching", error, path) from None
        return None

    def _oom_files(self) -> Iterator[str]:
        if "memory" in self._v1:
            yield f"{self._v1['memory']}/memory.oom_control"
        elif self.unified:
            yield f"{self.unified}/memory.events"


def _write_lines(path: str, lines: Iterable[str]) -> None:
    """Each line is a command of its own."""
    line = ""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for line in lines:
                os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise failed(f"writing {line!r}", error, path, "devices") from None


def _attach(directory: str, code: bytes) -> None:
    """Puts a device program in place of those that are there: first the new one, so there is no moment
    without.
    """
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        before = bpf.device_programs(group)
        program = bpf.load_device_program(code)
        try:
            bpf.attach_device_program(group, program)
        finally:
            os.close(program)
        for identity in before:
            bpf.detach_device_program(group, identity)
    finally:
        os.close(group)


def _words(path: str) -> frozenset[str]:
    return frozenset(read(path).split())
