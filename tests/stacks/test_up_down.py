"""`up`, `down`, `ps`, `stop`, `start`, `restart`, `kill`: what a user of Docker Compose expects of them."""

from __future__ import annotations

import json

import pytest

from tests.host import Host

pytestmark = pytest.mark.kernel

SLEEPER = """
    services:
      web:
        image: host
        init: true
        command: [sleep, "1000"]
"""


def test_up_and_down_leave_nothing(host: Host) -> None:
    """The fixture looks for what remains; `ps` and the state directory are empty, too."""
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d")
    assert [row["State"] for row in stack.ps().values()] == ["running"]
    stack.ok("down")
    assert stack.ps() == {}
    assert not (host.root / "state" / "stacks" / stack.name).exists()


def test_names_are_those_of_compose(host: Host) -> None:
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d")
    assert list(stack.ps()) == [f"{stack.name}-web-1"]
    assert stack.ok("ps", "--services") == "web\n"
    assert len(stack.ok("ps", "-q").strip()) == 64
    head = stack.ok("ps").splitlines()[0].split()
    assert head == ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]


def test_progress_is_plain_lines_when_not_a_terminal(host: Host) -> None:
    stack = host.stack(SLEEPER)
    done = stack("up", "-d")
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert f" Container {stack.name}-web-1  Created" in lines
    assert f" Container {stack.name}-web-1  Started" in lines
    assert "\x1b" not in done.stderr


def test_stop_start_restart_keep_the_container(host: Host) -> None:
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d")
    identity = stack.ok("ps", "-q")
    stack.ok("exec", "-T", "web", "sh", "-c", "echo kept > /kept")
    stack.ok("stop")
    (row,) = stack.ps().values()
    assert (row["State"], row["ExitCode"]) == ("exited", 143)
    stack.ok("start")
    assert stack.ok("exec", "-T", "web", "cat", "/kept") == "kept\n"
    stack.ok("restart")
    assert stack.ok("ps", "-q") == identity
    assert stack.ok("exec", "-T", "web", "cat", "/kept") == "kept\n"


def test_kill_ends_it_with_137(host: Host) -> None:
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d")
    stack.ok("kill", "web")
    done = stack("logs", "-f", "web")
    assert done.returncode == 0
    (row,) = stack.ps().values()
    assert (row["State"], row["ExitCode"]) == ("exited", 137)


def test_exit_codes_are_exact(host: Host) -> None:
    stack = host.stack(
        """
        services:
          seven:
            image: host
            command: [sh, -c, "exit 7"]
          lost:
            image: host
            init: true
            command: [sh, -c, "kill -9 $$$$"]
        """
    )
    done = stack("up")
    assert done.returncode == 0
    rows = {row["Service"]: row["ExitCode"] for row in stack.ps().values()}
    assert rows == {"seven": 7, "lost": 137}


def test_a_program_that_is_not_there(host: Host) -> None:
    """`up` says so, in one sentence, and the exit code of the container is 127."""
    stack = host.stack(
        """
        services:
          web:
            image: host
            command: [no-such-program]
        """
    )
    done = stack("up", "-d")
    assert done.returncode == 1
    assert "no-such-program: executable file not found" in done.stderr
    assert "Traceback" not in done.stderr
    (row,) = stack.ps().values()
    assert row["ExitCode"] == 127


def test_attached_up_shows_output_with_prefixes(host: Host) -> None:
    stack = host.stack(
        """
        services:
          one:
            image: host
            command: [sh, -c, "echo hello; echo oops >&2"]
          second:
            image: host
            command: [sh, -c, "exit 3"]
        """
    )
    done = stack("up")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "one-1     | hello" in lines
    assert "one-1     | oops" in lines
    assert "second-1 exited with code 3" in lines


def test_exit_code_from(host: Host) -> None:
    stack = host.stack(
        """
        services:
          test:
            image: host
            command: [sh, -c, "exit 4"]
          db:
            image: host
            init: true
            command: [sleep, "1000"]
        """
    )
    done = stack("up", "--exit-code-from", "test")
    assert done.returncode == 4
    assert {row["State"] for row in stack.ps().values()} == {"exited"}


