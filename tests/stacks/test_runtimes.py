"""`runtime: runc`: another OCI runtime makes the container, and everything else is as ever."""

from __future__ import annotations

import shutil

import pytest

from tests.host import Host

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not shutil.which("runc"), reason="runc is not installed"),
]

FILE = """
    services:
      ours:
        image: host
        init: true
        command: [sleep, "100000"]
      theirs:
        image: host
        runtime: runc
        mem_limit: 64m
        command: [sh, -c, "trap 'exit 3' TERM; echo begun; while :; do sleep 0.1; done"]
        volumes: ["data:/data"]
      greeter:
        image: host
        runtime: runc
        command: [python3, -m, http.server, "80"]
        healthcheck:
          test: [CMD, python3, -c, "import urllib.request as u; u.urlopen('http://localhost')"]
          start_interval: 1s
          start_period: 20s
    volumes: {data: {}}
"""
GET = "import urllib.request as u; print(u.urlopen('http://greeter').status)"


def test_all_of_a_life(host: Host) -> None:
    stack = host.stack(FILE)
    stack.ok("up", "-d", "--wait")
    assert {row["State"] for row in stack.ps().values()} == {"running"}
    assert stack.ok("logs", "--no-log-prefix", "theirs") == "begun\n"
    assert stack.ok("exec", "-T", "ours", "python3", "-c", GET) == "200\n"
    assert stack.ok("exec", "-T", "theirs", "sh", "-c", "echo x > /data/x; hostname").strip() != ""
    assert "64MiB" in stack.ok("stats", "--no-stream", "theirs").replace(" ", "")
    stack.ok("pause", "theirs")
    stack.ok("unpause", "theirs")
    stack.ok("stop", "theirs")
    theirs = f"{stack.name}-theirs-1"
    assert (stack.ps()[theirs]["State"], stack.ps()[theirs]["ExitCode"]) == ("exited", 3)
    stack.ok("start", "theirs")
    assert stack.ok("exec", "-T", "theirs", "cat", "/data/x") == "x\n"


def test_one_that_is_not_there(host: Host) -> None:
    stack = host.stack('services: {web: {image: host, runtime: no-such-runtime, command: [sleep, "1"]}}')
    done = stack("up", "-d")
    assert done.returncode == 1
    assert "no-such-runtime" in done.stderr
    assert "no such program on PATH" in done.stderr
