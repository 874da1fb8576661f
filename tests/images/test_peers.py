"""The real Docker and podman read what we write, and write what we read."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from composer.images.image import Image
from composer.images.store import Store
from composer.images.transfer import login
from composer.paths import Paths
from tests.images.conftest import Server

pytestmark = pytest.mark.kernel

# An engine of our own: no network, no state but in its folder.
ENGINE = (
    "--bridge=none",
    "--iptables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--storage-driver=vfs",
)


@pytest.fixture(scope="module")
def docker() -> Iterator[Callable[..., bytes]]:
    """Runs docker commands against a fresh engine."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        pytest.skip("Docker is not installed")
    with tempfile.TemporaryDirectory(prefix="engine-") as folder:
        where = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
        reader, writer = os.pipe()
        engine = subprocess.Popen(
            ["dockerd", *ENGINE, *where, "-H", f"unix://{folder}/socket"], stdout=writer, stderr=writer
        )
        os.close(writer)
        try:
            _wait_for_words(reader, b"API listen on")

            def run(*arguments: str | Path, data: bytes | None = None) -> bytes:
                command = ["docker", "-H", f"unix://{folder}/socket", *arguments]
                return subprocess.run(command, check=True, capture_output=True, input=data).stdout

            yield run
        finally:
            engine.send_signal(signal.SIGTERM)
            while os.read(reader, 65536):  # so that it never waits for us
                pass
            engine.wait()
            os.close(reader)


def _wait_for_words(reader: int, words: bytes) -> None:
    said = b""
    while words not in said:
        assert select.select([reader], [], [], 30)[0], said.decode()
        data = os.read(reader, 65536)
        if not data:
            pytest.skip(f"Docker does not start here: {said[-300:].decode()}")
        said += data


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(Paths(tmp_path / "other/run", tmp_path / "other/state"))


def greeting(image: Image) -> str:
    return Path(image.root[0].lowers[0], "etc/greeting").read_text()


def test_docker_loads_and_saves(
    docker: Callable[..., bytes], store: Store, other: Store, busybox: Image, tmp_path: Path
) -> None:
    with (tmp_path / "saved").open("wb") as out:
        store.save(["example/busybox:1"], out)
    assert b"example/busybox:1" in docker("load", "-i", tmp_path / "saved")
    seen = docker("inspect", "--format", "{{.Config.Env}} {{.Id}}", "example/busybox:1").decode()
    assert seen.split() == ["[GREETING=hello]", busybox.id]
    docker("save", "-o", tmp_path / "back", "example/busybox:1")
    with (tmp_path / "back").open("rb") as file:
        image = other.load(file)[0]
    assert (image.id, image.reference) == (busybox.id, "docker.io/example/busybox:1")
    assert greeting(image) == "hello\n"


def test_docker_pushes_what_we_pull(
    docker: Callable[..., bytes],
    store: Store,
    other: Store,
    busybox: Image,
    tmp_path: Path,
    serve: Callable[..., Server],
) -> None:
    name = f"{serve().host}/by/docker:1"
    with (tmp_path / "saved").open("wb") as out:
        store.save(["example/busybox:1"], out)
    docker("load", "-i", tmp_path / "saved")
    docker("tag", "example/busybox:1", name)
    docker("push", name)
    image = anyio.run(other.pull, name)
    assert image.id == busybox.id
    assert greeting(image) == "hello\n"


@pytest.fixture
def short() -> Iterator[str]:
    """A folder with a short name: podman wants its run root within fifty characters."""
    with tempfile.TemporaryDirectory(prefix="pod-") as folder:
        yield folder


@pytest.mark.parametrize("oci", [False, True])
def test_podman_loads_and_saves(
    store: Store, other: Store, busybox: Image, tmp_path: Path, short: str, oci: bool
) -> None:
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    with (tmp_path / "saved").open("wb") as out:
        store.save(["example/busybox:1"], out, oci=oci)
    podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
    done = subprocess.run([*podman, "load", "-q", "-i", tmp_path / "saved"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    form = "oci-archive" if oci else "docker-archive"
    saving = [*podman, "save", "-q", "--format", form, "-o", str(tmp_path / "back"), "example/busybox:1"]
    subprocess.run(saving, check=True, capture_output=True)
    with (tmp_path / "back").open("rb") as file:
        image = other.load(file)[0]
    assert image.reference == "docker.io/example/busybox:1"
    assert image.config["config"]["Env"] == ["GREETING=hello"]
    assert greeting(image) == "hello\n"


def test_podman_pulls_what_we_push_and_the_other_way(
    store: Store, other: Store, busybox: Image, short: str, serve: Callable[..., Server]
) -> None:
    """By a registry with a password."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    host = serve(users={"anna": "geheim"}).host
    anyio.run(login, host, "anna", "geheim")
    store.tag("example/busybox:1", f"{host}/ours:1")
    anyio.run(store.push, f"{host}/ours:1")
    podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
    far = ["--tls-verify=false", "--creds", "anna:geheim"]
    for words in (
        ["pull", "-q", *far, f"{host}/ours:1"],
        ["tag", f"{host}/ours:1", f"{host}/theirs:1"],
        ["push", "-q", *far, f"{host}/theirs:1"],
    ):
        done = subprocess.run([*podman, *words], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    image = anyio.run(other.pull, f"{host}/theirs:1")
    assert image.config["config"]["Env"] == ["GREETING=hello"]
    assert greeting(image) == "hello\n"
