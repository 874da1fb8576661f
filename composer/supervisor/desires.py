"""From what a command sent to what planning takes: options, and digests of everything a stack says. Pure."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from composer.errors import UsageError
from composer.model.digest import dump
from composer.model.stack import FrozenMap, Stack
from composer.plan.options import GOALS, Options

PLAIN_OPTIONS = (
    "goal", "no_deps", "no_start", "force_recreate", "no_recreate", "always_recreate_deps",
    "renew_anon_volumes", "remove_orphans", "build", "no_build", "pull", "timeout", "volumes", "images",
)  # fmt: skip


def options_of(given: Mapping[str, Any]) -> Options:
    """Options from JSON. Raises UsageError."""
    if given.get("goal") not in GOALS:
        raise UsageError(f"there is no goal {given.get('goal')!r}")
    unknown = given.keys() - {*PLAIN_OPTIONS, "services", "scale"}
    if unknown:
        raise UsageError(f"unknown options: {', '.join(sorted(unknown))}")
    return Options(
        since=time.time_ns(),
        services=tuple(given.get("services") or ()),
        scale=FrozenMap(given.get("scale") or {}),
        **{name: given[name] for name in PLAIN_OPTIONS if given.get(name) is not None},
    )


def network_digests(stack: Stack) -> dict[str, str]:
    """A change of one means that a network has to be made anew."""
    return {key: hashlib.sha256(dump(network)).hexdigest() for key, network in stack.networks.items()}
