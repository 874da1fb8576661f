"""What people who come from Docker Compose do without thinking about it."""

from __future__ import annotations

import json
import socket
import time

import pytest

from tests.host import Host, Stack

pytestmark = pytest.mark.kernel


def test_a_crash_loop_goes_on_though_nothing_else_runs(host: Host) -> None:
    """Its delay doubles, and soon is longer than an idle supervisor stays. Meanwhile it is `restarting`."""
    stack = host.stack("""
        services:
          loop: {image: host, command: [sh, -c, exit 3], restart: always}
    """)
    stack.ok("up", "-d")
    await_deaths(stack, 6)
    (row,) = stack.ps().values()
    assert (row["State"], row["ExitCode"]) == ("restarting", 3)
    assert row["Status"].startswith("Restarting (3) ")
    assert "restarting(1)" in stack.ok("ls")
    await_deaths(stack, 7)
    stopped = stack("stop")
    assert stopped.stderr.splitlines()[-1] == f" Container {stack.name}-loop-1  Stopped"
    assert [row["State"] for row in stack.ps().values()] == ["exited"]


def await_deaths(stack: Stack, number: int) -> None:
    """Asks the file of events, not the supervisor, which would stay for who asks."""
    until = time.monotonic() + 60
    while stack.ok("events", "--since", "10m", "--until", "0s").count(" die ") < number:
        assert time.monotonic() < until, "it is not restarted any more"


def test_a_service_that_is_named_brings_its_profiles(host: Host) -> None:
    stack = host.stack("""
        services:
          web: {image: host, command: [sleep, "1000"], init: true}
          debug: {image: host, command: [sleep, "1000"], init: true, profiles: [tools]}
    """)
    stack.ok("up", "-d")
    assert list(stack.ps()) == [f"{stack.name}-web-1"]
    assert stack.ok("run", "--rm", "-T", "debug", "echo", "ran") == "ran\n"
    stack.ok("up", "-d", "debug")
    assert stack.ok("exec", "-T", "debug", "echo", "hello") == "hello\n"
    stack.ok("up", "-d")
    assert {row["State"] for row in stack.ps().values()} == {"running"}
    assert len(stack.ps()) == 2
    stack.ok("stop", "debug")
    refused = stack("up", "-d", "debgu")
    assert (refused.returncode, "no such service: debgu" in refused.stderr) == (1, True)


def test_down_v_after_down_takes_the_volumes(host: Host) -> None:
    stack = host.stack("""
        services:
          web: {image: host, command: [sleep, "1000"], init: true, volumes: ["data:/data"]}
        volumes: {data: }
    """)
    stack.ok("up", "-d")
    stack.ok("down")
    assert stack.ok("volume", "ls", "-q") == f"{stack.name}_data\n"
    stack.ok("down", "-v")
    assert stack.ok("volume", "ls", "-q") == ""
    assert "nothing of stack" in stack("down", "-v").stderr


def test_a_failed_start_says_its_name_once_and_why_remembers(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, command: /nope}}")
    failed = stack("up", "-d")
    text = f"container {stack.name}-web-1 cannot run /nope: executable file not found in the container"
    assert failed.stderr.splitlines()[-1] == f"error: {text}"
    assert text in stack("why", "web").stdout


