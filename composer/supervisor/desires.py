"""From what a command sent to what planning takes: options, and digests of everything a stack says."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.model.digest import dump, service_digests
from composer.model.stack import FileSource, FrozenMap, Stack
from composer.plan.options import GOALS, Options
from composer.supervisor.wire import another_version

PLAIN_OPTIONS = (
    "goal", "no_deps", "no_start", "force_recreate", "no_recreate", "always_recreate_deps",
    "renew_anon_volumes", "remove_orphans", "build", "no_build", "pull", "timeout", "volumes", "images",
)  # fmt: skip


def options_of(given: Mapping[str, Any]) -> Options:
    """Options from JSON. Raises UsageError."""
    if given.get("goal") not in GOALS:
        raise another_version(f"the goal {given.get('goal')!r}")
    unknown = given.keys() - {*PLAIN_OPTIONS, "services", "scale"}
    if unknown:
        raise another_version(f"the options {', '.join(sorted(unknown))}")
    return Options(
        since=time.time_ns(),
        services=tuple(given.get("services") or ()),
        scale=FrozenMap(given.get("scale") or {}),
        **{name: given[name] for name in PLAIN_OPTIONS if given.get(name) is not None},
    )


def digests(stack: Stack) -> dict[str, dict[str, str]]:
    """Per service and field. Secrets and configs count with their content, so that a change of it is one."""
    found = {}
    for name, fields in service_digests(stack).items():
        service = stack.services[name]
        found[name] = dict(fields)
        for kind, sources in (("secrets", stack.secrets), ("configs", stack.configs)):
            grants = getattr(service, kind)
            if grants:
                text = fields[kind] + "".join(content_digest(sources[grant.source]) for grant in grants)
                found[name][kind] = hashlib.sha256(text.encode()).hexdigest()
    return found


def content_digest(source: FileSource) -> str:
    """What a secret or config says now; a file that cannot be read says nothing, and is told of at start."""
    data = dump(source)
    if source.file:
        try:
            data += Path(source.file).read_bytes()
        except OSError:
            data += b"?"
    return hashlib.sha256(data).hexdigest()


def network_digests(stack: Stack) -> dict[str, str]:
    """A change of one means that a network has to be made anew."""
    return {key: hashlib.sha256(dump(network)).hexdigest() for key, network in stack.networks.items()}


def stack_of(fds: Mapping[str, int]) -> bytes:
    """The stack that came along, as JSON."""
    with os.fdopen(os.dup(fds["stack"]), "rb") as file:
        return file.read()


def files_of(origin: Mapping[str, Any]) -> tuple[str, ...]:
    """The folder and the files that a stack is of, however they are written."""
    folder = origin.get("working_dir") or ""
    files = (file if file == "-" else os.path.join(folder, file) for file in origin.get("files") or ())
    return tuple(file if file == "-" else os.path.realpath(file) for file in (folder, *files))
