"""`composer graph`: dependencies and networks, as text, Mermaid or SVG."""

from __future__ import annotations

from typing import Any

from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.cli.render import drawing

VERB = Verb(
    "graph",
    "Draw dependencies and networks",
    (
        Flag("format", "str", "text, mermaid or svg", default="text", choices=("text", "mermaid", "svg")),
        Flag("no-networks", "bool", "Only dependencies"),
    ),
    (common.SERVICES,),
    examples=(
        ("graph", "on the terminal"),
        ("graph --format svg > stack.svg", "for a browser"),
        ("graph --format mermaid", "for a README"),
    ),
)


def run(context: Context, *, format: str, no_networks: bool, service: list[str]) -> int:
    context.check_services(service)
    from composer.cli.services import selected

    data = context.project.stack_data
    every: dict[str, Any] = data["services"]
    chosen = {name: every[name] for name in selected(every, service, bool(service))}
    graph = drawing.graph(chosen, networks=not no_networks)
    print(drawing.FORMATS[format](context.project.name, graph), end="")
    return 0
