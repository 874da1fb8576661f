"""Processes in running containers, with their input given and their output collected."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from composer.api.client import Supervisor, failure
from composer.api.patience import readable, until
from composer.errors import ComposerError, LateError
from composer.value import Value

BLOCK = 1 << 16


class ExecResult(Value):
    """How a process in a container ended. `stdout` and `stderr` are what it wrote, as bytes."""

    command: tuple[str, ...]
    exit_code: int
    stdout_bytes: bytes = b""
    stderr_bytes: bytes = b""

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode(errors="replace")

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


class ExecError(ComposerError):
    """A process in a container ended with another exit code than 0. `result` has its output."""

    def __init__(self, result: ExecResult) -> None:
        said = (result.stderr or result.stdout).strip().splitlines()
        told = f": {said[-1]}" if said else ""
        super().__init__(f"{' '.join(result.command)!r} ended with exit code {result.exit_code}{told}")
        self.result = result
        self.exit_code = result.exit_code


def execute(
    supervisor: Supervisor,
    container: str,
    command: Sequence[str],
    process: Mapping[str, Any],
    *,
    stdin: bytes = b"",
    timeout: float | None = None,
) -> ExecResult:
    """Run a command in a container until it ends. Raises ComposerError, and LateError once it was killed."""
    with _Streams(stdin) as streams:
        wanted = {**process, "args": list(command)}
        number = supervisor.send("exec", streams.theirs, container=container, process=wanted)
        streams.hand_over()
        started = supervisor.next(number)
        if "error" in started:
            raise failure(started["error"])
        deadline = until(timeout)
        try:
            while streams.open and not supervisor.frames:
                found = readable([*streams.open, supervisor.sock], deadline)
                streams.collect(found)
                if supervisor.sock.fileno() in found:
                    break  # it has ended; what it left behind may keep its output open for ever
            supervisor.deadline = deadline
            answer = supervisor.result(number)
        except ComposerError as error:
            _kill(int(started["event"]["pid"]))
            if isinstance(error, LateError):
                raise LateError(f"{' '.join(command)!r} did not end within {timeout} s") from None
            raise
        streams.collect(set(streams.open))
    return ExecResult(tuple(command), int(answer["exit"]), *map(bytes, streams.output))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Streams:
    """A process's stdin, in a file; its stdout and stderr, by pipes."""

    def __init__(self, stdin: bytes) -> None:
        self.output = (bytearray(), bytearray())
        self.open: dict[int, int] = {}
        """Our ends, with the index of their output."""
        given = os.memfd_create("stdin")
        with os.fdopen(given, "wb", closefd=False) as file:
            file.write(stdin)
        os.lseek(given, 0, os.SEEK_SET)
        self.theirs = {"stdin": given}
        for index, name in enumerate(("stdout", "stderr")):
            ours, theirs = os.pipe()
            os.set_blocking(ours, False)
            self.open[ours], self.theirs[name] = index, theirs

    def hand_over(self) -> None:
        """The process has its ends: ours see the end of the output only once we have closed them."""
        for descriptor in self.theirs.values():
            os.close(descriptor)
        self.theirs = {}

    def collect(self, found: set[int]) -> None:
        """Read what is there."""
        for descriptor in found & self.open.keys():
            try:
                while data := os.read(descriptor, BLOCK):
                    self.output[self.open[descriptor]].extend(data)
            except BlockingIOError:
                continue
            os.close(descriptor)
            del self.open[descriptor]

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.hand_over()
        for descriptor in self.open:
            os.close(descriptor)
