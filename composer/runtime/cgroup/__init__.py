"""Control groups v1, hybrid and v2 behind one interface.

A container's group is one path in every mounted hierarchy. Each controller is used where the host mounted
it, so the hybrid layout is no third case: `hierarchies` finds out what is where, `resources` turns OCI
limits into file contents (pure), `devices` turns device rules into v1 lines or a v2 program (pure), `group`
touches the files, `stats` reads them. Nothing is remembered between calls but what the kernel holds: any
process may open a group by its path.

Standard library only; nothing in here knows containers, stacks or networks.
"""

from __future__ import annotations

from composer.runtime.cgroup.files import CgroupError
from composer.runtime.cgroup.group import Group
from composer.runtime.cgroup.hierarchies import Layout, directories, layout, limits_swap
from composer.runtime.cgroup.stats import Stats

__all__ = ["CgroupError", "Group", "Layout", "Stats", "layout", "limits_swap", "open"]

_current = layout


def open(path: str, *, layout: Layout | None = None) -> Group:
    """The group at an OCI `cgroupsPath`, whether or not it exists yet.

    An absolute path counts from the root of each hierarchy; a relative one from the caller's own group, and
    on pure v2 from the parent of that, because a v2 group that holds processes cannot have controlled
    children. Raises CgroupError for a path that is empty or climbs with `..`.
    """
    where = layout or _current()
    dirs, unified = directories(path, where)
    return Group(path, where, dirs, unified)
