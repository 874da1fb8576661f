"""Killing our own processes at any moment: nothing is lost, the next command converges, nothing remains."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from tests.host import Host, Stack

pytestmark = pytest.mark.kernel

NOISY = """
    services:
      noisy:
        image: host
        init: true
        command: [sh, -c, "i=0; while [ $$i -lt 60000 ]; do i=$$((i+1)); echo $$i; done; sleep 1000"]
      web:
        image: host
        init: true
        command: [python3, -m, http.server, "80"]
        ports: ["80"]
      short:
        image: host
        command: [sh, -c, "read line < /gate; exit 7"]
        volumes: ["./gate:/gate"]
"""


def processes(stack: Stack, role: str) -> list[int]:
    """Pids of the stack's `keeper` or `supervisor`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            program = words[4] if len(words) > 4 else b""
            if f"composer.{role}.main".encode() in program and any(
                w.endswith(b"/stacks/" + stack.name.encode()) for w in words[5:7]
            ):
                found.append(int(entry.name))
    return sorted(found)


def kill(pid: int) -> None:
    """kill -9, and wait until it is gone."""
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([descriptor], [], [], 10)
    os.close(descriptor)


def until(condition: object, seconds: float = 20.0) -> None:
    """Poll something that has no event to wait for, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come true in time"
        select.select([], [], [], 0.05)


def test_a_killed_supervisor_loses_nothing(host: Host) -> None:
    """No line lost or doubled, no container restarted, names and ports work again, exit codes are right."""
    stack = host.stack(NOISY)
    os.mkfifo(stack.folder / "gate")
    stack.ok("up", "-d")
    before = stack.ps()
    (pid,) = processes(stack, "supervisor")
    kill(pid)
    with open(stack.folder / "gate", "w") as gate:
        gate.write("go\n")  # one container ends while nobody supervises
    until(lambda: [p for p in processes(stack, "supervisor") if p != pid])
    until(lambda: {r["Service"]: r["ExitCode"] for r in stack.ps().values()}["short"] == 7)
    after = stack.ps()
    assert {n: r["ID"] for n, r in after.items()} == {n: r["ID"] for n, r in before.items()}
    assert {r["Service"]: r["State"] for r in after.values()} == {
        "noisy": "running",
        "web": "running",
        "short": "exited",
    }
    name = "import socket; print(socket.gethostbyname('noisy'))"
    assert stack.ok("exec", "-T", "web", "python3", "-c", name).strip()
    port = next(p["PublishedPort"] for p in after[f"{stack.name}-web-1"]["Publishers"] if p["PublishedPort"])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        assert answer.status == 200
    until(lambda: stack.ok("logs", "--no-log-prefix", "--tail", "1", "noisy").strip() == "60000")
    lines = stack.ok("logs", "--no-log-prefix", "noisy").splitlines()
    assert lines == [str(number) for number in range(1, 60001)]


def test_a_killed_keeper_takes_its_containers_along(host: Host) -> None:
    """No strays; `ps` says so; the next `up` starts them again."""
    stack = host.stack(NOISY)
    os.mkfifo(stack.folder / "gate")
    stack.ok("up", "-d")
    record = json.loads((host.root / "state" / "stacks" / stack.name / "record.json").read_text())
    pids = [row["pid"] for row in record["containers"]]
    descriptors = [os.pidfd_open(pid) for pid in pids]
    for pid in processes(stack, "keeper"):
        with contextlib.suppress(ProcessLookupError):  # its guard, which may have done its work by now
            kill(pid)
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 10)[0], "a container outlived its keeper"
        os.close(descriptor)
    until(lambda: not processes(stack, "supervisor"))
    assert {row["State"] for row in stack.ps().values()} == {"exited"}
    assert {row["ExitCode"] for row in stack.ps().values()} == {137}
    stack.ok("up", "-d")
    assert {row["State"] for row in stack.ps().values()} == {"running"}


@pytest.mark.parametrize("verb", ["up", "down"])
@pytest.mark.parametrize("seed", range(3))
def test_a_command_killed_anywhere_is_finished_by_the_next(host: Host, verb: str, seed: int) -> None:
    """The CLI is killed after a random while; the same command again converges."""
    stack = host.stack(NOISY)
    os.mkfifo(stack.folder / "gate")
    if verb == "down":
        stack.ok("up", "-d")
    words = ["up", "-d"] if verb == "up" else ["down", "-t", "0"]
    process = stack.start(*words)
    select.select([], [], [], random.Random(seed).uniform(0.02, 0.5))
    process.kill()
    process.communicate()
    stack.ok(*words)
    states = {row["State"] for row in stack.ps().values()}
    assert states == ({"running"} if verb == "up" else set())


@pytest.mark.parametrize("seed", range(4))
def test_a_supervisor_killed_during_up_goes_on(host: Host, seed: int) -> None:
    """Whatever it had begun is taken up again by its successor or by the next `up`."""
    stack = host.stack(NOISY)
    os.mkfifo(stack.folder / "gate")
    process = stack.start("up", "-d")
    until(lambda: processes(stack, "supervisor"))
    select.select([], [], [], random.Random(seed).uniform(0.0, 0.3))
    for pid in processes(stack, "supervisor"):
        kill(pid)
    process.communicate()
    stack.ok("up", "-d")
    assert {row["State"] for row in stack.ps().values()} == {"running"}


WISHES = (
    ("up", "-d"),
    ("up", "-d", "--force-recreate", "-t", "0"),
    ("restart", "-t", "0"),
    ("stop", "-t", "0"),
    ("down", "-t", "0"),
    ("run", "--rm", "-T", "--no-deps", "web", "true"),
)
ROUNDS = 5
PAIR = """
    services:
      db: {image: host, init: true, command: [sleep, "1000"], volumes: ["data:/data"]}
      web:
        image: host
        init: true
        command: [sleep, "1000"]
        environment: {ROUND: "%d"}
        ports: ["80"]
        scale: 2
        depends_on: [db]
    volumes: {data: }
"""


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_killed_whenever_the_next_command_converges(host: Host, seed: int) -> None:
    """Command, supervisor, keeper and guard: some of them, in any order, during any wish."""
    dice = random.Random(seed)
    stack = host.stack(PAIR % 0)
    stack.ok("up", "-d")
    stack.ok("exec", "-T", "db", "sh", "-c", "echo kept > /data/kept")
    for number in range(ROUNDS):
        stack.rewrite(PAIR % dice.randrange(2))
        words = dice.choice(WISHES)
        process = stack.start(*words)
        victims = dice.sample(("command", "supervisor", "keeper"), dice.randint(1, 3))
        for victim in victims:
            select.select([], [], [], dice.uniform(0.0, 0.4))
            for pid in [process.pid] if victim == "command" else processes(stack, victim):
                kill(pid)
        process.communicate(timeout=60)
        story = f"round {number}: {words} without {victims}"
        done = stack("up", "-d")
        assert done.returncode == 0, f"{story}: {done.stderr}"
        rows = stack.ps()
        assert sorted(row["Service"] for row in rows.values() if row["State"] == "running") == [
            "db",
            "web",
            "web",
        ], story
        assert stack.ok("exec", "-T", "db", "cat", "/data/kept") == "kept\n", story
    stack.ok("down", "-t", "0", "-v")
    assert stack.ps() == {}
