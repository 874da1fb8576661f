"""Single containers for tests, with the names that users of testcontainers-python know.

Containers without a network of their own share one stack of this process: each is a service of it, so only
the first one pays for a supervisor. All of it is gone when the process ends, in whatever way.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from composer.api.logs import streams
from composer.api.service import Service
from composer.errors import ComposerError, UsageError
from composer.testing.network import Network

if TYPE_CHECKING:
    from composer.testing.waiting import WaitStrategy


@functools.cache
def home(pid: int) -> Network:
    """The network of those that say none. A forked process has another."""
    network = Network(name="containers")
    atexit.register(lambda: network.remove() if os.getpid() == pid else None)
    return network


class Executed(NamedTuple):
    """What `exec` gives: `code, output = container.exec("ls")`."""

    exit_code: int
    output: bytes


class Container:
    """A container of an image, described step by step and then started; `with` starts and stops it.

    with Container("postgres:16").with_env("POSTGRES_PASSWORD", "x").with_exposed_ports(5432) as db:
        connect(db.get_container_host_ip(), db.get_exposed_port(5432))
    """

    def __init__(self, image: str, *, command: str | Sequence[str] | None = None, name: str = "") -> None:
        self.image = image
        self.name = name or re.sub(r"[^a-z0-9]+", "-", image.rpartition("/")[2].partition(":")[0].lower())
        self.fields: dict[str, Any] = {"image": image, "environment": {}, "ports": [], "volumes": []}
        self.files: list[tuple[str | os.PathLike[str], str]] = []
        self.network: Network | None = None
        self.aliases: tuple[str, ...] = ()
        self.strategy: WaitStrategy | None = None
        self.timeout = 60.0
        self.on: Network | None = None
        self.service_name = ""
        self._service: Service | None = None
        if command is not None:
            self.with_command(command)

    # What it is to be.

    def with_env(self, key: str, value: str) -> Self:
        self.fields["environment"][key] = value
        return self

    def with_envs(self, **variables: str) -> Self:
        self.fields["environment"].update(variables)
        return self

    def with_env_file(self, path: str | os.PathLike[str]) -> Self:
        self.fields.setdefault("env_file", []).append(os.path.abspath(path))
        return self

    def with_exposed_ports(self, *ports: int | str) -> Self:
        """Publish them on loopback, where there are free ones. `53/udp` for another protocol."""
        return self._publish((port, None) for port in ports)

    def with_bind_ports(self, container: int | str, host: int | None = None) -> Self:
        """Publish a port on this one of the host."""
        return self._publish([(container, host)])

    def _publish(self, ports: Any) -> Self:
        for container, host in ports:
            number, _, protocol = str(container).partition("/")
            port = {"target": int(number), "host_ip": "127.0.0.1", "protocol": protocol or "tcp"}
            self.fields["ports"].append(port | ({"published": str(host)} if host else {}))
        return self

    def with_volume_mapping(self, host: str | os.PathLike[str], container: str, mode: str = "ro") -> Self:
        """A folder or file of this host, or a named volume, at a path of the container."""
        source = os.fspath(host)
        is_path = source.startswith(("/", ".", "~"))
        self.fields["volumes"].append(
            {
                "type": "bind" if is_path else "volume",
                "source": os.path.abspath(os.path.expanduser(source)) if is_path else source,
                "target": container,
                "read_only": mode == "ro",
            }
        )
        return self

    def with_tmpfs_mount(self, container_path: str, size: str = "") -> Self:
        self.fields.setdefault("tmpfs", []).append(
            f"{container_path}:size={size}" if size else container_path
        )
        return self

    def with_copy_into_container(self, source: str | os.PathLike[str], path: str) -> Self:
        """Copy a file or folder of this host into it once it runs, before anything is waited for."""
        self.files.append((source, path))
        return self

    def with_command(self, command: str | Sequence[str]) -> Self:
        self.fields["command"] = shlex.split(command) if isinstance(command, str) else list(command)
        return self

    def with_name(self, name: str) -> Self:
        """The name of its service, by which others on its network find it."""
        self.name = name
        return self

    def with_network(self, network: Network) -> Self:
        self.network = network
        return self

    def with_network_aliases(self, *aliases: str) -> Self:
        self.aliases = aliases
        return self

    def with_healthcheck(self, *test: str, interval: str = "1s", start_interval: str = "100ms") -> Self:
        """A command that says whether it is healthy; `start` then waits until it is."""
        times = {"interval": interval, "start_interval": start_interval, "start_period": "60s"}
        self.fields["healthcheck"] = {"test": ["CMD", *test], **times}
        return self

    def with_kwargs(self, **keys: Any) -> Self:
        """Further keys of a service in a stack file: `mem_limit="128m"`, `user="1000"`, `tty=True`."""
        self.fields |= keys
        return self

    def waiting_for(self, strategy: WaitStrategy) -> Self:
        self.strategy = strategy
        return self

    # What becomes of it.

    def start(self) -> Self:
        """It runs, is healthy if it can say so, and is what `waiting_for` says. Raises ComposerError."""
        if self._service is not None:
            raise UsageError(f"the container of {self.image} is started already")
        self.on = self.network or home(os.getpid())
        self.service_name = self.name if self.network else f"{self.name}-{secrets.token_hex(3)}"
        try:
            self._service = self.on.add(self.service_name, self.fields, self.aliases, timeout=self.timeout)
            for source, path in self.files:
                self.service.copy_to(source, path)
            if self.strategy is not None:
                self.strategy.wait_until_ready(self)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, force: bool = True, delete_volume: bool = True) -> None:
        """It is gone; with `force` it is killed, else asked first. Named volumes go with the network."""
        if self.on is not None:
            self.on.discard(self.service_name, force=force, volumes=delete_volume)
        self.on = self._service = None

    @property
    def service(self) -> Service:
        """Everything else that can be done with it. Raises ComposerError when it is not started."""
        if self._service is None:
            raise ComposerError(f"the container of {self.image} is not started", hint="call start() first")
        return self._service

    def get_container_host_ip(self) -> str:
        return "127.0.0.1"

    def get_exposed_port(self, port: int | str) -> int:
        """Where this host reaches a port of the container. Raises NotFoundError."""
        number, _, protocol = str(port).partition("/")
        return self.service.port(int(number), protocol or "tcp")

    def get_logs(self) -> tuple[bytes, bytes]:
        """What it wrote to standard output and to standard error."""
        return streams(self.service.stack.context.stack_paths.log(self.service.container.name))

    def exec(self, command: str | Sequence[str], env: Mapping[str, str] | None = None) -> Executed:
        words = shlex.split(command) if isinstance(command, str) else command
        result = self.service.exec(*words, env=env)
        return Executed(result.exit_code, result.stdout_bytes + result.stderr_bytes)

    @property
    def status(self) -> str:
        return self.service.state

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()
