"""The one exception of the runtime.

    StepError      a step of making or entering a container failed: which step, why, on what

Callers word it for people; the runtime only says what happened.
"""

from __future__ import annotations

import os


class StepError(Exception):
    """`step` is a name of the step tables, `errno` 0 when no system call failed, `path` may be empty."""

    def __init__(self, step: str, errno: int = 0, path: str = "", text: str = "") -> None:
        super().__init__(step, errno, path, text)
        self.step = step
        self.errno = errno
        self.path = path
        self.text = text or (os.strerror(errno) if errno else "failed")

    def __str__(self) -> str:
        where = f" {self.path}" if self.path else ""
        return f"{self.step}{where}: {self.text}"

    def lowered(self) -> StepError:
        """With the kernel's words in lower case: engines choose exit codes by them."""
        said = os.strerror(self.errno) if self.errno else ""
        text = self.text.replace(said, said.lower()) if said else self.text
        return StepError(self.step, self.errno, self.path, text)

    @classmethod
    def of(cls, step: str, error: BaseException) -> StepError:
        """The error as it is sent through the channel, whatever was raised in `step`."""
        if isinstance(error, cls):
            return error
        if isinstance(error, OSError):
            path = error.filename if error.filename is not None else ""
            return cls(step, error.errno or 0, os.fsdecode(path) if path else "", error.strerror or "")
        if isinstance(error, KeyError):
            return cls(step, text=f"the field {error} is missing")
        return cls(
            step, text=str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        )
