"""What containers leave on the disk is not for other users of the host: it may be a set-uid program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.host import Host

pytestmark = pytest.mark.kernel
NOBODY = 65534


def test_nobody_runs_what_a_container_has_made(host: Host) -> None:
    """Root in a container makes set-uid programs of root: in its own files, in a volume, in a snapshot.

    And nobody puts files into what lies below containers.
    """
    stack = host.stack(
        """
        services:
          web: {image: host, init: true, command: [sleep, "1000"], volumes: ["data:/data"]}
        volumes: {data: {}}
        """
    )
    stack.ok("up", "-d")
    script = "chmod 755 /root; for at in /root /data; do cp /bin/true $at/suid; chmod 4755 $at/suid; done"
    stack.ok("exec", "-T", "web", "sh", "-c", script)
    state = Path(host.environment["COMPOSER_STATE_DIR"])
    (shared,) = state.glob("images/builtin/host-*/tmp")
    touched = subprocess.run(
        ["touch", shared / "x"], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False
    )
    assert b"Permission denied" in touched.stderr
    check(state, 2)
    stack.ok("snapshot", "create", "one")
    check(state, 2)
    for folder in ("stacks", "volumes", "snapshots/layers"):
        (state / folder).chmod(0o755)  # as an earlier version, or an unpacked backup, has it
    stack.ok("snapshot", "create", "two")
    check(state, 2)


def check(state: Path, least: int) -> None:
    found = [path for path in state.rglob("suid") if path.stat().st_mode & 0o4000]
    assert len(found) >= least
    for path in found:
        with pytest.raises(PermissionError):
            subprocess.run([path], user=NOBODY, group=NOBODY, extra_groups=[], check=True)
