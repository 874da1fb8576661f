"""What is asked for and not done, although it is no error: the command line says it as warnings.

The specification wants capabilities that cannot be given to be left out with a warning; and mount(2) has
always passed over options of a file system in a bind mount, and the kernel over a limit it no longer has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from composer.runtime import capabilities, mounts


def of_process(process: Mapping[str, Any]) -> Iterator[str]:
    missing = capabilities.missing(process.get("capabilities") or {})
    if missing:
        yield f"these capabilities cannot be given and are left out: {', '.join(missing)}"


def of_container(spec: Mapping[str, Any]) -> Iterator[str]:
    yield from of_process(spec.get("process") or {})
    for mount in spec.get("mounts") or ():
        options = mounts.parse(mount.get("options") or ())
        if options.data and (options.bind or mount.get("type") == "bind"):
            words = ", ".join(key for key, _ in options.data)
            yield f"the bind mount at {mount['destination']} has no use for: {words}"
    memory = ((spec.get("linux") or {}).get("resources") or {}).get("memory") or {}
    if memory.get("kernel"):
        yield "linux.resources.memory.kernel has no effect: Linux has no such limit since 5.16"