def test_unhealthy_dependency_fails_at_once_with_its_cause(host: Host) -> None:
    stack = host.stack(
        """
        services:
          db:
            image: host
            init: true
            command: [sleep, "1000"]
            healthcheck:
              test: [CMD-SHELL, "echo the disk is full; exit 1"]
              interval: 50ms
              retries: 2
          web:
            image: host
            command: [sleep, "1000"]
            depends_on:
              db: {condition: service_healthy}
        """
    )
    done = stack("up", "-d")
    assert done.returncode == 1
    assert "web-1" in done.stderr and "db-1 is unhealthy" in done.stderr
    assert {row["Service"]: row["State"] for row in stack.ps().values()}["web"] == "created"


def test_completed_one_shot_satisfies_and_is_not_run_again(host: Host) -> None:
    stack = host.stack(
        """
        services:
          migrate:
            image: host
            command: [sh, -c, "echo ran >> /data/runs"]
            volumes: [data:/data]
          web:
            image: host
            init: true
            command: [sleep, "1000"]
            volumes: [data:/data]
            depends_on:
              migrate: {condition: service_completed_successfully}
        volumes: {data: }
        """
    )
    stack.ok("up", "-d", "--wait")
    stack.ok("up", "-d", "--wait")
    assert stack.ok("exec", "-T", "web", "cat", "/data/runs") == "ran\n"


def test_restart_policy_brings_it_back(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            restart: on-failure:2
            command: [sh, -c, "echo begun; exit 9"]
        """
    )
    done = stack("up")
    assert done.returncode == 0
    assert done.stdout.count("| begun") == 3


def test_scale_up_and_down(host: Host) -> None:
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d", "--scale", "web=3")
    assert [name.rpartition("-")[2] for name in stack.ps()] == ["1", "2", "3"]
    stack.ok("up", "-d", "--scale", "web=1")
    assert [name.rpartition("-")[2] for name in stack.ps()] == ["1"]


def test_orphans_go_when_asked(host: Host) -> None:
    stack = host.stack(
        SLEEPER + '      old:\n        image: host\n        init: true\n        command: [sleep, "1000"]\n'
    )
    stack.ok("up", "-d")
    stack.rewrite(SLEEPER)
    stack.ok("up", "-d")
    assert len(stack.ps()) == 2
    stack.ok("up", "-d", "--remove-orphans")
    assert list(stack.ps()) == [f"{stack.name}-web-1"]


def test_two_checkouts_never_destroy_each_other(host: Host) -> None:
    """The same folder name in another place is refused, with a remedy."""
    first = host.stack(SLEEPER)
    first.ok("up", "-d")
    other = host.root / "elsewhere" / first.name
    other.mkdir(parents=True)
    (other / "compose.yaml").write_text((first.folder / "compose.yaml").read_text())
    for verb in (["up", "-d"], ["down"]):
        done = host.composer(*verb, cwd=other)
        assert done.returncode == 1
        assert "already here" in done.stderr and "-p NAME" in done.stderr
    assert [row["State"] for row in first.ps().values()] == ["running"]


def test_dry_run_does_nothing(host: Host) -> None:
    stack = host.stack(SLEEPER)
    done = stack("--dry-run", "up", "-d")
    assert done.returncode == 0
    assert f"Container {stack.name}-web-1  Starting" in done.stderr
    assert stack.ps() == {}
    stack.ok("up", "-d")
    stack.ok("down", "--dry-run")
    stack.rewrite(SLEEPER.replace("init: true", "labels: {a.b: new}\n        init: true"))
    for words in (("plan",), ("--dry-run", "up", "-d")):
        planned = stack(*words)
        assert 'Stopping: recreate: labels.a.b "new" added' in planned.stdout + planned.stderr
    refused = stack("--dry-run", "kill")
    assert (refused.returncode, "has no dry run, and was not done" in refused.stderr) == (2, True)
    assert [row["State"] for row in stack.ps().values()] == ["running"]


def test_stdin_file(host: Host) -> None:
    stack = host.stack(SLEEPER)
    text = (stack.folder / "compose.yaml").read_text()
    stack.ok("-f", "-", "up", "-d", stdin=text)
    assert len(stack.ps()) == 1


def test_json_progress(host: Host) -> None:
    stack = host.stack(SLEEPER)
    lines = [json.loads(line) for line in stack("--progress", "json", "up", "-d").stderr.splitlines()]
    assert {"id": f"Container {stack.name}-web-1", "status": "Done", "text": "Started"} in lines
