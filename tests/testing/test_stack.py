"""`composer.Stack` and `composer.AsyncStack` on real containers."""

from __future__ import annotations

import inspect
import os
import select
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import anyio
import pytest

from composer import AsyncStack, ExecError, Stack
from composer.api.aio import AsyncService
from composer.api.process import execute
from composer.api.service import Service
from composer.api.stale import sweep
from composer.errors import ComposerError, FailedError, LateError, NotFoundError, StackFileError, UsageError
from tests.host import Host

pytestmark = pytest.mark.kernel

WEB = """
    services:
      web:
        image: host
        init: true
        command: [python3, -u, -m, http.server, "80"]
        ports: ["80"]
        volumes: [data:/data]
        healthcheck:
          test: [CMD, python3, -c, "import socket; socket.create_connection(('127.0.0.1', 80))"]
          start_period: 60s
          start_interval: 50ms
    volumes:
      data:
"""
SLEEP = {"services": {"one": {"image": "host", "init": True, "command": ["sleep", "inf"]}}}


def named(host: Host, suffix: str = "s") -> str:
    return f"{host.mark}{suffix}"


def test_a_stack_of_text_is_up_inside_of_with_and_gone_afterwards(here: Host) -> None:
    """Its own name, health awaited, ports reached, and not even a volume stays."""
    with Stack(yaml=WEB) as stack:
        web = stack["web"]
        assert web.health == "healthy"
        assert urllib.request.urlopen(web.url(80)).status == 200
        assert web.url(80, "/x") == f"http://127.0.0.1:{web.port(80)}/x"
        assert urllib.request.urlopen(f"http://{web.address}").status == 200
        name = stack.name
    assert not (here.root / "state/stacks" / name).exists()
    assert os.listdir(here.root / "state/volumes") == [".lock"]


def test_what_is_named_keeps_its_volumes(here: Host) -> None:
    stack = Stack(yaml=WEB, name=named(here))
    with stack:
        stack["web"].exec("sh", "-c", "echo kept > /data/file", check=True)
    with stack:
        assert stack["web"].exec("cat", "/data/file").stdout == "kept\n"
    stack.down(volumes=True)


def test_files_are_merged_and_variables_given(here: Host) -> None:
    """Several files, then text; relative to a directory; with an environment of its own."""
    (here.root / "a.yaml").write_text("services: {one: {image: host, command: [sleep, '$LONG']}}")
    (here.root / "b.yaml").write_text("services: {one: {environment: {FROM: b}}}")
    more = {"services": {"one": {"environment": {"ALSO": "text"}}}}
    stack = Stack("a.yaml", "b.yaml", yaml=more, directory=here.root, env={"LONG": "inf"}, name=named(here))
    one = stack.config["services"]["one"]
    assert one["command"] == ["sleep", "inf"]
    assert one["environment"] == {"FROM": "b", "ALSO": "text"}
    assert stack.services == ["one"]
    assert "one" in stack and "two" not in stack


def test_exec_gives_output_and_exit_code(here: Host) -> None:
    with Stack(yaml=SLEEP) as stack:
        one = stack["one"]
        result = one.exec("sh", "-c", "cat; echo $WHO >&2; exit 3", input="given", env={"WHO": "me"})
        assert (result.exit_code, result.stdout, result.stderr, result.ok) == (3, "given", "me\n", False)
        large = one.exec("sh", "-c", "head -c 3000000 /dev/zero")
        assert len(large.stdout_bytes) == 3_000_000
        # What it leaves behind does not keep anybody waiting.
        assert one.exec("sh", "-c", "sleep 600 & echo done").stdout == "done\n"
        with pytest.raises(ExecError, match="ended with exit code 1"):
            one.exec("false", check=True)
        with pytest.raises(LateError, match="did not end within"):
            one.exec("sleep", "600", timeout=0.2)
        with pytest.raises(ComposerError, match="executable file not found") as caught:
            one.exec("there-is-no-such-program")
        assert caught.value.exit_code == 127


