"""An attached `up`, and what other terminals do to the stack meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host import Host, Terminal

pytestmark = pytest.mark.kernel

ONE = """
    services:
      web: {image: host, init: true, command: [sh, -c, "echo hello; exec sleep 1000"]}
"""


@pytest.mark.parametrize(
    "words", [("up", "-d", "--force-recreate"), ("restart",)], ids=lambda words: words[-1]
)
def test_it_follows_what_another_terminal_begins_anew(host: Host, words: tuple[str, ...]) -> None:
    """Though nothing runs for a moment. It ends when another one stops what runs."""
    stack = host.stack(ONE)
    attached = stack.start("up", "-t", "0")
    assert attached.stdout
    lines = iter(attached.stdout.readline, "")
    assert "hello" in next(lines)
    for _ in range(2):
        stack.ok(*words, "-t", "0")
        assert any("exited with code" in line for line in lines)
        assert any("hello" in line for line in lines)
    assert attached.poll() is None
    stack.ok("stop", "-t", "0")
    rest, _ = attached.communicate(timeout=60)
    assert "exited with code" in rest
    assert attached.returncode == 0


def test_down_elsewhere_ends_it(host: Host) -> None:
    stack = host.stack(ONE)
    attached = stack.start("up")
    assert attached.stdout
    assert "hello" in attached.stdout.readline()
    stack.ok("down", "-t", "0")
    attached.communicate(timeout=60)
    assert attached.returncode == 0


@pytest.mark.parametrize("flag", ["--abort-on-container-exit", "--abort-on-container-failure"])
def test_what_comes_back_aborts_nothing(host: Host, flag: str) -> None:
    """Neither what another terminal restarts nor what its policy does; what is killed for good does."""
    stack = host.stack("""
        services:
          web: {image: host, init: true, command: [sh, -c, "echo web; exec sleep 1000"]}
          once:
            image: host
            init: true
            restart: on-failure
            command: [sh, -c, "echo once; test -e /tmp/seen && exec sleep 1000; touch /tmp/seen; exit 3"]
    """)
    attached = stack.start("up", flag, "-t", "0")
    assert attached.stdout
    lines = iter(attached.stdout.readline, "")
    assert sum(line.startswith("once-1  | once") for line in _until(lines, "once", 2)) == 2
    stack.ok("restart", "-t", "0", "web")
    assert _until(lines, "web-1   | web", 1)
    assert attached.poll() is None
    stack.ok("kill", "web")
    rest, told = attached.communicate(timeout=60)
    assert "web-1 exited with code 137" in rest
    assert "Aborting on container exit" in told
    assert attached.returncode == 137


def _until(lines: Iterator[str], text: str, count: int) -> list[str]:
    """Lines up to the one with which `text` has come so often as a container's output."""
    found = []
    for line in lines:
        found.append(line)
        count -= text in line and "|" in line
        if not count:
            return found
    raise AssertionError(found)


def test_ctrl_c_while_things_are_made(host: Host) -> None:
    """Progress ends above what is said then, and is not drawn over it."""
    stack = host.stack("""
        services:
          web:
            build: {context: ., dockerfile_inline: "FROM host\\nRUN echo begun; sleep 1000\\n"}
            command: "true"
    """)
    terminal = Terminal(stack, "up")
    terminal.until(b"begun")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    before, said, after = terminal.seen.partition(b"Gracefully stopping... (press Ctrl+C again to force)")
    assert said and b"Building" in before and b"Building" not in after and b"Image" not in after
