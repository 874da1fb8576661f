"""Fixtures with the names of pytest-docker, for test suites that move over.

Asked for by `pytest_plugins = ["composer.testing.docker"]` in a conftest.py: they are no part of the plugin,
so that both can be installed side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from composer.api.stack import Stack
from composer.errors import LateError
from composer.testing.stacks import Stacks, in_words


class Services:
    """What the fixture `docker_services` gives."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def port_for(self, service: str, container_port: int) -> int:
        """The host's port that leads to one of a service. Raises NotFoundError."""
        return self.stack[service].port(container_port)

    def wait_until_responsive(
        self,
        check: Callable[[], bool],
        timeout: float,
        pause: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Call `check` until it is true. Raises LateError."""
        until = clock() + timeout
        while not check():
            if clock() > until:
                raise LateError(f"it did not respond within {timeout} s")
            time.sleep(pause)


@pytest.fixture(scope="session")
def docker_ip() -> str:
    """Where published ports are reached."""
    return "127.0.0.1"


@pytest.fixture(scope="session")
def docker_compose_file(pytestconfig: pytest.Config) -> str | list[str]:
    """Override it to have other files than tests/docker-compose.yml."""
    return str(Path(str(pytestconfig.rootpath)) / "tests" / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_services(request: pytest.FixtureRequest, docker_compose_file: Any) -> Iterator[Services]:
    """The stack, up and healthy for the whole session."""
    files = docker_compose_file if isinstance(docker_compose_file, (list, tuple)) else [docker_compose_file]
    ends: list[Callable[[], None]] = []
    try:
        with in_words():
            stack = Stacks.of(request.config).bring_up(files, {}, ends.append)
        yield Services(stack)
    finally:
        for end in ends:
            end()
