"""`composer attach`: this terminal joined to a container's first process."""

from __future__ import annotations

import signal
from functools import partial

from composer.api.client import Supervisor, failure
from composer.api.select import container
from composer.cli import common, terminal
from composer.cli.context import Context
from composer.cli.exec import proxy
from composer.cli.grammar import Flag, Verb
from composer.cli.joined import RawLog, join
from composer.errors import ComposerError

VERB = Verb(
    "attach",
    "Join this terminal to a container",
    (
        Flag(
            "detach-keys",
            "str",
            "Keys that leave it again",
            default=terminal.DETACH,
            metavar="KEYS",
        ),
        common.INDEX,
        Flag("no-stdin", "bool", "Do not pass standard input on"),
        Flag("sig-proxy", "bool", "Pass signals on", default=True),
    ),
    (common.SERVICE,),
    examples=(("attach web", "ctrl-p ctrl-q leaves it running"),),
)


def run(
    context: Context, *, detach_keys: str, index: int | None, no_stdin: bool, sig_proxy: bool, service: str
) -> int:
    keys = terminal.Keys(terminal.detach_keys(detach_keys))
    row = container(context, service, index)
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None:
        raise ComposerError(f'service "{service}" is not running')
    log = RawLog(context.stack_paths.log(row["name"]), tty=row["tty"])
    with supervisor:
        takes = (row["tty"] or row["stdin"]) and not no_stdin
        answer = supervisor.call("attach", container=row["name"], input=takes)
        into = next(iter(answer["fds"].values())) if takes else None
        number = supervisor.send("wait", containers=[row["name"]])
        if into is not None and row["tty"] and terminal.is_terminal():
            return lend(supervisor, number, log, into, keys)
        before = proxy(row["pid"]) if sig_proxy else {}
        try:
            return relay(supervisor, number, log, into, keys)
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)


def on_terminal(supervisor: Supervisor, number: int, log: RawLog) -> int:
    """A container that is about to start, and our terminal."""
    started = supervisor.next(number)
    if "error" in started:
        raise failure(started["error"])
    keys = terminal.Keys(terminal.detach_keys(terminal.DETACH))
    return lend(supervisor, number, log, started["fds"]["tty"], keys)


def lend(supervisor: Supervisor, number: int, log: RawLog, master: int, keys: terminal.Keys) -> int:
    with terminal.raw(), terminal.following_size(master):
        return relay(supervisor, number, log, master, keys)


def relay(supervisor: Supervisor, number: int, log: RawLog, into: int | None, keys: terminal.Keys) -> int:
    """Until the container has ended: its exit code. 0 when the detach keys were typed."""
    try:
        log.pump()
        join(log, into, keys, supervisor.sock.fileno(), partial(supervisor.ended, number))
    except terminal.Detached:
        return 0
    finally:
        log.close()
    return int(supervisor.result(number)["exit"])
