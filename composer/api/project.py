"""The stack files of this command: found, loaded, and remembered while nothing they depend on has changed.

Loading notes every file it looks at, also those that are absent. The result is kept on disk with these notes,
under a key of everything else it depends on; the next command that finds all of it unchanged takes it from
there and imports neither YAML nor the schema. The only edge between the pure model and the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer import __version__
from composer.disk import read_json, write_json
from composer.errors import Complaint, Place
from composer.paths import Paths

if TYPE_CHECKING:
    from composer.model.discover import Found
    from composer.model.load import Loaded, Request
    from composer.model.stack import Stack

Stamp = list[int] | None
VOLATILE = frozenset(("_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES", "RANDOM"))
"""Variables that differ from command to command. A stack file that uses one is loaded anew each time."""
MOST_KEPT = 50
FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""Of a stack, as `normal_name` leaves it: folders are called by it."""
INPUT_OPTIONS = ("file", "project_name", "project_directory", "profile", "env_file", "all_resources", "named")


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

    def change(self, change: Callable[[Any], Any]) -> None:
        """Have the stack as `change` makes it of its JSON form."""
        self.kept = {**self.kept, "stack": change(self.stack_data)}
        self.digest = hashlib.sha256(json.dumps(self.stack_data, sort_keys=True).encode()).hexdigest()
        self.__dict__.pop("stack", None)

    @property
    def files(self) -> Mapping[str, Stamp]:
        """Every file that was asked for, with what it was like; None for one that is not there."""
        files: dict[str, Stamp] = self.kept["files"]
        return files

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


def stamp(path: str) -> Stamp:
    """What changes when a file changes; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def code_stamp() -> int:
    """Changes when the loader's own code does, as it may under a developer's hands."""
    folder = Path(__file__).parents[1] / "model"
    return max(os.stat(entry).st_mtime_ns for entry in os.scandir(folder) if entry.name.endswith(".py"))


def given_name(options: Mapping[str, Any], environment: Mapping[str, str]) -> str | None:
    """The stack's name when it is said outside of the files. Raises StackFileError for what cannot be one."""
    name = options.get("project_name") or environment.get("COMPOSE_PROJECT_NAME") or None
    if name and not NAME.fullmatch(name):
        from composer.model.load import no_name

        raise no_name(name)
    return name


def likely_name(options: Mapping[str, Any], environment: Mapping[str, str]) -> str | None:
    """The stack's name at a glance: said outside, else by the first file's `name:`, else by its folder.

    Right nearly always, and only used to start early what would be started anyway.
    """
    given = given_name(options, environment)
    if given:
        return given
    files = options.get("file") or environment.get("COMPOSE_FILE", "").split(":")[:1]
    folder = Path(options.get("project_directory") or ".").absolute()
    candidates = [Path(files[0])] if files and files[0] else [folder / name for name in FILE_NAMES]
    for path in candidates:
        try:
            text = path.read_bytes()
        except OSError:
            continue
        found = re.search(rb"^name:[ \t]*([a-z0-9][a-z0-9_-]*)[ \t]*$", text, re.MULTILINE)
        if found:
            return found[1].decode()
        home = folder if options.get("project_directory") else path.absolute().parent
        return re.sub(r"[^a-z0-9_-]", "", home.name.lower()).lstrip("_-") or None
    return None


def load_project(options: Mapping[str, Any], environment: Mapping[str, str], paths: Paths) -> Project:
    """The stack of this command. Raises StackFileError."""
    files = DiskFiles()

    def fresh() -> Loaded:
        return load_files(options, environment, files)

    place = paths.cache / "projects" / f"{key_of(options, environment)}.json"
    kept = read_kept(place)
    if kept is not None:
        return Project(kept, None, fresh)
    loaded = fresh()
    kept = keepable(loaded, files)
    used = {use.name for use in loaded.variables}
    if "-" not in (options.get("file") or ()) and not used & VOLATILE:
        remember(place, kept)
    return Project(kept, loaded, fresh)


def key_of(options: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Everything but files that a load depends on: folder, options, environment, and our own version."""
    inputs = {name: options.get(name) for name in INPUT_OPTIONS}
    variables = {name: value for name, value in environment.items() if name not in VOLATILE}
    text = json.dumps([__version__, code_stamp(), os.getcwd(), inputs, variables], sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


def read_kept(place: Path) -> dict[str, Any] | None:
    """The remembered result, when every file that it came from is as it was."""
    try:
        kept = read_json(place)
    except ValueError:
        return None
    if kept is None or any(stamp(path) != was for path, was in kept["files"].items()):
        return None
    result: dict[str, Any] = kept
    return result


def keepable(loaded: Loaded, files: DiskFiles) -> dict[str, Any]:
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
    }


def remember(place: Path, kept: dict[str, Any]) -> None:
    """Keep a result for the next command; a full or read-only disk only makes that one slower."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        others = sorted(place.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in others[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
        write_json(place, kept, mode=0o600, durable=False)
    except OSError:
        return


def find(options: Mapping[str, Any], environment: Mapping[str, str], files: DiskFiles) -> Found:
    """The stack files that the options, the environment and the folder name. Raises StackFileError."""
    from composer.model.discover import discover

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
    request = found.request.replace(
        all_resources=bool(options.get("all_resources")), named=tuple(options.get("named") or ())
    )
    return found.replace(request=request)


def load_files(options: Mapping[str, Any], environment: Mapping[str, str], files: DiskFiles) -> Loaded:
    from composer.model.load import load

    found = find(options, environment, files)
    loaded = load(found.request, files, stdin_of(found.request, options.get("text")))
    return loaded.replace(warnings=(*found.warnings, *loaded.warnings))


def stdin_of(request: Request, text: bytes | None = None) -> bytes | None:
    """What `-` among the files stands for: `text` if there is one, else standard input."""
    if "-" not in request.files:
        return None
    return sys.stdin.buffer.read() if text is None else text
