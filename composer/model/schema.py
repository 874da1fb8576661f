"""The shape of a stack file: `schemas/compose.json` read as rules, and mistakes against them in plain words.

The JSON Schema file is the one description, for editors and for us. This module understands the part of
JSON Schema 2020-12 that the file uses, and no more: a few milliseconds instead of the 90 that importing a
general validator costs, and messages that know stack files. A test holds the two to the same verdicts.

Bound: it looks no further after `MAX_FINDINGS` mistakes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path as File
from typing import Any

from composer.errors import dotted
from composer.model.kinds import nearest, text_of

Path = tuple[str | int, ...]
Finding = tuple[Path, str, str | None]
"""Where, what is wrong, and what to do about it."""

MAX_FINDINGS = 200
FILE = File(__file__).parent.parent / "schemas" / "compose.json"

_TYPES: dict[type, str] = {
    dict: "object",
    list: "array",
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
_WITH_UNIT = re.compile(r"[0-9]+[a-z]+\Z")


class Rule:
    """One subschema with its references resolved. Rules below it are made when they are first asked for."""

    def __init__(self, spec: dict[str, Any], definitions: Definitions) -> None:
        self.spec = spec
        self.definitions = definitions
        types = spec.get("type", ())
        self.types = frozenset([types] if isinstance(types, str) else types)
        self.properties: dict[str, Any] = spec.get("properties", {})
        self.required: tuple[str, ...] = tuple(spec.get("required", ()))
        self.closed = False in (spec.get("additionalProperties"), spec.get("unevaluatedProperties"))
        self.made: dict[str, Rule] = {}

    @cached_property
    def patterns(self) -> list[tuple[re.Pattern[str], Rule]]:
        """Rules for keys that look like something."""
        found = self.spec.get("patternProperties", {})
        return [(re.compile(_python(key)), self.definitions.rule(one)) for key, one in found.items()]

    @cached_property
    def others(self) -> Rule | None:
        """The rule for all other keys; None when there must be none."""
        return None if self.closed else self.definitions.rule(self.spec.get("additionalProperties", {}))

    @cached_property
    def items(self) -> Rule:
        return self.definitions.rule(self.spec.get("items", {}))

    @cached_property
    def branches(self) -> list[Rule]:
        return [self.definitions.rule(one) for one in self.spec.get("anyOf", ())]

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        return re.compile(_python(self.spec["pattern"])) if "pattern" in self.spec else None

    def of(self, key: str) -> Rule | None:
        """The rule for the value of `key`; None when there must be no such key."""
        if rule := self.made.get(key):
            return rule
        if key in self.properties:
            rule = self.made[key] = self.definitions.rule(self.properties[key])
            return rule
        return next((rule for pattern, rule in self.patterns if pattern.search(key)), self.others)

    def allows(self, kind: str) -> bool:
        """Whether a value of this JSON type can fit at all."""
        if self.types:
            return kind in self.types or (kind == "integer" and "number" in self.types)
        return not self.branches or any(branch.allows(kind) for branch in self.branches)

    def words(self) -> list[str]:
        """What a value may be, in words."""
        if self.types == {"boolean", "string"}:
            return [_WORDS["boolean"]]
        own = [_WORDS[kind] for kind in _WORDS if kind in self.types]
        return own or list(dict.fromkeys(word for branch in self.branches for word in branch.words()))


class Definitions:
    """The named parts of the schema, each made into a rule once."""

    def __init__(self, specs: dict[str, Any]) -> None:
        self.specs = specs
        self.made: dict[str, Rule] = {}

    def rule(self, spec: dict[str, Any]) -> Rule:
        if spec.keys() != {"$ref"}:
            return Rule(self.flat(spec), self)
        name = spec["$ref"]
        if name not in self.made:
            self.made[name] = Rule(self.flat(spec), self)
        return self.made[name]

    def flat(self, spec: dict[str, Any]) -> dict[str, Any]:
        """`spec` and all that it refers to as one; in the file only mappings' keys ever need joining."""
        flat: dict[str, Any] = {}
        refers = [spec] if "$ref" in spec else []
        for part in (*refers, *spec.get("allOf", ())):
            other = self.flat(self.specs[part["$ref"].removeprefix("#/$defs/")])
            flat = {
                **flat,
                **other,
                "properties": {**flat.get("properties", {}), **other.get("properties", {})},
            }
        return {**flat, **spec, "properties": {**flat.get("properties", {}), **spec.get("properties", {})}}


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {**one, **other, "properties": {**one.get("properties", {}), **other.get("properties", {})}}


