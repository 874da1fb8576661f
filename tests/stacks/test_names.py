"""A container that serves names on port 53 itself, and tells nobody, still has the stack's names."""

from __future__ import annotations

import pytest

from tests.host import Host
from tests.stacks.test_crash import kill, processes

pytestmark = pytest.mark.kernel

SERVER = """
import socket, threading
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 53))
tcp = socket.create_server(("0.0.0.0", 53))
print(socket.gethostbyname("web"), flush=True)
def serve():
    while True:
        data, who = udp.recvfrom(512)
        udp.sendto(b"udp " + data, who)
threading.Thread(target=serve, daemon=True).start()
while True:
    connection, _ = tcp.accept()
    connection.sendall(b"tcp " + connection.recv(512))
    connection.close()
"""
ASK = """
import socket
address = socket.gethostbyname("names")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(10)
udp.sendto(b"hello", (address, 53))
print(udp.recv(512).decode())
tcp = socket.create_connection((address, 53), 10)
tcp.sendall(b"hello")
print(tcp.recv(512).decode())
"""
# A question for web's address as it goes over TCP, and one that goes over UDP.
BY_TCP = """
import socket
question = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3web\\0\\0\\1\\0\\1"
tcp = socket.create_connection(("127.0.0.11", 53), 10)
tcp.sendall(len(question).to_bytes(2, "big") + question)
answer = tcp.recv(2048)[2:]
print(socket.inet_ntoa(answer[-4:]), socket.gethostbyname("web"))
"""


def test_a_name_server_beside_the_resolver(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            init: true
            command: [sleep, "100000"]
          names:
            image: host
            init: true
            command: [python3, /server.py]
            volumes: ["./server.py:/server.py:ro"]
            depends_on: [web]
        """,
        files={"server.py": SERVER},
    )
    stack.ok("up", "-d")
    asked = stack.ok("exec", "-T", "web", "python3", "-c", ASK)
    assert asked.splitlines() == ["udp hello", "tcp hello"]
    by_tcp, by_udp = stack.ok("exec", "-T", "names", "python3", "-c", BY_TCP).split()
    assert by_tcp == by_udp
    assert stack.ok("logs", "--no-log-prefix", "names").strip() == by_udp
    kill(*processes(stack, "supervisor"))
    assert stack.ok("exec", "-T", "names", "python3", "-c", BY_TCP).split() == [by_tcp, by_udp]
