"""What must hold when something is killed, started twice, or talked to by a stranger."""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.keeper.client import Keeper, KeeperGoneError, RefusedError
from composer.keeper.guard import fork_guard
from composer.keeper.launch import address, launch
from composer.keeper.loop import Loop
from composer.keeper.serve import Guard
from composer.keeper.wire import HELLO, encode, rights
from tests.keeper.conftest import DEADLINE, SUPERVISOR, Corner, gone, readable, wait_exit
from tests.leaks import processes

pytestmark = pytest.mark.kernel


def keeper_of(supervisor: int) -> int:
    """The keeper's pid, told by its supervisor's."""
    return int(Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1])


def guard_of(keeper: int, *, other_than: int = 0) -> int:
    """The guard's pid, once there is one."""
    while True:
        for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
            if int(pid) != other_than and Path(f"/proc/{pid}/comm").read_text() == "composer-guard\n":
                return int(pid)


def kill(pid: int) -> None:
    """Kill, and wait for the end."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert readable(pidfd)
    os.close(pidfd)


def kill_keeper(corner: Corner) -> None:
    """Kill the keeper. Everything it had ends by itself, but for the supervisor, which here does not care."""
    supervisor = corner.supervisor()
    keeper = keeper_of(supervisor)
    children = map(int, Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split())
    pidfds = [os.pidfd_open(pid) for pid in children if pid != supervisor]
    assert len(pidfds) >= 2
    kill(keeper)
    for pidfd in pidfds:
        assert readable(pidfd)
        os.close(pidfd)
    kill(supervisor)


def test_no_line_is_lost_while_the_supervisor_dies(corner: Corner, keeper: Keeper) -> None:
    """A container prints numbered lines as fast as it can; meanwhile one ends, and none starts anew."""
    corner.start(keeper, "c", "seq", "1", "3000000", log={"max_size": 0})
    corner.start(keeper, "brief", "sh", "-c", "read line; exit 9", stdin=True)
    before = {entry["id"]: entry["pid"] for entry in keeper.call("list")["containers"]}
    old = corner.supervisor()
    kill(old)
    keeper.call("close_stdin", id="brief")
    assert corner.supervisor() != old
    keeper.close()

    successor = corner.client()
    successor.call("subscribe")
    listed = {entry["id"]: entry for entry in successor.call("list")["containers"]}
    assert {name: entry["pid"] for name, entry in listed.items()} == before
    while not all("exit" in entry for entry in listed.values()):
        successor.event()
        listed = {entry["id"]: entry for entry in successor.call("list")["containers"]}
    assert listed["brief"]["exit"]["code"] == 9
    assert listed["c"]["exit"]["code"] == 0
    printed = corner.printed("c")
    assert printed.count(b"\n") == 3_000_000
    assert printed == b"".join(b"%d\n" % number for number in range(1, 3_000_001))


def test_a_supervisor_that_dies_again_and_again_is_started_again(corner: Corner, keeper: Keeper) -> None:
    seen = set()
    for _ in range(4):
        pid = corner.supervisor()
        assert pid not in seen
        seen.add(pid)
        kill(pid)
    event = keeper.event()
    assert event["event"] == "supervisor"
    assert corner.supervisor() not in seen
    assert keeper.call("list")["supervisor"]["starts"] == 5


def test_a_supervisor_that_cannot_work_ends_the_keeper(corner: Corner) -> None:
    assert corner.launch("/bin/false")
    gone(corner.run / "life")
    assert not (corner.run / "keeper.sock").exists()


def test_a_supervisor_that_is_gone_from_the_disk_with_no_room_to_say_so(corner: Corner) -> None:
    program = corner.root / "supervisor"
    program.symlink_to(sys.executable)
    corner.diagnostics = Path("/dev/full")
    assert corner.launch(str(program), "-I", "-S", "-c", SUPERVISOR, str(corner.root))
    keeper = corner.client()
    corner.start(keeper, "c", "sleep", "1000")
    program.unlink()
    kill(corner.supervisor())
    while keeper.call("list")["supervisor"]["starts"] < 3:
        pass
    assert keeper.call("list")["supervisor"]["pid"] == 0
    program.symlink_to(sys.executable)
    assert corner.supervisor()
    assert [entry["state"] for entry in keeper.call("list")["containers"]] == ["running"]
    corner.diagnostics = corner.root / "diagnostics.log"


def test_its_interpreter_cannot_be_overwritten(corner: Corner, keeper: Keeper) -> None:
    """CVE-2019-5736: the container's program is the file that the keeper runs."""
    change = "import os; os.chmod('/proc/self/exe', os.stat('/proc/self/exe').st_mode)"
    corner.start(keeper, "c", "/proc/self/exe", "-ISc", change)
    assert wait_exit(keeper, "c")["code"] == 1
    assert b"Read-only file system" in corner.printed("c", "stderr")


