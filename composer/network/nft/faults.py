"""Rules that disturb a stack on purpose: who no more reaches whom, who is cut off, whose packets wait. Pure.

Two tables on the host: frames between containers of one network are only seen by the bridge; what comes from
another network, or by a published port, is only seen as a routed packet. What waits does so in the network
namespace of its container: not every kernel can have frames of a bridge wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from composer.network.nft import expr
from composer.network.nft.table import DROP, Chain, Part, Rule, Set, Table, rule
from composer.value import Value

_BRIDGED = (expr.protocol() + expr.compare(b"\x08\x00"), expr.protocol() + expr.compare(b"\x86\xdd"))
_ROUTED = (expr.nfproto() + expr.compare(b"\x02"), expr.nfproto() + expr.compare(b"\x0a"))
"""IPv4 and IPv6, as nft tells them apart in a table of the one family and of the other."""


def _apart(four: bytes, six: bytes) -> tuple[Rule, Rule]:
    ip: Part = (
        "ip saddr . ip daddr @apart4",
        four + expr.payload(1, 12, 4) + expr.payload(1, 16, 4, 1) + expr.lookup("apart4"),
    )
    ip6: Part = (
        "ip6 saddr . ip6 daddr @apart6",
        six + expr.payload(1, 8, 16) + expr.payload(1, 24, 16, 4) + expr.lookup("apart6"),
    )
    return rule(ip, DROP), rule(ip6, DROP)


_FROM: Part = ("ether saddr @cut", expr.payload(0, 6, 6) + expr.lookup("cut"))
_TO: Part = ("ether daddr @cut", expr.payload(0, 0, 6) + expr.lookup("cut"))


class Faults(Value):
    """`apart`: pairs of addresses, each meant in both directions. `cut`: MACs."""

    apart: frozenset[tuple[str, str]] = frozenset()
    cut: frozenset[str] = frozenset()


def table_name(stack: str) -> str:
    return f"composer-{stack}-faults"


def tables(stack: str, faults: Faults) -> tuple[Table, Table]:
    """Of the bridge family, and of inet."""
    apart = _pairs(faults.apart)
    cut = Set("cut", ("ether_addr",), (), tuple(((mac,), ()) for mac in sorted(faults.cut)))
    name = table_name(stack)
    chains = (
        Chain("ports", "filter", "prerouting", -200, (rule(_FROM, DROP), *_apart(*_BRIDGED))),
        Chain("leaving", "filter", "postrouting", -200, (rule(_TO, DROP),)),
    )
    routed = Chain("forward", "filter", "forward", -10, _apart(*_ROUTED))
    return Table(name, (*apart, cut), chains, "bridge"), Table(name, apart, (routed,))


def waiting(
    fault: int, number: int, interfaces: Iterable[str], queue: Callable[[int], bytes] = expr.queue
) -> Table:
    """In a container's network namespace: what leaves by these interfaces waits in a queue."""
    names = Set("slow", ("ifname",), (), tuple(((name,), ()) for name in sorted(interfaces)))
    out: Part = ("oifname @slow", expr.oifname() + expr.lookup("slow"))
    queued: Part = (f"queue flags bypass to {number}", queue(number))
    chain = Chain("leaving", "filter", "postrouting", 300, (rule(out, queued),))
    return Table(f"composer-delay-{fault}", (names,), (chain,))


def _pairs(apart: Iterable[tuple[str, str]]) -> tuple[Set, Set]:
    both = sorted({*apart, *((b, a) for a, b in apart)})
    four = tuple((pair, ()) for pair in both if ":" not in pair[0])
    six = tuple((pair, ()) for pair in both if ":" in pair[0])
    return (
        Set("apart4", ("ipv4_addr", "ipv4_addr"), (), four),
        Set("apart6", ("ipv6_addr", "ipv6_addr"), (), six),
    )
