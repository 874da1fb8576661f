"""An attached `up`, and what other terminals do to the stack meanwhile."""

from __future__ import annotations

import pytest

from tests.host import Host

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
