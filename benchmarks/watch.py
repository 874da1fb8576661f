"""How long a save takes to be in a container, by `composer watch`, and how long watchfiles takes to say so.

    python -m benchmarks.watch [--saves 100]

Needs root. A save is a whole file written beside its place and renamed, as editors do; the time is from the
rename on this host to the close-and-rename in the container, which is heard by inotify there. Beside it the
time from a save to the answer of watchfiles (if it is installed), with its own pauses and with the shortest.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from composer.inotify import MOVED_TO, Inotify
from composer.paths import Paths
from composer.record import read_record

STACK = """
services:
  web:
    image: host
    init: true
    command: [sleep, infinity]
    develop:
      watch:
        - {path: src, target: /src, action: sync}
"""


def save(path: Path, text: str) -> float:
    beside = path.with_name(".new")
    beside.write_text(text)
    beside.rename(path)
    return time.monotonic()


def awaited(changes: Inotify, name: str) -> float:
    while True:
        if not select.select([changes], [], [], 10)[0]:
            raise SystemExit(f"{name} did not come")
        if any(found == name for _, _, found in changes.take()):
            return time.monotonic()


def ours(saves: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="watchbench") as folder:
        place = Path(folder) / "watchbench"
        (place / "src").mkdir(parents=True)
        (place / "src/first").write_text("")
        (place / "compose.yaml").write_text(STACK)
        directories = {"COMPOSER_RUN_DIR": f"{folder}/run", "COMPOSER_STATE_DIR": f"{folder}/state"}
        environment = {**os.environ, **directories}
        command = [sys.executable, "-m", "composer", "--project-directory", str(place)]
        watch = subprocess.Popen(
            [*command, "--progress", "quiet", "watch"], env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            assert watch.stdout
            watch.stdout.readline()
            (place / "src/a.py").write_text("none")
            watch.stdout.readline()
            (row,) = read_record(Paths.of(environment, os.getuid()).stack("watchbench"))["containers"]
            threading.Thread(target=watch.stdout.read, daemon=True).start()
            times = []
            with Inotify() as changes:
                changes.watch(Path(f"/proc/{row['pid']}/root/src"), MOVED_TO)
                for number in range(saves):
                    begun = save(place / "src/a.py", str(number))
                    times.append(awaited(changes, "a.py") - begun)
                    time.sleep(0.06)
            return times
        finally:
            watch.send_signal(signal.SIGINT)
            watch.wait()
            subprocess.run([*command, "down", "-t", "0"], env=environment, capture_output=True, check=True)


def theirs(saves: int, step: int = 50) -> list[float]:
    from watchfiles import watch

    heard = threading.Semaphore(0)
    with tempfile.TemporaryDirectory() as folder:
        stop = threading.Event()

        def listen() -> None:
            for _ in watch(folder, stop_event=stop, step=step):
                heard.release()

        listener = threading.Thread(target=listen)
        listener.start()
        time.sleep(0.5)
        times = []
        for number in range(saves):
            begun = save(Path(folder) / "a.py", str(number))
            heard.acquire(timeout=10)
            times.append(time.monotonic() - begun)
            time.sleep(0.06)
        stop.set()
        listener.join()
    return times


def shown(what: str, times: list[float]) -> None:
    ordered = sorted(times)
    p99 = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
    print(f"{what:44} median {statistics.median(times) * 1e3:6.1f} ms   p99 {p99 * 1e3:6.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--saves", type=int, default=100)
    saves = parser.parse_args().saves
    shown("composer watch: save to file in container", ours(saves))
    try:
        shown("watchfiles: save to being told", theirs(saves // 5))
        shown("watchfiles, step=10: save to being told", theirs(saves // 5, step=10))
    except ImportError:
        print("watchfiles is not installed")


if __name__ == "__main__":
    main()
