"""The reference part of docs/commands.md, from the tables: `python -m composer.cli.manual FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from composer.cli.app import ROOT_FLAGS, table
from composer.cli.grammar import Flag, Positional, Verb
from composer.cli.verbs import GROUPS, VERBS

MARK = "<!-- From here on made by composer.cli.manual from the tables of the commands. -->\n"


def reference() -> str:
    """Every command with its flags and examples, in the order of the help."""
    parts = ["## Global flags\n\nThey come before the command.\n\n", *flags(ROOT_FLAGS)]
    panel = ""
    for path, entry in VERBS.items():
        if entry.hidden:
            continue
        title = entry.panel or f"`composer {path[0]}`: {GROUPS.get(path[0], '')}"
        if title != panel:
            parts.append(f"\n## {title}\n")
            panel = title
        parts += command(path, table(entry), entry.summary)
    return "".join(parts)


def command(path: tuple[str, ...], verb: Verb, summary: str) -> Iterator[str]:
    told = any(not flag.hidden for flag in verb.flags)
    line = " ".join(["composer", *path, *(["[FLAGS]"] if told else []), *map(word, verb.positionals)])
    yield f"\n### {' '.join(path)}\n\n{summary}.\n\n    {line}\n"
    if told:
        yield "\n"
        yield from flags(verb.flags)
    if verb.examples:
        yield "\nExamples:\n\n"
        prefix = " ".join(["composer", *path[:-1]])
        yield from (f"    {prefix} {line}    # {text}\n" for line, text in examples(verb))


def examples(verb: Verb) -> list[tuple[str, str]]:
    size = max(len(line) for line, _ in verb.examples)
    return [(line.ljust(size), text) for line, text in verb.examples]


def word(positional: Positional) -> str:
    text = positional.name + ("..." if positional.many else "")
    return text if positional.required else f"[{text}]"


def flags(every: Sequence[Flag]) -> Iterator[str]:
    yield "| flag | |\n|---|---|\n"
    for flag in every:
        if flag.hidden:
            continue
        names = f"`-{flag.short}`, `--{flag.name}`" if flag.short else f"`--{flag.name}`"
        value = "" if flag.kind == "bool" else f" {flag.metavar or flag.key.upper()}"
        words = [text for text in flag.choices if text]
        chosen = f" ({', '.join(words)})" if words else ""
        initial = f"; otherwise `{flag.initial}`" if flag.initial and flag.kind != "bool" else ""
        on = "; on unless `=false`" if flag.kind == "bool" and flag.initial else ""
        text = f"{flag.help}{chosen}{initial}{on}".replace("|", "\\|")
        yield f"| {names}{value} | {text} |\n"


def main() -> None:
    """Replace what stands below the mark of the file that is named."""
    path = Path(sys.argv[1])
    head, mark, _ = path.read_text().partition(MARK)
    path.write_text(f"{head}{mark}\n{reference()}")


if __name__ == "__main__":
    main()
