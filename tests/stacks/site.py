"""A machine of its own for a test of stacks: a network namespace, with other hosts on its wire."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

from tests.host import Stack
from tests.network.conftest import Space

SERVE = """
import os, select, socket, sys
hello = f"{os.environ.get('NAME') or socket.gethostname()}".encode()
def bound(kind):
    try:
        made = socket.socket(socket.AF_INET6, kind)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        address = "::"
    except OSError:
        made, address = socket.socket(socket.AF_INET, kind), "0.0.0.0"
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, int(os.environ.get("PORT", "80"))))
    return made
tcp, udp = bound(socket.SOCK_STREAM), bound(socket.SOCK_DGRAM)
tcp.listen(64)
while True:
    for ready in select.select([tcp, udp], [], [])[0]:
        if ready is tcp:
            got, peer = tcp.accept()
            got.sendall(hello + b" " + peer[0].removeprefix("::ffff:").encode())
            got.close()
        else:
            _, peer = udp.recvfrom(2000)
            udp.sendto(hello + b" " + peer[0].removeprefix("::ffff:").encode(), peer)
"""
"""Says its name, and whom it sees, to everybody who connects."""

SERVER = """
            image: host
            init: true
            volumes: ["./serve.py:/serve.py:ro"]
            command: [python3, -SI, /serve.py]
"""

LOOK = """
import json, os, socket, sys
def addresses(name):
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except OSError as error:
        return []
def read(path):
    try:
        return open(path).read()
    except OSError:
        return ""
print(json.dumps({
    "hostname": socket.gethostname(), "domainname": read("/proc/sys/kernel/domainname").strip(),
    "resolv.conf": read("/etc/resolv.conf"), "hosts": read("/etc/hosts"),
    "links": {name: read(f"/sys/class/net/{name}/address").strip() for name in os.listdir("/sys/class/net")},
    "mtu": {name: int(read(f"/sys/class/net/{name}/mtu")) for name in os.listdir("/sys/class/net")},
    "default": [line.split()[0] for line in read("/proc/net/route").splitlines() if "\\t00000000\\t" in line
                and line.split()[1] == "00000000"],
    "names": {name: addresses(name) for name in sys.argv[1:]},
}))
"""

REACH = """
import socket, sys, time
host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
end = time.monotonic() + 20
while True:
    try:
        with socket.create_connection((host, port), seconds) as made:
            print(made.recv(1000).decode())
            break
    except ConnectionRefusedError:
        if seconds < 1 or time.monotonic() > end:
            print("refused")
            break
    except OSError as error:
        print("nothing")
        break
"""


def look(stack: Stack, service: str, *names: str) -> dict[str, Any]:
    """What a container says of itself, and which addresses these names have for it."""
    found: dict[str, Any] = json.loads(stack.ok("exec", "-T", service, "python3", "-SIc", LOOK, *names))
    return found


def reach(stack: Stack, service: str, to: str, port: int = 80) -> str:
    """What is heard from there: `name whom-it-sees`. A server that is about to listen is waited for."""
    return stack.ok("exec", "-T", service, "python3", "-SIc", REACH, to, str(port), "10").strip()


def reaches(stack: Stack, service: str, to: str, port: int = 80) -> bool:
    """Whether anything accepts there within a quarter of a second."""
    heard = stack.ok("exec", "-T", service, "python3", "-SIc", REACH, to, str(port), "0.25").strip()
    return heard not in ("nothing", "refused")


def call(space: Space, to: str, port: int, kind: int = socket.SOCK_STREAM, seconds: float = 20.0) -> str:
    """The same from a host: what is heard there, or "" when nothing answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client = space.open(socket.AF_INET6 if ":" in to else socket.AF_INET, kind)
        client.settimeout(min(1.0, seconds))
        try:
            client.connect((to, port))
            client.send(b"?") if kind == socket.SOCK_DGRAM else None
            if heard := client.recv(1000).decode():
                return heard
        except OSError:
            pass
        finally:
            client.close()
        select.select([], [], [], 0.02)
    return ""


def address(stack: Stack, service: str, network: str = "default", number: int = 1) -> str:
    """The IPv4 address of a container, by the record."""
    path = stack.host.root / "state" / "stacks" / stack.name / "record.json"
    rows = {row["name"]: row for row in json.loads(path.read_text())["containers"]}
    row = rows[f"{stack.name}-{service}-{number}"]["networks"][f"{stack.name}_{network}"]
    return next(str(a).partition("/")[0] for a in row["addresses"] if ":" not in a)
