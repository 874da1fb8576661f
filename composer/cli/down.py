"""`composer down`: stop and remove everything of a stack."""

from __future__ import annotations

import shutil
import sys

from composer.cli import common, wish
from composer.cli.client import Supervisor
from composer.cli.context import Context
from composer.cli.grammar import Flag, Verb
from composer.disk import locked
from composer.errors import PeerLostError

VERB = Verb(
    "down",
    "Stop and remove containers and networks",
    (
        Flag("remove-orphans", "bool", "Also containers of services that are no longer in the file"),
        Flag("rmi", "str", "Also images: local (those built here without a name of their own) or all"),
        common.TIMEOUT,
        Flag("volumes", "bool", "Also named volumes of the file and anonymous volumes", "v"),
    ),
    (common.SERVICES,),
    examples=(("down", "volumes stay"), ("down -v", "everything goes")),
)


def run(
    context: Context, *, remove_orphans: bool, rmi: str, timeout: str, volumes: bool, service: list[str]
) -> int:
    if wish.exists(context) is None and not (volumes and keeps_volumes(context)):
        if not context.dry_run:
            leave(context)  # an earlier `down` may have been cut short
        print(f"nothing of stack {context.stack_name} is here", file=sys.stderr)
        return 0
    files = readable(context)
    if files:
        wish.check_identity(context)
        wish.check_services(context, service)
    options = {
        "goal": "down",
        "services": service,
        "remove_orphans": context.removes_orphans(remove_orphans) or not files,
        "images": rmi,
        "timeout": wish.nanoseconds(timeout, "--timeout"),
        "volumes": volumes,
    }
    code = wish.carry_out(context, options, files=files, dry_run=context.dry_run)
    if not service and not context.dry_run:
        leave(context)
    return code


def keeps_volumes(context: Context) -> bool:
    """Whether volumes of the stack have outlived its containers."""
    from composer.volumes.store import VolumeStore

    return any(volume.owner == context.stack_name for volume in VolumeStore(context.paths).list())


def readable(context: Context) -> bool:
    """Whether this command speaks about the files at hand, or (with -p elsewhere) about what is recorded."""
    from composer.errors import StackFileError

    if not context.options.get("project_name"):
        return bool(context.project)
    try:
        return bool(context.project)
    except StackFileError:
        return False


def leave(context: Context) -> None:
    """Wait until the keeper is gone and clear the stack's run directory."""
    paths = context.stack_paths
    supervisor = Supervisor.connect(paths)
    if supervisor is not None:
        try:
            with supervisor:
                supervisor.call("quit")
        except PeerLostError:
            pass  # it was about to leave by itself
    if paths.run.exists():
        with locked(paths.life):
            shutil.rmtree(paths.run, ignore_errors=True)