def test_logs_are_waited_for(here: Host) -> None:
    says = {"image": "host", "init": True, "command": ["sh", "-c", "echo first; echo second; exec sleep inf"]}
    ends = {"image": "host", "command": ["sh", "-c", "echo bye; exit 4"]}
    stack = Stack(yaml={"services": {"says": says, "ends": ends}}, name=named(here))
    stack.up(wait=False)
    try:
        assert stack["ends"].wait() == 4
        assert stack["says"].wait_for_log("sec(.*)").group(1) == "ond"
        with pytest.raises(LateError, match="its last is: second"):
            stack["says"].wait_for_log("third", timeout=0.2)
        with pytest.raises(ComposerError, match=r"exited \(4\), and printed no line like"):
            stack["ends"].wait_for_log("third")
        assert stack["ends"].logs() == "bye\n"
        assert f"{stack.name}-ends-1  | bye\n" in stack.logs()
    finally:
        stack.down(timeout=0)


WAYS = execute.__kwdefaults__ or {}
OF_THEIR_OWN = {"call", "freeze", "log_of", "refresh", "rows", "signal", "supervisor"}
"""What only rooms above use."""


@pytest.mark.parametrize(("blocking", "waiting"), [(Stack, AsyncStack), (Service, AsyncService)])
def test_what_waits_takes_the_same_arguments(blocking: type, waiting: type) -> None:
    """Nothing is missing, and nothing is said twice."""
    there = Stack(yaml=SLEEP) if blocking is Stack else Stack(yaml=SLEEP)["one"]
    also = AsyncStack(yaml=SLEEP) if blocking is Stack else AsyncStack(yaml=SLEEP)["one"]
    methods = {name for name, one in inspect.getmembers(blocking, inspect.isfunction) if name[0] != "_"}
    assert methods - OF_THEIR_OWN <= set(dir(waiting))
    for name in methods - OF_THEIR_OWN - {"events"}:
        assert inspect.signature(getattr(also, name)) == inspect.signature(getattr(there, name)), name
        assert getattr(waiting, name).__doc__ == getattr(blocking, name).__doc__


