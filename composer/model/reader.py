"""One stack file, or several laid over each other, to one merged tree in long form.

The stages per document, in Compose's order: interpolate, cast, include, !reset, extends, merge, judge by the
schema, long form. What is wrong is collected; nothing is read but through `Files`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from composer.errors import Complaint, Place, StackFileError
from composer.model import extends, fields, include, interpolate, merge, schema, suspect
from composer.model.cuts import Cuts
from composer.model.kinds import Misfit
from composer.model.origins import Layer, Origins
from composer.model.paths import Base
from composer.model.tree import Document, Path, Source

MAX_COMPLAINTS = 100
LONGEST_MESSAGE = 400
MAX_INCLUDES = 1000
Where = Callable[[], Place]
Findings = Sequence[tuple[Path, str, str | None]]


class Files(Protocol):
    """The one edge to the disk. FileNotFoundError, IsADirectoryError and PermissionError pass through."""

    def read(self, path: str) -> bytes: ...

    def exists(self, path: str) -> bool: ...


class Switches:
    """Stages that `config` can leave out."""

    __slots__ = ("consistency", "env", "interpolate", "normalize", "paths")

    def __init__(
        self,
        *,
        interpolate: bool = True,
        normalize: bool = True,
        paths: bool = True,
        consistency: bool = True,
        env: bool = True,
    ) -> None:
        self.interpolate, self.normalize, self.paths = interpolate, normalize, paths
        self.consistency, self.env = consistency, env


class Reading:
    """What one load has read and found so far; shared by files, included files and extended services."""

    def __init__(self, files: Files, stdin: bytes | None, switches: Switches, home: str) -> None:
        self.files = files
        self.stdin = stdin
        self.switches = switches
        self.home = home
        self.sources: dict[str, Source] = {}
        self.read_files: dict[str, None] = {}
        self.complaints: list[Complaint] = []
        self.warnings: dict[Complaint, None] = {}
        self.origins = Origins()
        self.cuts = Cuts()
        self.scopes: dict[tuple[str, int], Any] = {}
        self.includes = 0
        self.unset: set[str] = set()
        self.inactive: tuple[str, ...] = ()
        """Services that are in the files, but not of this stack now."""
        self.used: dict[str, tuple[interpolate.Variable, Mapping[str, str]]] = {}

    def bytes(self, path: str, place: Where | None = None, at: Path = ()) -> bytes:
        """The content of a file, that `place` asks for. StackFileError: it cannot be had."""
        try:
            data = self.files.read(path)
        except FileNotFoundError:
            raise _unreadable(path, "no such file", place, at) from None
        except IsADirectoryError:
            raise _unreadable(path, "it is a directory", place, at) from None
        except PermissionError:
            raise _unreadable(path, "permission denied", place, at) from None
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error), place, at) from None
        self.read_files[path] = None
        return data

    def source(self, path: str, place: Where | None = None, at: Path = ()) -> Source:
        """The parsed file that `place` asks for; each file is read once."""
        if path not in self.sources:
            data = self.stdin or b"" if path == "-" else self.bytes(path, place, at)
            self.sources[path] = Source("<stdin>" if path == "-" else path, data)
        return self.sources[path]

    def complain(self, message: str, place: Place | None, path: Path = (), hint: str | None = None) -> None:
        """What is wrong above something that is wrong already is a consequence of it, and not told.

        StackFileError: there are more complaints than anybody would read.
        """
        if len(self.complaints) >= MAX_COMPLAINTS:
            self.complaints.append(Complaint(f"there are more mistakes than these {MAX_COMPLAINTS}"))
            self.raise_if_wrong()
        if any(path and path == other.path[: len(path)] for other in self.complaints):
            return
        if len(message) > LONGEST_MESSAGE:
            message = message[:LONGEST_MESSAGE] + "…"
        self.complaints.append(Complaint(message, place, path, hint))

    def wrong(self, path: Path, message: str, hint: str | None = None) -> None:
        """Complain of what stands at `path` of the tree as it is now."""
        path = self.cuts.told(path)
        self.complain(message, self.origins.place(path), path, hint)

    def warn(
        self, message: str, place: Place | None = None, path: Path = (), hint: str | None = None
    ) -> None:
        self.warnings.setdefault(Complaint(message, place, path, hint, True))

    def raise_if_wrong(self) -> None:
        if self.complaints:
            order = {source.file: index for index, source in enumerate(self.sources.values())}
            unique = dict.fromkeys(self.complaints)
            raise StackFileError(sorted(unique, key=lambda c: _position(c, order)))


def _position(complaint: Complaint, order: dict[str, int]) -> tuple[int, int, int]:
    place = complaint.place
    return (order.get(place.file, len(order)), place.line, place.column) if place else (len(order), 0, 0)


def _unreadable(path: str, why: str, place: Where | None, at: Path) -> StackFileError:
    if place is None:
        return StackFileError([Complaint(f"cannot be read: {why}", Place(path))])
    return StackFileError([Complaint(f"{path} cannot be read: {why}", place(), at)])


def merged(
    reading: Reading,
    paths: tuple[str, ...],
    environment: Mapping[str, str],
    base: Base,
    trail: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The tree of all files (and of all that they include), with paths made full when they are to be.

    `trail` are the files that include this one.
    """
    tree: dict[str, Any] = {}
    for path in paths:
        source = reading.source(path)
        for index, document in enumerate(source.documents):
            tree = _document(reading, tree, source, index, document, environment, base, (*trail, path))
    cut_wrong(reading, tree)
    _transform(reading, tree, "default")
    return tree


