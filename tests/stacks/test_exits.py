"""The reason of each end is kept: memory, which signal and from whom, patience that ran out."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.host import Host, Stack

pytestmark = pytest.mark.kernel

EATER = "import time; a = [bytearray(1 << 20) for _ in range(200)]; time.sleep(1000)"
FILE = f"""
    services:
      eater:
        image: host
        mem_limit: 32m
        memswap_limit: 32m
        command: [python3, -c, "{EATER}"]
      deaf:
        image: host
        command: [sh, -c, "trap '' TERM; echo deaf; while :; do sleep 1; done"]
        stop_grace_period: 300ms
      victim:
        image: host
        command: [sleep, "100000"]
      struck:
        image: host
        command: [sleep, "100000"]
      crashed:
        image: host
        init: true
        command: [sh, -c, "kill -SEGV $$$$"]
"""


def state(stack: Stack, service: str) -> dict[str, object]:
    (found,) = json.loads(stack.ok("container", "inspect", f"{stack.name}-{service}-1"))
    return dict(found["State"])


def test_inspect_and_why_say_how_it_ended(host: Host) -> None:
    stack = host.stack(FILE)
    stack.ok("up", "-d")
    assert stack("wait", "eater").returncode == 137
    assert state(stack, "eater")["OOMKilled"] is True
    assert "out of memory: killed by the kernel at its memory limit" in stack("why", "eater").stdout

    pid = state(stack, "victim")["Pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    assert stack("wait", "victim").returncode == 137
    assert state(stack, "victim")["Error"] == "ended by SIGKILL (not by composer)"

    stack.ok("kill", "struck")
    assert stack("wait", "struck").returncode == 137
    assert state(stack, "struck")["Error"] == "ended by SIGKILL (asked to stop)"

    assert stack("wait", "crashed").returncode == 139
    assert "segmentation fault" in stack("why", "crashed").stdout


def test_a_stop_that_took_all_its_time_says_so_and_what_helps(host: Host) -> None:
    stack = host.stack(FILE)
    stack.ok("up", "-d", "deaf")
    until_deaf = stack.start("logs", "-f", "deaf")
    assert until_deaf.stdout is not None
    assert "deaf" in until_deaf.stdout.readline()
    until_deaf.terminate()
    until_deaf.communicate()
    said = stack("stop", "deaf").stderr
    words = "killed: it did not end within 0.3 s of SIGTERM; `init: true` or another `stop_signal` may help"
    assert words in said
    assert state(stack, "deaf")["Error"] == words
    assert "`init: true` for deaf" in stack("why", "deaf").stdout


HOOKS = """
    services:
      web:
        image: host
        init: true
        command: [sleep, "100000"]
        post_start: [{command: [sh, -c, "echo begun; seq 9 >&2; echo x > /no/y"]}]
        pre_stop: [{command: [sh, -c, "echo last words >&2; exit 3"]}]
"""


def test_a_failing_hook_says_what_it_printed_and_its_service_s_log_has_it(host: Host) -> None:
    stack = host.stack(HOOKS)
    failed = stack("up", "-d")
    assert failed.returncode == 1
    wanted = "ended with 2: 6; 7; 8; 9; sh: 1: cannot create /no/y: Directory nonexistent"
    assert wanted in failed.stderr
    assert wanted in stack("why").stdout
    assert "web-1  | begun\n" in stack.ok("logs")
    stopped = stack("stop")
    assert "ended with 3: last words" in stopped.stderr
    assert "last words" in stack.ok("logs")


def test_the_lines_of_an_end_are_docker_s(host: Host) -> None:
    """A kill is a part of stopping there, and has lines of its own as a command only."""
    stack = host.stack("services: {web: {image: host, command: [sleep, '100000']}}")
    stack.ok("up", "-d")

    def lines(*words: str) -> list[str]:
        told = stack(*words).stderr.splitlines()
        return [line.rpartition("  ")[2] for line in told if f"Container {stack.name}-web-1  " in line]

    assert lines("stop", "-t", "0") == ["Stopping", "Stopped"]
    stack.ok("up", "-d")
    assert lines("kill") == ["Killing", "Killed"]
    assert stack("kill").stderr == "no container to kill\n"
    stack.ok("up", "-d")
    assert lines("down", "-t", "0") == ["Stopping", "Stopped", "Removing", "Removed"]
