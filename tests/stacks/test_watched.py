"""The example for `develop.watch` as its users drive it: save, look, save."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from tests.host import Host, Stack

pytestmark = pytest.mark.kernel
EXAMPLE = Path(__file__).parents[2] / "examples" / "stacks" / "watched"


def page(port: int, path: str = "/") -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError as error:
        return str(error)


def test_what_is_saved_is_served(host: Host) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host.environment |= {"WATCHED_PORT": str(port), "COMPOSE_PROJECT_NAME": f"{host.mark}watched"}
    folder = host.root / "watched"
    shutil.copytree(EXAMPLE, folder)
    stack = Stack(host, folder)
    process = stack.start("up", "--watch")
    assert process.stdout
    out = process.stdout.fileno()

    def until(path: str, text: str) -> None:
        """The page has the text; what `up` says is read meanwhile."""
        deadline = time.monotonic() + 60
        while text not in (shown := page(port, path)):
            assert time.monotonic() < deadline, shown
            if select.select([out], [], [], 0.05)[0]:
                assert os.read(out, 65536)

    try:
        until("/", "Hello. Change me")
        until("/words", "apple\npear\n")
        (folder / "app/pages/index.txt").write_text("GREETING, better.\n")
        until("/", "Hello, better.")
        server = folder / "app/server.py"
        server.write_text(server.read_text().replace("Hello", "Good morning"))
        until("/", "Good morning, better.")
        with open(folder / "app/words.txt", "a") as words:
            words.write("banana\n")
        until("/words", "apple\nbanana\npear\n")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
