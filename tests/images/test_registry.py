"""Pull and push with real registries on loopback."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from composer.errors import ImageError, NotFoundError, RegistryError
from composer.images import registry
from composer.images.image import Image, Progress
from composer.images.store import Store
from composer.images.transfer import login
from composer.paths import Paths
from tests.images.conftest import Server, rootfs

pytestmark = pytest.mark.kernel

Serve = Callable[..., Server]


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A second, empty store."""
    return Store(Paths(tmp_path / "other/run", tmp_path / "other/state"))


def push(store: Store, server: Server, name: str = "example/busybox:1") -> str:
    target = f"{server.host}/{name}"
    store.tag("example/busybox:1", target)
    anyio.run(store.push, target)
    return target


def pull(store: Store, name: str) -> Image:
    return anyio.run(store.pull, name)


def test_what_was_pushed_is_pulled(store: Store, other: Store, busybox: Image, serve: Serve) -> None:
    target = push(store, serve())
    image = pull(other, target)
    assert image.id == busybox.id
    assert Path(image.root[0].lowers[0], "etc/greeting").read_text() == "hello\n"
    assert other.find(target) == image.replace(reference=target)
    assert other.check() == []


def test_pulled_by_digest(store: Store, other: Store, busybox: Image, serve: Serve) -> None:
    target = push(store, serve())
    entry = store.entry(target)
    assert entry is not None
    pinned = f"{target.rpartition(':')[0]}@{entry['digest']}"
    assert pull(other, pinned).id == busybox.id
    found = other.find(pinned)
    assert found is not None
    assert found.digests == (pinned,)
    assert other.find(target) is None


def test_progress_names_every_layer(store: Store, other: Store, busybox: Image, serve: Serve) -> None:
    target = push(store, serve())
    seen: list[Progress] = []

    async def run() -> None:
        await other.pull(target, progress=seen.append)

    anyio.run(run)
    assert {step.status for step in seen} >= {"waiting", "downloading", "done"}
    assert seen[-1].current == seen[-1].total > 0


def test_a_second_pull_fetches_no_layer(store: Store, other: Store, busybox: Image, serve: Serve) -> None:
    server = serve()
    target = push(store, server)
    pull(other, target)
    for blob in server.root.glob("docker/registry/v2/blobs/sha256/*/*/data"):
        if blob.stat().st_size > 10_000:
            blob.unlink()
    assert pull(other, target).id == busybox.id


def test_password(store: Store, other: Store, busybox: Image, serve: Serve, home: Path) -> None:
    server = serve(users={"anna": "geheim"})
    store.tag("example/busybox:1", f"{server.host}/a:1")
    with pytest.raises(RegistryError, match="no credentials") as refused:
        anyio.run(store.push, f"{server.host}/a:1")
    assert refused.value.status == 401
    assert "composer login" in str(refused.value.hint)
    with pytest.raises(RegistryError, match="wrong credentials"):
        anyio.run(login, server.host, "anna", "falsch")
    assert anyio.run(login, server.host, "anna", "geheim") == str(home / ".docker/config.json")
    assert (home / ".docker/config.json").stat().st_mode & 0o777 == 0o600
    anyio.run(store.push, f"{server.host}/a:1")
    assert pull(other, f"{server.host}/a:1").id == busybox.id


