"""Make a container: the caller forks, and hears by `Pending` how it goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from composer.runtime import cgroup, hooks, init, namespaces, stage
from composer.runtime.errors import StepError
from composer.runtime.launch import compile_filter
from composer.runtime.overlay import Overlay
from composer.runtime.pending import Line, Pending, Stdio

__all__ = ["Overlay", "Pending", "Stdio", "StepError", "create"]


def create(
    spec: Mapping[str, Any],
    bundle: str,
    stdio: Stdio,
    *,
    name: str = "",
    network_sockets: bool = False,
    overlay: Overlay | None = None,
    preserve: int = 0,
    listener: int = -1,
) -> Pending:
    """A container of this OCI specification, up to but not including its program.

    Relative paths in `spec` count from `bundle`. `name` is the id that hooks are told. With `overlay` the
    layers are the root, and root.path is not looked at. `preserve` descriptors from 3 on are passed through.
    With a `listener` (a listening sequenced-packet socket) the start is given there, by any process, instead
    of by this one, which may end; see `pending` for what is said.
    Its control group is the caller's to remove, also when creating failed. Raises StepError for a filter
    that cannot be compiled, or mappings that cannot be; all else is told by the Pending.
    """
    program = compile_filter(spec)
    keep = {} if listener < 0 else {"listener": listener}
    shown = namespaces.sample(spec.get("linux") or {})
    if shown >= 0:
        keep["shown"] = shown
    cgroup.layout()  # looked at here, where it is remembered for the next one
    name = name or os.path.basename(bundle.rstrip("/"))

    def body(line: Line) -> None:
        kept = dict(zip(keep, line.kept, strict=True))
        job = stage.Job(
            line,
            spec,
            bundle,
            name=name,
            overlay=overlay,
            network_sockets=network_sockets,
            program=program,
            preserve=preserve,
            listener=kept.get("listener", -1),
            shown=kept.get("shown", -1),
        )
        stage.run(job, init.run)

    def run_hooks(pid: int) -> None:
        for kind in hooks.RUNTIME:
            hooks.run(spec, kind, hooks.state(spec, name, "created", pid, bundle))

    return Pending(body, stdio, preserve=preserve, keep=tuple(keep.values()), hooks=run_hooks)
