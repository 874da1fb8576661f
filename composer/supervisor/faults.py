"""Failed starts: their exit codes, as Docker has them, and their sentences. Pure."""

from __future__ import annotations

from errno import EINVAL, ENOTDIR

from composer.errors import ComposerError, RuntimeStepError
from composer.supervisor.world import Live

NOT_FOUND, NOT_EXECUTABLE, NOT_STARTED = 127, 126, 125


def exit_code_of(error: RuntimeStepError) -> int:
    """Docker's: 127 for a program that is not there, 126 for one that cannot be run, 125 for all else."""
    if error.step != "exec":
        return NOT_STARTED
    return NOT_FOUND if error.errno == 2 else NOT_EXECUTABLE


def explained(error: RuntimeStepError, live: Live, argv: list[str] | None = None) -> ComposerError:
    """The runtime's error as a sentence about the container."""
    if error.step == "exec":
        what = (argv or live.command or [""])[0]
        text = "executable file not found in the container" if error.errno == 2 else error.message
        return ComposerError(f"container {live.name} cannot run {what}: {text}")
    bound = next((m for m in live.mounts if (m["type"], m["target"]) == ("bind", error.path)), None)
    if error.step == "mounts" and bound and error.errno in (EINVAL, ENOTDIR):
        text = f"container {live.name}: {bound['source']} cannot be mounted at {error.path}"
        hint = "a source that is not there is made, as an empty folder: look whether its path is right"
        return ComposerError(f"{text}: one is a folder, the other a file", hint=hint)
    if error.step == "namespaces" and (error.path or "").endswith("Mappings"):
        text = f"container {live.name}: its user namespace {error.message}"
        return ComposerError(text, hint="with `userns_mode: host` it has the ids of the host, all of them")
    where = f" ({error.path})" if error.path else ""
    return ComposerError(f"container {live.name}: {error.step}{where}: {error.message}")
