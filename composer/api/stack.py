"""A stack for programs: brought up and down, looked at, its services handed out. Blocking.

The same calls as the command line's; `composer.api.aio` has the same for event loops.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from signal import SIGKILL
from types import TracebackType
from typing import Any, Literal, Self

from composer.api import copy, isolate, wish
from composer.api.client import Heard, Supervisor, settle
from composer.api.container import Container, Reached, container_of
from composer.api.context import Context
from composer.api.events import EventStream
from composer.api.service import Service
from composer.api.trials import Trials, begin_from
from composer.errors import ComposerError, UsageError
from composer.model.stack import NOTHING
from composer.record import ContainerRow, Record

SECOND = 1_000_000_000
File = str | os.PathLike[str]


class Stack(Trials):
    """A stack of files, of YAML text, or of a mapping; several are merged as by `composer -f a -f b`.

    Nothing is read before something is asked. With `with`, it is up inside, and down afterwards.

        with Stack("compose.yaml") as stack:
            print(stack["web"].url(80))
    """

    def __init__(
        self,
        *files: File,
        yaml: str | Mapping[str, Any] | None = None,
        name: str | None = None,
        directory: File | None = None,
        profiles: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        env_files: Sequence[File] = (),
        isolated: bool = False,
        internal: bool = False,
        offline: bool = False,
        all_resources: bool = False,
    ) -> None:
        """`yaml` comes after the files. Without files and `yaml`, the usual names are searched for.

        `name`: instead of what the files or their folder say. A stack of `yaml` alone that has no `name:`,
        and an isolated one, get a name of their own. `directory`: where relative paths begin. `env`:
        variables besides those of this process. `isolated`: a copy that collides with no other: fixed
        container names, host ports, subnets and names of volumes and networks are set aside, and ports are
        published on loopback, where there is a free one. `internal`: no network leads out. `offline`: no
        registry is asked. `all_resources`: also networks and volumes that no service uses.
        """
        self.directory = os.path.abspath(directory) if directory else ""
        base = self.directory or os.getcwd()
        named = [os.path.join(base, os.fspath(file)) for file in files]
        self.isolated, self.internal, self.offline = isolated, internal, offline
        self._own_name = name is None and (isolated or (yaml is not None and not files))
        self._name = name
        self._env = {**os.environ, **(env or {})}
        self._options: dict[str, Any] = {
            "file": named + (["-"] if yaml is not None else []),
            "project_directory": self.directory or None,
            "profile": list(profiles),
            "env_file": [os.path.join(base, os.fspath(file)) for file in env_files],
            "offline": offline,
            "all_resources": all_resources,
        }
        if yaml is not None:
            self._options["text"] = text_of(yaml)

    @cached_property
    def context(self) -> Context:
        """What the rooms below are told about this stack. Raises StackFileError."""
        context = Context({**self._options, "project_name": self._name}, environment=self._env)
        if self._own_name and (self.isolated or not context.project.stack_data.get("name_given")):
            base = context.project.name if self._options["file"] != ["-"] else "stack"
            self._name = f"{base}-{secrets.token_hex(4)}"
            context = Context({**self._options, "project_name": self._name}, environment=self._env)
        if self.isolated:
            context.project.change(isolate.isolated)
        if self.internal:
            context.project.change(isolate.internal)
        return context

    # What it is.

    @property
    def name(self) -> str:
        return self.context.stack_name

    @property
    def config(self) -> dict[str, Any]:
        """What `composer config` prints. Raises StackFileError."""
        return self.context.project.loaded.config

    @property
    def services(self) -> list[str]:
        """Names of the active services."""
        return list(self.context.project.services)

    def __getitem__(self, service: str) -> Service:
        """A handle for `web`, or for its second container with `web:2`. Raises NotFoundError."""
        name, _, index = service.partition(":")
        self.context.check_services([name])
        if index and not index.isdecimal():
            raise UsageError(f"{service!r} names no container", hint="say `web`, or `web:2`")
        return Service(self, name, int(index) if index else None)

    def __contains__(self, service: object) -> bool:
        return service in self.context.project.services

    def containers(self, *services: str) -> list[Container]:
        """All that there are, whether they run or not, by service and number. One-offs are left out."""
        rows = sorted(self.rows(services), key=lambda row: (row["service"], row["number"]))
        return [container_of(row) for row in rows]

    def rows(self, services: Sequence[str] = ()) -> list[ContainerRow]:
        """Containers of these services, or all, as the record has them now."""
        self.context.check_services(services)
        rows = self.refresh()["containers"]
        return [row for row in rows if not row["oneoff"] and (not services or row["service"] in services)]

    def refresh(self) -> Record:
        """The record, with everything that the supervisor knows by now."""
        settle(self.context.stack_paths)
        return self.context.again()

    # What is wanted.

    def up(
        self,
        *services: str,
        wait: bool = True,
        timeout: float | None = None,
        scale: Mapping[str, int] | None = None,
        build: bool = False,
        pull: Literal["", "always", "missing", "never"] = "",
        no_deps: bool = False,
        force_recreate: bool = False,
        remove_orphans: bool = False,
        from_snapshot: str = "",
        owner: int | None = None,
        heard: Heard | None = None,
    ) -> Self:
        """Create and start what is missing or changed; of these services, or of all.

        `wait`: until all is running and healthy, `timeout` seconds at most. `from_snapshot`: its data, or
        with `stack/name` that of another stack of the same files, is there before anything starts. `owner`: a
        pidfd; when that process ends, however it ends, the stack goes down with its volumes. `heard` is told
        of progress.

        Raises FailedError: what could not be done, and why; StackFileError; ConflictError.
        """
        context = self.context
        context.check_identity()
        context.check_services([*services, *(scale or {})])
        options = {
            "goal": "up",
            "services": list(services),
            "scale": dict(scale or {}),
            "build": build,
            "pull": pull,
            "no_deps": no_deps,
            "force_recreate": force_recreate,
            "remove_orphans": remove_orphans,
        }
        if from_snapshot:
            options, _ = begin_from(context, options, from_snapshot, heard)
        fds: dict[str, int] = {} if owner is None else {"owner": owner}
        wish.check(wish.apply(context, options, heard, fds=fds, wait=wait, wait_timeout=timeout))
        return self

    def down(
        self,
        *services: str,
        volumes: bool = False,
        timeout: float | None = None,
        remove_orphans: bool = True,
        images: Literal["", "local", "all"] = "",
    ) -> None:
        """Stop and remove containers and networks. `timeout`: patience after the stop signal, in seconds.

        A stack of which nothing is here is down already. Raises FailedError.
        """
        context = self.context
        if not context.exists() and not (volumes and wish.keeps_volumes(context)):
            wish.leave(context)
            return
        told = {"volumes": volumes, "remove_orphans": remove_orphans, "images": images}
        self._ask("down", services, timeout, told)
        if not services:
            wish.leave(context)

    def remove(self, *services: str, volumes: bool = False) -> None:
        """Remove containers that have ended; with `volumes` also their anonymous volumes."""
        self._ask("rm", services, None, {"volumes": volumes})

    def start(self, *services: str, wait: bool = True, timeout: float | None = None) -> None:
        """Start stopped containers, after what they depend on; `wait` and `timeout` as for `up`."""
        self._ask("start", services, wait=wait, wait_timeout=timeout)

    def stop(self, *services: str, timeout: float | None = None) -> None:
        """Stop containers; `timeout` seconds after their stop signal they are killed."""
        self._ask("stop", services, timeout)

    def restart(self, *services: str, timeout: float | None = None, wait: bool = True) -> None:
        self._ask("restart", services, timeout, wait=wait)

    def _ask(
        self,
        goal: str,
        services: Sequence[str],
        patience: float | None = None,
        told: Mapping[str, Any] = NOTHING,
        **more: Any,
    ) -> None:
        """A wish; `patience` in seconds, `told` are further options, `more` further fields of the request."""
        self.context.check_services(services)
        timeout = None if patience is None else int(patience * SECOND)
        options = {"goal": goal, "services": list(services), "timeout": timeout, **told}
        wish.check(wish.apply(self.context, options, start=goal != "stop", **more))

    def kill(self, *services: str, signal: int | str = "SIGKILL") -> None:
        """Send a signal to what runs."""
        self.signal(self.containers(*services), signal)

    def pause(self, *services: str, idle_after: float = 0) -> None:
        """Freeze what runs, processes and all: at once, or with `idle_after` once nobody has used it for so
        many seconds, and until somebody does.
        """
        self.freeze(self.containers(*services), idle_after=idle_after)

    def unpause(self, *services: str) -> None:
        """Let what is frozen go on, and rest no more."""
        self.freeze(self.containers(*services), thaw=True)

    def signal(self, containers: Sequence[Container], signal: int | str) -> None:
        """Send a signal to those that run; with SIGKILL they have ended when this returns."""
        from composer.api.signals import number

        names, wanted = [one.name for one in containers if one.running], number(str(signal))
        if names:
            self.call("signal", containers=names, signo=wanted)
        if names and wanted == SIGKILL:
            self.call("wait", containers=names, all=True)

    def freeze(self, containers: Sequence[Container], *, thaw: bool = False, idle_after: float = 0) -> None:
        """Freeze those that run, or let those that are frozen go on. Raises UsageError."""
        if idle_after < 0:
            raise UsageError(f"idle_after: {idle_after} seconds are no time")
        names = [one.name for one in containers if one.running]
        if names:
            self.call("pause", containers=names, thaw=thaw, after=int(idle_after * SECOND))

    # What comes out of it.

    def logs(self, *services: str, tail: int | None = None) -> str:
        """What containers printed, merged by time; with the container's name if there are several."""
        from composer.logs import Source, read

        rows = self.rows(services)
        place = self.context.stack_paths.log
        label = "{}  | " if len(rows) > 1 else ""
        sources = [Source(str(place(row["name"])), label.format(row["name"]).encode()) for row in rows]
        return b"".join(read(sources, tail=tail)).decode(errors="replace")

    def log_of(self, container: str, *, tail: int | None = None) -> str:
        """What one container printed."""
        from composer.logs import Source, read

        source = Source(str(self.context.stack_paths.log(container)))
        return b"".join(read([source], tail=tail)).decode(errors="replace")

    def reached(self) -> Reached:
        """What containers reached for outside of the stack: names, and addresses with ports.

        Raises ComposerError when nothing runs: the supervisor knows.
        """
        told = self.call("reached")
        return Reached(*(tuple(map(tuple, told[kind])) for kind in ("names", "addresses")))

    def events(self, *services: str) -> EventStream:
        """What happens from now on; to be closed, as by `with`. Raises ComposerError when nothing runs."""
        self.context.check_services(services)
        return EventStream(self.supervisor(), services)

    def cp(self, source: str, target: str, *, archive: bool = False) -> None:
        """Copy as `composer cp` does: one of both is `SERVICE:PATH`. Raises NotFoundError, ComposerError."""
        (service, origin), (into, path) = copy.ends(source, target)
        self.refresh()
        copier = copy.copier(into_container=bool(into), archive=archive, skipped=lambda name: None)
        for row in copy.chosen(self.context, into or service):
            first, second = (origin, path) if into else (path, origin)
            with copy.here(first) as here, copy.inside(self.context, row, second) as inside:
                copy.copy(copier, *((here, inside) if into else (inside, here)))
            if service:
                return

    # The supervisor.

    def call(self, verb: str, **fields: Any) -> dict[str, Any]:
        """One request to the stack's supervisor. Raises ComposerError when nothing of the stack runs."""
        with self.supervisor() as supervisor:
            return supervisor.call(verb, **fields)

    def supervisor(self) -> Supervisor:
        """To be used by `with`. Raises ComposerError when nothing of the stack runs."""
        supervisor = Supervisor.connect(self.context.stack_paths)
        if supervisor is None:
            raise ComposerError(f"nothing of stack {self.name} runs", hint="bring it up first")
        return supervisor

    def __enter__(self) -> Self:
        try:
            return self.up()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """What has a name that nobody can know is not needed any more: it is killed, and its volumes go."""
        throw_away = self._own_name and self._name is not None
        self.down(volumes=throw_away, timeout=0 if throw_away else None)

    def __repr__(self) -> str:
        return f"Stack({self._options['file']!r}, name={self._name!r})"


def text_of(yaml: str | Mapping[str, Any]) -> bytes:
    """YAML text as bytes; a mapping is written as JSON, which is YAML. Text may be indented as a whole."""
    if isinstance(yaml, str):
        import textwrap

        return textwrap.dedent(yaml).encode()
    import json

    return json.dumps(yaml, default=os.fspath).encode()
