"""Names before lines: aligned, each container in its own colour, as Docker Compose has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from composer.cli.render.table import width

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def short(name: str, stack: str) -> str:
    """`web-1` for `app-web-1`; a name of one's own stays whole."""
    return name.removeprefix(f"{stack}-")


def prefixes(names: Sequence[str], stack: str, colour: bool) -> dict[str, bytes]:
    """`web-1  | ` by container name."""
    shorts = {name: short(name, stack) for name in names}
    size = max(map(width, shorts.values()), default=0)
    return {
        name: prefix(text, size, code if colour else 0)
        for (name, text), code in zip(shorts.items(), cycle(COLOURS), strict=False)
    }


def prefix(text: str, size: int, code: int) -> bytes:
    plain = f"{text}{' ' * (size - width(text))}  | "
    return (f"\x1b[{code}m{plain}\x1b[0m" if code else plain).encode()


def cycle(codes: Sequence[int]) -> Iterable[int]:
    while True:
        yield from codes
