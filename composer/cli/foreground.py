"""`up` without -d: the output of containers as it comes, until all have ended or Ctrl-C stops them.

The wish is sent from a thread of its own, and events are heard by another; this thread shows logs. Ctrl-C
once stops gracefully, twice kills. On a terminal there are keys: `composer.cli.keys`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from composer.api.client import Supervisor
from composer.api.times import nanoseconds
from composer.api.wish import with_stack
from composer.cli import wish
from composer.cli.context import Context
from composer.cli.keys import Keys
from composer.cli.output import Output, plainly
from composer.cli.render.prefix import short
from composer.cli.render.progress import display
from composer.cli.terminal import is_terminal
from composer.cli.watch import Switch, Watching, rules_of
from composer.errors import ComposerError, PeerLostError
from composer.record import ContainerRow, read_record

INTERRUPTED = 130
OVER, AGAIN = b"x", b"f"
"""What is written to end the showing of output, or to begin it again with other sources."""
ABORTS = ("abort_on_container_exit", "exit_code_from", "abort_on_container_failure")


class Foreground:
    """One attached `up`."""

    def __init__(self, context: Context, services: Sequence[str], flags: dict[str, Any]) -> None:
        self.context, self.flags = context, flags
        self.output = Output(context, services, flags)
        self.services = self.output.services
        self.begun = self.output.begun
        self.stop_reading, self.stop_writing = os.pipe()
        self.started = threading.Event()
        self.error: ComposerError | None = None
        self.exits: dict[str, tuple[str, int]] = {}
        self.ends: dict[str, int] = {}
        """How often each container has ended."""
        self.died: dict[str, int] = {}
        """When each container ended last, in nanoseconds."""
        self.running: set[str] = set()
        self.applied = False
        self.asked = threading.Event()
        """Set when the wish is fulfilled, or has failed."""
        self.stopping = self.doubting = False
        self.first: tuple[str, int] | None = None
        self.lock = threading.Lock()
        ways = context.options
        self.shown = display(ways["progress"], title="Running", ansi=ways["ansi"])
        self.showing = threading.Lock()
        """Held while something goes to `shown`, which nothing does once `started` is set."""
        self.purposes = 0
        """Things under way that end containers on purpose, so that their end is not ours."""
        self.detached = False
        self.resting: set[str] = set()
        """Services that a key has stopped; another may start them again."""
        self.switch = watch_switch(self, services)
        self.keys = Keys(context, sorted(self.services), self, self.switch) if wants_keys(self) else None
        self.write: Callable[[bytes], None] = self.keys.bottom.write if self.keys else plainly

    def run(self, options: dict[str, Any]) -> int:
        paths = self.context.stack_paths
        with Supervisor.start(paths) as wishes, Supervisor.start(paths) as news:
            number = news.send("events")
            news.next(number)
            applying = threading.Thread(target=self.apply, args=(wishes, options), daemon=True)
            listening = threading.Thread(target=self.listen, args=(news, number), daemon=True)
            applying.start()
            listening.start()
            try:
                self.started.wait()
                self.show()
                if self.detached:
                    return 0
            except KeyboardInterrupt:
                self.stop("Gracefully stopping... (press Ctrl+C again to force)")
                return INTERRUPTED
            applying.join()
        if self.error is not None:
            raise self.error
        return self.ended()

    def apply(self, supervisor: Supervisor, options: dict[str, Any]) -> None:
        """Send the wish; its progress is shown until the first container is about to speak."""
        context = self.context
        heard = wish.shower(self.shown, explain=self.flags["explain"], untold=wish.untold(self.flags))

        def until_started(frame: dict[str, Any]) -> None:
            if (frame.get("progress") or {}).get("text") == "Starting":
                self.end_progress()
            with self.showing:
                if not self.started.is_set():
                    heard(frame)

        try:
            answer = with_stack(
                context,
                supervisor,
                "apply",
                until_started,
                options=options,
                parallel=context.options["parallel"],
            )
            wish.report(answer)
            self.expect()
            if self.flags["watch"] and self.switch:
                self.switch.toggle()
        except ComposerError as error:
            self.error = error
        finally:
            self.end_progress()
            with self.lock:
                self.applied = True
            self.asked.set()
            self.check()

    def end_progress(self) -> None:
        """What is shown of it stays; others write below it from now on."""
        with self.showing:
            if not self.started.is_set():
                self.shown.close()
            self.started.set()

    def expect(self) -> None:
        """Containers that run, or will with a connection, or whose end is still on its way as an event."""
        rows = read_record(self.context.stack_paths)["containers"]
        with self.lock:
            self.running |= {
                row["name"]
                for row in rows
                if row["service"] in self.services
                and row["name"] not in self.exits
                and (
                    row["state"] in ("running", "paused")
                    or row["plan"].get("gated")
                    or row["finished_at"] >= self.begun
                )
            }

    def listen(self, supervisor: Supervisor, number: int) -> None:
        """Hear of starts and ends."""
        try:
            while True:
                event = supervisor.next(number).get("event")
                if event and event["service"] in self.services:
                    self.note(event)
        except (PeerLostError, OSError):
            self.finish()

    def note(self, event: dict[str, Any]) -> None:
        name, code = event["container"], int(event["attributes"].get("exitCode", 0))
        with self.lock:
            if event["action"] == "start":
                self.running.add(name)
            elif event["action"] == "release":
                self.running.discard(name)
            elif event["action"] == "die":
                if not any(row["name"] == name and row["started_at"] > event["time"] for row in self.alive()):
                    self.running.discard(name)
                self.died[name] = event["time"]
                self.exits[name] = (event["service"], code)
                self.ends[name] = self.ends.get(name, 0) + 1
        if event["action"] == "die" and not self.stopping:
            self.say(f"{short(name, self.context.stack_name)} exited with code {code}")
        if event["action"] in ("die", "release") and not self.stopping:
            self.check()

    def check(self) -> None:
        """End when nothing is left to wait for, or when a flag says so."""
        with self.lock:
            over = self.aborts() or (self.applied and not self.waits())
            if self.error or (over and not self.applied):
                self.finish()
            elif over and not self.doubting:
                self.doubting = True
                threading.Thread(target=self.doubt, daemon=True).start()

    def doubt(self) -> None:
        """It seems to be over. If others wish for something just now, what is after that counts."""
        try:
            supervisor = Supervisor.connect(self.context.stack_paths)
            if supervisor is not None:
                with supervisor:
                    supervisor.call("settle", wishes=True)
        except (ComposerError, OSError):
            self.finish()
        with self.lock:
            self.doubting = False
            self.revive()
            if self.aborts() or not self.waits():
                self.finish()

    def aborts(self) -> bool:
        """Whether a container has ended for good, and a flag wants all to end then; `first` is which."""
        any_end = self.flags["abort_on_container_exit"] or self.flags["exit_code_from"]
        if self.purposes or not (any_end or self.flags["abort_on_container_failure"]):
            return False
        gone = (
            end for name, end in self.exits.items() if name not in self.running and not self.returns(name)
        )
        self.first = next((end for end in gone if any_end or end[1]), None)
        return self.first is not None

    def waits(self) -> bool:
        return bool(self.running or self.restarting() or self.resting or self.purposes)

    def revive(self) -> None:
        """What is alive by the record, and not known to have ended since, runs."""
        self.running |= {r["name"] for r in self.alive() if r["started_at"] > self.died.get(r["name"], 0)}

    def restarting(self) -> bool:
        """Whether a container that has ended will come back by itself."""
        return any(self.returns(name) for name in self.exits.keys() - self.running)

    def returns(self, name: str) -> bool:
        service, code = self.exits[name]
        data = self.context.project.stack_data["services"].get(service, {})
        return comes_back(data.get("restart", {}), code, self.ends[name])

    def alive(self) -> list[ContainerRow]:
        rows = read_record(self.context.stack_paths)["containers"]
        return [r for r in rows if r["service"] in self.services and r["state"] in ("running", "paused")]

    @contextmanager
    def during(self) -> Iterator[None]:
        """While containers end on purpose, to come back."""
        with self.lock:
            self.purposes += 1
        try:
            yield
        finally:
            with self.lock:
                # What has come back may not have been heard of yet; an end that is heard of later counts.
                self.revive()
                self.purposes -= 1
            self.check()

    def rest(self, service: str, rests: bool) -> None:
        (self.resting.add if rests else self.resting.discard)(service)

    def finish(self) -> None:
        os.write(self.stop_writing, OVER)

    def focus(self, service: str) -> None:
        """Show this service only, from its last lines on."""
        self.output.only = service
        os.write(self.stop_writing, AGAIN)

    def detach(self) -> None:
        """Leave once all is started; what was begun goes on without us."""
        self.asked.wait()
        self.detached = True
        self.finish()

    def say(self, text: str) -> None:
        self.write(f"{text}\n".encode())

    def show(self) -> None:
        """Output of the services, from the moment this command began."""
        with self.keys or nullcontext():
            again = False
            while True:
                for chunk in self.output.follow(self.stop_reading, again=again):
                    self.write(chunk)
                if OVER in os.read(self.stop_reading, 64):
                    break
                again = True
        if self.detached:
            print("Detached. `composer logs -f` follows, `composer down` ends the stack.", flush=True)

    def ended(self) -> int:
        """The exit code once the output has ended; stops the rest if a flag asked for that."""
        if not any(self.flags[name] for name in ABORTS):
            return 0
        self.stop("Aborting on container exit...")
        rows = read_record(self.context.stack_paths)["containers"]
        codes = [row["exit_code"] for row in rows if row["service"] == self.flags["exit_code_from"]]
        if codes:  # of the record, as news of an end may still be on its way to us
            return next(filter(None, codes), 0)
        return self.first[1] if self.first else 0

    def stop(self, text: str) -> None:
        """Stop what runs; a second Ctrl-C kills it."""
        self.stopping = True
        self.end_progress()
        print(text, file=sys.stderr, flush=True)
        options = {"goal": "stop", "timeout": nanoseconds(self.flags["timeout"], "--timeout")}
        try:
            wish.carry_out(self.context, options, title="Stopping", start=False)
        except KeyboardInterrupt:
            wish.carry_out(self.context, {**options, "timeout": 0}, title="Killing", start=False)


def comes_back(policy: dict[str, Any], code: int, ends: int) -> bool:
    """Whether a restart policy, as JSON, starts a container again after its `ends`th end, with `code`."""
    condition, most = policy.get("condition", "no"), policy.get("max_attempts")
    if condition == "no" or (condition == "on-failure" and code == 0):
        return False
    return most is None or ends <= most


def wants_keys(view: Foreground) -> bool:
    """On a terminal that is ours and can draw, unless --menu or Docker Compose's variable says no."""
    environment, ways = view.context.environment, view.context.options
    if not view.flags["menu"] or environment.get("COMPOSE_MENU", "").lower() in ("0", "false", "no"):
        return False
    if not is_terminal() or environment.get("TERM", "dumb") == "dumb" or ways.get("ansi") == "never":
        return False
    return ways.get("progress", "auto") in ("auto", "tty") and os.tcgetpgrp(0) == os.getpgrp()


def watch_switch(view: Foreground, services: Sequence[str]) -> Switch | None:
    """What --watch and a key turn on; None when no service says what to watch. Raises ComposerError."""
    data = view.context.project.stack_data["services"]
    if not view.flags["watch"] and not any(data[name].get("develop") for name in services or data):
        return None

    def say(text: str, wrong: bool) -> None:
        view.say(text)

    def make() -> Watching:
        context = view.context.anew()
        rules = rules_of(context, services, say)
        return Watching(context, services, rules, say, quiet=wants_keys(view), during=view.during)

    if view.flags["watch"]:
        rules_of(
            view.context, services, lambda text, wrong: None
        )  # what is wrong is told before anything starts
    return Switch(make)


def run_attached(
    context: Context, options: dict[str, Any], services: Sequence[str], flags: dict[str, Any]
) -> int:
    """The whole of an attached `up`; its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return Foreground(context, services, flags).run(options)
