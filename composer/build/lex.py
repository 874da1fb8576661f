"""A Dockerfile's text as logical lines: directives, comments, continuations, heredocs. Pure.

https://docs.docker.com/reference/dockerfile/; where that is silent, what BuildKit's parser does.
"""

from __future__ import annotations

import re

from composer.build.faults import fault
from composer.errors import Place
from composer.value import Value

LARGEST = 4 * 1024 * 1024  # bytes of one Dockerfile
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]*)$")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
_SPACE = " \t\v\f\r"


class Heredoc(Value):
    """`text` is as it stands in the file; `chomp` (<<-) takes its leading tabs; `expand`: names no quotes."""

    name: str
    text: str = ""
    expand: bool = True
    chomp: bool = False

    @property
    def content(self) -> str:
        return re.sub(r"(?m)^\t+", "", self.text) if self.chomp else self.text


class Line(Value):
    """One logical line: `number` is where it begins, counted from 1.

    `comments` are those right above it, without their `#`. `gap`: there is an empty line in it.
    """

    text: str
    number: int
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    gap: bool = False


class Source(Value):
    """A Dockerfile in lines. `escape` is the character that continues lines and takes away meaning."""

    file: str
    lines: tuple[Line, ...]
    escape: str = "\\"
    syntax: str = ""
    check: str = ""

    def place(self, line: int) -> Place:
        return Place(self.file, line, 1)


def lex(data: bytes, file: str) -> Source:
    """Raises DockerfileError. `file` is only for messages."""
    if len(data) > LARGEST:
        raise fault(Place(file), f"the Dockerfile is larger than {LARGEST >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise fault(Place(file, line, 1), "the Dockerfile is not UTF-8") from error
    physical = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    directives, first = _directives(physical, file)
    escape = directives.get("escape", "\\")
    if escape not in ("\\", "`"):
        raise fault(Place(file, 1, 1), f"escape={escape} is not possible", "it is \\ or `")
    lines = tuple(_Lexer(physical, escape, file, first).run())
    if not lines:
        raise fault(Place(file), "the Dockerfile holds no instruction", "it begins with FROM")
    return Source(file, lines, escape, directives.get("syntax", ""), directives.get("check", ""))


def _directives(physical: list[str], file: str) -> tuple[dict[str, str], int]:
    """`# name=value` at the very top, and how many lines they are; the first line that is none ends them."""
    found: dict[str, str] = {}
    number = 0
    for number, line in enumerate(physical, 1):
        if number == 1 and line.startswith("#!"):
            continue
        match = _DIRECTIVE.match(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            return found, number - 1
        if name in found:
            raise fault(Place(file, number, 1), f"the directive {name} is given twice")
        found[name] = match[2]
    return found, number


class _Lexer:
    def __init__(self, physical: list[str], escape: str, file: str, first: int) -> None:
        self.physical, self.escape, self.file = physical, escape, file
        self.at = first
        self.gap = False
        mark = re.escape(escape)
        self.continued = re.compile(rf"(?:(?<!{mark})|^){mark}[ \t]*$")

    def run(self) -> list[Line]:
        found = []
        comments: list[str] = []
        while self.at < len(self.physical):
            number, said = self.at + 1, self.physical[self.at].strip()
            text = self._logical()
            if text.strip():
                found.append(Line(text, number, self._heredocs(text, number), tuple(comments), self.gap))
            # An empty line, or an empty comment, parts comments from what follows.
            above = not text.strip() and said.startswith("#") and said.strip("# \t")
            comments = [*comments, said[1:].strip()] if above else []
        return found

    def _next(self) -> str:
        self.at += 1
        return self.physical[self.at - 1]

    def _logical(self) -> str:
        """One line with its continuations; comments and empty lines among them vanish."""
        line = self._next().lstrip(_SPACE)
        self.gap = False
        if line.startswith("#"):
            return ""
        text, goes_on = self._cut(line)
        if not text.strip() and not goes_on:
            return ""
        while goes_on and self.at < len(self.physical):
            line = self._next()
            if line.lstrip(_SPACE).startswith("#") or not line.strip():
                self.gap = self.gap or not line.strip()
                continue
            more, goes_on = self._cut(line)
            text += more
        return text

    def _cut(self, line: str) -> tuple[str, bool]:
        match = self.continued.search(line)
        return (line[: match.start()], True) if match else (line, False)

    def _heredocs(self, text: str, number: int) -> tuple[Heredoc, ...]:
        words = split(text, self.escape)
        first = words[1:2] if words[0].upper() == "ONBUILD" else words[:1]
        if "<<" not in text or not first or first[0].upper() not in _WITH_HEREDOCS or _is_list(words):
            return ()
        return tuple(self._heredoc(found, number) for word in words if (found := heredoc(word)))

    def _heredoc(self, begun: Heredoc, number: int) -> Heredoc:
        start = self.at
        while self.at < len(self.physical):
            line = self._next()
            if (line.lstrip("\t") if begun.chomp else line) == begun.name:
                content = "".join(f"{line}\n" for line in self.physical[start : self.at - 1])
                return begun.replace(text=content)
        place = Place(self.file, number, 1)
        raise fault(place, f"the heredoc {begun.name} has no end", f"it ends with a line {begun.name}")


def _is_list(words: list[str]) -> bool:
    """Whether the arguments after the flags are in the form of a list."""
    arguments = [word for word in words[1:] if not word.startswith("--")]
    return bool(arguments) and arguments[0].startswith("[") and arguments[-1].endswith("]")


def heredoc(word: str) -> Heredoc | None:
    """The beginning of a heredoc that a word is: <<EOF, <<-EOF, 3<<"EOF"."""
    match = _HEREDOC.match(word)
    if match is None or not match[3]:
        return None
    name = re.sub(r"""(["'])(.*?)\1""", r"\2", match[3]).replace("\\", "")
    return Heredoc(name, expand=name == match[3], chomp=bool(match[2])) if name else None


def split(text: str, escape: str) -> list[str]:
    """The words of a text, quotes and escapes left in them."""
    words: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char.isspace():
            if word:
                words.append(word)
            word, at = "", at + 1
            continue
        word += char
        at += 1
    return [*words, word] if word else words
