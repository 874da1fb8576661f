"""The flags and arguments of the OCI command line, as engines pass them to runc."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from composer.runtime.journal import Journal

OCI_VERSION = "1.2.0"
VERSION = f"composer-runtime version 1.0.0\nspec: {OCI_VERSION}"

# Flag → place in OCI resources.
UPDATES = {
    "memory": ("memory", "limit"),
    "memory_reservation": ("memory", "reservation"),
    "memory_swap": ("memory", "swap"),
    "kernel_memory_tcp": ("memory", "kernelTCP"),
    "cpu_period": ("cpu", "period"),
    "cpu_quota": ("cpu", "quota"),
    "cpu_burst": ("cpu", "burst"),
    "cpu_share": ("cpu", "shares"),
    "cpu_rt_period": ("cpu", "realtimePeriod"),
    "cpu_rt_runtime": ("cpu", "realtimeRuntime"),
    "cpu_idle": ("cpu", "idle"),
    "cpuset_cpus": ("cpu", "cpus"),
    "cpuset_mems": ("cpu", "mems"),
    "pids_limit": ("pids", "limit"),
    "blkio_weight": ("blockIO", "weight"),
}

_FACTORS = {"": 1, **{letter: 1 << 10 * power for power, letter in enumerate("kmgtp", 1)}}


def _size(text: str) -> int:
    """Bytes, also as `64m`, `64MB` or `64MiB`; -1 for no limit."""
    found = re.fullmatch(r"(-1|\d+)([kmgtp]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: expected bytes, or a number as 64m")
    return int(found[1]) * _FACTORS[found[2]]


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def _user(text: str) -> list[int]:
    """UID[:GID]; without it the group is 0."""
    found = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    ids = [int(number or 0) for number in found.groups()] if found else [-1]
    if not all(0 <= number < 2**32 - 1 for number in ids):
        raise argparse.ArgumentTypeError(f"{text!r} is not UID[:GID] in numbers")
    return ids


_KINDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("memory", "memory_reservation", "memory_swap", "kernel_memory_tcp"), _size),
    **dict.fromkeys(("cpuset_cpus", "cpuset_mems"), str),
}


class _Refused(argparse.Action):
    """A flag that is known and not wanted; its help says why."""

    def __init__(self, option_strings: list[str], dest: str, **keywords: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **keywords)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.error(f"{self.option_strings[0]} is {self.help}")


class UsageError(Exception):
    """The command line makes no sense; the text says why, and where help is."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def logging(words: Sequence[str]) -> Journal:
    """The journal of a command line that otherwise may make no sense."""
    flags = _Parser(add_help=False, allow_abbrev=False)
    flags.add_argument("--log")
    flags.add_argument("--log-format", default="text")
    try:
        found, _ = flags.parse_known_args(words)
    except UsageError:
        return Journal()
    return Journal(found.log, found.log_format)


def parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """For a command line of these words: only the verbs that are among them are built, for speed.

    `function` of what it parses is the verb's place: module and name in `composer.runtime`.
    """
    # A formatter with a width, and verbs with a prog, need not look for one: that imports much.
    common: Any = {"allow_abbrev": False, "formatter_class": partial(argparse.HelpFormatter, width=100)}
    top = _Parser(prog="composer-runtime", **common)
    top.add_argument("--root", default="/run/composer-runtime", help="where containers are remembered")
    top.add_argument("--log", help="file that errors are written to as well")
    top.add_argument("--log-format", choices=("text", "json"), default="text")
    top.add_argument("--debug", action="store_true", help="tell where an unexpected error came from")
    top.add_argument("--rootless", choices=("false", "auto"), help="accepted; this runtime needs root")
    top.add_argument("--systemd-cgroup", action=_Refused, help="refused: use the cgroupfs manager")
    top.add_argument("-v", "--version", action="version", version=VERSION)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", prog="composer-runtime")
    for name in [word for word in _VERBS if word in words] or _VERBS:
        function, text, fill = _VERBS[name]
        verb = verbs.add_parser(name, help=text, description=text, **common)
        verb.set_defaults(function=function)
        fill(verb)
    return top


def _making(command: argparse.ArgumentParser) -> None:
    command.add_argument("--console-socket", metavar="PATH", help="who gets the terminal")
    command.add_argument("--pid-file", metavar="FILE")
    command.add_argument("--preserve-fds", type=_count, default=0, metavar="N", help="from descriptor 3 on")


