"""The exceptions of composer. A leaf: imports nothing of ours.

    ComposerError                  exit code 1
    ├── StackFileError             the user's files: carries every complaint, each with its place
    ├── UsageError                 exit code 2: options or arguments that make no sense together
    ├── ConflictError              the host says no: a port, name, address, or another stack is in the way
    ├── NotFoundError              something named does not exist
    ├── FailedError                a wish could not be fulfilled: (container, reason) for each
    ├── LateError                  what was waited for did not come in time
    ├── ImageError                 an image, a registry or a build
    │   └── RegistryError          carries the HTTP status and, for 429, when to try again
    ├── RuntimeStepError           a step of making or entering a container failed: step, errno, path
    └── PeerLostError              the process at the other end of a socket went away

Fields are structured; the sentence for people is made of them in one place, `cli/render`. `message` is one
sentence without a final full stop; `hint` says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

from composer.value import Value


class Place(Value):
    """Where in a user's file something stands. `line` and `column` count from 1; 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Complaint(Value):
    """One thing that is wrong (or, as a warning, suspicious) in a user's file."""

    message: str
    place: Place | None = None
    path: tuple[str | int, ...] = ()
    hint: str | None = None
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        path = f"{dotted(self.path)}: " if self.path else ""
        return f"{where}{path}{self.message}"


def dotted(path: tuple[str | int, ...]) -> str:
    """A path for people: ('services', 'web', 'ports', 0) is `services.web.ports[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class ComposerError(Exception):
    """The root of everything composer raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StackFileError(ComposerError):
    """The stack files are wrong. All complaints are reported together, in file order."""

    def __init__(self, complaints: list[Complaint] | tuple[Complaint, ...]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("\n".join(str(complaint) for complaint in self.complaints))


class UsageError(ComposerError):
    """Options or arguments that make no sense."""

    exit_code = 2


class ConflictError(ComposerError):
    """Something on the host is in the way."""


class NotFoundError(ComposerError):
    """A thing that was named does not exist."""


class FailedError(ComposerError):
    """What was wished for could not be done. `failures`: what it is about, and why, one by one."""

    def __init__(self, failures: Iterable[tuple[str, str]]) -> None:
        self.failures = tuple(failures)
        super().__init__("\n".join(_said(name, reason) for name, reason in self.failures))


def _said(name: str, reason: str) -> str:
    """One line; a reason that begins with its subject needs no other."""
    return reason if reason.startswith(name) else f"{name}: {reason}"


class LateError(ComposerError):
    """What was waited for did not come in time."""


class ImageError(ComposerError):
    """An image cannot be had, read, written or built."""


class RegistryError(ImageError):
    """A registry refused or failed. `status` is the HTTP status, `retry_after` seconds to wait."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after = retry_after


class RuntimeStepError(ComposerError):
    """A step in making, entering or ending a container failed."""

    def __init__(
        self, message: str, *, step: str, errno: int = 0, path: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.step = step
        self.errno = errno
        self.path = path


class PeerLostError(ComposerError):
    """The process at the other end of a socket went away."""
