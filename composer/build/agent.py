"""An ssh agent of one's own, with the keys that a step was given. K.

The keys never enter the container: only the agent's socket does. It ends with the step, and with us.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
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
