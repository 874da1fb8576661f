"""Containers that other OCI runtimes make: held, heard and ended as our own."""

from __future__ import annotations

import os
import shutil
import socket
from typing import Any

import pytest

from composer.keeper.client import Keeper, RefusedError
from composer.runtime import cgroup
from tests.keeper.conftest import Corner, gone, readable, wait_exit

pytestmark = pytest.mark.kernel


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    if name == "crun" and cgroup.layout().kind == "hybrid":
        pytest.skip("crun refuses hybrid control groups")
    return name


def test_output_and_exit_status(corner: Corner, keeper: Keeper, runtime: str) -> None:
    corner.start(keeper, "c", "sh", "-c", "echo out; echo err >&2; echo $$; exit 7", runtime=runtime)
    assert wait_exit(keeper, "c")["code"] == 7
    assert corner.printed("c") == b"out\n1\n"
    assert corner.printed("c", "stderr") == b"err\n"


def test_waits_for_its_start_and_can_be_entered(corner: Corner, keeper: Keeper, runtime: str) -> None:
    pid = corner.create(keeper, "c", "sh", "-c", "echo here > /shared/began; sleep 100", runtime=runtime)
    assert not (corner.root / "shared" / "began").exists()
    keeper.call("start", id="c")
    reader, writer = os.pipe()
    process = corner.process("sh", "-c", "readlink /proc/self/ns/pid; cat /shared/began")
    keeper.call("exec", id="e", container="c", process=process, fds={"stdout": writer})
    os.close(writer)
    assert wait_exit(keeper, "e")["code"] == 0
    with os.fdopen(reader) as said:
        assert said.read().split() == [os.readlink(f"/proc/{pid}/ns/pid"), "here"]
    keeper.call("signal", id="c", signo=9)
    assert wait_exit(keeper, "c")["signal"] == 9


def test_layers_are_nobody_elses_to_see(corner: Corner, keeper: Keeper, runtime: str) -> None:
    """Nothing of the root shows in the host's mount table, and the writes are in the upper layer."""
    bundle = corner.bundle("c", "sh", "-c", "echo x > /new; cat /lower")
    (corner.root / "layer").mkdir()
    (corner.root / "layer" / "lower").write_text("of the layer\n")
    for name in ("upper", "work"):
        (corner.root / name).mkdir()
    lowers = [str(corner.root / "layer"), str(bundle / "rootfs2")]
    os.rename(bundle / "rootfs", bundle / "rootfs2")
    (bundle / "rootfs").mkdir()
    overlay = {"lowers": lowers, "upper": str(corner.root / "upper"), "work": str(corner.root / "work")}
    log = {"path": str(corner.log("c"))}
    keeper.call("create", id="c", bundle=str(bundle), log=log, overlay=overlay, runtime=runtime)
    with open("/proc/self/mountinfo") as table:
        assert str(bundle) not in table.read()
    keeper.call("start", id="c")
    assert wait_exit(keeper, "c")["code"] == 0
    assert corner.printed("c") == b"of the layer\n"
    assert (corner.root / "upper" / "new").read_text() == "x\n"


def test_the_sockets_of_its_network(corner: Corner, keeper: Keeper, runtime: str) -> None:
    bundle = corner.bundle("c", "sleep", "100")
    log = {"path": str(corner.log("c"))}
    more: dict[str, Any] = {"network_sockets": True, "runtime": runtime}
    answer = keeper.call("create", id="c", bundle=str(bundle), log=log, **more)
    assert sorted(answer["fds"]) == ["dns-tcp", "dns-udp", "netlink", "nfnetlink", "pidfd"]
    with socket.socket(fileno=answer["fds"].pop("dns-udp")) as udp:
        assert udp.getsockname()[0] == "127.0.0.11"
    for fd in answer["fds"].values():
        os.close(fd)
    keeper.call("forget", id="c")


def test_a_terminal(corner: Corner, keeper: Keeper, runtime: str) -> None:
    corner.start(
        keeper,
        "c",
        "sh",
        "-c",
        "tty; stty size",
        tty=True,
        runtime=runtime,
        process={"consoleSize": {"height": 33, "width": 99}},
    )
    assert wait_exit(keeper, "c")["code"] == 0
    assert corner.printed("c").split() == [b"/dev/pts/0", b"33", b"99"]


def test_again_from_the_same_bundle(corner: Corner, keeper: Keeper, runtime: str) -> None:
    corner.start(keeper, "c", "true", runtime=runtime)
    for _ in range(2):
        assert wait_exit(keeper, "c")["code"] == 0
        keeper.call("forget", id="c")
        place = corner.root / "bundles" / "c"
        keeper.call("create", id="c", bundle=str(place), log={"path": str(corner.log("c"))}, runtime=runtime)
        keeper.call("start", id="c")
    assert wait_exit(keeper, "c")["code"] == 0


@pytest.mark.parametrize(
    ("name", "number"), [("/absent", 2), ("absent", 2), ("/shared/plain", 13), ("/bin/busybox/x", 20)]
)
def test_a_program_that_cannot_be_run_is_told_from_a_runtime_that_fails(
    corner: Corner, keeper: Keeper, runtime: str, name: str, number: int
) -> None:
    """So that the exit code is 127 or 126, as with our own runtime, and not 125."""
    bundle = corner.bundle("c", name)
    (corner.root / "shared").mkdir(exist_ok=True)
    (corner.root / "shared" / "plain").touch()
    log = {"path": str(corner.log("c"))}
    with pytest.raises(RefusedError) as caught:
        keeper.call("create", id="c", bundle=str(bundle), log=log, runtime=runtime)
        keeper.call("start", id="c")
    assert (caught.value.step, caught.value.errno, caught.value.path) == ("exec", number, name)
    assert keeper.call("list")["containers"] == []


def test_one_that_is_not_installed(corner: Corner, keeper: Keeper) -> None:
    with pytest.raises(RefusedError, match="no such program on PATH") as caught:
        corner.create(keeper, "c", "true", runtime="no-such-runtime")
    assert "no-such-runtime" in str(caught.value.__dict__)


def test_given_up_before_its_start(corner: Corner, keeper: Keeper, runtime: str) -> None:
    pid = corner.create(keeper, "c", "sleep", "100", runtime=runtime)
    pidfd = os.pidfd_open(pid)
    keeper.call("forget", id="c")
    assert readable(pidfd)
    os.close(pidfd)
    assert keeper.call("list")["containers"] == []
    keeper.call("quit")
    gone(corner.run / "life")
