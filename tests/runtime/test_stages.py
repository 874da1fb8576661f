"""Stages that stay: what one container leaves in them, and what becomes of those that wait."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.runtime import cgroup, linux
from composer.runtime.create import Pending, Stages, create
from composer.runtime.errors import StepError
from composer.runtime.pending import end
from tests.runtime.box import NOWHERE, Box, wait

pytestmark = pytest.mark.kernel
IOPRIO_GET = linux.NR_IOPRIO_SET + 1
MAP = [{"containerID": 0, "hostID": 300_000, "size": 65536}]


@pytest.fixture
def stages() -> Iterator[Stages]:
    stages = Stages(1)
    yield stages
    stages.rest()
    assert not children(), "a stage was left behind"


def children() -> list[int]:
    """The stages of this process: forks that execute nothing. Containers have a namespace of their own."""
    with open(f"/proc/self/task/{os.getpid()}/children") as pids:
        found = [Path("/proc", pid) for pid in pids.read().split()]
    return [int(pid.name) for pid in found if program(pid) == PROGRAM and space(pid) == SPACE]


def program(process: Path) -> bytes:
    return (process / "cmdline").read_bytes()


def space(process: Path) -> str:
    return os.readlink(process / "ns" / "pid")


PROGRAM, SPACE = program(Path("/proc/self")), space(Path("/proc/self"))


def descriptors(pid: int) -> list[str]:
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd"))


def make(box: Box, stages: Stages, **linux: object) -> Pending:
    """A container that waits to be started."""
    return box.create(box.spec("true", **linux), stages=stages, network_sockets=not linux)


def test_one_makes_many_and_keeps_nothing_of_them(box: Box, stages: Stages) -> None:
    make(box, stages)
    (stage,) = children()
    before = descriptors(stage)
    for _ in range(3):
        make(box, stages)
    assert children() == [stage]
    assert descriptors(stage) == before


def test_of_a_user_namespace_only_the_mappings_are_remembered(box: Box, stages: Stages) -> None:
    spec = box.spec("true", uidMappings=MAP, gidMappings=MAP, cgroupsPath=f"/{box.name}")
    spec["linux"]["namespaces"].append({"type": "user"})
    box.create(spec, stages=stages)
    (stage,) = children()
    before = descriptors(stage)
    assert before.count("user") == 1
    spec["linux"]["cgroupsPath"] += "-2"
    box.create(spec, stages=stages)
    assert descriptors(stage) == before


def test_what_is_inherited_does_not_stay(box: Box, stages: Stages) -> None:
    """Priorities of one container are not the next one's."""
    first = box.spec("cat", "/proc/self/oom_score_adj")
    first["process"] |= {"oomScoreAdj": 777, "ioPriority": {"class": "IOPRIO_CLASS_IDLE"}}
    assert box.run(first, stages=stages).output == "777\n"
    second = box.start(box.spec("sleep", "100"), stages=stages)
    own, other = (Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in ("self", second.pid))
    assert own == other
    assert linux.syscall(IOPRIO_GET, 1, second.pid) == linux.syscall(IOPRIO_GET, 1, 0)


def test_a_container_in_namespaces_of_others_leaves_the_stage_where_it_is(box: Box, stages: Stages) -> None:
    other = box.start(box.spec("sleep", "100"), stages=stages)
    (stage,) = children()
    spaces = {kind: os.readlink(f"/proc/{stage}/ns/{kind}") for kind in os.listdir(f"/proc/{stage}/ns")}
    spec = box.spec("ls", "-l", "/proc/self/ns/net")
    for row in spec["linux"]["namespaces"]:
        if row["type"] == "network":
            row["path"] = f"/proc/{other.pid}/ns/net"
    spec["linux"]["namespaces"].append({"type": "time"})
    assert os.readlink(f"/proc/{other.pid}/ns/net") in box.run(spec, stages=stages).output
    assert {kind: os.readlink(f"/proc/{stage}/ns/{kind}") for kind in spaces} == spaces


def test_after_an_error_there_is_a_new_one(box: Box, stages: Stages) -> None:
    make(box, stages)
    before = children()
    spec = box.spec("true")
    spec["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]})
    with pytest.raises(Exception, match="/no/such"):
        box.create(spec, stages=stages)
    make(box, stages)
    assert children() != before


def test_one_that_was_killed_is_replaced(box: Box, stages: Stages) -> None:
    stages.warm()
    (stage,) = children()
    with open(f"/proc/{stage}/stat"):
        pidfd = os.pidfd_open(stage)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    os.close(pidfd)
    make(box, stages)
    assert stage not in children()


def test_one_that_hangs_holds_up_the_others_only_until_it_is_given_up(box: Box, stages: Stages) -> None:
    """A fifo that nobody writes to, in place of a share that does not answer."""
    fifo = box.directory / "config"
    os.mkfifo(fifo)
    spec = box.spec("true")
    # Opening it as a namespace hangs.
    spec["linux"]["namespaces"] = [
        {"type": kind["type"], **({"path": str(fifo)} if kind["type"] == "ipc" else {})}
        for kind in spec["linux"]["namespaces"]
    ]
    hanging = begin(box, spec, stages)
    waiting, dropped = begin(box, box.spec("true"), stages), begin(box, box.spec("true"), stages)
    waiting.advance()
    assert waiting.state == "creating"
    dropped.close()
    hanging.close()
    wait(waiting, "created")


def begin(box: Box, spec: dict[str, object], stages: Stages) -> Pending:
    pending = create(spec, str(box.directory), NOWHERE, overlay=box.overlay(), stages=stages)
    box.pending.append(pending)
    return pending


def test_it_ends_with_its_maker(box: Box) -> None:
    """Its end is told by the socket: nothing has to remember it."""
    stages = Stages(1)
    stages.warm()
    (stage,) = children()
    pidfd = os.pidfd_open(stage)
    stages._idle[0].socket.close()
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    end(pidfd)
    os.close(pidfd)


def test_no_process_for_a_stage_is_an_error_of_the_container(box: Box) -> None:
    """In a process of its own, whose group may have no other."""
    group = cgroup.open(f"/{box.name}")
    group.create({"pids": {"limit": 1}})
    said, say = os.pipe()
    child = os.fork()
    if child == 0:
        group.join(os.getpid())
        pending = create(box.spec("true"), str(box.directory), NOWHERE, stages=Stages(2))
        with pytest.raises(StepError) as failure:
            pending.until("created")
        os.write(say, str(failure.value.errno).encode())
        os._exit(0)
    os.close(say)
    with open(said) as answer:
        assert answer.read() == str(errno.EAGAIN)
    os.waitpid(child, 0)
    group.remove()
