"""Files to a Stack: the stages, in order. Pure but for `Files`, which is passed in.

`resolve` gives the tree that `config` prints, `load` the typed stack too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from composer.errors import Complaint, Place, StackFileError
from composer.model import (
    advise,
    check,
    env_files,
    fields,
    interpolate,
    normalise,
    output,
    profiles,
    reader,
    suspect,
)  # fmt: skip
from composer.model.builtin import without_builtin
from composer.model.dotenv import parse
from composer.model.kinds import OMIT, Misfit, nearest, raw
from composer.model.paths import Base
from composer.model.reader import Files as Files
from composer.model.reader import Reading, Switches
from composer.model.stack import NOTHING, Stack
from composer.model.tree import Path
from composer.model.typed import typed
from composer.value import Value

_NOT_IN_NAMES = re.compile(r"[^a-z0-9_-]")


class Request(Value):
    """What to load. Paths are absolute; "-" among `files` is the text given as stdin.

    `environment` wins over `env_files`, of which later ones win. `project_name` is from -p or
    COMPOSE_PROJECT_NAME.
    """

    files: tuple[str, ...]
    project_directory: str
    project_name: str | None = None
    profiles: tuple[str, ...] = ()
    environment: Mapping[str, str] = NOTHING
    env_files: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """Only these, and what they depend on; empty: all."""
    named: tuple[str, ...] = ()
    """Services that a command is about: they bring their profiles."""
    all_resources: bool = False
    no_interpolate: bool = False
    no_normalize: bool = False
    no_path_resolution: bool = False
    no_consistency: bool = False
    no_env_resolution: bool = False


class VariableUse(Value):
    """A variable that the files use. `value` None: it has none. `origin`: `environment`, the env file that
    says it, `default` when what the stack file says counts, or "".
    """

    name: str
    value: str | None
    default: str
    alternate: str
    required: bool
    origin: str


class Resolved(Value):
    config: dict[str, Any]
    """What `config` prints."""
    warnings: tuple[Complaint, ...]
    variables: tuple[VariableUse, ...]
    sources: tuple[str, ...]
    """Every file that was read; the same bytes there and the same request give the same answer."""
    environment: Mapping[str, str]
    """The variables that were there for interpolation."""
    name_given: bool
    inactive: tuple[str, ...]
    """Services of profiles that are not active."""


class Loaded(Resolved):
    stack: Stack


def load(request: Request, files: Files, stdin: bytes | None = None) -> Loaded:
    """The stack. StackFileError: with every complaint that one pass can find."""
    resolved = resolve(request, files, stdin)
    return Loaded(**resolved.__dict__, stack=stack_of(request, resolved))


def stack_of(request: Request, resolved: Resolved) -> Stack:
    made = typed(
        resolved.config,
        working_dir=request.project_directory,
        files=request.files,
        name_given=resolved.name_given,
        inactive=resolved.inactive,
        environment=resolved.environment,
    )
    return without_builtin(made)


def resolve(request: Request, files: Files, stdin: bytes | None = None) -> Resolved:
    """The files as one tree. StackFileError: with every complaint that one pass can find."""
    switches = Switches(
        interpolate=not request.no_interpolate,
        normalize=not request.no_normalize,
        paths=not request.no_path_resolution,
        consistency=not request.no_consistency,
        env=not request.no_env_resolution,
    )
    reading = Reading(files, stdin, switches, request.environment.get("HOME", ""))
    if not request.files:
        hint = "go to a folder with a compose.yaml, or name a file with -f"
        raise StackFileError([Complaint("there is no stack file in this folder or above", hint=hint)])
    told_by = env_file_variables(reading, request)
    environment = {**{name: value for name, (value, _) in told_by.items()}, **request.environment}
    name, given = project_name(reading, request, environment)
    environment["COMPOSE_PROJECT_NAME"] = name
    base = Base(request.project_directory, reading.home)
    tree = reader.merged(reading, request.files, environment, base)
    if not tree.keys() - {"version"}:
        raise StackFileError([Complaint("the stack file is empty", Place(request.files[0]))])
    if switches.interpolate:
        config = finish(reading, tree, name, environment, base, request)
    else:
        config = as_written(reading, tree, name, environment, base)
    origins = {name: file for name, (_, file) in told_by.items()} | dict.fromkeys(
        request.environment, "environment"
    )
    return Resolved(
        config,
        tuple(reading.warnings),
        tuple(_variable_uses(reading, origins)),
        tuple(reading.read_files),
        environment,
        given,
        reading.inactive,
    )


def env_file_variables(reading: Reading, request: Request) -> dict[str, tuple[str, str]]:
    """What the env files say, and which of them says it; later files win."""
    found: dict[str, tuple[str, str]] = {}
    for file in request.env_files:
        text = reading.bytes(file).decode("utf-8", "replace")
        before = {name: value for name, (value, _) in found.items()}
        own = parse(text, request.environment.get, file, before.get)
        found |= {key: (value, file) for key, value in own.items() if value is not None}
    return found


def project_name(reading: Reading, request: Request, environment: Mapping[str, str]) -> tuple[str, bool]:
    """The stack's name, and whether somebody chose it (the folder's name is nobody's choice)."""
    if request.project_name:
        if normal_name(request.project_name) != request.project_name:
            raise no_name(request.project_name)
        return request.project_name, True
    told = ""
    for file in request.files:
        source = reading.source(file)
        for index, document in enumerate(source.documents):
            data = document.data
            if isinstance(data, dict) and isinstance(data.get("name"), str) and data["name"]:
                told = _told_name(source.place, data["name"], index, environment, reading)
    name = normal_name(told or posixpath.basename(request.project_directory))
    if not name:
        raise StackFileError(
            [Complaint("the stack has no name", hint="give one with -p, or with `name:` in the file")]
        )
    return name, bool(told)


