"""Faults on purpose: each does what it says, to nobody else, and is undone however its asker ends."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from composer import Stack as ApiStack
from composer.errors import ConflictError, NotFoundError, UsageError
from tests.host import Host, Stack
from tests.stacks.test_crash import kill, processes, until

pytestmark = pytest.mark.kernel

THREE = """
    services:
      a: &service
        image: host
        init: true
        command: [python3, -u, -m, http.server, "80"]
        networks: [one, two]
        tmpfs: ["/small:size=4m"]
        stop_grace_period: 1s
        healthcheck:
          test: [CMD, python3, -c, "import socket; socket.create_connection(('127.0.0.1', 80))"]
          start_period: 60s
          start_interval: 50ms
          interval: 60s
      b:
        <<: *service
        networks: [one]
      c:
        <<: *service
        networks: [one]
        ports: ["80"]
    networks:
      one: {}
      two: {}
"""
REACH = """
import socket, sys, time
began = time.monotonic()
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as sock:
        sock.settimeout(float(sys.argv[3]))
        sock.sendall(b"HEAD / HTTP/1.0\\r\\n\\r\\n")
        assert sock.recv(4) == b"HTTP"
    print(time.monotonic() - began)
except TimeoutError:
    print("timeout")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def stack(host: Host) -> Iterator[Stack]:
    stack = host.stack(THREE)
    stack.ok("up", "-d", "--wait")
    yield stack
    assert stack.ok("fault", "ls", "--format", "json") == ""
    found = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert f"composer-{stack.name}-faults" not in found
    state = {row["Service"]: row["State"] for row in stack.ps().values()}
    assert state == dict.fromkeys("abc", "running")


def seconds(stack: Stack, service: str, to: str, port: int = 80, patience: float = 1.0) -> float | str:
    """How long one question over TCP takes, or what came of it."""
    command = ("exec", "-T", service, "python3", "-c", REACH, to, str(port), str(patience))
    told = stack.ok(*command).strip()
    return told if told[0].isalpha() else float(told)


def reaches(stack: Stack, service: str, to: str) -> bool:
    return isinstance(seconds(stack, service, to, patience=20), float)


def faults(stack: Stack) -> list[str]:
    return [json.loads(line)["Kind"] for line in stack.ok("fault", "ls", "--format", "json").splitlines()]


def test_a_partition(stack: Stack) -> None:
    """Both ways, by name and by published port; others go on."""
    port = int(stack.ok("port", "c", "80").strip().rpartition(":")[2])
    route = stack.ok("exec", "-T", "a", "ip", "route", "show", "default").split()
    gateway = route[route.index("via") + 1]
    assert isinstance(seconds(stack, "a", gateway, port, 20), float)
    number = stack.ok("fault", "partition", "--detach", "a", "c").strip()
    assert seconds(stack, "a", "c") == "timeout"
    assert seconds(stack, "c", "a") == "timeout"
    assert seconds(stack, "a", gateway, port) == "timeout"
    assert reaches(stack, "a", "b")
    assert reaches(stack, "b", "c")
    assert stack.ok("fault", "clear", number).strip() == number
    assert reaches(stack, "a", "c")
    assert reaches(stack, "c", "a")


def test_a_pulled_cable(stack: Stack) -> None:
    """Of a service, and of all on a network; it ends by itself."""
    stack.ok("fault", "drop", "-d", "--for", "4s", "b")
    assert isinstance(seconds(stack, "a", "b"), str)
    assert reaches(stack, "a", "c")
    until(lambda: not faults(stack))
    assert reaches(stack, "a", "b")
    stack.ok("fault", "drop", "-d", "one")
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        assert isinstance(seconds(stack, one, other), str)
    stack.ok("fault", "clear")


def test_a_delay(stack: Stack) -> None:
    """A question and its answer cross it twice in TCP; nobody else is late."""
    stack.ok("fault", "delay", "-d", "--by", "300ms", "b")
    late = seconds(stack, "a", "b", patience=20)
    assert isinstance(late, float)
    assert late >= 0.6
    late = seconds(stack, "b", "c", patience=20)
    assert isinstance(late, float)
    assert late >= 0.6
    stack.ok("restart", "-t", "0", "b")  # what begins again is late, too
    until(lambda: reaches(stack, "a", "b"))
    late = seconds(stack, "a", "b", patience=20)
    assert isinstance(late, float)
    assert late >= 0.6
    stack.ok("fault", "clear")
    quick = min(float(seconds(stack, "a", "b", patience=20)) for _ in range(5))
    assert quick < 0.3


