"""Tests that depend on nothing outside: offline, internal networks, and what was reached for."""

from __future__ import annotations

import json
import urllib.request

import pytest

from composer import Stack
from composer.errors import FailedError
from tests.host import Host

pytestmark = pytest.mark.kernel

WEB = {"image": "host", "init": True, "command": ["python3", "-u", "-m", "http.server", "80"]}


def test_offline_refuses_to_pull_by_name(here: Host) -> None:
    stack = Stack(yaml={"services": {"one": {"image": "not.here/at-all:1"}}}, name=here.mark, offline=True)
    try:
        with pytest.raises(FailedError, match=r"image not.here/at-all:1 is not pulled while offline"):
            stack.up()
    finally:
        stack.down()


def test_the_command_line_can_be_offline(host: Host) -> None:
    stack = host.stack("services: {one: {image: 'not.here/at-all:1'}}")
    for done in (stack("--offline", "up", "-d"), stack("up", "-d", env={"COMPOSER_OFFLINE": "1"})):
        assert done.returncode == 1
        assert "image not.here/at-all:1 is not pulled while offline" in done.stderr


def test_builds_have_no_network_when_offline(here: Host) -> None:
    (here.root / "Dockerfile").write_text('FROM host\nRUN ls /sys/class/net > /links\nCMD ["sleep", "inf"]\n')
    build = {"services": {"one": {"build": str(here.root), "init": True}}}
    with Stack(yaml=build, directory=here.root, name=here.mark, offline=True) as stack:
        assert stack["one"].exec("cat", "/links").stdout.split() == ["lo"]
    stack.down(images="all")


def test_internal_networks_lead_nowhere_and_ports_are_reached(here: Host) -> None:
    web = {
        **WEB,
        "ports": ["80"],
        "healthcheck": {
            "test": ["CMD", "python3", "-c", TRY],
            "start_interval": "50ms",
            "start_period": "60s",
        },
    }
    with Stack(yaml={"services": {"web": web}}, name=here.mark, internal=True) as stack:
        assert urllib.request.urlopen(stack["web"].url(80)).status == 200
        tried = stack["web"].exec(
            "python3", "-c", "import socket; socket.create_connection(('192.0.2.1', 9))"
        )
        assert "Network is unreachable" in tried.stderr


def test_what_was_reached_for_is_known(here: Host) -> None:
    """Names that are none of the stack's, and addresses outside, over changes of the rules."""
    tried = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('192.0.2.1', 4242))"
    services = {"one": WEB, "two": {**WEB, "ports": ["80"]}}
    with Stack(yaml={"services": services}, name=here.mark) as stack:
        one = stack["one"]
        assert not stack.reached()
        one.exec("getent", "hosts", "two", check=True)  # one of ours
        one.exec("getent", "hosts", "nowhere.invalid")
        one.exec("python3", "-c", tried, check=True)
        stack["two"].restart()
        reached = stack.reached()
        assert (one.container.name, "nowhere.invalid") in reached.names
        assert reached.addresses == ((one.container.name, "192.0.2.1", "4242/udp"),)
        shown = here.composer("-p", here.mark, "reached").stdout
        assert "192.0.2.1" in shown and "nowhere.invalid" in shown
        assert json.loads(here.composer("-p", here.mark, "reached", "--format", "json").stdout)["addresses"]


TRY = "import socket; socket.create_connection(('127.0.0.1', 80))"
