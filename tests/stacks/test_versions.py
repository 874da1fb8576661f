"""A command line and a supervisor of different versions: refused with a sentence, and nothing is touched."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.host import Host, Stack

pytestmark = pytest.mark.kernel

ONE = """
    services:
      web: {image: host, init: true, command: [sleep, "1000"]}
"""
OLDER = """
import sys
from composer.supervisor import wire
wire.HELLO["supervisor"] = wire.VERSION - 1
from composer.__main__ import main
sys.exit(main())
"""
NEWER = """
import sys
from composer.api import project
read = project.Project.stack_data.fget
project.Project.stack_data = property(lambda self: {**read(self), "from_tomorrow": 1})
project.Project.digest = property(lambda self: "another", lambda self, value: None)
from composer.__main__ import main
sys.exit(main())
"""


def other(program: str, stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line of another version."""
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=stack.folder,
        env=stack.host.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("up", "-d", "--force-recreate"),
        ("exec", "-T", "web", "true"),
        ("restart",),
        ("stop",),
        ("down",),
        ("stats", "--no-stream"),
        ("run", "--rm", "-T", "web", "true"),
    ],
    ids=lambda words: words[0],
)
def test_an_older_client_is_told_so(host: Host, words: tuple[str, ...]) -> None:
    stack = host.stack(ONE)
    stack.ok("up", "-d")
    before = stack.ps()[f"{stack.name}-web-1"]
    refused = other(OLDER, stack, *words)
    assert "the running supervisor is of another version of composer" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.returncode == 2
    after = stack.ps()[f"{stack.name}-web-1"]
    assert (after["ID"], after["State"]) == (before["ID"], "running")
    assert "running" in other(OLDER, stack, "ps", "--format", "{{.State}}").stdout, (
        "what is only read goes on"
    )


def test_what_a_newer_client_says_of_a_stack_is_not_half_understood(host: Host) -> None:
    """The protocol is the same, but a stack has grown a field since. What is down and up again has it."""
    stack = host.stack(ONE)
    stack.ok("up", "-d")
    before = stack.ps()[f"{stack.name}-web-1"]
    refused = other(NEWER, stack, "up", "-d")
    assert "does not know all of what the stack says" in refused.stderr
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert stack.ps()[f"{stack.name}-web-1"]["ID"] == before["ID"]
    assert other(NEWER, stack, "down", "-t", "0").returncode == 0, "what the hint says works"
    assert stack.ps() == {}
    assert other(NEWER, stack, "up", "-d").returncode == 2, "this supervisor is of today, too"