def test_everything_gets_lost(stack: Stack) -> None:
    stack.ok("fault", "delay", "-d", "--loss", "100%", "b")
    assert seconds(stack, "a", "b") == "timeout"
    assert reaches(stack, "a", "c")
    stack.ok("fault", "clear")
    assert reaches(stack, "a", "b")


def test_killed_paused_and_started_again(stack: Stack) -> None:
    def state(service: str) -> str:
        return str(stack.ps()[f"{stack.name}-{service}-1"]["State"])

    stack.ok("fault", "kill", "-d", "a")
    until(lambda: state("a") == "exited")
    stack.ok("fault", "pause", "-d", "b")
    assert state("b") == "paused"
    assert seconds(stack, "c", "b") == "timeout"
    stack.ok("fault", "clear")
    assert (state("a"), state("b")) == ("running", "running")


def test_clocks(stack: Stack) -> None:
    """Of what counts from the start of the machine; told that the time of day stays."""
    question = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())"

    def clocks() -> tuple[float, float]:
        boot, day = stack.ok("exec", "-T", "a", "python3", "-c", question).split()
        return float(boot) - time.clock_gettime(time.CLOCK_BOOTTIME), float(day) - time.time()

    done = stack("fault", "clock", "-d", "--by", "1h", "a")
    assert "the time of day stays as it is" in done.stderr
    boot, day = clocks()
    assert 3500 < boot < 3700
    assert abs(day) < 100
    stack.ok("fault", "clear")
    assert abs(clocks()[0]) < 100


def test_a_resolver_that_does_not_answer(stack: Stack) -> None:
    question = (
        "import socket\ntry: print(socket.gethostbyname('b'))\nexcept OSError as error: print(error.errno)"
    )

    def asked(service: str) -> str:
        return stack.ok("exec", "-T", service, "python3", "-c", question).strip()

    address = asked("a")
    for answer, errno in (("nxdomain", "-2"), ("servfail", "-3")):
        stack.ok("fault", "freeze-dns", "-d", "--answer", answer, "a")
        assert asked("a") == errno
        assert asked("c") == address
        stack.ok("fault", "clear")
        assert asked("a") == address
    stack.ok("exec", "-T", "a", "sh", "-c", "echo options timeout:1 attempts:1 >> /etc/resolv.conf")
    stack.ok("fault", "freeze-dns", "-d", "a")
    assert asked("a") == "-3"
    stack.ok("fault", "clear")
    assert asked("a") == address


def test_a_full_disk(stack: Stack) -> None:
    """Only where it is bounded: the host's own disks are refused, also with a size."""
    write = ("exec", "-T", "a", "python3", "-c", "open('/small/x', 'w').write('x' * 100000)")
    stack.ok("fault", "fill-disk", "-d", "--path", "/small", "a")
    assert "No space left" in stack(*write).stderr
    stack.ok("fault", "clear")
    stack.ok(*write)
    for path in ("/", "/tmp", "/proc", "/etc", "/nowhere"):
        refused = stack("fault", "fill-disk", "-d", "--size", "1m", "--path", path, "a")
        assert refused.returncode == 1, path
        assert "internal error" not in refused.stderr
    assert "on a disk of this host" in stack("fault", "fill-disk", "--path", "/tmp", "a").stderr


