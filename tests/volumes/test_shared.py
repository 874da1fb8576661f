"""A volume that another stack's containers have outlives the stack that made it."""

from __future__ import annotations

import pytest

from tests.host import Host

pytestmark = pytest.mark.kernel
TEXT = """
services:
  a: {{image: host, init: true, command: sleep 1000, volumes: ["data:/data"]}}
volumes:
  data: {{name: {name}, external: {external}}}
"""


def test_down_v_leaves_what_others_use(host: Host) -> None:
    name = f"{host.mark}data"
    maker = host.stack(TEXT.format(name=name, external="false"))
    user = host.stack(TEXT.format(name=name, external="true"), name="other")
    maker.ok("up", "-d")
    user.ok("up", "-d")
    user.ok("exec", "a", "touch", "/data/kept")
    done = maker("down", "-v", "-t", "0")
    assert done.returncode == 0, done.stderr
    assert f"the volume {name} is in use" in done.stderr
    user.ok("exec", "a", "test", "-e", "/data/kept")
    user.ok("down", "-t", "0")
    assert name in host.composer("volume", "ls", "-q").stdout
    assert host.composer("volume", "rm", name).returncode == 0
