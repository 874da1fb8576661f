"""What containers cost a test run: ours beside testcontainers-python on a Docker Engine of one's own.

    python -m benchmarks.testing [--rounds 5] [--testcontainers PYTHON]

Needs root and busybox. PYTHON is an interpreter that has testcontainers; without one ours are measured alone.
Each side serves HTTP by the same busybox, and is ready when a request is answered. Ryuk, which removes what
testcontainers leaves behind when it is killed, is off: it would cost one more container.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.engine import Engine, engine

IMAGE = "localhost/web:1"
NEW_NETWORK_NAMESPACE = 0x40000000
OURS = """
from composer import Stack
from composer.testing import Container, HttpWaitStrategy
def web():
    made = Container("host").with_command("busybox httpd -f -p 80 -h /etc").with_kwargs(init=True)
    return made.with_exposed_ports(80).waiting_for(HttpWaitStrategy(80, "/hostname"))
"""
THEIRS = f"""
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy
def web():
    made = DockerContainer("{IMAGE}").with_command("/bin/busybox httpd -f -p 80 -h /etc")
    wait = HttpWaitStrategy(80, "/hostname").with_poll_interval(0.05)
    return made.with_exposed_ports(80).waiting_for(wait)
"""
MEASURE = """
import json, sys, time
begun = time.monotonic()
{setup}
found = {{"start": [], "stop": []}}
for round in range({rounds} + 1):
    one = web()
    one.start()
    ready = time.monotonic()
    found.setdefault("first", ready - begun)
    one.stop()
    if round:
        found["start"].append(ready - begun)
        found["stop"].append(time.monotonic() - ready)
    begun = time.monotonic()
{more}
print(json.dumps(found))
"""
RESET = """
stack = Stack(yaml={"services": {"web": {
    "image": "host", "init": True, "command": "busybox httpd -f -p 80 -h /etc", "volumes": ["data:/data"],
    "healthcheck": {"test": ["CMD", "busybox", "wget", "-qO", "/dev/null", "127.0.0.1/hostname"],
                    "start_interval": "20ms", "start_period": "60s"}}}, "volumes": {"data": {}}})
found["reset"] = []
with stack:
    stack.snapshot("fresh")
    stack.start()
    for round in range(ROUNDS):
        begun = time.monotonic()
        stack.restore("fresh")
        found["reset"].append(time.monotonic() - begun)
"""


def measure(python: str, setup: str, rounds: int, environment: dict[str, str], more: str = "") -> None:
    """Of the second of two sessions: images and caches are there."""
    session(python, setup, 0, environment, "")
    found = session(python, setup, rounds, environment, more)
    print(f"  first container of a session is ready   {found.pop('first'):.2f}")
    for name, text in (("start", "another is ready"), ("stop", "it is gone"), ("reset", "a stack is as new")):
        if times := found.get(name):
            print(f"  {text:38}  {statistics.median(times):.2f}, least {min(times):.2f}")


def session(python: str, setup: str, rounds: int, environment: dict[str, str], more: str) -> dict[str, Any]:
    code = MEASURE.format(setup=setup, rounds=rounds, more=more.replace("ROUNDS", str(rounds)))
    done = subprocess.run(
        [python, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def import_image(docker: Engine) -> None:
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add("/bin/busybox", "bin/busybox")
        file.seek(0)
        docker.run("import", "-", IMAGE, stdin=file.fileno())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--testcontainers", metavar="PYTHON", default="")
    options = parser.parse_args()
    if ctypes.CDLL(None).unshare(NEW_NETWORK_NAMESPACE):
        raise SystemExit("needs root, for a network namespace of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {os.uname().release}; seconds")
    with tempfile.TemporaryDirectory(prefix="testbench") as folder:
        Path(folder).chmod(0o755)
        places = {"COMPOSER_RUN_DIR": f"{folder}/run", "COMPOSER_STATE_DIR": f"{folder}/state"}
        print("composer.testing")
        measure(sys.executable, OURS, options.rounds, places, RESET)
    if not options.testcontainers:
        return
    with engine() as docker:
        if docker is None:
            raise SystemExit("no Docker Engine can be run here")
        import_image(docker)
        print("testcontainers-python, without Ryuk")
        place = {"DOCKER_HOST": f"unix://{docker.sock}", "TESTCONTAINERS_RYUK_DISABLED": "true"}
        measure(options.testcontainers, THEIRS, options.rounds, place)


if __name__ == "__main__":
    main()
