"""`composer port`: where a port of a container is published, from the record."""

from __future__ import annotations

from composer.api.select import container
from composer.cli import common
from composer.cli.context import Context
from composer.cli.grammar import Flag, Positional, Verb
from composer.errors import ComposerError, UsageError
from composer.record import PortRow

VERB = Verb(
    "port",
    "Show where a port is published",
    (
        common.INDEX,
        Flag("protocol", "str", "Of which protocol", default="tcp", choices=("tcp", "udp", "sctp")),
    ),
    (common.SERVICE, Positional("PRIVATE_PORT", "The container's port; without it, all", required=False)),
    examples=(("port web 80", "0.0.0.0:8080, for example"),),
)


def run(context: Context, *, index: int | None, protocol: str, service: str, private_port: str) -> int:
    if private_port and not private_port.isdecimal():
        raise UsageError(f"{private_port!r} is no port", hint="a number, as in `composer port web 80`")
    row = container(context, service, index, waiting=True)
    published = [port for port in row["ports"] if port["published"]]
    if not private_port:
        for port in published:
            print(f"{port['target']}/{port['protocol']} -> {address(port)}")
        return 0
    for port in published:
        if port["target"] == int(private_port) and port["protocol"] == protocol:
            print(address(port))
            return 0
    raise ComposerError(
        f"no port {private_port}/{protocol} for container {row['name']}", hint=known(published)
    )


def address(port: PortRow) -> str:
    host = f"[{port['host_ip']}]" if ":" in port["host_ip"] else port["host_ip"]
    return f"{host}:{port['published']}"


def known(published: list[PortRow]) -> str:
    ports = dict.fromkeys(f"{port['target']}/{port['protocol']}" for port in published)
    return f"published are {', '.join(ports)}" if ports else "it publishes none"
