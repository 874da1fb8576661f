"""What comes from elsewhere: a server on loopback, archives as contexts, repositories by git."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.build.cache import Cache
from composer.build.fetch import Fetcher
from composer.build.git import is_git, repository
from composer.errors import ImageError
from tests.build.conftest import Yard
from tests.build.test_build import archive
from tests.serving import Answer, Serving

pytestmark = pytest.mark.kernel
FROM = "FROM example/base:1\n"
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"


class Server(Serving):
    """Files by path. `elsewhere` leads to other addresses; `wanted` is what Authorization has to say."""

    def __init__(self) -> None:
        self.files = {"/dir/tool": b"tool\n", "/a.tar": archive("x/y")}
        self.elsewhere: dict[str, str] = {}
        self.wanted = ""
        self.last = 0
        super().__init__(self.serve)

    def serve(self, _: str, path: str, headers: dict[str, str]) -> Answer:
        data = self.files.get(path, b"")
        said = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "Last-Modified": MODIFIED,
        }
        self.last = 200 if path in self.files else 404
        if self.wanted and headers.get("authorization") != self.wanted:
            self.last = 401
        elif path in self.elsewhere:
            self.last, said["Location"] = 302, self.elsewhere[path]
        elif headers.get("if-none-match") == said["ETag"]:
            self.last = 304
        return self.last, said, data if self.last == 200 else b""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def url(server: Server, path: str) -> str:
    return f"http://{server.host}{path}"


def test_add_of_a_download(yard: Yard, server: Server) -> None:
    where = url(server, "/dir/tool")
    text = (
        FROM + f"ADD {where} /x/\nADD --chmod=755 --chown=5:6 {where} /y\nADD {url(server, '/a.tar')} /z/\n"
    )
    built = yard.build(text)
    assert (built.read("/x/tool"), built.mode("/x/tool")) == ("tool\n", 0o600)
    assert (built.mode("/y"), built.owner("/y")) == (0o755, (5, 6))
    assert built.node("/y").status.st_mtime == 1700000000
    assert built.listing("/z") == ["/z/a.tar"]
    assert yard.build().done == []
    assert server.last == 304
    server.files["/dir/tool"] = b"new\n"
    assert yard.build().read("/y") == "new\n"


def test_add_unpacks_a_download_when_told(yard: Yard, server: Server) -> None:
    assert yard.build(FROM + f"ADD --unpack {url(server, '/a.tar')} /z/\n").listing("/z") == [
        "/z/x",
        "/z/x/y",
    ]


def test_checksums(yard: Yard, server: Server) -> None:
    right = hashlib.sha256(b"tool\n").hexdigest()
    line = f"ADD --checksum=sha256:{{}} {url(server, '/dir/tool')} /x\n"
    yard.build(FROM + line.format(right))
    count = len(server.requests)
    yard.build()
    assert len(server.requests) == count, "what is known by its checksum is not asked for again"
    with pytest.raises(ImageError, match="has the checksum"):
        yard.build(FROM + line.format("0" * 64))
    with pytest.raises(ImageError, match="no checksum"):
        yard.build(FROM + line.format("zz"))


@pytest.mark.parametrize("kind", ["HEADER", "TOKEN"])
def test_a_download_that_asks_who_it_is(yard: Yard, server: Server, kind: str) -> None:
    """The secret goes to its host alone, and to no other that this one sends us to."""
    server.wanted = "Bearer hush"
    with pytest.raises(ImageError, match="401"):
        yard.build(FROM + f"ADD {url(server, '/dir/tool')} /x\n")
    secret = b"Bearer hush" if kind == "HEADER" else b"hush\n"
    secrets = {f"HTTP_AUTH_{kind}_{server.host}": secret}
    assert yard.build(FROM + f"ADD {url(server, '/dir/tool')} /x\n", secrets=secrets).read("/x") == "tool\n"
    server.elsewhere["/away"] = f"http://localhost:{server.port}/dir/tool"
    with pytest.raises(ImageError, match="401"):
        yard.build(FROM + f"ADD {url(server, '/away')} /x\n", secrets=secrets)


def test_what_cannot_be_fetched(yard: Yard, server: Server) -> None:
    with pytest.raises(ImageError, match="404"):
        yard.build(FROM + f"ADD {url(server, '/nothing')} /x\n")


def test_a_context_in_an_archive(yard: Yard, server: Server, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(FROM + "COPY f /f\n")
    (tmp_path / "f").write_text("far")
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "c.tar", "Dockerfile", "f"], check=True)
    server.files["/c.tar"] = (tmp_path / "c.tar").read_bytes()
    assert yard.build(context=url(server, "/c.tar")).read("/f") == "far"


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[str]:
    """The address of a git daemon that serves the folder `served`."""
    if shutil.which("git") is None or not Path("/usr/lib/git-core/git-daemon").exists():
        pytest.skip("git is not installed")
    (tmp_path / "served").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("--export-all", f"--base-path={tmp_path}/served", "--listen=127.0.0.1", f"--port={port}")
    daemon = subprocess.Popen(["/usr/lib/git-core/git-daemon", *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except ConnectionRefusedError:
            assert daemon.poll() is None
    yield f"git://127.0.0.1:{port}"
    daemon.kill()
    daemon.wait()


def published(tmp_path: Path) -> Path:
    """A repository with a tag, a branch that went on, and another repository in it."""
    work, inner, served = tmp_path / "work", tmp_path / "inner", tmp_path / "served"
    for place, file in ((inner, "deep"), (work, "sub/f")):
        (place / file).parent.mkdir(parents=True)
        git(place, "init", "-q")
        (place / file).write_text("one")
        git(place, "add", ".")
        git(place, "commit", "-qm", "one")
    git(inner, "clone", "-q", "--bare", ".", str(served / "inner.git"))
    (work / "sub" / "Dockerfile").write_text(FROM + "COPY . /x/\n")
    (work / "sub" / "f").chmod(0o775)
    allowed = ("-c", "protocol.file.allow=always")
    git(work, *allowed, "submodule", "-q", "add", str(served / "inner.git"), "inner")
    git(work, "config", "-f", ".gitmodules", "submodule.inner.url", "../inner.git")
    git(work, "add", ".")
    git(work, "commit", "-qm", "more")
    git(work, "tag", "-a", "v1", "-m", "v1")
    (work / "sub" / "f").write_text("two")
    git(work, "commit", "-qam", "two")
    git(work, "clone", "-q", "--bare", ".", str(served / "r.git"))
    return work


def test_repositories(yard: Yard, repositories: str, tmp_path: Path) -> None:
    """As a context and as a source of ADD, by branch, tag and folder."""
    work = published(tmp_path)
    where = f"{repositories}/r.git"
    for address, content in (
        (f"{where}#main:sub", "two"),
        (f"{where}#v1:sub", "one"),
        (f"{where}?tag=v1&subdir=sub", "one"),
        (f"{where}?branch=main&subdir=sub", "two"),
        (f"{where}?ref=v1#:sub", "one"),
    ):
        assert yard.build(context=address).read("/x/f") == content
    built = yard.build(FROM + f"ADD {where}#v1:sub /x/\n")
    assert built.listing("/x") == ["/x/Dockerfile", "/x/f"]
    assert (built.mode("/x/f"), built.mode("/x/Dockerfile"), built.mode("/x")) == (0o755, 0o644, 0o755)
    with pytest.raises(ImageError, match="no branch or tag"):
        yard.build(context=f"{where}#nothing")
    with pytest.raises(ImageError, match="no folder"):
        yard.build(context=f"{where}#main:../..")
    commit = git(work, "rev-parse", "v1^{commit}")
    built = yard.build(FROM + f"ADD --checksum={commit[:7]} --exclude=sub/Docker* {where}#v1 /x/\n")
    assert built.listing("/x/sub") == ["/x/sub/f"]
    built = yard.build(FROM + f"ADD {where}?tag=v1&checksum={commit} /x/\n")
    assert "/x/sub/f" in built.listing("/x")
    with pytest.raises(ImageError, match="is at the commit"):
        yard.build(FROM + f"ADD --checksum={commit[:7]} {where}#main /x/\n")


def test_repositories_in_a_repository_and_what_git_keeps(
    yard: Yard, repositories: str, tmp_path: Path
) -> None:
    published(tmp_path)
    where = f"{repositories}/r.git"
    built = yard.build(FROM + f"ADD {where} /x/\nADD {where}?submodules=false /y/\n")
    assert built.read("/x/inner/deep") == "one" and not built.has("/y/inner/deep")
    assert not built.has("/x/.git") and not built.has("/x/inner/.git")
    built = yard.build(FROM + f"ADD --keep-git-dir {where} /x/\nADD {where}?keep-git-dir=1 /y/\n")
    assert built.has("/x/.git/HEAD") and built.has("/y/.git/HEAD")
    assert not yard.build(context=f"{where}?subdir=sub").has("/x/.git")
    inline = FROM + "COPY . /x/\n"
    assert not yard.build(context=where, inline=inline).has("/x/.git")
    kept = {"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"}
    assert yard.build(context=where, inline=inline, args=kept).has("/x/.git/HEAD")


@pytest.mark.parametrize("query", ["ref", "loud=1", "keep-git-dir=maybe", "ref=a&branch=b"])
def test_addresses_of_repositories_that_say_nothing(query: str) -> None:
    if query == "ref":
        assert repository("https://x/a.git?ref=b#:c").below == "c"
    else:
        with pytest.raises(ImageError):
            repository(f"https://x/a.git?{query}")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://example.org/a.git", True),
        ("https://example.org/a.git#ref:dir", True),
        ("https://example.org/a.git?branch=ref&subdir=dir", True),
        ("git@example.org:a/b.git", True),
        ("git@example.org:a/b", True),
        ("ssh://git@example.org/a", True),
        ("git://example.org/a", True),
        ("https://example.org/a.tar.gz", False),
        ("./folder", False),
        ("/srv/x.git", False),
    ],
)
def test_what_is_a_repository(text: str, is_one: bool) -> None:
    assert is_git(text) is is_one


def test_a_host_that_looks_like_an_option_is_refused(yard: Yard) -> None:
    with pytest.raises(ImageError, match="git"):
        Fetcher(Cache(yard.paths)).folder("git@-oProxyCommand=touch:a.git")
