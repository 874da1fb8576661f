"""The verbs of the OCI command line, one function each; they return the exit code.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/runtime.md#operations; flags and output as engines
know them from runc.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import Any

from composer.runtime import hooks, remarks
from composer.runtime.create import Pending, Stdio, create
from composer.runtime.enter import enter
from composer.runtime.errors import StepError
from composer.runtime.relay import Relay, send_console
from composer.runtime.state import Container, Store, born, read, write

_STREAMS = Stdio(0, 1, 2)


def create_(args: Namespace) -> int:
    with _made(args) as (container, pending):
        _hand_over(args, pending, container.pid)
    return 0


def run(args: Namespace) -> int:
    """create, start, and unless detached wait and delete."""
    with _made(args) as (container, pending):
        relay = None if args.detach else Relay(pending)
        if args.detach:
            _hand_over(args, pending, container.pid)
        elif args.pid_file:
            write(args.pid_file, str(container.pid))
        try:
            _start(container)
        except StepError:
            _delete(container, force=True)
            raise
    if relay is None:
        return 0
    code = relay.wait()
    if not args.keep:
        _delete(container, force=True)
    return code


def start(args: Namespace) -> int:
    container = args.store.load(args.id)
    container.require("start")
    _start(container)
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
            if args.force and not os.path.exists(args.store.place(name)):
                continue
            raise
        _delete(container, force=args.force)
    return 0


def exec_(args: Namespace) -> int:
    container = args.store.load(args.id)
    if container.require("exec") == "paused":
        raise StepError("exec", text="the container is paused")
    process = exec_process(args, container.spec["process"])
    _warn(remarks.of_process(process))
    pidfd = container.open()
    pending = enter(pidfd, container.pid, process, _STREAMS, spec=container.spec, preserve=args.preserve_fds)
    os.close(pidfd)
    _until(pending, "running")
    if args.detach or args.console_socket:
        _hand_over(args, pending, pending.pid)
        if args.detach:
            return 0
    elif args.pid_file:
        write(args.pid_file, str(pending.pid))
    return Relay(pending).wait()


def exec_process(args: Namespace, own: dict[str, Any]) -> dict[str, Any]:
    """The process of `exec`: from a file, or the container's own with what the flags change."""
    if args.process:
        given: dict[str, Any] = json.loads(read(args.process))
        return given
    if not args.command:
        raise StepError("exec", text="neither a command nor --process is given")
    process = {key: value for key, value in own.items() if key not in ("consoleSize", "terminal")}
    process["args"] = args.command
    process["terminal"] = args.tty
    process["env"] = [*own.get("env", ()), *args.env]
    if args.cwd:
        process["cwd"] = args.cwd
    if args.user:
        uid, _, gid = args.user.partition(":")
        process["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    if args.additional_gids:
        process["user"] = {**process.get("user", {}), "additionalGids": args.additional_gids}
    if args.no_new_privs:
        process["noNewPrivileges"] = True
    if args.cap:
        sets = process.get("capabilities") or {}
        kinds = ("bounding", "effective", "permitted")
        process["capabilities"] = sets | {kind: [*sets.get(kind, ()), *args.cap] for kind in kinds}
    labels = {"apparmorProfile": args.apparmor, "selinuxLabel": args.process_label}
    return process | {key: value for key, value in labels.items() if value}


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


# Flag → place in OCI resources.
UPDATES = {
    "memory": ("memory", "limit"),
    "memory_reservation": ("memory", "reservation"),
    "memory_swap": ("memory", "swap"),
    "cpu_period": ("cpu", "period"),
    "cpu_quota": ("cpu", "quota"),
    "cpu_burst": ("cpu", "burst"),
    "cpu_share": ("cpu", "shares"),
    "cpu_rt_period": ("cpu", "realtimePeriod"),
    "cpu_rt_runtime": ("cpu", "realtimeRuntime"),
    "cpu_idle": ("cpu", "idle"),
    "cpuset_cpus": ("cpu", "cpus"),
    "cpuset_mems": ("cpu", "mems"),
    "pids_limit": ("pids", "limit"),
    "blkio_weight": ("blockIO", "weight"),
}
TEXTS = ("cpuset_cpus", "cpuset_mems")


def resources(args: Namespace) -> dict[str, Any]:
    """OCI resources of `update`: a file (- for the standard input), or flags."""
    if args.resources:
        text = sys.stdin.read() if args.resources == "-" else read(args.resources).decode()
        given: dict[str, Any] = json.loads(text)
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
        print("\n".join(row["id"] for row in found))
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
def _made(args: Namespace) -> Iterator[tuple[Container, Pending]]:
    """A created container, recorded; removed again if making it fails."""
    store: Store = args.store
    bundle = os.path.realpath(args.bundle)
    spec = load_spec(f"{bundle}/config.json", args.id)
    _warn(remarks.of_container(spec))
    directory = store.reserve(args.id)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    container = Container(directory, args.id, bundle, 0, 0, now, spec)
    try:
        container.save()
        with _listener(container) as listener:
            options: dict[str, Any] = {"name": args.id, "preserve": args.preserve_fds, "listener": listener}
            pending = create(spec, bundle, _STREAMS, **options)
            _until(pending, "created")
        container = container._replace(pid=pending.pid, born=born(pending.pid))
        container.save()
    except BaseException:
        container.forget()
        raise
    yield container, pending


def load_spec(path: str, name: str) -> dict[str, Any]:
    """The specification, with the group every container here must have. Raises StepError."""
    try:
        spec: dict[str, Any] = json.loads(read(path))
    except FileNotFoundError as error:
        raise StepError.of("specification", error) from None
    except ValueError as error:
        raise StepError("specification", path=path, text=f"is not JSON: {error}") from None
    if not isinstance(spec, dict) or not str(spec.get("ociVersion", "")).startswith("1."):
        raise StepError("specification", path="ociVersion", text="only versions 1.x are known")
    linux = spec.setdefault("linux", {})
    # Relative to the root, so that every later call finds it, from wherever it is made.
    linux["cgroupsPath"] = "/" + (linux.get("cgroupsPath") or name).lstrip("/")
    return spec


@contextlib.contextmanager
def _listener(container: Container) -> Iterator[int]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        # A socket's name has room for 107 bytes only: by way of a descriptor any directory will do.
        with _directory(container) as here:
            listener.bind(f"{here}/start")
        listener.listen(1)
        yield listener.fileno()


@contextlib.contextmanager
def _directory(container: Container) -> Iterator[str]:
    descriptor = os.open(container.directory, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _start(container: Container) -> None:
    """Connect, say start, and hear until the program runs. Then the poststart hooks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        with _directory(container) as here:
            line.connect(f"{here}/start")
        os.unlink(container.start_socket)
        line.send(b'{"kind":"start"}')
        answer = line.recv(1 << 16)
    if answer:
        message = json.loads(answer)
        raise StepError(*(message[key] for key in ("step", "errno", "path", "text")))
    _warn(hooks.run_all(container.spec, "poststart", container.describe("running")))


def _delete(container: Container, *, force: bool) -> None:
    if force:
        container.kill()
    elif container.status() != "creating":
        container.require("delete")
    about = container.describe("stopped")
    container.forget()
    _warn(hooks.run_all(container.spec, "poststop", about))


def _hand_over(args: Namespace, pending: Pending, pid: int) -> None:
    """Give the terminal and the pid to whoever asked for them."""
    if pending.console >= 0:
        if not args.console_socket:
            container_terminal = "a terminal needs --console-socket when nobody stays to serve it"
            raise StepError("console", text=container_terminal)
        send_console(args.console_socket, pending.console)
    if args.pid_file:
        write(args.pid_file, str(pid))


def _warn(texts: Iterable[str]) -> None:
    for text in texts:
        print(f"warning: {text}", file=sys.stderr)


def _until(pending: Pending, state: str) -> None:
    while pending.state != state:
        select.select([pending.channel], [], [])
        pending.advance()
        if pending.error:
            raise pending.error


def signal_number(text: str) -> int:
    """`TERM`, `SIGTERM` or `15`. Raises StepError."""
    if text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    try:
        return signal.Signals[name]
    except KeyError:
        raise StepError("kill", text=f"{text} is no signal") from None
