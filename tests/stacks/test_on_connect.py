"""Services that start with the first connection, and rest when nobody uses them: nobody is ever refused."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from composer.runtime import cgroup
from composer.supervisor.gates import listened
from tests.host import Host, Stack
from tests.serving import SERVER
from tests.stacks.test_crash import kill, processes, until

pytestmark = pytest.mark.kernel

WEB = """
    services:
      web:
        image: host
        init: true
        command: [python3, /server.py]
        environment: {{LATE: "{late}"}}
        volumes: ["./server.py:/server.py:ro"]
        ports: ["80"]
        {more}
"""


def web(host: Host, *more: str, late: float = 0) -> Stack:
    text = WEB.format(late=late, more="\n        ".join(more))
    return host.stack(text, files={"server.py": SERVER})


def row(stack: Stack, service: str = "web") -> dict[str, object]:
    (found,) = [each for each in stack.ps().values() if each["Service"] == service]
    return found


def port(stack: Stack, service: str = "web") -> int:
    publishers = row(stack, service)["Publishers"]
    assert isinstance(publishers, list)
    return int(next(each["PublishedPort"] for each in publishers if each["PublishedPort"]))


def get(number: int, address: str = "127.0.0.1") -> str:
    where = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{where}:{number}/", timeout=30) as answer:
        return str(answer.read().decode())


def status(stack: Stack, service: str = "web") -> str:
    return str(row(stack, service)["Status"])


def idles(stack: Stack, service: str = "web") -> bool:
    return status(stack, service).endswith("(Idle)")


def group(stack: Stack) -> cgroup.Group:
    return cgroup.open(f"/composer/{stack.name}/{row(stack)['ID']}")


def supervisor_again(stack: Stack) -> None:
    """kill -9, and wait for the next one."""
    (pid,) = processes(stack, "supervisor")
    kill(pid)
    until(lambda: [p for p in processes(stack, "supervisor") if p != pid])


def test_the_first_connection_starts_it_and_is_answered(host: Host) -> None:
    """By its name it also starts at once; what it depends on is there before it."""
    more = ("x-start: on-connect", "depends_on: [db]", "stop_grace_period: 0s")
    stack = web(host, *more)
    path = stack.folder / "compose.yaml"
    path.write_text(path.read_text() + '  db: {image: host, command: [sleep, "1000"], init: true}\n')
    shown = stack("up", "-d", "--wait")
    assert shown.returncode == 0
    assert "Waiting for a connection" in shown.stderr
    assert status(stack) == "Waiting for a connection"
    assert "waits for a connection" in stack.ok("why", "web")
    stack.ok("up", "-d")
    assert stack.ok("plan") == "nothing to do\n"
    stack.ok("stop", "db")
    number = port(stack)
    assert get(number) == "well"
    assert row(stack)["State"] == row(stack, "db")["State"] == "running"
    assert get(number) == "well"
    stack.ok("stop")
    assert row(stack)["State"] == "exited"
    stack.ok("start")
    assert status(stack) == "Waiting for a connection"
    stack.ok("restart")
    assert status(stack) == "Waiting for a connection"
    stack.ok("start", "web")
    until(lambda: status(stack).startswith("Up"))
    assert get(port(stack)) == "well"
    stack.ok("stop", "web")
    stack.ok("up", "-d")
    stack.ok("stop")
    assert row(stack)["Status"] != "Waiting for a connection"
    with pytest.raises(OSError):
        get(number)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_many_connections_at_once_wait_for_a_slow_start(host: Host, address: str) -> None:
    """Also those that come while it starts; and a healthcheck says when it is ready."""
    stack = web(host, "x-start: on-connect", late=1)
    stack.ok("up", "-d")
    number, found = port(stack), list[str]()
    threads = [threading.Thread(target=lambda: found.append(get(number, address))) for _ in range(20)]
    for thread in threads[:10]:
        thread.start()
    until(lambda: row(stack)["State"] == "running")
    for thread in threads[10:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["well"] * 20


def test_a_healthcheck_says_when_connections_are_carried_over(host: Host) -> None:
    check = 'healthcheck: {test: "test -e /tmp/ready", interval: 50ms, retries: 1000}'
    stack = web(host, "x-start: on-connect", check)
    stack.ok("up", "-d")
    number, found = port(stack), list[str]()
    thread = threading.Thread(target=lambda: found.append(get(number)))
    thread.start()
    until(lambda: row(stack)["State"] == "running")
    until(lambda: 80 in listened(recorded(stack)["pid"]))
    assert found == []
    stack.ok("exec", "-T", "web", "touch", "/tmp/ready")
    thread.join()
    assert found == ["well"]


def test_what_cannot_start_turns_connections_away(host: Host) -> None:
    """It is tried again with the next one."""
    stack = web(
        host, "x-start: on-connect", "depends_on: {gate: {condition: service_completed_successfully}}"
    )
    path = stack.folder / "compose.yaml"
    path.write_text(
        path.read_text() + '  gate: {image: host, command: [test, -e, /open/it], volumes: ["./:/open"]}\n'
    )
    stack("up", "-d")
    number = port(stack)
    for _ in range(2):
        with pytest.raises(OSError):
            get(number)
        assert status(stack) == "Waiting for a connection"
    (stack.folder / "it").touch()
    assert get(number) == "well"


def test_who_idles_is_frozen_until_somebody_comes(host: Host) -> None:
    """No CPU time at all; a connection that stands keeps it awake; exec and stop wake it, too."""
    stack = web(host, "x-idle: 300ms", "healthcheck: {x-http: 80, interval: 50ms, retries: 1000}")
    stack.ok("up", "-d", "--wait")
    number = port(stack)
    with socket.create_connection(("127.0.0.1", number)) as connection:
        for _ in range(3):
            last = used_at(stack)
            until(lambda last=last: used_at(stack) > last)
        assert not idles(stack)
        connection.close()
    until(lambda: idles(stack))
    assert group(stack).frozen
    used = group(stack).stats()["cpu"]
    for address in ("127.0.0.1", "::1", "127.0.0.1"):
        until(lambda: idles(stack))
        assert group(stack).frozen
        assert get(number, address) == "well"
        assert not group(stack).frozen
    assert group(stack).stats()["cpu"] != used
    until(lambda: idles(stack))
    frozen = group(stack).stats()["cpu"]
    assert "nobody uses it" in stack.ok("why", "web")
    stack.ok("up", "-d", "--wait")
    assert group(stack).stats()["cpu"] == frozen
    assert stack.ok("exec", "-T", "web", "echo", "here") == "here\n"
    until(lambda: idles(stack))
    stack.ok("stop")
    assert row(stack)["State"] == "exited"


def used_at(stack: Stack) -> int:
    """When it was last found to be used, by the record."""
    return int(recorded(stack)["plan"]["used_at"])


def recorded(stack: Stack) -> dict[str, Any]:
    record = json.loads((stack.host.root / "state" / "stacks" / stack.name / "record.json").read_text())
    return next(dict(each) for each in record["containers"] if each["service"] == "web")


def thawed(stack: Stack, service: str) -> int:
    """How often."""
    told = (stack.host.root / "state" / "stacks" / stack.name / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in told]
    return sum(event["action"] == "unpause" and event["service"] == service for event in events)


@pytest.mark.parametrize("state", ["waiting", "idle"])
def test_a_killed_supervisor_loses_no_connection(host: Host, state: str) -> None:
    """Neither one that comes before the next supervisor, nor one that waits while it is killed."""
    more = ("x-start: on-connect",) if state == "waiting" else ("x-idle: 300ms",)
    stack = web(host, *more, late=0.5)
    stack.ok("up", "-d")
    number = port(stack)
    if state == "idle":
        until(lambda: idles(stack))
    supervisor_again(stack)
    assert ("Waiting" in status(stack)) if state == "waiting" else group(stack).frozen
    (last,) = processes(stack, "supervisor")
    found = list[str]()
    thread = threading.Thread(target=lambda: found.append(get(number)))
    kill(last)
    thread.start()
    thread.join()
    assert found == ["well"]


def test_a_supervisor_killed_while_it_starts(host: Host) -> None:
    stack = web(host, "x-start: on-connect", late=2)
    stack.ok("up", "-d")
    number, found = port(stack), list[str]()
    thread = threading.Thread(target=lambda: found.append(get(number)))
    thread.start()
    until(lambda: row(stack)["State"] == "running")
    supervisor_again(stack)
    thread.join()
    assert found == ["well"]
    assert row(stack)["State"] == "running"


def test_without_its_keeper_nothing_waits(host: Host) -> None:
    """`ps` says so; the next `up` has it wait again."""
    stack = web(host, "x-start: on-connect")
    stack.ok("up", "-d")
    for each in processes(stack, "keeper"):
        kill(each)
    until(lambda: not processes(stack, "supervisor"))
    assert status(stack) == "Created"
    stack.ok("up", "-d")
    assert status(stack) == "Waiting for a connection"
    assert get(port(stack)) == "well"


def test_pause_idle_until_unpause(host: Host) -> None:
    """Without ports, too; who depends on it wakes it."""
    stack = web(host, "depends_on: [db]")
    path = stack.folder / "compose.yaml"
    path.write_text(path.read_text() + '  db: {image: host, command: [sleep, "1000"], init: true}\n')
    stack.ok("up", "-d")
    number = port(stack)
    stack.ok("pause", "--idle", "--after", "200ms")
    until(lambda: idles(stack) and idles(stack, "db"))
    before = thawed(stack, "db")
    assert get(number) == "well"
    until(lambda: thawed(stack, "db") > before)
    until(lambda: idles(stack) and idles(stack, "db"))
    stack.ok("unpause")
    assert {row(stack)["State"], row(stack, "db")["State"]} == {"running"}
    assert not recorded(stack)["plan"]["idle_after"]
    assert get(number) == "well"


def test_attach_wakes_who_rests_and_says_of_who_is_paused(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, init: true, command: [sh, -c, 'sleep 1000; exit 3']}}")
    stack.ok("up", "-d")
    stack.ok("pause", "--idle", "--after", "100ms")
    until(lambda: idles(stack))
    before = thawed(stack, "web")
    attached = stack.start("attach", "web")
    until(lambda: thawed(stack, "web") > before)
    stack.ok("kill", "web")
    assert attached.communicate(timeout=30) == ("", "")
    assert attached.returncode == 137
    stack.ok("up", "-d")
    stack.ok("pause")
    refused = stack("attach", "web")
    assert (refused.returncode, "is paused" in refused.stderr, "unpause" in refused.stderr) == (1, True, True)


def test_a_first_start_that_fails_is_waited_out(host: Host) -> None:
    """Its restart policy brings it back, and the first connection is still there."""
    stack = web(host, "x-start: on-connect", "restart: on-failure", late=0.2)
    path = stack.folder / "server.py"
    path.write_text("import os\nif not os.path.exists('/tmp/x'): open('/tmp/x', 'w'); os._exit(1)\n" + SERVER)
    stack.ok("up", "-d")
    assert get(port(stack)) == "well"
    assert recorded(stack)["restarts"] == 1


def test_one_that_cannot_be_turns_its_connections_away(host: Host) -> None:
    stack = web(host, "x-start: on-connect", late=0.2)
    (stack.folder / "server.py").write_text("raise SystemExit(3)")
    stack.ok("up", "-d")
    number = port(stack)
    with pytest.raises(OSError):
        get(number)
    until(lambda: row(stack)["ExitCode"] == 3)
    assert row(stack)["State"] == "exited"


ASK = "import urllib.request as u; print(u.urlopen('http://web/', timeout=30).read().decode())"


@pytest.mark.parametrize("key", ["x-start: on-connect", "x-idle: 300ms"])
def test_a_question_for_its_name_wakes_it(host: Host, key: str) -> None:
    """Other containers use no published port."""
    stack = web(host, key, late=0.5)
    path = stack.folder / "compose.yaml"
    path.write_text(path.read_text() + '  client: {image: host, command: [sleep, "1000"], init: true}\n')
    stack.ok("up", "-d")
    if "idle" in key:
        until(lambda: idles(stack))
    assert stack.ok("exec", "-T", "client", "python3", "-c", ASK) == "well\n"


def test_run_starts_what_it_needs(host: Host) -> None:
    check = "healthcheck: {x-http: 80, interval: 50ms, retries: 1000}"
    stack = web(host, "x-start: on-connect", check)
    path = stack.folder / "compose.yaml"
    asker = "  asker: {image: host, depends_on: {web: {condition: service_healthy}}, scale: 0}\n"
    path.write_text(path.read_text() + asker)
    assert stack.ok("run", "--rm", "-T", "asker", "python3", "-c", ASK) == "well\n"


def test_an_attached_up_waits_with_it(host: Host) -> None:
    """It goes on until somebody stops the service."""
    stack = web(host, "x-start: on-connect", "stop_grace_period: 0s")
    attached = stack.start("up")
    until(lambda: stack.ps() and status(stack) == "Waiting for a connection")
    assert stack.ok("port", "web", "80").strip().endswith(f":{port(stack)}")
    assert attached.poll() is None
    stack.ok("stop")
    assert attached.wait(30) == 0
    for pipe in (attached.stdout, attached.stderr):
        assert pipe is not None
        pipe.close()


FROM_ELSEWHERE = """
import socket, struct, urllib.request
route = next(r.split() for r in open('/proc/net/route').readlines()[1:] if r.split()[1] == '00000000')
gateway = socket.inet_ntoa(struct.pack('<I', int(route[2], 16)))
print(urllib.request.urlopen(f'http://{gateway}:NUMBER/', timeout=30).read().decode())
"""


@pytest.mark.parametrize("key", ["x-start: on-connect", "x-idle: 300ms"])
def test_others_wake_it_by_the_hosts_address(host: Host, key: str) -> None:
    stack = web(host, key)
    other = host.stack('services: {o: {image: host, init: true, command: [sleep, "1000"]}}', name="o")
    stack.ok("up", "-d")
    other.ok("up", "-d")
    if "idle" in key:
        until(lambda: idles(stack))
    code = FROM_ELSEWHERE.replace("NUMBER", str(port(stack)))
    assert other.ok("exec", "-T", "o", "python3", "-c", code) == "well\n"


def test_one_that_rests_is_replaced(host: Host) -> None:
    """Its successor takes over the ports that were held for it."""
    key = "x-idle: 300ms"
    update = "deploy: {update_config: {order: start-first}}"
    stack = web(host, key, update, "healthcheck: {x-http: 80, interval: 50ms, retries: 1000}")
    stack.ok("up", "-d")
    number = port(stack)
    until(lambda: idles(stack))
    path = stack.folder / "compose.yaml"
    path.write_text(path.read_text().replace('LATE: "0"', 'LATE: "0.1"'))
    stack.ok("up", "-d")
    assert get(number) == "well"
    until(lambda: idles(stack))
    assert get(number) == "well"
    assert len(stack.ps()) == 1


def test_mistakes_are_named(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, x-start: on-connect}}")
    assert "service `web` would be woken by a connection" in stack("config", "-q").stderr
    stack.rewrite('services: {web: {image: host, x-idle: 5m, ports: ["53:53/udp"]}}')
    assert "it only publishes others" in stack("config", "-q").stderr
    stack.rewrite('services: {web: {image: host, x-start: later, ports: ["80"]}}')
    assert "must be on-connect" in stack("config", "-q").stderr
    stack.rewrite('services: {web: {image: host, x-idle: never, ports: ["80"]}}')
    assert "`never` is not a duration" in stack("config", "-q").stderr
    stack.rewrite('services: {web: {image: host, x-idle: 5m, network_mode: host, ports: ["80"]}}')
    assert "`network_mode: host` leaves it no port" in stack("config", "-q").stderr


def test_a_taken_port_is_named(host: Host) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        number = taken.getsockname()[1]
        stack = host.stack(f'services: {{web: {{image: host, x-start: on-connect, ports: ["{number}:80"]}}}}')
        done = stack("up", "-d")
    assert done.returncode == 1
    assert f"tcp port {number} of this host is taken" in done.stderr


def test_connections_that_were_leave_the_port_free(host: Host) -> None:
    """The remains of those that we carried over belong to the host's side of the port."""
    stack = web(host, "x-start: on-connect", "stop_grace_period: 0s")
    stack.ok("up", "-d")
    number = port(stack)
    assert get(number) == "well"
    for _ in range(2):
        stack.ok("stop")
        stack.rewrite((stack.folder / "compose.yaml").read_text().replace('"80"', f'"{number}:80"'))
        stack.ok("up", "-d")
        assert get(number) == "well"


def test_left_behind_is_nothing(host: Host) -> None:
    """`down` while it waits: the ports are free at once."""
    stack = web(host, "x-start: on-connect")
    stack.ok("up", "-d")
    number = port(stack)
    stack.ok("down")
    with socket.socket() as free:
        free.bind(("", number))
    assert not list(Path(host.root / "run" / "stacks").glob("*"))
