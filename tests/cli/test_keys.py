"""`up` on a terminal: keys, one line below the output, and a terminal that is left as it was found."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios

import pytest

from tests.host import Host, Stack, Terminal

pytestmark = pytest.mark.kernel

HELP = b"? help"
PAIR = """
    services:
      db:
        image: host
        init: true
        command: [sh, -c, "echo db speaks; exec sleep infinity"]
      web:
        image: host
        init: true
        command: [sh, -c, "echo web speaks; exec sleep infinity"]
        develop: {watch: [{path: src, target: /src, action: sync}]}
"""


@pytest.fixture
def stack(host: Host) -> Stack:
    return host.stack(PAIR, files={"src/a": "one"})


def attached(stack: Stack, *words: str) -> Terminal:
    """`up` whose containers have spoken."""
    terminal = Terminal(stack, "up", *words)
    terminal.until(b"db speaks")
    terminal.until(b"web speaks")
    terminal.until(HELP)
    assert not terminal.lines_again()
    return terminal


def then(terminal: Terminal, key: bytes, *texts: bytes) -> bytes:
    """Type a key, and see these come, one after the other; all that came."""
    seen, terminal.seen = b"", b""
    terminal.type(key)
    for text in texts:
        terminal.until(text)
        before, _, terminal.seen = terminal.seen.partition(text)
        seen += before + text
    return seen


def states(stack: Stack) -> dict[str, str]:
    return {row["Service"]: row["State"] for row in stack.ps().values()}


def test_keys_do_what_they_say(stack: Stack) -> None:
    terminal = attached(stack)
    ids = {name: row["ID"] for name, row in stack.ps().items()}
    then(terminal, b"s", b"choose a service to stop first")
    then(terminal, b"?", b"this list")
    assert b"web speaks" not in then(terminal, b"\t", "── db".encode(), b"db speaks", HELP)
    then(terminal, b"\x1b[C", "── web".encode(), b"web speaks")
    then(terminal, b"r", b"restarting web", b"web-1 exited with code", b"web speaks", HELP)
    then(terminal, b"1", "── db".encode())
    then(terminal, b"s", b"stopping db", b"db-1 exited with code", HELP)
    assert states(stack) == {"db": "exited", "web": "running"}
    then(terminal, b"s", b"starting db", b"db speaks", HELP)
    assert states(stack) == {"db": "running", "web": "running"}
    then(terminal, b"0", "── all services".encode())
    then(terminal, b"d", b"Detached")
    assert terminal.lines_again()
    assert terminal.end() == 0
    assert states(stack) == {"db": "running", "web": "running"}
    assert {name: row["ID"] for name, row in stack.ps().items()} == ids


def test_the_last_service_may_be_stopped_and_started_again(host: Host) -> None:
    stack = host.stack(
        "services: {web: {image: host, init: true, command: [sh, -c, 'echo web speaks; sleep infinity']}}"
    )
    terminal = Terminal(stack, "up")
    terminal.until(b"web speaks")
    then(terminal, b"s", b"stopping web", b"exited", HELP)
    then(terminal, b"s", b"starting web", b"web speaks", HELP)
    for _ in range(3):
        then(terminal, b"r", b"restarting web", b"web speaks", HELP)
    then(terminal, b"d")
    assert terminal.end() == 0


def test_a_shell_and_watch(stack: Stack) -> None:
    terminal = attached(stack)
    then(terminal, b"w", "⦿ watching".encode(), b"w watch off")
    (stack.folder / "src/a").write_text("two")
    terminal.until(b"synced /src/a")
    then(terminal, b"w", b"watching  off", b"w watch on")
    then(terminal, b"2", "── web".encode())
    then(terminal, b"x", b"# ")
    terminal.type(b"cat /src/a; echo shell $((40+2)); exit\n")
    terminal.until(b"twoshell 42")
    terminal.until(HELP)
    assert not terminal.lines_again()
    then(terminal, b"d")
    assert terminal.end() == 0


@pytest.mark.parametrize("words", [("--watch",), ("-w", "web")])
def test_up_can_watch_from_the_beginning(stack: Stack, words: tuple[str, ...]) -> None:
    terminal = Terminal(stack, "up", *words)
    terminal.until("⦿ watching".encode())
    (stack.folder / "src/a").write_text("two")
    terminal.until(b"synced /src/a")
    terminal.type(b"\x03")
    assert terminal.end() == 130


def test_watching_needs_something_to_watch(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, command: [sleep, infinity]}}")
    done = stack("up", "--watch")
    assert (done.returncode, stack.ps()) == (1, {})
    assert "no service has anything to watch" in done.stderr
    assert stack("up", "-d", "--watch").returncode == 2


def test_the_line_follows_the_window(stack: Stack) -> None:
    terminal = attached(stack)
    for columns in (40, 10, 1, 200):
        terminal.seen = b""
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("4H", 20, columns, 0, 0))
        terminal.until(b"\x1b[J")
    terminal.until(b"? help")
    then(terminal, b"d")
    assert terminal.end() == 0


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_gracefully_and_at_once(host: Host, times: int) -> None:
    slow = "trap '' TERM; echo web speaks; while :; do sleep 0.1; done"
    quick = "trap 'exit 3' TERM; echo web speaks; while :; do sleep 0.1; done"
    script = slow if times == 2 else quick
    stack = host.stack(
        f'services: {{web: {{image: host, stop_grace_period: 50s, command: [sh, -c, "{script}"]}}}}'
    )
    terminal = Terminal(stack, "up")
    terminal.until(HELP)
    terminal.until(b"web speaks")
    then(terminal, b"\x03", b"Gracefully stopping")
    assert terminal.lines_again()
    if times == 2:
        terminal.until(b"Stopping")
        terminal.type(b"\x03")
    assert terminal.end() == 130
    assert [row["ExitCode"] for row in stack.ps().values()] == [137 if times == 2 else 3]


@pytest.mark.parametrize(
    ("which", "code"), [(signal.SIGTERM, 130), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGQUIT, -3)]
)
def test_a_signal_leaves_the_terminal_as_it_was(stack: Stack, which: signal.Signals, code: int) -> None:
    terminal = attached(stack)
    again = os.dup(terminal.master)  # a terminal that is closed has no modes
    os.kill(terminal.pid, which)
    terminal.until(b"Gracefully stopping") if code > 0 else os.waitid(
        os.P_PID, terminal.pid, os.WEXITED | os.WNOWAIT
    )
    assert terminal.lines_again()
    os.close(again)
    assert terminal.end() == code


NO_KEYS: list[tuple[tuple[str, ...], dict[str, str]]] = [
    (("up", "--menu=false"), {}),
    (("up",), {"COMPOSE_MENU": "false"}),
    (("up",), {"TERM": "dumb"}),
    (("--ansi", "never", "up"), {}),
    (("--progress", "plain", "up"), {}),
]


@pytest.mark.parametrize(("words", "env"), NO_KEYS)
def test_without_keys(stack: Stack, words: tuple[str, ...], env: dict[str, str]) -> None:
    terminal = Terminal(stack, *words, env=env)
    terminal.until(b"db speaks")
    terminal.until(b"web speaks")
    assert terminal.lines_again()
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert HELP not in terminal.seen


def test_colour_only_where_it_is_wanted(stack: Stack) -> None:
    """NO_COLOR, which these tests set, and without it."""
    terminal = attached(stack)
    assert b"\x1b[7m" not in terminal.seen
    then(terminal, b"d")
    assert terminal.end() == 0
    terminal = Terminal(stack, "up", env={"NO_COLOR": ""})
    terminal.until(b"\x1b[7m all ")
    terminal.type(b"d")
    assert terminal.end() == 0


def test_a_pipe_gets_plain_lines(stack: Stack) -> None:
    process = stack.start("up")
    assert process.stdout
    lines = [process.stdout.readline(), process.stdout.readline()]
    assert {" ".join(line.split()) for line in lines} == {
        "db-1 | db speaks",
        "web-1 | web speaks",
    }
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert "\x1b" not in rest
