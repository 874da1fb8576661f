"""Fixtures of the images room: a store of its own, small images from busybox, real registries on loopback."""

from __future__ import annotations

import io
import os
import select
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from composer.images.image import Image
from composer.images.store import Store
from composer.paths import Paths
from composer.value import Value

BUSYBOX = shutil.which("busybox")
REGISTRY = shutil.which("docker-registry")


class Server(Value):
    """A running registry."""

    host: str
    root: Path
    authority: Path | None = None


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "run", tmp_path / "state")


@pytest.fixture
def store(paths: Paths) -> Store:
    return Store(paths)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: no credentials or settings of whoever runs the tests."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "CONTAINERS_REGISTRIES_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    (tmp_path / "xdg").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    monkeypatch.setenv("NO_PROXY", "*")
    return home


def rootfs(*extra: tuple[str, bytes]) -> io.BytesIO:
    """An archive of a small root file system: busybox with a shell, and `extra` files."""
    assert BUSYBOX is not None
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("bin", "etc", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        archive.add(BUSYBOX, "bin/busybox")
        for name in ("sh", "cat", "ls"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for name, data in extra:
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(data), 0o644
            archive.addfile(file, io.BytesIO(data))
    out.seek(0)
    return out


@pytest.fixture
def busybox(store: Store) -> Image:
    """A small image in the store."""
    changes = ('CMD ["/bin/sh"]', "ENV GREETING=hello", "LABEL made.by=tests")
    return store.import_(rootfs(("etc/greeting", b"hello\n")), "example/busybox:1", changes=changes)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a registry: anonymous, or with `users` (name → password), or with TLS by an authority of its
    own.
    """
    if REGISTRY is None:
        pytest.skip("docker-registry is not installed")
    running: list[subprocess.Popen[bytes]] = []

    def start(*, users: dict[str, str] | None = None, tls: bool = False) -> Server:
        port = _free_port()
        folder = tmp_path / f"registry-{port}"
        folder.mkdir()
        text = "version: 0.1\nlog: {level: error}\n"
        text += f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        text += f"http:\n  addr: 127.0.0.1:{port}\n  secret: fixed\n"
        authority = None
        if tls:
            authority = _certificates(folder)
            text += f"  tls: {{certificate: {folder}/server.crt, key: {folder}/server.key}}\n"
        if users:
            text += f"auth: {{htpasswd: {{realm: tests, path: {_htpasswd(folder, users)}}}}}\n"
        (folder / "config.yml").write_text(text)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([REGISTRY, "serve", folder / "config.yml"], stdout=log, stderr=log)
        running.append(process)
        _wait_for_port(port, process)
        return Server(f"127.0.0.1:{port}", folder / "data", authority)

    yield start
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it accepts. The process tells nobody when it is ready, so this asks again for at most ten
    seconds.
    """
    deadline = time.monotonic() + 10
    ended = os.pidfd_open(process.pid)
    try:
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except ConnectionRefusedError:
                assert not select.select([ended], [], [], 0.02)[0], "the registry ended"
    finally:
        os.close(ended)
    raise AssertionError("the registry does not listen")


def _htpasswd(folder: Path, users: dict[str, str]) -> Path:
    path = folder / "htpasswd"
    lines = []
    for name, password in users.items():
        lines.append(f"{name}:{_bcrypt(password)}\n")
    path.write_text("".join(lines))
    return path


def _bcrypt(password: str) -> str:
    """A hash in the form of htpasswd -B, made by the C library."""
    code = "import crypt,sys; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))"
    python = shutil.which("python3", path="/usr/bin") or "python3"
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, password], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().replace("$2b$", "$2y$")


def _certificates(folder: Path) -> Path:
    """An authority and a certificate for 127.0.0.1."""

    def openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=Tests")
    openssl("req", *new, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signing)
    return folder / "ca.crt"
