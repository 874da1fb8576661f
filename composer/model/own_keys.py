"""The keys that are ours, not Compose's: their shapes and what they mean. Pure.

`x-http` and `x-tcp` below `healthcheck` look from the outside, so that an image needs no shell and no curl;
`x-restart-unhealthy` on a service restarts what is unhealthy; `x-owner` below the `bind` of a mount says who
in the container has the files of the folder's owner; `x-start: on-connect` starts a service with the first
connection, `x-idle` freezes one that nobody uses; `x-limits` at the top bounds a whole stack. Raises
ValueError with a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from composer.model import units
from composer.model.stack import OWN_USER, FrozenMap, Probe, StackLimits, UnhealthyRestart

RESTART_UNHEALTHY = "x-restart-unhealthy"
PROBES = ("x-http", "x-tcp")
OWNER = "x-owner"
LIMITS = "x-limits"
START = "x-start"
IDLE = "x-idle"


class OwnKey(NamedTuple):
    """Where a key of ours may be, its values in words, what an edit leads to (see `fields`), what it does."""

    path: tuple[str, ...]
    values: str
    change: str
    doc: str


KEYS = (
    OwnKey(
        (LIMITS,),
        "{cpus, memory, pids}",
        "live",
        "What all containers of the stack together may use.",
    ),
    OwnKey(
        ("services", "*", START),
        "on-connect",
        "nothing",
        "Start it with the first connection to a published port.",
    ),
    OwnKey(
        ("services", "*", IDLE),
        "a time",
        "nothing",
        "Freeze it when nobody has used it for so long.",
    ),
    OwnKey(
        ("services", "*", RESTART_UNHEALTHY),
        "true, a number, or {attempts, window}",
        "nothing",
        "Restart what has become unhealthy.",
    ),
    OwnKey(
        ("services", "*", "healthcheck", "x-http"),
        "a port, or {port, path, method, scheme, host, headers, status}",
        "live",
        "Ask by HTTP from the outside: the image needs no program for it.",
    ),
    OwnKey(
        ("services", "*", "healthcheck", "x-tcp"),
        "a port",
        "live",
        "Connect from the outside: the image needs no program for it.",
    ),
    OwnKey(
        ("services", "*", "volumes", "*", "bind", OWNER),
        "true, or a user as `user` has it",
        "recreate",
        "Who in the container has the files of the folder's owner.",
    ),
)
"""All of them, as docs/compose-support.md lists them. One that is read and not here fails a test."""

MOST_CPUS = 10_000.0

_HTTP = {"port", "path", "method", "scheme", "host", "headers", "status"}
_USER = re.compile(r"[\w.-]+(:[\w.-]+)?")
_STATUS = re.compile(r"[1-5]\d\d(-[1-5]\d\d)?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PRINTABLE = re.compile(r"[\x21-\x7e]*")
_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*")


def probe(healthcheck: Mapping[str, Any]) -> Probe | None:
    """What `x-http` or `x-tcp` asks for."""
    if "x-tcp" in healthcheck:
        return Probe("tcp", _port(healthcheck["x-tcp"]))
    if "x-http" in healthcheck:
        return _http(healthcheck["x-http"])
    return None


def owner(value: Any) -> str:
    """`true`: the user that the container runs as; else one as `user` says it: a name, `1000:1000`."""
    if value is True:
        return OWN_USER
    if value is False or value is None:
        return ""
    if isinstance(value, int) and value >= 0:
        return str(value)
    if isinstance(value, str) and _USER.fullmatch(value):
        return value
    raise ValueError("must be true, false, or a user of the container, like 1000 or www-data")


def restart_unhealthy(value: Any) -> UnhealthyRestart | None:
    """`true`: always; a number: so often since it was begun; or `{attempts, window}`."""
    if value is True:
        return UnhealthyRestart()
    if value is False or value is None:
        return None
    if _is_count(value):
        return UnhealthyRestart(attempts=value)
    if isinstance(value, Mapping) and not value.keys() - {"attempts", "window"}:
        attempts, window = value.get("attempts"), value.get("window")
        if (attempts is None or _is_count(attempts)) and (window is None or isinstance(window, str)):
            return UnhealthyRestart(attempts, None if window is None else units.duration(window))
    raise ValueError("must be true, false, a number of restarts, or {attempts: 3, window: 10m}")


def on_connect(value: Any) -> bool:
    """`on-connect`; nothing else is known."""
    if value not in (None, "on-connect"):
        raise ValueError("must be on-connect, or be left out")
    return value is not None


def idle(value: Any) -> int:
    """A duration, as nanoseconds; 0 when it is left out."""
    if value is None:
        return 0
    if not isinstance(value, str) or units.duration(value) <= 0:
        raise ValueError("must be a time like 5m, and more than nothing")
    return units.duration(value)


def limits(value: Any) -> StackLimits:
    """`{cpus: 2, memory: 1g, pids: 500}`, any of them."""
    if value is None:
        return StackLimits()
    if not isinstance(value, Mapping) or value.keys() - {"cpus", "memory", "pids"}:
        raise ValueError("must be like {cpus: 2, memory: 1g, pids: 500}, or a part of it")
    try:
        cpus = float(value.get("cpus", 0))
        memory = units.size(str(value.get("memory", 0)))
        pids = int(value.get("pids", 0))
    except (TypeError, ValueError) as error:
        raise ValueError(f"is not understood: {error}") from None
    if not (0.01 <= cpus <= MOST_CPUS or cpus == 0) or memory < 0 or pids < 0:
        raise ValueError(f"must be 0.01 to {MOST_CPUS:g} `cpus`, and not negative")
    return StackLimits(cpus, memory, pids)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _port(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not _is_count(value) or not 0 < value < 65536:
        raise ValueError("must be a port of the container, from 1 to 65535")
    return int(value)


def _http(value: Any) -> Probe:
    if not isinstance(value, Mapping):
        return Probe("http", _port(value))
    unknown = sorted(value.keys() - _HTTP)
    if unknown:
        raise ValueError(f"has no key `{unknown[0]}`: known are {', '.join(sorted(_HTTP))}")
    scheme = value.get("scheme", "http")
    if scheme not in ("http", "https"):
        raise ValueError("`scheme` must be http or https")
    path, host = value.get("path", "/"), value.get("host", "localhost")
    if not isinstance(path, str) or not path.startswith("/") or not _PRINTABLE.fullmatch(path):
        raise ValueError("`path` must begin with / and be without blanks")
    if not isinstance(host, str) or not host or not _PRINTABLE.fullmatch(host):
        raise ValueError("`host` must be the name of a host")
    method = value.get("method", "GET")
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise ValueError("`method` must be a word like GET or HEAD")
    return Probe(
        scheme,
        _port(value.get("port", 443 if scheme == "https" else 80)),
        path=path,
        method=method,
        host=host,
        headers=_headers(value.get("headers") or {}),
        status=_status(value.get("status", "200-399")),
    )


def _headers(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("`headers` must be a mapping of names to texts")
    for name, text in value.items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(str(text)):
            raise ValueError(f"the header `{name}` cannot be sent")
    return FrozenMap({name: str(text) for name, text in value.items()})


def _status(value: Any) -> tuple[tuple[int, int], ...]:
    texts = [str(text) for text in value] if isinstance(value, list | tuple) else [str(value)]
    for text in texts:
        if not _STATUS.fullmatch(text):
            raise ValueError(f"`status` must be a code like 204 or a range like 200-399, not `{text}`")
    pairs = (text.partition("-") for text in texts)
    return tuple((int(low), int(high or low)) for low, _, high in pairs)
