"""The container's terminal."""

from __future__ import annotations

import os
import select
from typing import Any

import pytest

from composer.runtime.errors import StepError
from tests.runtime.box import DEADLINE, Box, drain, status

pytestmark = pytest.mark.kernel


def on_terminal(box: Box, *args: str, **process: Any) -> dict[str, Any]:
    spec = box.spec(*args)
    spec["process"] |= {"terminal": True, "consoleSize": {"height": 40, "width": 100}, **process}
    return spec


def test_from_its_own_devpts_with_a_size(box: Box) -> None:
    container = box.start(on_terminal(box, "sh", "-c", "tty; stty size; stat -c '%t %T' /dev/console"))
    assert drain(container.console).split() == ["/dev/pts/0", "40", "100", "88", "0"]


def test_streams_lead_to_its_name(box: Box) -> None:
    container = box.start(on_terminal(box, "sh", "-c", "ls -l /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2"))
    assert [line.split()[-1] for line in drain(container.console).splitlines()] == ["/dev/pts/0"] * 3


def test_belongs_to_the_user(box: Box) -> None:
    spec = on_terminal(box, "sh", "-c", "stat -c '%u %a' /dev/pts/0", user={"uid": 1000, "gid": 1000})
    assert drain(box.start(spec).console).split() == ["1000", "620"]


def test_is_the_controlling_one(box: Box) -> None:
    """Control-C reaches the foreground job, which only a controlling terminal can do."""
    container = box.start(
        on_terminal(
            box, "sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done"
        )
    )
    text = b""
    while b"ready" not in text:
        assert select.select([container.console], [], [], DEADLINE)[0]
        text += os.read(container.console, 4096)
    os.write(container.console, b"\x03")
    assert "caught" in drain(container.console)
    assert status(container) == 3


def test_a_device_that_poses_as_the_multiplexer_is_refused(box: Box) -> None:
    """CVE-2025-52565: /dev is the container's."""
    (box.layer / "dev" / "pts").mkdir(parents=True)
    os.mknod(box.layer / "dev" / "pts" / "ptmx", 0o020666, os.makedev(1, 3))
    spec = on_terminal(box, "sh")
    spec["mounts"] = [mount for mount in spec["mounts"] if not mount["destination"].startswith("/dev")]
    with pytest.raises(StepError, match="is not a terminal multiplexer"):
        box.create(spec)


def test_a_link_as_console_is_not_followed(box: Box) -> None:
    """CVE-2025-52565: or the console could be mounted over a file of /proc."""
    spec = on_terminal(box, "true")
    spec["mounts"] = [m for m in spec["mounts"] if m["destination"] in ("/proc", "/dev/pts")]
    (box.layer / "dev").mkdir()
    (box.layer / "dev" / "console").symlink_to("/proc/version")
    with pytest.raises(StepError, match="/dev/console: is neither a device nor a file"):
        box.create(spec)
