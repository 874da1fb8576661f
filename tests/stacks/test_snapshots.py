"""Snapshots as people use them: back to a point, other stacks from the same one, nothing lost or left."""

from __future__ import annotations

import json
import random
import select
from pathlib import Path

import pytest

from tests import relational
from tests.host import Host, Stack
from tests.stacks.test_crash import kill, processes, until

pytestmark = pytest.mark.kernel

STORE = """
    services:
      db:
        image: host
        init: true
        stop_grace_period: 2s
        command: [sh, -c, "sleep 1000"]
        volumes: ["data:/data", "/anonymous"]
      app:
        image: host
        init: true
        command: [sh, -c, "sleep 1000"]
    volumes:
      data: {}
"""
PLACES = ("/data/x", "/anonymous/x", "/root/x")


def write(stack: Stack, text: str, service: str = "db") -> None:
    words = " ".join(f"; echo {text} > {place}" for place in PLACES[: 3 if service == "db" else 0])
    stack.ok("exec", "-T", service, "sh", "-c", f"echo {text} > /root/x{words}")


def read(stack: Stack, service: str = "db") -> list[str]:
    places = PLACES if service == "db" else ("/root/x",)
    return stack.ok("exec", "-T", service, "cat", *places).split()


def test_everything_goes_back_to_the_point(host: Host) -> None:
    """Named and anonymous volumes and what containers wrote; several points, in any order."""
    stack = host.stack(STORE)
    stack.ok("up", "-d")
    before = {row["Service"]: row["ID"] for row in stack.ps().values()}
    write(stack, "one")
    stack.ok("snapshot", "create", "first")
    assert read(stack) == ["one"] * 3
    write(stack, "two")
    stack.ok("exec", "-T", "db", "sh", "-c", "rm /root/x; mkdir /data/more; mv /data/more /data/other")
    stack.ok("snapshot", "create", "second")
    write(stack, "three")
    stack.ok("snapshot", "restore", "first")
    assert read(stack) == ["one"] * 3
    assert stack.ok("exec", "-T", "db", "ls", "/data").split() == ["x"]
    stack.ok("snapshot", "restore", "second")
    assert stack.ok("exec", "-T", "db", "ls", "/data").split() == ["other", "x"]
    assert stack("exec", "-T", "db", "cat", "/root/x").returncode
    rows = [json.loads(line) for line in stack.ok("snapshot", "ls", "--format", "json").splitlines()]
    assert [(row["Name"], row["Volumes"], row["Containers"]) for row in rows] == [
        ("first", 2, 2),
        ("second", 2, 2),
    ]
    assert {row["Service"]: row["ID"] for row in stack.ps().values()} == before
    inspected = json.loads(stack.ok("volume", "inspect", f"{stack.name}_data"))[0]
    assert inspected["Status"]["Snapshots"] == [f"{stack.name}/first", f"{stack.name}/second"]


def test_down_keeps_snapshots_and_with_volumes_takes_them(host: Host) -> None:
    """In between nothing is mounted; what no snapshot names is deleted."""
    stack = host.stack(STORE)
    stack.ok("up", "-d")
    write(stack, "one")
    stack.ok("snapshot", "create", "seeded")
    write(stack, "two")
    stack.ok("down", "-t", "0")
    assert str(host.root) not in Path("/proc/self/mountinfo").read_text()
    stack.ok("up", "-d")
    assert stack.ok("exec", "-T", "db", "cat", "/data/x").split() == ["two"]
    stack.ok("snapshot", "restore", "seeded")
    assert read(stack) == ["one"] * 3
    stack.ok("snapshot", "rm", "seeded")
    assert read(stack) == ["one"] * 3
    assert not stack.ok("snapshot", "ls", "-q")
    stack.ok("down", "-v", "-t", "0")
    stack.ok("volume", "prune", "--force")  # the anonymous one of the first containers
    assert not list((host.root / "state" / "snapshots" / "layers").iterdir())


def test_snapshots_go_with_down_volumes(host: Host) -> None:
    stack = host.stack(STORE)
    stack.ok("up", "-d")
    stack.ok("snapshot", "create", "seeded")
    stack.ok("down", "-v", "-t", "0")
    assert not stack.ok("snapshot", "ls", "--all", "-q")
    assert not list((host.root / "state" / "snapshots" / "layers").iterdir())
    assert not list((host.root / "state" / "volumes").glob("*/"))