def _document(
    reading: Reading,
    tree: dict[str, Any],
    source: Source,
    index: int,
    document: Document,
    environment: Mapping[str, str],
    base: Base,
    trail: tuple[str, ...],
) -> dict[str, Any]:
    over = plain(reading, source, index, document, environment)
    try:
        include.apply(reading, over, environment, base, trail, document.resets)
        for reset in document.resets:
            remove(tree, reset)
        extends.apply(reading, over, source, index, document, environment, base)
        reading.origins.add(Layer(source, index))
        tree = merge.merge(tree, over, _MERGE)
    except Misfit as misfit:
        _complain(reading, misfit, ())
        reading.raise_if_wrong()
    return long_form(reading, tree, judged=True)


def plain(
    reading: Reading, source: Source, index: int, document: Document, environment: Mapping[str, str]
) -> dict[str, Any]:
    """One document with its variables replaced and text cast to numbers and booleans."""
    data = copied(document.data)
    if not isinstance(data, dict):
        what = "is empty" if data is None else "must be a mapping with `services` at the top"
        raise StackFileError([Complaint(f"the file {what}", Place(source.file))])
    _hear_uses(reading, source, index, data, environment)
    if reading.switches.interpolate:

        def unset(path: Path, name: str) -> None:
            if name not in reading.unset:
                reading.unset.add(name)
                message = f"the variable {name} is not set and stands for nothing"
                reading.warn(message, source.place(path, index), path, f"set it, or write ${{{name}:-}}")

        def wrong(path: Path, message: str) -> None:
            reading.complain(message, source.place(path, index), path)

        interpolate.tree(data, environment, unset, wrong)
        fields.walk(data, _CAST, lambda value, field, path: _cast(value, field, path, wrong))
        for path, message, hint in suspect.mount_options(data):
            reading.warn(message, source.place(path, index), path, hint)
    return data


def _hear_uses(
    reading: Reading, source: Source, index: int, data: dict[str, Any], environment: Mapping[str, str]
) -> None:
    left = interpolate.MAX_USES
    for path, _, _, text in interpolate.in_tree(data):
        left -= text.count("$")
        if left < 0:
            message = f"the file uses more than {interpolate.MAX_USES} variables"
            raise StackFileError([Complaint(message, source.place(path, index), path)])
        for variable in interpolate.variables(text):
            reading.used.setdefault(variable.name, (variable, environment))


