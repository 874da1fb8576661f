"""The smaller examples do what their pages say."""

from __future__ import annotations

import re
import shutil
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.host import Host, Stack

pytestmark = pytest.mark.kernel
EXAMPLES = Path(__file__).parents[2] / "examples" / "stacks"


def example(host: Host, name: str, **variables: str) -> Stack:
    folder = host.root / name
    shutil.copytree(EXAMPLES / name, folder)
    host.environment |= {**variables, "COMPOSE_PROJECT_NAME": f"{host.mark}{name}"}
    stack = Stack(host, folder)
    stack.name = f"{host.mark}{name}"
    return stack


def free_range(count: int) -> str:
    """Ports that nobody listens on, in a row."""
    for first in range(20000, 32000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return f"{first}-{first + count - 1}"
    raise AssertionError("no free ports")


def test_scale(host: Host) -> None:
    """Three on three ports, one name for all; a new version takes their places."""
    stack = example(host, "scale", SCALE_PORTS=free_range(10))
    stack.ok("up", "-d", "--wait")
    rows = stack.ps()
    assert len(rows) == 3
    ports = {publisher["PublishedPort"] for row in rows.values() for publisher in row["Publishers"]}
    assert len(ports) == 3
    answers = {urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).read() for port in ports}
    assert len(answers) == 3
    asked = stack.ok("run", "--rm", "-T", "ask")
    assert len(asked.splitlines()) == 3
    assert sum(int(times) for times in re.findall(r"(\d+) ×", asked)) == 30

    stack.ok("up", "-d", "--wait", env={"VERSION": "2"})
    assert set(re.findall(r"version (\d)", stack.ok("run", "--rm", "-T", "ask", env={"VERSION": "2"}))) == {
        "2"
    }
    assert len(stack.ps()) == 3


def test_secrets(host: Host) -> None:
    stack = example(host, "secrets")
    shown = stack.ok("up")
    for line in (
        r"-r--r----- 1 +0 1000 .* /etc/app.conf",
        r"-r-------- 1 1000 1000 .* signing.key",
        r"-r--r--r-- 1 +0 +0 .* token",
        r"a key from the environment",
        r"price = 5\$",
        r"a message of the day",
    ):
        assert re.search(line, shown), (line, shown)
    assert "a key from the environment" not in stack.ok("config")
    assert "greeting = hi\n" in stack.ok("up", env={"GREETING": "hi"})
