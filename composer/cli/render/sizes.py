"""Bytes for people, in the two ways that Docker writes them. Pure."""

from __future__ import annotations

DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def decimal(count: float, digits: int = 3) -> str:
    """`1.23MB`, by thousands: sizes on disk and traffic."""
    return scaled(count, 1000, DECIMAL, digits)


def binary(count: float, digits: int = 4) -> str:
    """`12.5MiB`, by 1024: memory."""
    return scaled(count, 1024, BINARY, digits)


def scaled(count: float, step: int, units: tuple[str, ...], digits: int) -> str:
    number, unit = float(count), 0
    while number >= step and unit < len(units) - 1:
        number, unit = number / step, unit + 1
    return f"{number:.{digits}g}{units[unit]}"