def test_what_cannot_be_pulled_is_told_once_with_who_waits_for_it(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web: {image: "localhost:1/no:1"}
          db: {image: "localhost:1/no:1"}
        """
    )
    done = stack("up", "-d")
    assert done.returncode == 1
    assert done.stderr.count("Connection refused") == 1
    assert "error: image localhost:1/no:1 (db-1, web-1): the connection to localhost:1 failed" in done.stderr


def test_what_a_person_kills_stays_down(host: Host) -> None:
    stack = host.stack("""
        services:
          web: {image: host, command: [sleep, "1000"], restart: always}
    """)
    stack.ok("up", "-d")
    stack.ok("kill", "web")
    assert stack("logs", "-f", "web").returncode == 0
    assert [row["State"] for row in stack.ps().values()] == ["exited"]
    assert "as it was asked to" in stack("why", "web").stdout
    stack.ok("start", "web")
    assert [row["State"] for row in stack.ps().values()] == ["running"]


def test_down_leaves_orphans_and_does_not_forget_them(host: Host) -> None:
    both = """
        services:
          web: {image: host, command: [sleep, "1000"], init: true}
          old: {image: host, command: [sleep, "1000"], init: true}
    """
    stack = host.stack(both)
    stack.ok("up", "-d")
    stack.rewrite(both.replace("          old", "          x-old").replace("x-old:", "new:"))
    told = stack("down").stderr
    assert f"note: {stack.name}-old-1: left" in told and "--remove-orphans" in told
    assert {row["Service"]: row["State"] for row in stack.ps().values()} == {"old": "running"}
    stack.ok("down", "--remove-orphans")
    assert stack.ps() == {}


def test_a_service_of_a_profile_is_no_orphan(host: Host) -> None:
    stack = host.stack("""
        services:
          web: {image: host, command: [sleep, "1000"], init: true}
          debug: {image: host, command: [sleep, "1000"], init: true, profiles: [tools]}
    """)
    stack.ok("--profile", "tools", "up", "-d")
    stack.ok("up", "-d", "--remove-orphans")
    assert {row["Service"] for row in stack.ps().values()} == {"web", "debug"}
    told = stack("down").stderr
    assert f"note: {stack.name}-debug-1: left" in told and "--profile" in told
    assert "note:" not in stack("--profile", "*", "down").stderr


def test_nothing_to_bring_up_is_no_success(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, profiles: [tools]}}")
    done = stack("up", "-d")
    assert done.returncode == 1
    assert "no service selected" in done.stderr and "hint: web: name one" in done.stderr
    assert stack("--all-resources", "up", "-d").returncode == 0
    stack.ok("--all-resources", "down")


def test_why_without_a_service_names_the_culprits(host: Host) -> None:
    stack = host.stack("""
        services:
          web: {image: host, command: [sleep, "1000"], init: true}
          db: {image: host, command: [sh, -c, "echo no disk; exit 3"]}
          app: {image: host, command: "true", depends_on: {db: {condition: service_completed_successfully}}}
    """)
    stack("up", "-d")
    told = stack("why")
    assert told.returncode == 1
    assert "app" in told.stdout and "exited (3)" in told.stdout and told.stdout.count("| no disk") == 1
    assert "web" not in told.stdout
    stack.rewrite("services: {web: {image: host, command: [sleep, '1000'], init: true}}")
    stack.ok("up", "-d", "--remove-orphans")
    assert stack.ok("why") == "all services are up\n"


def test_down_does_not_wait_for_a_pull(host: Host) -> None:
    """The registry takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as registry:
        registry.settimeout(30)
        image = f"127.0.0.1:{registry.getsockname()[1]}/silent/image:1"
        stack = host.stack(f"services: {{web: {{image: '{image}'}}}}")
        process = stack.start("up", "-d")
        client, _ = registry.accept()
        with client:
            stack.ok("down")
            _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was ended by `down`" in told


def test_orphans_are_told_of_unless_nobody_wants_to_know(host: Host) -> None:
    both = """
        services:
          web: {image: host, command: [sleep, "1000"], init: true}
          old: {image: host, command: [sleep, "1000"], init: true}
    """
    stack = host.stack(both)
    assert "orphan" not in stack("up", "-d").stderr
    stack.rewrite(both.replace(" old:", " new:"))
    told = stack("up", "-d").stderr
    assert f"{stack.name}-old-1" in told and "--remove-orphans" in told
    assert "orphan" not in stack("up", "-d", env={"COMPOSE_IGNORE_ORPHANS": "1"}).stderr
    assert "orphan" not in stack("up", "-d", env={"COMPOSE_REMOVE_ORPHANS": "true"}).stderr
    assert len(stack.ps()) == 2


def test_run_makes_a_volume_that_is_named_on_the_spot(host: Host) -> None:
    stack = host.stack("services: {web: {image: host}}")
    volume = f"{stack.name}-spot"
    stack.ok("run", "--rm", "-T", "-v", f"{volume}:/x", "web", "sh", "-c", "echo kept > /x/kept")
    assert stack.ok("run", "--rm", "-T", "-v", f"{volume}:/x", "web", "cat", "/x/kept") == "kept\n"
    stack.ok("down", "-v")
    assert stack.ok("volume", "ls", "-q") == f"{volume}\n"


@pytest.mark.parametrize("name", ["aa/../../../b", "my app", ".."])
def test_a_container_of_run_has_no_name_that_leads_elsewhere(host: Host, name: str) -> None:
    stack = host.stack("services: {a: {image: host}}")
    ran = stack("run", "--rm", "-T", "--name", name, "a", "true")
    assert (ran.returncode, f"a container cannot be named {name!r}" in ran.stderr) == (1, True)


@pytest.mark.parametrize("words", [("ps",), ("up", "-d"), ("down",), ("logs",)])
def test_a_name_that_leads_elsewhere_is_no_name(host: Host, words: tuple[str, ...]) -> None:
    """As of branches in CI: `COMPOSE_PROJECT_NAME=feature/x`."""
    stack = host.stack("services: {a: {image: host}}")
    for name in ("feature/x", "../x", "Name"):
        for done in (stack("-p", name, *words), stack(*words, env={"COMPOSE_PROJECT_NAME": name})):
            assert (done.returncode, f"`{name}` cannot be the name of a stack" in done.stderr) == (1, True)


def test_up_knows_what_it_is_to_scale(host: Host) -> None:
    stack = host.stack("services: {web: {image: host}}")
    done = stack("up", "-d", "--scale", "wbe=2")
    assert (done.returncode, "no such service: wbe" in done.stderr) == (1, True)
    assert stack.ps() == {}


def test_nothing_said_is_a_question_for_help(host: Host) -> None:
    done = host.stack("services: {}")()
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: composer" in done.stdout


def test_ansi_always_reaches_complaints(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, imge: x}}")
    assert "\x1b[" in stack("--ansi", "always", "config").stderr
    assert "\x1b[" in stack("config", env={"COMPOSE_ANSI": "always"}).stderr
    assert "\x1b[" not in stack("--ansi", "never", "config").stderr