def _cast(value: Any, field: fields.Field, path: Path, wrong: Callable[[Path, str], None]) -> Any:
    assert field.cast is not None
    try:
        return field.cast(value)
    except Misfit as misfit:
        wrong(path, str(misfit))
        return value


def copied(value: Any) -> Any:
    """A tree that shares nothing with `value`."""
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if type(value) is list else value


def long_form(reading: Reading, tree: dict[str, Any], *, judged: bool) -> dict[str, Any]:
    """Duplicates out, schema, short forms to long ones, duplicates out again: long forms may reveal some."""
    _transform(reading, tree, "unique")
    if judged:
        judge(reading, tree, schema.check(tree))
    _transform(reading, tree, "normal")
    _transform(reading, tree, "unique")
    return tree


def judge(reading: Reading, tree: dict[str, Any], findings: Findings) -> None:
    """Complain of what the schema found, and cut it out."""
    for path, message, hint in findings:
        reading.wrong(path, message, hint)
    if findings:
        cut_wrong(reading, tree)


def cut_wrong(reading: Reading, tree: dict[str, Any]) -> None:
    """Take out whatever has been complained of, so that later stages can look at the rest.

    Of a list that several files write all goes; a whole service or resource stays as an empty one, for others
    may name it. StackFileError: something is wrong with a whole section, or nowhere in particular.
    """
    if any(len(complaint.path) < 2 for complaint in reading.complaints):
        reading.raise_if_wrong()
    for complaint in reading.complaints:
        path = complaint.path
        end = next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))
        alone = end < len(path) and reading.origins.speak(path[:end]) == 1
        if alone and reading.cuts.cut(tree, path[:end], int(path[end])):
            continue
        remove(tree, path[:end])
        if end == 2 and isinstance(section := tree.get(str(path[0])), dict):
            section[str(path[1])] = {}


def _transform(reading: Reading, tree: dict[str, Any], column: str) -> None:
    """Apply one column of the table. With variables in place, text may not be ready to be taken apart."""
    visit = _VISITS[column]

    def guarded(value: Any, field: fields.Field, path: Path) -> Any:
        try:
            return visit(value, field, path)
        except Misfit as misfit:
            if column == "normal" and not reading.switches.interpolate:
                return value
            _complain(reading, misfit, path)
            if column == "unique":  # the schema is to say more of it
                return value
            wrong = {one.below[0] for one in misfit.each if one.below}
            rest = reading.cuts.without(value, path, wrong)
            return guarded(rest, field, path) if wrong and len(rest) < len(value) else value

    fields.walk(tree, _COLUMNS[column], guarded)


def _complain(reading: Reading, misfit: Misfit, path: Path) -> None:
    for one in misfit.each:
        reading.wrong((*path, *one.below), one.message)


def _unique(value: Any, field: fields.Field, path: Path) -> Any:
    return merge.only_last(value, field) if isinstance(value, list) else value


def _normal(value: Any, field: fields.Field, path: Path) -> Any:
    assert field.normal is not None
    return field.normal(value)


def _default(value: Any, field: fields.Field, path: Path) -> Any:
    assert field.default is not None
    return field.default(value)


def full_paths(tree: dict[str, Any], base: Base) -> None:
    """Every relative path below `base`."""

    def visit(value: Any, field: fields.Field, path: Path) -> Any:
        assert field.paths is not None
        return field.paths(value, base)

    fields.walk(tree, _COLUMNS["paths"], visit)


def remove(tree: Any, path: Path) -> None:
    """What a !reset or !override names goes away from what came before."""
    for part in path[:-1]:
        tree = tree.get(part) if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree.pop(path[-1] if path else None, None)


def rules(section: str = "") -> fields.Node:
    """How the entries of a section merge; without one, how whole files do."""
    if not section:
        return _MERGE
    below = _MERGE.children.get(section)
    return below.any if below and below.any else fields.Node()


_MERGE = fields.tree("merge")
_CAST = fields.tree("cast")
_COLUMNS = {column: fields.tree(column) for column in ("unique", "normal", "default", "paths")}
_VISITS = {"unique": _unique, "normal": _normal, "default": _default}
