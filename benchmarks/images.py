"""Images: import and pull of about 300 MB in 30 000 files, beside podman and beside what zstd and tar need.

python benchmarks/images.py [--directory DIR] [--rounds N]

Everything happens below one temporary directory and on loopback. Each round runs every contender once, so
that a noisy machine is noisy for all; medians and ratios are printed at the end. Directories are not
removed between runs, because an ext4 without a journal is slow to create files soon after many were
deleted.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FILES, BYTES = 30_000, 300 * 1024 * 1024

CHILD = """
import sys, anyio
from pathlib import Path
from composer.images.store import Store
from composer.paths import Paths
store = Store(Paths(Path(sys.argv[1], "run"), Path(sys.argv[1], "state")))
verb, argument = sys.argv[2:4]
if verb == "import":
    with open(argument, "rb") as file:
        store.import_(file, "bench:1")
elif verb == "load":
    with open(argument, "rb") as file:
        store.load(file)
elif verb == "pull":
    anyio.run(store.pull, argument)
elif verb == "push":
    store.tag("bench:1", argument)
    anyio.run(store.push, argument)
elif verb == "save":
    with open(argument, "wb") as file:
        store.save(["bench:1"], file)
"""


def make_archive(path: Path) -> None:
    """Files of very different sizes whose content compresses about three times."""
    chance = random.Random(1)
    pool = chance.randbytes(1 << 20) + b"the quick brown fox jumps over the lazy dog " * 24_000
    mean = BYTES // FILES
    with tarfile.open(path, "w") as archive:
        for number in range(FILES):
            if number % 20 == 0:
                folder = tarfile.TarInfo(f"usr/share/d{number // 800}/p{number // 20}")
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(folder)
            size = min(int(chance.expovariate(1 / mean)) + 1, len(pool) - 1)
            start = chance.randrange(len(pool) - size)
            member = tarfile.TarInfo(f"usr/share/d{number // 800}/p{number // 20}/file{number}")
            member.size = size
            archive.addfile(member, io.BytesIO(pool[start : start + size]))


class Bench:
    """Fresh directories, and the time of one command."""

    def __init__(self, root: Path, registry: str) -> None:
        self.root, self.registry = root, registry
        self._count = 0

    def fresh(self) -> Path:
        self._count += 1
        path = self.root / f"run{self._count}"
        path.mkdir()
        return path

    def time(self, *command: str | Path, shell: bool = False) -> float:
        os.sync()
        started = time.perf_counter()
        if shell:
            subprocess.run(str(command[0]), shell=True, check=True, stdout=subprocess.DEVNULL)
        else:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    def ours(self, verb: str, argument: str | Path, state: Path | None = None) -> float:
        return self.time(sys.executable, "-c", CHILD, state or self.fresh(), verb, argument)

    def podman(self, *arguments: str | Path) -> float:
        where = self.fresh()
        return self.time(
            "podman",
            "--root",
            where / "root",
            "--runroot",
            where / "run",
            "--storage-driver",
            "overlay",
            *arguments,
        )


def contenders(bench: Bench, archive: Path, saved: Path, name: str) -> dict[str, Callable[[], float]]:
    found: dict[str, Callable[[], float]] = {
        "import: composer": lambda: bench.ours("import", archive),
        "load: composer": lambda: bench.ours("load", saved),
        "pull: composer": lambda: bench.ours("pull", name),
        "pull: zstd -d | tar x": lambda: bench.time(
            f"zstd -dcq {archive}.zst | tar x -C {bench.fresh()}", shell=True
        ),
    }
    if shutil.which("podman"):
        found["import: podman"] = lambda: bench.podman("import", "-q", archive)
        found["load: podman"] = lambda: bench.podman("load", "-q", "-i", saved)
        found["pull: podman"] = lambda: bench.podman("pull", "-q", "--tls-verify=false", name)
    return found


def serve(root: Path) -> tuple[str, subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = root / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/registry}}}}\n"
        f"http: {{addr: {host}, secret: fixed}}\n"
    )
    server = subprocess.Popen(
        ["docker-registry", "serve", config], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), 1).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.02)
    return host, server


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    options.add_argument("--rounds", type=int, default=3)
    wanted = options.parse_args()
    with tempfile.TemporaryDirectory(dir=wanted.directory, prefix="bench-images-") as folder:
        root = Path(folder)
        archive, saved = root / "root.tar", root / "saved.tar"
        make_archive(archive)
        host, server = serve(root)
        try:
            bench, name = Bench(root, host), f"{host}/bench/big:1"
            state = bench.fresh()
            bench.ours("import", archive, state)
            bench.ours("save", saved, state)
            print(f"push: composer {bench.ours('push', name, state):.2f} s")
            subprocess.run(["zstd", "-q", archive, "-o", f"{archive}.zst"], check=True)
            report(contenders(bench, archive, saved, name), wanted.rounds)
        finally:
            server.terminate()
            server.wait()


def report(runs: dict[str, Callable[[], float]], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run())
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name in sorted(medians):
        ours = medians[f"{name.partition(':')[0]}: composer"]
        print(f"{name:24} {medians[name]:6.2f} s   {medians[name] / ours:5.2f} × ours")


if __name__ == "__main__":
    main()
