"""The dialect of .env and env_file. Text in, variables out; a lookup gives what is known already.

KEY=value, `export KEY=value`, `KEY: value`, a KEY alone (inherited); comments; quotes, single ones raw;
values over several lines; ${X} in what is not in single quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from composer.errors import Complaint, Place, StackFileError
from composer.model.interpolate import Bounded, substitute
from composer.model.kinds import Misfit

_ESCAPE = re.compile(r"\\(?:[abcfnrtv$\"\\]|0[0-7]{0,3})")
_CHARS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}
_SPACES = "\t\v\f\r \x85\xa0"


def parse(
    text: str,
    lookup: Callable[[str], str | None],
    file: str,
    earlier: Callable[[str], str | None] = lambda name: None,
) -> dict[str, str | None]:
    """The variables of `text`. A key that is inherited but unknown is left out.

    ${X} is what `lookup` says, else what the text itself said before, else what `earlier` files said.

    StackFileError: the text is not in this dialect; with the place.
    """
    found: dict[str, str | None] = {}
    text = text.removeprefix("\ufeff")
    position = 0

    def known(name: str) -> str | None:
        value = lookup(name)
        return found.get(name, earlier(name)) if value is None else value

    bounded = Bounded(known)
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if position >= len(text):
            return found
        if text[position] == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
            continue
        try:
            key, value, position = _statement(text, position, bounded)
        except Misfit as misfit:
            line = text.count("\n", 0, position) + 1
            raise StackFileError([Complaint(str(misfit), Place(file, line, 1))]) from None
        if value is not None:
            found[key] = value


def _statement(text: str, start: int, known: Callable[[str], str | None]) -> tuple[str, str | None, int]:
    export = re.compile(r"export\s+").match(text, start)
    if export:
        start += len("export")
        while start < len(text) and text[start] in _SPACES:
            start += 1
    end = start
    while end < len(text) and text[end] not in "=:\n":
        char = text[end]
        if not (char in _SPACES or char in "_.-[]" or char.isalnum()):
            line = text[start:].partition("\n")[0]
            raise Misfit(f"`{char}` cannot be part of a variable's name in `{line.strip()}`")
        end += 1
    if end >= len(text):
        end_of_key, inherited = end, True
        key = text[start:].strip() if end > start else ""
        if key:
            raise Misfit(f"`{key}` has no value") if " " in key else _Inherit
    key = text[start:end].rstrip()
    inherited = end >= len(text) or text[end] == "\n"
    if " " in key:
        raise Misfit(f"the name `{key}` holds a space")
    end_of_key = end + 1
    while end_of_key < len(text) and text[end_of_key] in _SPACES:
        end_of_key += 1
    if inherited:
        return key, known(key), end_of_key
    value, after = _value(text, end_of_key, known)
    return key, value, after


_Inherit = Misfit("")


def _value(text: str, start: int, known: Callable[[str], str | None]) -> tuple[str, int]:
    quote = text[start : start + 1]
    if quote not in ("'", '"'):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        plain = text[start:end].partition(" #")[0].rstrip()
        return substitute(plain, known, lambda _: None), min(end + 1, len(text))
    chars: list[str] = []
    i = start + 1
    while i < len(text):
        char = text[i]
        if char == "\\" and text[i + 1 : i + 2] == quote:
            chars.append(quote)
            i += 2
            continue
        if char == "\\":
            chars.append(text[i : i + 2])
            i += 2
            continue
        if char == quote:
            value = "".join(chars)
            if quote == '"':
                value = substitute(_ESCAPE.sub(_unescaped, value), known, lambda _: None)
            return value, i + 1
        chars.append(char)
        i += 1
    line = text[start:].partition("\n")[0]
    raise Misfit(f"the quote in `{line}` is not closed")


def _unescaped(match: re.Match[str]) -> str:
    code = match[0][1:]
    if code == "$":
        return "$$"
    if code[0] == "0":
        return chr(int(code, 8)) if len(code) == 4 else match[0]
    return _CHARS.get(code, match[0])
