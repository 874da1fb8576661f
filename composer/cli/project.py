"""The stack files of this command: found, loaded, and remembered while nothing they depend on has changed.

Loading notes every file it looks at (also those that are absent) and every variable it asks for. The result
is kept on disk with these notes; the next command that finds all of them unchanged takes it from there and
imports neither YAML nor the schema. The only edge between the pure model and the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer import __version__
from composer.disk import read_json, write_json
from composer.errors import Complaint, Place
from composer.paths import Paths

if TYPE_CHECKING:
    from composer.model.load import Loaded
    from composer.model.stack import Stack

Stamp = list[int] | None
INPUT_OPTIONS = ("file", "project_name", "project_directory", "profile", "env_file", "all_resources")


class Project:
    """A loaded stack. `stack` and `loaded` are made only when someone asks for more than names."""

    def __init__(self, kept: dict[str, Any], loaded: Loaded | None, again: Any) -> None:
        self.kept = kept
        self._loaded = loaded
        self._again = again
        self.name: str = kept["name"]
        self.services: list[str] = kept["services"]
        self.digest: str = kept["digest"]

    @cached_property
    def loaded(self) -> Loaded:
        """Everything the loader knows, positions and `config` output included."""
        loaded: Loaded = self._loaded if self._loaded is not None else self._again()
        return loaded

    @property
    def stack_data(self) -> Any:
        """The stack as plain JSON, ready to be sent."""
        return self.kept["stack"]

    @cached_property
    def stack(self) -> Stack:
        from composer.model.digest import load_stack

        stack: Stack = load_stack(json.dumps(self.stack_data).encode())
        return stack

    @property
    def warnings(self) -> list[Complaint]:
        return [
            Complaint(message, Place(*place) if place else None, tuple(path), hint, True)
            for message, place, path, hint in self.kept["warnings"]
        ]


class DiskFiles:
    """The loader's view of the disk. Remembers what it was asked for."""

    def __init__(self) -> None:
        self.seen: dict[str, Stamp] = {}

    def read(self, path: str) -> bytes:
        self.seen[path] = stamp(path)
        return Path(path).read_bytes()

    def exists(self, path: str) -> bool:
        self.seen[path] = stamp(path)
        return Path(path).exists()


class Variables(Mapping[str, str]):
    """The environment, remembering what it was asked for."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.seen: dict[str, str | None] = {}

    def __getitem__(self, name: str) -> str:
        self.seen[name] = self.environment.get(name)
        return self.environment[name]

    def __iter__(self) -> Iterator[str]:
        self.seen.update(self.environment)
        return iter(self.environment)

    def __len__(self) -> int:
        return len(self.environment)


def stamp(path: str) -> Stamp:
    """What changes when a file changes; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def given_name(options: Mapping[str, Any], environment: Mapping[str, str]) -> str | None:
    """The stack's name when it is said outside of the files."""
    return options.get("project_name") or environment.get("COMPOSE_PROJECT_NAME") or None


def load_project(options: Mapping[str, Any], environment: Mapping[str, str], paths: Paths) -> Project:
    """The stack of this command. Raises StackFileError."""
    variables, files = Variables(environment), DiskFiles()

    def fresh() -> Loaded:
        return load_files(options, variables, files)

    inputs = {name: options.get(name) for name in INPUT_OPTIONS}
    compose = {name: value for name, value in environment.items() if name.startswith("COMPOSE_")}
    key = hashlib.sha256(json.dumps([__version__, os.getcwd(), inputs, compose]).encode()).hexdigest()
    place = paths.cache / "projects" / f"{key[:32]}.json"
    kept = read_kept(place, environment)
    if kept is not None:
        return Project(kept, None, fresh)
    loaded = fresh()
    kept = keepable(loaded, files, variables)
    if "-" not in (options.get("file") or ()):
        remember(place, kept)
    return Project(kept, loaded, fresh)


def read_kept(place: Path, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The remembered result, when every file and variable that it came from is as it was."""
    try:
        kept = read_json(place)
    except ValueError:
        return None
    if kept is None or any(stamp(path) != was for path, was in kept["files"].items()):
        return None
    if any(environment.get(name) != was for name, was in kept["variables"].items()):
        return None
    result: dict[str, Any] = kept
    return result


def keepable(loaded: Loaded, files: DiskFiles, variables: Variables) -> dict[str, Any]:
    from composer.model.digest import dump

    data = dump(loaded.stack)
    return {
        "name": loaded.stack.name,
        "services": list(loaded.stack.services),
        "digest": hashlib.sha256(data).hexdigest(),
        "stack": json.loads(data),
        "warnings": [
            [w.message, [w.place.file, w.place.line, w.place.column] if w.place else None, w.path, w.hint]
            for w in loaded.warnings
        ],
        "files": files.seen,
        "variables": variables.seen,
    }


def remember(place: Path, kept: dict[str, Any]) -> None:
    """Keep a result for the next command; a full or read-only disk only makes that one slower."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, kept, mode=0o600, durable=False)
    except OSError:
        return


def load_files(options: Mapping[str, Any], environment: Mapping[str, str], files: DiskFiles) -> Loaded:
    from composer.model.discover import discover
    from composer.model.load import load

    found = discover(
        files,
        os.getcwd(),
        environment,
        file=options.get("file") or (),
        project_directory=options.get("project_directory"),
        project_name=options.get("project_name"),
        profile=options.get("profile") or (),
        env_file=options.get("env_file") or (),
    )
    request = found.request.replace(all_resources=bool(options.get("all_resources")))
    stdin = sys.stdin.buffer.read() if "-" in request.files else None
    loaded = load(request, files, stdin)
    return loaded.replace(warnings=(*found.warnings, *loaded.warnings))
