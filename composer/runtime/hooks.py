"""Hooks: programs of others that are run at points of a container's life, with its state on their input.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md#posix-platform-hooks
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import time
from collections.abc import Mapping
from typing import Any

from composer.runtime import linux
from composer.runtime.errors import StepError
from composer.runtime.inroot import closing

RUNTIME = ("prestart", "createRuntime")  # those that run in the runtime's namespace during create
_LONGEST_COMPLAINT = 2048


def wanted(spec: Mapping[str, Any], *names: str) -> bool:
    return any((spec.get("hooks") or {}).get(name) for name in names)


def state(spec: Mapping[str, Any], name: str, status: str, pid: int, bundle: str) -> dict[str, Any]:
    """The state of a container as hooks get it, and as `state` prints it."""
    return {
        "ociVersion": spec.get("ociVersion", "1.2.0"),
        "id": name,
        "status": status,
        **({"pid": pid} if pid else {}),
        "bundle": bundle,
        "annotations": spec.get("annotations") or {},
    }


def run(spec: Mapping[str, Any], kind: str, about: Mapping[str, Any]) -> None:
    """All hooks of one kind, in order, one after the other. The first that fails raises StepError."""
    for hook in (spec.get("hooks") or {}).get(kind) or ():
        _run(hook, kind, json.dumps(about).encode())


def run_all(spec: Mapping[str, Any], kind: str, about: Mapping[str, Any]) -> list[str]:
    """All hooks of one kind, whatever becomes of them; what went wrong, for warnings."""
    failures = []
    for hook in (spec.get("hooks") or {}).get(kind) or ():
        try:
            _run(hook, kind, json.dumps(about).encode())
        except (OSError, StepError) as error:
            failures.append(str(error))
    return failures


def _run(hook: Mapping[str, Any], kind: str, stdin: bytes) -> None:
    path = hook["path"]
    if not path.startswith("/"):
        raise StepError(f"{kind} hook", errno.EINVAL, path, "the path must be absolute")
    (state_out, state_in), (said_out, said_in) = os.pipe(), os.pipe()
    os.set_blocking(state_in, False)
    os.write(state_in, stdin)  # a pipe holds 64 KiB, a state rarely one
    os.close(state_in)
    pid, pidfd = linux.clone(0)
    if pid == 0:
        _execute(hook, state_out, said_in)
    os.close(state_out)
    os.close(said_in)
    with closing(pidfd), closing(said_out):
        said, in_time = _listen(pidfd, said_out, hook.get("timeout"))
        if not in_time:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if not in_time:
        raise StepError(f"{kind} hook", errno.ETIMEDOUT, path, f"not done within {hook['timeout']} s")
    if ended is None or ended.si_code != os.CLD_EXITED or ended.si_status:
        why = f"exit status {ended.si_status}" if ended and ended.si_code == os.CLD_EXITED else "killed"
        raise StepError(f"{kind} hook", 0, path, f"{why}: {said}" if said else why)


def _execute(hook: Mapping[str, Any], stdin: int, output: int) -> None:
    try:
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        linux.close_range(3, flags=linux.CLOSE_RANGE_CLOEXEC)
        environment = dict(entry.partition("=")[::2] for entry in hook.get("env") or ())
        os.execve(hook["path"], hook.get("args") or [hook["path"]], environment)
    except OSError as error:
        os.write(2, os.strerror(error.errno or 0).encode())
    finally:
        os._exit(127)


def _listen(pidfd: int, output: int, timeout: float | None) -> tuple[str, bool]:
    """What the hook says until it ends, its last words only; False when time was up first."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output, select.POLLIN)
    deadline = time.monotonic() + timeout if timeout else None
    said = b""
    while True:
        left = max(0.0, deadline - time.monotonic()) * 1000 if deadline else None
        ready = dict(poll.poll(left))
        if ready.get(output, 0) & select.POLLIN:
            said = (said + os.read(output, 65536))[-_LONGEST_COMPLAINT:]
        elif output in ready:
            poll.unregister(output)
        if pidfd in ready and not ready.get(output, 0) & select.POLLIN:
            return said.decode(errors="replace").strip(), True
        if not ready:
            return said.decode(errors="replace").strip(), False
