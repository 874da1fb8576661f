"""`composer version`."""

from __future__ import annotations

from composer import __version__
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb

VERB = Verb(
    "version",
    "Show the version",
    (
        Flag("short", "bool", "Only the number"),
        Flag("format", "str", "pretty or json", "f", default="pretty", choices=("pretty", "json")),
    ),
)


def run(context: Context, *, short: bool, format: str) -> int:
    if short:
        print(__version__)
    elif format == "json":
        print(f'{{"version":"{__version__}"}}')
    else:
        print(f"composer version {__version__}")
    return 0