@pytest.mark.parametrize("uid", [0, 65534])
def test_containers_end_with_the_keeper(corner: Corner, keeper: Keeper, uid: int) -> None:
    """Also when they changed their user on the way, which ends what a parent's death would signal."""
    rights = ["CAP_SETUID", "CAP_SETGID"]
    sets = ("bounding", "permitted", "effective")
    process = {"capabilities": dict.fromkeys(sets, rights)}
    words = ("setpriv", "--reuid", str(uid), "--clear-groups", "sleep", "1000")
    pids = [corner.start(keeper, f"c{number}", *words, process=process) for number in range(3)]
    while any(Path(f"/proc/{pid}").stat().st_uid != uid for pid in pids):
        keeper.call("list")
    pids.append(corner.create(keeper, "created", "true"))
    pidfds = [os.pidfd_open(pid) for pid in pids]
    kill_keeper(corner)
    for pidfd in pidfds:
        assert readable(pidfd)
        os.close(pidfd)
    with pytest.raises(KeeperGoneError):
        keeper.call("list")
    assert corner.launch()
    assert corner.client().call("list")["containers"] == []


def test_a_guard_that_was_killed_is_replaced(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sleep", "1000")
    main = keeper_of(corner.supervisor())
    first = guard_of(main)
    kill(first)
    assert guard_of(main, other_than=first)
    keeper.call("list")
    kill_keeper(corner)


def test_a_guard_that_does_not_listen_is_killed() -> None:
    sock, pid = fork_guard()
    guard = Guard(Loop(), sock.detach(), pid, held=list)
    os.kill(pid, signal.SIGSTOP)
    with subprocess.Popen(["sleep", "1000"]) as held:
        pidfd = os.pidfd_open(held.pid)
        for _ in range(2000):
            guard.add(pidfd)
        os.close(pidfd)
        held.kill()
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    guard.end()


def test_two_starters_at_once_make_one_keeper(corner: Corner) -> None:
    pause = [sys.executable, "-c", "import signal; signal.pause()"]
    code = (
        "import sys; from pathlib import Path; from composer.keeper.launch import launch; sys.stdin.read(); "
    )
    code += f"print(launch(Path({str(corner.run)!r}), {pause!r}, Path({str(corner.diagnostics)!r})))"
    starters = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin
        starter.stdin.close()
    said = []
    for starter in starters:
        assert starter.stdout
        said.append(starter.stdout.read())
        starter.stdout.close()
        starter.wait()
    assert sorted(said) == [b"False\n"] * 3 + [b"True\n"]
    assert corner.client().call("list")["supervisor"]["starts"] == 1


def test_the_keeper_holds_no_descriptor_of_its_starter(corner: Corner) -> None:
    """Whoever waits for the end of the starter's output does not wait for the keeper."""
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    assert corner.launch()
    os.close(theirs)
    with open(ours, "rb") as pipe:
        assert pipe.read() == b""


def test_a_run_directory_with_a_long_name(corner: Corner) -> None:
    run = corner.root / ("x" * 120) / "run"
    assert launch(run, [sys.executable, "-c", "import signal; signal.pause()"], corner.diagnostics)
    with Keeper(run) as keeper:
        keeper.call("quit")
    gone(run / "life")


def test_the_sockets_are_the_owners_alone(corner: Corner, keeper: Keeper) -> None:
    for name in ("keeper.sock", "api.sock"):
        assert (corner.run / name).stat().st_mode & 0o777 == 0o600


def test_a_stranger_is_not_served(corner: Corner, keeper: Keeper) -> None:
    for path in (corner.root, corner.run, corner.run / "keeper.sock"):
        path.chmod(0o777)
    code = (
        "import os, socket; s = socket.socket(socket.AF_UNIX); os.setuid(65534); "
        f"s.connect({str(corner.run / 'keeper.sock')!r}); s.settimeout(20); print(len(s.recv(100)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    keeper.call("list")


def test_descriptors_are_kept_over_the_supervisors_death(corner: Corner, keeper: Keeper) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        keeper.call("put", name="dns", fds={"socket": held.fileno()})
    kill(corner.supervisor())
    corner.supervisor()
    successor = corner.client()
    assert successor.call("list")["descriptors"] == ["dns"]
    with socket.socket(fileno=successor.call("take", name="dns")["fds"]["dns"]) as again:
        assert again.getsockname()[1] == port
    successor.call("drop", name="dns")
    with pytest.raises(RefusedError) as refused:
        successor.call("take", name="dns")
    assert refused.value.kind == "absent"


def test_quit_waits_for_nobody_unless_told(corner: Corner, keeper: Keeper) -> None:
    corner.start(keeper, "c", "sleep", "1000")
    with pytest.raises(RefusedError, match="running"):
        keeper.call("quit")
    supervisor = os.pidfd_open(corner.supervisor())
    keeper.call("quit", kill=True)
    assert wait_exit(keeper, "c")["signal"] == signal.SIGKILL
    assert not (corner.run / "keeper.sock").exists()
    assert not (corner.run / "api.sock").exists()
    assert readable(supervisor)
    os.close(supervisor)
    gone(corner.run / "life")


@pytest.fixture
def raw(corner: Corner, keeper: Keeper) -> Iterator[socket.socket]:
    directory = os.open(corner.run, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(address(directory, "keeper.sock"))
        os.close(directory)
        yield sock


def mutations(seed: int) -> Iterator[bytes]:
    """Frames that are nearly right, and then none at all."""
    chance = random.Random(seed)
    values = [None, 1, -1, 2**70, "", "c", "x" * 5000, [], {}, {"a": [1]}, True, 1.5, ["fds"]]
    verbs = ["create", "start", "exec", "signal", "list", "stream", "close_stdin", "forget", "put", "take"]
    verbs += ["drop", "reopen_log", "nothing"]
    keys = ["id", "bundle", "log", "name", "signo", "container", "process", "overlay", "fds", "verb", "kill"]
    for _ in range(30):
        message = {"number": 1, "verb": chance.choice(verbs)}
        message |= {chance.choice(keys): chance.choice(values) for _ in range(chance.randrange(6))}
        yield encode(message)
    yield chance.randbytes(chance.randrange(1, 3000))


@pytest.mark.parametrize("seed", range(20))
def test_garbage_does_not_end_the_keeper(
    corner: Corner, keeper: Keeper, raw: socket.socket, seed: int
) -> None:
    raw.sendall(encode(HELLO))
    with open(os.devnull) as null:
        try:
            for data in mutations(seed):
                raw.sendmsg([data], rights([null.fileno()] * (seed % 3)))
        except (BrokenPipeError, ConnectionResetError):
            pass
    raw.close()
    assert keeper.call("list")["containers"] == []
    held, deadline = f"/proc/{keeper_of(corner.supervisor())}/fd", time.monotonic() + DEADLINE
    while len(os.listdir(held)) >= 20:  # it has not read all of it yet
        assert time.monotonic() < deadline
        keeper.call("list")


def test_another_version_is_refused_with_a_sentence(raw: socket.socket) -> None:
    raw.sendall(encode({"keeper": 999}))
    raw.settimeout(30)
    said = b""
    while data := raw.recv(1000):
        said += data
    assert b"version 1" in said


def test_a_client_that_does_not_read_is_let_go(corner: Corner, keeper: Keeper, raw: socket.socket) -> None:
    raw.sendall(encode(HELLO))
    name = secrets.token_hex(100)
    frame = encode({"number": 1, "verb": "take", "id": name, "name": name}) * 100

    def flood() -> None:
        try:
            while True:
                raw.sendall(frame)
        except OSError:
            pass

    thread = threading.Thread(target=flood)
    thread.start()
    while thread.is_alive():
        keeper.call("list")
    thread.join()


def test_the_life_file_is_locked_exactly_as_long_as_the_keeper_lives(corner: Corner, keeper: Keeper) -> None:
    with open(corner.run / "life") as life:
        with pytest.raises(BlockingIOError):
            fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
        corner.start(keeper, "c", "sleep", "1000")
        kill_keeper(corner)
        fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_quit_gives_up_what_is_in_the_making(corner: Corner, keeper: Keeper) -> None:
    for number in range(8):
        bundle = str(corner.bundle(f"c{number}", "sleep", "1000"))
        keeper.send("create", id=f"c{number}", bundle=bundle, log={"driver": "none"})
    keeper.call("quit", kill=True)
    gone(corner.run / "life")
    for found in processes(corner.root.name):  # they end when they find nobody at the other end
        try:
            pidfd = os.pidfd_open(int(found.split()[1].rstrip(":")))
        except ProcessLookupError:
            continue
        assert readable(pidfd)
        os.close(pidfd)
