"""A published SCTP port, with real associations: from the host, from another host, from a neighbour."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.host import Host
from tests.network.conftest import Host as Machine
from tests.network.conftest import Space

pytestmark = pytest.mark.kernel

SERVE = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
server.bind(("0.0.0.0", 3868))
server.listen()
while True:
    got, peer = server.accept()
    got.sendall(got.recv(100)[::-1] + b" " + peer[0].encode())
    got.close()
"""
ASK = """
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
client.settimeout(20)
client.connect(("198.51.100.1", 3868))
client.sendall(b"hello")
print(client.recv(100).decode())
"""
TEXT = """
    services:
      gate:
        image: host
        init: true
        volumes: ["./serve.py:/serve.py:ro"]
        command: [python3, -SI, /serve.py]
        ports: ["3868:3868/sctp"]
        healthcheck: {test: "grep -q 3868 /proc/net/sctp/eps", interval: 100ms, retries: 600}
      peer:
        image: host
        init: true
        command: [sleep, "1000"]
"""


def sctp() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)


@pytest.fixture
def needs_sctp() -> None:
    try:
        sctp().close()
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        pytest.skip("this kernel has no SCTP")


def asked(space: Space) -> str:
    return space.run("python3", "-SIc", ASK).strip()


def test_associations_lead_to_the_container(needs_sctp: None, machine: Machine, site: Host) -> None:
    """Another host is seen as itself; nobody else gets the port until the stack is down."""
    other = machine.neighbour()
    stack = site.stack(TEXT, files={"serve.py": SERVE})
    stack.ok("up", "-d", "--wait")
    assert asked(other) == "olleh 198.51.100.2"
    assert asked(machine).startswith("olleh ")
    assert stack.ok("exec", "-T", "peer", "python3", "-SIc", ASK).startswith("olleh ")
    with machine.inside(), sctp() as taken, pytest.raises(OSError, match="in use"):
        taken.bind(("0.0.0.0", 3868))
    assert stack.ok("port", "--protocol", "sctp", "gate", "3868").strip() == "0.0.0.0:3868"
    stack.ok("down")
    with machine.inside(), sctp() as again:
        again.bind(("0.0.0.0", 3868))
