"""`composer watch`: what is saved on this host reaches containers, as `develop.watch` says."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from composer.cli import common, wish
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.errors import ComposerError, NotFoundError

if TYPE_CHECKING:
    from composer.watch.rules import Rule

VERB = Verb(
    "watch",
    "Bring what is saved here into containers, as it is saved",
    (
        Flag("no-up", "bool", "Do not build and start services first"),
        Flag("prune", "bool", "Remove images that a rebuild has replaced", default=True),
        Flag("quiet", "bool", "Do not show builds"),
    ),
    (common.SERVICES,),
    examples=(
        ("watch", "build and start what has changed, then watch"),
        ("watch --no-up web", "only watch, for one service"),
    ),
)


def run(context: Context, *, no_up: bool, prune: bool, quiet: bool, service: list[str]) -> int:
    context.check_identity()
    context.check_services(service)
    rules = rules_of(context, service, say)
    if not no_up:
        options = {"goal": "up", "services": service, "build": True}
        wish.carry_out(context, options, quiet=quiet, dry_run=context.dry_run)
    if context.dry_run:
        return wish.announce(sorted({rule.path for rule in rules}), "Watched")
    never, _ = os.pipe()
    Watching(context, service, rules, say, prune=prune, quiet=quiet).run(never)
    return 0


Say = Callable[[str, bool], None]
"""Told a line, and whether something is wrong."""


def rules_of(context: Context, services: Sequence[str], say: Say) -> list[Rule]:
    """The rules of these services, or of all; doubts about them are told. Raises ComposerError."""
    from composer.watch.rules import compiled

    stack = context.project.stack
    rules, warnings = compiled(stack, services or list(stack.services))
    for text in warnings:
        say(f"warning: {text}", True)
    if not rules:
        which = "none of these services has" if services else "no service has"
        raise NotFoundError(
            f"{which} anything to watch", hint="say what in `develop.watch`: see docs/watch.md"
        )
    return rules


def say(text: str, wrong: bool) -> None:
    print(text, file=sys.stderr if wrong else sys.stdout, flush=True)


class Watching:
    """A session of watching, and how what it does is shown. `during` is entered while containers are
    replaced on purpose."""

    def __init__(
        self,
        context: Context,
        services: Sequence[str],
        rules: Sequence[Rule],
        say: Say,
        *,
        prune: bool = True,
        quiet: bool = False,
        during: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.context, self.services, self.rules, self.say = context, services, rules, say
        self.prune, self.quiet, self.during = prune, quiet, during

    def run(self, stop: int) -> None:
        """Until `stop` is readable. Raises ComposerError."""
        from composer.watch.session import Session

        Session(self.context, self.rules, self).run(stop)

    def tell(self, service: str, text: str, *, wrong: bool = False) -> None:
        colour = self.context.colour
        mark, dim, plain = (
            ("\x1b[31m" if wrong else "\x1b[36m", "\x1b[1m", "\x1b[0m") if colour else ("",) * 3
        )
        self.say(f"{mark}⦿{plain} {dim}{service}{plain}  {text}", wrong)

    def wish(self, options: Mapping[str, Any], title: str) -> None:
        with self.during():
            wish.carry_out(self.context, options, title=title, quiet=self.quiet)

    def reread(self) -> tuple[Context, Sequence[Rule]]:
        """Containers stay as they are: a file that is saved halfway replaces nothing."""
        from composer.cli.predict import predict

        context = self.context.anew()
        rules = rules_of(context, self.services, self.say)
        self.context = context
        things = predict(context, {"goal": "up", "services": list(self.services)})
        names = {subject.rpartition(" ")[2].strip('"') for subject, _, _ in things}
        hint = f"; `composer up -d` would change {', '.join(sorted(names))}" if names else ""
        self.tell("watching", f"the stack files were read again{hint}")
        return context, rules

    def replaced(self, images: Collection[str]) -> None:
        """Images that nobody uses any more, and that have no name, go."""
        if self.prune:
            from composer.cli.image import used_images
            from composer.images.store import Store

            store, used = Store(self.context.paths), used_images(self.context)
            for image in store.summaries():
                if image.id in images and not image.names and image.id not in used:
                    store.remove(image.id, in_use=used)


class Switch:
    """Watching on a thread of its own, on and off."""

    def __init__(self, make: Callable[[], Watching]) -> None:
        self.make = make
        self.thread: threading.Thread | None = None
        self.watching: Watching | None = None
        self.stop_writing = -1

    @property
    def on(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def toggle(self) -> None:
        """Raises ComposerError when there is nothing to watch."""
        on = self.on
        if self.watching is not None and self.thread is not None:  # it may have ended by itself
            os.close(self.stop_writing)
            self.thread.join()
            if on:
                self.watching.tell("watching", "off")
        self.watching = self.thread = None
        if on:
            return
        self.watching = self.make()
        reading, self.stop_writing = os.pipe()
        self.thread = threading.Thread(target=self.run, args=(self.watching, reading), daemon=True)
        self.thread.start()

    def run(self, watching: Watching, stop: int) -> None:
        try:
            watching.run(stop)
        except ComposerError as error:
            watching.tell("watching", f"ended: {error.message}", wrong=True)
        finally:
            os.close(stop)
