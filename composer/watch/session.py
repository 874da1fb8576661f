"""The loop of `composer watch`: from changes on disk to containers that have them.

Every change that is to be copied gets a number, and each container has the number up to which it was served.
A container that was made anew starts from nothing, one that did not run where it was. What follows a copy (a
restart, a command, a rebuild) waits until all is quiet: a thousand files of a checkout are one change.
"""

from __future__ import annotations

import os
import select
import shlex
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, Final, Protocol

from composer.api.client import Supervisor
from composer.api.context import Context
from composer.api.process import execute
from composer.api.project import stamp
from composer.errors import ComposerError
from composer.record import ContainerRow, read_record
from composer.watch.deliver import Delivery, deliver
from composer.watch.rules import Copy, Rule, Then, decide
from composer.watch.tree import Change, Tree

QUIET: Final = 0.01
"""Seconds without a change after which changes are carried out,"""
LONGEST: Final = 0.05
"""and how long they wait at most when there is no quiet."""
CALM: Final = 0.1
"""Seconds without a change before anything is restarted, rebuilt or run."""
PRINTED: Final = 256 << 10
"""Bytes of a command's output that are shown: the first half, and the last."""
SHOWN: Final = 3
"""Names of files in a message; the rest is counted."""


class Acts(Protocol):
    """What the session asks of whoever runs it."""

    def tell(self, service: str, text: str, *, wrong: bool = False) -> None: ...
    def wish(self, options: Mapping[str, Any], title: str) -> None:
        """Carry out a wish. Raises ComposerError."""

    def replaced(self, images: Collection[str]) -> None:
        """Containers no longer run these images, by their ids."""

    def reread(self) -> tuple[Context, Sequence[Rule]]:
        """The stack files as they are now, and their rules. Raises ComposerError."""


