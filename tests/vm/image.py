"""Disks of the virtual machines: a Debian with what the tests use, made once, and the tree as it is now."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.vm.kernels import CACHE, KEYRING, fetch

TREE = Path(__file__).parents[2]
SUITE, PYTHON = "bookworm", "3.11"

# Beside what tests/prerequisites lists: modules on demand, and a runtime that refuses other layouts than v2.
PACKAGES = ("kmod", "crun", "python3", "ca-certificates", "git")
_LEFT_OUT = ("doc", "man", "locale", "info")
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"


def system(kernels: list[str]) -> Path:
    """An ext4 with Debian, the modules of these kernels, and the packages of pyproject.toml."""
    listed = subprocess.run([TREE / "tests" / "prerequisites", "--list"], check=True, stdout=subprocess.PIPE)
    packages = [*listed.stdout.decode().split(), *PACKAGES]
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    libraries = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    modules = [next((fetch(kernel) / "lib" / "modules").iterdir()) for kernel in kernels]
    wanted = repr((SUITE, packages, libraries, [str(path) for path in modules], Path(__file__).read_text()))
    target = CACHE / f"system-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if target.exists():
        return target
    if os.geteuid():
        raise SystemExit("the machines' disk is made by root, once: run this as root")
    print("making the machines' disk: once, it takes two minutes", flush=True)
    for old in CACHE.glob("system-*"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        root, image = Path(work, "root"), Path(work, "image")
        _debian(root, packages)
        _libraries(root, libraries)
        for folder in modules:
            shutil.copytree(folder, root / "lib" / "modules" / folder.name)
            subprocess.run(["chroot", root, "depmod", folder.name], check=True)
        (root / "etc" / "hosts").write_text(_HOSTS)
        (root / "tree").mkdir()
        _file_system(image, root, 8 << 30)
        image.rename(target)
    return target


def tree(directory: Path) -> Path:
    """An ext4 with the checkout as it is now, compiled."""
    copy, image = directory / "tree", directory / "tree.ext4"
    listing = ["git", "-C", str(TREE), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    for name in filter(None, names):
        if os.path.lexists(TREE / name):  # or it is deleted and that is not committed yet
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, copy / name, follow_symlinks=False)
    for metadata in TREE.glob("*.egg-info"):
        shutil.copytree(metadata, copy / metadata.name)
    if sys.version_info[:2] == tuple(map(int, PYTHON.split("."))):
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        collect = ["-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
        for words in (["-m", "compileall", "-q", "composer", "tests"], collect):
            subprocess.run(
                [sys.executable, *words], cwd=copy, env=environment, stdout=subprocess.DEVNULL, check=False
            )
    _file_system(image, copy, 512 << 20)
    return image


def _debian(root: Path, packages: list[str]) -> None:
    words = ["mmdebstrap", "--quiet", "--variant=minbase", f"--keyring={KEYRING}"]
    words += [f"--include={','.join(packages)}", '--aptopt=APT::Install-Recommends "false"']
    words += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT]
    subprocess.run([*words, SUITE, root, "http://deb.debian.org/debian"], check=True)


def _libraries(root: Path, libraries: list[str]) -> None:
    """By this machine's pip, which knows the way to its index; into where Debian's Python looks; compiled."""
    place = root / "usr" / "local" / "lib" / f"python{PYTHON}" / "dist-packages"
    words = [sys.executable, "-m", "pip", "install", "-qq", "--target", str(place)]
    words += ["--python-version", PYTHON, "--only-binary=:all:", "--no-compile"]
    subprocess.run([*words, *libraries], check=True)
    (place / "composer.pth").write_text("/tree\n")
    for words in (["compileall", "-q", str(place.relative_to(root))], ["pytest", "-q", "/tmp"]):
        subprocess.run(["chroot", root, "python3", "-m", *words], stdout=subprocess.DEVNULL, check=False)


def _file_system(image: Path, content: Path, size: int) -> None:
    with open(image, "wb") as file:
        file.truncate(size)
    features = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-d", content, "-E", features, image], check=True)