def test_layers_that_no_snapshot_needs_go(host: Host) -> None:
    """A volume is a plain folder again, as long as nobody lies on its layers, and has not to be copied."""
    stack = host.stack(STORE)
    stack.ok("up", "-d")
    for name in ("first", "second", "third"):
        write(stack, name)
        stack.ok("snapshot", "create", name)
        if name != "first":
            stack.ok("snapshot", "rm", name)
    assert layers(stack) == 3
    stack.ok("snapshot", "rm", "first")
    assert layers(stack) == 3, "it is in use"
    write(stack, "fourth")
    stack.ok("restart", "-t", "0")
    assert layers(stack) in (0, 3)
    stack.ok("snapshot", "create", "fourth")
    assert layers(stack) == 1
    stack.ok("snapshot", "rm", "fourth")
    stack.ok("down", "-t", "0")
    assert layers(stack) == 0
    assert not list((host.root / "state/snapshots/layers").glob("[!.]*"))
    stack.ok("up", "-d")
    assert stack.ok("exec", "-T", "db", "cat", "/data/x") == "fourth\n"


def layers(stack: Stack) -> int:
    """Under the named volume."""
    inspected = json.loads(stack.ok("volume", "inspect", f"{stack.name}_data"))[0]
    return int(inspected.get("Status", {"Layers": 0})["Layers"])


def test_other_stacks_begin_from_the_same_point(host: Host) -> None:
    """Each with changes of its own; the point outlives the stack that it was made of."""
    seed = host.stack(STORE)
    seed.ok("up", "-d")
    write(seed, "seed")
    seed.ok("snapshot", "create", "ready")
    workers = [host.stack(STORE, name) for name in ("w1", "w2")]
    for worker in workers:
        worker.ok("create")
        worker.ok("snapshot", "restore", f"{seed.name}/ready")
        worker.ok("up", "-d")
        assert read(worker) == ["seed"] * 3
    write(workers[0], "mine")
    assert read(workers[1]) == ["seed"] * 3
    assert read(seed) == ["seed"] * 3
    seed.ok("down", "-v", "-t", "0")
    workers[1].ok("restart", "-t", "0")
    assert read(workers[1]) == ["seed"] * 3
    assert read(workers[0]) == ["mine"] * 3


def test_up_from_a_snapshot(host: Host) -> None:
    """Its data is there before anything starts, in a new stack and in one that runs, with what it needs."""
    text = STORE.replace(
        'command: [sh, -c, "sleep 1000"]\n        volumes',
        'command: [sh, -c, "cat /data/x > /root/began; sleep 1000"]\n        volumes',
    ).replace("app:", "app:\n        depends_on: [db]")
    stack = host.stack(text)
    refused = stack("up", "-d", "--from-snapshot", "ready")
    assert (refused.returncode, stack.ps()) == (1, {})
    assert "has no snapshot ready" in refused.stderr
    stack.ok("up", "-d")
    write(stack, "seed")
    stack.ok("snapshot", "create", "ready")
    write(stack, "later")
    assert "Snapshot ready  Restore" in stack("up", "-d", "--from-snapshot", "ready", "--dry-run").stderr
    stack.ok("up", "-d", "--from-snapshot", "ready", "--force-recreate")
    assert read(stack) == ["seed"] * 3
    assert stack.ok("exec", "-T", "db", "cat", "/root/began") == "seed\n"
    write(stack, "later")
    stack.ok("up", "-d", "--from-snapshot", "ready", "app")
    assert read(stack) == ["seed"] * 3
    other = host.stack(text, "o")
    other.ok("up", "-d", "--from-snapshot", f"{stack.name}/ready")
    assert read(other) == ["seed"] * 3
    assert {row["State"] for row in other.ps().values()} == {"running"}


def test_a_part_of_the_stack(host: Host) -> None:
    """Only the named service stops; a volume that others use is refused with their name."""
    stack = host.stack(STORE)
    stack.ok("up", "-d")
    began = stack.ps()[f"{stack.name}-app-1"]["CreatedAt"]
    write(stack, "one")
    write(stack, "one", "app")
    stack.ok("snapshot", "create", "part", "db")
    pid = stack.ok("exec", "-T", "app", "cat", "/proc/1/stat")
    write(stack, "two")
    write(stack, "two", "app")
    stack.ok("snapshot", "restore", "part", "db")
    assert read(stack) == ["one"] * 3
    assert read(stack, "app") == ["two"]
    assert stack.ok("exec", "-T", "app", "cat", "/proc/1/stat").split()[21] == pid.split()[21]
    assert stack.ps()[f"{stack.name}-app-1"]["CreatedAt"] == began
    other = host.stack(
        f"""
        services:
          spy: {{image: host, init: true, command: [sleep, "1000"], volumes: ["data:/data"]}}
        volumes:
          data: {{external: true, name: {stack.name}_data}}
        """,
        "other",
    )
    other.ok("up", "-d")
    for words in (("create", "again"), ("restore", "part")):
        refused = stack("snapshot", *words)
        assert refused.returncode == 1
        assert f"in use by {other.name}-spy-1 of stack {other.name}" in refused.stderr
    assert read(stack) == ["one"] * 3


