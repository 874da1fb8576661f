"""Replacing what serves: nobody is refused, the sick never take over, a failed update can be taken back."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.host import Host, Stack
from tests.serving import SERVER

pytestmark = pytest.mark.kernel

STACK = """
    services:
      web:
        image: host
        init: true
        scale: {scale}
        command: [python3, /server.py]
        environment: {{SAYS: "{version}", LATE: "{late}"}}
        volumes: ["./server.py:/server.py:ro"]
        ports: ["{ports}"]
        healthcheck: {{x-http: 80, interval: 100ms, retries: {retries}}}
        deploy: {{update_config: {{{config}}}}}
"""


def text(
    version: str, config: str = "order: start-first", *, ports: str = "80", scale: int = 1, retries: int = 100
) -> str:
    late = 1000 if version == "broken" else 0
    return STACK.format(version=version, late=late, config=config, ports=ports, scale=scale, retries=retries)


def port(stack: Stack) -> int:
    (row,) = [row for row in stack.ps().values() if any(p["PublishedPort"] for p in row["Publishers"])]
    return int(next(p["PublishedPort"] for p in row["Publishers"] if p["PublishedPort"]))


def get(number: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{number}{path}", timeout=10) as answer:
        return str(answer.read().decode())


@contextmanager
def asked(number: int) -> Iterator[Counter[str]]:
    """Ask again and again meanwhile, a new connection each time; what came, and what went wrong."""
    found: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                found[get(number)] += 1
            except (OSError, urllib.error.URLError) as error:
                found[f"error: {error}"] += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_not_one_request_fails_over_several_replaces(host: Host) -> None:
    """New connections go to the new one, those that stand come to their end with the old one."""
    stack = host.stack(text("0"), files={"server.py": SERVER})
    stack.ok("up", "-d", "--wait")
    number = port(stack)
    with asked(number) as found:
        for version in range(1, 5):
            slow: list[str] = []
            asking = threading.Thread(target=lambda slow=slow: slow.append(get(number, "/slow")))
            asking.start()
            stack.rewrite(text(str(version)))
            stack.ok("up", "-d")
            asking.join()
            assert slow and slow[0] in (str(version - 1), str(version))
            assert get(number) == str(version)
    assert port(stack) == number
    assert [key for key in found if key.startswith("error")] == [], found
    assert {"0", "1", "2", "3", "4"} <= found.keys()
    assert len(stack.ps()) == 1


def test_names_lead_to_the_new_one_only_once_it_is_well(host: Host) -> None:
    """The sick successor has no part in the service's name, and the old one goes on."""
    stack = host.stack(text("1"), files={"server.py": SERVER})
    stack.ok("up", "-d", "--wait")
    number = port(stack)
    stack.rewrite(text("broken", retries=3))
    failed = stack("up", "-d")
    assert failed.returncode == 1
    assert "the update is paused: web-2 is unhealthy" in failed.stderr
    assert get(number) == "1"
    rows = {row["Service"] + row["Name"][-1]: row for row in stack.ps().values()}
    assert {name: row["Health"] for name, row in rows.items()} == {"web1": "healthy", "web2": "unhealthy"}
    lookup = "import socket; print(len(socket.gethostbyname_ex('web')[2]))"
    assert stack.ok("exec", "-T", "--index", "1", "web", "python3", "-c", lookup) == "1\n"
    stack.rewrite(text("3"))
    stack.ok("up", "-d")
    assert get(number) == "3"
    assert len(stack.ps()) == 1


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_a_failed_update_is_taken_back(host: Host, order: str) -> None:
    config = f"order: {order}, failure_action: rollback"
    stack = host.stack(text("1", config), files={"server.py": SERVER})
    stack.ok("up", "-d", "--wait")
    stack.rewrite(text("broken", config, retries=3))
    failed = stack("up", "-d")
    assert failed.returncode == 1
    assert "web: the update was rolled back: web-" in failed.stderr
    (row,) = stack.ps().values()
    assert row["State"] == "running"
    stack.ok("up", "-d", "--wait", "--no-recreate")
    assert get(port(stack)) == "1"
    stack.rewrite(text("2", config))
    stack.ok("up", "-d")
    assert get(port(stack)) == "2"


def test_replicas_go_one_after_the_other(host: Host) -> None:
    """At no time fewer than wanted, and each successor has the port of the one it replaces."""
    config = "order: start-first, parallelism: 1"
    stack = host.stack(text("1", config, ports="42310-42319:80", scale=3), files={"server.py": SERVER})
    stack.ok("up", "-d", "--wait")
    before = published(stack)
    stack.rewrite(text("2", config, ports="42310-42319:80", scale=3))
    lines = [json.loads(line) for line in stack("--progress", "json", "up", "-d").stderr.splitlines()]
    order = [line["text"] for line in lines if line["text"] in ("Took over", "Removed", "Started")]
    assert order == ["Started", "Took over", "Removed"] * 3
    assert published(stack) == before
    assert {get(number) for number in before} == {"2"}


NUMBERS = """
    services:
      web:
        image: host
        init: true
        scale: {scale}
        command: [sh, -c, "echo version {version}; exec sleep 1000"]
        environment: {{VERSION: "{version}"}}
        deploy: {{update_config: {{order: start-first}}}}
"""


@pytest.mark.parametrize(("scale", "seen"), [(1, [[1], [2], [1]]), (3, [[1, 2, 3], [1, 2, 4], [1, 2, 3]])])
def test_a_successor_keeps_its_number_and_commands_find_it(
    host: Host, scale: int, seen: list[list[int]]
) -> None:
    """Numbers are used again, so they stay below the number of replicas and of those replaced at once."""
    stack = host.stack(NUMBERS.format(scale=scale, version=0))
    for version, numbers in enumerate(seen):
        stack.rewrite(NUMBERS.format(scale=scale, version=version))
        stack.ok("up", "-d")
        assert sorted(int(name.rpartition("-")[2]) for name in stack.ps()) == numbers
        assert stack.ok("exec", "-T", "web", "printenv", "VERSION") == f"{version}\n"
        names = sorted(f" Container {stack.name}-web-{number}  Running" for number in numbers)
        assert stack("up", "-d").stderr.splitlines() == names, "it is left alone, whatever its number"
    stack.ok("up", "-d", "--scale", "web=1")
    assert [int(name.rpartition("-")[2]) for name in stack.ps()] == [1]


def published(stack: Stack) -> list[int]:
    rows = [p for row in stack.ps().values() for p in row["Publishers"] if p["PublishedPort"]]
    return sorted({int(row["PublishedPort"]) for row in rows})


def test_a_container_is_what_it_was_made_from(host: Host) -> None:
    """An old one that the update has not reached comes back as the old one, also after a crash of its own."""
    stack = host.stack(text("1"), files={"server.py": SERVER})
    stack.ok("up", "-d", "--wait")
    number = port(stack)
    stack.rewrite(text("broken", retries=3))
    assert stack("up", "-d").returncode == 1
    stack.ok("restart", "web")
    assert "1" in {answer for answer in (_try(number) for _ in range(200)) if answer}


def _try(number: int) -> str:
    try:
        return get(number)
    except OSError:
        threading.Event().wait(0.05)
        return ""
