"""${VARIABLES} in values; keys are never touched. Text and a mapping in, text out.

Forms: $X ${X} ${X:-default} ${X-default} ${X:?message} ${X?message} ${X:+other} ${X+other}, nested to any
depth, $$. (Compose Specification, "Interpolation".)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from composer.model.kinds import Misfit

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-+?]")
MAX_NESTING = 50


class Variable(NamedTuple):
    """One use of a variable, as `config --variables` shows it."""

    name: str
    default: str = ""
    alternate: str = ""
    required: bool = False


class _Braced(NamedTuple):
    name: str
    operator: str
    rest: str


def _braced(text: str, start: int) -> tuple[_Braced, int]:
    """What stands between ${ (at `start`) and its }, and where that ends."""
    name = _NAME.match(text, start + 2)
    if not name:
        raise Misfit(_invalid(text))
    operator = _OPERATOR.match(text, name.end())
    after = operator.end() if operator else name.end()
    end = _closing(text, start) if operator else after
    if not text.startswith("}", end):
        raise Misfit(_invalid(text))
    return _Braced(name[0], operator[0] if operator else "", text[after:end]), end + 1


def _invalid(text: str) -> str:
    text = text if len(text) < 100 else text[:100] + "…"
    return f"`{text}` is not a valid use of a variable; write $$ for a plain $"


def _closing(text: str, start: int) -> int:
    """The } that closes the { at start + 1; when braces do not balance, the last } of the line."""
    depth, last, i = 0, len(text), start
    while i < len(text) and text[i] != "\n":
        if text[i] == "}":
            depth, last = depth - 1, i
            if depth == 0:
                return i
        elif text[i] == "{":
            depth += 1
            i += text[i + 1 : i + 2] not in ("}", "\n")
        i += 1
    return last


def substitute(
    text: str, lookup: Callable[[str], str | None], unset: Callable[[str], Any], depth: int = 0
) -> str:
    """`text` with its variables replaced. `unset` hears the names of variables that have no value.

    Misfit: the form is wrong, or a required variable is missing.
    """
    if depth > MAX_NESTING:
        raise Misfit("variables are nested too deep")
    parts: list[str] = []
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        parts.append(text[position:dollar])
        following = text[dollar + 1 : dollar + 2]
        if following == "$":
            parts.append("$")
            position = dollar + 2
        elif following == "{":
            found, position = _braced(text, dollar)
            parts.append(_value(found, lookup, unset, depth))
        elif name := _NAME.match(text, dollar + 1):
            parts.append(_plain(name[0], lookup, unset))
            position = name.end()
        else:
            parts.append("$")
            position = dollar + 1
    parts.append(text[position:])
    return "".join(parts)


def _plain(name: str, lookup: Callable[[str], str | None], unset: Callable[[str], Any]) -> str:
    value = lookup(name)
    if value is None:
        unset(name)
        return ""
    return value


def _value(
    found: _Braced, lookup: Callable[[str], str | None], unset: Callable[[str], Any], depth: int
) -> str:
    if not found.operator:
        return _plain(found.name, lookup, unset)
    value = lookup(found.name)
    there = bool(value) if found.operator[0] == ":" else value is not None
    kind = found.operator[-1]
    if (kind == "+") != there:
        return value or ""
    text = substitute(found.rest, lookup, unset, depth + 1)
    if kind == "?":
        raise Misfit(
            f"the variable {found.name} is required" + (f": {text}" if text else " and has no value")
        )
    return text


def variables(text: str, depth: int = 0) -> Iterator[Variable]:
    """The variables that a text uses, defaults included, up to the first wrong form."""
    position = 0
    while depth <= MAX_NESTING and (dollar := text.find("$", position)) >= 0:
        following = text[dollar + 1 : dollar + 2]
        position = dollar + (2 if following == "$" else 1)
        if following == "{":
            try:
                found, position = _braced(text, dollar)
            except Misfit:
                return
            kind = found.operator[-1:]
            yield Variable(
                found.name,
                found.rest if kind == "-" else "",
                found.rest if kind == "+" else "",
                kind == "?",
            )
            yield from variables(found.rest, depth + 1)
        elif following != "$" and (name := _NAME.match(text, dollar + 1)):
            yield Variable(name[0])
            position = name.end()


def in_tree(value: Any) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any] | list[Any], Any, str]]:
    """Every text with a $ in a tree: its path, the container and the key it stands under, and the text."""
    todo: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while todo:
        path, container = todo.pop()
        entries: Any = container.items() if type(container) is dict else enumerate(container)
        for key, item in entries:
            if isinstance(item, str):
                if "$" in item:
                    yield (*path, key), container, key, item
            elif isinstance(item, dict | list):
                todo.append(((*path, key), item))


def tree(
    data: dict[str, Any],
    environment: Mapping[str, str],
    unset: Callable[[str], Any],
    wrong: Callable[[tuple[str | int, ...], str], Any],
) -> None:
    """Replace every variable in `data`, in place. `wrong` hears the path and what is wrong there."""
    for path, container, key, text in list(in_tree(data)):
        try:
            container[key] = substitute(text, environment.get, unset)
        except Misfit as misfit:
            wrong(path, str(misfit))
