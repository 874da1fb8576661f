"""YAML text to plain trees (dict, list, str, int, float, bool, None), as Compose reads YAML.

Scalars follow YAML 1.2 with the few 1.1 spellings that Compose keeps (`010` is eight, `1_000` a thousand).
Aliases become copies, merge keys are folded in, so that later stages see a real tree that they may change.
Bounds: `MAX_BYTES` of text, `MAX_DEPTH` levels, `MAX_NODES` values after aliases are expanded.

Positions cost nothing until somebody asks: `Source.place` reads the text a second time, once.
No knowledge of Compose's keys may enter.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from composer.errors import Complaint, Place, StackFileError
from composer.model.broken import explained
from composer.model.units import Timestamp

MAX_BYTES = 16 << 20
MAX_DEPTH = 100
MAX_NODES = 300_000

Path = tuple[str | int, ...]

_LOADER: Any = getattr(yaml, "CLoader", yaml.SafeLoader)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys(("-0", "-0.0"), -0.0),
}
_MAYBE_TYPED = frozenset("+-.0123456789~ntfNTF")
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_TIME = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)(?:(?:[Tt](\d\d?):(\d\d?):(\d\d?)(\.\d{1,9})?(Z|[-+]\d\d:\d\d))"
    r"|(?: (\d\d?):(\d\d?):(\d\d?)(\.\d{1,9})?))?\Z"
)
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "null": (type(None),),
}
_MERGE = object()


def scalar(text: str) -> Any:
    """The value of a plain (unquoted, untagged) scalar."""
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first not in _MAYBE_TYPED:
        return text
    if first.isdigit() and (moment := _TIME.match(text)) and (told := _timestamp(moment)):
        return told
    if first in "ntfNTF~":
        return text
    plain = text.replace("_", "")
    if _INTEGER.match(plain):
        return _integer(plain)
    if _FLOAT.match(plain) and abs(number := float(plain)) != float("inf"):
        return number
    return text


def _integer(text: str) -> int | float:
    """Go's base prefixes: `0x`, `0b`, `0o` and a bare leading zero. Beyond 64 bits it is a float."""
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567":
        number = int(digits, 8)
    else:
        number = int(digits, 0)
    number = -number if text[0] == "-" else number
    return number if -(1 << 63) <= number < 1 << 64 else float(number)


def _timestamp(found: re.Match[str]) -> Timestamp | None:
    year, month, day, *rest = found.groups()
    zone = rest[4] or "Z"
    hour, minute, second = (int(part or 0) for part in (rest[0:3] if rest[0] else rest[5:8]))
    days = (31, 29 if int(year) % 4 == 0 else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= days[int(month) - 1]):
        return None
    if hour > 23 or minute > 59 or second > 59:
        return None
    fraction = (rest[3] or rest[8] or "").rstrip("0").rstrip(".")
    offset = "+0000 UTC" if zone == "Z" else f"{zone.replace(':', '')} {zone.replace(':', '')}"
    return Timestamp(
        f"{year}-{int(month):02}-{int(day):02} {hour:02}:{minute:02}:{second:02}{fraction} {offset}"
    )


class Document:
    """One YAML document. `resets` are the paths tagged !reset or !override: what came before goes away."""

    __slots__ = ("data", "resets")

    def __init__(self, data: Any, resets: tuple[Path, ...]) -> None:
        self.data = data
        self.resets = resets


class Source:
    """One file's text and its documents."""

    def __init__(self, file: str, text: bytes) -> None:
        """Raises StackFileError for anything that is not YAML within the bounds."""
        self.file = file
        self.text = _decoded(text, file)
        self.documents = [Document(b.data, tuple(b.resets)) for b in _documents(self, marks=False)]
        self._marks: list[_Builder] | None = None

    def place(self, path: Path, document: int = 0) -> Place:
        """Where `path`, or its nearest known parent, stands. Keys of mappings, items of sequences."""
        while path:
            if place := self.exact(path, document):
                return place
            path = path[:-1]
        return Place(self.file)

    def exact(self, path: Path, document: int = 0) -> Place | None:
        """Where `path` stands; None when the document has no such value."""
        if self._marks is None:
            self._marks = list(_documents(self, marks=True))
        mark = self._marks[document].mark(path)
        if mark is None and path and isinstance(path[-1], str):
            mark = self._marks[document].mark((*path[:-1], self._entry(path, document)))
        return Place(self.file, *mark) if mark else None

    def _entry(self, path: Path, document: int) -> int:
        """The index of the entry that a mapping's key had when the mapping was written as a list."""
        value = self.documents[document].data
        for part in path[:-1]:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return -1
        name = str(path[-1])
        entries = value if isinstance(value, list) else ()
        found = (i for i, one in enumerate(entries) if isinstance(one, str) and one.partition("=")[0] == name)
        return next(found, -1)

    def fail(
        self, message: str, mark: Any = None, *, hint: str | None = None, path: Path = ()
    ) -> StackFileError:
        place = Place(self.file, mark.line + 1, mark.column + 1) if mark else Place(self.file)
        return StackFileError([Complaint(message, place, path, hint)])


