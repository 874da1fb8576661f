"""A container from create to exit, on the real kernel."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from composer.runtime.create import Stdio, StepError
from tests.runtime.box import Box, drain, output, status, wait

pytestmark = pytest.mark.kernel


def test_runs_the_program_as_pid_1_of_its_own_namespaces(box: Box) -> None:
    result = box.run(box.spec("sh", "-c", "echo $$; ls -l /proc/self/ns; exit 7"))
    first, *inside = result.output.split()
    assert (first, result.status) == ("1", 7)
    mine = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup")}
    assert len({word for word in inside if word.startswith("pid:[")}) == 1
    assert not mine & set(inside)


def test_nothing_of_the_host_is_left_in_the_mount_table(box: Box) -> None:
    points = [line.split()[4] for line in box.shell("cat /proc/self/mountinfo").splitlines()]
    assert sorted(points) == ["/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys"]


def test_nothing_of_the_host_mount_table_changes(box: Box) -> None:
    table = Path("/proc/self/mountinfo")
    before = table.read_text()
    container = box.create(box.spec("sleep", "100"))
    assert table.read_text() == before
    assert container.state == "created"


def test_no_descriptor_but_the_three_streams(box: Box) -> None:
    leaky = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaky, True)
    try:
        assert box.shell("cd /proc/self/fd; echo *").split() == ["0", "1", "2", "3"]  # 3: the listing itself
    finally:
        os.close(leaky)


def test_writes_go_to_the_upper_layer(box: Box) -> None:
    overlay = box.overlay()
    box.run(box.spec("sh", "-c", "echo hello > /new"), overlay=overlay)
    assert Path(overlay.upper, "new").read_text() == "hello\n"
    assert not (box.layer / "new").exists()


def test_a_directory_as_root_can_be_read_only(box: Box) -> None:
    for name in ("proc", "dev", "sys"):
        (box.layer / name).mkdir()
    spec = box.spec("sh", "-c", "touch /new")
    spec["root"] = {"path": "layer", "readonly": True}
    result = box.run(spec, overlay=None)
    assert result.status == 1
    assert "Read-only file system" in result.output


def test_waits_for_start(box: Box) -> None:
    with output() as (reader, writer):
        container = box.create(box.spec("sh", "-c", "echo started"), Stdio(-1, writer, writer))
        os.close(writer)
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        os.set_blocking(reader, True)
        container.start()
        wait(container, "running")
        assert drain(reader) == "started\n"
        assert status(container) == 0


def test_start_is_refused_twice(box: Box) -> None:
    container = box.start(box.spec("sleep", "100"))
    with pytest.raises(StepError, match="running, not created"):
        container.start()


@pytest.mark.parametrize(
    ("program", "code"), [("absent", errno.ENOENT), ("/absent", errno.ENOENT), ("/etc/plain", errno.EACCES)]
)
def test_a_program_that_cannot_run_is_named(box: Box, program: str, code: int) -> None:
    (box.layer / "etc").mkdir()
    (box.layer / "etc" / "plain").write_text("no program")
    with pytest.raises(StepError) as caught:
        box.start(box.spec(program))
    assert (caught.value.step, caught.value.errno, caught.value.path) == ("exec", code, program)


def test_a_step_that_fails_names_itself_and_the_path(box: Box) -> None:
    spec = box.spec("sh")
    spec["mounts"].append({"destination": "/data", "source": "/nonexistent/x", "options": ["bind"]})
    with pytest.raises(StepError) as caught:
        box.create(spec)
    assert (caught.value.step, caught.value.errno) == ("mounts", errno.ENOENT)
    assert caught.value.path == "/nonexistent/x"


def test_ends_when_the_caller_goes_away_before_start(box: Box) -> None:
    container = box.create(box.spec("sleep", "100"))
    container.channel.close()
    assert status(container) == 1


def test_network_sockets_live_in_the_container(box: Box) -> None:
    container = box.start(box.spec("sleep", "100"), network_sockets=True)
    assert sorted(container.sockets) == ["dns-tcp", "dns-udp", "netlink", "nfnetlink"]
    for name in ("dns-udp", "dns-tcp"):
        with socket.socket(fileno=os.dup(container.sockets[name])) as end:
            address, port = end.getsockname()
            assert address == "127.0.0.11"
            assert port not in (0, 53)
            if name == "dns-tcp":
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    with socket.socket(fileno=os.dup(container.sockets["nfnetlink"])) as rules:
        assert (rules.family, rules.proto) == (socket.AF_NETLINK, 12)


def test_enters_its_control_group_in_every_hierarchy(box: Box) -> None:
    path = f"/{box.name}"
    spec = box.spec("sleep", "100", cgroupsPath=path, resources={"pids": {"limit": 20}})
    container = box.start(spec)
    rows = Path(f"/proc/{container.pid}/cgroup").read_text().split()
    assert {row.rpartition(":")[2] for row in rows} == {path}
    assert all(
        row.endswith(":/") for row in box.exec(container, spec, "cat", "/proc/self/cgroup").output.split()
    )


def test_many_hold_nothing_of_each_other(box: Box) -> None:
    """They hold copies of nothing of each other's: each one ends when its own caller goes."""
    containers = [box.create(box.spec("sleep", "100")) for _ in range(10)]
    for container in containers:
        container.channel.close()
    assert [status(container) for container in containers] == [1] * 10


def test_a_filter_that_cannot_be_compiled_is_a_step_too(box: Box) -> None:
    with pytest.raises(StepError, match="SCMP_ACT_NOTIFY is not supported") as caught:
        box.create(box.spec("sh", seccomp={"defaultAction": "SCMP_ACT_NOTIFY"}))
    assert caught.value.step == "seccomp"


def test_a_missing_field_is_named(box: Box) -> None:
    spec = box.spec("sh")
    spec["mounts"].append({"type": "tmpfs"})
    with pytest.raises(StepError, match="the field 'destination' is missing"):
        box.create(spec)


def test_a_process_without_arguments_is_refused(box: Box) -> None:
    with pytest.raises(StepError, match=r"process\.args: is empty"):
        box.create(box.spec())
