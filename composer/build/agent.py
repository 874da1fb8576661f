"""An ssh agent of one's own, with the keys that a step was given. K.

The keys never enter the container: only the agent's socket does. It ends with the step, and with us.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from composer.build.parse import Wrong
from composer.runtime import linux

SOCKET = "agent"


@contextmanager
def agent(keys: Sequence[str], place: Path) -> Iterator[str]:
    """The socket of an agent that holds the keys of some files. Raises Wrong."""
    for program in ("ssh-agent", "ssh-add"):
        if shutil.which(program) is None:
            raise Wrong(f"a key file needs {program}, which is not installed", "or give an agent's socket")
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", SOCKET],
        cwd=place,  # the name of a socket has room for 107 bytes only
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=_with_us,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it says where it listens when it does
            _add(keys, place)
            yield str(place / SOCKET)
        finally:
            process.kill()


@contextmanager
def relay(target: str, place: Path, owner: tuple[int, int], mode: int) -> Iterator[str]:
    """A socket of somebody else's to an agent: an agent itself talks to its own user and to root only."""
    with _reachable(place) as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/{SOCKET}")
        os.chown(place / SOCKET, *owner)
        (place / SOCKET).chmod(mode)
        listener.listen()
        pid = os.fork()
        if pid == 0:
            try:
                _with_us()
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_pass_on, args=(client, target), daemon=True).start()
            finally:
                os._exit(1)
    try:
        yield str(place / SOCKET)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _pass_on(client: socket.socket, target: str) -> None:
    """Bytes both ways, until one side has no more."""
    path = Path(target)
    with client, socket.socket(socket.AF_UNIX) as agent_:
        with _reachable(path.parent) as folder:
            agent_.connect(f"{folder}/{path.name}")
        others = {client: agent_, agent_: client}
        while True:
            for one in select.select(list(others), [], [])[0]:
                data = one.recv(65536)
                if not data:
                    return
                others[one].sendall(data)


@contextmanager
def _reachable(place: Path) -> Iterator[str]:
    """A short name of a directory: that of a socket has room for 107 bytes only."""
    descriptor = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _with_us() -> None:
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)


def _add(keys: Sequence[str], place: Path) -> None:
    environment = {**os.environ, "SSH_AUTH_SOCK": SOCKET, "SSH_ASKPASS_REQUIRE": "never"}
    for key in keys:
        done = subprocess.run(
            ["ssh-add", "-q", "--", os.path.abspath(key)],
            env=environment,
            cwd=place,
            start_new_session=True,  # without a terminal nobody is asked for a passphrase
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = " ".join(done.stderr.split())
            raise Wrong(f"the key {key} cannot be used: {said[:300] or 'it may need a passphrase'}")
