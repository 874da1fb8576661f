"""The two ends of a container's birth: the channel, who waits, and what it comes from.

    caller ──▶ stage ──clone──▶ the container's process ──exec──▶ the program
               host's rights    a child of the caller, as the stage is (CLONE_PARENT)

Messages (one JSON object each, on a sequenced-packet socket; descriptors by SCM_RIGHTS):

    helper    a process that does the rest of the stage's work, to be reaped
    process   from the stage: the host's pid, with the pidfd; it is done with it
    console   the pty master
    sockets   names of descriptors opened in the new network namespace
    hooks     everything is mounted; the hooks of the runtime's namespace are due
    created   waiting for `start`
    error     step, errno, path, text; the sender ends
    (end)     the program runs: the channel is closed by exec

The other way go `start`, and from the hooks' runner `go` or `error`. A child that reads the end of the
channel knows that the caller is gone, and ends.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

from composer.runtime import linux
from composer.runtime.errors import StepError

State = Literal["creating", "created", "starting", "running", "failed"]
_LONGEST = 1 << 16
_MOST_DESCRIPTORS = 16


class Stdio(NamedTuple):
    """The container's standard streams; not looked at when it gets a terminal."""

    stdin: int
    stdout: int
    stderr: int


class Line:
    """The children's end of the channel."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def send(self, kind: str, descriptors: Sequence[int] = (), **fields: Any) -> None:
        message = json.dumps({"kind": kind, **fields}).encode()
        try:
            socket.send_fds(self.socket, [message], descriptors, socket.MSG_NOSIGNAL)
        except OSError:
            os._exit(1)  # nobody is there to hear it, or to be told

    def fail(self, error: StepError) -> NoReturn:
        self.send("error", step=error.step, errno=error.errno, path=error.path, text=error.text[:4096])
        os._exit(1)

    def accept(self, listener: int) -> None:
        """Go on with whoever connects: the caller may be gone, another process gives the start."""
        with socket.socket(fileno=listener) as listening:
            self.socket, _ = listening.accept()

    def wait(self, kind: str) -> None:
        """Block until the message arrives. An error sent by the hooks' runner is raised."""
        data = self.socket.recv(_LONGEST)
        if not data:
            os._exit(1)
        message = json.loads(data)
        if message["kind"] == "error":
            raise StepError(message["step"], message["errno"], message["path"], message["text"])
        if message["kind"] != kind:
            raise StepError("channel", text=f"{message['kind']} instead of {kind}")


def run_steps(steps: Sequence[tuple[str, Callable[[Any], None]]], job: Any) -> None:
    """In order; whatever goes wrong is a StepError that names the step."""
    for name, step in steps:
        try:
            step(job)
        except Exception as error:
            raise StepError.of(name, error) from error


