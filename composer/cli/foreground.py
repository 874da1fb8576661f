"""`up` without -d: the output of containers as it comes, until all have ended or Ctrl-C stops them.

The wish is sent from a thread of its own, and events are heard by another; this thread shows logs. Ctrl-C
once stops gracefully, twice kills.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from composer.api.client import Supervisor
from composer.api.times import nanoseconds
from composer.api.wish import with_stack
from composer.cli import wish
from composer.cli.context import Context
from composer.cli.logs import write
from composer.cli.render.prefix import prefixes, short
from composer.cli.render.progress import display
from composer.errors import ComposerError, PeerLostError
from composer.logs import Source, follow
from composer.record import read_record

INTERRUPTED = 130
ABORTS = ("abort_on_container_exit", "exit_code_from", "abort_on_container_failure")


class Foreground:
    """One attached `up`."""

    def __init__(self, context: Context, services: Sequence[str], flags: dict[str, Any]) -> None:
        self.context, self.flags = context, flags
        self.services = shown_services(context, services, flags)
        self.begun = time.time_ns()
        self.stop_reading, self.stop_writing = os.pipe()
        self.started = threading.Event()
        self.error: ComposerError | None = None
        self.exits: dict[str, tuple[str, int]] = {}
        self.ends: dict[str, int] = {}
        """How often each container has ended."""
        self.running: set[str] = set()
        self.applied = False
        self.stopping = False
        self.first: tuple[str, int] | None = None
        self.lock = threading.Lock()

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
        ways = context.options
        shown = display(ways["progress"], title="Running", ansi=ways["ansi"])
        heard = wish.shower(shown, explain=self.flags["explain"])

        def until_started(frame: dict[str, Any]) -> None:
            if self.started.is_set():
                return
            if (frame.get("progress") or {}).get("text") == "Starting":
                shown.close()
                self.started.set()
            else:
                heard(frame)

        try:
            answer = with_stack(
                context,
                supervisor,
                "apply",
                until_started,
                options=options,
                parallel=ways["parallel"],
            )
            wish.report(answer)
            self.expect()
        except ComposerError as error:
            self.error = error
        finally:
            if not self.started.is_set():
                shown.close()
            with self.lock:
                self.applied = True
            self.started.set()
            self.check()

    def expect(self) -> None:
        """Containers that run, or whose end is still on its way to us as an event."""
        rows = read_record(self.context.stack_paths)["containers"]
        with self.lock:
            self.running |= {
                row["name"]
                for row in rows
                if row["service"] in self.services
                and row["name"] not in self.exits
                and (row["state"] in ("running", "paused") or row["finished_at"] >= self.begun)
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
            elif event["action"] == "die":
                self.running.discard(name)
                self.exits[name] = (event["service"], code)
                self.ends[name] = self.ends.get(name, 0) + 1
                self.first = self.first or (event["service"], code)
        if event["action"] == "die" and not self.stopping:
            print(f"{short(name, self.context.stack_name)} exited with code {code}", flush=True)
            self.check()

    def check(self) -> None:
        """End when nothing is left to wait for, or when a flag says so."""
        flags = self.flags
        aborts = flags["abort_on_container_exit"] or flags["exit_code_from"]
        with self.lock:
            failed = any(code for _, code in self.exits.values())
            over = self.applied and not self.running and not self.restarting()
            aborted = (self.exits and aborts) or (failed and flags["abort_on_container_failure"])
            if self.error or over or aborted:
                self.finish()

    def restarting(self) -> bool:
        """Whether a container that has ended will come back by itself."""
        data = self.context.project.stack_data["services"]
        return any(
            comes_back(data[service].get("restart", {}), code, self.ends[name])
            for name, (service, code) in self.exits.items()
            if service in data and name not in self.running
        )

    def finish(self) -> None:
        os.write(self.stop_writing, b"x")

    def show(self) -> None:
        """Output of the services, from the moment this command began."""
        logs = self.context.stack_paths.logs
        logs.mkdir(parents=True, exist_ok=True)
        chunks = follow(
            logs,
            self.sources,
            self.stop_reading,
            since_ns=self.begun,
            timestamps=self.flags["timestamps"],
        )
        write(chunks)

    def sources(self) -> list[Source]:
        stack = self.context.stack_name
        names = [
            path.name.removesuffix(".log") for path in sorted(self.context.stack_paths.logs.glob("*.log"))
        ]
        services = {f"{stack}-{service}": service for service in self.services}
        chosen = [name for name in names if name.rpartition("-")[0] in services or name in self.own_names()]
        plain = self.flags["no_log_prefix"]
        rows = read_record(self.context.stack_paths)["containers"]
        silent = [
            row["name"] for row in rows if row["service"] in self.services and row["name"] not in chosen
        ]
        labels = prefixes(chosen + silent, stack, self.context.colour and not self.flags["no_color"])
        return [
            Source(str(self.context.stack_paths.log(name)), b"" if plain else labels[name]) for name in chosen
        ]

    def own_names(self) -> set[str]:
        data = self.context.project.stack_data["services"]
        return {name for s in self.services if (name := data[s].get("container_name", ""))}

    def ended(self) -> int:
        """The exit code once the output has ended; stops the rest if a flag asked for that."""
        if not any(self.flags[name] for name in ABORTS):
            return 0
        self.stop("Aborting on container exit...")
        wanted = self.flags["exit_code_from"]
        if wanted:
            return next((code for service, code in self.exits.values() if service == wanted), 0)
        return self.first[1] if self.first else 0

    def stop(self, text: str) -> None:
        """Stop what runs; a second Ctrl-C kills it."""
        self.stopping = True
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


def shown_services(context: Context, services: Sequence[str], flags: dict[str, Any]) -> set[str]:
    """Whose output is shown: --attach, else the named ones (their dependencies if asked for), else all."""
    data = context.project.stack_data["services"]
    chosen = set(flags["attach"] or services or data)
    if flags["attach_dependencies"] or not services:
        more = list(chosen)
        while more:
            for name in data.get(more.pop(), {}).get("depends_on", {}):
                if name not in chosen:
                    chosen.add(name)
                    more.append(name)
    if flags["attach"]:
        chosen = set(flags["attach"])
    quiet = {name for name, service in data.items() if service.get("attach", True) is False}
    if flags["exit_code_from"]:
        chosen.add(flags["exit_code_from"])
    return (chosen - quiet - set(flags["no_attach"])) & set(data)


def run_attached(
    context: Context, options: dict[str, Any], services: Sequence[str], flags: dict[str, Any]
) -> int:
    """The whole of an attached `up`; its exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return Foreground(context, services, flags).run(options)
