"""What every verb is given: global options, the host's paths, the terminal, the stack when it asks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from composer.paths import Paths, StackPaths

if TYPE_CHECKING:
    from composer.cli.project import Project
    from composer.record import Record


class Context:
    """Lazy: a verb pays only for what it touches."""

    def __init__(self, options: dict[str, Any], named: Sequence[str] = ()) -> None:
        """`named`: the services that the command is about."""
        self.options = options
        self.named = named
        self.paths = Paths.here()
        self.environment = dict(os.environ)

    @cached_property
    def project(self) -> Project:
        """The loaded stack files; services that the command names are active. Raises StackFileError."""
        from composer.cli.project import load_project

        project = load_project(self.options, self.environment, self.paths)
        absent = [name for name in self.named if name not in project.services]
        if not absent:
            return project
        return load_project({**self.options, "named": absent}, self.environment, self.paths)

    @cached_property
    def stack_name(self) -> str:
        """The stack's name; files are read only when neither -p nor the environment says it."""
        from composer.cli.project import given_name

        return given_name(self.options, self.environment) or self.project.name

    @property
    def stack_paths(self) -> StackPaths:
        return self.paths.stack(self.stack_name)

    @cached_property
    def record(self) -> Record:
        """What is known on disk about the stack's containers; empty when it was never up."""
        from composer.record import read_record

        return read_record(self.stack_paths)

    @cached_property
    def colour(self) -> bool:
        """Whether standard output takes colours: --ansi, NO_COLOR (https://no-color.org), a terminal."""
        return wants_colour(self.options.get("ansi", "auto"), self.environment, sys.stdout.isatty())

    def removes_orphans(self, asked: bool) -> bool:
        """--remove-orphans, or Docker Compose's variable for it."""
        return asked or self.environment.get("COMPOSE_REMOVE_ORPHANS", "").lower() in ("1", "true", "yes")

    @property
    def dry_run(self) -> bool:
        return bool(self.options.get("dry_run"))


def wants_colour(ansi: str, environment: dict[str, str], terminal: bool) -> bool:
    if ansi in ("never", "always"):
        return ansi == "always"
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
