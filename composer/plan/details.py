"""Which entry of a changed field differs, what it was and what it is, in words. Pure.

Values are shown as `config` shows them, but not those that are likely to be secrets: plans are read in logs
of CI jobs and in reviews. What secrets and configs hold never comes here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from typing import Any

from composer.model.stack import Device, DeviceRate, FileGrant, Mount, Port, Service, WatchRule
from composer.model.units import duration_text
from composer.value import Value

MOST = 5
"""Entries that are told of one field; of more, only how many there are."""
LONGEST = 60
"""Characters that are shown of one value."""
SECRETIVE = re.compile(r"pass|secret|token|key|credential|auth|signature|cookie|private|dsn", re.IGNORECASE)
"""Names of variables and options that hold what nobody is to read."""
LOGIN = re.compile(r"://[^/\s@]*:[^/\s]*@")
"""A password in a URL."""

LINES = frozenset(("command", "entrypoint", "test", "args"))
"""Lists of words that only mean something together."""
KEYS: Mapping[type[Value], Callable[[Any], str]] = {
    Device: lambda device: device.target,
    DeviceRate: lambda rate: rate.path,
    FileGrant: lambda grant: grant.target,
    Mount: lambda mount: mount.target,
    Port: lambda port: f"{port.target}/{port.protocol}",
    WatchRule: lambda rule: rule.path,
}
"""By what an entry of a list is known before and after."""
DURATIONS = frozenset(
    ("interval", "timeout", "start_period", "start_interval", "stop_grace_period", "delay", "window")
)
SIZES = frozenset(("memory", "memory_reservation", "memory_swap", "shm_size", "tmpfs_size"))
MODES = frozenset(("mode", "tmpfs_mode"))

_ABSENT: Any = object()


def details(field: str, before: Service, after: Service) -> list[str]:
    """One phrase per entry that differs, as `environment.DEBUG "0" → "1"`; none when it cannot be told."""
    found = list(_differing(field, field, getattr(before, field), getattr(after, field)))
    return found if len(found) <= MOST else [*found[: MOST - 1], f"{len(found) - MOST + 1} more of {field}"]


def _differing(path: str, leaf: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, Value) and type(old) is type(new):
        for name in old.__fields__:
            yield from _differing(f"{path}.{name}", name, getattr(old, name), getattr(new, name))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _differing(f"{path}.{key}", key, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, tuple) and isinstance(new, tuple) and leaf not in LINES:
        yield from _entries(path, old, new)
    elif _hidden(leaf, old) or _hidden(leaf, new):
        yield f"{path} {_became(old, new) or 'changed'} (not shown)"
    else:
        yield _phrase(path, leaf, old, new)


def _entries(path: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[str]:
    """What differs in a list whose entries stand for themselves."""
    gone, come = _by_key(entry for entry in old if entry not in new), _by_key(e for e in new if e not in old)
    if not gone and not come:
        yield f"{path} in another order"
    for key in [*gone, *(key for key in come if key not in gone)]:
        before, after = gone.get(key, []), come.get(key, [])
        if len(before) == len(after) == 1 and isinstance(before[0], Value):
            yield from _differing(f"{path}.{key}", key, before[0], after[0])
        else:
            yield from (f"{path} {key} removed" for _ in before)
            yield from (f"{path} {key} added" for _ in after)


def _by_key(entries: Iterator[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for entry in entries:
        known_by = KEYS.get(type(entry))
        text = known_by(entry) if known_by else _text("", entry)
        found.setdefault(_cut(text)[0], []).append(entry)
    return found


def _phrase(path: str, leaf: str, old: Any, new: Any) -> str:
    became = _became(old, new)
    if became == "removed":
        return f"{path} removed"
    if became:
        [told] = _cut(_text(leaf, new))
        return f"{path} {told} added" if told else f"{path} added"
    return f"{path} {' → '.join(_cut(_text(leaf, old), _text(leaf, new)))}"


def _became(old: Any, new: Any) -> str:
    if old is _ABSENT or (old is None and isinstance(new, Value)):
        return "added"
    return "removed" if new is _ABSENT or (new is None and isinstance(old, Value)) else ""


def _hidden(leaf: str, value: Any) -> bool:
    if isinstance(value, tuple):  # a line: flags and variables are words of it
        return any(SECRETIVE.search(str(word)) or LOGIN.search(str(word)) for word in value)
    return isinstance(value, str) and bool(value and (SECRETIVE.search(leaf) or LOGIN.search(value)))


def _text(leaf: str, value: Any) -> str:
    """A value for people; "" for one that has entries of its own."""
    if value is None:
        return "unset"
    if isinstance(value, Value | Mapping):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        if leaf in DURATIONS:
            return duration_text(value)
        if leaf in MODES:
            return f"0{value:o}"
        return _size_text(value) if leaf in SIZES else str(value)
    return json.dumps(value, ensure_ascii=not str(value).isprintable())


def _cut(*texts: str) -> list[str]:
    """To LONGEST each; where they are longer, what they begin with in common goes first."""
    if max(map(len, texts)) > LONGEST:
        pairs = zip(*texts, strict=False) if len(texts) > 1 else ()
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) - LONGEST // 3
        texts = tuple(f"…{text[shared:]}" for text in texts) if shared > 0 else texts
    return [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in texts]


def _size_text(value: int) -> str:
    """The largest unit that leaves a whole number."""
    for unit, power in (("g", 30), ("m", 20), ("k", 10)):
        if value and value % (1 << power) == 0:
            return f"{value >> power}{unit}"
    return str(value)
