"""Control groups of a stack and of its containers: found, and ended with all that is in them."""

from __future__ import annotations

import os

from composer.errors import ComposerError
from composer.model.stack import StackLimits
from composer.runtime import cgroup
from composer.runtime.errors import StepError

TRIES = 10
PERIOD = 100_000
"""Microseconds of a share of processors."""


def stack_group(name: str) -> cgroup.Group:
    """The group that holds those of a stack's containers."""
    return cgroup.open(f"/composer/{name}")


def limit(name: str, limits: StackLimits, before: StackLimits) -> None:
    """Bound what a stack uses in all; `before`: as it was. Raises ComposerError when the kernel refuses."""
    if limits == before == StackLimits():
        return
    wanted = {
        "cpu": {"period": PERIOD, "quota": int(limits.cpus * PERIOD) or -1},
        "memory": {"limit": limits.memory or -1},
        "pids": {"limit": limits.pids or -1},
    }
    try:
        stack_group(name).create(wanted)
    except StepError as error:
        raise ComposerError(f"x-limits: {error}") from error


def is_gone(group: cgroup.Group) -> bool:
    """As a rule nobody is in the group of what has ended, and its folders go without a look at them."""
    gone = True
    for folder in group.directories:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            gone = False
    return gone


def clear(group: cgroup.Group) -> None:
    """End what is in a group, and the group. Somebody may just be entering: again until it is gone.

    Raises ComposerError when it will not go.
    """
    for number in range(TRIES):
        if is_gone(group):
            return
        try:
            group.kill()
            group.remove()
        except StepError as error:
            if number == TRIES - 1:
                raise ComposerError(str(error)) from error
