"""A registry on loopback with stand-ins for public images, under the names that the examples use.

One root file system of Debian's packages is made by mmdebstrap, once for all (pytest's cache keeps it).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("nginx-light", "postgresql", "python3-pip", "python3-psycopg", "python3-redis", "redis-server")
UNNEEDED = ("doc", "info", "locale", "man")


def archive(cache: Path) -> Path:
    """The root file system as a tar archive, from `cache` or made."""
    digest = hashlib.sha256(repr((PACKAGES, UNNEEDED)).encode()).hexdigest()[:12]
    path = cache / f"seed-{digest}.tar"
    with open(cache / "lock", "w") as lock:  # several workers, one file
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.with_suffix(".unfinished.tar")
            subprocess.run(command(unfinished), check=True, timeout=900)
            unfinished.rename(path)
    return path


def command(target: Path) -> list[str]:
    """mmdebstrap, with what this host gets its own packages from."""
    sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*.sources")]
    codename = subprocess.check_output(["sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"], text=True)
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=essential",
        f"--include={','.join(PACKAGES)}",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in UNNEEDED),
        '--aptopt=APT::Install-Recommends "false"',
        # The examples make their own clusters.
        '--essential-hook=mkdir -p "$1/etc/postgresql-common"',
        '--essential-hook=echo create_main_cluster=false > "$1/etc/postgresql-common/createcluster.conf"',
        codename.strip(),
        str(target),
        *(str(path) for path in sources if path.exists()),
    ]


def push(registry: str, root: Path, folder: Path) -> None:
    """Build the stand-ins on `root`, in a store of their own below `folder`, and push them to `registry`."""
    environment = {
        **os.environ,
        "REGISTRY": registry,
        "COMPOSER_STATE_DIR": str(folder / "state"),
        "COMPOSER_RUN_DIR": str(folder / "run"),
    }
    for words in (["image", "import", str(root), "seed"], ["build"], ["push"]):
        command = [sys.executable, "-m", "composer", *words]
        subprocess.run(command, cwd=Path(__file__).parent, env=environment, check=True)