def test_mistakes_are_told(host: Host) -> None:
    stack = host.stack(STORE)
    assert "has no containers" in stack("snapshot", "create", "x").stderr
    stack.ok("up", "-d")
    assert "has no snapshot nope" in stack("snapshot", "restore", "nope").stderr
    assert "not a snapshot name" in stack("snapshot", "create", "a b").stderr
    assert "'../x' is not a stack name" in stack("snapshot", "restore", "../x/y").stderr
    assert "no such service" in stack("snapshot", "create", "x", "nobody").stderr
    stack.ok("snapshot", "create", "x")
    assert "has a snapshot x already" in stack("snapshot", "create", "x").stderr
    layers = Path(stack.host.environment["COMPOSER_STATE_DIR"]) / "snapshots/layers"
    assert layers.stat().st_mode & 0o066 == 0, "others can list what belongs to containers"
    assert "has no snapshot y" in stack("snapshot", "rm", "y").stderr
    assert {row["State"] for row in stack.ps().values()} == {"running"}


def test_stopped_containers_are_seen_as_they_are(host: Host) -> None:
    """cp and commit look through the layers."""
    stack = host.stack(STORE)
    stack.ok("up", "-d")
    write(stack, "one")
    stack.ok("snapshot", "create", "x")
    stack.ok("exec", "-T", "db", "sh", "-c", "echo two > /root/y")
    stack.ok("stop", "-t", "0", "db")
    for name, text in (("x", "one"), ("y", "two")):
        stack.ok("cp", f"db:/root/{name}", "copied")
        assert (stack.folder / "copied").read_text() == f"{text}\n"


@pytest.mark.parametrize("verb", ["create", "restore"])
@pytest.mark.parametrize("seed", range(3))
def test_a_supervisor_killed_meanwhile_loses_nothing(host: Host, verb: str, seed: int) -> None:
    """After the next `up` all is as before, or as at the point, and works."""
    stack = host.stack(STORE)
    stack.ok("up", "-d")
    write(stack, "one")
    stack.ok("snapshot", "create", "first")
    write(stack, "two")
    words = ["create", "second"] if verb == "create" else ["restore", "first"]
    process = stack.start("snapshot", *words)
    select.select([], [], [], random.Random(seed).uniform(0.05, 0.4))
    for pid in processes(stack, "supervisor"):
        kill(pid)
    process.communicate()
    until(lambda: processes(stack, "supervisor"))
    stack.ok("up", "-d")
    assert read(stack) in (["two"] * 3, *([["one"] * 3] if verb == "restore" else []))
    stack.ok("snapshot", "restore", "first")
    assert read(stack) == ["one"] * 3


@pytest.mark.skipif(relational.PROGRAMS is None, reason="postgresql is not installed")
def test_a_database_comes_back_with_its_rows(host: Host) -> None:
    """It was shut down properly for the snapshot, so it has nothing to recover."""
    stack = host.stack(relational.stack_file(sync=False))

    def sql(text: str) -> str:
        return stack.ok("exec", "-T", "db", "psql", "-h", "/tmp", "postgres", "-Atqc", text).strip()

    stack.ok("run", "--rm", "-T", "-u", "root", "db", "chown", "postgres", "/data")
    stack.ok("up", "-d", "--wait")
    sql("create table t as select generate_series(1, 1000) as id")
    stack.ok("snapshot", "create", "seeded")
    for _ in range(2):
        stack.ok("snapshot", "restore", "--wait", "seeded")
        assert sql("select count(*) from t") == "1000"
        sql("delete from t where id > 10; checkpoint; create table more as select * from t")
        assert sql("select count(*) from more") == "10"
    logs = stack.ok("logs", "--no-log-prefix", "db")
    assert "was shut down at" in logs
    assert "automatic recovery" not in logs
