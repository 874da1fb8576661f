"""docs/compose-support.md, made from the schema, the table of fields, and the corpus of stack files.

python -m tests.model.support            write it
python -m tests.model.support --missing  keys that no stack file of the corpus shows
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from composer.errors import ComposerError
from composer.model import fields, own_keys, schema
from composer.model.load import load
from composer.model.schema import Rule
from composer.model.tree import Source
from tests.model import differential
from tests.model.differential import Case, Disk

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "compose-support.md"
CORPUS = Path(__file__).parent / "corpus"

Key = tuple[str, ...]

# Keys that are used up while files are read, so the table of fields does not have them.
READING: dict[Key, tuple[str, str]] = {
    ("version",): ("warned", "obsolete"),
    ("include",): ("acts", ""),
    ("include", "*"): ("acts", ""),
    ("include", "*", "path"): ("acts", ""),
    ("include", "*", "env_file"): ("acts", ""),
    ("include", "*", "project_directory"): ("acts", ""),
    **{(one, "*", "external", "name"): ("acts", "") for one in ("networks", "volumes", "secrets", "configs")},
}
OWN = {key.path: key for key in own_keys.KEYS}
# Parts of values: the key above them says all.
VALUES = ({"extra_hosts", "*"}, {"provider", "options", "*"})


class Row(NamedTuple):
    key: Key
    support: str
    change: str
    about: str
    why: str


def keys(rule: Rule, path: Key = ()) -> Iterator[tuple[Key, Rule]]:
    """Every key that the schema knows, `*` for names and items, in its order."""
    for name in rule.properties:
        below = rule.of(name)
        assert below is not None
        yield (*path, name), below
        yield from keys(below, (*path, name))
    open_ones = [one for pattern, one in rule.patterns if pattern.pattern != "^x-"]
    if rule.others is not None and "additionalProperties" in rule.spec:
        open_ones.append(rule.others)
    if "items" in rule.spec:
        open_ones.append(rule.items)
    for one in open_ones:
        if one.properties or one.branches:
            yield (*path, "*"), one
            yield from keys(one, (*path, "*"))
    for branch in rule.branches:
        yield from keys(branch, path)


def is_value(key: Key) -> bool:
    return any(part <= set(key) and key[-1] == "*" and key[-2] in part for part in VALUES)


@cache
def rows() -> list[Row]:
    """One row per key of the schema. KeyError: the table of fields lacks it.

    What is said of a key holds for all below it that say nothing else.
    """
    table = {field.path: field for field in fields.FIELDS}
    found: dict[Key, Row] = {}
    for key, rule in keys(schema.rules()):
        if key in found or is_value(key) or (key[0] == "jobs" and len(key) > 1):
            continue
        about = str(rule.spec.get("description", ""))
        if key in READING:
            support, why = READING[key]
            found[key] = Row(key, support, "", about, why)
        else:
            above = [table[key], *(table[key[:n]] for n in range(len(key) - 1, 0, -1) if key[:n] in table)]
            reason = next((one for one in above if one.why), above[0])
            change = next((one.change for one in above if one.change != "recreate"), "recreate")
            found[key] = Row(key, reason.support, change, about, reason.why)
    return list(found.values())


@cache
def shown() -> dict[Key, list[str]]:
    """For every key the files of the corpus that use it, as written or in the result."""
    found: dict[Key, list[str]] = {}
    for kind in ("valid", "refused"):
        for case in differential.cases(CORPUS / kind):
            name = str(case.file.relative_to(ROOT))
            for key in uses(case):
                found.setdefault(key, []).append(name)
    return found


def uses(case: Case) -> set[Key]:
    found: set[Key] = set()
    try:
        for document in Source(str(case.file), case.file.read_bytes()).documents:
            walk(document.data, schema.rules(), (), found)
        config = load(differential.request(case, {"HOME": "/home/user"}), Disk()).config
        walk(config, schema.rules(), (), found)
    except ComposerError:
        pass
    return found


def walk(value: Any, rule: Rule, path: Key, found: set[Key]) -> None:
    """The keys, in the schema's sense, that a tree uses."""
    for branch in rule.branches:
        walk(value, branch, path, found)
    entries: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        entries = list(value.items())
        found.update((*path, key) for key in value if (*path, key) in OWN)
    elif isinstance(value, list) and "items" in rule.spec:
        found.add((*path, "*"))
        for item in value:
            walk(item, rule.items, (*path, "*"), found)
    for key, item in entries:
        below = rule.of(key)
        if below is not None and not key.startswith("x-"):
            part = key if key in rule.properties else "*"
            found.add((*path, part))
            walk(item, below, (*path, part), found)


