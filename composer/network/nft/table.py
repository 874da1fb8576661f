"""A table of nftables as a value, and as text in nft's language. Pure.

Each rule holds its text and its bytes side by side; tests have the kernel compare the two.
"""

from __future__ import annotations

from composer.network.nft import expr
from composer.value import Value


class Rule(Value):
    text: str
    code: bytes


class Chain(Value):
    name: str
    type: str
    hook: str
    priority: int
    rules: tuple[Rule, ...]


class Set(Value):
    """A set, or with `data` a map. `elements` are (key fields, data fields). `size`: rules add to it,
    until it has so many.
    """

    name: str
    key: tuple[str, ...]
    data: tuple[str, ...]
    elements: tuple[tuple[tuple[str | int, ...], tuple[str | int, ...]], ...]
    size: int = 0


class Table(Value):
    name: str
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]
    family: str = "inet"


Part = tuple[str, bytes]

ACCEPT: Part = ("accept", expr.verdict(expr.ACCEPT))
DROP: Part = ("drop", expr.verdict(expr.DROP))


def rule(*parts: Part) -> Rule:
    return Rule(" ".join(text for text, _ in parts), b"".join(code for _, code in parts))


def render(this: Table) -> str:
    """The table in nft's language, for people and for tests."""
    lines = [f"table {this.family} {this.name} {{"]
    for each in this.sets:
        kind = " . ".join(each.key) + (f" : {' . '.join(each.data)}" if each.data else "")
        lines += [f"  {'map' if each.data else 'set'} {each.name} {{", f"    type {kind}"]
        lines += [f"    size {each.size}", "    flags dynamic"] if each.size else []
        elements = [
            " . ".join(f'"{field}"' if field == "" else str(field) for field in fields)
            + (f" : {' . '.join(map(str, data))}" if data else "")
            for fields, data in each.elements
        ]
        lines += [f"    elements = {{ {', '.join(elements)} }}"] if elements else []
        lines.append("  }")
    for chain in this.chains:
        lines += [
            f"  chain {chain.name} {{",
            f"    type {chain.type} hook {chain.hook} priority {chain.priority}; policy accept;",
        ]
        lines += [f"    {rule.text}" for rule in chain.rules]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])
