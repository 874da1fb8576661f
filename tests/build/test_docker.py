"""The same Dockerfiles built by Docker give the same tree and the same configuration.

Docker's own builder without plugins knows the classic part of the language; what came later has its table in
the other files of this folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from composer.build.context import attributes
from composer.images.image import Image
from composer.images.store import Store
from composer.layered import Layered, Node
from composer.paths import Paths
from tests.build.conftest import BASE, Yard
from tests.images.test_peers import docker

__all__ = ["docker"]
pytestmark = pytest.mark.kernel

CONFIG = (
    "Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell", "StopSignal",
    "User", "Volumes", "WorkingDir",
)  # fmt: skip

DOCKERFILES = {
    "copy": """
        COPY one /one
        COPY one two /into/
        COPY folder /folder
        COPY folder/*.txt /globbed/
        COPY --chown=ann:staff one /owned/one
        COPY --chown=7:8 folder /owned/folder
        COPY one here/through
        COPY ["with space", "/a b/"]
        """,
    "add": """
        ADD archive.tar /unpacked/
        ADD archive.tar.gz /zipped/
        ADD one /added
        """,
    "run": """
        RUN echo a >/a && mkdir -p /x/y && rm /etc/group
        RUN ["/bin/busybox", "mkdir", "-m", "1777", "/sticky2"]
        RUN rm -r /tmp && mkdir /tmp
        SHELL ["/bin/busybox", "sh", "-c"]
        RUN echo shell >/b
        """,
    "words": r"""
        ARG WHO=me
        ENV A=1 B="two words" C=$WHO D=${A:-x} E=${NONE:+x} F='$A' G=\$A
        ENV old form of it
        LABEL one=1 "two"="a b" three=$B
        WORKDIR /w
        WORKDIR x
        RUN echo $A $B $C >words
        COPY one $A/
        EXPOSE 80 53/udp $A
        VOLUME /v1 /v2
        VOLUME ["/v 3"]
        """,
    "process": """
        USER ann
        CMD echo hi
        ENTRYPOINT ["/bin/sh", "-c"]
        STOPSIGNAL SIGINT
        HEALTHCHECK --interval=5s --timeout=2s --start-period=1m --retries=4 CMD test -f /x
        ONBUILD RUN echo later
        MAINTAINER somebody
        """,
    "reset": """
        ENTRYPOINT ["x"]
        HEALTHCHECK NONE
        CMD ["a", "b"]
        ENTRYPOINT y
        """,
    "stages": """
        AS first
        RUN echo 1 >/made
        FROM example/base:1 AS second
        COPY --from=first /made /from/first
        COPY --from=0 /made /from/number
        COPY --from=example/base:1 /etc/passwd /from/image
        """,
    "ignored": """
        COPY . /all/
        """,
}
IGNORE = "*.md\n!keep.md\nfolder/deep\n**/*.log\n!**/keep.log\n"


def furnish(yard: Yard) -> None:
    """A context with something of everything."""
    import io
    import tarfile

    yard.write("one", "1\n", 0o640)
    yard.write("two", "2\n", 0o755)
    yard.write("with space")
    for name in ("a.txt", "b.txt", "c.md", "keep.md", "deep/d", "x.log", "keep.log"):
        yard.write(f"folder/{name}", name)
    yard.write("read.md")
    (yard.context / "folder/link").symlink_to("a.txt")
    (yard.context / "folder").chmod(0o750)
    for mode in ("w", "w:gz"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as archive:
            for name, uid in (("inside", 5), ("deeper/inside", 0)):
                member = tarfile.TarInfo(name)
                member.size, member.uid, member.mode = 3, uid, 0o604
                archive.addfile(member, io.BytesIO(b"in\n"))
        yard.write("archive.tar" if mode == "w" else "archive.tar.gz", out.getvalue())


def tree(image: Image) -> dict[str, tuple[Any, ...]]:
    """Everything in an image that a container could see, but for times."""
    layered = Layered((overlay.target, overlay.lowers) for overlay in image.root)
    found = {}
    for node in below(layered, layered.root):
        status, place = node.status, node.places[0]
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(Path(place).read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(place)
        found[node.path] = (oct(status.st_mode), status.st_uid, status.st_gid, content, attributes(node))
    return found


def below(layered: Layered, node: Node) -> Iterator[Node]:
    for child in layered.children(node):
        yield child
        if child.is_directory:
            yield from below(layered, child)


def config(image: Image) -> dict[str, Any]:
    """What containers start with. A list, a mapping that holds nothing is none."""
    said = image.config["config"]
    return {key: said[key] for key in CONFIG if said.get(key)}


@pytest.fixture(scope="module")
def peer(docker: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Image]:
    """Builds a context with Docker, and gives the image as our store reads it."""
    folder = tmp_path_factory.mktemp("peer")
    yard = Yard(folder)
    yard.base()
    with (folder / "base.tar").open("wb") as out:
        yard.store.save([BASE], out)
    docker("load", "-i", folder / "base.tar")
    store = Store(Paths(folder / "run2", folder / "state2"))
    os.environ["DOCKER_BUILDKIT"] = "0"

    def build(context: Path) -> Image:
        docker("build", "-q", "--network=none", "-t", "peer:1", context)
        docker("save", "-o", folder / "built.tar", "peer:1")
        with (folder / "built.tar").open("rb") as file:
            return store.load(file)[0]

    return build


@pytest.mark.parametrize("name", DOCKERFILES)
def test_as_docker_builds_it(name: str, yard: Yard, peer: Callable[[Path], Image]) -> None:
    import textwrap

    furnish(yard)
    text = textwrap.dedent(DOCKERFILES[name]).strip()
    yard.write("Dockerfile", f"FROM {BASE}{' ' if text.startswith('AS') else chr(10)}{text}\n")
    yard.write(".dockerignore", IGNORE)
    ours, theirs = yard.build().image, peer(yard.context)
    assert config(ours) == config(theirs)
    assert tree(ours) == tree(theirs)