def test_certificate_of_an_own_authority(
    store: Store, other: Store, busybox: Image, serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By Docker's rule loopback needs no trusted certificate: switched off, this is any other registry.
    server = serve(tls=True)
    target = push(store, server)
    from composer.images import registries

    monkeypatch.setattr(registries.Registries, "_is_insecure", lambda *_: False)
    with pytest.raises(RegistryError, match=r"certificate of 127\.0\.0\.1:.* is not trusted"):
        pull(other, target)
    assert server.authority is not None
    folder = home / ".docker/certs.d" / server.host
    folder.mkdir(parents=True)
    shutil.copy(server.authority, folder / "ca.crt")
    assert pull(other, target).id == busybox.id


def test_mirror(
    store: Store, other: Store, busybox: Image, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    push(store, server, "library/busybox:1")
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f"""
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "{server.host}"
        """
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    image = pull(other, "busybox:1")
    assert image.id == busybox.id
    assert image.reference == "docker.io/library/busybox:1"


def test_blocked(other: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text('[[registry]]\nprefix = "bad.example"\nblocked = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    with pytest.raises(ImageError, match=r"bad\.example is blocked"):
        pull(other, "bad.example/x:1")


def test_absent(other: Store, serve: Serve) -> None:
    server = serve()
    with pytest.raises(RegistryError, match="no such image") as absent:
        pull(other, f"{server.host}/nothing:1")
    assert absent.value.status == 404
    with pytest.raises(NotFoundError):
        anyio.run(other.push, f"{server.host}/nothing:1")


def test_nobody_there(other: Store) -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1"):
        pull(other, "127.0.0.1:1/x:1")


@pytest.mark.parametrize("damage", ["shorter", "longer", "other"])
def test_wrong_bytes_are_refused(
    store: Store, other: Store, busybox: Image, serve: Serve, damage: str
) -> None:
    server = serve()
    target = push(store, server)
    layer = max(
        server.root.glob("docker/registry/v2/blobs/sha256/*/*/data"), key=lambda path: path.stat().st_size
    )
    data = layer.read_bytes()
    layer.write_bytes(
        {"shorter": data[:-5], "longer": data + b"x", "other": data[:-1] + bytes([data[-1] ^ 1])}[damage]
    )
    with pytest.raises(ImageError):
        pull(other, target)
    assert other.find(target) is None
    assert other.check() == []
    layer.write_bytes(data)
    assert pull(other, target).id == busybox.id


def test_a_broken_download_is_resumed(store: Store, other: Store, busybox: Image, serve: Serve) -> None:
    target = push(store, serve())
    entry = store.entry(target)
    assert entry is not None
    layer = store.manifest(entry)["layers"][0]
    half = store.layout.path(layer["digest"]).read_bytes()[: layer["size"] // 2]
    with other.layout.partial(layer["digest"]) as partial:
        assert partial is not None
        partial.write(half)
    seen: list[Progress] = []

    async def run() -> None:
        await other.pull(target, progress=seen.append)

    anyio.run(run)
    downloads = [
        step.current for step in seen if step.digest == layer["digest"] and step.status == "downloading"
    ]
    assert min(downloads) > len(half)


def test_skopeo_reads_and_writes(store: Store, other: Store, serve: Serve, tmp_path: Path) -> None:
    """skopeo reads what was pushed, and writes what is pulled."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    server = serve()
    packed = io.BytesIO(gzip.compress(rootfs(("etc/greeting", b"hello\n")).read(), 1))
    store.import_(packed, "example/busybox:1", changes=["ENV GREETING=hello"])
    target = push(store, server)
    policy = tmp_path / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    command = [
        skopeo,
        "--policy",
        policy,
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--dest-compress-format=gzip",
    ]
    copied = f"{server.host}/copied:2"
    subprocess.run(
        [*map(str, command), "--format=v2s2", f"docker://{target}", f"docker://{copied}"],
        check=True,
        env=os.environ,
    )
    image = pull(other, copied)
    assert image.config["config"]["Env"] == ["GREETING=hello"]
    assert Path(image.root[0].lowers[0], "etc/greeting").read_text() == "hello\n"


def test_an_index_by_platform(store: Store, other: Store, busybox: Image, serve: Serve) -> None:
    import json

    import httpx2

    server = serve()
    target = push(store, server)
    entry = store.entry(target)
    assert entry is not None
    plain = {key: entry[key] for key in ("mediaType", "digest", "size", "platform")}
    foreign = {**plain, "platform": {"os": "linux", "architecture": "s390x"}}
    kind = "application/vnd.oci.image.index.v1+json"
    index = {"schemaVersion": 2, "mediaType": kind, "manifests": [foreign, plain]}
    url = f"http://{server.host}/v2/example/busybox/manifests/many"
    httpx2.put(url, content=json.dumps(index), headers={"Content-Type": kind}).raise_for_status()
    many = f"{server.host}/example/busybox:many"
    assert pull(other, many).id == busybox.id

    async def strange() -> None:
        await other.pull(many, platform="linux/riscv64")

    with pytest.raises(ImageError, match=r"no such image for linux/riscv64") as absent:
        anyio.run(strange)
    assert "linux/s390x" in str(absent.value.hint)


PULL = """
import sys
from pathlib import Path
from typing import Any
import anyio
from composer.images.store import Store
from composer.paths import Paths
anyio.run(Store(Paths(Path(sys.argv[1], "run"), Path(sys.argv[1], "state"))).pull, sys.argv[2])
"""


def largest(folder: Path) -> int:
    """Bytes of the largest file in a folder that somebody else works in."""
    sizes = [0]
    for path in folder.glob("*") if folder.exists() else ():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return max(sizes)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_killed_in_the_middle_of_a_pull(
    store: Store, serve: Serve, tmp_path: Path, paths: Paths, share: float
) -> None:
    """kill -9 while downloading and unpacking: the store is whole, and the next pull goes on."""
    content = os.urandom(24 << 20)
    files = [(f"etc/f{number}", content[number << 16 : (number + 1) << 16]) for number in range(384)]
    busybox = store.import_(rootfs(*files), "example/busybox:1")
    target = push(store, serve())
    folder = tmp_path / "victim"
    victim = Store(Paths(folder / "run", folder / "state"))
    process = subprocess.Popen([sys.executable, "-c", PULL, str(folder), target])
    partial = victim.layout.root / "partial"
    while process.poll() is None:  # the moment is "after so many bytes", seen from outside
        if largest(partial) >= max(1, share * len(content)):
            process.kill()
            break
    process.wait()
    assert victim.check() == []
    assert pull(victim, target).id == busybox.id
    assert victim.check() == []
    victim.prune(all_=True)
    left = [
        path for name in ("unfinished", "partial", "layers") for path in (victim.layout.root / name).iterdir()
    ]
    assert left == []


class Spied:
    """What is asked of registries, as it goes out; `breaks` says where the line breaks instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.methods: list[str] = []
        self.breaks: Callable[[list[str]], bool] = lambda methods: False
        ask = registry.Registry._ask

        def spied(server: registry.Registry, method: str, path: str, **more: Any) -> Any:
            self.methods.append(method)
            if self.breaks(self.methods):
                raise RegistryError("the line broke")
            return ask(server, method, path, **more)

        monkeypatch.setattr(registry.Registry, "_ask", spied)


def test_layers_that_the_registry_has_elsewhere_are_mounted(
    store: Store, other: Store, busybox: Image, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    pull(other, push(store, server))
    other.tag(f"{server.host}/example/busybox:1", f"{server.host}/else/where:2")
    spied = Spied(monkeypatch)
    anyio.run(other.push, f"{server.host}/else/where:2")
    assert "POST" in spied.methods and "PATCH" not in spied.methods
    assert pull(store, f"{server.host}/else/where:2").id == busybox.id


def test_a_broken_upload_goes_on_where_the_server_is(
    store: Store, other: Store, busybox: Image, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "UPLOAD_CHUNK", 64 * 1024)
    monkeypatch.setattr(registry, "uniform", lambda *_: 0)  # back-off without waiting
    spied = Spied(monkeypatch)
    spied.breaks = lambda methods: methods[-1] == "PATCH" and methods.count("PATCH") in (3, 6)
    name = push(store, serve())
    assert spied.methods.count("PATCH") > 8
    assert pull(other, name).id == busybox.id


def test_a_name_that_nobody_knows(other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(registry, "uniform", lambda *_: 0)
    with pytest.raises(RegistryError, match=r"the name of the registry nowhere\.test cannot be resolved"):
        pull(other, "nowhere.test/a:1")


def test_a_registry_that_nobody_runs(other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "uniform", lambda *_: 0)
    with socket.socket() as held:  # bound, and never listening: the port is nobody else's
        held.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(RegistryError) as caught:
            pull(other, f"{host}/a:1")
    assert caught.value.message == f"the connection to {host} failed: Connection refused"
