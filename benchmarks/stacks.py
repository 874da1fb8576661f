"""Whole commands on whole stacks of 1, 10, 20 and 50 services: `up -d`, again, `ps`, `exec`, `down`.

    python -m benchmarks.stacks [--sizes 1,10,20,50] [--rounds 5] [--peers composer,docker,podman]

Runs beside Docker Compose and podman-compose when they are there and work, interleaved in one run, so that a
machine whose speed drifts is fair to all. Prints medians in seconds and the ratio to ours. Each peer runs its
own equivalent of the same stack: one small process a service, from an image that is already there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

VERBS: dict[str, list[str]] = {
    "up -d": ["up", "-d"],
    "up -d, nothing to do": ["up", "-d"],
    "ps": ["ps"],
    "exec true": ["exec", "-T", "s0", "true"],
    "down": ["down"],
}
IMAGE = "localhost/benchbox:1"


class Peer:
    """One tool: its command line, and the image its services run."""

    def __init__(self, name: str, command: list[str], image: str, environment: dict[str, str]) -> None:
        self.name, self.command, self.image = name, command, image
        self.environment = os.environ | environment

    def write(self, folder: Path, size: int) -> None:
        services = "".join(
            f"  s{number}:\n    image: {self.image}\n    init: true\n    command: [sleep, '100000']\n"
            for number in range(size)
        )
        (folder / "compose.yaml").write_text(f"services:\n{services}")

    def run(self, folder: Path, words: list[str]) -> float:
        """Seconds of one command. Raises CalledProcessError."""
        begun = time.perf_counter()
        subprocess.run(
            [*self.command, *words],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )
        return time.perf_counter() - begun


def composer(root: Path) -> Peer:
    environment = {"COMPOSER_RUN_DIR": str(root / "run"), "COMPOSER_STATE_DIR": str(root / "state")}
    command = shutil.which("composer", path=str(Path(sys.executable).parent)) or "composer"
    return Peer("composer", [command], "host", environment)


def docker(_: Path) -> Peer | None:
    """With a running engine only; the image is made from the static busybox of Debian."""
    if shutil.which("docker") is None or quiet(["docker", "info"]):
        return None
    compose = ["docker", "compose"] if not quiet(["docker", "compose", "version"]) else ["docker-compose"]
    if shutil.which(compose[0]) is None:
        return None
    import_image(["docker", "import", "-", IMAGE])
    return Peer("docker compose", compose, IMAGE, {})


def podman(_: Path) -> Peer | None:
    if shutil.which("podman") is None or shutil.which("podman-compose") is None:
        return None
    import_image(["podman", "import", "-", IMAGE])
    return Peer("podman-compose", ["podman-compose"], IMAGE, {})


PEERS: dict[str, Callable[[Path], Peer | None]] = {"composer": composer, "docker": docker, "podman": podman}


def quiet(command: list[str]) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def import_image(command: list[str]) -> None:
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add("/bin/busybox", "bin/busybox")
            for name in ("sh", "sleep", "true"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        file.seek(0)
        subprocess.run(command, stdin=file, check=True, capture_output=True)


def measure(peers: Sequence[Peer], root: Path, size: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by verb and peer. One round that does not count comes first."""
    found: dict[str, dict[str, list[float]]] = {verb: {p.name: [] for p in peers} for verb in VERBS}
    for turn in range(rounds + 1):
        for peer in peers:
            folder = root / f"bench{size}{peer.name.replace(' ', '')}"
            folder.mkdir(exist_ok=True)
            peer.write(folder, size)
            for verb, words in VERBS.items():
                seconds = peer.run(folder, words)
                if turn:
                    found[verb][peer.name].append(seconds)
    return found


def show(size: int, found: dict[str, dict[str, list[float]]]) -> None:
    names = list(next(iter(found.values())))
    print(f"\n{size} service{'s' if size > 1 else ''}: median seconds (smallest to largest), times ours")
    for verb, by_peer in found.items():
        ours = statistics.median(by_peer[names[0]])
        cells = []
        for name in names:
            values = by_peer[name]
            median = statistics.median(values)
            ratio = f" ×{median / ours:.1f}" if name != names[0] else ""
            cells.append(f"{name} {median:.3f} ({min(values):.3f}–{max(values):.3f}){ratio}")
        print(f"  {verb:22} " + "   ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1,10,20,50")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        root = Path(folder)
        made = {name: PEERS[name](root) for name in arguments.peers.split(",")}
        for name in (name for name, peer in made.items() if peer is None):
            print(f"{name}: not here, or its engine does not run; left out")
        peers = [peer for peer in made.values() if peer is not None]
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {os.uname().release}")
        for size in map(int, arguments.sizes.split(",")):
            show(size, measure(peers, root, size, arguments.rounds))


if __name__ == "__main__":
    main()
