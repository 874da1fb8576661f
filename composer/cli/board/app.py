"""The screen of `composer ui`: containers above, logs and events of the chosen one below, then keys."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.widgets import Input, RichLog, Static, TabbedContent, TabPane

from composer.api.client import Supervisor
from composer.api.context import Context
from composer.api.select import RUNNING
from composer.api.wish import apply, check
from composer.cli.board import cells
from composer.cli.board.containers import Containers
from composer.cli.board.keys import Keys
from composer.cli.board.reading import Reader, Reading
from composer.cli.board.tail import Tail
from composer.cli.keys import shell_command
from composer.cli.render import words
from composer.errors import ComposerError
from composer.record import ContainerRow

LOOK: Final = 0.1
"""Seconds between looks at what the readers have left."""
STYLE: Final = """
Screen { background: #16161e; }
#top { height: 1; margin: 0 0 1 0; background: #1f2335; }
#containers { height: auto; max-height: 50%; min-height: 2; padding: 0 1; margin: 0 0 1 0; }
#containers { background: #16161e; }
#containers > .datatable--header { background: #16161e; color: #565f89; text-style: bold; }
#containers > .datatable--cursor { background: #292e42; text-style: bold; }
#below { height: 1fr; }
TabPane { padding: 0; }
RichLog { background: #16161e; padding: 0 1; scrollbar-size-vertical: 1; }
#search { height: 1; border: none; padding: 0 1; background: #292e42; }
#details { padding: 0 1; }
.low #below, .low #top { display: none; }
.low #containers { max-height: 100%; height: 1fr; }
"""
LOW: Final = 12
"""Lines of a terminal below which there is room for containers only."""


class Board(App[None]):
    """One stack, live."""

    CSS = STYLE
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "restart", "Restart"),
        Binding("s", "stop_or_start", "Stop/start"),
        Binding("p", "pause", "Pause"),
        Binding("x", "shell", "Shell"),
        Binding("u", "up", "Up"),
        Binding("slash", "search", "Search", key_display="/", priority=True),
        Binding("a", "all_logs", "All logs"),
        Binding("l", "tab('logs')", "Logs"),
        Binding("e", "tab('events')", "Events"),
        Binding("i", "tab('info')", "Info"),
        Binding("escape", "leave", "Back", show=False, priority=True),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context
        self.title = context.stack_name
        self.reader = Reader(context)
        self.reading = Reading([], [], {}, [])
        self.all_logs = False
        self.tail = Tail(context, "")
        self.count = 0
        """Lines of the tail that are on the screen, or were left out."""
        self.wanted = ""
        """What is searched for."""
        self.follows, self.scrolled = True, 0
        """Whether the log stays at its end, and how far down it was at the last look."""
        self.events_shown: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="top")
        yield Containers(self.context.stack_name)
        with Vertical(id="below"), TabbedContent(id="tabs"):
            with TabPane("Logs", id="logs"):
                yield RichLog(id="lines", max_lines=5000)
            with TabPane("Events", id="events"):
                yield RichLog(id="happened", max_lines=500)
            with TabPane("Info", id="info"):
                yield Static(id="details")
        search = Input(id="search", placeholder="search the log; Esc ends")
        search.display = False
        yield search
        yield Keys()

    def on_mount(self) -> None:
        self.theme = "tokyo-night"
        self.table.focus()
        self.table.set_columns(self.size.width)
        self.reader.thread.start()
        self.set_interval(LOOK, self.look)

    def on_unmount(self) -> None:
        self.reader.end()
        self.tail.end()

    @property
    def table(self) -> Containers:
        return self.query_one(Containers)

    def on_resize(self, event: Resize) -> None:
        self.screen.set_class(event.size.height < LOW, "low")
        self.table.set_columns(event.size.width)
        self.query_one(Keys).refresh(recompose=True)

    # --- what is shown

    def look(self) -> None:
        """Show what the readers have left."""
        if not self.query("#containers"):
            return  # on its way out
        reading = self.reader.take()
        if reading is not None:
            self.reading = reading
            self.table.history.add(reading)
            self.show_rows()
            self.show_events()
            self.show_details()
        if self.tail.container != self.logged or self.tail.outdated:
            self.tail.end()
            self.tail = Tail(self.context, self.logged)
            self.show_lines_anew()
        self.show_lines()

    def show_rows(self) -> None:
        numbers = self.reading.numbers.values()
        cpu, memory = sum(n.cpu for n in numbers), sum(n.memory for n in numbers)
        self.query_one("#top", Static).update(
            cells.summary(self.context.stack_name, self.reading.rows, cpu, memory)
        )
        self.table.show(self.reading)

    def show_lines_anew(self) -> None:
        self.query_one("#lines", RichLog).clear()
        self.count, self.follows, self.scrolled = 0, True, 0

    def show_lines(self) -> None:
        log = self.query_one("#lines", RichLog)
        if not log.size.width:
            return  # not on the screen yet: it would not know how long a line may be
        at = log.scroll_offset.y
        self.follows = log.is_vertical_scroll_end or (self.follows and at >= self.scrolled)
        self.scrolled = at
        lines, self.count = self.tail.since(self.count)
        for line in lines:
            text = cells.found(line, self.wanted)
            if text is not None:
                log.write(text, scroll_end=False)
        if lines and self.follows:
            log.scroll_end(animate=False)

    def show_events(self) -> None:
        """All of them, or the chosen container's; again only when there are new ones."""
        row = self.row
        name = row["name"] if row is not None and not self.all_logs else ""
        now = (name, len(self.reading.events), self.reading.events[-1:])
        log = self.query_one("#happened", RichLog)
        if now == self.events_shown or not log.size.width:
            return
        self.events_shown = now
        log.clear()
        for event in self.reading.events:
            if name in ("", event["container"]):
                clock = time.strftime("%H:%M:%S", time.localtime(event["time"] / 1e9))
                log.write(cells.happened(event, clock))

    def show_details(self) -> None:
        row = self.row
        text = Text()
        for key, value in details(row).items() if row else ():
            text.append(f"{key:>10}  ", cells.QUIET).append(f"{value}\n")
        self.query_one("#details", Static).update(text)

    # --- what is chosen

    @property
    def row(self) -> ContainerRow | None:
        key = self.table.key
        return next((row for row in self.reading.rows if row["name"] == key), None)

    @property
    def logged(self) -> str:
        """The container whose log is shown, "" for all."""
        row = self.row
        return "" if self.all_logs or row is None else row["name"]

    @property
    def service(self) -> str:
        row = self.row
        return row["service"] if row else self.table.key.removeprefix("service ")

    def on_data_table_row_highlighted(self) -> None:
        self.all_logs = False
        self.show_events()
        self.show_details()

    # --- keys

    def action_tab(self, name: str) -> None:
        self.query_one("#tabs", TabbedContent).active = name
        self.call_after_refresh(self.show_events)

    def action_all_logs(self) -> None:
        self.all_logs = not self.all_logs
        self.action_tab("logs")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "search" or not isinstance(self.focused, Input)  # there it is a letter

    def action_search(self) -> None:
        search = self.query_one("#search", Input)
        search.display = True
        self.screen.set_focus(search)  # at once: what was typed ahead is text and no command
        self.action_tab("logs")

    def on_input_changed(self, event: Input.Changed) -> None:
        self.wanted = event.value
        self.show_lines_anew()

    def on_input_submitted(self) -> None:
        self.table.focus()

    def action_leave(self) -> None:
        search = self.query_one("#search", Input)
        search.value = ""
        search.display = False
        self.table.focus()

    def action_restart(self) -> None:
        self.wish("Restarting", {"goal": "restart"})

    def action_stop_or_start(self) -> None:
        row = self.row
        if row and row["state"] in ("running", "paused", "restarting"):
            self.wish("Stopping", {"goal": "stop"})
        else:
            self.wish("Starting", {"goal": "up" if row is None else "start"}, files=row is None)

    def action_up(self) -> None:
        self.ask("Up", lambda: check(apply(self.context, {"goal": "up"})))

    def wish(self, title: str, options: Mapping[str, Any], *, files: bool = False) -> None:
        service = self.service
        if service:
            wanted = {**options, "services": [service]}
            self.ask(f"{title} {service}", lambda: check(apply(self.context, wanted, files=files)))

    def action_pause(self) -> None:
        row = self.row
        if row and row["state"] in ("running", "paused"):
            thaw = row["state"] == "paused"
            name = row["name"]
            self.ask("Going on" if thaw else "Freezing", lambda: self.pause(name, thaw))

    def pause(self, name: str, thaw: bool) -> None:
        supervisor = Supervisor.connect(self.context.stack_paths)
        if supervisor is not None:
            with supervisor:
                supervisor.call("pause", containers=[name], thaw=thaw)

    def ask(self, title: str, what: Callable[[], object]) -> None:
        """Do something aside, which nobody waits for at the end; what becomes of it is told in a corner."""

        def do() -> None:
            try:
                what()
            except ComposerError as error:
                if self.is_running:
                    self.notify(error.message, title=title, severity="error", timeout=10, markup=False)
            finally:
                self.reader.wanted.set()

        self.notify(f"{title} …", timeout=2)
        threading.Thread(target=do, name=title, daemon=True).start()

    def action_shell(self) -> None:
        row = self.row
        if row is None or row["state"] not in RUNNING:
            self.notify("it does not run", severity="warning")
            return
        with self.suspend():
            subprocess.run(shell_command(self.context, row["service"], row["number"]), check=False)


def details(row: ContainerRow) -> dict[str, str]:
    networks = (f"{name} {' '.join(each['addresses'])}" for name, each in row["networks"].items())
    mounts = (
        f"{mount.get('name') or mount.get('source', '')} at {mount['target']}" for mount in row["mounts"]
    )
    found = {
        "name": row["name"],
        "id": row["id"][:12],
        "image": row["image"],
        "command": words.command(row["command"], whole=True),
        "status": words.status(row),
        "reason": row["reason"],
        "created": words.ago(row["created_at"]),
        "restarts": str(row["restarts"]),
        "process": str(row["pid"] or ""),
        "ports": words.ports(row["ports"]),
        "networks": ", ".join(networks),
        "mounts": ", ".join(mounts),
    }
    return {key: value for key, value in found.items() if value}