def _decoded(data: bytes, file: str) -> str:
    if len(data) > MAX_BYTES:
        raise StackFileError([Complaint(f"the file is larger than {MAX_BYTES >> 20} MiB", Place(file))])
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        place = Place(file, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise StackFileError(
            [Complaint("the text is not UTF-8", place, hint="save the file as UTF-8")]
        ) from None


def _documents(source: Source, *, marks: bool) -> Iterator[_Builder]:
    parser = _LOADER(source.text)
    try:
        for event in iter(parser.get_event, None):
            if type(event) is DocumentStartEvent:
                if event.version not in (None, (1, 1)):
                    raise source.fail(
                        f"the file says that it is YAML {event.version[0]}.{event.version[1]}",
                        event.start_mark,
                        hint="remove the line with %YAML",
                    )
                builder = _Builder(source, marks)
                builder.read(parser.get_event)
                yield builder
    except yaml.MarkedYAMLError as error:
        message, mark, hint = explained(source.text, error)
        raise source.fail(message, mark, hint=hint) from None
    except yaml.reader.ReaderError as error:
        line = source.text.count("\n", 0, error.position) + 1
        raise StackFileError(
            [Complaint("the text holds a character that YAML forbids", Place(source.file, line, 1))]
        ) from None
    finally:
        parser.dispose()


class _Builder:
    """Folds the events of one document into a tree; with marks, remembers where everything stood."""

    def __init__(self, source: Source, marks: bool) -> None:
        self.source = source
        self.data: Any = None
        self.resets: list[Path] = []
        self.nodes = 0
        self.anchors: dict[str, tuple[Any, Path]] = {}
        self.open_anchors: set[str] = set()
        self.marks: dict[Path, tuple[int, int]] | None = {} if marks else None
        self.jumps: dict[Path, Path] = {}

    def mark(self, path: Path) -> tuple[int, int] | None:
        """Line and column of `path`; through aliases and merge keys to where the value really is."""
        assert self.marks is not None
        for _ in range(MAX_DEPTH):
            if path in self.marks:
                return self.marks[path]
            for length in range(len(path), 0, -1):
                if (there := self.jumps.get(path[:length])) is not None:
                    path = there + path[length:]
                    break
            else:
                return None
        return None

    def read(self, get: Callable[[], Any]) -> None:
        self.data = self._node(get(), get, ())
        if self.data is _DROPPED:
            self.data = None

    def _count(self, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.source.fail(
                f"the file holds more than {MAX_NODES} values once aliases are expanded", event.start_mark
            )

    def _node(self, event: Any, get: Callable[[], Any], path: Path) -> Any:
        kind = type(event)
        if kind is ScalarEvent:
            self._count(event)
            value = (
                self._scalar(event, path)
                if event.tag
                else (scalar(event.value) if event.implicit[0] else event.value)
            )
            if type(value) is float and value - value != 0:
                raise self.source.fail(
                    f"`{event.value}` is not a number that a stack file can hold",
                    event.start_mark,
                    hint="put it in quotes, if it is text",
                    path=path,
                )
            if event.anchor:
                self.anchors[event.anchor] = (value, path)
            return value
        if kind is AliasEvent:
            return self._alias(event, path)
        if len(path) >= MAX_DEPTH:
            raise self._too_deep(event)
        self._count(event)
        if event.anchor:
            self.open_anchors.add(event.anchor)
        own = len(self.resets)
        read = self._mapping if kind is MappingStartEvent else self._sequence
        value = read(get, path, event)
        if event.anchor:
            self.open_anchors.discard(event.anchor)
            self.anchors[event.anchor] = (value, path)
        if event.tag in ("!reset", "!override"):
            del self.resets[own:]
            self.resets.append(path)
            if event.tag == "!reset":
                return _DROPPED
        return value

    def _scalar(self, event: Any, path: Path) -> Any:
        tag: str = event.tag
        if tag in ("!reset", "!override"):
            self.resets.append(path)
            if tag == "!reset":
                return _DROPPED
            return scalar(event.value) if event.style is None else event.value
        short = tag.removeprefix("tag:yaml.org,2002:")
        if short in _TYPES:
            typed: Any = scalar(event.value)

            if not isinstance(typed, _TYPES[short]) or (short == "int" and isinstance(typed, bool)):
                raise self.source.fail(f"`{event.value}` is not of the type !!{short}", event.start_mark)
            return float(str(typed)) if short == "float" else typed
        if short == "binary":
            try:
                return base64.b64decode(event.value, validate=False).decode("utf-8", "replace")
            except ValueError:
                raise self.source.fail("the !!binary value is not base64", event.start_mark) from None
        return event.value

    def _alias(self, event: AliasEvent, path: Path) -> Any:
        name = event.anchor
        if name in self.open_anchors:
            raise self.source.fail(
                f"the alias *{name} stands inside the value that it repeats", event.start_mark
            )
        if name not in self.anchors:
            raise self.source.fail(f"the alias *{name} has no anchor &{name} before it", event.start_mark)
        value, there = self.anchors[name]
        if self.marks is not None:
            self.jumps[path] = there
        for reset in [r for r in self.resets if r[: len(there)] == there]:
            self.resets.append(path + reset[len(there) :])
        return self._copy(value, event, len(path))

    def _copy(self, value: Any, event: Any, depth: int) -> Any:
        self._count(event)
        if depth > MAX_DEPTH:
            raise self._too_deep(event)
        if type(value) is dict:
            return {key: self._copy(item, event, depth + 1) for key, item in value.items()}
        if type(value) is list:
            return [self._copy(item, event, depth + 1) for item in value]
        return value

    def _too_deep(self, event: Any) -> StackFileError:
        return self.source.fail(f"values are nested more than {MAX_DEPTH} levels deep", event.start_mark)

    def _sequence(self, get: Callable[[], Any], path: Path, start: Any) -> list[Any]:
        items: list[Any] = []
        while type(event := get()) is not SequenceEndEvent:
            here = (*path, len(items))
            if self.marks is not None:
                self.marks[here] = (event.start_mark.line + 1, event.start_mark.column + 1)
            value = self._node(event, get, here)
            if value is not _DROPPED:
                items.append(value)
        return items

    def _mapping(self, get: Callable[[], Any], path: Path, start: Any) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        seen: dict[str, int] = {}
        merge: list[Any] | None = None
        while type(event := get()) is not MappingEndEvent:
            key = self._key(event, path)
            name = "<<" if key is _MERGE else key
            if name in seen:
                raise self.source.fail(
                    f"the key `{name}` is already set in line {seen[name]}",
                    event.start_mark,
                    hint="remove one of the two",
                    path=path,
                )
            seen[name] = event.start_mark.line + 1
            if key is _MERGE:
                merge = self._merged(get(), get, path)
                continue
            here = (*path, key)
            if self.marks is not None:
                self.marks[here] = (event.start_mark.line + 1, event.start_mark.column + 1)
            value = self._node(get(), get, here)
            if value is not _DROPPED:
                mapping[key] = value
        for other, there in merge or ():
            for key, value in other.items():
                if key not in mapping:
                    mapping[key] = value
                    if self.marks is not None:
                        self.jumps[(*path, key)] = (*there, key)
        return mapping

    def _key(self, event: Any, path: Path) -> Any:
        """A key is a string; `<<` stands for the merge key."""
        self._count(event)
        if type(event) is AliasEvent:
            key = self._alias(event, (*path, "*"))
        elif type(event) is not ScalarEvent:
            braces = type(event) is MappingStartEvent
            raise self.source.fail(
                "a key must be a string, not a list or mapping",
                event.start_mark,
                hint="put {{…}} in quotes; a variable is ${NAME}" if braces else None,
                path=path,
            )
        elif event.tag:
            key = self._scalar(event, path)
        elif event.implicit[0]:
            if event.value == "<<":
                return _MERGE
            key = scalar(event.value)
        else:
            key = event.value
        if type(event) is ScalarEvent and event.anchor:
            self.anchors[event.anchor] = (key, path)
        if not isinstance(key, str) or isinstance(key, Timestamp):
            shown = getattr(event, "value", key)
            raise self.source.fail(
                f"the key `{shown}` is not a string", event.start_mark, hint=f'write "{shown}"', path=path
            )
        return key

    def _merged(self, event: Any, get: Callable[[], Any], path: Path) -> list[tuple[dict[str, Any], Path]]:
        """The mappings behind `<<`, the strongest first, each with the path where its keys stand."""
        here = (*path, "<<")
        before = len(self.resets)
        value = self._node(event, get, here)
        self.resets[before:] = [path + reset[len(here) :] for reset in self.resets[before:]]
        many = value if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in many):
            raise self.source.fail(
                "a merge key (<<) takes a mapping or a list of mappings", event.start_mark, path=path
            )
        return [(one, (*here, i) if isinstance(value, list) else here) for i, one in enumerate(many)]


_DROPPED = object()