class Pending:
    """One container, or process in a container, on its way; no method blocks for longer than an exit.

    Poll `channel` for reading, then call `advance`. `pidfd`, once there is one, is the caller's to wait for.
    All descriptors it holds belong to the caller, who calls `close` at the end.
    """

    def __init__(self, *, started: bool = False, hooks: Callable[[int], None] | None = None) -> None:
        """`hooks` runs those of the runtime's namespace, for a container of this pid."""
        self.pid = 0
        self.pidfd = -1
        self.console = -1
        self.sockets: dict[str, int] = {}
        self.state: State = "starting" if started else "creating"
        self.error: StepError | None = None
        self.helpers: list[int] = []
        """pidfds of the processes that have no other use than to help this one on its way."""
        self.on_born: Callable[[bool], None] = lambda _: None
        """Told once: that there is a process now, or that there will be none."""
        self._hooks = hooks
        self.channel, self.far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)

    def close(self) -> None:
        """What is not finished is given up: its process, if there is one, ends by itself."""
        self.channel.close()
        self._born(False)
        self._end_helpers()

    def _born(self, alive: bool) -> None:
        tell, self.on_born = self.on_born, lambda _: None
        tell(alive)

    def advance(self) -> None:
        """Take what the channel has, and move on."""
        while self.state in ("creating", "created", "starting"):
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    self.channel, _LONGEST, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except ConnectionError:
                data, descriptors = b"", []
            self._take(json.loads(data) if data else {"kind": "end"}, descriptors)

    def until(self, state: State) -> None:
        """Block until it has come so far, for callers with nothing else to do. Raises StepError."""
        while self.state != state:
            select.select([self.channel], [], [])
            self.advance()
            if self.error:
                raise self.error

    def _take(self, message: dict[str, Any], descriptors: list[int]) -> None:
        match message["kind"]:
            case "helper":
                self.helpers += descriptors
            case "process":
                self.pid, (self.pidfd,) = message["pid"], descriptors
                self._born(True)
            case "console":
                (self.console,) = descriptors
            case "sockets":
                self.sockets = dict(zip(message["names"], descriptors, strict=True))
            case "hooks" if self._hooks:
                self.helpers.append(_fork_hooks(self._hooks, self.pid, self.channel))
            case "created":
                self.state = "created"
                self._end_helpers()
            case "error":
                self._fail(StepError(*(message[key] for key in ("step", "errno", "path", "text"))))
            case "end" if self.state == "starting" and self.pid:
                self.state = "running"
                self._end_helpers()
            case _:
                self._fail(StepError("init", text="the container's process ended before it was ready"))

    def start(self) -> None:
        """Let a created container's program begin; how that went is for `advance` to find out."""
        if self.state != "created":
            raise StepError("start", text=f"the container is {self.state}, not created")
        self.state = "starting"
        try:
            self.channel.send(b'{"kind":"start"}', socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it died; the channel's end says so

    def _fail(self, error: StepError) -> None:
        self.state, self.error = "failed", error
        self._born(False)
        if self.pidfd >= 0:
            end(self.pidfd)
        self._end_helpers()

    def _end_helpers(self) -> None:
        """They have nothing left to do but to exit."""
        for pidfd in self.helpers:
            end(pidfd)
            os.close(pidfd)
        self.helpers.clear()


def end(pidfd: int) -> None:
    """Kill a child, and reap it."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except (ProcessLookupError, ChildProcessError):
        pass  # somebody was quicker


def forked(
    body: Callable[[Line], None],
    stdio: Stdio,
    *,
    started: bool = False,
    preserve: int = 0,
    keep: Sequence[int] = (),
) -> Pending:
    """By a fork that does `body`; it gets `stdio`, `preserve` descriptors from 3 on, and `keep`."""
    pending = Pending(started=started)
    pid, pidfd = linux.clone(0)
    if pid == 0:
        line = Line(pending.far_end)
        try:
            gc.disable()  # a collection would touch, and so copy, every page that is shared with the caller
            forget_signals()
            settle(line, stdio, preserve, keep)
            body(line)
        except StepError as error:
            line.fail(error)
        except Exception as error:
            line.fail(StepError.of("fork", error))
        finally:
            os._exit(1)
    pending.helpers.append(pidfd)
    pending.far_end.close()
    return pending


def _fork_hooks(hooks: Callable[[int], None], container: int, channel: socket.socket) -> int:
    """Run the hooks of the runtime's namespace in a process of their own; it answers the container itself."""
    pid, pidfd = linux.clone(0)
    if pid:
        return pidfd
    try:
        line = Line(channel)
        try:
            forget_signals()
            hooks(container)
            line.send("go")
        except Exception as error:
            line.fail(StepError.of("hooks", error))
    finally:
        os._exit(0)


def settle(line: Line, stdio: Stdio, preserve: int, keep: Iterable[int]) -> None:
    """In a new child: standard streams at 0, 1, 2 (none: nowhere), `preserve` more after them, the channel,
    `keep`; nothing else.

    The caller holds the ends of other containers' channels and pipes: a copy would keep those open.
    """
    first = 3 + preserve
    streams = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) if fd < 0 else fd for fd in stdio]
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, first) for descriptor in streams]
    for standard, descriptor in enumerate(copies):
        os.dup2(descriptor, standard)
    keep_only((line.socket.fileno(), *keep), first)


def keep_only(descriptors: Iterable[int], first: int) -> None:
    """Close all others from `first` on."""
    for descriptor in sorted(set(descriptors)):
        linux.close_range(first, descriptor - 1)
        first = max(first, descriptor + 1)
    linux.close_range(first)


def forget_signals() -> None:
    """Handlers went with the clone, but what the caller ignores or blocks would survive even exec."""
    for number in range(1, signal.NSIG):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    for number in (32, 33):
        linux.default_action(number)  # make(1), for one, leaves them ignored
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
