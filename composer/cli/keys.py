"""The keys of an attached `up`: which there are, and what each does."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from composer.api import context as api
from composer.api.client import settle
from composer.cli import wish
from composer.cli.context import Context
from composer.cli.render.bottom import Bottom
from composer.cli.watch import Switch
from composer.errors import ComposerError
from composer.record import read_record

SHELL = "command -v bash >/dev/null && exec bash; exec sh"
HELP = """\
  Tab, →, ←   show one service after the other (also 1 to 9; 0 shows all)
  r           restart what is shown
  s           stop the service that is shown, or start it again
  x           a shell in the service that is shown
  w           watch on or off: what is saved here reaches containers (`develop.watch`)
  d           detach: the stack goes on in the background
  ?           this list
  Ctrl-C      stop the stack; twice: at once
"""


class View(Protocol):
    """The attached `up` that the keys are for."""

    def focus(self, service: str) -> None:
        """Show one service only, "" for all."""

    def detach(self) -> None: ...
    def during(self) -> AbstractContextManager[object]:
        """While containers end on purpose."""

    def rest(self, service: str, rests: bool) -> None:
        """A service was stopped, and will perhaps be started again."""


class Keys:
    """Use it as a context, on the main thread. Keys are read on a thread of its own; what takes time is done
    on another, one thing at a time."""

    def __init__(self, context: Context, services: Sequence[str], view: View, switch: Switch | None) -> None:
        self.context, self.services, self.view, self.switch = context, services, view, switch
        self.chosen = 0
        """0 for all services, else one more than its place."""
        self.doing = ""
        self.acting: threading.Thread | None = None
        self.end_reading, self.end_writing = os.pipe()
        self.bottom = Bottom(self.text, colour=context.colour)
        self.does: dict[bytes, Callable[[], None]] = {
            **dict.fromkeys((b"\t", b"\x1b[C", b"\x1bOC"), lambda: self.choose(self.chosen + 1)),
            **dict.fromkeys((b"\x1b[Z", b"\x1b[D", b"\x1bOD"), lambda: self.choose(self.chosen - 1)),
            b"r": self.restart,
            b"s": self.stop_or_start,
            b"x": self.shell,
            b"w": self.watch,
            b"d": lambda: self.act("detaching", self.view.detach),
            **dict.fromkeys((b"?", b"h"), lambda: self.say(HELP.rstrip("\n"))),
            **{str(n).encode(): lambda n=n: self.jump(n) for n in range(10)},  # type: ignore[misc]
        }

    @property
    def service(self) -> str:
        return self.services[self.chosen - 1] if self.chosen else ""

    def text(self) -> str:
        shown = self.service or "all"
        watch = f"  w watch {'off' if self.switch.on else 'on'}" if self.switch else ""
        # Fits into 80 columns.
        keys = f"Tab next  r restart  s stop  x shell{watch}  d detach  ? help"
        return f" {shown} │ {self.doing or keys}"

    def __enter__(self) -> Keys:
        self.bottom.__enter__()
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.end_writing)
        self.bottom.__exit__()

    def listen(self) -> None:
        """Until the context ends, or the terminal is gone."""
        while True:
            ready, _, _ = select.select([0, self.end_reading], [], [])
            data = os.read(0, 64) if self.end_reading not in ready else b""
            if not data:
                return
            for key in separate(data):
                self.does.get(key, lambda: None)()

    def say(self, text: str) -> None:
        self.bottom.write(f"{text}\n".encode())

    def choose(self, number: int) -> None:
        self.chosen = number % (len(self.services) + 1)
        name = self.service or "all services"
        self.bottom.write(f"── {name} {'─' * max(40 - len(name), 3)}\n".encode())
        self.view.focus(self.service)

    def jump(self, number: int) -> None:
        if number <= len(self.services):
            self.choose(number)

    def act(self, doing: str, work: Callable[[], object]) -> None:
        """Do something aside, and say what meanwhile."""
        if self.acting is not None and self.acting.is_alive():
            return

        def run() -> None:
            try:
                work()
            except ComposerError as error:
                self.say(f"error: {error.message}")
            finally:
                self.doing = ""
                self.bottom.draw()

        self.doing = f"{doing} …"
        self.acting = threading.Thread(target=run, daemon=True)
        self.acting.start()
        self.bottom.draw()

    def wish(self, options: dict[str, Any]) -> None:
        with self.view.during():
            wish.carry_out(self.context, options, quiet=True)

    def restart(self) -> None:
        services = [self.service] if self.chosen else list(self.services)
        wanted = {"goal": "restart", "services": services}
        self.act(f"restarting {', '.join(services)}", lambda: self.wish(wanted))

    def stop_or_start(self) -> None:
        service = self.one("stop")
        if service:
            runs = self.runs(service)
            doing = f"stopping {service}" if runs else f"starting {service}"
            goal = {"goal": "stop" if runs else "start", "services": [service]}
            self.view.rest(service, runs)
            self.act(doing, lambda: self.wish(goal))

    def runs(self, service: str) -> bool:
        settle(self.context.stack_paths)  # what has spoken may not have been recorded yet
        rows = read_record(self.context.stack_paths)["containers"]
        return any(r["service"] == service and r["state"] in ("running", "paused") for r in rows)

    def one(self, purpose: str) -> str:
        """The service that is meant, "" when there are several."""
        if not self.chosen and len(self.services) > 1:
            self.say(f"choose a service to {purpose} first: Tab, or 1 to {min(len(self.services), 9)}")
            return ""
        return self.service or self.services[0]

    def shell(self) -> None:
        service = self.one("open a shell in")
        if service:
            import subprocess

            with self.bottom.lent():
                subprocess.run(shell_command(self.context, service), check=False)

    def watch(self) -> None:
        if self.switch is None:
            self.say("there is nothing to watch: say what in `develop.watch`")
        else:
            self.act("watching", self.switch.toggle)


def separate(data: bytes) -> list[bytes]:
    """Keys as they were typed; one that sends several bytes comes alone."""
    return [data] if data.startswith(b"\x1b") else [data[n : n + 1] for n in range(len(data))]


def shell_command(context: api.Context, service: str, number: int = 0) -> list[str]:
    """A shell of a service, on our terminal, by a process of its own."""
    # Not `-m`, which would take a folder named composer in the user's folder for us.
    code = f"import sys; sys.path[:] = {sys.path!r}; from composer.__main__ import main; sys.exit(main())"
    words = ["-p", context.stack_name, "exec", "--index", str(number), service, "sh", "-c", SHELL]
    return [sys.executable, "-c", code, *words]
