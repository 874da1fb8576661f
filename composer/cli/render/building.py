"""How a build is shown: steps and their output, in Docker's plain form, in place, as JSON, or not at all.

Told by events; decides nothing. Writes to standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import Protocol, TextIO

from composer.build.walk import Event
from composer.cli.render.progress import BLUE, DIM, MARKS, PLAIN, SPIN
from composer.cli.render.table import shorten

TAIL = 6
"""Lines of output that are shown of a running step."""


class Show(Protocol):
    def tell(self, event: Event) -> None: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Shows warnings only."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def tell(self, event: Event) -> None:
        if event.status == "warning":
            print(f"warning: {event.text}", file=self.out)

    def tick(self) -> None:
        """Nothing moves."""

    def close(self) -> None:
        """Nothing is open."""


class Lines(Silent):
    """`#4 [web 2/6] RUN …`, `#4 0.3 output`, `#4 DONE 0.4s`: as BuildKit prints it without a terminal."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self.numbers: dict[str, int] = {}
        self.begun: dict[str, float] = {}

    def tell(self, event: Event) -> None:
        if event.status == "warning":
            super().tell(event)
            return
        if event.step not in self.numbers:
            self.numbers[event.step] = len(self.numbers) + 1
            self.begun[event.step] = time.monotonic()
            print(f"#{self.numbers[event.step]} {event.title}", file=self.out)
        text = self.text(event)
        if text:
            print(f"#{self.numbers[event.step]} {text}", file=self.out, flush=True)
        if event.status in ("done", "cached", "error"):
            print(file=self.out, flush=True)

    def text(self, event: Event) -> str:
        spent = time.monotonic() - self.begun[event.step]
        match event.status:
            case "output":
                return f"{spent:.3f} {event.text}"
            case "done":
                return f"DONE {spent:.1f}s" + (f" {event.text}" if event.text else "")
            case "cached":
                return "CACHED"
            case "error":
                return "ERROR"
        return ""


class Objects(Silent):
    """A JSON object per event."""

    def tell(self, event: Event) -> None:
        fields = {"id": event.step, "text": event.title, "status": event.status, "details": event.text}
        print(json.dumps({name: value for name, value in fields.items() if value}), file=self.out, flush=True)


class Drawn(Silent):
    """Redraws its lines in place: finished steps, and running ones with what they last said."""

    def __init__(self, out: TextIO, *, colour: bool) -> None:
        super().__init__(out)
        self.colour = colour
        self.steps: dict[str, Event] = {}
        self.begun: dict[str, float] = {}
        self.spent: dict[str, float] = {}
        self.said: dict[str, list[str]] = {}
        self.warnings: list[str] = []
        self.drawn = 0
        self.last = 0.0

    def tell(self, event: Event) -> None:
        now = time.monotonic()
        if event.status == "warning":
            self.warnings.append(event.text)
        elif event.status == "output":
            self.said.setdefault(event.step, []).append(event.text)
            del self.said[event.step][:-TAIL]
        else:
            self.begun.setdefault(event.step, now)
            self.steps[event.step] = event
            if event.status != "start":
                self.spent[event.step] = now - self.begun[event.step]
        if now - self.last > 0.05:
            self.draw()

    def tick(self) -> None:
        self.draw()

    def close(self) -> None:
        self.draw()
        for text in self.warnings:
            print(f"warning: {text}", file=self.out)

    def draw(self) -> None:
        self.last = now = time.monotonic()
        size = shutil.get_terminal_size()
        lines: list[str] = []
        for name, event in self.steps.items():
            running = event.status == "start"
            state = "done" if event.status in ("done", "cached") else event.status
            mark, code = MARKS.get(state, (SPIN[int(now * 10) % len(SPIN)], BLUE))
            end = (
                "CACHED"
                if event.status == "cached"
                else f"{self.spent.get(name, now - self.begun[name]):.1f}s"
            )
            title = shorten(event.title, max(size.columns - len(end) - 6, 10))
            gap = " " * max(size.columns - len(title) - len(end) - 5, 1)
            lines.append(f" {self.paint(code, mark)} {title}{gap}{self.paint(DIM, end)}")
            if running:
                lines += [
                    self.paint(DIM, f"   │ {shorten(clean(text), size.columns - 8)}")
                    for text in self.said.get(name, ())
                ]
        lines = lines[-max(size.lines - 2, 1) :]
        back = f"\x1b[{self.drawn}A\r" if self.drawn else ""
        self.out.write(f"{back}\x1b[J" + "".join(f"{line}\n" for line in lines))
        self.out.flush()
        self.drawn = len(lines)

    def paint(self, code: str, text: str) -> str:
        return f"{code}{text}{PLAIN}" if self.colour else text


def clean(text: str) -> str:
    """Without what would move the cursor or set colours."""
    return "".join(char if char.isprintable() else " " for char in text)


def show(mode: str, ansi: str = "auto") -> Show:
    """The display for --progress MODE; auto is drawn on a terminal and lines elsewhere."""
    out = sys.stderr
    if mode == "auto":
        mode = "tty" if out.isatty() and os.environ.get("TERM") != "dumb" and ansi != "never" else "plain"
    if mode == "tty":
        return Drawn(out, colour=not os.environ.get("NO_COLOR"))
    return {"json": Objects, "quiet": Silent}.get(mode, Lines)(out)
