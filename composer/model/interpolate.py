"""${VARIABLES} in values; keys are never touched. Text and a mapping in, text out.

Forms: $X ${X} ${X:-default} ${X-default} ${X:?message} ${X?message} ${X:+other} ${X+other}, nested to any
depth, $$. (Compose Specification, "Interpolation".)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from composer.model.kinds import Misfit
from composer.model.tree import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-+?]")
_SIMPLE = re.compile(
    rf"\$(?:(\$)|({_NAME.pattern})|\{{({_NAME.pattern})(?:({_OPERATOR.pattern})([^{{}}$\n]*))?\}})"
)
MAX_NESTING = 50
MAX_USES = 200_000
"""Variables in one document."""
MAX_TEXT = 16 << 20
"""Characters that variables may add to one document or env file."""

Lookup = Callable[[str], str | None]


class Variable(NamedTuple):
    """One use of a variable, as `config --variables` shows it."""

    name: str
    default: str = ""
    alternate: str = ""
    required: bool = False


class _Use(NamedTuple):
    name: str
    operator: str
    rest: str


class Bounded:
    """A lookup that ends with a Misfit when it has told more than `MAX_TEXT` characters."""

    __slots__ = ("left", "lookup")

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.left = MAX_TEXT

    def __call__(self, name: str) -> str | None:
        value = self.lookup(name)
        if value:
            self.left -= len(value)
            if self.left < 0:
                raise Misfit(f"variables stand for more than {MAX_TEXT >> 20} MiB of text")
        return value


def _pieces(text: str) -> Iterator[str | _Use]:
    """Plain text and uses of variables, as they follow each other. Misfit: a use has no valid form."""
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        if dollar > position:
            yield text[position:dollar]
        if match := _SIMPLE.match(text, dollar):
            escaped, plain, braced, operator, rest = match.groups()
            yield "$" if escaped else _Use(plain or braced, operator or "", rest or "")
            position = match.end()
        elif text.startswith("{", dollar + 1):
            use, position = _braced(text, dollar)
            yield use
        else:
            yield "$"
            position = dollar + 1
    yield text[position:]


def _braced(text: str, start: int) -> tuple[_Use, int]:
    """What stands between ${ (at `start`) and its }, and where that ends."""
    name = _NAME.match(text, start + 2)
    if not name:
        raise Misfit(_invalid(text))
    operator = _OPERATOR.match(text, name.end())
    after = operator.end() if operator else name.end()
    end = _closing(text, start) if operator else after
    if not text.startswith("}", end):
        raise Misfit(_invalid(text))
    return _Use(name[0], operator[0] if operator else "", text[after:end]), end + 1


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


def substitute(text: str, lookup: Lookup, unset: Callable[[str], Any], depth: int = 0) -> str:
    """`text` with its variables replaced. `unset` hears the names of variables that have no value.

    Misfit: the form is wrong, or a required variable is missing.
    """
    if depth > MAX_NESTING:
        raise Misfit("variables are nested too deep")
    return "".join(
        [one if type(one) is str else _value(one, lookup, unset, depth) for one in _pieces(text)]  # type: ignore[arg-type]
    )


def _value(use: _Use, lookup: Lookup, unset: Callable[[str], Any], depth: int) -> str:
    value = lookup(use.name)
    if not use.operator:
        if value is None:
            unset(use.name)
        return value or ""
    there = bool(value) if use.operator[0] == ":" else value is not None
    kind = use.operator[-1]
    if (kind == "+") != there:
        return value or ""
    text = substitute(use.rest, lookup, unset, depth + 1) if "$" in use.rest else use.rest
    if kind == "?":
        raise Misfit(f"the variable {use.name} is required" + (f": {text}" if text else " and has no value"))
    return text


def variables(text: str, depth: int = 0) -> Iterator[Variable]:
    """The variables that a text uses, defaults included, up to the first wrong form."""
    try:
        for use in _pieces(text):
            if isinstance(use, _Use):
                kind = use.operator[-1:]
                default, alternate = (use.rest if kind == sign else "" for sign in "-+")
                yield Variable(use.name, default, alternate, kind == "?")
                if "$" in use.rest and depth < MAX_NESTING:
                    yield from variables(use.rest, depth + 1)
    except Misfit:
        return


def in_tree(value: Any) -> Iterator[tuple[Path, dict[str, Any] | list[Any], Any, str]]:
    """Every text with a $ in a tree: its path, the container and the key it stands under, and the text."""
    todo: list[tuple[Path, Any]] = [((), value)]
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
    unset: Callable[[Path, str], Any],
    wrong: Callable[[Path, str], Any],
) -> None:
    """Replace every variable in `data`, in place.

    `unset` hears where a variable is used that has no value, `wrong` where what is wrong.
    """
    lookup = Bounded(environment.get)
    for path, container, key, text in list(in_tree(data)):
        names: list[str] = []
        try:
            container[key] = substitute(text, lookup, names.append)
        except Misfit as misfit:
            wrong(path, str(misfit))
        for name in names:
            unset(path, name)
