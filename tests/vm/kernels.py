"""Stock Debian kernels, fetched once: `vmlinuz`, and `lib/modules/VERSION` with what needs no hardware."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "composer-vm"

# Kernel → the Debian suite whose linux-image-amd64 it is.
KERNELS = {"6.1": "bookworm", "6.12": "bookworm-backports"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What is kept of a package: the kernel, and modules that need no hardware.
_FOLDERS = ("block", "crypto", "fs", "lib", "mm", "net", "drivers/block", "drivers/char", "drivers/net")
_KEPT = [
    "./boot/vmlinuz-*",
    "./lib/modules/*/modules.*",
    "./lib/modules/*/kernel/drivers/virtio/*",
    "./lib/modules/*/kernel/arch/x86/crypto/*",
    *(f"./lib/modules/*/kernel/{folder}/*" for folder in _FOLDERS),
]
_HARDWARE = [
    f"./lib/modules/*/kernel/drivers/net/{kind}" for kind in ("ethernet", "wireless", "usb", "can", "phy")
]


def fetch(kernel: str) -> Path:
    """The kernel's directory."""
    target = CACHE / kernel
    if not (target / "vmlinuz").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            ready = _prepare(_download(kernel, Path(work)), Path(work, "ready"))
            shutil.rmtree(target, ignore_errors=True)
            ready.rename(target)
    return target


def busybox() -> Path:
    found = next((path for path in map(Path, ("/usr/bin/busybox", "/bin/busybox")) if path.exists()), None)
    if found is None:
        raise SystemExit("busybox is not installed: apt install busybox-static")
    return found


def needed(root: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """These modules by file name, each after those it needs. Names a kernel does not have are left out."""
    listed = {}
    for line in next(root.glob("lib/modules/*/modules.dep")).read_text().splitlines():
        file, _, others = line.partition(":")
        listed[_name(file)] = [file, *others.split()]
    order = dict.fromkeys(file for name in names for file in reversed(listed.get(name, [])))
    folder = next(root.glob("lib/modules/*"))
    return {Path(file).name: (folder / file).read_bytes() for file in order}


def _name(file: str) -> str:
    return Path(file).name.split(".ko")[0].replace("-", "_")


def _download(kernel: str, work: Path) -> Path:
    """The package, by an apt of its own that knows this suite only."""
    for folder in ("lists/partial", "archives/partial"):
        (work / folder).mkdir(parents=True)
    sources = work / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {KERNELS[kernel]} main\n")
    options = [
        *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", f"Dir::State::lists={work / 'lists'}", "-o", f"Dir::Cache={work}"),
        *("-o", "APT::Sandbox::User=", "-o", "APT::Architecture=amd64"),
    ]
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
    depends = ["apt-cache", *options, "depends", "linux-image-amd64"]
    text = subprocess.run(depends, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = re.search(r"Depends: (linux-image-\S+)", text)
    if not found:
        raise SystemExit(f"no linux-image-amd64 in {KERNELS[kernel]}")
    subprocess.run(["apt-get", *options, "-q", "download", found[1]], check=True, cwd=work)
    return next(work.glob("linux-image-*.deb"))


def _prepare(package: Path, root: Path) -> Path:
    """Unpack, and list which module is loaded for what."""
    root.mkdir()
    unpack = [
        "tar",
        "-x",
        "-C",
        str(root),
        "--wildcards",
        *(f"--exclude={name}" for name in _HARDWARE),
        *_KEPT,
    ]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as archive:
        subprocess.run(unpack, stdin=archive.stdout, check=True)
    next(root.glob("boot/vmlinuz-*")).rename(root / "vmlinuz")
    for compressed in _compressed(root):
        compressed.with_suffix("").write_bytes(lzma.decompress(compressed.read_bytes()))
        compressed.unlink()
    version = next(root.glob("lib/modules/*")).name
    subprocess.run([busybox(), "depmod", "-b", root, version], check=True)
    return root


def _compressed(root: Path) -> Iterator[Path]:
    return root.glob("lib/modules/*/kernel/**/*.ko.xz")
