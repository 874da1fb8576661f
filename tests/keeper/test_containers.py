"""Containers in the hands of a real keeper: their ends, their output, what runs in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from composer.keeper.client import Keeper, RefusedError
from composer.keeper.drain import MOST_SAID
from tests.keeper.conftest import Corner, readable, wait_exit

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("exit 0", {"code": 0}),
        ("exit 3", {"code": 3}),
        ("exit 255", {"code": 255}),
        ("sh -c 'kill -9 $$'; exit $?", {"code": 137}),
    ],
)
def test_exit_codes_are_exact(corner: Corner, keeper: Keeper, script: str, end: dict[str, int]) -> None:
    corner.start(keeper, "c", "sh", "-c", script)
    event = wait_exit(keeper, "c")
    assert end.items() <= event.items()
    assert "signal" not in event
    assert event["time"] > event["monotonic"] > 0


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGTERM])
def test_exit_by_a_signal_is_told_as_such(corner: Corner, keeper: Keeper, signo: int) -> None:
    # A pid namespace's first process gets only signals that it handles, and SIGKILL.
    script = "trap - TERM; python3 -c 'import signal; signal.pause()'"
    corner.start(keeper, "c", "sh", "-c", f"{script}; exit 0")
    keeper.call("signal", id="c", signo=signal.SIGKILL)
    event = wait_exit(keeper, "c")
    assert event["signal"] == signal.SIGKILL
    with pytest.raises(RefusedError) as refused:
        keeper.call("signal", id="c", signo=signo)
    assert refused.value.kind == "state"


def test_fifty_at_once(corner: Corner, keeper: Keeper) -> None:
    names = [f"c{number}" for number in range(50)]
    for number, name in enumerate(names):
        corner.bundle(name, "sh", "-c", f"echo {name}; exit {number}")
    made = [
        keeper.send(
            "create",
            id=name,
            bundle=str(corner.root / "bundles" / name),
            log={"path": str(corner.log(name))},
        )
        for name in names
    ]
    for number in made:
        os.close(keeper.result(number)["fds"]["pidfd"])
    for number in [keeper.send("start", id=name) for name in names]:
        keeper.result(number)
    ends = [keeper.event() for _ in names]
    assert {event["id"]: event["code"] for event in ends} == {name: i for i, name in enumerate(names)}
    assert all(corner.printed(name) == f"{name}\n".encode() for name in names)
    assert len(keeper.call("list")["containers"]) == 50
    for name in names:
        keeper.call("forget", id=name)
    assert keeper.call("list")["containers"] == []


def test_both_streams_are_in_the_log(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sh", "-c", "echo out; echo err >&2; printf unfinished")
    wait_exit(keeper, "c")
    assert corner.printed("c") == b"out\nunfinished\n"
    assert corner.printed("c", "stderr") == b"err\n"


def test_everything_is_on_disk_before_the_exit_is_told(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sh", "-c", "seq 1 200000")
    wait_exit(keeper, "c")
    assert corner.printed("c") == b"".join(b"%d\n" % number for number in range(1, 200_001))


def test_rotation(corner: Corner, keeper: Keeper) -> None:
    log = {"max_size": 50_000, "max_file": 3}
    corner.start(keeper, "c", "sh", "-c", "seq 1 20000", log=log)
    wait_exit(keeper, "c")
    files = [corner.root / f"c.log{suffix}" for suffix in ("", ".1", ".2")]
    assert all(0 < file.stat().st_size <= 50_000 for file in files)
    assert not Path(f"{files[0]}.3").exists()
    assert corner.printed("c").endswith(b"\n20000\n")


def test_the_driver_none_keeps_nothing(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sh", "-c", "seq 1 100000; exit 4", log={"driver": "none"})
    assert wait_exit(keeper, "c")["code"] == 4
    assert not corner.log("c").exists()


def test_standard_input_by_a_handed_out_pipe(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sh", "-c", "cat; echo end", stdin=True)
    fd = keeper.call("stream", id="c")["fds"]["stdin"]
    with open(fd, "wb") as pipe:
        pipe.write(b"one\ntwo\n")
    keeper.call("close_stdin", id="c")
    wait_exit(keeper, "c")
    assert corner.printed("c") == b"one\ntwo\nend\n"


def test_a_terminal(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sh", "-c", "tty; stty size; read line; echo got $line", tty=True)
    fd = keeper.call("stream", id="c")["fds"]["tty"]
    os.write(fd, b"word\n")
    os.close(fd)
    wait_exit(keeper, "c")
    lines = corner.printed("c").replace(b"\r", b"").splitlines()
    lines.remove(b"word")  # the echo, which may come first
    assert lines[0] in (b"/dev/pts/0", b"/dev/console")
    assert lines[2:] == [b"got word"]


def test_exec_with_the_callers_own_descriptors(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sleep", "1000")
    given, theirs_in = os.pipe()
    ours_out, taken = os.pipe()
    process = corner.process("sh", "-c", "cat; echo $$ >&2; exit 7")
    fds = {"stdin": given, "stdout": taken}
    answer = keeper.call("exec", id="e", container="c", process=process, fds=fds)
    assert answer["pid"] > 0
    os.close(given)
    os.close(taken)
    os.write(theirs_in, b"through")
    os.close(theirs_in)
    with open(ours_out, "rb") as pipe:
        assert pipe.read() == b"through"
    assert wait_exit(keeper, "e")["code"] == 7
    keeper.call("forget", id="e")


def test_exec_into_the_log_of_its_container(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sleep", "1000")
    process = corner.process("sh", "-c", "seq 1000; echo trouble >&2; exit 4")
    keeper.call("exec", id="e", container="c", process=process, log=True)
    event = wait_exit(keeper, "e")
    assert event["code"] == 4
    assert event["said"].endswith("\n1000\ntrouble\n")
    assert len(event["said"]) <= MOST_SAID
    assert corner.printed("c").splitlines()[-1] == b"1000"
    assert corner.printed("c", "stderr") == b"trouble\n"
    keeper.call("forget", id="e")


def test_what_an_exec_into_the_log_leaves_behind_may_print_on(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sh", "-c", "while [ ! -e /tmp/done ]; do sleep 0.05; done")
    process = corner.process("sh", "-c", "(echo early; read x < /tmp/fifo; echo late; : > /tmp/done) & :")
    keeper.call("exec", id="m", container="c", process=corner.process("mkfifo", "/tmp/fifo"))
    wait_exit(keeper, "m")
    keeper.call("exec", id="e", container="c", process=process, log=True)
    wait_exit(keeper, "e")
    keeper.call("forget", id="e")
    keeper.call("exec", id="w", container="c", process=corner.process("sh", "-c", "echo > /tmp/fifo"))
    assert wait_exit(keeper, "c")["code"] == 0
    assert corner.printed("c") == b"early\nlate\n"


def test_exec_with_a_terminal(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sleep", "1000")
    process = corner.process("sh", "-c", "tty; exit 3", terminal=True)
    master = keeper.call("exec", id="e", container="c", process=process)["fds"]["tty"]
    said = b""
    try:
        while readable(master) and (data := os.read(master, 100)):
            said += data
    except OSError:
        pass
    os.close(master)
    assert said.startswith(b"/dev/pts/")
    assert wait_exit(keeper, "e")["code"] == 3


def test_an_exec_is_forgotten_when_nobody_is_there_to_hear_its_end(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sleep", "1000")
    with Keeper(corner.run) as other:
        other.call("exec", id="e", container="c", process=corner.process("sleep", "1000"))
    keeper.call("signal", id="e", signo=signal.SIGKILL)
    assert wait_exit(keeper, "e")["signal"] == signal.SIGKILL
    assert [entry["id"] for entry in keeper.call("list")["containers"]] == ["c"]


@pytest.mark.parametrize("args", [["no-such-program"], ["/proc/1/nothing"], ["/usr"]])
def test_a_program_that_cannot_be_executed(corner: Corner, keeper: Keeper, args: list[str]) -> None:
    with pytest.raises(RefusedError) as refused:
        corner.start(keeper, "c", *args)
    assert (refused.value.kind, refused.value.step) == ("step", "exec")
    assert refused.value.errno
    assert keeper.call("list")["containers"] == []
    corner.start(keeper, "d", "true")
    wait_exit(keeper, "d")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.pop("process"),
        lambda spec: spec["process"].update(args=[]),
        lambda spec: spec.update(mounts=[{"destination": "/x", "type": "bind", "source": "/absent"}]),
        lambda spec: spec.update(linux=5),
    ],
)
def test_a_broken_specification_is_refused(corner: Corner, keeper: Keeper, spoil: object) -> None:
    bundle = corner.bundle("c", "true")
    spec = json.loads((bundle / "config.json").read_text())
    spoil(spec)  # type: ignore[operator]
    (bundle / "config.json").write_text(json.dumps(spec))
    with pytest.raises(RefusedError):
        keeper.call("create", id="c", bundle=str(bundle), log={"path": str(corner.log("c"))})
    assert keeper.call("list")["containers"] == []


def test_a_container_killed_before_its_start_has_an_exit(corner: Corner, keeper: Keeper) -> None:
    corner.create(keeper, "c", "true")
    keeper.call("signal", id="c", signo=signal.SIGKILL)
    assert wait_exit(keeper, "c")["signal"] == signal.SIGKILL
    with pytest.raises(RefusedError, match="ended"):
        keeper.call("start", id="c")


def test_a_container_that_was_never_started_can_be_forgotten(corner: Corner, keeper: Keeper) -> None:
    pid = corner.create(keeper, "c", "true")
    pidfd = os.pidfd_open(pid)
    keeper.call("forget", id="c")
    assert readable(pidfd)
    os.close(pidfd)


def test_a_flood_delays_no_exit(corner: Corner, keeper: Keeper) -> None:
    """The other container's end is told while the flood goes on."""
    corner.start(keeper, "flood", "sh", "-c", "yes | head -c 2000000000", log={"max_size": 1 << 20})
    for number in range(5):
        corner.start(keeper, f"c{number}", "sh", "-c", f"exit {number}")
        assert wait_exit(keeper, f"c{number}")["code"] == number
    assert [c["state"] for c in keeper.call("list")["containers"] if c["id"] == "flood"] == ["running"]
    keeper.call("signal", id="flood", signo=signal.SIGKILL)
    assert wait_exit(keeper, "flood")["signal"] == signal.SIGKILL


def test_dispositions_and_limits_are_the_containers_own(corner: Corner, keeper: Keeper) -> None:
    corner.start(
        keeper, "c", "sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status; ulimit -Sn; ls /proc/1/fd"
    )
    wait_exit(keeper, "c")
    lines = corner.printed("c").split()
    assert lines[1] == lines[3] == b"0000000000000000"
    soft = subprocess.run(["sh", "-c", "ulimit -Sn"], capture_output=True, text=True).stdout
    assert lines[4].decode() == soft.strip()
    assert lines[5:] == [b"0", b"1", b"2"]
