"""`.dockerignore` as Docker reads it: the last pattern that matches a path, or a folder above it, decides.

Pure. The patterns are Go's filepath.Match with `**`, not git's: `foo` is only /foo, `**/foo` is any foo.
https://docs.docker.com/build/concepts/context/#dockerignore-files; github.com/moby/patternmatcher is what
decides in doubt.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable

from composer.errors import ImageError

Matches = tuple[bool, ...]
_NEVER: Matches = ()


class Ignore:
    """The rules of one file, in order."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.rules = [_rule(pattern) for pattern in patterns]
        self.negates = any(keep for keep, _, _ in self.rules)

    def match(self, path: str, above: Matches = _NEVER) -> tuple[bool, Matches]:
        """Whether a path (relative, with /) is ignored. `above` is what this gave for its folder."""
        ignored = False
        matched = []
        for number, (keep, match, _) in enumerate(self.rules):
            hit = bool(above and above[number]) or match(path)
            matched.append(hit)
            if hit:
                ignored = not keep
        return ignored, tuple(matched)

    def ignores(self, path: str) -> bool:
        """`match` for a path by itself."""
        above = _NEVER
        ignored = False
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            ignored, above = self.match("/".join(parts[:length]), above)
        return ignored

    def may_keep_below(self, folder: str) -> bool:
        """Whether something in an ignored folder may be wanted all the same: what saves walking it."""
        for keep, _, pattern in self.rules:
            if keep and ("*" in pattern or "?" in pattern or "[" in pattern or "\\" in pattern):
                return True
            if keep and pattern.startswith(f"{folder}/"):
                return True
        return False


def read_ignore(text: str, file: str) -> Ignore:
    """The rules of a .dockerignore. Raises ImageError for a pattern that cannot be."""
    try:
        return Ignore(patterns(text))
    except ValueError as error:
        raise ImageError(f"{file}: {error}") from error


def patterns(text: str) -> Iterable[str]:
    """The lines that are patterns, cleaned, `!` in front where they keep."""
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        keep = pattern.startswith("!")
        if keep:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = _clean(pattern)
            pattern = pattern[1:] if len(pattern) > 1 and pattern.startswith("/") else pattern
        yield f"!{pattern}" if keep else pattern


def _clean(path: str) -> str:
    """Go's filepath.Clean: `//` is `/`, and `..` cannot climb above the root."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


def _rule(text: str) -> tuple[bool, Callable[[str], bool], str]:
    keep = text.startswith("!")
    pattern = text[1:] if keep else text
    if not pattern:
        raise ValueError("an exception (!) without a pattern")
    check_pattern(pattern)
    return keep, _matcher(_clean(pattern)), pattern


def _matcher(pattern: str) -> Callable[[str], bool]:
    """The shapes that need no expression are by far the most frequent."""
    special = re.search(r"[*?\[\]\\]", pattern)
    if not special:
        return lambda path: path == pattern
    if pattern.startswith("**") and not re.search(r"[*?\[\]\\]", pattern[2:]):
        end = pattern[2:]
        return lambda path: path.endswith(end) or (end.startswith("/") and path == end[1:])
    if pattern.endswith("**") and not re.search(r"[*?\[\]\\]", pattern[:-2]):
        start = pattern[:-2]
        return lambda path: path.startswith(start)
    return re.compile(expression(pattern), re.DOTALL).fullmatch  # type: ignore[return-value]


def expression(pattern: str) -> str:
    """A pattern as a regular expression for the whole path."""
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern[at : at + 1] == "*":
            at += 1
            at += pattern[at : at + 1] == "/"
            out += ".*" if at >= len(pattern) else "(?:.*/)?"
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "\\":
            out += re.escape(pattern[at : at + 1] or "\\")
            at += 1
        elif char == "[":
            inside, at = _class(pattern, at)
            out += inside
        else:
            out += re.escape(char)
    return out


def _class(pattern: str, at: int) -> tuple[str, int]:
    """`[a-z]`, `[^a-z]`: the expression, and where it ends."""
    out = "["
    if pattern[at : at + 1] == "^":
        out, at = "[^", at + 1
    first = True
    while pattern[at] != "]" or first:
        first = False
        char = pattern[at]
        if char == "\\":
            at += 1
            char = pattern[at]
            out += re.escape(char)
        else:
            out += char if char == "-" else re.escape(char)
        at += 1
    return out + "]", at + 1


def check_pattern(pattern: str) -> None:
    """Raise ValueError unless Go's filepath.Match accepts it: classes are closed, ranges go upwards."""
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "\\":
            if at >= len(pattern):
                raise ValueError(f"the pattern {pattern!r} ends with a backslash")
            at += 1
        elif char == "[":
            at = _check_class(pattern, at)


def _check_class(pattern: str, at: int) -> int:
    wrong = ValueError(f"the pattern {pattern!r} has a [ that is not well closed")
    at += pattern[at : at + 1] == "^"
    count = 0
    while pattern[at : at + 1] != "]" or count == 0:
        low, at = _member(pattern, at, wrong)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _member(pattern, at + 1, wrong)
        if low > high:
            raise wrong
        count += 1
    return at + 1


def _member(pattern: str, at: int, wrong: ValueError) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if not char or char in "-]":
        raise wrong
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
    if not char or at + 1 >= len(pattern):
        raise wrong
    return char, at + 1
