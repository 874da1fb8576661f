"""One service of a stack, or one container of it: where it is reached, what it does, what it says."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer.api import patience
from composer.api.container import Container, container_of
from composer.api.process import ExecError, ExecResult, execute
from composer.api.select import container
from composer.errors import ComposerError, LateError, NotFoundError

if TYPE_CHECKING:
    from composer.api.stack import Stack


class Service:
    """Made by `stack["web"]`, or `stack["web:2"]` for its second container. Nothing is kept: each call looks
    at what is now. Without a number, questions are about the first container that runs, and commands for all.
    `start`, `stop`, `restart` and `copy_to` are always for all.
    """

    def __init__(self, stack: Stack, name: str, index: int | None = None) -> None:
        self.stack, self.name, self.index = stack, name, index

    # What it is.

    @property
    def container(self) -> Container:
        """The container that is meant: with its index, else the first that runs. Raises NotFoundError."""
        self.stack.refresh()
        return container_of(container(self.stack.context, self.name, self.index, running=False))

    @property
    def containers(self) -> list[Container]:
        return self.stack.containers(self.name)

    @property
    def state(self) -> str:
        return self.container.state

    @property
    def health(self) -> str:
        return self.container.health

    @property
    def address(self) -> str:
        """Its address on its first network. Raises NotFoundError when it has none."""
        found = self.container
        if not found.address:
            raise NotFoundError(f"{found.name} has no address", hint="it does not run, or is on no network")
        return found.address

    def endpoint(self, target: int, protocol: str = "tcp") -> tuple[str, int]:
        """Where this host reaches a port: where it is published, else the container's own address."""
        published = self._published(target, protocol)
        if published is None:
            return self.address, target
        host, port = published
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port

    def port(self, target: int, protocol: str = "tcp") -> int:
        """The number of the host's port where `target` is published. Raises NotFoundError."""
        published = self._published(target, protocol)
        if published is None:
            ports = self.container.ports
            known = ", ".join(sorted({f"{port['target']}/{port['protocol']}" for port in ports}))
            hint = f"published are {known}" if known else "add it to `ports:`, or use .address"
            raise NotFoundError(f"{self.name} publishes no port {target}/{protocol}", hint=hint)
        return published[1]

    def _published(self, target: int, protocol: str) -> tuple[str, int] | None:
        for port in self.container.ports:
            if port["target"] == target and port["protocol"] == protocol:
                return str(port["host_ip"]), int(str(port["published"]))
        return None

    def url(self, target: int = 80, path: str = "", scheme: str = "http") -> str:
        """`http://127.0.0.1:49153`, with `path` behind it. Raises NotFoundError."""
        host, port = self.endpoint(target)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"

    # What it does.

    def start(self, *, wait: bool = True, timeout: float | None = None) -> None:
        self.stack.start(self.name, wait=wait, timeout=timeout)

    def stop(self, *, timeout: float | None = None) -> None:
        self.stack.stop(self.name, timeout=timeout)

    def restart(self, *, wait: bool = True, timeout: float | None = None) -> None:
        self.stack.restart(self.name, wait=wait, timeout=timeout)

    def kill(self, signal: int | str = "SIGKILL") -> None:
        """Send it a signal; with SIGKILL it has ended when this returns."""
        self.stack.signal(self._meant(), signal)

    def pause(self, *, idle_after: float = 0) -> None:
        """Freeze it, processes and all; with `idle_after` as for `Stack.pause`."""
        self.stack.freeze(self._meant(), idle_after=idle_after)

    def unpause(self) -> None:
        self.stack.freeze(self._meant(), thaw=True)

    def _meant(self) -> list[Container]:
        return [self.container] if self.index else self.containers

    def scale(self, count: int) -> None:
        """Have so many containers of it, and wait until they are healthy."""
        self.stack.up(self.name, scale={self.name: count}, no_deps=True)

    def exec(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        user: str = "",
        cwd: str = "",
        privileged: bool = False,
        input: str | bytes = b"",
        timeout: float | None = None,
        check: bool = False,
    ) -> ExecResult:
        """Run a command in the container until it ends.

        `check`: raise ExecError for an exit code other than 0. After `timeout` seconds it is killed, and
        LateError raised.
        A command that cannot be started raises ComposerError with Docker's exit code, 126 or 127.
        """
        process: dict[str, Any] = {
            "env": [f"{name}={value}" for name, value in (env or {}).items()],
            "cwd": cwd,
            "user": user,
            "privileged": privileged,
        }
        name = self.container.name
        given = input.encode() if isinstance(input, str) else input
        with self.stack.supervisor() as supervisor:
            result = execute(supervisor, name, command, process, stdin=given, timeout=timeout)
        if check and not result.ok:
            raise ExecError(result)
        return result

    def wait(self, timeout: float | None = None) -> int:
        """Until the container has ended; its exit code. Raises LateError."""
        found = self.container
        if not found.running:
            return found.exit_code
        with self.stack.supervisor() as supervisor:
            supervisor.deadline = patience.until(timeout)
            try:
                return int(supervisor.call("wait", containers=[found.name])["exit"])
            except LateError:
                raise LateError(f"{found.name} did not end within {timeout} s") from None

    def wait_healthy(self, timeout: float | None = None) -> None:
        """Until it is running and healthy. Raises FailedError when it is not, or not in time."""
        self.stack.start(self.name, timeout=timeout)

    # What it says.

    def logs(self, tail: int | None = None) -> str:
        """What it printed, both streams, in the order in which it came."""
        if self.index:
            return self.stack.log_of(self.container.name, tail=tail)
        return self.stack.logs(self.name, tail=tail)

    def wait_for_log(
        self, pattern: str | re.Pattern[str], timeout: float | None = 30, *, times: int = 1
    ) -> re.Match[str]:
        """Until a line matches (re.search), or so many of them, from its first line on. The last match.

        What a container of the same name printed before it was replaced does not count.

        Raises LateError, or ComposerError when it ended without having printed such a line.
        """
        from composer.logs import Source, follow

        wanted, context = re.compile(pattern), self.stack.context
        self.stack.refresh()
        row = container(context, self.name, self.index, running=False)
        name, since = row["name"], row["created_at"]
        source = Source(str(context.stack_paths.log(name)), b"")
        deadline = patience.until(timeout)
        with self.stack.supervisor() as supervisor, select.epoll() as stops:
            supervisor.receive()  # its greeting; what comes next is the end of the container
            supervisor.send("wait", containers=[name])
            stops.register(supervisor.sock, select.EPOLLIN)
            stop = patience.STOP.get()
            if stop >= 0:
                stops.register(stop, select.EPOLLIN)
            heard = context.stack_paths.logs, lambda: [source], stops.fileno()
            chunks = follow(*heard, since_ns=since, deadline=deadline)
            for chunk in chunks:
                for line in chunk.decode(errors="replace").splitlines():
                    match = wanted.search(line)
                    times -= bool(match)
                    if match and times <= 0:
                        return match
            patience.check()
        last = self.logs(tail=1).strip() or "nothing"
        missing = f"printed no line like {wanted.pattern!r}"
        if self.container.running:
            raise LateError(f"{name} {missing} within {timeout} s; its last is: {last}")
        raise ComposerError(f"{self.container}, and {missing}; its last is: {last}")

    def copy_to(self, source: str | os.PathLike[str], path: str) -> None:
        """Copy a file or folder of this host into every container of the service."""
        self.stack.cp(os.path.abspath(source), f"{self.name}:{path}")

    def copy_from(self, path: str, target: str | os.PathLike[str]) -> None:
        self.stack.cp(f"{self.name}:{path}", os.path.abspath(target))

    def __repr__(self) -> str:
        return f"Service({self.name!r} of {self.stack.name!r})"
