"""The verbs of the OCI command line that fork: `create`, `run`, `exec`.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/runtime.md#operations
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from composer import oci
from composer.runtime import cgroup, initproc, remarks
from composer.runtime.create import Pending, Stdio, create
from composer.runtime.enter import enter
from composer.runtime.errors import StepError
from composer.runtime.relay import Relay, send_console
from composer.runtime.shape import shaped
from composer.runtime.state import Container, Store, born, document, write
from composer.runtime.verbs import directory, remove, start_program

_STREAMS = Stdio(0, 1, 2)


def inherited(args: Namespace, process: dict[str, Any], pid: str) -> int:
    """How many descriptors from 3 on go along: the sockets of sd_listen_fds(3) for this process, which the
    container's is told of, then those of --preserve-fds. Raises StepError.
    """
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return _preserved(args.preserve_fds)
    names = os.environ.get("LISTEN_FDNAMES")
    told = {"LISTEN_FDS": count, "LISTEN_PID": pid} | ({"LISTEN_FDNAMES": names} if names else {})
    process["env"] = [*process.get("env", ()), *(f"{name}={value}" for name, value in told.items())]
    return _preserved(args.preserve_fds + int(count))


def _preserved(count: int) -> int:
    """The number, if the caller has opened so many. Comes first: what is opened here would fill the gaps."""
    for descriptor in range(3, 3 + count):
        try:
            os.fstat(descriptor)
        except OSError:
            text = f"{count} descriptors from 3 on are to be passed through, and {descriptor} is not open"
            raise StepError("--preserve-fds", text=text) from None
    return count


def create_(args: Namespace) -> int:
    with _made(args, stays=False) as (container, pending):
        _hand_over(args, pending, container.pid)
    return 0


def run(args: Namespace) -> int:
    """create, start, and unless detached wait and delete."""
    with _made(args, stays=not args.detach) as (container, pending):
        relay = None if args.detach else Relay(pending)
        _hand_over(args, pending, container.pid)
        start_program(container, args.journal)
    if relay is None:
        return 0
    code = relay.wait()
    if not args.keep:
        remove(container, args.journal, force=True)
    return code


def exec_(args: Namespace) -> int:
    preserve = _preserved(args.preserve_fds)
    container = args.store.load(args.id)
    container.require("exec")
    process = exec_process(args, container.spec["process"])
    _check_console(args, process, stays=not args.detach)
    args.journal.warn(remarks.of_process(process))
    pidfd = container.open()
    pending = enter(pidfd, container.pid, process, _STREAMS, spec=container.spec, preserve=preserve)
    os.close(pidfd)
    pending.until("running")
    _hand_over(args, pending, pending.pid)
    return 0 if args.detach else Relay(pending).wait()


_CHANGES = (
    *("command", "env", "user", "additional_gids", "cap", "cwd", "no_new_privs", "apparmor", "process_label"),
)


def exec_process(args: Namespace, own: dict[str, Any]) -> dict[str, Any]:
    """The process of `exec`: from a file, or the container's own with what the flags change."""
    beside = [flag for flag in _CHANGES if getattr(args, flag)]
    if args.process and beside:
        flag = "a command" if beside[0] == "command" else f"--{beside[0].replace('_', '-')}"
        raise StepError("exec", text=f"{flag} has no place beside --process, which says it all")
    given = document(args.process) if args.process else _changed(args, own)
    process: dict[str, Any] = shaped(given, oci.Process, "process")
    return process | {"terminal": True} if args.tty else process


def _changed(args: Namespace, own: dict[str, Any]) -> dict[str, Any]:
    if not args.command:
        raise StepError("exec", text="neither a command nor --process is given")
    process = {key: value for key, value in own.items() if key not in ("consoleSize", "terminal")}
    process["args"] = args.command
    process["env"] = [*own.get("env", ()), *args.env]
    if args.cwd:
        process["cwd"] = args.cwd
    if args.user:
        process["user"] = dict(zip(("uid", "gid"), args.user, strict=True))
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


@contextlib.contextmanager
def _made(args: Namespace, *, stays: bool) -> Iterator[tuple[Container, Pending]]:
    """A created container, recorded; removed again if making it, or the body, fails."""
    store: Store = args.store
    bundle = os.path.realpath(args.bundle)
    spec = load_spec(f"{bundle}/config.json", args.id)
    preserve = inherited(args, spec["process"], "2" if initproc.wanted(spec) else "1")
    _check_console(args, spec["process"], stays=stays)
    args.journal.warn(remarks.of_container(spec))
    place = store.reserve(args.id)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    container = Container(place, args.id, bundle, 0, 0, now, spec)
    try:
        if container.group.pids():  # before anything says that the group is this container's
            path = spec["linux"]["cgroupsPath"]
            raise StepError("cgroup", path=path, text="the group is in use: it already holds processes")
        container.save()
        with _listener(container) as listener:
            options: dict[str, Any] = {"name": args.id, "preserve": preserve, "listener": listener}
            pending = create(spec, bundle, _STREAMS, **options)
            pending.until("created")
        container = container._replace(pid=pending.pid, born=born(pending.pid))
        container.save()
    except BaseException:
        container.abandon()
        raise
    try:
        yield container, pending
    except BaseException:
        remove(container, args.journal, force=True)
        raise


def load_spec(path: str, name: str) -> dict[str, Any]:
    """The specification, with the group every container here must have. Raises StepError."""
    given = document(path)
    if not isinstance(given, dict) or not str(given.get("ociVersion", "")).startswith("1."):
        raise StepError("specification", path="ociVersion", text="only versions 1.x are known")
    spec: dict[str, Any] = shaped(given, oci.Spec)
    spec.setdefault("process", {})
    linux = spec.setdefault("linux", {})
    # Relative to the root, so that every later call finds it, from wherever it is made.
    linux["cgroupsPath"] = "/" + (linux.get("cgroupsPath") or name).lstrip("/")
    cgroup.open(linux["cgroupsPath"])
    return spec


def _check_console(args: Namespace, process: dict[str, Any], *, stays: bool) -> None:
    """Either this process stays to serve the terminal, or somebody else takes it. Raises StepError."""
    if process.get("terminal") and not stays and not args.console_socket:
        raise StepError("console", text="a terminal needs --console-socket when nobody stays to serve it")
    if args.console_socket and (stays or not process.get("terminal")):
        text = "--console-socket is for a terminal that is not served here: with process.terminal, detached"
        raise StepError("console", text=text)


@contextlib.contextmanager
def _listener(container: Container) -> Iterator[int]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        # A socket's name has room for 107 bytes only: by way of a descriptor any directory will do.
        with directory(container) as here:
            listener.bind(f"{here}/start")
        listener.listen(1)
        yield listener.fileno()


def _hand_over(args: Namespace, pending: Pending, pid: int) -> None:
    """Give the terminal and the pid to whoever asked for them."""
    if args.console_socket:
        send_console(args.console_socket, pending.console)
    if args.pid_file:
        write(args.pid_file, str(pid))