def test_progress_goes_where_the_variable_says(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, command: [sleep, '1000'], init: true}}")
    done = stack("up", "-d", env={"COMPOSE_STATUS_STDOUT": "1"})
    assert "Started" in done.stdout and "Started" not in done.stderr


def test_who_ends_something_by_name_does_not_move_the_stack(host: Host) -> None:
    """`down` by name in another stack's folder: what it does not know stays, and stays where it is from."""
    stack = host.stack("services: {web: {image: host, command: [sleep, '1000']}}")
    other = host.stack("services: {db: {image: host, command: [sleep, '1000']}}", name="other")
    stack.ok("up", "-d")
    other.ok("-p", stack.name, "down")
    (row,) = json.loads(stack.ok("ls", "--format", "json"))
    assert row["ConfigFiles"] == str(stack.folder / "compose.yaml")


def test_who_ends_something_with_other_files_changes_nothing_about_the_rest(host: Host) -> None:
    """What its files name ends; what the stack is to be is still known, and comes back by its own files."""
    stack = host.stack(
        """
        services:
          web: {image: host, command: [sleep, "1000"], init: true, depends_on: [db]}
          db: {image: host, command: [sleep, "1000"], init: true}
        """
    )
    other = host.stack("services: {db: {image: host}, mail: {image: host}}", name="other")
    stack.ok("up", "-d")
    planned = other("-p", stack.name, "down", "--dry-run").stderr
    assert "db-1" in planned and "web-1" not in planned
    told = other("-p", stack.name, "down", "-t", "0").stderr
    assert f"{stack.name}-web-1: left" in told
    assert {name: row["State"] for name, row in stack.ps().items()} == {f"{stack.name}-web-1": "running"}
    other.ok("-p", stack.name, "stop", "-t", "0")
    assert [row["State"] for row in stack.ps().values()] == ["running"]
    assert "1 thing to do" not in stack.ok("plan") and "db-1" in stack.ok("plan")
    other.ok("-p", stack.name, "down", "--remove-orphans", "-t", "0")
    assert stack.ps() == {}


def test_who_takes_a_stack_over_by_its_name_is_told_where_it_was(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, command: [sleep, '1000'], init: true}}")
    other = host.stack("services: {web: {image: host, command: [sleep, '1001'], init: true}}", name="other")
    stack.ok("up", "-d")
    told = other("-p", stack.name, "up", "-d").stderr
    assert f"stack {stack.name} was brought up from {stack.folder} before" in told
    assert "before" not in other("-p", stack.name, "up", "-d").stderr