class Session:
    """One `watch`. Ends when the descriptor `stop` is readable."""

    def __init__(self, context: Context, rules: Sequence[Rule], acts: Acts) -> None:
        self.context, self.rules, self.acts = context, rules, acts
        self.services = {rule.service for rule in rules}
        self.log: dict[tuple[Rule, str], tuple[int, Copy]] = {}
        """By rule and target, the number and the latest copy."""
        self.number = 0
        self.served: dict[str, int] = {}
        """By a container's id, the number up to which it has everything."""
        self.pending: set[Then] = set()
        self.worker: threading.Thread | None = None
        self.tree = watched(rules)
        self.files = read_files(context)

    def run(self, stop: int) -> None:
        with watching(only([str(self.context.stack_paths.record)])) as states:
            try:
                self.take_up(self.rules)
                if not current(self.context):  # they changed while containers were made
                    self.reread()
                while (changes := self.wait(stop, states)) is not None:
                    if self.files.take():
                        changes |= self.reread()
                    work = decide(changes, self.rules)
                    self.note(work.copies)
                    self.pending |= work.then
                    self.serve()
            finally:
                self.tree.close()
                self.files.close()

    def take_up(self, rules: Sequence[Rule]) -> None:
        """Rules that count from now on."""
        counts = Counter(rule.service for rule in self.rules)
        self.acts.tell("watching", ", ".join(f"{name} ({count})" for name, count in counts.items()))
        initial = [rule for rule in rules if rule.copies and rule.initial]
        self.note(decide(self.tree.files(), initial).copies)
        self.serve()

    def reread(self) -> dict[str, Change]:
        """Go by the stack files as they are now, unless they are wrong. What else has changed meanwhile."""
        try:
            context, rules = self.acts.reread()
            tree = watched(rules)
        except ComposerError as error:
            self.acts.tell("watching", f"goes on as before: {error.message}", wrong=True)
            return {}
        changes = self.tree.take()
        self.tree.close()
        self.files.close()
        self.context, self.tree, self.files = context, tree, read_files(context)
        before = {rule.matter for rule in self.rules}
        same = {rule.matter: rule for rule in rules}
        self.log = {
            (now, target): (number, copy._replace(rule=now))
            for (rule, target), (number, copy) in self.log.items()
            if (now := same.get(rule.matter)) is not None
        }
        self.rules, self.services = rules, {rule.service for rule in rules}
        self.take_up([rule for rule in rules if rule.matter not in before])
        return changes if current(context) else changes | self.reread()

    def wait(self, stop: int, states: Tree) -> dict[str, Change] | None:
        """What has changed, once it is quiet for a moment; None when it is over. Does what was put off when
        nothing changes for longer."""
        poll = select.poll()
        for each in (stop, self.tree, states, self.files):
            poll.register(each, select.POLLIN)
        while not (ready := {fd for fd, _ in poll.poll(CALM * 1000 if self.pending else None)}):
            self.begin()
        if stop in ready:
            return None
        states.take()
        for one in (states, stop, self.files):
            poll.unregister(one)
        changes = self.tree.take()
        end = time.monotonic() + LONGEST
        while changes and time.monotonic() < end and poll.poll(QUIET * 1000):
            changes |= self.tree.take()
        return changes

    def note(self, copies: Sequence[Copy]) -> None:
        for copy in copies:
            self.number += 1
            self.log[copy.rule, copy.target] = self.number, copy

    def serve(self) -> None:
        """Give every container what it lacks."""
        for row in self.rows():
            since = self.served.get(row["id"], 0)
            if row["service"] not in self.services or since == self.number:
                continue
            if row["state"] not in ("running", "paused"):
                continue
            lacking = [c for (r, _), (n, c) in self.log.items() if r.service == row["service"] and n > since]
            begun = time.monotonic()
            try:
                done = deliver(self.context, row, lacking)
            except ComposerError:
                continue  # it has just ended, and is served when it runs again
            self.served[row["id"]] = self.number
            self.pending |= done.then
            self.report(row, done, time.monotonic() - begun)

    def rows(self) -> list[ContainerRow]:
        return [row for row in read_record(self.context.stack_paths)["containers"] if not row["oneoff"]]

    def report(self, row: ContainerRow, done: Delivery, seconds: float) -> None:
        name = row["name"].removeprefix(f"{self.context.stack_name}-")
        for word, paths in (("synced", done.written), ("removed", done.removed)):
            if paths:
                more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
                self.acts.tell(name, f"{word} {', '.join(paths[:SHOWN])}{more} ({seconds * 1000:.0f} ms)")
        for text in done.failed:
            self.acts.tell(name, text, wrong=True)

    def begin(self) -> None:
        """Do what was put off, aside: copying goes on meanwhile. One thing after the other."""
        if self.worker is None or not self.worker.is_alive():
            work, self.pending = self.pending, set()
            self.worker = threading.Thread(target=self.follow, args=(work,), daemon=True)
            self.worker.start()

    def follow(self, work: Set[Then]) -> None:
        """A service that is rebuilt needs no restart."""
        rebuild = sorted(then.service for then in work if then.what == "rebuild")
        restart = sorted({then.service for then in work if then.what == "restart"} - set(rebuild))
        if rebuild:
            before = {row["image_id"] for row in self.rows() if row["service"] in rebuild}
            if self.attempt(rebuild, "rebuilt", REBUILD, "Rebuilding"):
                self.acts.replaced(before)
        if restart:
            self.attempt(restart, "restarted", {"goal": "restart"}, "Restarting")
        for then in sorted(work):
            if then.what == "exec":
                self.exec(then)

    def attempt(self, services: list[str], done: str, options: Mapping[str, Any], title: str) -> bool:
        begun = time.monotonic()
        try:
            self.acts.wish({**options, "services": services}, title)
        except ComposerError as error:
            self.acts.tell(", ".join(services), f"not {done}: {error.message}", wrong=True)
            return False
        self.acts.tell(", ".join(services), f"{done} ({time.monotonic() - begun:.1f} s)")
        return True

    def exec(self, then: Then) -> None:
        hook = self.context.project.stack.services[then.service].develop[then.number].exec
        if hook is None:
            return
        process = {
            "user": hook.user,
            "privileged": hook.privileged,
            "cwd": hook.working_dir,
            "env": [f"{key}={value or ''}" for key, value in hook.environment.items()],
        }
        for row in self.rows():
            if row["service"] == then.service and row["state"] == "running":
                self.exec_in(row, hook.command, process)

    def exec_in(self, row: ContainerRow, command: Sequence[str], process: Mapping[str, Any]) -> None:
        """Run a command; what it prints is told when it has ended."""
        name = row["name"].removeprefix(f"{self.context.stack_name}-")
        supervisor = Supervisor.connect(self.context.stack_paths)
        if supervisor is None:
            return
        begun = time.monotonic()
        try:
            with supervisor:
                done = execute(supervisor, row["name"], command, process, most=PRINTED, merged=True)
        except ComposerError as error:
            self.acts.tell(name, f"{shlex.join(command)}: {error.message}", wrong=True)
            return
        for line in done.stdout.splitlines():
            self.acts.tell(name, f"  {line}")
        said = f"done ({time.monotonic() - begun:.1f} s)" if done.ok else f"ended with {done.exit_code}"
        self.acts.tell(name, f"{shlex.join(command)}: {said}", wrong=not done.ok)


REBUILD: Final = {"goal": "up", "build": True, "force_recreate": True, "no_deps": True}


def watched(rules: Sequence[Rule]) -> Tree:
    """What the rules are about."""

    def wanted(path: str, directory: bool) -> bool:
        return any(rule.takes(path, directory) for rule in rules)

    return Tree({rule.path for rule in rules}, wanted)


def only(paths: Collection[str]) -> Tree:
    """Single files, which may come and go."""
    return Tree(paths, lambda path, directory: path in paths)


def read_files(context: Context) -> Tree:
    """What the stack was read from, and what would have been read if it were there."""
    return only({os.path.abspath(path) for path in context.project.files})


def current(context: Context) -> bool:
    """Whether the stack files still say what they said."""
    return all(stamp(path) == was for path, was in context.project.files.items())


@contextmanager
def watching(tree: Tree) -> Iterator[Tree]:
    try:
        yield tree
    finally:
        tree.close()
