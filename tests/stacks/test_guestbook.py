"""The first example as its users drive it: up, sign, look, down, up again, everything gone."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import Host, Stack

pytestmark = pytest.mark.kernel
EXAMPLE = Path(__file__).parents[2] / "examples" / "stacks" / "guestbook"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Guestbook:
    def __init__(self, host: Host) -> None:
        self.port = free_port()
        host.environment |= {
            "GUESTBOOK_PORT": str(self.port),
            "COMPOSE_PROJECT_NAME": f"{host.mark}guestbook",
        }
        folder = host.root / "guestbook"
        shutil.copytree(EXAMPLE, folder)
        self.stack = Stack(host, folder)
        self.stack.name = f"{host.mark}guestbook"

    def page(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def sign(self, name: str, text: str) -> None:
        body = urllib.parse.urlencode({"name": name, "text": text}).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", data=body, timeout=5).close()


@pytest.fixture
def guestbook(host: Host) -> Iterator[Guestbook]:
    book = Guestbook(host)
    book.stack.ok("up", "-d", "--wait")
    yield book


def test_what_is_signed_is_shown(guestbook: Guestbook) -> None:
    """The page is served, takes an entry, and shows it."""
    assert "Nobody has signed yet" in guestbook.page()
    guestbook.sign("Ada", "Hello <there>")
    assert "Hello &lt;there&gt;" in guestbook.page()


def test_all_services_are_up_and_healthy(guestbook: Guestbook) -> None:
    rows = guestbook.stack.ps()
    assert {row["Service"]: row["State"] for row in rows.values()} == dict.fromkeys(
        ("front", "api", "store"), "running"
    )
    assert {row["Service"]: row["Health"] for row in rows.values()} == {
        "front": "healthy",
        "api": "healthy",
        "store": "healthy",
    }


def test_entries_survive_down_and_up_but_not_down_v(guestbook: Guestbook) -> None:
    guestbook.sign("Ada", "I stay")
    guestbook.stack.ok("down")
    guestbook.stack.ok("up", "-d", "--wait")
    assert "I stay" in guestbook.page()
    guestbook.stack.ok("down", "-v")
    guestbook.stack.ok("up", "-d", "--wait")
    assert "I stay" not in guestbook.page()


def test_only_the_front_reaches_the_backend(guestbook: Guestbook) -> None:
    """api and store have no way out and are not published; the front talks to both networks."""
    inside = (
        "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2); print('reached')"
    )
    assert "reached" in guestbook.stack.ok("exec", "-T", "front", "python3", "-c", inside, "api", "8000")
    routes = guestbook.stack.ok("exec", "-T", "api", "cat", "/proc/net/route").splitlines()[1:]
    assert routes and not any(line.split()[1] == "00000000" for line in routes)


def test_limits_are_the_kernels(guestbook: Guestbook) -> None:
    """mem_limit and pids_limit are in force, by what the container itself sees."""
    memory = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null | head -1"
    pids = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null | head -1"
    assert guestbook.stack.ok("exec", "-T", "api", "sh", "-c", memory).strip() == str(128 << 20)
    assert guestbook.stack.ok("exec", "-T", "api", "sh", "-c", pids).strip() == "64"


def test_the_root_is_read_only_and_the_tmpfs_is_not(guestbook: Guestbook) -> None:
    assert guestbook.stack("exec", "-T", "api", "touch", "/x").returncode == 1
    guestbook.stack.ok("exec", "-T", "api", "touch", "/tmp/x")


def test_a_second_up_does_nothing(guestbook: Guestbook) -> None:
    before = {name: row["ID"] for name, row in guestbook.stack.ps().items()}
    done = guestbook.stack("up", "-d")
    assert (done.returncode, {line.split()[-1] for line in done.stderr.splitlines()}) == (0, {"Running"})
    assert {name: row["ID"] for name, row in guestbook.stack.ps().items()} == before
    assert guestbook.stack.ok("plan") == "nothing to do\n"


def test_a_change_recreates_only_what_it_touches(guestbook: Guestbook) -> None:
    """The plan says which field did it, and `up` does what the plan said."""
    before = guestbook.stack.ps()
    env = {"GUESTBOOK_TITLE": "Another"}
    told = guestbook.stack.ok("plan", "--format", "json", env=env)
    assert {
        entry["subject"].rpartition(" ")[2].rpartition("-")[0].rpartition("-")[2]
        for entry in json.loads(told)
    } == {"front"}
    assert "environment" in told
    guestbook.stack.ok("up", "-d", "--wait", env=env)
    after = guestbook.stack.ps()
    changed = {row["Service"] for name, row in after.items() if row["ID"] != before[name]["ID"]}
    assert changed == {"front"}
    assert "<h1>Another</h1>" in guestbook.page()
