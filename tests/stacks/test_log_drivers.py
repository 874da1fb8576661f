"""Drivers of logs: who else gets the lines, that `logs` works whatever the driver, and what is refused."""

from __future__ import annotations

import socket

import pytest

from tests.host import Host
from tests.stacks.test_crash import kill, processes, until

pytestmark = pytest.mark.kernel

SYSLOG = """
    services:
      web:
        image: host
        command: [sh, -c, "for i in $$(seq {count}); do echo $$i; {pause}done; sleep {rest}"]
        init: true
        logging:
          driver: syslog
          options: {{syslog-address: "udp://127.0.0.1:{port}", tag: "{{{{.Name}}}}", syslog-format: rfc5424}}
"""


@pytest.fixture
def server() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 23)
    made.bind(("127.0.0.1", 0))
    made.settimeout(20)
    return made


def test_syslog_gets_every_line_and_logs_has_them_too(host: Host, server: socket.socket) -> None:
    port = server.getsockname()[1]
    stack = host.stack(SYSLOG.format(count=500, pause="", rest="0", port=port))
    stack.ok("up", "-d")
    with server:
        lines = [server.recv(4096) for _ in range(500)]
    assert [int(line.rpartition(b" ")[2]) for line in lines] == list(range(1, 501))
    assert f" {stack.name}-web-1 ".encode() in lines[0]
    until(lambda: len(stack.ok("logs", "--no-log-prefix").splitlines()) == 500)


def test_a_killed_supervisor_loses_nothing(host: Host, server: socket.socket) -> None:
    """Only what it has just sent, and could not note any more, goes twice."""
    port = server.getsockname()[1]
    stack = host.stack(SYSLOG.format(count=60, pause="sleep 0.05; ", rest="1000", port=port))
    stack.ok("up", "-d")
    with server:
        numbers = [_number(server) for _ in range(10)]
        (pid,) = processes(stack, "supervisor")
        kill(pid)
        while numbers[-1] < 60:
            numbers.append(_number(server))
    assert list(dict.fromkeys(numbers)) == list(range(1, 61))
    assert len(numbers) <= 61


def _number(server: socket.socket) -> int:
    return int(server.recv(4096).rpartition(b" ")[2])


def test_nobody_there_keeps_no_writer_waiting(host: Host) -> None:
    """The next command says so, and the lines are in the file."""
    stack = host.stack(
        """
        services:
          web:
            image: host
            command: [sh, -c, "seq 20000; sleep 1000"]
            init: true
            logging: {driver: syslog, options: {syslog-address: "unixgram:///nowhere/log"}}
        """
    )
    told = stack("up", "-d").stderr
    until(lambda: len(stack.ok("logs", "--no-log-prefix").splitlines()) == 20000)
    assert "syslog does not take its log" in told + stack("up", "-d").stderr


@pytest.mark.parametrize(
    ("logging", "complaint"),
    [
        ("{driver: fluentd}", "there is no log driver `fluentd` here\n  hint: known are json-file, "),
        (
            "{driver: json-file, options: {max-sise: 1m}}",
            "`max-sise` is no option of the log driver json-file",
        ),
        ("{options: {max-size: lots}}", "lots"),
        ("{options: {max-file: few}}", "`max-file` must be 1 or more, and not few"),
        ('{driver: journald, options: {labels-regex: "("}}', "unterminated subpattern"),
        ('{driver: syslog, options: {syslog-address: "udp://a..b"}}', "label empty"),
        ("{driver: syslog, options: {syslog-address: somewhere}}", "`syslog-address` must be like"),
        ("{driver: syslog, options: {syslog-facility: nobody}}", "there is no nobody"),
        ('{driver: journald, options: {tag: "{{.Nmae}}"}}', "there is no {{.Nmae}}"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(host: Host, logging: str, complaint: str) -> None:
    stack = host.stack(f"services:\n  web:\n    image: host\n    command: [id]\n    logging: {logging}\n")
    done = stack("up", "-d")
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert "Creating" not in done.stderr, "nothing is begun"


def test_driver_none_keeps_nothing(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web: {image: host, command: [sh, -c, "seq 10; exit 3"], logging: {driver: none}}
        """
    )
    done = stack("up", "--exit-code-from", "web")
    assert done.returncode == 3
    assert stack.ok("logs") == ""
