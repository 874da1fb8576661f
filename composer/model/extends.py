"""`extends`: a service that starts from another one, in this file or another.

(Compose Specification, "Extends".) Paths of another file are relative to that file; variables
are the main stack's.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from composer.errors import Complaint, Place, StackFileError
from composer.model import merge, reader
from composer.model.kinds import Misfit, nearest
from composer.model.origins import Layer, Origins
from composer.model.paths import Base, join, remote
from composer.model.tree import Document, Path, Source
from composer.value import Value

if TYPE_CHECKING:
    from composer.model.reader import Reading


MAX_CHAIN = 100


class _Scope(Value):
    """The services among which a reference is looked up, and what belongs to their file."""

    services: dict[str, Any]
    source: Source
    document: int
    resets: tuple[Path, ...]
    base: Base


def apply(
    reading: Reading,
    tree: dict[str, Any],
    source: Source,
    index: int,
    document: Document,
    environment: Mapping[str, str],
    base: Base,
) -> None:
    services = tree.get("services")
    if not isinstance(services, dict):
        return
    scope = _Scope(services, source, index, document.resets, base)
    for name, service in services.items():
        if isinstance(service, dict) and "extends" in service:
            services[name] = _extended(reading, name, scope, environment, ())


def _wrong(place: Place, path: Path, message: str, hint: str | None = None) -> StackFileError:
    return StackFileError([Complaint(message, place, path, hint)])


def _extended(
    reading: Reading,
    name: str,
    scope: _Scope,
    environment: Mapping[str, str],
    trail: tuple[tuple[str, str], ...],
) -> Any:
    service = scope.services[name]
    if not isinstance(service, dict) or "extends" not in service:
        return service
    path: Path = ("services", name, "extends")
    here = (scope.source.file, name)
    if here in trail:
        chain = " → ".join(f"{n} ({posixpath.basename(f)})" for f, n in (*trail[trail.index(here) :], here))
        raise _wrong(
            scope.source.place(path, scope.document), path, f"the services extend each other: {chain}"
        )
    if len(trail) >= MAX_CHAIN:
        raise _wrong(scope.source.place(path, scope.document), path, "the chain of `extends` is too long")
    extends = service["extends"]
    details = {"service": extends} if isinstance(extends, str) else extends
    if not isinstance(details, dict) or not isinstance(details.get("service"), str):
        raise _wrong(scope.source.place(path, scope.document), path, "needs the name of a `service`")
    other = _scope(reading, details.get("file"), scope, environment, path)
    wanted = details["service"]
    if wanted not in other.services:
        raise _wrong(
            scope.source.place(path, scope.document),
            path,
            f"the service `{wanted}` does not exist in {posixpath.basename(other.source.file)}",
            nearest(wanted, other.services),
        )
    base = _extended(reading, wanted, other, environment, (*trail, here))
    reading.origins.add(Layer(other.source, other.document, ("services", name), ("services", wanted)))
    if base is None:
        return service
    base = reader.copied(base)
    for reset in scope.resets:
        if reset[:2] == ("services", name):
            reader.remove(base, reset[2:])
    own = {key: value for key, value in service.items() if key != "extends"}
    try:
        merged = merge.merge(base, own, reader.rules("services"), ("services", name))
    except Misfit as misfit:
        where: Path = misfit.below
        raise _wrong(scope.source.place(where, scope.document), where, misfit.message) from None
    scope.services[name] = merged
    return merged


def _scope(reading: Reading, file: Any, scope: _Scope, environment: Mapping[str, str], path: Path) -> _Scope:
    if file is None:
        return scope
    if not isinstance(file, str):
        raise _wrong(scope.source.place(path, scope.document), path, "`file` must be text")
    if remote(file):
        raise _wrong(
            scope.source.place(path, scope.document),
            path,
            "remote files cannot be extended; copy the file here",
        )
    full = file if file.startswith("/") else join(scope.base.folder, file)
    if (full, id(environment)) in reading.scopes:
        known: _Scope = reading.scopes[full, id(environment)]
        return known
    source = reading.source(full, lambda: scope.source.place(path, scope.document), path)
    inner = Base(posixpath.dirname(full), scope.base.home)
    tree: dict[str, Any] = {}
    resets: tuple[Path, ...] = ()
    outside, reading.origins = reading.origins, Origins()
    for index, document in enumerate(source.documents):
        over = reader.plain(reading, source, index, document, environment)
        reading.origins.add(Layer(source, index))
        tree = reader.long_form(reading, merge.merge(tree, over, reader.rules()), judged=False)
        resets = document.resets
    reading.raise_if_wrong()
    reading.origins = outside
    reader.full_paths(tree, inner)
    services = tree.get("services")
    if not isinstance(services, dict):
        raise _wrong(scope.source.place(path, scope.document), path, f"{full} has no services")
    found = _Scope(services, source, 0, resets, inner)
    reading.scopes[full, id(environment)] = found
    return found
