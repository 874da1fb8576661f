"""A process that joins a container."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from composer.runtime.errors import StepError
from tests.runtime.box import NOWHERE, Box, drain, status

pytestmark = pytest.mark.kernel


def test_joins_every_namespace_and_the_group(box: Box) -> None:
    spec = box.spec("sleep", "100", cgroupsPath=f"/{box.name}")
    container = box.start(spec)
    show = ("sh", "-c", "ls -l /proc/self/ns; cat /proc/self/cgroup")
    joined = box.exec(container, spec, *show)
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
    theirs = {os.readlink(f"/proc/{container.pid}/ns/{kind}") for kind in kinds}
    assert joined.status == 0
    assert theirs <= set(joined.output.split())
    assert all(row.endswith(":/") for row in joined.output.splitlines() if row[0].isdigit())


def test_passes_the_exit_status(box: Box) -> None:
    spec = box.spec("sleep", "100")
    container = box.start(spec)
    assert box.exec(container, spec, "sh", "-c", "exit 42").status == 42
    assert box.exec(container, spec, "sh", "-c", "kill -9 $$").status == 137


def test_takes_its_own_user_environment_and_directory(box: Box) -> None:
    spec = box.spec("sleep", "100")
    container = box.start(spec)
    result = box.exec(
        container,
        spec,
        *("sh", "-c", "id -u; id -g; id -G; pwd; echo $WHO; umask"),
        user={"uid": 1000, "gid": 100, "additionalGids": [7], "umask": 0o077},
        env=["PATH=/bin", "WHO=me"],
        cwd="/bin",
    )
    assert result.output.split() == ["1000", "100", "100", "7", "/bin", "me", "0077"]


def test_is_filtered_like_the_container_unless_privileged(box: Box) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    spec = box.spec("sleep", "100", seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    container = box.start(spec)
    assert box.exec(container, spec, "mkdir", "/new").status == 1
    assert box.exec(container, spec, "mkdir", "/new", privileged=False).status == 1
    assert box.exec(container, spec, "mkdir", "/new", privileged=True).status == 0


def test_a_missing_program_or_directory_is_named(box: Box) -> None:
    spec = box.spec("sleep", "100")
    container = box.start(spec)
    with pytest.raises(StepError) as caught:
        box.exec(container, spec, "absent")
    assert (caught.value.step, caught.value.errno) == ("exec", errno.ENOENT)
    with pytest.raises(StepError) as caught:
        box.exec(container, spec, "sh", cwd="/absent")
    assert (caught.value.step, caught.value.path) == ("cwd", "/absent")


def test_gets_a_terminal_of_the_container(box: Box) -> None:
    spec = box.spec("sleep", "100")
    container = box.start(spec)
    process = {
        "args": ["sh", "-c", "tty; stty size"],
        "terminal": True,
        "consoleSize": {"height": 33, "width": 99},
    }
    joined = box.enter(container, spec, NOWHERE, **process)
    assert drain(joined.console).split() == ["/dev/pts/0", "33", "99"]


def test_dies_with_the_container(box: Box) -> None:
    spec = box.spec("sleep", "100")
    container = box.start(spec)
    joined = box.enter(container, spec, NOWHERE, args=["sleep", "100"])
    signal.pidfd_send_signal(container.pidfd, signal.SIGKILL)
    assert status(joined) == 137
    assert status(container) == 137
