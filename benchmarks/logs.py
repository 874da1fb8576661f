"""How fast container output is written down, and how fast logs are read again; beside Docker and podman.

    python -m benchmarks.logs [--megabytes 500] [--rounds 3]

Needs root. Writing: one container prints 100-byte lines as fast as they are taken; the megabytes are what it
prints. Reading: a million such lines of one container, and of ten merged by time, by a fresh process into
/dev/null. Docker and podman take turns with ours where they have busybox; the median round is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from composer.keeper.client import Keeper
from composer.keeper.drain import Clock, records
from composer.keeper.launch import launch

LINES = 1_000_000
LINE = b"x" * 99 + b"\n"
READ = """
import os, sys
sys.path.insert(0, {root!r})
from composer.logs import Source, read
out = os.open(os.devnull, os.O_WRONLY)
for chunk in read([Source(path, b"web-1  | ") for path in sys.argv[1:]]):
    os.write(out, chunk)
"""
ROOT = str(Path(__file__).resolve().parents[1])


def printing(megabytes: int) -> list[str]:
    return ["sh", "-c", f"yes {LINE[:-1].decode()} | head -c {megabytes * 1_000_000}"]


def bundle(place: Path, args: list[str]) -> Path:
    """A container that sees the host's programs."""
    rootfs = place / "rootfs"
    for folder in ("usr", "proc", "dev"):
        (rootfs / folder).mkdir(parents=True)
    for link in ("bin", "sbin", "lib", "lib64"):
        (rootfs / link).symlink_to(f"usr/{link}")
    spec = {
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"args": args, "cwd": "/", "env": ["PATH=/usr/bin:/bin"], "user": {"uid": 0, "gid": 0}},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]},
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "network")]},
    }
    (place / "config.json").write_text(json.dumps(spec))
    return place


def ours_writing(megabytes: int) -> float:
    """Seconds from the start of the container to its end, with everything on its way to the disk."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        launch(run, [sys.executable, "-c", "import signal; signal.pause()"], Path(place) / "diagnostics")
        container = bundle(Path(place) / "bundle", printing(megabytes))
        with Keeper(run) as keeper:
            keeper.call("subscribe")
            made = keeper.call("create", id="c", bundle=str(container), log={"path": f"{place}/c.log"})
            os.close(made["fds"]["pidfd"])
            begin = time.perf_counter()
            keeper.call("start", id="c")
            while keeper.event()["event"] != "exit":
                pass
            seconds = time.perf_counter() - begin
            assert os.path.getsize(f"{place}/c.log") > megabytes * 1_000_000
            keeper.call("quit")
        return seconds


def usable(engine: str) -> bool:
    """Whether it is there, runs, and has the image: nothing is downloaded here."""
    if not shutil.which(engine):
        return False
    return not subprocess.run([engine, "image", "inspect", "busybox"], capture_output=True).returncode


def theirs_writing(engine: str) -> Callable[[int], float]:
    def measure(megabytes: int) -> float:
        words = [engine, "run", "--name", "composer-benchmark", "busybox", *printing(megabytes)]
        begin = time.perf_counter()
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        seconds = time.perf_counter() - begin
        subprocess.run([engine, "rm", "-f", "composer-benchmark"], stdout=subprocess.DEVNULL, check=True)
        return seconds

    return measure


def make_log(path: Path, lines: int) -> None:
    """As the keeper writes it: each read of a pipe is one batch."""
    clock = Clock()
    batch = 2_000
    with path.open("wb") as file:
        for _ in range(0, lines, batch):
            for part in records(clock.stamp() + b" stdout ", LINE * batch):
                file.write(part)


def reading(paths: list[Path]) -> float:
    words = [sys.executable, "-I", "-c", READ.format(root=ROOT), *map(str, paths)]
    begin = time.perf_counter()
    subprocess.run(words, check=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    writers: dict[str, Callable[[int], float]] = {"composer": ours_writing}
    writers |= {name: theirs_writing(name) for name in ("docker", "podman") if usable(name)}
    taken: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(options.rounds):
        for name, measure in writers.items():
            taken[name].append(measure(options.megabytes))
    for name, seconds in taken.items():
        print(f"writing, {name:9} {options.megabytes / statistics.median(seconds):7.0f} MB/s")
    with tempfile.TemporaryDirectory() as place:
        one = Path(place) / "one.log"
        make_log(one, LINES)
        ten = [Path(place) / f"{number}.log" for number in range(10)]
        for path in ten:
            make_log(path, LINES // 10)
        for what, paths in (("one container", [one]), ("ten, merged", ten)):
            median = statistics.median(reading(paths) for _ in range(options.rounds))
            print(f"reading 1 M lines, {what:14} {median:6.2f} s")


if __name__ == "__main__":
    main()
