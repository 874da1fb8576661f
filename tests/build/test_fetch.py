"""What comes from elsewhere: a server on loopback, archives as contexts, repositories by git."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from composer.build.cache import Cache
from composer.build.fetch import Fetcher, is_git
from composer.errors import ImageError
from tests.build.conftest import Yard
from tests.build.test_build import archive

pytestmark = pytest.mark.kernel
FROM = "FROM example/base:1\n"


class Server(ThreadingHTTPServer):
    files: dict[str, bytes]
    asked: list[tuple[str, int]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        tag = f'"{hashlib.sha256(data or b"").hexdigest()}"'
        status = 404 if data is None else 304 if self.headers.get("If-None-Match") == tag else 200
        self.server.asked.append((self.path, status))
        self.send_response(status)
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")
        body = data if status == 200 and data else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked = {"/dir/tool": b"tool\n", "/a.tar": archive("x/y")}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


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
    assert server.asked[-1][1] == 304
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
    count = len(server.asked)
    yard.build()
    assert len(server.asked) == count, "what is known by its checksum is not asked for again"
    with pytest.raises(ImageError, match="has the checksum"):
        yard.build(FROM + line.format("0" * 64))
    with pytest.raises(ImageError, match="no checksum"):
        yard.build(FROM + line.format("zz"))


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


def test_repositories(yard: Yard, repositories: str, tmp_path: Path) -> None:
    """As a context and as a source of ADD, by branch, tag and folder."""
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    git(work, "init", "-q")
    (work / "sub" / "Dockerfile").write_text(FROM + "COPY f /f\n")
    (work / "sub" / "f").write_text("one")
    git(work, "add", ".")
    git(work, "commit", "-qm", "one")
    git(work, "tag", "-a", "v1", "-m", "v1")
    (work / "sub" / "f").write_text("two")
    git(work, "commit", "-qam", "two")
    git(work, "clone", "-q", "--bare", ".", str(tmp_path / "served" / "r.git"))
    where = f"{repositories}/r.git"
    assert yard.build(context=f"{where}#main:sub").read("/f") == "two"
    assert yard.build(context=f"{where}#v1:sub").read("/f") == "one"
    built = yard.build(FROM + f"ADD {where}#v1:sub /x/\n")
    assert built.listing("/x") == ["/x/Dockerfile", "/x/f"]
    with pytest.raises(ImageError, match="no branch or tag"):
        yard.build(context=f"{where}#nothing")
    with pytest.raises(ImageError, match="no folder"):
        yard.build(context=f"{where}#main:../..")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://example.org/a.git", True),
        ("https://example.org/a.git#ref:dir", True),
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
