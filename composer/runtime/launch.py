"""The last steps before the program, the same for a container's first process and for one that joins it.

From the container's root to its user: terminal, labels, directory, limits, identity, capabilities, exec.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from composer.runtime import capabilities, linux, process, seccomp, tty, users
from composer.runtime.errors import StepError
from composer.runtime.inroot import closing
from composer.runtime.pending import run_steps

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Launch(NamedTuple):
    """`program`: the compiled filter; `proc`: a procfs nobody else can reach; `terminal`: the container's."""

    process: Mapping[str, Any]
    filter: Mapping[str, Any]
    program: bytes | None
    proc: int
    terminal: int
    preserve: int

    def run(self) -> None:
        """Returns only by StepError."""
        run_steps(STEPS, self._replace(process=_at_home(self.process)))

    @property
    def locked(self) -> bool:
        return bool(self.process.get("noNewPrivileges"))


def compile_filter(spec: Mapping[str, Any]) -> bytes | None:
    """The program of `linux.seccomp`, remembered by the caller's process. Raises StepError."""
    profile = (spec.get("linux") or {}).get("seccomp")
    try:
        return seccomp.compile(profile) if profile else None
    except ValueError as error:
        raise StepError.of("seccomp", error) from None


def labelled(spec: Mapping[str, Any]) -> bool:
    return bool(spec.get("apparmorProfile") or spec.get("selinuxLabel"))


def _terminal(job: Launch) -> None:
    if job.terminal >= 0:
        tty.take(job.terminal)


def _labels(job: Launch) -> None:
    """For the coming exec, written through a procfs that the container cannot cover (CVE-2019-16884)."""
    profile, label = job.process.get("apparmorProfile"), job.process.get("selinuxLabel")
    inside = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_MAGICLINKS | linux.RESOLVE_NO_XDEV
    for text, file in ((profile and f"exec {profile}", "apparmor/exec"), (label, "exec")):
        if not text:
            continue
        try:
            with closing(linux.openat2(job.proc, f"self/attr/{file}", os.O_WRONLY, inside)) as descriptor:
                os.write(descriptor, text.encode())
        except OSError as error:
            code = error.errno or 0
            raise StepError(
                "labels", code, text, f"this kernel refuses the label: {os.strerror(code)}"
            ) from None


def change_directory(path: str) -> None:
    """chdir, and make sure that it is inside the root (CVE-2024-21626). Raises OSError, StepError."""
    os.chdir(path)
    if not linux.getcwd().startswith("/"):
        raise StepError("cwd", errno.EPERM, path, "leads out of the container")


def _directory(job: Launch) -> None:
    try:
        change_directory(job.process.get("cwd") or "/")
    except PermissionError:
        pass  # perhaps a share that is closed to root: the user tries again


def _limits(job: Launch) -> None:
    for number, soft, hard in process.rlimits(job.process):
        resource.setrlimit(number, (soft, hard))


def _user(job: Launch) -> None:
    users.switch(job.process.get("user") or {})


def _directory_again(job: Launch) -> None:
    change_directory(job.process.get("cwd") or "/")


def _no_new_privileges(job: Launch) -> None:
    if job.locked:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)


def _early_filter(job: Launch) -> None:
    """Without no_new_privs a filter can be loaded only while the capabilities are still there."""
    if job.program is not None and not job.locked:
        seccomp.load(job.program, job.filter.get("flags") or ())


def _capabilities(job: Launch) -> None:
    capabilities.apply(job.process.get("capabilities") or {})


def _late_filter(job: Launch) -> None:
    if job.program is not None and job.locked:
        seccomp.load(job.program, job.filter.get("flags") or ())


def environment(spec: Mapping[str, Any]) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in spec.get("env") or ())


def _at_home(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a HOME: every runtime sets one, engines rely on it. Before the filter, which may refuse it."""
    if environment(spec).get("HOME"):
        return spec
    home = users.home((spec.get("user") or {}).get("uid", 0))
    return {**spec, "env": [*(spec.get("env") or ()), f"HOME={home}"]}


def find(spec: Mapping[str, Any]) -> str:
    """The file that args[0] means, in the container's own PATH. Raises OSError: ENOENT, EACCES.

    As a shell does it: a file that may not be executed is remembered, but the search goes on.
    """
    args = spec.get("args")
    if not args:
        raise StepError("specification", errno.EINVAL, "process.args", "is empty")
    name: str = args[0]
    if "/" in name:
        _check_executable(name)
        return name
    refused: OSError | None = None
    for directory in environment(spec).get("PATH", _PATH).split(":"):
        path = f"{directory or '.'}/{name}"
        try:
            _check_executable(path)
        except PermissionError as error:
            refused = error
        except OSError:
            continue
        else:
            return path
    raise refused or OSError(errno.ENOENT, "executable file not found in $PATH", name)


def _check_executable(path: str) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode) or not os.access(path, os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)


def _descriptors(job: Launch) -> None:
    """Before the filter: profiles older than close_range(2) refuse it."""
    linux.close_range(3 + job.preserve, flags=linux.CLOSE_RANGE_CLOEXEC)


def _execute(job: Launch) -> None:
    os.execve(find(job.process), job.process["args"], environment(job.process))


STEPS: tuple[tuple[str, Callable[[Launch], None]], ...] = (
    ("terminal", _terminal),
    ("labels", _labels),
    ("cwd", _directory),
    ("rlimits", _limits),
    ("user", _user),
    ("cwd", _directory_again),
    ("no_new_privs", _no_new_privileges),
    ("descriptors", _descriptors),
    ("seccomp", _early_filter),
    ("capabilities", _capabilities),
    ("seccomp", _late_filter),
    ("exec", _execute),
)
