"""What users of such tools complain about most, each as a test where no other file has it."""

from __future__ import annotations

import pytest

from tests.host import Host

pytestmark = pytest.mark.kernel


def test_first_steps_run_once_before_the_first_start(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            init: true
            command: [sleep, "1000"]
            volumes: ["data:/data"]
            pre_start:
              - {image: host, command: [sh, -c, "echo one >> /data/steps"], volumes: ["data:/data"]}
              - {image: host, command: [sh, -c, "echo two >> /data/steps"], volumes: ["data:/data"]}
        volumes: {data: }
        """
    )
    stack.ok("up", "-d")
    stack.ok("restart")
    assert stack.ok("exec", "-T", "web", "cat", "/data/steps") == "one\ntwo\n"


def test_a_first_step_that_fails_starts_nothing(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            command: [sleep, "1000"]
            pre_start: [{image: host, command: [sh, -c, "exit 4"]}]
        """
    )
    failed = stack("up", "-d")
    assert failed.returncode == 1
    assert "pre_start step 1" in failed.stderr and "ended with 4" in failed.stderr
    assert [row["State"] for row in stack.ps().values()] == ["created"]


def test_run_waits_for_its_dependencies(host: Host) -> None:
    stack = host.stack(
        """
        services:
          db:
            image: host
            init: true
            command: [sh, -c, "sleep 0.5; touch /tmp/ready; sleep 1000"]
            healthcheck: {test: [CMD, test, -e, /tmp/ready], interval: 100ms, retries: 100}
          web:
            image: host
            depends_on: {db: {condition: service_healthy}}
        """
    )
    assert stack.ok("run", "--rm", "-T", "web", "echo", "ran") == "ran\n"
    assert [row["Health"] for row in stack.ps().values()] == ["healthy"]


def test_a_wait_that_is_over_is_a_failure(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            init: true
            command: [sleep, "1000"]
            healthcheck: {test: [CMD, "false"], interval: 100ms, start_period: 1h}
        """
    )
    done = stack("up", "-d", "--wait", "--wait-timeout", "1")
    assert done.returncode == 1
    assert "not ready after 1 s" in done.stderr


def test_logs_survive_the_recreation(host: Host) -> None:
    text = """
        services:
          web: {{image: host, init: true, command: [sh, -c, "echo version {version}; {then}"]}}
        """
    stack = host.stack(text.format(version=1, then="sleep 1000"))
    stack.ok("up", "-d")
    stack.rewrite(text.format(version=2, then="exit 3"))
    stack.ok("up", "-d")
    following = stack("logs", "--no-log-prefix", "--since", "1h")
    assert "version 1" in following.stdout
    stack("wait", "web")
    told = stack("why", "web").stdout
    assert "version 2" in told and "version 1" not in told


def test_start_honours_conditions(host: Host) -> None:
    stack = host.stack(
        """
        services:
          db:
            image: host
            init: true
            command: [sleep, "1000"]
            healthcheck: {test: [CMD, "true"], interval: 200ms}
          web:
            image: host
            init: true
            command: [sleep, "1000"]
            depends_on: {db: {condition: service_healthy}}
        """
    )
    stack.ok("up", "-d")
    stack.ok("stop")
    stack.ok("start", "web")
    assert {row["Service"]: row["Health"] for row in stack.ps().values()}["db"] == "healthy"


def test_a_volume_that_is_described_otherwise_by_now_stays_unless_said_so(host: Host) -> None:
    text = """
        services:
          web: {{image: host, init: true, command: [sleep, "1000"], volumes: ["data:/data"]}}
        volumes: {{data: {{labels: {{a: "{label}"}}}}}}
        """
    stack = host.stack(text.format(label=1))
    stack.ok("up", "-d")
    stack.ok("exec", "-T", "web", "sh", "-c", "echo kept > /data/kept")
    stack.rewrite(text.format(label=2))
    told = stack("up", "-d").stderr
    assert f"volume {stack.name}_data exists with other labels" in told
    assert stack.ok("exec", "-T", "web", "cat", "/data/kept") == "kept\n"
    stack.ok("up", "-d", "-y")
    assert stack("exec", "-T", "web", "cat", "/data/kept").returncode == 1
    assert (
        stack.ok("volume", "inspect", f"{stack.name}_data", "--format", "{{json .Labels}}").replace(" ", "")
        == '{"a":"2"}\n'
    )
    stack.ok("exec", "-T", "web", "sh", "-c", "echo new > /data/kept")
    assert "Stopp" not in stack("up", "-d", "-y").stderr, "what is as described is left alone"
    assert stack.ok("exec", "-T", "web", "cat", "/data/kept") == "new\n"
