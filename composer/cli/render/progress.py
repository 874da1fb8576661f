"""How work is shown: lines that redraw in place on a terminal, plain lines elsewhere, JSON, or nothing.

A display is told `update(Update)` and `close()`; it decides nothing. It writes to standard error, as Docker
Compose does, so that standard output stays for results.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from typing import Literal, Protocol, TextIO

from composer.cli.render.table import shorten, width
from composer.value import Value

State = Literal["working", "done", "warning", "error"]
SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MARKS: dict[str, tuple[str, str]] = {
    "done": ("✔", "\x1b[32m"),
    "warning": ("!", "\x1b[33m"),
    "error": ("✘", "\x1b[31m"),
}
PLAIN, DIM, BLUE = "\x1b[0m", "\x1b[2m", "\x1b[34m"


class Update(Value):
    """Something about one thing. `total` > 0 makes a bar of `current`/`total` (bytes)."""

    id: str
    text: str
    state: State = "working"
    detail: str = ""
    current: int = 0
    total: int = 0


class Display(Protocol):
    def update(self, update: Update) -> None: ...
    def close(self) -> None: ...


class Quiet:
    """Shows nothing."""

    def update(self, update: Update) -> None:
        """Nothing is shown."""

    def close(self) -> None:
        """Nothing was shown."""


class Plain:
    """A line per change."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.last: dict[str, str] = {}

    def update(self, update: Update) -> None:
        if self.last.get(update.id) == update.text:
            return
        self.last[update.id] = update.text
        detail = f"  {update.detail}" if update.detail else ""
        print(f" {update.id}  {update.text}{detail}", file=self.out, flush=True)

    def close(self) -> None:
        """Every line is out already."""


class Json:
    """A JSON object per change."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def update(self, update: Update) -> None:
        status = {"working": "Working", "done": "Done", "warning": "Warning", "error": "Error"}[update.state]
        line = {"id": update.id, "status": status, "text": update.text, "details": update.detail}
        if update.total:
            line |= {"current": update.current, "total": update.total}  # type: ignore[dict-item]
        print(json.dumps({k: v for k, v in line.items() if v != ""}), file=self.out, flush=True)

    def close(self) -> None:
        """Every line is out already."""


class Live:
    """Redraws its lines in place, at most as many as the terminal is high; a thread turns the spinner."""

    def __init__(self, out: TextIO, *, title: str, colour: bool) -> None:
        self.out, self.title, self.colour = out, title, colour
        self.updates: dict[str, Update] = {}
        self.begun: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.drawn = 0
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.spin, daemon=True)

    def update(self, update: Update) -> None:
        now = time.monotonic()
        with self.lock:
            self.begun.setdefault(update.id, now)
            if update.state == "working":
                self.ended.pop(update.id, None)
            else:
                self.ended[update.id] = now
            self.updates[update.id] = update
            self.draw()
        if not self.thread.ident:
            self.thread.start()

    def close(self) -> None:
        self.stop.set()
        if self.thread.ident:
            self.thread.join()
        with self.lock:
            self.draw(whole=True)

    def spin(self) -> None:
        while not self.stop.wait(0.1):
            with self.lock:
                self.draw()

    def draw(self, *, whole: bool = False) -> None:
        """Replace what was drawn before. `whole` shows every line even if that scrolls the screen."""
        if not self.updates:
            return
        size = shutil.get_terminal_size()
        shown = list(self.updates.values())
        if not whole and len(shown) > size.lines - 2:
            # What still moves is what one wants to see; the rest is counted in the first line.
            moving = [u for u in shown if u.state != "done"]
            shown = (moving + [u for u in shown if u.state == "done"])[: max(size.lines - 2, 1)]
        ready = sum(u.state != "working" for u in self.updates.values())
        names = max(width(u.id) for u in shown)
        lines = [self.paint(BLUE, f"[+] {self.title} {ready}/{len(self.updates)}")]
        lines += [self.line(u, names, size.columns) for u in shown]
        back = f"\x1b[{self.drawn}A\r" if self.drawn else ""
        self.out.write(f"{back}\x1b[J" + "\n".join(lines) + "\n")
        self.out.flush()
        self.drawn = len(lines)

    def line(self, update: Update, names: int, columns: int) -> str:
        now = time.monotonic()
        spent = f"{self.ended.get(update.id, now) - self.begun[update.id]:.1f}s"
        mark, code = MARKS.get(update.state, (SPIN[int(now * 10) % len(SPIN)], BLUE))
        text = bar(update) if update.total else update.text
        middle = f"{update.id}{' ' * (names - width(update.id))}  {text}"
        if update.detail:
            middle += f"  {update.detail}"
        middle = shorten(middle, max(columns - 12, 10))
        gap = " " * max(columns - 4 - width(middle) - len(spent), 1)
        return f" {self.paint(code, mark)} {middle}{gap}{self.paint(DIM, spent)}"

    def paint(self, code: str, text: str) -> str:
        return f"{code}{text}{PLAIN}" if self.colour else text


def bar(update: Update) -> str:
    """`Pulling [=====>    ] 12.5MB/30.1MB`."""
    done = min(update.current / update.total, 1.0)
    fill = int(done * 20)
    return f"{update.text} [{'=' * fill}{'>' if fill < 20 else ''}{' ' * (19 - fill)}] " + (
        f"{megabytes(update.current)}/{megabytes(update.total)}"
    )


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}MB" if size >= 1e6 else f"{size / 1e3:.0f}kB"


def display(mode: str, *, title: str, ansi: str = "auto") -> Display:
    """The display for --progress MODE; auto is live on a terminal and plain elsewhere."""
    aside = os.environ.get("COMPOSE_STATUS_STDOUT", "").lower() in ("1", "true", "yes")
    out = sys.stdout if aside else sys.stderr
    if mode == "auto":
        mode = "tty" if out.isatty() and os.environ.get("TERM") != "dumb" and ansi != "never" else "plain"
    if mode == "tty":
        return Live(out, title=title, colour=ansi == "always" or not os.environ.get("NO_COLOR"))
    if mode == "json":
        return Json(out)
    return Quiet() if mode == "quiet" else Plain(out)
