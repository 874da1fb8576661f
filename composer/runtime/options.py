"""The flags and arguments of the OCI command line, as engines pass them to runc."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from composer.runtime import describe, verbs

Verb = Callable[[argparse.Namespace], int]


class _Refused(argparse.Action):
    """A flag that is known and not wanted; its help says why."""

    def __init__(self, option_strings: list[str], dest: str, **keywords: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **keywords)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.error(f"{self.option_strings[0]} is {self.help}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="composer-runtime", allow_abbrev=False)
    top.add_argument("--root", default="/run/composer-runtime", help="where containers are remembered")
    top.add_argument("--log", help="file that errors are written to as well")
    top.add_argument("--log-format", choices=("text", "json"), default="text")
    top.add_argument("--debug", action="store_true", help="accepted; there is nothing more to say")
    top.add_argument("--systemd-cgroup", action=_Refused, help="refused: use the cgroupfs manager")
    top.add_argument("-v", "--version", action="version", version=describe.VERSION)
    commands = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, function: Verb, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(function=function)
        return command

    for name, function, text in (
        ("create", verbs.create_, "make a container, up to its program"),
        ("run", verbs.run, "create, start, wait and delete"),
    ):
        command = verb(name, function, text)
        _making(command)
        command.add_argument("-b", "--bundle", default=".")
        command.add_argument("--no-pivot", action=_Refused, help="refused: it lets containers out")
        command.add_argument("--no-new-keyring", action=_Refused, help="refused: keys would be shared")
        if name == "run":
            command.add_argument("-d", "--detach", action="store_true")
            command.add_argument("--keep", action="store_true", help="do not delete it at its end")
        command.add_argument("id")

    command = verb("exec", verbs.exec_, "run another process in a container")
    _making(command)
    _exec(command)

    for name, function, text in (
        ("start", verbs.start, "start the program of a created container"),
        ("state", verbs.state, "print the state of a container"),
        ("pause", verbs.pause, "freeze all processes of a container"),
        ("resume", verbs.resume, "thaw them"),
    ):
        verb(name, function, text).add_argument("id")

    command = verb("kill", verbs.kill, "send a signal to a container's first process")
    command.add_argument("-a", "--all", action="store_true", help="to all its processes")
    command.add_argument("id")
    command.add_argument("signal", nargs="?", default="SIGTERM")

    command = verb("delete", verbs.delete, "remove stopped containers")
    command.add_argument("-f", "--force", action="store_true", help="kill them first; be content with none")
    command.add_argument("ids", nargs="+", metavar="id")

    command = verb("ps", verbs.ps, "list the processes of a container")
    command.add_argument("-f", "--format", choices=("table", "json"), default="table")
    command.add_argument("id")

    command = verb("list", verbs.list_, "list all containers")
    command.add_argument("-f", "--format", choices=("table", "json"), default="table")
    command.add_argument("-q", "--quiet", action="store_true")

    command = verb("update", verbs.update, "change the limits of a container")
    command.add_argument("-r", "--resources", metavar="FILE", help="OCI resources as JSON; - is stdin")
    for flag in verbs.UPDATES:
        kind: Any = str if flag in verbs.TEXTS else int
        command.add_argument(f"--{flag.replace('_', '-')}", type=kind)
    command.add_argument("id")

    command = verb("spec", describe.spec, "write a config.json to begin with")
    command.add_argument("-b", "--bundle", default=".")
    verb("features", describe.features, "tell what is supported, as JSON")
    return top


def _making(command: argparse.ArgumentParser) -> None:
    command.add_argument("--console-socket", metavar="PATH", help="who gets the terminal")
    command.add_argument("--pid-file", metavar="FILE")
    command.add_argument("--preserve-fds", type=int, default=0, metavar="N", help="from descriptor 3 on")


def _exec(command: argparse.ArgumentParser) -> None:
    command.add_argument("-p", "--process", metavar="FILE", help="an OCI process as JSON")
    command.add_argument("-d", "--detach", action="store_true")
    command.add_argument("-t", "--tty", action="store_true")
    command.add_argument("-e", "--env", action="append", default=[])
    command.add_argument("-u", "--user", metavar="UID[:GID]")
    command.add_argument("-g", "--additional-gids", action="append", type=int, default=[])
    command.add_argument("-c", "--cap", action="append", default=[])
    command.add_argument("--cwd")
    command.add_argument("--no-new-privs", action="store_true")
    command.add_argument("--apparmor")
    command.add_argument("--process-label")
    command.add_argument("id")
    command.add_argument("command", nargs=argparse.REMAINDER)
