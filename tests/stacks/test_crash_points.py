"""The supervisor dies before and after every single action; two at once; and a machine that rebooted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host import Host, Stack
from tests.stacks.test_crash import kill, processes, until

pytestmark = pytest.mark.kernel

FILE = """
    services:
      db:
        image: host
        init: true
        stop_grace_period: 1s
        command: [sleep, "1000"]
        volumes: ["data:/data"]
        post_start: [{{command: ["true"]}}]
      web:
        image: host
        init: true
        stop_grace_period: 1s
        environment: {{VERSION: "{version}"}}
        command: [sleep, "1000"]
        ports: ["80"]
        depends_on: [db]
        deploy: {{update_config: {{order: {order}}}}}
    volumes: {{data: }}
"""
MOST = 60


def crashing(stack: Stack, *words: str) -> int:
    """Do it with a crash at each point in turn, and do it again; how many points there are."""
    file = stack.host.root / "crash"
    stack.host.environment["COMPOSER_CRASH_FILE"] = str(file)
    for number in range(MOST):
        file.write_text(str(number))
        stack(*words)
        crashed = not file.exists()
        file.unlink(missing_ok=True)
        stack.ok(*words)
        check_state(stack, words[0])
        if not crashed:
            return number
    raise AssertionError("it does not end")


def check_state(stack: Stack, verb: str) -> None:
    """Nothing is lost, doubled, or left half way."""
    rows = stack.ps()
    if verb == "down":
        assert rows == {}
        stack.ok("up", "-d")
        return
    assert sorted(row["Service"] for row in rows.values()) == ["db", "web"], rows
    assert {row["State"] for row in rows.values()} == {"running"}, rows
    published = [p for row in rows.values() for p in row["Publishers"] if p["PublishedPort"]]
    assert published, rows
    if verb == "up" and rows:
        stack.ok("down", "-t", "0")


def test_up_survives_a_crash_at_every_action(host: Host) -> None:
    stack = host.stack(FILE.format(version=1, order="stop-first"))
    assert crashing(stack, "up", "-d") >= 10


def test_down_survives_a_crash_at_every_action(host: Host) -> None:
    stack = host.stack(FILE.format(version=1, order="stop-first"))
    host.environment["COMPOSER_CRASH_FILE"] = str(host.root / "crash")
    stack.ok("up", "-d")
    assert crashing(stack, "down", "-t", "0") >= 8


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_a_replace_survives_a_crash_at_every_action(host: Host, order: str) -> None:
    stack = host.stack(FILE.format(version=0, order=order))
    file = host.root / "crash"
    host.environment["COMPOSER_CRASH_FILE"] = str(file)
    stack.ok("up", "-d")
    for number in range(MOST):
        stack.rewrite(FILE.format(version=number + 1, order=order))
        file.write_text(str(number))
        stack("up", "-d")
        crashed = not file.exists()
        file.unlink(missing_ok=True)
        stack.ok("up", "-d")
        rows = {row["Service"]: row for row in stack.ps().values()}
        assert len(stack.ps()) == 2
        assert {row["State"] for row in rows.values()} == {"running"}
        assert any(p["PublishedPort"] for p in rows["web"]["Publishers"])
        assert stack.ok("exec", "-T", "web", "sh", "-c", "echo $VERSION") == f"{number + 1}\n"
        if not crashed:
            break
    assert number >= 6


def test_what_a_power_cut_damaged_is_taken_from_the_files(host: Host) -> None:
    """What a container was made from is written without asking the disk."""
    stack = host.stack(FILE.format(version=1, order="stop-first"))
    stack.ok("up", "-d")
    stack.ok("stop", "-t", "0")
    until(lambda: not processes(stack, "supervisor"))
    for kept in Path(host.environment["COMPOSER_STATE_DIR"]).glob("stacks/*/containers/*/service.json"):
        kept.write_bytes(b"")
    stack.ok("start")
    assert {row["State"] for row in stack.ps().values()} == {"running"}


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_damaged_record_is_as_good_as_none(host: Host, verb: str) -> None:
    """Also to others: it keeps them from nothing; and no volume of it is taken for unused."""
    stack = host.stack(FILE.format(version=1, order="stop-first"))
    other = host.stack(FILE.format(version=1, order="stop-first"), "other")
    stack.ok("up", "-d")
    stack.ok("exec", "-T", "db", "sh", "-c", "echo kept > /data/file")
    stack.ok("stop", "-t", "0")
    until(lambda: not processes(stack, "supervisor"))
    (Path(host.environment["COMPOSER_STATE_DIR"]) / "stacks" / stack.name / "record.json").write_bytes(b"")
    assert stack.ps() == {}
    other.ok("up", "-d")
    assert other.name in other.ok("ls")
    other.ok("volume", "prune", "--all", "-f")
    other.ok("down", "-t", "0")
    if verb == "up":
        assert "the record of the stack was damaged" in stack("up", "-d").stderr
        assert stack.ok("exec", "-T", "db", "cat", "/data/file") == "kept\n"
    stack.ok("down", "-t", "0")
    assert "nothing of stack" in stack("down").stderr


def test_the_machine_rebooted(host: Host) -> None:
    """The run directory is gone, the state is there: `start --boot` brings back what is due, in order."""
    stack = host.stack(
        """
        services:
          web:
            image: host
            init: true
            restart: unless-stopped
            command: [sleep, "1000"]
            depends_on: {db: {condition: service_healthy}}
          db:
            image: host
            init: true
            restart: always
            command: [sleep, "1000"]
            healthcheck: {test: [CMD, "true"], interval: 100ms}
          stopped: {image: host, init: true, restart: unless-stopped, command: [sleep, "1000"]}
          plain: {image: host, init: true, command: [sleep, "1000"]}
        """
    )
    stack.ok("up", "-d")
    stack.ok("stop", "stopped")
    reboot(stack)
    assert {row["State"] for row in stack.ps().values()} == {"exited"}
    done = host.composer("-p", stack.name, "start", "--boot")
    assert done.returncode == 0, done.stderr
    until(lambda: states(stack)["web"] == "running")
    assert states(stack) == {"web": "running", "db": "running", "stopped": "exited", "plain": "exited"}
    record = json.loads((host.root / "state" / "stacks" / stack.name / "record.json").read_text())
    began = {row["service"]: row["started_at"] for row in record["containers"]}
    assert began["db"] < began["web"]
    stack.ok("up", "-d")
    assert set(states(stack).values()) == {"running"}


def states(stack: Stack) -> dict[str, str]:
    return {row["Service"]: row["State"] for row in stack.ps().values()}


def reboot(stack: Stack) -> None:
    """Everything ended at once, memory is empty, and the kernel knows of no bridge."""
    for pid in processes(stack, "keeper"):
        kill(pid)
    until(lambda: not processes(stack, "supervisor"))
    record = stack.host.root / "state" / "stacks" / stack.name / "record.json"
    data = json.loads(record.read_text())
    data["boot"] = "an earlier one"
    record.write_text(json.dumps(data))
    shutil.rmtree(stack.host.root / "run")
    for link in stack.host.bridges():
        subprocess.run(["ip", "link", "delete", link], check=True)


def test_two_ups_and_a_down_at_once(host: Host) -> None:
    """Each ends well or says by whom it was ended; afterwards all is of one piece."""
    stack = host.stack(FILE.format(version=1, order="stop-first"))
    ups = [stack.start("up", "-d") for _ in range(2)]
    for process in ups:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
    assert set(states(stack).values()) == {"running"}
    mixed = [
        stack.start("up", "-d", "--force-recreate"),
        stack.start("down", "-t", "0"),
        stack.start("up", "-d"),
    ]
    for process in mixed:
        _, told = process.communicate(timeout=60)
        assert "Traceback" not in told and "internal" not in told, told
    stack.ok("up", "-d")
    assert states(stack) == {"web": "running", "db": "running"}


def test_ten_stacks_at_once(host: Host) -> None:
    stacks = [host.stack(FILE.format(version=1, order="stop-first"), name=f"n{n}") for n in range(10)]
    for process in [stack.start("up", "-d") for stack in stacks]:
        _, told = process.communicate(timeout=80)
        assert process.returncode == 0, told
    networks = [json.loads(path.read_text())["pools"][0]["subnet"] for path in pools(host)]
    assert len(set(networks)) == 10
    for process in [stack.start("down", "-t", "0", "-v") for stack in stacks]:
        _, told = process.communicate(timeout=80)
        assert process.returncode == 0, told


def pools(host: Host) -> list[Path]:
    return [
        path for path in (host.root / "state" / "networks").glob("*.json") if not path.name.startswith(".")
    ]


@pytest.fixture
def tiny(host: Host) -> Host:
    """Its state is on a disk of 6 MiB."""
    state = host.root / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(state)], check=True)
    return host


def unmounted(host: Host) -> None:
    for stack in host.root.glob("state/stacks/*"):
        host.composer("-p", stack.name, "down", "-v", "-t", "0")
    subprocess.run(["umount", "-l", str(host.root / "state")], check=True)


def test_a_full_disk_stops_nothing_that_runs(tiny: Host) -> None:
    stack = tiny.stack(FILE.format(version=1, order="stop-first"))
    try:
        stack.ok("up", "-d")
        with open(tiny.root / "state" / "filler", "wb") as filler:
            try:
                while filler.write(b"x" * 65536):
                    filler.flush()
            except OSError:
                pass
        assert set(states(stack).values()) == {"running"}
        assert stack("exec", "-T", "web", "echo", "on").stdout == "on\n"
        done = stack("restart", "web")
        assert "Traceback" not in done.stderr
        os.unlink(tiny.root / "state" / "filler")
        stack.ok("up", "-d")
        assert set(states(stack).values()) == {"running"}
    finally:
        unmounted(tiny)


def test_a_read_only_state_directory_is_told_of(tiny: Host) -> None:
    stack = tiny.stack(FILE.format(version=1, order="stop-first"))
    state = str(tiny.root / "state")
    subprocess.run(["mount", "-o", "remount,ro", state], check=True)
    try:
        refused = stack("up", "-d")
        assert refused.returncode == 1
        assert "ead-only" in refused.stderr and "Traceback" not in refused.stderr
        subprocess.run(["mount", "-o", "remount,rw", state], check=True)
        stack.ok("up", "-d")
        assert set(states(stack).values()) == {"running"}
    finally:
        subprocess.run(["mount", "-o", "remount,rw", state], check=False)
        unmounted(tiny)


def test_containers_that_misbehave_end_with_the_stack(host: Host) -> None:
    """One that forks without end, one that floods its log, one that fills its disk, one that is deaf."""
    stack = host.stack(
        """
        services:
          forks:
            image: host
            pids_limit: 20
            command: [sh, -c, "f() { f | f & }; while :; do f; done"]
          floods:
            image: host
            command: [sh, -c, "while :; do echo flooding flooding flooding; done"]
            logging: {options: {max-size: 100k, max-file: "2"}}
          fills:
            image: host
            command: [sh, -c, "dd if=/dev/zero of=/data/x bs=64k; sleep 1000"]
            tmpfs: ["/data:size=1m"]
          deaf:
            image: host
            stop_grace_period: 500ms
            command: [sh, -c, "trap '' TERM; while :; do sleep 1; done"]
        """
    )
    stack.ok("up", "-d")
    folder = host.root / "state" / "stacks" / stack.name / "logs"
    log = folder / f"{stack.name}-floods-1.log"
    until(lambda: log.with_name(f"{log.name}.1").exists())
    assert sum(path.stat().st_size for path in folder.glob(f"{log.name}*")) < 400_000
    assert stack.ok("exec", "-T", "deaf", "echo", "on") == "on\n"
    stack.ok("down", "-t", "1")
    assert stack.ps() == {}