def _python(pattern: str) -> str:
    """JSON Schema's $ is the very end; Python's would let a line break pass."""
    return pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern


@cache
def rules() -> Rule:
    """The rules of a whole stack file."""
    spec = json.loads(FILE.read_bytes())
    return Definitions(spec["$defs"]).rule(spec)


def check(data: Any) -> list[Finding]:
    """What is wrong with the shape of `data`, in the order of its keys; empty when nothing is."""
    walk = _Walk()
    with suppress(_EnoughError):
        walk.judge(data, rules())
    return walk.found


class _EnoughError(Exception):
    """There is more to find than anybody would read."""


class _Walk:
    """One pass over a tree. `path` tells where it stands, `above` which mappings are around it."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.path: list[str | int] = []
        self.above: list[tuple[int, Rule]] = []

    def judge(self, value: Any, rule: Rule) -> None:
        kind = _TYPES.get(type(value), "string")
        if kind == "number" and value.is_integer():
            kind = "integer"
        if rule.types and not rule.allows(kind):
            self.tell(*_misfit(rule, value, self.path[-1:]))
            return
        if rule.branches:
            self._branches(value, rule, kind)
        if kind == "object":
            self._mapping(value, rule)
        elif kind == "array":
            self._list(value, rule)
        else:
            self._scalar(value, rule, kind)

    def tell(self, message: str, hint: str | None = None, *below: str) -> None:
        if len(self.found) >= MAX_FINDINGS:
            raise _EnoughError
        self.found.append(((*self.path, *below), message, hint))

    def _branches(self, value: Any, rule: Rule, kind: str) -> None:
        """Judge by the branch that was meant: the one for this type of value, else the least wrong."""
        fitting = [branch for branch in rule.branches if branch.allows(kind)]
        if len(fitting) == 1:
            self.judge(value, fitting[0])
            return
        if not fitting:
            self.tell(*_misfit(rule, value, self.path[-1:]))
            return
        before, attempts = self.found, []
        for branch in fitting:
            self.found = []
            self.judge(value, branch)
            attempts.append(self.found)
        self.found = before + min(attempts, key=len)

    def _mapping(self, value: dict[str, Any], rule: Rule) -> None:
        path = self.path
        self.above.append((len(path), rule))
        for name in rule.required:
            if name not in value:
                self.tell(f"needs `{name}`", _example(name, rule.of(name)))
        for key, item in value.items():
            below = rule.of(key)
            if below is None:
                self.tell(*self._unknown(key, item, rule), key)
            else:
                path.append(key)
                self.judge(item, below)
                path.pop()
        self.above.pop()

    def _list(self, value: list[Any], rule: Rule) -> None:
        path, items = self.path, rule.items
        for index, item in enumerate(value):
            path.append(index)
            self.judge(item, items)
            path.pop()
        if rule.spec.get("uniqueItems") and len(value) > 1:
            for index in _repeated(value):
                path.append(index)
                self.tell(f"{_shown(value[index])} stands in the list twice", "remove one of the two")
                path.pop()

    def _scalar(self, value: Any, rule: Rule, kind: str) -> None:
        spec = rule.spec
        if "enum" in spec and value not in spec["enum"]:
            words = [f"`{one}`" for one in spec["enum"]]
            self.tell(
                f"must be {_or(words)}, not `{_short(text_of(value))}`", nearest(str(value), spec["enum"])
            )
        if kind == "string":
            if rule.pattern and not rule.pattern.search(value):
                self.tell(f"{spec['patternErrorMessage']}, not `{_short(value)}`")
        elif kind in ("integer", "number") and "minimum" in spec:
            low, high = spec["minimum"], spec.get("maximum", float("inf"))
            if not low <= value <= high:
                self.tell(f"must be {f'from {low} to {high}' if 'maximum' in spec else f'{low} or more'}")

    def _unknown(self, key: str, value: Any, rule: Rule) -> tuple[str, str]:
        """The words for a key that must not be there, and what was probably meant."""
        if key != key.strip():
            return "is not a known key", "it begins or ends with a space that is not a plain one"
        if not rule.properties:
            return f"`{_short(key)}` cannot be a name", "use letters, digits, and . _ -"
        return "is not a known key", (
            nearest(key, rule.properties, 0.8)
            or self._above(key)
            or (None if self.path else _misplaced(value))
            or _below(key, rule)
            or nearest(key, rule.properties)
            or "start your own keys with x-"
        )

    def _above(self, key: str) -> str | None:
        """A key that a surrounding mapping knows was probably indented too far."""
        for depth, rule in reversed(self.above):
            if key in rule.properties:
                where = f"`{dotted(tuple(self.path[:depth]))}`" if depth else "the top of the file"
                return f"it belongs to {where}: check the indentation"
        return None


def _below(key: str, rule: Rule) -> str | None:
    """A key that is known further down, as `replicas` is below `deploy`."""
    level: list[tuple[Path, Rule]] = [((), rule)]
    seen: set[int] = set()
    while level:
        following: list[tuple[Path, Rule]] = []
        for path, one in level:
            seen.add(id(one))
            if path and key in one.properties:
                return f"write it as `{dotted((*path, key))}`"
            following += [((*path, name), below) for name in one.properties if (below := one.of(name))]
            following += [((*path, "NAME"), below) for _, below in one.patterns]
            following += [(path, branch) for branch in one.branches]
        level = [(path, one) for path, one in following if id(one) not in seen]
    return None


def _misplaced(value: Any) -> str | None:
    """For what stands at the top of the file."""
    if isinstance(value, dict) and not {"image", "build"}.isdisjoint(value):
        return "a service belongs below `services`: check the indentation"
    return None


def _misfit(rule: Rule, value: Any, at: Sequence[str | int]) -> tuple[str, str | None]:
    """The words for a value of the wrong type. `at`: its key."""
    wanted = rule.words()
    if value is None:
        below = "indent what belongs to it below it" if wanted == ["a mapping"] else "give it a value"
        return f"must be {_or(wanted)}, but is empty", f"{below}, or remove the key"
    hint = None
    if wanted == ["a mapping"] and at and at[0] in rule.properties:
        hint = f"`{at[0]}` belongs to an entry one level further in: check the indentation"
    elif wanted == ["a mapping"] and isinstance(value, str) and ":" in value:
        hint = "write a space after the colon"
    elif isinstance(value, int | float) and "text" in wanted:
        like = str(next(iter(rule.spec.get("examples", ())), ""))
        hint = f"write a unit too, as in `{like}`" if _WITH_UNIT.match(like) else "put it in quotes"
    elif isinstance(value, dict) and wanted == ["text"]:
        hint = "put it in quotes, if `: ` belongs to the text"
    elif isinstance(value, str) and wanted == ["a list"]:
        hint = "write each entry in a line of its own that starts with `- `"
    elif isinstance(value, list) and wanted == ["a mapping"]:
        hint = "write `key: value` lines without a `- ` before them"
    return f"must be {_or(wanted)}, not {_shown(value)}", hint


def _or(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = _short(text_of(value))
    if isinstance(value, str):
        return f"the text `{text}`" if text else "an empty text"
    return f"`{text}`" if isinstance(value, bool) else f"the number {text}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"


def _example(name: str, rule: Rule | None) -> str | None:
    known = (rule.spec.get("enum") or rule.spec.get("examples")) if rule else None
    return f"for example `{name}: {known[0]}`" if known and isinstance(known[0], str) else None


def _repeated(value: list[Any]) -> Iterator[int]:
    """The indices of entries that an earlier one equals; 1 is 1.0, but true is not 1."""
    if len({item for item in value if type(item) is str}) == len(value):
        return
    seen: set[str] = set()
    for index, item in enumerate(value):
        whole = isinstance(item, float) and item.is_integer()
        text = json.dumps(int(item) if whole else item, sort_keys=True)
        if text in seen:
            yield index
        seen.add(text)
