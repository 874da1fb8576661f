"""`composer ui` on real stacks, driven by textual's pilot; and once on a terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Footer, Input, RichLog, Static, TabbedContent

from composer.cli.app import ROOT_FLAGS
from composer.cli.board.app import Board
from composer.cli.context import Context
from tests.host import Host, Stack, Terminal

pytestmark = pytest.mark.kernel

TRIO = """
    services:
      db:
        image: host
        init: true
        command: [sh, -c, "echo db is ready; echo Needle; until [ -e /go ]; do sleep 0.1; done; echo Needles"]
        healthcheck: {test: "true", interval: 1s, start_interval: 50ms, start_period: 5s}
      web:
        image: host
        init: true
        mem_limit: 64m
        ports: ["127.0.0.1::80"]
        command: [sh, -c, "echo web is ready; exec sleep infinity"]
      wrong:
        image: host
        command: [sh, -c, "echo nothing good; exit 3"]
"""
Play = Callable[[Board, "Pilot[None]"], Awaitable[None]]


@pytest.fixture
def stack(host: Host, monkeypatch: pytest.MonkeyPatch) -> Stack:
    stack = host.stack(TRIO)
    monkeypatch.chdir(stack.folder)
    for name in ("COMPOSER_RUN_DIR", "COMPOSER_STATE_DIR"):
        monkeypatch.setenv(name, host.environment[name])
    return stack


def play(what: Play, size: tuple[int, int] = (150, 40)) -> None:
    """Run the application without a terminal, and do something with it."""

    async def run() -> None:
        app = Board(Context({flag.key: flag.initial for flag in ROOT_FLAGS}))
        async with app.run_test(size=size) as pilot:
            await what(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "\n".join(screen(pilot.app))
        await pilot.pause(0.05)


def screen(app: Any) -> list[str]:
    """What can be read on it, line by line."""
    root = ElementTree.fromstring(app.export_screenshot())
    found: dict[str, str] = {}
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        line = text.get("clip-path", "").rpartition("-")[2]
        found[line] = found.get(line, "") + (text.text or "").replace("\xa0", " ")
    return list(found.values())


def shows(app: Any, *texts: str) -> bool:
    """Whether one line of the screen has all of these."""
    return any(all(text in line for text in texts) for line in screen(app))


def cells(app: Board, name: str) -> dict[str, str]:
    return {
        str(column.label): str(app.table.get_cell(name, column.key)) for column in app.table.ordered_columns
    }


def test_it_shows_how_each_container_is(stack: Stack) -> None:
    stack.ok("up", "-d")

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "db-1", "(healthy)"))
        await until(pilot, lambda: len(app.table.history.cpu.get(f"{stack.name}-db-1", ())) > 2)
        assert shows(app, "wrong-1", "Exited (3)")
        assert shows(app, stack.name, "2 running", "1 failed", "cpu", "memory")
        db, web = (cells(app, f"{stack.name}-{name}-1") for name in ("db", "web"))
        assert db["CPU"].strip().endswith("%")
        assert set(web["MEMORY"]) & set("▁▂▃▄▅▆▇█")
        assert web["MEMORY"].endswith("/ 64MiB")
        assert "->80/tcp" in web["PORTS"]
        await until(pilot, lambda: shows(app, "Restart", "Quit"))

    play(look)


def test_logs_follow_the_cursor_and_can_be_searched(stack: Stack) -> None:
    stack.ok("up", "-d")

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "db is ready"))
        assert not shows(app, "web is ready")
        await pilot.press("down")
        await until(pilot, lambda: shows(app, "web is ready"))
        assert not shows(app, "db is ready")
        await pilot.press("a")
        await until(pilot, lambda: shows(app, "db-1", "| db is ready"))
        assert shows(app, "wrong-1", "| nothing good")
        await pilot.press("slash", *"needle")
        await until(pilot, lambda: not shows(app, "db is ready"))
        assert shows(app, "Needle")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: shows(app, "db is ready"))
        stack.ok("exec", "-T", "db", "touch", "/go")
        await until(pilot, lambda: shows(app, "Needles"))

    play(look)


def test_what_is_typed_ahead_of_the_search_is_text(stack: Stack) -> None:
    stack.ok("up", "-d")

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "db-1", "(healthy)"))
        for key, character in (("slash", "/"), *((letter, letter) for letter in "pres"), ("slash", "/")):
            app.post_message(Key(key, character))
        await until(pilot, lambda: app.query_one("#search", Input).value == "pres/")
        assert not app._notifications
        assert app.query_one("#tabs", TabbedContent).active == "logs"

    play(look)


def test_the_end_waits_for_nobody(stack: Stack) -> None:
    stack.rewrite("""
        services:
          db: {image: host, init: true, command: [sleep, inf], healthcheck: {test: "false", retries: 1000}}
          web: {image: host, command: "true", depends_on: {db: {condition: service_healthy}}}
    """)

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "web", "no container"))
        await pilot.press("u")
        await until(pilot, lambda: shows(app, "db-1", "(health: starting)"))
        await pilot.press("ctrl+c")

    play(look)


def test_a_log_stays_at_its_end_until_it_is_scrolled(host: Host, stack: Stack) -> None:
    script = (
        "seq -f 'line %g.' 500; until [ -e /go ]; do sleep 0.1; done; seq -f 'late %g.' 500; sleep infinity"
    )
    stack.rewrite(f'services: {{web: {{image: host, init: true, command: [sh, -c, "{script}"]}}}}')
    stack.ok("up", "-d")

    async def look(app: Board, pilot: Pilot[None]) -> None:
        log = app.query_one("#lines", RichLog)
        await until(pilot, lambda: shows(app, "line 500."))
        log.focus()
        await pilot.press("pageup", "pageup")
        await until(pilot, lambda: not shows(app, "line 500."))
        await asyncio.to_thread(stack.ok, "exec", "-T", "web", "touch", "/go")
        await until(pilot, lambda: len(log.lines) == 1000)
        assert not shows(app, "late 500.")
        await pilot.press("end")
        await until(pilot, lambda: shows(app, "late 500."))

    play(look)


def test_events_and_details(stack: Stack) -> None:
    stack.ok("up", "-d")

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "wrong-1", "Exited"))
        await pilot.press("down", "down", "e")
        await until(pilot, lambda: shows(app, "die", "wrong-1", "exit code 3"))
        assert not shows(app, "start", "db-1")
        await pilot.press("i")
        await until(pilot, lambda: shows(app, "command", "echo nothing good; exit 3"))
        assert app.query_one("#tabs", TabbedContent).active == "info"

    play(look)


def test_keys_act_on_the_chosen_container(stack: Stack) -> None:
    stack.ok("up", "-d")

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "db-1", "(healthy)"))
        first = stack.ps()
        await pilot.press("down", "s")
        await until(pilot, lambda: shows(app, "web-1", "Exited"))
        assert stack.ps()[f"{stack.name}-db-1"]["State"] == "running"
        await pilot.press("s")
        await until(pilot, lambda: shows(app, "web-1", "Up"))
        await pilot.press("p")
        await until(pilot, lambda: shows(app, "web-1", "(Paused)"))
        await pilot.press("p")
        await until(pilot, lambda: not shows(app, "(Paused)"))
        await pilot.press("up", "r")
        await until(pilot, lambda: len([e for e in app.reading.events if e["action"] == "die"]) > 2)
        await until(pilot, lambda: shows(app, "db-1", "(healthy)"))
        assert {name: row["ID"] for name, row in stack.ps().items()} == {
            name: row["ID"] for name, row in first.items()
        }

    play(look)


def test_it_outlives_the_stack(stack: Stack) -> None:
    """No stack at all, up by a key, down from elsewhere, up again."""

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "db", "no container"))
        assert shows(app, stack.name, "nothing runs")
        await pilot.press("u")
        await until(pilot, lambda: shows(app, "db is ready"))
        await until(pilot, lambda: shows(app, "db-1", "(healthy)"))
        await asyncio.to_thread(stack.ok, "down", "-t", "0")
        await until(pilot, lambda: shows(app, "db", "no container"))
        await until(pilot, lambda: not shows(app, "db is ready"))
        await asyncio.to_thread(stack.ok, "up", "-d")
        await until(pilot, lambda: shows(app, "db is ready"))
        await until(pilot, lambda: app.reading.numbers)

    play(look)


def test_what_fails_is_told(stack: Stack) -> None:
    stack.rewrite("services: {web: {image: host, command: [/no/such/program]}}")

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "web", "no container"))
        await pilot.press("s")
        await until(pilot, lambda: any("/no/such/program" in each.message for each in app._notifications))

    play(look)


KEYS = [
    (150, "r Restart", "l Logs", "i Info", "q Quit"),
    (80, "r Restart", "a All logs", "q Quit"),
    (60, "r Restart", "s Stop/start", "p Pause", "u Up", "/ Search", "q Quit"),
    (30, "s Stop/start", "q Quit"),
]


@pytest.mark.parametrize(("columns", "keys"), [(row[0], row[1:]) for row in KEYS])
def test_of_the_keys_as_many_are_shown_as_there_is_room_for(
    stack: Stack, columns: int, keys: tuple[str, ...]
) -> None:
    """Whole ones, and the most needed; whatever the width was before."""

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "i Info"))
        await pilot.resize_terminal(columns, 30)
        await until(pilot, lambda: shows(app, *keys))
        (line,) = [line for line in screen(app) if "q Quit" in line]
        assert len(line.rstrip()) <= columns

    play(look)


@pytest.mark.parametrize("size", [(1, 1), (8, 3), (30, 11), (60, 12), (300, 90)])
def test_any_size_will_do(stack: Stack, size: tuple[int, int]) -> None:
    stack.ok("up", "-d", "db")

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.reading.numbers)
        if size[0] >= 30:
            assert shows(app, "db-1")
        await pilot.resize_terminal(150, 40)
        await until(pilot, lambda: shows(app, "db is ready"))
        await until(pilot, lambda: shows(app, "CONTAINER", "MEMORY", "PORTS"))
        await pilot.resize_terminal(*size)
        await pilot.press("e", "i", "l", "slash", "x", "escape")
        await pilot.pause(0.2)
        assert app.is_running
        assert app.query(Footer)
        assert app.query(Static)
        assert app.query(RichLog)

    play(look, size)


def test_a_stack_that_is_named_needs_no_files(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.ok("up", "-d", "web")
    monkeypatch.chdir("/")
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", stack.name)

    async def look(app: Board, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: shows(app, "web is ready"))
        assert app.reading.missing == []

    play(look)


def test_on_a_terminal_with_a_shell(stack: Stack) -> None:
    stack.ok("up", "-d", "web")
    terminal = Terminal(stack, "ui", env={"COLUMNS": "120", "LINES": "40"})
    terminal.until(b"web is ready")
    assert not terminal.lines_again()
    terminal.seen = b""
    terminal.type(b"x")
    terminal.until(b"\x1b[?1049l")
    terminal.until(b"# ")
    terminal.type(b"echo shell $((40+2)); exit\n")
    terminal.until(b"shell 42")
    terminal.seen = b""
    terminal.until(b"web-1")
    terminal.type(b"q")
    assert terminal.end() == 0


def test_without_a_terminal_it_says_what_to_use(stack: Stack) -> None:
    done = stack("ui")
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
