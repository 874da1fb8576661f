"""A stack in the terms of testcontainers' DockerCompose, for tests that move over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from composer.api.container import Container
from composer.api.logs import streams
from composer.api.service import Service
from composer.api.stack import Stack


class DockerCompose:
    """The stack files of a folder: up with `start`, gone with `stop`; `with` does both."""

    def __init__(
        self,
        context: str | os.PathLike[str],
        compose_file_name: str | Sequence[str] | None = None,
        pull: bool = False,
        build: bool = False,
        wait: bool = True,
        env_file: str | None = None,
        services: Sequence[str] = (),
        profiles: Sequence[str] = (),
    ) -> None:
        names = [compose_file_name] if isinstance(compose_file_name, str) else compose_file_name or ()
        self.stack = Stack(
            *names,
            directory=context,
            env_files=[env_file] if env_file else (),
            profiles=profiles,
            isolated=True,
        )
        self.services, self.pull, self.build, self.wait = services, pull, build, wait

    def start(self) -> None:
        pidfd = os.pidfd_open(os.getpid())
        try:
            self.stack.up(
                *self.services,
                wait=self.wait,
                build=self.build,
                pull="always" if self.pull else "",
                owner=pidfd,
            )
        finally:
            os.close(pidfd)

    def stop(self, down: bool = True) -> None:
        if down:
            self.stack.down(volumes=True, timeout=0)
        else:
            self.stack.stop()

    def get_container(self, service_name: str) -> Container:
        return self.stack[service_name].container

    def get_containers(self) -> list[Container]:
        return self.stack.containers()

    def get_service_host(self, service_name: str, port: int) -> str:
        return self.stack[service_name].endpoint(port)[0]

    def get_service_port(self, service_name: str, port: int) -> int:
        return self.stack[service_name].port(port)

    def get_service_host_and_port(self, service_name: str, port: int) -> tuple[str, int]:
        return self.stack[service_name].endpoint(port)

    def exec_in_container(self, command: Sequence[str], service_name: str) -> tuple[str, str, int]:
        """Standard output, standard error, and the exit code."""
        result = self.stack[service_name].exec(*command)
        return result.stdout, result.stderr, result.exit_code

    def get_logs(self, *services: str) -> tuple[str, str]:
        """Standard output and standard error, container by container."""
        place = self.stack.context.stack_paths.log
        both = [streams(place(one.name)) for one in self.stack.containers(*services)]
        out, err = b"".join(one for one, _ in both), b"".join(one for _, one in both)
        return out.decode(errors="replace"), err.decode(errors="replace")

    def service(self, name: str) -> Service:
        return self.stack[name]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()
