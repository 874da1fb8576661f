"""What a failed test says about a stack: each container's state, why it is down, and its last lines."""

from __future__ import annotations

import pytest

from composer.api.stack import Stack
from composer.errors import ComposerError, StackFileError
from composer.testing.network import LIVE
from composer.testing.plugin import STACKS


def sections(item: pytest.Item) -> list[tuple[str, str]]:
    """What a failed test tells about the stacks that it used, and about containers that are there."""
    stacks, seen = (
        item.config.stash.get(STACKS, None),
        [network.stack for network in LIVE if network.services],
    )
    if stacks is not None:
        arguments = getattr(item, "funcargs", {}).values()
        seen += [
            *stacks.used.get(item.nodeid, ()),
            *(a for a in arguments if isinstance(a, Stack)),
            *stacks.new,
        ]
    lines = int(item.config.getini("composer_log_lines"))
    return [(f"stack {one.name}", story(one, lines)) for one in dict.fromkeys(seen)]


def story(stack: Stack, lines: int) -> str:
    """Never raises: a report must not hide the failure that it is about."""
    try:
        there = stack.containers()
        parts = [part for one in there for part in _of(stack, one.name, str(one), lines)]
        if any(one.running for one in there) and (reached := stack.reached()):
            parts += ["reached for, outside of the stack:", *(f"    {x}" for x in str(reached).splitlines())]
    except (ComposerError, OSError) as error:
        return f"nothing can be said about it: {error}"
    return "\n".join(parts) or "it has no containers"


def words(error: ComposerError) -> str:
    """What went wrong, line by line, and what may help."""
    if isinstance(error, StackFileError):
        told = [(str(one), one.hint) for one in error.complaints]
    else:
        told = [(str(error), error.hint)]
    return "\n".join(f"{text}\n    {hint}" if hint else text for text, hint in told)


def _of(stack: Stack, name: str, state: str, lines: int) -> list[str]:
    said = stack.log_of(name, tail=lines).splitlines()
    return [state, *(f"    {line}" for line in said)] if said else [state, "    (printed nothing)"]
