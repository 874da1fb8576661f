"""Flags and arguments that many verbs share, worded once."""

from __future__ import annotations

from composer.cli.grammar import Flag, Positional

SERVICES = Positional("SERVICE", "Only these services", many=True, required=False, complete="service")
SERVICE = Positional("SERVICE", "The service", complete="service")
INDEX = Flag("index", "int", "Which container of the service, if there are several", metavar="N")
TIMEOUT = Flag(
    "timeout", "str", "How long to wait after the stop signal before killing", "t", metavar="SECONDS"
)
LOCKED = Flag("locked", "bool", "Only with the images that the lock file says (see `lock`)")
