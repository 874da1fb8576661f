"""Builds: six steps, cold and cached, and the first start of what was built; beside Docker and podman.

python -m benchmarks.build [--rounds N]

Whole commands, one after the other in every round, so that a noisy machine is noisy for all. Each round has a
context of its own, so that nothing is known in advance but the base image. Docker is an engine of our own in
an own network namespace (see `engine`), with the builder that needs no plugin; podman has directories of its
own. Medians; the load of the machine is printed, and the processor time of our own commands.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.engine import Engine, engine, unmount

BASE = "localhost/buildbench:1"
DOCKERFILE = f"""\
FROM {BASE}
WORKDIR /app
COPY requirements .
RUN sh -c 'cat requirements >installed'
COPY source source/
RUN sh -c 'for x in 1 2 3 4 5 6 7 8; do echo $x >made$x; done'
RUN sh -c 'rm made1'
"""
COMPOSER = [sys.executable, "-m", "composer"]


def make_base(path: Path) -> None:
    import tarfile

    with tarfile.open(path, "w") as archive:
        archive.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "cat", "rm", "true", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)


def make_context(folder: Path) -> Path:
    """A small project that no other round has."""
    (folder / "source").mkdir(parents=True)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "requirements").write_text(folder.name)
    (folder / "compose.yaml").write_text("services: {a: {build: ., image: 'built:1'}}\n")
    for number in range(40):
        (folder / "source" / f"{number}.py").write_text(f"{folder.name} {number}\n" * 50)
    return folder


class Contender:
    """How one tool builds a folder, and starts what it built."""

    def __init__(
        self, build: Callable[[Path], list[str]], start: list[str], environment: dict[str, str] | None = None
    ) -> None:
        self.build, self.start = build, start
        self.environment = {**os.environ, **(environment or {})}

    def seconds(self, command: list[str], folder: Path) -> tuple[float, float] | None:
        """Of the clock, and of the processor for the command and its children; None when it fails here."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=self.environment, check=False, capture_output=True)
        if done.returncode:
            return None
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return time.perf_counter() - begun, cpu


def composer(root: Path, base: Path) -> Contender:
    places = {"COMPOSER_RUN_DIR": f"{root}/run", "COMPOSER_STATE_DIR": f"{root}/state"}
    contender = Contender(
        lambda folder: [*COMPOSER, "build", "-q"],
        [*COMPOSER, "container", "run", "--rm", "built:1", "true"],
        places,
    )
    contender.seconds([*COMPOSER, "image", "import", "--change", "ENV PATH=/bin", str(base), BASE], root)
    return contender


def docker(found: Engine, base: Path) -> Contender:
    found.run("import", "--change", "ENV PATH=/bin", str(base), BASE)
    return Contender(
        lambda folder: ["docker", "build", "-q", "--network=none", "-t", "built:1", str(folder)],
        ["docker", "run", "--rm", "--network=none", "built:1", "true"],
        {"DOCKER_HOST": f"unix://{found.sock}", "DOCKER_BUILDKIT": "0"},
    )


def podman(root: Path, base: Path) -> Contender:
    command = ["podman", "--runtime", "runc", "--root", f"{root}/root", "--runroot", f"{root}/pod"]
    subprocess.run(
        [*command, "import", "-q", "-c", "ENV PATH=/bin", str(base), BASE], check=True, capture_output=True
    )
    return Contender(
        lambda folder: [*command, "build", "-q", "--layers", "--network=none", "-t", "built:1", str(folder)],
        [*command, "run", "--rm", "--network=none", "built:1", "true"],
    )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bb-", ignore_cleanup_errors=True) as name, engine() as found:
        root, base = Path(name), Path(name, "base.tar")
        make_base(base)
        contenders = {"composer": composer(root, base)}
        if found is not None:
            contenders["docker"] = docker(found, base)
        if shutil.which("podman") and shutil.which("runc"):
            contenders["podman"] = podman(root, base)
        try:
            report(contenders, root, rounds)
        finally:
            unmount(root)


def report(contenders: dict[str, Contender], root: Path, rounds: int) -> None:
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(rounds):
        for who, one in contenders.items():
            folder = make_context(root / f"{who}-{number}")
            rows = {"cold": one.build(folder), "cached": one.build(folder), "first start": one.start}
            for what, command in rows.items():
                if (took := one.seconds(command, folder)) is not None:
                    times.setdefault((what, who), []).append(took)
    print(f"load {os.getloadavg()[0]:.1f}")
    for (what, who), found in sorted(times.items()):
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        print(
            f"{what:12} {who:9} {wall:6.2f} s" + (f"   processor {cpu:5.2f} s" if who == "composer" else "")
        )


if __name__ == "__main__":
    main()
