"""What an attached `up` shows: which containers' output, from when on, under which labels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from composer.cli.context import Context
from composer.cli.logs import write
from composer.cli.render.prefix import prefixes
from composer.logs import Source, follow

LAST_LINES, LAST_LINES_OF_ALL = 30, 5
"""Lines of a container that are shown again when one service was chosen, or all are again."""


class Output:
    """Of one attached `up`, from this moment on."""

    def __init__(self, context: Context, services: Sequence[str], flags: dict[str, Any]) -> None:
        self.context, self.flags = context, flags
        self.services = shown_services(context, services, flags)
        self.begun = time.time_ns()
        self.only = ""
        """The one service whose output is shown; "" for all."""

    def follow(self, stop: int, *, again: bool) -> Iterator[bytes]:
        """From the beginning, or `again` from the last lines on; until `stop` is readable."""
        tail = (LAST_LINES if self.only else LAST_LINES_OF_ALL) if again else None
        logs = self.context.stack_paths.logs
        logs.mkdir(parents=True, exist_ok=True)
        timestamps = self.flags["timestamps"]
        return follow(logs, self.sources, stop, since_ns=self.begun, tail=tail, timestamps=timestamps)

    def sources(self) -> list[Source]:
        stack = self.context.stack_name
        names = [
            path.name.removesuffix(".log") for path in sorted(self.context.stack_paths.logs.glob("*.log"))
        ]
        services = {f"{stack}-{service}": service for service in self.services}
        chosen = [name for name in names if name.rpartition("-")[0] in services or name in self.own_names()]
        plain = self.flags["no_log_prefix"]
        every = chosen + [name for name in self.to_come() if name not in chosen]
        labels = prefixes(every, stack, self.context.colour and not self.flags["no_color"])
        return [
            Source(str(self.context.stack_paths.log(name)), b"" if plain else labels[name])
            for name in chosen
            if self.only in ("", services.get(name.rpartition("-")[0]), self.own_names().get(name))
        ]

    def to_come(self) -> list[str]:
        """Names of containers that may not have been made yet: labels are as wide as the longest of all."""
        data, stack = self.context.project.stack_data["services"], self.context.stack_name
        return [
            data[service].get("container_name") or f"{stack}-{service}-{number}"
            for service in sorted(self.services)
            for number in range(1, data[service].get("scale", 1) + 1)
        ]

    def own_names(self) -> dict[str, str]:
        """Services by the name that their container has been given."""
        data = self.context.project.stack_data["services"]
        return {name: s for s in self.services if (name := data[s].get("container_name", ""))}


def shown_services(context: Context, services: Sequence[str], flags: dict[str, Any]) -> set[str]:
    """Whose output is shown: --attach, else the named ones (their dependencies if asked for), else all."""
    data = context.project.stack_data["services"]
    chosen = set(flags["attach"] or services or data)
    if flags["attach_dependencies"] or not services:
        more = list(chosen)
        while more:
            for name in data.get(more.pop(), {}).get("depends_on", {}):
                if name not in chosen:
                    chosen.add(name)
                    more.append(name)
    if flags["attach"]:
        chosen = set(flags["attach"])
    quiet = {name for name, service in data.items() if service.get("attach", True) is False}
    if flags["exit_code_from"]:
        chosen.add(flags["exit_code_from"])
    return (chosen - quiet - set(flags["no_attach"])) & set(data)


def plainly(data: bytes) -> None:
    write([data])