def _create(command: argparse.ArgumentParser) -> None:
    _making(command)
    command.add_argument("-b", "--bundle", default=".")
    command.add_argument("--no-pivot", action=_Refused, help="refused: it lets containers out")
    command.add_argument("--no-new-keyring", action=_Refused, help="refused: keys would be shared")
    command.add_argument("id")


def _run(command: argparse.ArgumentParser) -> None:
    _create(command)
    command.add_argument("-d", "--detach", action="store_true")
    command.add_argument("--keep", action="store_true", help="do not delete it at its end")
    command.add_argument("--no-subreaper", action="store_true", help="accepted; it never is one")


def _exec(command: argparse.ArgumentParser) -> None:
    _making(command)
    command.add_argument("-p", "--process", metavar="FILE", help="an OCI process as JSON")
    command.add_argument("-d", "--detach", action="store_true")
    command.add_argument("-t", "--tty", action="store_true")
    command.add_argument("-e", "--env", action="append", default=[])
    command.add_argument("-u", "--user", type=_user, metavar="UID[:GID]")
    command.add_argument("-g", "--additional-gids", action="append", type=int, default=[])
    command.add_argument("-c", "--cap", action="append", default=[])
    command.add_argument("--cwd")
    command.add_argument("--no-new-privs", action="store_true")
    command.add_argument("--apparmor")
    command.add_argument("--process-label")
    command.add_argument("--cgroup", action=_Refused, help="refused: it runs in the container's own group")
    command.add_argument("--ignore-paused", action=_Refused, help="refused: resume the container first")
    command.add_argument("id")
    command.add_argument("command", nargs=argparse.REMAINDER)


def _id(command: argparse.ArgumentParser) -> None:
    command.add_argument("id")


def _kill(command: argparse.ArgumentParser) -> None:
    command.add_argument("-a", "--all", action="store_true", help="to all its processes")
    command.add_argument("id")
    command.add_argument("signal", nargs="?", default="SIGTERM")


def _delete(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", "--force", action="store_true", help="kill them first; be content with none")
    command.add_argument("ids", nargs="+", metavar="id")


def _ps(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", "--format", choices=("table", "json"), default="table")
    command.add_argument("id")


def _list(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", "--format", choices=("table", "json"), default="table")
    command.add_argument("-q", "--quiet", action="store_true")


def _update(command: argparse.ArgumentParser) -> None:
    command.add_argument("-r", "--resources", metavar="FILE", help="OCI resources as JSON; - is stdin")
    for flag in UPDATES:
        command.add_argument(f"--{flag.replace('_', '-')}", type=_KINDS.get(flag, int))
    for flag in ("--l3-cache-schema", "--mem-bw-schema"):
        command.add_argument(flag, action=_Refused, help="refused: there is no support for intelRdt")
    command.add_argument(
        "--kernel-memory", action=_Refused, help="refused: Linux has no such limit since 5.16"
    )
    command.add_argument("id")


def _spec(command: argparse.ArgumentParser) -> None:
    command.add_argument("-b", "--bundle", default=".")
    command.add_argument("--rootless", action=_Refused, help="refused: this runtime needs root")


def _refused(command: argparse.ArgumentParser) -> None:
    """Whatever follows, the answer is the verb's description."""

    def refuse(*_: Any) -> NoReturn:
        raise UsageError(f"{command.prog.split()[-1]} is {command.description}")

    setattr(command, "parse_known_args", refuse)  # noqa: B010 - mypy knows it by three signatures


_VERBS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], object]]] = {
    "create": ("forking.create_", "make a container, up to its program", _create),
    "run": ("forking.run", "create, start, wait and delete", _run),
    "exec": ("forking.exec_", "run another process in a container", _exec),
    "start": ("verbs.start", "start the program of a created container", _id),
    "state": ("verbs.state", "print the state of a container", _id),
    "pause": ("verbs.pause", "freeze all processes of a container", _id),
    "resume": ("verbs.resume", "thaw them", _id),
    "kill": ("verbs.kill", "send a signal to a container's first process", _kill),
    "delete": ("verbs.delete", "remove stopped containers", _delete),
    "ps": ("verbs.ps", "list the processes of a container", _ps),
    "list": ("verbs.list_", "list all containers", _list),
    "update": ("verbs.update", "change the limits of a container", _update),
    "spec": ("describe.spec", "write a config.json to begin with", _spec),
    "checkpoint": ("", "refused: there is no support for CRIU", _refused),
    "restore": ("", "refused: there is no support for CRIU", _refused),
    "events": ("", "refused: read the container's control group", _refused),
    "features": ("describe.features", "tell what is supported, as JSON", lambda _: None),
}
