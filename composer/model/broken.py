"""What is no YAML, in the words of people who write stack files. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml


class _Words(NamedTuple):
    """For what the parser says of what it is in, and of what is wrong there (parts of its sentences).

    `begun`: our words for that, when the place to look at is where what it is in began.
    """

    context: str
    problem: str
    hint: str | None
    begun: str = ""


_TABS = "indent with spaces, not with tabs"
_ABOVE = "check the indentation of this line against the lines above it"
_OPEN = "the bracket of line {line} is still open here; in brackets a text with , : or a bracket needs quotes"
_QUOTE = "the quote that begins here never ends"
_COLON = "check the indentation, or quote a value that contains ': '"
_SPACES = "write a space after each : and -, and check the indentation"
_WORDS = (
    _Words("", "tab character", _TABS),
    _Words("", "cannot start any token", "a value that starts with @, ` or % needs quotes"),
    _Words("quoted scalar", "end of stream", None, _QUOTE),
    _Words("quoted scalar", "document", None, _QUOTE),
    _Words("simple key", "", _SPACES, "this is no `key: value`"),
    _Words("flow", "',' or", _OPEN),
    _Words("", "mapping values are not allowed", _COLON),
    _Words("", "expected key", _ABOVE),
    _Words("", "block end", _ABOVE),
    _Words("", "block mapping", _ABOVE),
)  # fmt: skip


def explained(text: str, error: yaml.MarkedYAMLError) -> tuple[str, Any, str | None]:
    """The sentence, the mark of the place, and what to do about it."""
    context, problem = error.context or "", error.problem or error.context or ""
    begun, mark = error.context_mark, error.problem_mark or error.context_mark
    fitting = (words for words in _WORDS if words.context in context and words.problem in problem)
    words = next(fitting, _Words("", "", None))
    if words.begun and begun:
        return f"not valid YAML: {words.begun}", begun, words.hint
    lines = text.split("\n")
    tab = mark and mark.line < len(lines) and lines[mark.line][mark.column :].startswith("\t")
    hint = _TABS if tab else words.hint
    return (
        f"not valid YAML: {problem}",
        mark,
        hint.replace("{line}", str(begun.line + 1)) if hint and begun else hint,
    )
