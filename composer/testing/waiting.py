"""Waiting until a container is of use, with the names that users of testcontainers-python know.

Where the kernel or the container tells (logs, health), nothing is polled; ports, HTTP and commands are asked
again and again, since nobody else knows.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, Protocol, Self, TypeVar

from composer.errors import ComposerError, LateError

if TYPE_CHECKING:
    from composer.testing.container import Container

P = ParamSpec("P")
T = TypeVar("T")


class Ready(Protocol):
    def wait_until_ready(self, container: Container) -> None: ...


class WaitStrategy:
    """Called by `start`. Subclass it with `wait_until_ready` for one of your own."""

    timeout = 60.0
    pause = 0.05

    def with_startup_timeout(self, seconds: float) -> Self:
        self.timeout = seconds
        return self

    def with_poll_interval(self, seconds: float) -> Self:
        self.pause = seconds
        return self

    def wait_until_ready(self, container: Container) -> None:
        """Returns when it is ready. Raises LateError, or ComposerError when it never will be."""
        raise NotImplementedError

    def attempts(self, container: Container, what: str) -> Iterator[int]:
        """Numbers, as long as it makes sense to try again. Raises ComposerError when it does not."""
        until, number = time.monotonic() + self.timeout, 0
        while True:
            yield number
            number += 1
            found = container.service.container
            if not found.running:
                raise ComposerError(f"{found}, and {what} was waited for")
            if time.monotonic() > until:
                raise LateError(f"{found.name}: {what} did not come within {self.timeout} s")
            time.sleep(self.pause)


class LogMessageWaitStrategy(WaitStrategy):
    """Until a line matches (re.search); `times` of them."""

    def __init__(self, message: str | re.Pattern[str], times: int = 1) -> None:
        self.message, self.times = message, times

    def wait_until_ready(self, container: Container) -> None:
        container.service.wait_for_log(self.message, self.timeout, times=self.times)


class HealthcheckWaitStrategy(WaitStrategy):
    """Until its healthcheck says so; `start` does it by itself when there is one."""

    def wait_until_ready(self, container: Container) -> None:
        if not container.service.health:
            hint = "with_healthcheck(...) adds one"
            raise ComposerError(f"{container.image} has no healthcheck", hint=hint)
        container.service.wait_healthy(self.timeout)


class PortWaitStrategy(WaitStrategy):
    """Until something accepts connections at a port of the container."""

    def __init__(self, port: int) -> None:
        self.port = port

    def wait_until_ready(self, container: Container) -> None:
        for _ in self.attempts(container, f"port {self.port}"):
            try:
                socket.create_connection(container.service.endpoint(self.port), timeout=1).close()
                return
            except OSError:
                continue


class ExecWaitStrategy(WaitStrategy):
    """Until a command in the container ends with an exit code."""

    def __init__(self, command: list[str], expected_exit_code: int = 0) -> None:
        self.command, self.expected = command, expected_exit_code

    def wait_until_ready(self, container: Container) -> None:
        for _ in self.attempts(container, f"exit code {self.expected} of {' '.join(self.command)!r}"):
            if container.service.exec(*self.command, timeout=self.timeout).exit_code == self.expected:
                return


class HttpWaitStrategy(WaitStrategy):
    """Until a request is answered with a status: 200, unless another is asked for."""

    def __init__(self, port: int, path: str = "/") -> None:
        self.port, self.path = port, path if path.startswith("/") else f"/{path}"
        self.method, self.headers, self.body = "GET", dict[str, str](), b""
        self.tls: ssl.SSLContext | None = None
        self.status: Callable[[int], bool] | None = None
        self.response: Callable[[str], bool] = lambda text: True

    def for_status_code(self, code: int) -> Self:
        return self.for_status_code_matching(lambda status: status == code)

    def for_status_code_matching(self, predicate: Callable[[int], bool]) -> Self:
        """Called more than once, each may be fulfilled."""
        before = self.status
        self.status = predicate if before is None else lambda status: before(status) or predicate(status)
        return self

    def for_response_predicate(self, predicate: Callable[[str], bool]) -> Self:
        self.response = predicate
        return self

    def using_tls(self, insecure: bool = False) -> Self:
        self.tls = ssl._create_unverified_context() if insecure else ssl.create_default_context()
        return self

    def with_method(self, method: str) -> Self:
        self.method = method.upper()
        return self

    def with_header(self, name: str, value: str) -> Self:
        self.headers[name] = value
        return self

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        self.headers |= headers
        return self

    def with_basic_credentials(self, user: str, password: str) -> Self:
        told = b64encode(f"{user}:{password}".encode()).decode()
        return self.with_header("Authorization", f"Basic {told}")

    def with_body(self, body: str | bytes) -> Self:
        self.body = body.encode() if isinstance(body, str) else body
        return self

    def wait_until_ready(self, container: Container) -> None:
        wanted = self.status or (lambda status: status == 200)
        for _ in self.attempts(container, f"the answer to {self.method} {self.path} at port {self.port}"):
            try:
                status, text = self._ask(*container.service.endpoint(self.port))
            except (OSError, http.client.HTTPException):
                continue
            if wanted(status) and self.response(text):
                return

    def _ask(self, host: str, port: int) -> tuple[int, str]:
        connection = (
            http.client.HTTPSConnection(host, port, timeout=5, context=self.tls)
            if self.tls
            else http.client.HTTPConnection(host, port, timeout=5)
        )
        try:
            connection.request(self.method, self.path, self.body or None, self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()


class CompositeWaitStrategy(WaitStrategy):
    """One after the other."""

    def __init__(self, *strategies: Ready) -> None:
        self.strategies = strategies

    def wait_until_ready(self, container: Container) -> None:
        for strategy in self.strategies:
            strategy.wait_until_ready(container)


def wait_for_logs(container: Container, predicate: str | re.Pattern[str], timeout: float = 60) -> float:
    """Until a line matches; the seconds that it took."""
    began = time.monotonic()
    container.service.wait_for_log(predicate, timeout)
    return time.monotonic() - began


def wait_container_is_ready(
    *transient: type[Exception], timeout: float = 60, pause: float = 0.1
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator: call again while it raises one of these, or ConnectionError. Then what it raised last."""
    caught: tuple[type[Exception], ...] = (*transient, ConnectionError)

    def decorate(call: Callable[P, T]) -> Callable[P, T]:
        @wraps(call)
        def again(*args: P.args, **kwargs: P.kwargs) -> T:
            until = time.monotonic() + timeout
            while True:
                try:
                    return call(*args, **kwargs)
                except caught:
                    if time.monotonic() > until:
                        raise
                    time.sleep(pause)

        return again

    return decorate
