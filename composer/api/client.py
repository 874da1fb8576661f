"""The command line's side of a stack's supervisor: found or started, asked, listened to. Blocking."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from composer.api.patience import readable
from composer.disk import keep_private
from composer.errors import ComposerError, PeerLostError, UsageError
from composer.keeper.launch import address, launch
from composer.keeper.wire import Decoder, encode, receive, rights
from composer.paths import StackPaths
from composer.supervisor.wire import ERRORS, HELLO

Message = dict[str, Any]
Heard = Callable[[Message], None]


class Supervisor:
    """One connection. Requests may overlap; frames of other requests are kept for whoever asks for them."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = Decoder()
        self.frames: list[Message] = []
        self.last = 0
        self.deadline: float | None = None
        """A moment of time.monotonic(); waiting longer for a frame raises LateError."""
        sock.sendall(encode(dict(HELLO)))

    @classmethod
    def connect(cls, paths: StackPaths) -> Supervisor | None:
        """The stack's supervisor; None when nothing of the stack runs."""
        try:
            directory = os.open(paths.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.connect(address(directory, "api.sock"))
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            return None
        finally:
            os.close(directory)
        return cls(sock)

    @classmethod
    def start(cls, paths: StackPaths) -> Supervisor:
        """The stack's supervisor, started with its keeper when the stack has none."""
        try:
            start_keeper(paths)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise ComposerError(f"the stack's keeper cannot be started: {error.strerror}{where}") from error
        found = cls.connect(paths)
        if found is None:
            raise PeerLostError(
                "the stack's keeper did not come up",
                hint=f"see {paths.diagnostics}, or run `composer doctor`",
            )
        return found

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, verb: str, fds: Mapping[str, int] | None = None, /, **fields: Any) -> int:
        """Send a request; its number."""
        self.last += 1
        given = dict(fds or {})
        frame = encode({**fields, "id": self.last, "verb": verb, "fds": list(given)})
        try:
            sent = self.sock.sendmsg([frame], rights(list(given.values())))
            self.sock.sendall(frame[sent:])
        except ConnectionError as error:
            self.last_words()
            raise PeerLostError("the stack's supervisor went away") from error
        except OSError as error:
            raise PeerLostError("the stack's supervisor went away") from error
        return self.last

    def last_words(self) -> None:
        """Who hung up may have said why before: raises UsageError for a supervisor of another version."""
        try:
            while True:
                self.receive()
        except PeerLostError:
            return

    def next(self, number: int) -> Message:
        """The next frame of a request. Raises PeerLostError when the supervisor is gone."""
        while True:
            for frame in self.frames:
                if frame.get("id") == number:
                    self.frames.remove(frame)
                    return frame
            self.receive()

    def receive(self) -> None:
        """Read once; what comes waits in `frames`."""
        readable([self.sock], self.deadline)
        try:
            data, fds = receive(self.sock)
        except ConnectionError:
            data, fds = b"", []
        if not data:
            raise PeerLostError("the stack's supervisor went away")
        for message in self.decoder.feed(data, fds):
            if "supervisor" not in message:
                self.frames.append(message)
            elif message["supervisor"] != HELLO["supervisor"]:
                raise UsageError(
                    "the running supervisor is of another version of composer",
                    hint="`composer down` with that version first",
                )

    def result(self, number: int, heard: Heard | None = None) -> Message:
        """The final answer; other frames go to `heard`. Raises what the supervisor raised."""
        while True:
            frame = self.next(number)
            if "error" in frame:
                raise failure(frame["error"])
            if "ok" in frame:
                return {**frame["ok"], "fds": frame["fds"]}
            if heard:
                heard(frame)

    def ended(self, number: int) -> bool:
        """Read once; whether the final answer has come, which `result` then has."""
        self.receive()
        return any(one.get("id") == number and ("ok" in one or "error" in one) for one in self.frames)

    def call(
        self, verb: str, fds: Mapping[str, int] | None = None, /, heard: Heard | None = None, **fields: Any
    ) -> Message:
        """`send` and `result`."""
        return self.result(self.send(verb, fds, **fields), heard)


def settle(paths: StackPaths) -> None:
    """Have the supervisor, if the stack has one, record everything that it knows by now."""
    supervisor = Supervisor.connect(paths)
    if supervisor is not None:
        try:
            with supervisor:
                supervisor.call("settle")
        except PeerLostError:
            pass  # it has just ended, and the record has it all


def start_keeper(paths: StackPaths) -> bool:
    """Start the stack's keeper (and so its supervisor) unless it lives; returns at once."""
    keep_private(paths.state.parent)
    paths.state.mkdir(exist_ok=True)
    # Not by way of `site`, which costs as much as the interpreter itself: the paths are known here. Ours need
    # not be among them: an installation for developers can have us found by a hook.
    root = str(Path(__file__).resolve().parents[2])
    places = sys.path if root in sys.path else [*sys.path, root]
    code = f"import sys; sys.path[:] = {places!r}; from composer.supervisor.main import main; main()"
    command = [sys.executable, "-I", "-S", "-c", code, str(paths.run), str(paths.state)]
    return launch(paths.run, command, paths.diagnostics)


def failure(error: Message) -> ComposerError:
    """What the supervisor raised, as far as programs tell errors apart."""
    raised = ERRORS.get(error.get("kind", ""), ComposerError)(error["message"], hint=error.get("hint"))
    raised.exit_code = error.get("exit_code", 1)
    return raised
