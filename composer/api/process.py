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
MOST = 64 << 20
"""Bytes that are kept of each stream, the first half of them and the last: some write without end."""
READS = 16
"""Blocks that are read before anything else is looked at; as many as a pipe can hold."""


def open_process(pid: int) -> int:
    """A pidfd: what is signalled later is this process, and none that got its number. -1: it has ended."""
    try:
        return os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return -1


def send(pidfd: int, number: int) -> None:
    """A signal to a process of `open_process`; nothing if it has ended."""
    try:
        if pidfd >= 0:
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


class Kept:
    """What is kept of a stream of which nobody knows how long it gets."""

    def __init__(self, most: int) -> None:
        self.most = most // 2
        self.head, self.tail = bytearray(), bytearray()
        self.left_out = 0

    def add(self, data: bytes) -> None:
        room = self.most - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        if len(self.tail) > 2 * self.most:
            self.cut()

    def cut(self) -> None:
        gone = max(len(self.tail) - self.most, 0)
        del self.tail[:gone]
        self.left_out += gone

    def whole(self) -> bytes:
        """With a line that says so where something was left out."""
        self.cut()
        gap = b"\n[%d bytes were left out]\n" % self.left_out if self.left_out else b""
        return bytes(self.head) + gap + bytes(self.tail)


class ExecResult(Value):
    """How a process in a container ended, and what it wrote. `left_out`: bytes of both that were too many."""

    command: tuple[str, ...]
    exit_code: int
    stdout_bytes: bytes = b""
    stderr_bytes: bytes = b""
    left_out: int = 0

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
    most: int = MOST,
    merged: bool = False,
) -> ExecResult:
    """Run a command in a container until it ends. Raises ComposerError, and LateError once it was killed.

    `most`: bytes that are kept of each stream. `merged`: both come as `stdout`, in the order of writing.
    """
    with _Streams(stdin, most, merged) as streams:
        wanted = {**process, "args": list(command)}
        number = supervisor.send("exec", streams.theirs, container=container, process=wanted)
        streams.hand_over()
        started = supervisor.next(number)
        if "error" in started:
            raise failure(started["error"])
        deadline = until(timeout)
        streams.process = open_process(int(started["event"]["pid"]))
        try:
            while streams.open and not supervisor.frames:
                found = readable([*streams.open, supervisor.sock], deadline)
                streams.collect(found)
                if supervisor.sock.fileno() in found:
                    break  # it has ended; what it left behind may keep its output open for ever
            supervisor.deadline = deadline
            answer = supervisor.result(number)
        except ComposerError as error:
            send(streams.process, signal.SIGKILL)
            if isinstance(error, LateError):
                raise LateError(f"{' '.join(command)!r} did not end within {timeout} s") from None
            raise
        streams.collect(set(streams.open))
    stdout, stderr = (output.whole() for output in streams.output)
    left_out = sum(output.left_out for output in streams.output)
    return ExecResult(tuple(command), int(answer["exit"]), stdout, stderr, left_out)


class _Streams:
    """A process's stdin, in a file; its stdout and stderr, by pipes; and the process, once it is known."""

    def __init__(self, stdin: bytes, most: int, merged: bool) -> None:
        self.process = -1
        self.output = (Kept(most), Kept(most))
        self.open: dict[int, int] = {}
        """Our ends, with the index of their output."""
        given = os.memfd_create("stdin")
        with os.fdopen(given, "wb", closefd=False) as file:
            file.write(stdin)
        os.lseek(given, 0, os.SEEK_SET)
        self.theirs = {"stdin": given}
        for index, name in enumerate(("stdout",) if merged else ("stdout", "stderr")):
            ours, theirs = os.pipe()
            os.set_blocking(ours, False)
            self.open[ours], self.theirs[name] = index, theirs
        if merged:
            self.theirs["stderr"] = os.dup(self.theirs["stdout"])

    def hand_over(self) -> None:
        """The process has its ends: ours see the end of the output only once we have closed them."""
        for descriptor in self.theirs.values():
            os.close(descriptor)
        self.theirs = {}

    def collect(self, found: set[int]) -> None:
        """Read what is there."""
        for descriptor in found & self.open.keys():
            for _ in range(READS):
                try:
                    data = os.read(descriptor, BLOCK)
                except BlockingIOError:
                    break
                if not data:
                    os.close(descriptor)
                    del self.open[descriptor]
                    break
                self.output[self.open[descriptor]].add(data)

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self.hand_over()
        for descriptor in self.open:
            os.close(descriptor)
        if self.process >= 0:
            os.close(self.process)
