"""A single container as a stack file: `docker run`'s flags in the Compose Specification's words. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from composer.api.signals import number
from composer.cli.grammar import Flag, refused
from composer.errors import ComposerError, StackFileError, UsageError
from composer.model.kinds import is_address

LISTS = {
    "add-host": ("extra_hosts", "A host name and its address (repeatable)", "NAME:IP", ""),
    "cap-add": ("cap_add", "Add a capability (repeatable)", "CAP", ""),
    "cap-drop": ("cap_drop", "Take a capability away (repeatable)", "CAP", ""),
    "device": ("devices", "A device of this host (repeatable)", "PATH", ""),
    "dns": ("dns", "A name server (repeatable)", "IP", ""),
    "env": ("environment", "Set a variable (repeatable)", "NAME=VALUE", "e"),
    "env-file": ("env_file", "Set variables from a file (repeatable)", "FILE", ""),
    "expose": ("expose", "A port that is open to networks (repeatable)", "PORT", ""),
    "group-add": ("group_add", "A further group (repeatable)", "GROUP", ""),
    "label": ("labels", "A label (repeatable)", "KEY=VALUE", "l"),
    "publish": ("ports", "Publish a port (repeatable)", "[HOST:]PORT", "p"),
    "security-opt": ("security_opt", "A security option (repeatable)", "OPTION", ""),
    "sysctl": ("sysctls", "A kernel setting (repeatable)", "NAME=VALUE", ""),
    "tmpfs": ("tmpfs", "A folder in memory (repeatable)", "PATH", ""),
    "volume": ("volumes", "Mount a folder or volume (repeatable)", "SOURCE:TARGET", "v"),
}
TEXTS = {
    "cpus": ("cpus", "How many CPUs at most", "N", ""),
    "entrypoint": ("entrypoint", "Instead of the image's entrypoint", "COMMAND", ""),
    "hostname": ("hostname", "Its host name", "NAME", "h"),
    "ipc": ("ipc", "Whose shared memory it sees", "MODE", ""),
    "memory": ("mem_limit", "How much memory at most", "SIZE", "m"),
    "pid": ("pid", "Whose processes it sees", "MODE", ""),
    "pids-limit": ("pids_limit", "How many processes at most", "N", ""),
    "platform": ("platform", "For another platform, as linux/arm64", "PLATFORM", ""),
    "pull": ("pull_policy", "When to pull the image: always, missing or never", "WHEN", ""),
    "restart": (
        "restart",
        "When to start it again: no, on-failure[:N], always, unless-stopped",
        "POLICY",
        "",
    ),
    "shm-size": ("shm_size", "The size of /dev/shm", "SIZE", ""),
    "stop-signal": ("stop_signal", "The signal that ends it", "SIGNAL", ""),
    "user": ("user", "Run as this user", "USER", "u"),
    "userns": ("userns_mode", "Its user namespace", "MODE", ""),
    "workdir": ("working_dir", "Run in this folder", "DIR", "w"),
}
SWITCHES = {
    "init": ("init", "A first process that reaps and passes signals on", ""),
    "interactive": ("stdin_open", "Pass standard input on", "i"),
    "privileged": ("privileged", "All capabilities and devices", ""),
    "read-only": ("read_only", "The root cannot be written", ""),
    "tty": ("tty", "A terminal", "t"),
}
FLAGS: tuple[Flag, ...] = (
    *(Flag(name, "list", text, short, metavar=metavar) for name, (_, text, metavar, short) in LISTS.items()),
    *(Flag(name, "str", text, short, metavar=metavar) for name, (_, text, metavar, short) in TEXTS.items()),
    *(Flag(name, "bool", text, short) for name, (_, text, short) in SWITCHES.items()),
    Flag("health-cmd", "str", "The command that checks its health", metavar="COMMAND"),
    Flag("health-interval", "str", "Time between two checks", metavar="TIME"),
    Flag("health-retries", "str", "How many failures make it unhealthy", metavar="N"),
    Flag(
        "network", "list", "bridge, host, none, container:NAME, or a network (repeatable)", metavar="NETWORK"
    ),
    Flag("network-alias", "list", "A further name on its networks (repeatable)", metavar="NAME"),
    Flag("ulimit", "list", "A limit (repeatable)", metavar="NAME=SOFT[:HARD]"),
)
MODES = ("bridge", "host", "none")
RESTART = re.compile(r"no|always|unless-stopped|on-failure(:\d+)?")


def stack(name: str, image: str, command: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The stack file of one container. Raises UsageError. `$` is no variable here: it is doubled."""
    judge(flags)
    service: dict[str, Any] = {"image": image, "container_name": name}
    for given, (key, *_) in (LISTS | TEXTS).items():
        if value := flags[key_of(given)]:
            service[key] = value
    service |= {key: True for given, (key, *_) in SWITCHES.items() if flags[key_of(given)]}
    if command:
        service["command"] = list(command)
    if flags["entrypoint"]:
        service["entrypoint"] = shlex.split(flags["entrypoint"])
    if flags["ulimit"]:
        service["ulimits"] = dict(ulimit(text) for text in flags["ulimit"])
    if flags["health_cmd"]:
        check = {"interval": flags["health_interval"], "retries": flags["health_retries"]}
        test = ["CMD-SHELL", flags["health_cmd"]]
        service["healthcheck"] = {"test": test, **{key: value for key, value in check.items() if value}}
    top: dict[str, Any] = {"name": name, "services": {name: service}}
    volumes = {text.partition(":")[0] for text in flags["volume"] if is_volume(text)}
    if volumes:
        top["volumes"] = {volume: {"name": volume} for volume in sorted(volumes)}
    join(top, service, flags["network"], flags["network_alias"])
    doubled: dict[str, Any] = double(top)
    return doubled


