"""Fixtures of the build room: a corner of the disk to build in, on an image made of busybox."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from composer.build.builder import Builder
from composer.build.request import Request
from composer.build.walk import Event
from composer.images.image import Image
from composer.images.store import Store
from composer.layered import Layered, Node
from composer.paths import Paths

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
COMMANDS = "cat date echo env false id ls mkdir rm sh sleep stat test touch true"
BASE = "example/base:1"
PASSWD = "root:x:0:0::/root:/bin/sh\nann:x:1001:1002::/home/ann:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:ann\n"


class Built:
    """An image, as its users see it."""

    def __init__(self, image: Image, events: list[Event]) -> None:
        self.image, self.events = image, events
        self.tree = Layered((overlay.target, overlay.lowers) for overlay in image.root)

    @property
    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.image.config["config"]
        return config

    def node(self, path: str) -> Node:
        node = self.tree.find(path, follow=False)
        assert node is not None, f"there is no {path}"
        return node

    def has(self, path: str) -> bool:
        return self.tree.find(path, follow=False) is not None

    def read(self, path: str) -> str:
        node = self.tree.find(path)
        assert node is not None, f"there is no {path}"
        return Path(node.places[0]).read_text()

    def mode(self, path: str) -> int:
        return self.node(path).status.st_mode & 0o7777

    def owner(self, path: str) -> tuple[int, int]:
        status = self.node(path).status
        return status.st_uid, status.st_gid

    def listing(self, path: str = "/") -> list[str]:
        """Names of everything below a directory."""
        found = []
        for child in self.tree.children(self.node(path)):
            found.append(child.path)
            if child.is_directory:
                found += self.listing(child.path)
        return found

    @property
    def layers(self) -> list[list[str]]:
        """What each layer above the base holds, lowest first."""
        lowers = [Path(lower) for lower in self.image.root[0].lowers]
        return [
            sorted(f"/{path.relative_to(lower)}" for path in lower.rglob("*")) for lower in reversed(lowers)
        ]

    @property
    def done(self) -> list[str]:
        """Titles of the steps that were carried out, not found."""
        return [
            e.title for e in self.events if e.status == "done" and e.title.startswith("[") and "/" in e.title
        ]

    @property
    def said(self) -> list[str]:
        return [event.text for event in self.events if event.status == "output"]


class Yard:
    """A context folder, and a store with a base image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.context = root / "context"
        self.context.mkdir()
        self.paths = Paths(root / "run", root / "state")
        self.store = Store(self.paths)
        self.environment = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}

    def base(self) -> None:
        self.store.import_(rootfs(), BASE, changes=("ENV PATH=/bin", 'CMD ["/bin/sh"]'))

    def write(self, name: str, content: str | bytes = "x\n", mode: int = 0o644) -> Path:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def build(self, dockerfile: str = "", **fields: Any) -> Built:
        if dockerfile:
            self.write("Dockerfile", textwrap.dedent(dockerfile))
        events: list[Event] = []
        request = Request(**{"name": "t", "images": ("t:1",), "context": str(self.context), **fields})
        made = Builder(self.paths, events.append, self.environment).build([request])
        image = self.store.get(made[request.name])
        return Built(image, events)


def rootfs() -> io.BytesIO:
    """A root file system: busybox under the names that the tests use, a passwd with a user."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("sticky", 0o1770)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
        archive.add(BUSYBOX, "bin/busybox")
        for name in COMMANDS.split():
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        link = tarfile.TarInfo("here")
        link.type, link.linkname = tarfile.SYMTYPE, "sticky"
        archive.addfile(link)
        for name, text in (("etc/passwd", PASSWD), ("etc/group", GROUP)):
            file = tarfile.TarInfo(name)
            file.size = len(text)
            archive.addfile(file, io.BytesIO(text.encode()))
    out.seek(0)
    return out


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.base()
    return yard


@pytest.fixture
def bare(tmp_path: Path) -> Yard:
    """Without a base image."""
    return Yard(tmp_path)
