"""Health: what is probed from the outside, what is cured by a restart, and what a check may not do."""

from __future__ import annotations

import json

import pytest

from tests.host import Host
from tests.stacks.test_crash import kill, processes, until

pytestmark = pytest.mark.kernel


def test_probes_need_nothing_in_the_image(host: Host) -> None:
    """No shell, no curl: the socket is opened from the outside, in the container's network."""
    stack = host.stack(
        """
        services:
          web:
            image: host
            init: true
            command: [python3, -m, http.server, "8000", --bind, 127.0.0.1]
            healthcheck: {x-http: {port: 8000, path: /etc/hostname}, interval: 100ms, retries: 200}
          bad:
            image: host
            init: true
            command: [python3, -m, http.server, "8000"]
            healthcheck: {x-http: {port: 8000, path: /nowhere}, interval: 50ms, start_period: 5s, retries: 1}
          socket:
            image: host
            init: true
            command: [python3, -m, http.server, "8000", --bind, "::1"]
            healthcheck: {x-tcp: 8000, interval: 100ms, retries: 200}
        """
    )
    stack.ok("up", "-d", "--wait", "web", "socket")
    stack.ok("up", "-d")
    until(lambda: "404" in stack("why", "bad").stdout, 10)
    health = {row["Service"]: row["Health"] for row in stack.ps().values()}
    assert (health["web"], health["socket"]) == ("healthy", "healthy")


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("healthcheck: {x-tcp: 99999}", "x-tcp: must be a port of the container"),
        ("healthcheck: {x-http: {prot: 80}}", "has no key `prot`"),
        ("healthcheck: {x-http: {path: health}}", "`path` must begin with /"),
        ('healthcheck: {x-http: {path: "/ HTTP/1.1\\r\\nX: y"}}', "`path` must begin with /"),
        ('healthcheck: {x-http: {headers: {A: "b\\r\\nc"}}}', "the header `A` cannot be sent"),
        ("healthcheck: {x-http: {status: 2xx}}", "`status` must be a code"),
        ("healthcheck: {x-tcp: 80, test: [CMD, a]}", "`test` and `x-tcp` exclude each other"),
        ("x-restart-unhealthy: often", "x-restart-unhealthy: must be true"),
        ("x-restart-unhealthy: {attempts: 3, window: never}", "`never` is not a duration"),
    ],
)
def test_mistakes_in_our_own_keys(host: Host, key: str, complaint: str) -> None:
    stack = host.stack(f"services:\n  web:\n    image: host\n    {key}\n")
    done = stack("config", "-q")
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "compose.yaml:4:" in done.stderr


def test_an_unhealthy_one_is_restarted_so_often_and_not_more(host: Host) -> None:
    stack = host.stack(
        """
        services:
          sick:
            image: host
            init: true
            stop_grace_period: 1s
            command: [sleep, "1000"]
            healthcheck: {x-tcp: 80, interval: 30ms, retries: 2}
            x-restart-unhealthy: {attempts: 2, window: 1h}
        """
    )
    stack.ok("up", "-d")
    record = host.root / "state" / "stacks" / stack.name / "record.json"

    def spent() -> bool:
        (row,) = json.loads(record.read_text())["containers"]
        return bool(row["restarts"] == 2 and row["health"] == "unhealthy")

    until(spent)
    (pid,) = processes(stack, "supervisor")
    kill(pid)  # the budget is not forgotten with the supervisor
    until(lambda: [p for p in processes(stack, "supervisor") if p != pid])
    events = stack.ok("events", "--json", "--since", "1h", "--until", "0s").splitlines()
    actions = [json.loads(line)["action"] for line in events]
    assert actions.count("start") == 3
    assert spent()


def test_a_hanging_check_is_killed_with_its_children(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            init: true
            command: [sleep, "1000"]
            healthcheck:
              test: [CMD-SHELL, "sleep 777 & sleep 778"]
              interval: 50ms
              timeout: 100ms
              retries: 2
        """
    )
    stack.ok("up", "-d")
    until(lambda: next(iter(stack.ps().values()))["Health"] == "unhealthy")
    assert "exceeded timeout (0.1s)" in stack("why", "web").stdout
    stack.ok("pause")
    running = stack.ok("top", "web")
    for left in ("sleep 777", "sleep 778"):  # at most those of the check that is under way
        assert sum(line.endswith(f"   {left}") for line in running.splitlines()) <= 1, running
    stack.ok("unpause")


def test_what_up_waits_for_is_seen(host: Host) -> None:
    """As Docker Compose shows it: the dependency's line, as long as it is waited for."""
    stack = host.stack("""
        services:
          db:
            image: host
            init: true
            command: [sleep, "1000"]
            healthcheck: {test: [CMD, test, -e, /go/db], interval: 100ms, retries: 1000}
            volumes: [./go:/go]
          job:
            image: host
            init: true
            command: [sh, -c, "until test -e /go/job; do sleep 0.05; done"]
            volumes: [./go:/go]
          web:
            image: host
            init: true
            command: [sleep, "1000"]
            depends_on:
              db: {condition: service_healthy}
              job: {condition: service_completed_successfully}
    """)
    with stack.start("up", "-d") as up:
        assert up.stderr is not None
        seen = [next(line for line in up.stderr if "Waiting" in line) for _ in range(2)]
        names = [f" Container {stack.name}-{service}-1 " for service in ("db", "job")]
        assert sorted(seen) == [f"{name} Waiting\n" for name in names]
        for name, file, text in zip(names, ("db", "job"), ("Healthy", "Exited"), strict=True):
            (stack.folder / "go" / file).touch()
            assert next(line for line in up.stderr if name in line) == f"{name} {text}\n"
        assert [line.split()[-1] for line in up.stderr] == ["Starting", "Started"]
    assert up.returncode == 0
