"""Starting a keeper, from any process, in a millisecond or two. Standard library only.

The sockets listen before the keeper has read its first line: whoever starts it makes them on its behalf, so a
request sent at once simply waits.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import warnings
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])
_START = f"import sys; sys.path.insert(0, {_ROOT!r}); from composer.keeper.main import main; main()"


def launch(run: Path, supervisor: list[str], diagnostics: Path) -> bool:
    """Make sure that a keeper lives in the run directory `run`; False if one was there already.

    On return `keeper.sock` and `api.sock` can be connected to. `supervisor` is the command line that the
    keeper keeps running; `diagnostics` takes what both print. A keeper that is about to end is waited for.
    """
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    diagnostics.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)  # two starters at once: one after the other
        life = os.open("life", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            if _answers(directory):
                return False
            fcntl.flock(life, fcntl.LOCK_EX)
            with _listen(directory, "keeper.sock") as keeper, _listen(directory, "api.sock") as api:
                log = os.open(diagnostics, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                program = _program()
                try:
                    fds = (life, keeper.fileno(), api.fileno(), program)
                    _spawn([str(run.absolute()), *supervisor], fds, log)
                finally:
                    os.close(program)
                    os.close(log)
        finally:
            os.close(life)
        return True
    finally:
        os.close(directory)


def address(directory: int, name: str) -> str:
    """A socket's path by way of its directory's descriptor, since sun_path ends after 107 bytes."""
    return f"/proc/self/fd/{directory}/{name}"


def _answers(directory: int) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(address(directory, "keeper.sock"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


def _listen(directory: int, name: str) -> socket.socket:
    """A listening socket at `name`, which nobody else can own: the caller holds the life lock."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        listener.bind(address(directory, name))
        os.chmod(name, 0o600, dir_fd=directory)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def _program() -> int:
    """The interpreter, where no container that the keeper makes can write to it."""
    from composer.runtime.protect import interpreter

    try:
        return interpreter()
    except PermissionError:  # who may not mount does not make containers either
        return os.open(sys.executable, os.O_PATH | os.O_CLOEXEC)


def _spawn(arguments: list[str], fds: tuple[int, int, int, int], log: int) -> None:
    """Start the keeper as nobody's child, with its own descriptors (see `composer.keeper`) and no others.

    The last of `fds` is the program.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child does nothing but exec
        child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        above = [
            fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
            for fd in (os.open(os.devnull, os.O_RDWR), log, log, *fds)
        ]
        for target, fd in enumerate(above):
            os.dup2(fd, target)
        os.closerange(len(above), 1 << 20)
        program = len(above) - 1
        os.set_inheritable(program, False)
        os.execve(program, [sys.executable, "-I", "-S", "-c", _START, *arguments], os.environ)
    finally:
        os._exit(127)
