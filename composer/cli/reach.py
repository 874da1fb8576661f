"""Who reaches the ports that are published on this host, for `doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from composer.cli.checks import Check
from composer.cli.port import address
from composer.errors import ComposerError
from composer.network.nft.neighbours import chains, goes_around, who_decides
from composer.network.publish import firewall
from composer.paths import Paths
from composer.record import PortRow, stacks

LOOPBACK = ("127.", "::1")


def reach(paths: Paths) -> Iterator[Check]:
    """A line for each stack that publishes anything; nothing where nftables does not answer."""
    try:
        with firewall() as socket:
            there = chains(socket)
    except (ComposerError, OSError):
        return
    decides, wall = who_decides(there), goes_around(there)
    for record in stacks(paths):
        ports = [port for row in record["containers"] if row["pid"] for port in row["ports"]]
        ports = [port for port in ports if port["published"]]
        near = [port for port in ports if port["host_ip"].startswith(LOOPBACK)]
        far = [port for port in ports if port not in near]
        if near:
            yield Check("ports", "good", f"{record['stack']}: this host alone reaches {told(near)}")
        if far and decides:
            yield Check(
                "ports", "good", f"{record['stack']}: {decides} says which other hosts reach {told(far)}"
            )
        elif far:
            text = f"{record['stack']}: other hosts reach {told(far)}"
            state, why = ("warning", f", past {wall}") if wall else ("good", "")
            yield Check("ports", state, text + why)  # type: ignore[arg-type]


def told(ports: list[PortRow]) -> str:
    return ", ".join(dict.fromkeys(f"{address(port)}/{port['protocol']}" for port in ports))