def no_name(text: str) -> StackFileError:
    hint = "use lower-case letters, digits, - and _, and start with a letter or digit"
    return StackFileError([Complaint(f"`{text}` cannot be the name of a stack", hint=hint)])


def _told_name(place: Any, text: str, document: int, environment: Mapping[str, str], reading: Reading) -> str:
    if not reading.switches.interpolate:
        return text
    try:
        return interpolate.substitute(text, environment.get, lambda _: None)
    except Misfit as misfit:
        raise StackFileError([Complaint(str(misfit), place(("name",), document), ("name",))]) from None


def normal_name(text: str) -> str:
    """`My Project!` is `myproject`."""
    return _NOT_IN_NAMES.sub("", text.lower()).lstrip("_-")


def finish(
    reading: Reading,
    tree: dict[str, Any],
    name: str,
    environment: Mapping[str, str],
    base: Base,
    request: Request,
) -> dict[str, Any]:
    """The merged tree in normal form: names, defaults, full paths; only what is active and used."""
    if reading.switches.paths:
        reader.full_paths(tree, base)
    tree["name"] = name
    if reading.switches.normalize:
        normalise.normalise(tree, name, environment)
    if tree.pop("version", None) is not None:
        reading.warn("`version` is obsolete and has no effect", Place(request.files[0]), ("version",))

    def wrong(path: Path, message: str, hint: str | None = None) -> None:
        reading.wrong(path, message, hint)

    shaped = output.shape(tree, fields.tree(), wrong)
    config: dict[str, Any] = {} if shaped is OMIT else shaped
    config.setdefault("services", {})
    services: dict[str, Any] = config["services"]
    for unknown in (one for one in request.services if one not in services):
        reading.complain(f"there is no service `{unknown}`", None, (), nearest(unknown, services))
    enabled = profiles.active(services, request.profiles, (*request.services, *request.named))
    if reading.switches.consistency:
        for path, message, hint in check.check(config, enabled):
            wrong(path, message, hint)
    keep = (
        profiles.selected({n: services[n] for n in enabled}, request.services)
        if request.services
        else enabled
    )
    reading.inactive = tuple(sorted(services.keys() - keep))
    config["services"] = {key: value for key, value in services.items() if key in keep}
    if request.services:
        _drop_unselected(config["services"])
    env_files.resolve(reading, config["services"], environment)
    reading.raise_if_wrong()
    if not request.all_resources:
        for section, used in profiles.used(config["services"]).items():
            left = {key: value for key, value in config.get(section, {}).items() if key in used}
            config.pop(section, None) if not left else config.update({section: left})
    found: Iterable[check.Finding] = advise.advise(config)
    if reading.switches.interpolate:
        found = chain(found, suspect.suspect(config, environment))
    for path, message, hint in found:
        reading.warn(message, reading.origins.place(path), path, hint)
    return config


def as_written(
    reading: Reading, tree: dict[str, Any], name: str, environment: Mapping[str, str], base: Base
) -> dict[str, Any]:
    """The merged tree with its variables in place, everything that is declared included, keys sorted."""
    if reading.switches.paths:
        reader.full_paths(tree, base)
    if reading.switches.normalize:
        normalise.normalise(tree, name, environment)
    tree.pop("version", None)
    reading.raise_if_wrong()
    config: dict[str, Any] = raw(tree)
    return config


def _drop_unselected(services: dict[str, Any]) -> None:
    """Dependencies on services that were not selected are no dependencies."""
    for service in services.values():
        dependencies = service.get("depends_on")
        if dependencies and not dependencies.keys() <= services.keys():
            service["depends_on"] = {key: value for key, value in dependencies.items() if key in services}
            if not service["depends_on"]:
                del service["depends_on"]


def _variable_uses(reading: Reading, origins: Mapping[str, str]) -> list[VariableUse]:
    uses = []
    for name in sorted(reading.used):
        variable, environment = reading.used[name]
        value = environment.get(name)
        if value is not None:
            origin = origins.get(name, "env file of an included file")
        else:
            origin = "default" if variable.default else ""
        uses.append(VariableUse(name, value, variable.default, variable.alternate, variable.required, origin))
    return uses