def test_a_full_disk_that_outlives_its_container(host: Host) -> None:
    """A volume's: it has its room back also when the container was another one meanwhile."""
    stack = host.stack(
        """
        services:
          a:
            image: host
            init: true
            command: [sleep, "1000"]
            stop_grace_period: 1s
            volumes: ["small:/small"]
        volumes:
          small: {driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}
        """
    )
    stack.ok("up", "-d")
    one = stack.ok("fault", "fill-disk", "-d", "--path", "/small", "--size", "8k", "a").strip()
    two = stack.ok("fault", "fill-disk", "-d", "--path", "/small", "a").strip()
    assert one != two
    write = ("exec", "-T", "a", "python3", "-c", "open('/small/x', 'w').write('x' * 100000)")
    stack.ok("restart", "-t", "0")
    assert "No space left" in stack(*write).stderr
    stack.ok("fault", "clear", two)
    stack.ok(*write)
    assert len(stack.ok("exec", "-T", "a", "ls", "-A", "/small").split()) == 2
    stack.ok("fault", "clear", one)
    assert stack.ok("exec", "-T", "a", "ls", "-A", "/small").split() == ["x"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_fault_ends_with_its_command(stack: Stack, ending: signal.Signals) -> None:
    process = stack.start("fault", "partition", "a", "b")
    assert process.stderr is not None
    assert "acts" in process.stderr.readline()
    assert seconds(stack, "a", "b") == "timeout"
    process.send_signal(ending)
    process.communicate(timeout=20)
    assert process.returncode == (0 if ending != signal.SIGKILL else -9)
    until(lambda: not faults(stack))
    assert reaches(stack, "a", "b")


def test_a_killed_supervisor_keeps_what_was_detached(stack: Stack) -> None:
    """And undoes what belonged to a command."""
    process = stack.start("fault", "pause", "b")
    assert process.stderr is not None
    assert "acts" in process.stderr.readline()
    stack.ok("fault", "delay", "-d", "--by", "300ms", "a")
    stack.ok("fault", "partition", "-d", "a", "c")
    (pid,) = processes(stack, "supervisor")
    kill(pid)
    process.communicate(timeout=20)
    until(lambda: faults(stack) == ["delay", "partition"])
    until(lambda: stack.ps()[f"{stack.name}-b-1"]["State"] == "running")
    late = seconds(stack, "b", "a", patience=20)
    assert isinstance(late, float)
    assert late >= 0.6
    assert seconds(stack, "a", "c") == "timeout"
    stack.ok("fault", "clear")
    assert reaches(stack, "a", "c")


def test_down_ends_faults(host: Host) -> None:
    """Nothing of them is there when the stack comes back."""
    stack = host.stack(THREE)
    stack.ok("up", "-d", "--wait")
    stack.ok("fault", "partition", "-d", "a", "b")
    stack.ok("down", "-t", "0")
    stack.ok("up", "-d", "--wait")
    assert faults(stack) == []
    assert reaches(stack, "a", "b")


def test_mistakes_are_told(stack: Stack) -> None:
    for words, code, text in (
        (("partition", "a"), 2, "needs at least 2 services"),
        (("partition", "a", "nobody"), 1, "no such service: nobody"),
        (("delay", "a"), 2, "nothing would be different"),
        (("delay", "--loss", "150%", "a"), 2, "is no share"),
        (("clock", "a"), 2, "by how much"),
        (("clock", "--by", "-99999h", "a"), 2, "can go back by"),
        (("fill-disk", "a"), 2, "say where"),
        (("clock", "--by", "500ms", "a"), 2, "nothing would be different"),
        (("delay", "--by", "1s", "--jitter", "99h", "a"), 2, "up to 60 s"),
        (("kill", "--for", "soon", "a"), 2, "is no time"),
        (("kill", "--for", "0s", "a"), 2, "over at once"),
        (("clear", "7"), 1, "there is no fault 7"),
    ):
        done = stack("fault", *words)
        assert (done.returncode, text in done.stderr) == (code, True), (words, done.stderr)


def test_in_programs(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Context managers; undone when the block ends, also by an exception."""
    for name in ("COMPOSER_RUN_DIR", "COMPOSER_STATE_DIR"):
        monkeypatch.setenv(name, stack.host.environment[name])
    api = ApiStack(stack.folder / "compose.yaml")
    with pytest.raises(ZeroDivisionError), api.partition("a", "b"):
        assert seconds(stack, "a", "b") == "timeout"
        _ = 1 / 0
    with api.partition("a", "b") as cleared:
        stack.ok("fault", "clear")
        with api.partition("b", "c") as other:
            assert other.number != cleared.number
    with api.delay("b", by=0.2), api.drop("c"), api.frozen_dns("a", answer="nxdomain"):
        assert faults(stack) == ["delay", "drop", "freeze-dns"]
    with api.killed("a"), api.paused("b"):
        assert {row.service: row.state for row in api.containers()} == {
            "a": "exited",
            "b": "paused",
            "c": "running",
        }
    with api.full_disk("a", "/small"):
        assert (
            "No space left"
            in stack("exec", "-T", "a", "sh", "-c", "dd if=/dev/zero of=/small/x bs=9 count=1").stderr
        )
    assert faults(stack) == []
    for kind, wrong in (
        (UsageError, api.partition("a")),
        (NotFoundError, api.partition("a", "x")),
        (ConflictError, api.full_disk("a", "/")),
        (UsageError, api.delay("a", by=100)),
    ):
        with pytest.raises(kind), wrong:
            pass
    api.snapshot("here")
    api["a"].exec("sh", "-c", "echo x > /root/x", check=True)
    api.restore("here")
    assert api["a"].exec("cat", "/root/x").exit_code
    assert api.snapshots == ["here"]
    with pytest.raises(ConflictError):
        api.snapshot("here")
    with pytest.raises(NotFoundError):
        api.restore("there")
    api.remove_snapshot("here")
    assert api.snapshots == []
