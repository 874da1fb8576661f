"""The verbs of the OCI command line, one function each; they return the exit code. `forking` has the others.

What makes containers may not enter: these verbs are called often, and start in half the time without.
https://github.com/opencontainers/runtime-spec/blob/v1.2.0/runtime.md#operations; flags and output as engines
know them from runc.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from composer import oci
from composer.runtime import hooks
from composer.runtime.errors import StepError
from composer.runtime.journal import Journal
from composer.runtime.options import UPDATES
from composer.runtime.shape import shaped
from composer.runtime.state import Container, document, read


def start(args: Namespace) -> int:
    container = args.store.load(args.id)
    container.require("start")
    start_program(container, args.journal)
    return 0


def state(args: Namespace) -> int:
    container = args.store.load(args.id)
    print(json.dumps(container.describe() | {"created": container.created}, indent=2))
    return 0


def kill(args: Namespace) -> int:
    container = args.store.load(args.id)
    number = signal_number(args.signal)
    if args.all:
        for pid in container.group.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return 0
    container.require("kill")
    pidfd = container.open()
    signal.pidfd_send_signal(pidfd, number)
    os.close(pidfd)
    return 0


def delete(args: Namespace) -> int:
    for name in args.ids:
        try:
            container = args.store.load(name)
        except StepError:
            if not args.force:
                raise
            args.store.discard(name)
            continue
        remove(container, args.journal, force=args.force)
    return 0


def ps(args: Namespace) -> int:
    pids = args.store.load(args.id).group.pids()
    if args.format == "json":
        print(json.dumps(pids))
        return 0
    print(f"{'UID':>8} {'PID':>8} {'PPID':>8} CMD")
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = read(f"/proc/{pid}/status").decode()
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            command = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace")
            shown = command.strip() or f"[{fields['Name'].strip()}]"
            print(f"{fields['Uid'].split()[0]:>8} {pid:>8} {fields['PPid'].strip():>8} {shown}")
    return 0


def pause(args: Namespace) -> int:
    container = args.store.load(args.id)
    container.require("pause")
    container.group.freeze()
    return 0


def resume(args: Namespace) -> int:
    container = args.store.load(args.id)
    container.require("resume")
    container.group.thaw()
    return 0


def update(args: Namespace) -> int:
    container = args.store.load(args.id)
    container.require("update")
    container.group.update(resources(args))
    return 0


def resources(args: Namespace) -> dict[str, Any]:
    """OCI resources of `update`: a file (- for the standard input), or flags."""
    if args.resources:
        given: dict[str, Any] = shaped(document(args.resources), oci.Resources, "resources")
        return given
    found: dict[str, Any] = {}
    for flag, (group, field) in UPDATES.items():
        value = getattr(args, flag)
        if value is not None:
            found.setdefault(group, {})[field] = value
    return found


def list_(args: Namespace) -> int:
    found = [container.describe() | {"created": container.created} for container in args.store]
    if args.quiet:
        print(*(f"{row['id']}\n" for row in found), sep="", end="")
    elif args.format == "json":
        print(json.dumps(found))
    else:
        rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED")]
        rows += [(r["id"], str(r.get("pid", 0)), r["status"], r["bundle"], r["created"]) for r in found]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


# --- the parts that verbs share


@contextlib.contextmanager
def directory(container: Container) -> Iterator[str]:
    descriptor = os.open(container.directory, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def start_program(container: Container, journal: Journal) -> None:
    """Connect, say start, and hear until the program runs. Then the poststart hooks."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        with directory(container) as here:
            line.connect(f"{here}/start")
        os.unlink(container.start_socket)
        line.send(b'{"kind":"start"}')
        answer = line.recv(1 << 16)
    if answer:
        message = json.loads(answer)
        raise StepError(*(message[key] for key in ("step", "errno", "path", "text")))
    journal.warn(hooks.run_all(container.spec, "poststart", container.describe("running")))


def remove(container: Container, journal: Journal, *, force: bool) -> None:
    if force:
        container.kill()
    elif container.status() != "creating":
        container.require("delete")
    about = container.describe("stopped")
    container.forget()
    journal.warn(hooks.run_all(container.spec, "poststop", about))


def signal_number(text: str) -> int:
    """`TERM`, `SIGTERM` or `15`; 0 only asks whether it is there, kill(2). Raises StepError."""
    if text.isdecimal() and int(text) < signal.NSIG:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        return signal.Signals[name]
    except KeyError:
        raise StepError("kill", text=f"{text} is no signal") from None
