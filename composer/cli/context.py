"""What every verb is given: what the command is about, and what only a command line has."""

from __future__ import annotations

import sys
from functools import cached_property

from composer.api import context


class Context(context.Context):
    """Lazy: a verb pays only for what it touches."""

    @cached_property
    def colour(self) -> bool:
        """Whether standard output takes colours: --ansi, NO_COLOR (https://no-color.org), a terminal."""
        return wants_colour(self.options.get("ansi", "auto"), self.environment, sys.stdout.isatty())

    def removes_orphans(self, asked: bool) -> bool:
        """--remove-orphans, or Docker Compose's variable for it."""
        return asked or self.says_yes("COMPOSE_REMOVE_ORPHANS")

    def says_yes(self, variable: str) -> bool:
        return self.environment.get(variable, "").lower() in ("1", "true", "yes")

    def tell_orphans(self) -> None:
        """Containers of services that the files do not have, unless COMPOSE_IGNORE_ORPHANS."""
        if self.says_yes("COMPOSE_IGNORE_ORPHANS"):
            return
        known = {*self.project.services, *self.project.stack_data.get("inactive", ())}
        rows = self.record["containers"]
        found = [row["name"] for row in rows if row["service"] not in known and not row["oneoff"]]
        if found:
            from composer.cli.render.complaint import show_remedy

            names = ", ".join(found)
            print(f"warning: orphan containers: {names}: no file has their services", file=sys.stderr)
            show_remedy("`--remove-orphans` removes them; COMPOSE_IGNORE_ORPHANS=1 is silent")

    @property
    def dry_run(self) -> bool:
        return bool(self.options.get("dry_run"))


def wants_colour(ansi: str, environment: dict[str, str], terminal: bool) -> bool:
    if ansi in ("never", "always"):
        return ansi == "always"
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
