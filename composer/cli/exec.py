"""`composer exec`: run a command in a running container."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import Any

from composer.api.client import Supervisor, failure
from composer.api.process import open_process, send
from composer.api.select import RUNNING, container
from composer.cli import common, terminal
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.errors import ComposerError
from composer.record import ContainerRow

VERB = Verb(
    "exec",
    "Run a command in a running container",
    (
        Flag("detach", "bool", "Do not wait for the command", "d"),
        Flag("env", "list", "Set a variable (repeatable)", "e", metavar="NAME=VALUE"),
        common.INDEX,
        Flag("interactive", "bool", "Accepted: standard input is always passed on", "i", hidden=True),
        Flag("no-tty", "bool", "No terminal, also when this is one", "T"),
        Flag("privileged", "bool", "All capabilities for the command"),
        Flag("tty", "bool", "Accepted: a terminal is used when this is one", "t", hidden=True),
        Flag("user", "str", "Run as this user", "u", metavar="USER"),
        Flag("workdir", "str", "Run in this folder", "w", metavar="DIR"),
    ),
    (common.SERVICE, Positional("COMMAND", "What to run, with its arguments", many=True)),
    passthrough=True,
    examples=(("exec web bash", "a shell"), ("exec -T db pg_dump app > app.sql", "its output to a file")),
)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def run(context: Context, *, index: int | None, service: str, command: list[str], **flags: Any) -> int:
    return enter(context, container(context, service, index), command, **flags)


def enter(
    context: Context,
    row: ContainerRow,
    command: list[str],
    *,
    detach: bool,
    env: list[str],
    interactive: bool,
    no_tty: bool,
    privileged: bool,
    tty: bool,
    user: str,
    workdir: str,
) -> int:
    """The same for one that has been found."""
    supervisor = Supervisor.connect(context.stack_paths)
    if supervisor is None or row["state"] not in RUNNING:
        raise ComposerError(f"container {row['name']} is not running")
    wants_tty = not no_tty and not detach and terminal.is_terminal()
    process: dict[str, Any] = {
        "args": command,
        "env": [entry if "=" in entry else f"{entry}={os.environ.get(entry, '')}" for entry in env],
        "cwd": workdir,
        "user": user,
        "privileged": privileged,
        "tty": wants_tty,
        "detach": detach,
    }
    if wants_tty:
        process["size"] = terminal.size()
    with supervisor:
        fds = {} if wants_tty or detach else {"stdin": 0, "stdout": 1, "stderr": 2}
        sys.stdout.flush()
        number = supervisor.send("exec", fds, container=row["name"], process=process)
        if wants_tty:
            return on_terminal(supervisor, number)
        return plainly(supervisor, number)


def plainly(supervisor: Supervisor, number: int) -> int:
    """The command has our own descriptors; there is nothing to do but wait and pass signals on."""
    started = supervisor.next(number)
    if "error" in started:
        raise failure(started["error"])
    if "ok" in started:
        return int(started["ok"]["exit"])
    before = proxy(started["event"]["pid"])
    try:
        return int(supervisor.result(number)["exit"])
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def proxy(pid: int) -> dict[signal.Signals, Any]:
    """Pass signals on to a process from now on; the handlers that were there before."""
    pidfd = open_process(pid)
    return {which: signal.signal(which, lambda which, _: send(pidfd, which)) for which in FORWARDED}


def on_terminal(supervisor: Supervisor, number: int, keys: str = "") -> int:
    """Our terminal and the container's, joined until the command ends."""
    started = supervisor.next(number)
    if "error" in started:
        raise failure(started["error"])
    master = started["fds"]["tty"]
    with terminal.raw(), terminal.following_size(master):
        ended = partial(supervisor.ended, number)
        terminal.relay(master, supervisor.sock.fileno(), ended, terminal.Keys(terminal.detach_keys(keys)))
    os.close(master)
    return int(supervisor.result(number)["exit"])
