"""The two images that need no download: `scratch`, which is empty, and `host`, the host's own /usr.

`host` is a generated skeleton at "/" and the host's /usr (and /bin, /lib… where those are not links into
it) as overlays of their own, since a lower of an overlay is always a whole tree. An overlay looks at a
private copy of its lower's mount, so nothing mounted below the host's /usr shows through. Of the host's
/etc only what the tables below name is taken, of that only what every user of the host may read, and no
person's account.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from composer.disk import keep_private, locked
from composer.images.config import platform
from composer.images.image import Image, RootOverlay
from composer.paths import Paths

NAMES = ("host", "scratch")
BASE = "composer.base"
"""In the configuration of an image that was built on one of ours, which is no layer of it: its name."""

# Taken from /etc as they are. A directory is taken whole; a star at the end stands for any ending.
TAKEN = (
    "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies",
    "debian_version", "fonts", "gai.conf", "inputrc", "java*", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "locale.alias", "locale.conf", "localtime", "login.defs", "magic", "mime.types", "netconfig",
    "nginx/mime.types", "os-release", "pam.conf", "pam.d", "perl", "pki", "profile", "protocols", "python*",
    "redhat-release", "rpc", "security", "services", "shells", "skel", "ssl", "terminfo", "timezone",
)  # fmt: skip

# Made instead of taken: the host's own would tell about the host, or would not work in a container.
WRITTEN = {
    "etc/host.conf": "multi on\n",
    "etc/hostname": "",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "etc/machine-id": "",
    "etc/nsswitch.conf": "".join(
        f"{database}: files\n"
        for database in ("passwd", "group", "shadow", "networks", "protocols", "services")
    )
    + "hosts: files dns\n",
    "etc/resolv.conf": "",
}

DIRECTORIES = {
    "boot": 0o755, "dev": 0o755, "etc": 0o755, "etc/default": 0o755, "etc/nginx": 0o755, "etc/opt": 0o755,
    "etc/profile.d": 0o755, "home": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555,
    "root": 0o700, "run": 0o755, "run/lock": 0o1777, "srv": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755,
    "var": 0o755, "var/cache": 0o755, "var/lib": 0o755, "var/log": 0o755, "var/mail": 0o755,
    "var/opt": 0o755, "var/spool": 0o755, "var/tmp": 0o1777,
}  # fmt: skip

LINKS = {"etc/mtab": "/proc/mounts", "var/lock": "/run/lock", "var/run": "/run"}

# The places beside /usr that hold programs; on today's distributions they are links into it.
BESIDE_USR = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FIRST_PERSON = 1000  # login.defs(5), UID_MIN: accounts from here on belong to people
NOBODY = 65534
MAX_FILE = 16 * 1024 * 1024  # bytes; nothing that belongs into an image's /etc is larger


def builtin(name: str, paths: Paths) -> Image | None:
    """The image `name` if it is one of ours; generated at first use and again when its sources change."""
    if name == "scratch":
        return Image("scratch", name, config({}), (RootOverlay("/", (str(_empty(paths)),)),))
    if name == "host":
        beside = tuple(f"/{place}" for place in BESIDE_USR if _is_directory(f"/{place}"))
        trees = tuple(RootOverlay(tree, (tree,)) for tree in ("/usr", *beside))
        process = {"Env": [f"PATH={PATH}"], "Cmd": ["/bin/sh"], "WorkingDir": "/"}
        return Image("host", name, config(process), (RootOverlay("/", (str(_skeleton(paths)),)), *trees))
    return None


def stacked(base: tuple[RootOverlay, ...], layers: tuple[str, ...]) -> tuple[RootOverlay, ...]:
    """The overlays of a root with layers (topmost first) put on it.

    What a layer has below the place of another overlay belongs to that one.
    """
    found = []
    for overlay in base:
        below = overlay.target.rstrip("/")
        own = tuple(layer + below for layer in layers if not below or _is_directory(layer + below))
        found.append(RootOverlay(overlay.target, (*own, *overlay.lowers)))
    return tuple(found)


def config(process: dict[str, Any]) -> dict[str, Any]:
    """An OCI image configuration without layers."""
    rootfs = {"type": "layers", "diff_ids": []}
    return {"architecture": platform().architecture, "os": "linux", "config": process, "rootfs": rootfs}


def _is_directory(path: str) -> bool:
    return not os.path.islink(path) and os.path.isdir(path)


def _empty(paths: Paths) -> Path:
    directory = paths.images / "builtin" / "scratch"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _skeleton(paths: Paths) -> Path:
    """The generated part of `host`. Its name is made of the facts it depends on: a change makes a new one."""
    sources = list(_sources())
    home = paths.images / "builtin"
    keep_private(home)  # its /tmp is everybody's, and below that of containers
    ready = home / f"host-{_facts(sources)}"
    if ready.is_dir():
        return ready
    with locked(home / "lock"):
        if not ready.is_dir():
            unfinished = (
                home / "unfinished"
            )  # only ever written under the lock; left over by a crash, it is thrown away
            if unfinished.exists():
                shutil.rmtree(unfinished)
            _generate(unfinished, sources)
            unfinished.rename(ready)
    return ready


def _sources() -> Iterator[str]:
    """The names below /etc that TAKEN stands for on this host."""
    present = sorted(os.listdir("/etc"))
    for name in TAKEN:
        if name.endswith("*"):
            yield from (entry for entry in present if entry.startswith(name[:-1]))
        elif name.partition("/")[0] in present:
            yield name


def _facts(sources: list[str]) -> str:
    """A digest over everything the skeleton is made of: the sources' identities and this very module."""
    from hashlib import blake2b

    facts = blake2b(digest_size=10)
    watched = [f"/etc/{name}" for name in (*sources, "passwd", "group", "ssl/certs", "pki/tls/certs")]
    for path in (*watched, *(f"/{place}" for place in BESIDE_USR), __file__):
        try:
            status = os.lstat(path)
        except OSError:
            continue
        facts.update(f"{path}\0{status.st_mode}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return facts.hexdigest()


def _generate(root: Path, sources: list[str]) -> None:
    root.mkdir(parents=True)
    root.chmod(0o755)
    for name, mode in DIRECTORIES.items():
        (root / name).mkdir()
        (root / name).chmod(mode)
    for place in BESIDE_USR:
        if Path("/", place).is_symlink():
            (root / place).symlink_to(Path("/", place).readlink())
        elif Path("/", place).is_dir():
            (root / place).mkdir(mode=0o755)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    for name in sources:
        _take(Path("/etc", name), root / "etc" / name, sources)
    for name, text in {**WRITTEN, **_accounts()}.items():
        (root / name).unlink(missing_ok=True)
        (root / name).write_text(text)
        (root / name).chmod(0o640 if name == "etc/shadow" else 0o644)


def _take(source: Path, target: Path, sources: list[str]) -> None:
    """Copy `source` if everybody may read it. A link that leads out of the image becomes what it leads to."""
    try:
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            leads_to = Path(os.path.realpath(source))
            if _is_inside(leads_to, sources):
                target.symlink_to(source.readlink())
                return
            source, mode = leads_to, leads_to.stat().st_mode
            if any(parent.name and not parent.stat().st_mode & 0o001 for parent in source.parents):
                return
        if stat.S_ISDIR(mode) and mode & 0o005 == 0o005:
            target.mkdir()
            target.chmod(0o755)
            for entry in sorted(source.iterdir()):
                _take(entry, target / entry.name, sources)
        elif stat.S_ISREG(mode) and mode & 0o004 and source.stat().st_size <= MAX_FILE:
            target.write_bytes(source.read_bytes())
            target.chmod(mode & 0o755)
    except FileNotFoundError:
        pass  # a dangling link, or a package being removed right now: the image does without it too


def _is_inside(path: Path, sources: list[str]) -> bool:
    """Whether the container sees `path` too."""
    inside = {"usr", *BESIDE_USR}
    parts = path.parts[1:]
    return parts[0] in inside or (parts[0] == "etc" and "/".join(parts[1:2]) in sources)


def _accounts() -> dict[str, str]:
    """passwd, group and shadow of the host's system accounts: the owners of files in /usr keep their names.

    People's accounts, group members, real names and passwords stay out.
    """
    people = [line.split(":") for line in _lines("/etc/passwd")]
    users = [user for user in people if len(user) == 7 and _is_system(user[2])]
    users = users or [["root", "x", "0", "0", "", "/root", "/bin/sh"]]
    groups = [group for group in (line.split(":") for line in _lines("/etc/group")) if len(group) == 4]
    groups = [group for group in groups if _is_system(group[2])] or [["root", "x", "0", ""]]
    return {
        "etc/passwd": "".join(
            f"{n}:x:{uid}:{gid}::{home}:{shell}\n" for n, _, uid, gid, _, home, shell in users
        ),
        "etc/group": "".join(f"{name}:x:{gid}:\n" for name, _, gid, _ in groups),
        "etc/shadow": "".join(f"{user[0]}:*:::::::\n" for user in users),
    }


def _is_system(number: str) -> bool:
    return number.isascii() and number.isdigit() and (int(number) < FIRST_PERSON or int(number) == NOBODY)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
