"""What health checks cost: processor time of a stack's own processes with many containers probed each second.

    python -m benchmarks.health [--containers 100] [--seconds 20]

Needs root. Counted are supervisor and keeper with all the children that they have waited for, which the
processes of CMD checks are; not the containers. The first line is without checks.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from composer import Stack

LISTEN = (
    "import socket; s = socket.create_server(('127.0.0.1', 80)); "
    "[s.accept()[0].close() for _ in iter(int, 1)]"
)
STACK = """
    services:
      web:
        image: host
        init: true
        stop_grace_period: 1s
        scale: {containers}
        command: [python3, -S, -c, "{listen}"]
        healthcheck: {{{check}}}
"""
CHECKS = {
    "none": "disable: true",
    "x-tcp": "interval: 1s, start_period: 2m, x-tcp: 80",
    "CMD": 'interval: 1s, start_period: 2m, test: [CMD, "true"]',
}


def processor_time(folder: str) -> float:
    """Seconds of the processes that have this folder in their command line, proc_pid_stat(5)."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if folder.encode() in (entry / "cmdline").read_bytes():
                total += sum(map(int, (entry / "stat").read_text().rpartition(")")[2].split()[11:15]))
        except OSError:
            continue  # it has ended
    return total / os.sysconf("SC_CLK_TCK")


def measured(check: str, containers: int, seconds: float) -> float:
    """Percent of one processor."""
    with tempfile.TemporaryDirectory(prefix="health") as folder:
        os.environ["COMPOSER_RUN_DIR"], os.environ["COMPOSER_STATE_DIR"] = f"{folder}/run", f"{folder}/state"
        Path(folder).chmod(0o755)
        text = STACK.format(containers=containers, listen=LISTEN, check=check)
        with Stack(yaml=text, name="health"):
            time.sleep(10)  # what the start has left to do is not counted
            before, begun = processor_time(f"{folder}/run"), time.monotonic()
            time.sleep(seconds)
            used = processor_time(f"{folder}/run") - before
            return 100 * used / (time.monotonic() - begun)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--containers", type=int, default=100)
    options.add_argument("--seconds", type=float, default=20)
    given = options.parse_args()
    print(f"{given.containers} containers, each checked once a second; load {os.getloadavg()[0]:.1f}")
    for name, check in CHECKS.items():
        print(f"{name:6} {measured(check, given.containers, given.seconds):6.2f} % of one processor")


if __name__ == "__main__":
    main()
