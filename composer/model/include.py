"""`include`: other stack files taken in whole, with their own folder and their own variables.

(Compose Specification, "Include".) A resource that both define is merged, the including file on top.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer.errors import Complaint, Place, StackFileError
from composer.model import merge, reader
from composer.model.dotenv import parse
from composer.model.paths import Base, join, remote
from composer.model.tree import Path

if TYPE_CHECKING:
    from composer.model.reader import Reading

_SECTIONS = ("services", "volumes", "networks", "secrets", "configs", "models")


def apply(
    reading: Reading,
    tree: dict[str, Any],
    environment: Mapping[str, str],
    base: Base,
    trail: tuple[str, ...],
    resets: tuple[Path, ...],
) -> None:
    """Take in everything that `tree` includes, but for what it `resets`.

    `trail` ends with the file that `tree` came from.
    """
    entries = tree.pop("include", None)
    if entries is None:
        return
    source = reading.source(trail[-1])
    if not isinstance(entries, list):
        raise _wrong(source.place(("include",)), "must be a list of files")
    for index, entry in enumerate(entries):
        place = source.place(("include", index))
        taken = _included(reading, entry, place, environment, base, trail)
        for reset in resets:
            reader.remove(taken, reset)
        for section in _SECTIONS:
            _take_in(tree, taken.get(section), section)


def _take_in(tree: dict[str, Any], taken: Any, section: str) -> None:
    if not taken:
        return
    own = tree.get(section) or {}
    for name, value in taken.items():
        if name in own and own[name] == value:
            continue
        if name in own:
            value = merge.merge(value, own[name], reader.rules(section), (section, name))
        own[name] = value
    tree[section] = own


def _wrong(place: Place, message: str) -> StackFileError:
    return StackFileError([Complaint(message, place, ("include",))])


def _many(value: Any, place: Place) -> list[str]:
    """One path or several."""
    many = [value] if isinstance(value, str) else value
    if not isinstance(many, list) or not all(isinstance(one, str) and one for one in many):
        raise _wrong(place, "takes a path or a list of paths")
    return many


def _included(
    reading: Reading,
    entry: Any,
    place: Place,
    environment: Mapping[str, str],
    base: Base,
    trail: tuple[str, ...],
) -> dict[str, Any]:
    if entry is None or entry == {"path": None}:
        reading.warn("an entry names no file", place, ("include",))
        return {}
    details = {"path": entry} if isinstance(entry, str) else entry
    if not isinstance(details, dict) or not details.get("path"):
        raise _wrong(place, "needs a `path`")
    told = _many(details["path"], place)
    paths = [path if path.startswith("/") else join(base.folder, path) for path in told]
    if any(map(remote, told)):
        raise _wrong(place, "remote files cannot be included; copy the file next to this one")
    if paths[0] in trail:
        chain = " → ".join((*trail[trail.index(paths[0]) :], paths[0]))
        raise _wrong(place, f"the files include each other: {chain}")
    reading.includes += 1
    if reading.includes > reader.MAX_INCLUDES:
        raise _wrong(place, f"more than {reader.MAX_INCLUDES} files are included")
    for path in paths:
        reading.source(path, lambda: place, ("include",))
    folder = details.get("project_directory") or posixpath.dirname(paths[0])
    if not isinstance(folder, str):
        raise _wrong(place, "`project_directory` must be text")
    folder = folder if folder.startswith("/") else join(base.folder, folder)
    variables = _variables(reading, details, folder, environment, base, place)
    inner = Base(folder, base.home)
    tree = reader.merged(reading, tuple(paths), variables, inner, trail)
    reader.full_paths(tree, inner)
    return tree


def _variables(
    reading: Reading,
    details: dict[str, Any],
    folder: str,
    environment: Mapping[str, str],
    base: Base,
    place: Place,
) -> dict[str, str]:
    """The including file's variables win over those of the included file's own .env or env_file."""
    if details.get("env_file"):
        names = [name for name in _many(details["env_file"], place) if name != "/dev/null"]
        files = [name if name.startswith("/") else join(base.folder, name) for name in names]
    else:
        own = join(folder, ".env")
        files = [own] if reading.files.exists(own) else []
    found: dict[str, str] = {}
    for file in files:
        if not reading.files.exists(file):
            raise _wrong(place, f"the env_file {file} does not exist")
        text = reading.bytes(file).decode("utf-8", "replace")
        told = parse(text, environment.get, file, dict(found).get)
        found |= {key: value for key, value in told.items() if value is not None}
    return {**found, **environment}
