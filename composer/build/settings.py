"""What instructions make of an image's configuration. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from posixpath import join, normpath
from typing import Any

from composer.build.parse import Instruction, Wrong

Process = dict[str, Any]
SHELL = ("/bin/sh", "-c")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SHORTEST = 1_000_000  # ns, Docker's bound


def command(one: Instruction, process: Process) -> list[str]:
    """The argv of CMD, ENTRYPOINT or RUN: as listed, or a line for the stage's shell."""
    if one.json or not one.args:
        return list(one.args)
    return [*(process.get("Shell") or SHELL), one.args[0]]


def environment(process: Process) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in process.get("Env") or ())


def apply(process: Process, one: Instruction, words: Sequence[str]) -> Process:
    """A new configuration. `words` are the arguments with variables replaced: of ENV and LABEL names and
    values in turn. Raises Wrong."""
    return {**process, **_STEPS[one.word](process, one, words)}


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def _env(process: Process, _: Instruction, words: Sequence[str]) -> Process:
    return {"Env": [f"{name}={value}" for name, value in (environment(process) | _pairs(words)).items()]}


def _label(process: Process, _: Instruction, words: Sequence[str]) -> Process:
    return {"Labels": (process.get("Labels") or {}) | _pairs(words)}


def _cmd(process: Process, one: Instruction, _: Sequence[str]) -> Process:
    return {"Cmd": command(one, process)}


def _entrypoint(process: Process, one: Instruction, _: Sequence[str]) -> Process:
    """A CMD that came with the base was meant for the entrypoint before; `walk` knows whether it did."""
    return {"Entrypoint": command(one, process)}


def _expose(process: Process, _: Instruction, words: Sequence[str]) -> Process:
    ports = dict(process.get("ExposedPorts") or {})
    for word in " ".join(words).split():
        numbers, _slash, protocol = word.rpartition(":")[2].partition("/")  # a host's part is only told of
        first, _dash, last = numbers.partition("-")
        well = first.isdecimal() and (last or first).isdecimal() and len(first) < 6 and len(last) < 6
        if not well or not 0 < int(first) <= int(last or first) < 65536:
            raise Wrong(f"{word} is no port", "as in `EXPOSE 8080/tcp` or `EXPOSE 7000-7010/udp`")
        if protocol.lower() not in ("", "tcp", "udp", "sctp"):
            raise Wrong(f"{word}: the protocol is tcp, udp or sctp")
        for port in range(int(first), int(last or first) + 1):
            ports[f"{port}/{protocol.lower() or 'tcp'}"] = {}
    return {"ExposedPorts": dict(sorted(ports.items()))}


def _volume(process: Process, _: Instruction, words: Sequence[str]) -> Process:
    if not all(word.strip() for word in words):
        raise Wrong("VOLUME of an empty path")
    return {"Volumes": (process.get("Volumes") or {}) | {word: {} for word in words}}


def _workdir(process: Process, _: Instruction, words: Sequence[str]) -> Process:
    return {"WorkingDir": within(process, words[0])}


def within(process: Process, path: str) -> str:
    """A path as the stage's working directory makes it absolute."""
    return "/" + normpath(join(process.get("WorkingDir") or "/", path)).lstrip("/")


def _user(_: Process, __: Instruction, words: Sequence[str]) -> Process:
    return {"User": words[0]}


def _stop_signal(_: Process, __: Instruction, words: Sequence[str]) -> Process:
    import signal

    text = words[0].upper()
    name = f"SIG{text.removeprefix('SIG')}".partition("+")[0].partition("-")[0]
    if not (text.isdecimal() and 0 < int(text) < 65) and name not in signal.Signals.__members__:
        raise Wrong(f"{words[0]} is no signal", "name one as SIGTERM, TERM or 15")
    return {"StopSignal": words[0]}


def _shell(_: Process, one: Instruction, __: Sequence[str]) -> Process:
    return {"Shell": list(one.args)}


def _onbuild(process: Process, one: Instruction, _: Sequence[str]) -> Process:
    return {"OnBuild": [*(process.get("OnBuild") or ()), one.text.split(None, 1)[1]]}


def _healthcheck(process: Process, one: Instruction, _: Sequence[str]) -> Process:
    if one.args[0] == "NONE":
        return {"Healthcheck": {"Test": ["NONE"]}}
    test = ["CMD", *one.args[1:]] if one.json else ["CMD-SHELL", one.args[1]]
    found: Process = {"Test": test}
    for flag, key in _HEALTH.items():
        if text := one.flag(flag):
            value = duration(text, flag)
            if value:
                found[key] = value
    if text := one.flag("retries"):
        if not text.isdecimal():
            raise Wrong(f"--retries={text} is no number")
        if int(text):
            found["Retries"] = int(text)
    return {"Healthcheck": found}


_HEALTH = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def duration(text: str, flag: str) -> int:
    """`1m30s` in nanoseconds. Raises Wrong."""
    parts = _DURATION.findall(text)
    if text != "0" and (not parts or "".join(number + unit for number, unit in parts) != text):
        raise Wrong(f"--{flag}={text} is no duration", "as in 30s, 1m30s or 500ms")
    total = round(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if 0 < total < _SHORTEST:
        raise Wrong(f"--{flag}={text} is shorter than 1ms")
    return total


_STEPS: dict[str, Callable[[Process, Instruction, Sequence[str]], Process]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
