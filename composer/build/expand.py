"""Variables in a Dockerfile's words: `$x`, `${x:-word}` and the other forms; quotes and escapes. Pure.

As BuildKit's shell lexer, which is not quite a shell: no commands, no arithmetic, no file names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

DEEPEST = 32  # forms within forms


class ExpandError(ValueError):
    """A word that cannot be expanded; says why."""


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The word with its variables replaced, its quotes and escapes taken away. Raises ExpandError."""
    if not any(char in text for char in ("$", '"', "'", escape)):
        return text
    return _Word(text, variables, escape).until("")


def expand_heredoc(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The content of a heredoc: quotes mean nothing there."""
    return _Word(text, variables, escape, quotes=False).until("")


class _Word:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, *, quotes: bool = True) -> None:
        self.text, self.variables, self.escape, self.quotes = text, variables, escape, quotes
        self.at = self.depth = 0

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def next(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def until(self, stop: str, *, raw: bool = False) -> str:
        """Up to the character `stop`, which is taken; with `raw` escapes stay, for a pattern."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpandError(f"more than {DEEPEST} forms within each other")
        out: list[str] = []
        while char := self.peek():
            if char == stop:
                self.at += 1
                self.depth -= 1
                return "".join(out)
            if self.quotes and char in "\"'":
                out.append(self.single() if char == "'" else self.double())
            elif char == "$":
                out.append(self.dollar())
            elif char == self.escape:
                out.append(self.escaped(raw))
            else:
                out.append(self.next())
        if stop:
            raise ExpandError(f"a {stop} is missing")
        self.depth -= 1
        return "".join(out)

    def escaped(self, raw: bool) -> str:
        """One escaped character. In a heredoc only what would have a meaning can lose it."""
        self.at += 1
        char = self.next()
        if raw or (not self.quotes and char not in ("$", self.escape)):
            return self.escape + char
        return char

    def single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ExpandError("a ' is never closed")
        inside, self.at = self.text[self.at + 1 : end], end + 1
        return inside

    def double(self) -> str:
        self.at += 1
        out: list[str] = []
        while char := self.peek():
            if char == '"':
                self.at += 1
                return "".join(out)
            if char == "$":
                out.append(self.dollar())
                continue
            self.at += 1
            if char == self.escape and self.peek() in ('"', "$", self.escape):
                char = self.next()
            out.append(char)
        raise ExpandError('a " is never closed')

    def dollar(self) -> str:
        self.at += 1
        if self.peek() == "{":
            self.at += 1
            return self.braces()
        name = self.name()
        return self.variables.get(name, "") if name else "$"

    def name(self) -> str:
        match = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?!$-]").match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[0]

    def braces(self) -> str:
        if self.peek() in ("", "}", ":"):
            raise ExpandError("${} names no variable")
        name, form = self.name(), self.next()
        value = self.variables.get(name)
        if form == "}":
            return value or ""
        if form == "/":
            return self.replaced(value or "")
        if form in ("#", "%"):
            return _trimmed(value or "", self.until("}", raw=True), form)
        absent = value is None
        if form == ":":
            form = self.next()
            absent = not value
        if form not in ("-", "+", "?"):
            raise ExpandError(f"there is no form {form!r} in ${{{name}…}}" if form else "a } is missing")
        word = self.until("}")
        if form == "-":
            return word if absent else value or ""
        if form == "+":
            return "" if absent else word
        if absent:
            raise ExpandError(f"{name}: {word or 'is not set'}")
        return value or ""

    def replaced(self, value: str) -> str:
        every = self.peek() == "/"
        self.at += every
        pattern = _pattern(self.until("/", raw=True), greedy=True)
        replacement = self.until("}", raw=True)
        return re.sub(pattern, lambda _: replacement, value, count=0 if every else 1)


def _trimmed(value: str, word: str, form: str) -> str:
    """`#` and `%` cut the shortest match at the beginning or the end, doubled the longest."""
    longest = word.startswith(form)
    pattern = _pattern(word.removeprefix(form), greedy=longest)
    if form == "#":
        match = re.match(pattern, value, re.DOTALL)
        return value[match.end() :] if match else value
    starts = range(len(value) + 1) if longest else range(len(value), -1, -1)
    whole = re.compile(pattern, re.DOTALL)
    return next((value[:start] for start in starts if whole.fullmatch(value, start)), value)


def _pattern(text: str, *, greedy: bool) -> str:
    out, at = "", 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            at += 1
            out += re.escape(text[at])
        elif char in "*?":
            out += (".*" if greedy else ".*?") if char == "*" else "."
        else:
            out += re.escape(char)
        at += 1
    return out