def test_what_a_command_writes_is_kept_up_to_a_bound(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and the last of it; one that never ceases is still ended in time."""
    monkeypatch.setattr("composer.api.process.execute.__kwdefaults__", {**WAYS, "most": 1000})
    with Stack(yaml=SLEEP) as stack:
        done = stack["one"].exec("seq", "100000")
        assert done.stdout.startswith("1\n2\n") and done.stdout.endswith("99999\n100000\n")
        assert f"[{done.left_out} bytes were left out]" in done.stdout
        assert len(done.stdout_bytes) < 1100 and done.left_out == 588895 - 1000
        assert stack["one"].exec("seq", "3").left_out == 0
        with pytest.raises(LateError):
            stack["one"].exec("cat", "/dev/zero", timeout=0.5)


def test_containers_are_stopped_killed_frozen_and_started(here: Host) -> None:
    with Stack(yaml=SLEEP) as stack:
        one = stack["one"]
        with stack.events() as events:
            one.pause()
            assert one.state == "paused"
            one.unpause()
            events.wait_for("unpause", "one")
            one.pause(idle_after=0.1)
            events.wait_for("pause", "one")
            assert one.exec("true").ok
            stack.unpause()
            assert one.state == "running"
            with pytest.raises(UsageError, match="no time"):
                stack.pause(idle_after=-1)
            assert events.wait_for("unpause", "one")["container"] == one.container.name
            one.kill()
            assert (one.state, one.container.exit_code) == ("exited", 137)
            events.wait_for("die")
            with pytest.raises(LateError):
                events.wait_for("die", timeout=0.1)
        one.start()
        first = one.container.pid
        one.restart()
        assert one.state == "running" and one.container.pid != first
        one.stop()
        assert one.wait() == one.container.exit_code
        one.scale(2)
        assert [each.number for each in one.containers] == [1, 2]
        stack["one:2"].kill()
        assert [each.state for each in one.containers] == ["running", "exited"]


def test_files_are_copied_both_ways(here: Host) -> None:
    (here.root / "given").write_text("text")
    with Stack(yaml=SLEEP) as stack:
        stack["one"].copy_to("given", "/tmp/there")
        assert stack["one"].exec("cat", "/tmp/there").stdout == "text"
        stack["one"].copy_from("/tmp/there", here.root / "back")
        stack.cp("one:/tmp/there", str(here.root / "again"))
    assert (here.root / "back").read_text() == (here.root / "again").read_text() == "text"


def test_copies_do_not_collide(here: Host) -> None:
    """Names, host ports, subnets and bridges that are fixed in the file are each copy's own."""
    fixed = """
        name: fixed
        services:
          web:
            image: host
            init: true
            container_name: fixed-name
            command: [sleep, inf]
            ports: ["8080:80"]
            networks: {net: {ipv4_address: 10.213.7.9}}
            volumes: [data:/data]
        networks:
          net:
            name: fixed-net
            ipam: {config: [{subnet: 10.213.7.0/24}]}
            driver_opts: {com.docker.network.bridge.name: cmp-fixed-br}
        volumes: {data: {name: fixed-volume}}
    """
    with Stack(yaml=fixed, isolated=True) as one, Stack(yaml=fixed, isolated=True) as two:
        assert one.name != two.name
        assert one["web"].port(80) != two["web"].port(80)
        assert one["web"].address != two["web"].address
        one["web"].exec("touch", "/data/mine", check=True)
        assert two["web"].exec("ls", "/data").stdout == ""


def test_errors_say_what_is_wrong(here: Host) -> None:
    with pytest.raises(StackFileError, match="service"):
        Stack(yaml="services: {one: {imag: host}}", name=named(here)).up()
    with pytest.raises(FailedError, match="image not/here:1"):
        Stack(yaml="services: {one: {image: 'not/here:1', pull_policy: never}}", name=named(here)).up()
    Stack(yaml=SLEEP, name=named(here)).down()
    stack = Stack(yaml=SLEEP, name=named(here))
    with pytest.raises(NotFoundError, match="no such service: on") as caught:
        stack["on"]
    assert caught.value.hint == "did you mean one?"
    with pytest.raises(UsageError):
        stack["one:x"]
    with pytest.raises(ComposerError, match="nothing of stack"):
        stack["one"].stack.call("stats")
    stack.down()  # which it is already
    with stack, pytest.raises(NotFoundError, match="publishes no port 80/tcp"):
        stack["one"].port(80)


def test_a_stack_ends_with_its_owner(here: Host) -> None:
    """Volumes, too; the supervisor may be killed before and begin anew."""
    with subprocess.Popen(["sleep", "600"]) as owner:
        pidfd = os.pidfd_open(owner.pid)
        stack = Stack(yaml=WEB, name=named(here)).up(owner=pidfd)
        os.close(pidfd)
        with stack.events() as events:
            stack["web"].stop()  # having nothing to do is no reason to leave
            owner.kill()
            for _ in events:
                pass  # until the supervisor is gone
    assert not (here.root / "run/stacks" / stack.name).exists()
    assert not (here.root / "state/stacks" / stack.name).exists()
    assert os.listdir(here.root / "state/volumes") == [".lock"]


def test_what_lost_owner_and_keeper_is_swept_up(here: Host) -> None:
    """As after a test run that somebody ended with everything that it had started."""
    with subprocess.Popen(["sleep", "600"]) as owner:
        pidfd = os.pidfd_open(owner.pid)
        stack = Stack(yaml=WEB, name=named(here)).up(owner=pidfd)
        os.close(pidfd)
        keeper = os.pidfd_open(stack.refresh()["keeper"])
        signal.pidfd_send_signal(keeper, signal.SIGKILL)
        assert select.select([keeper], [], [], 20)[0]
        os.close(keeper)
        assert sweep() == []  # its owner lives
        owner.kill()
    assert sweep() == [stack.name]
    with stack.events() as events:
        for _ in events:
            pass  # until the supervisor, which found it so, is gone
    assert not (here.root / "state/stacks" / stack.name).exists()
    assert os.listdir(here.root / "state/volumes") == [".lock"]


def test_the_same_in_an_event_loop(here: Host) -> None:
    async def main() -> None:
        async with AsyncStack(yaml=SLEEP) as stack:
            one = stack["one"]
            assert (await one.exec("echo", "hello")).stdout == "hello\n"
            with anyio.move_on_after(0.2) as scope:
                await one.exec("sleep", "601")
            assert scope.cancelled_caught
            with anyio.move_on_after(0.2) as scope:
                await one.wait_for_log("never", timeout=None)
            assert scope.cancelled_caught
            assert "sleep 601" not in (await one.exec("ps", "ax")).stdout
            async with anyio.create_task_group() as tasks, await stack.events() as events:
                tasks.start_soon(one.kill)
                async for event in events:
                    if event["action"] == "die":
                        break
            assert (await one.container()).state == "exited"

    anyio.run(main)


def test_the_package_loads_nothing_before_it_is_asked(tmp_path: Path) -> None:
    code = "import sys, composer; print(*[n for n in sys.modules if n.startswith('composer.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