def judge(flags: Mapping[str, Any]) -> None:
    """What a stack file may say, with a warning at most, and a flag may not. Raises UsageError."""
    if flags["restart"] and not RESTART.fullmatch(flags["restart"]):
        what = "none of no, always, unless-stopped, on-failure[:N]"
        raise refused("--restart", flags["restart"], what)
    if flags["stop_signal"]:
        number(flags["stop_signal"], "--stop-signal")
    for text in (text for text in flags["dns"] if not is_address(text)):
        raise refused("--dns", text, "no IP address")
    for text in (text for text in flags["tmpfs"] if not text.startswith("/")):
        raise refused("--tmpfs", text, "no absolute path")
    for key in ("health_interval", "health_retries"):
        if flags[key] and not flags["health_cmd"]:
            raise UsageError(f"--{key.replace('_', '-')} goes with --health-cmd")


def told(error: StackFileError, name: str) -> ComposerError:
    """What is wrong with the file of a container, by the flags that it was made of."""
    by_path: dict[tuple[str, ...], str] = {}
    by_path |= {("services", name, key): flag for flag, (key, *_) in (LISTS | TEXTS).items()}
    by_path |= {("services", name, "healthcheck", key): f"health-{key}" for key in ("interval", "retries")}
    by_path |= {("networks",): "network", ("volumes",): "volume", ("services", name): "name"}
    lines = []
    for complaint in error.complaints:
        flag = next((flag for path, flag in by_path.items() if complaint.path[: len(path)] == path), "")
        lines.append(f"--{flag}: {complaint.message}" if flag else complaint.message)
    return UsageError("\n".join(dict.fromkeys(lines)))


def key_of(flag: str) -> str:
    return flag.replace("-", "_")


def is_volume(text: str) -> bool:
    source, colon, _ = text.partition(":")
    return bool(colon) and not source.startswith((".", "/", "~"))


def ulimit(text: str) -> tuple[str, dict[str, int]]:
    """`nofile=1024:2048`. Raises UsageError."""
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    try:
        return name, {"soft": int(soft), "hard": int(hard or soft)}
    except ValueError:
        raise UsageError(f"--ulimit: {text!r} is no limit", hint="nofile=1024:2048") from None


def join(
    top: dict[str, Any], service: dict[str, Any], networks: Sequence[str], aliases: Sequence[str]
) -> None:
    """Its networks: one way to be on none of one's own, or several that are there already."""
    modes = [name for name in networks if name in MODES or name.startswith("container:")]
    if modes and (len(networks) > 1 or aliases):
        raise UsageError(f"--network {modes[0]} goes with no other network and no --network-alias")
    if modes and modes[0] != "bridge":
        service["network_mode"] = modes[0]
    elif networks and not modes:
        service["networks"] = {name: {"aliases": list(aliases)} for name in networks}
        top["networks"] = {name: {"name": name, "external": True} for name in networks}
    elif aliases:
        service["networks"] = {"default": {"aliases": list(aliases)}}


def double(value: Any) -> Any:
    """Every `$` doubled, so that nothing is taken for a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: double(item) for key, item in value.items()}
    return [double(item) for item in value] if isinstance(value, list) else value