TITLES = {
    "": "The file",
    "services": "Services",
    "jobs": "Jobs",
    "networks": "Networks",
    "volumes": "Volumes",
    "secrets": "Secrets",
    "configs": "Configs",
    "models": "Models",
}
HEAD = """# What of the Compose Specification is supported

Every key of `schemas/compose.json`. Written by `python -m tests.model.support`; a test fails when a key is
missing or this page is out of date.

* **acts**: it does what the specification says. **warned**: it is accepted and has no effect here; `up` and
  `config` say so once. **refused**: a file with it is not accepted.
* *Change* is what an edit of a running stack leads to: `nothing`, `live` (applied to the running container),
  `restart`, `recreate` (a new container).
* *Shown by* is a stack file of the tests that uses the key: how it is read and printed is held against Docker
  Compose's answer.
* `*` stands for a name or an item of a list. Keys that start with `x-` are allowed, and kept, in mappings
  with fixed keys; those that mean something here are at the end.
* A step of `pre_start` takes every key of a container; those rows are not repeated here.
"""


def page() -> str:
    lines = [HEAD]
    told = [row for row in rows() if not in_step(row.key)]
    counts = {word: sum(row.support == word for row in told) for word in ("acts", "warned", "refused")}
    lines.append(", ".join(f"{count} {word}" for word, count in counts.items()) + ".")
    for section, title in TITLES.items():
        part = [row for row in told if (row.key[0] if row.key[0] in TITLES else "") == section]
        lines += [
            "",
            f"## {title}",
            "",
            "| Key | Support | Change | What it is | Shown by |",
            "|---|---|---|---|---|",
        ]
        lines += [line(row) for row in part]
    lines += [OWN_HEAD, *(own_line(key) for key in own_keys.KEYS)]
    return "\n".join(lines) + "\n"


OWN_HEAD = """
## Our own keys

Docker Compose takes these for extensions and ignores them; [differences.md](differences.md) tells more.

| Key | Values | Change | What it does | Shown by |
|---|---|---|---|---|"""


def own_line(key: own_keys.OwnKey) -> str:
    cells = (f"`{'.'.join(key.path)}`", key.values, key.change, key.doc, link(key.path))
    return f"| {' | '.join(cells)} |"


def in_step(key: Key) -> bool:
    return key[:4] == ("services", "*", "pre_start", "*") and len(key) > 4 and key[4] != "per_replica"


def line(row: Row) -> str:
    support = f"{row.support}: {row.why}" if row.why else row.support
    cells = (f"`{'.'.join(row.key)}`", support, row.change, row.about.replace("|", "\\|"), link(row.key))
    return f"| {' | '.join(cells)} |"


def link(key: Key) -> str:
    files = shown().get(key)
    return f"[{short(files[0])}](../{files[0]})" if files else ""


def short(file: str) -> str:
    path = Path(file)
    return path.parent.name if path.stem == "compose" else path.stem


def main() -> None:
    if "--missing" in sys.argv:
        print(*(".".join(row.key) for row in rows() if row.key not in shown()), sep="\n")
    else:
        FILE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
