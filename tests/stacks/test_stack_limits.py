"""`x-limits`: what all containers of a stack together may use, and `stats --total`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.host import Host, Stack

pytestmark = pytest.mark.kernel

FILE = """
    {limits}
    services:
      one: &each
        image: host
        init: true
        command: [sleep, "1000"]
      two: *each
"""


def total(stack: Stack) -> dict[str, Any]:
    lines = stack.ok("stats", "--no-stream", "--total", "--format", "json").splitlines()
    rows = {row["Name"]: row for row in map(json.loads, lines)}
    assert set(rows) == {f"{stack.name}-one-1", f"{stack.name}-two-1", stack.name}
    found: dict[str, Any] = rows[stack.name]
    return found


FORKS = """
import os, signal, sys
children = []
try:
    for _ in range(int(sys.argv[1])):
        children.append(os.fork())
        if not children[-1]:
            signal.pause()
except OSError as error:
    print(error)
for child in children:
    os.kill(child, 9)
    os.wait()
"""


def forks(stack: Stack, number: int) -> bool:
    """Whether one service can have so many processes at once."""
    said = stack.ok("exec", "-T", "one", "python3", "-c", FORKS, str(number))
    assert said == "" or "Resource temporarily unavailable" in said
    return not said


def test_all_containers_share_it_and_it_changes_live(host: Host) -> None:
    """Two containers with their inits are four processes. Nobody is made anew when the limit goes."""
    stack = host.stack(FILE.format(limits="x-limits: {pids: 20, memory: 256m}"))
    stack.ok("up", "-d")
    before = {row["ID"] for row in stack.ps().values()}
    row = total(stack)
    assert row["MemUsage"].endswith(" / 256MiB")
    assert (int(row["PIDs"]), row["ID"]) == (4, "")
    assert forks(stack, 10)
    assert not forks(stack, 30)
    stack.rewrite(FILE.format(limits=""))
    stack.ok("up", "-d")
    assert forks(stack, 30)
    assert not total(stack)["MemUsage"].endswith(" / 256MiB")
    assert {row["ID"] for row in stack.ps().values()} == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x-limits: 3", "x-limits: must be like {cpus: 2"),
        ("x-limits: {cpu: 3}", "x-limits: must be like {cpus: 2"),
        ("x-limits: {memory: much}", "x-limits: is not understood"),
        ("x-limits: {cpus: -1}", "x-limits: must be 0.01 to 10000 `cpus`"),
        ('x-limits: {cpus: "nan"}', "x-limits: must be 0.01 to 10000 `cpus`"),
        ("x-limits: {pids: -1}", "and not negative"),
    ],
)
def test_mistakes(host: Host, text: str, complaint: str) -> None:
    done = host.stack(FILE.format(limits=text))("config", "-q")
    assert (done.returncode, complaint in done.stderr) == (1, True), done.stderr


def test_a_service_cannot_have_more_than_all(host: Host) -> None:
    stack = host.stack("x-limits: {cpus: 1}\nservices: {web: {image: host, cpus: 1.5}}\n")
    done = stack("config", "-q")
    assert done.returncode == 1
    assert "services.web.cpus: asks for more processors than the 1" in done.stderr
