"""Make a container: a stage does it, and the caller hears by `Pending` how it goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from composer.runtime import hooks
from composer.runtime.errors import StepError
from composer.runtime.overlay import Overlay
from composer.runtime.pending import Pending, Stdio
from composer.runtime.stage import Order
from composer.runtime.stages import Parcel, Stage, Stages

__all__ = ["Overlay", "Pending", "Stages", "Stdio", "StepError", "create"]


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
    stages: Stages | None = None,
) -> Pending:
    """A container of this OCI specification, up to but not including its program.

    Relative paths in `spec` count from `bundle`. `name` is the id that hooks are told. With `overlay` the
    layers are the root, and root.path is not looked at. `preserve` descriptors from 3 on are passed through.
    With a `listener` (a listening sequenced-packet socket) the start is given there, by any process, instead
    of by this one, which may end; see `pending` for what is said. `stages` are for a caller that makes many
    containers, and has nothing to preserve; without, a stage is made for this one.
    Its control group is the caller's to remove, also when creating failed. Everything that is wrong with
    the container is told by the Pending. Raises OSError when there can be no more processes.
    """
    name = name or os.path.basename(bundle.rstrip("/"))

    def run_hooks(pid: int) -> None:
        for kind in hooks.RUNTIME:
            hooks.run(spec, kind, hooks.state(spec, name, "created", pid, bundle))

    stage = None if stages else Stage(preserve)
    pending = Pending(hooks=run_hooks)
    order = Order(spec, bundle, name, overlay, network_sockets, preserve)
    parcel = Parcel(order, pending.far_end, stdio, listener)
    if stages:
        stages.make(pending, parcel)
    elif stage:
        pending.helpers.append(stage.pidfd)
        parcel.send(stage.socket)
        stage.socket.close()
    return pending
