"""The shape of a stack file: `schemas/compose.json` read as rules, and mistakes against them in plain words.

The JSON Schema file is the one description, for editors and for us. This module understands the part of
JSON Schema 2020-12 that the file uses, and no more: a few milliseconds instead of the 90 that importing a
general validator costs, and messages that know stack files. A test holds the two to the same verdicts.

Bound: at most `MAX_FINDINGS` mistakes are told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path as File
from typing import Any

from composer.errors import dotted
from composer.model.kinds import nearest, text_of

Path = tuple[str | int, ...]
Finding = tuple[Path, str, str | None]
"""Where, what is wrong, and what to do about it."""

MAX_FINDINGS = 100
_LONGEST_COMPARED = 64
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


class Rule:
    """One subschema with its references resolved."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        types = spec.get("type", ())
        self.types = frozenset([types] if isinstance(types, str) else types)
        self.properties: dict[str, Rule] = {}
        self.patterns: list[tuple[re.Pattern[str], Rule]] = []
        self.others: Rule | None = None
        self.closed = False
        self.required: tuple[str, ...] = ()
        self.items: Rule | None = None
        self.branches: tuple[Rule, ...] = ()
        self.pattern = re.compile(_python(spec["pattern"])) if "pattern" in spec else None

    def of(self, key: str) -> Rule | None:
        """The rule for the value of `key`; None when there must be no such key."""
        if rule := self.properties.get(key):
            return rule
        for pattern, rule in self.patterns:
            if pattern.search(key):
                return rule
        return None if self.closed else self.others or _ANYTHING

    def allows(self, kind: str) -> bool:
        """Whether a value of this JSON type can fit at all."""
        if self.types:
            return kind in self.types or (kind == "integer" and "number" in self.types)
        return not self.branches or any(branch.allows(kind) for branch in self.branches)

    def words(self) -> list[str]:
        """What a value may be, in words."""
        if self.types >= {"boolean", "string"} and len(self.types) == 2:
            return [_WORDS["boolean"]]
        own = [_WORDS[kind] for kind in _WORDS if kind in self.types]
        return own or list(dict.fromkeys(word for branch in self.branches for word in branch.words()))


_ANYTHING = Rule({})


def _python(pattern: str) -> str:
    """JSON Schema's $ is the very end; Python's would let a line break pass."""
    return pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern


class _Builder:
    def __init__(self, definitions: dict[str, Any]) -> None:
        self.definitions = definitions
        self.shared: dict[str, Rule] = {}

    def rule(self, spec: dict[str, Any]) -> Rule:
        if spec.keys() == {"$ref"} or (spec.keys() <= _ANNOTATIONS | {"$ref"} and "$ref" in spec):
            name = spec["$ref"].removeprefix("#/$defs/")
            if name not in self.shared:
                self.shared[name] = self.rule(self.definitions[name])
            return self.shared[name]
        parts = [self.rule(part) for part in spec.get("allOf", ())]
        if "$ref" in spec:
            parts.append(self.rule({"$ref": spec["$ref"]}))
        rule = Rule({key: value for part in parts for key, value in part.spec.items()} | spec)
        for part in parts:
            rule.properties |= part.properties
            rule.patterns += part.patterns
            rule.closed = rule.closed or part.closed
        self._object(rule, spec)
        rule.items = self.rule(spec["items"]) if "items" in spec else None
        rule.branches = tuple(self.rule(branch) for branch in spec.get("anyOf", ()))
        return rule

    def _object(self, rule: Rule, spec: dict[str, Any]) -> None:
        rule.properties |= {key: self.rule(one) for key, one in spec.get("properties", {}).items()}
        for pattern, one in spec.get("patternProperties", {}).items():
            rule.patterns.append((re.compile(_python(pattern)), self.rule(one)))
        others = spec.get("additionalProperties", spec.get("unevaluatedProperties"))
        rule.closed = rule.closed or others is False
        rule.others = self.rule(others) if isinstance(others, dict) else None
        rule.required = tuple(spec.get("required", ()))


_ANNOTATIONS = {"title", "description", "default", "examples", "deprecated", "patternErrorMessage"}


@cache
def rules() -> Rule:
    """The rules of a whole stack file."""
    spec = json.loads(FILE.read_bytes())
    return _Builder(spec["$defs"]).rule(spec)


def check(data: Any) -> list[Finding]:
    """What is wrong with the shape of `data`, in the order of its keys; empty when nothing is."""
    walk = _Walk()
    try:
        walk.judge(data, rules())
    except _EnoughError:
        walk.found.append(((), f"there are more mistakes; these are the first {MAX_FINDINGS}", None))
    return walk.found


class _EnoughError(Exception):
    """There is more to find than anybody would read."""


class _Walk:
    """One pass over a tree. `path` and `rules` tell where it stands."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.path: list[str | int] = []
        self.rules: list[Rule] = []

    def judge(self, value: Any, rule: Rule) -> None:
        kind = _TYPES.get(type(value), "string")
        if rule.types and kind not in rule.types:
            whole = kind == "number" and value.is_integer() and "integer" in rule.types
            if not whole and not (kind == "integer" and "number" in rule.types):
                self.tell(*_misfit(rule, value))
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
            self.tell(*_misfit(rule, value))
            return
        before, attempts = self.found, []
        for branch in fitting:
            self.found = []
            self.judge(value, branch)
            attempts.append(self.found)
        self.found = before + min(attempts, key=len)

    def _mapping(self, value: dict[str, Any], rule: Rule) -> None:
        path = self.path
        self.rules.append(rule)
        for name in rule.required:
            if name not in value:
                self.tell(f"needs `{name}`", _example(name, rule.properties.get(name)))
        for key, item in value.items():
            below = rule.of(key)
            if below is None:
                self.tell(*self._unknown(key, rule), key)
            elif below is not _ANYTHING:
                path.append(key)
                self.judge(item, below)
                path.pop()
        self.rules.pop()

    def _list(self, value: list[Any], rule: Rule) -> None:
        if rule.items is None:
            return
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
            self.tell(f"must be {_or(words)}, not {_shown(value)}", _near(str(value), spec["enum"]))
        if kind == "string":
            if rule.pattern and not rule.pattern.search(value):
                self.tell(f"{_shown(value)} {spec['patternErrorMessage']}")
        elif kind in ("integer", "number") and "minimum" in spec:
            low, high = spec["minimum"], spec.get("maximum", float("inf"))
            if not low <= value <= high:
                self.tell(f"must be {f'from {low} to {high}' if 'maximum' in spec else f'{low} or more'}")

    def _unknown(self, key: str, rule: Rule) -> tuple[str, str]:
        """The words for a key that must not be there, and what was probably meant."""
        if not rule.properties and rule.patterns:
            return f"`{key[:_LONGEST_COMPARED]}` cannot be a name", "use letters, digits, and . _ -"
        if len(key) > _LONGEST_COMPARED:
            return "is not a known key", "start your own keys with x-"
        return "is not a known key", (
            nearest(key, rule.properties, 0.8)
            or self._above(key)
            or _below(key, rule)
            or nearest(key, rule.properties)
            or "start your own keys with x-"
        )

    def _above(self, key: str) -> str | None:
        """A key that a surrounding mapping has was probably indented too far."""
        depth, found = 0, None
        for depth, part in enumerate(self.path):
            del depth, part
        del found
        return None


def _below(key: str, rule: Rule) -> str | None:
    return None
