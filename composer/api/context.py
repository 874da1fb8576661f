"""What a command or call is about: options, the host's paths, the stack's files, its record."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from composer.disk import is_locked
from composer.errors import ConflictError, NotFoundError
from composer.paths import Paths, StackPaths

if TYPE_CHECKING:
    from composer.api.project import Project
    from composer.record import Record


class Context:
    """Lazy: whoever asks pays only for what it touches. `options` are the command line's global options."""

    def __init__(
        self,
        options: dict[str, Any],
        named: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`named`: the services that the command is about. `environment`: instead of this process's."""
        self.options = options
        self.named = named
        self.paths = Paths.here()
        self.environment = dict(os.environ if environment is None else environment)

    def anew(self) -> Self:
        """The same question, asked again."""
        return type(self)(self.options, self.named, self.environment)

    @cached_property
    def project(self) -> Project:
        """The loaded stack files; services that the command names are active. Raises StackFileError."""
        from composer.api.project import load_project

        project = load_project(self.options, self.environment, self.paths)
        absent = [name for name in self.named if name not in project.services]
        if not absent:
            return project
        return load_project({**self.options, "named": absent}, self.environment, self.paths)

    @cached_property
    def stack_name(self) -> str:
        """The stack's name; files are read only when neither -p nor the environment says it."""
        from composer.api.project import given_name

        return given_name(self.options, self.environment) or self.project.name

    @property
    def stack_paths(self) -> StackPaths:
        return self.paths.stack(self.stack_name)

    @cached_property
    def record(self) -> Record:
        """What is known on disk about the stack's containers; empty when it was never up."""
        from composer.record import read_record

        return read_record(self.stack_paths)

    def again(self) -> Record:
        """The record as it is by now."""
        self.__dict__.pop("record", None)
        return self.record

    def exists(self) -> bool:
        """Whether the stack has anything on this host but volumes."""
        from composer.record import stored_record

        paths = self.stack_paths
        return stored_record(paths) is not None or paths.desired.exists() or is_locked(paths.life)

    def check_identity(self) -> None:
        """Refuse to change a stack of another project directory whose name is only the folder's.

        Raises ConflictError. A name that was given on purpose is taken at its word.
        """
        from composer.record import stored_record

        project = self.project
        record = stored_record(self.paths.stack(project.name))
        if record is None or not record["working_dir"] or project.stack_data.get("name_given"):
            return
        mine = project.stack_data.get("working_dir", "")
        if record["containers"] and os.path.realpath(record["working_dir"]) != os.path.realpath(mine):
            raise ConflictError(
                f"a stack named {project.name} is already here, from {record['working_dir']}",
                hint="choose a name for one of them: `-p NAME`, COMPOSE_PROJECT_NAME, or `name:` in the file",
            )

    def check_services(self, services: Iterable[str]) -> None:
        """Raises NotFoundError for a service that the files do not have."""
        known = self.project.services
        for name in services:
            if name not in known:
                import difflib

                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                raise NotFoundError(f"no such service: {name}", hint=hint)
