"""Mounts that show their files' owner as somebody else, for `x-owner`: mappings of ids. Pure."""

from __future__ import annotations

from composer import oci
from composer.bundle.inputs import IDS

EVERY = 2**32 - 1
"""All ids that there are, user_namespaces(7)."""


def swapped(first: int, disk: int, inside: int) -> list[oci.IDMapping]:
    """Mappings by which `disk`, an id of the file system, is seen as `inside`, and the other way round.

    `first` is what the host calls the container's id 0; all other ids stay what they are.
    """
    size = IDS if first else EVERY
    found, begin = [], 0
    for one, other in sorted({disk: inside, inside: disk}.items()):
        end = min(one, size)
        if begin < end:
            found.append(_row(begin, first + begin, end - begin))
        if other < size:
            found.append(_row(one, first + other, 1))
        begin = one + 1
    if begin < size:
        found.append(_row(begin, first + begin, size - begin))
    return found


def _row(disk: int, host: int, size: int) -> oci.IDMapping:
    return oci.IDMapping(containerID=disk, hostID=host, size=size)
