"""Lock files: a stack is held to the images that it had, whatever its tags mean by now."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx2
import pytest

from composer.errors import StackFileError
from composer.images import lock
from composer.images.config import OCI_INDEX, platform
from composer.images.image import Image
from composer.images.intake import write_image
from composer.images.reference import parse
from composer.images.store import Store
from tests.host import Host
from tests.images.conftest import Server, rootfs

DIGEST = f"sha256:{'0' * 64}"


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    path = lock.beside(str(tmp_path / "compose.yaml"))
    assert path.name == "compose.lock.yaml"
    images = {"docker.io/library/b:1": DIGEST, "127.0.0.1:5000/a:1": DIGEST.replace("0", "1")}
    lock.write(path, images)
    first = path.read_bytes()
    lock.write(path, dict(reversed(images.items())))
    assert path.read_bytes() == first
    assert lock.read(path) == images
    assert lock.read(tmp_path / "other") == {}


@pytest.mark.parametrize("line", ["  a: sha256:0", f"a {DIGEST}", "  a:", "- x", f"{DIGEST}"])
def test_lines_that_hold_nothing(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x"
    path.write_text(f"images:\n{line}\n")
    with pytest.raises(StackFileError, match="x:2:1"):
        lock.read(path)


def publish(store: Store, name: str, text: bytes) -> None:
    """An image that says the text."""
    store.import_(rootfs(("greeting", text)), name, changes=('CMD ["/bin/cat", "/greeting"]',))
    anyio.run(store.push, name)


@pytest.mark.kernel
def test_a_stack_stays_with_its_images(
    host: Host, store: Store, busybox: Image, serve: Callable[..., Server]
) -> None:
    registry = serve().host
    name = f"{registry}/app:1"

    publish(store, name, b"one\n")
    store.tag("example/busybox:1", f"{registry}/base:1")
    anyio.run(store.push, f"{registry}/base:1")
    text = f"""
        services:
          app:
            image: {name}
          built:
            build:
              dockerfile_inline: |
                FROM {registry}/base:1 AS unused
                FROM {name} AS base
                FROM scratch
                COPY --from=base /greeting /
            profiles: [never]
        """
    stack = host.stack(text)
    path = stack.folder / "compose.lock.yaml"
    missing = stack("up", "-d", "--locked")
    assert missing.returncode == 1 and "composer lock" in missing.stderr
    assert "Image " in stack("lock").stderr
    first = path.read_text()
    assert first.count("sha256:") == 1 and name in first

    publish(store, name, b"two\n")
    assert stack("lock", "--check").returncode == 1
    assert path.read_text() == first
    stack.ok("pull", "-q")
    stack.ok("up", "-d")
    stack.ok("wait", "app")
    assert "two" in stack.ok("logs", "--no-log-prefix", "app")
    stack.ok("up", "-d", "--locked")
    stack.ok("wait", "app")
    assert stack.ok("logs", "--no-log-prefix", "app").splitlines()[-1] == "one"

    stack.rewrite(text.replace(f"image: {name}", f"image: {registry}/base:1"))
    refused = stack("up", "-d", "--locked")
    assert refused.returncode == 1 and f"does not hold {registry}/base:1" in refused.stderr
    stack.ok("lock")
    assert stack("lock", "--check").returncode == 0
    assert "base:1" in path.read_text()
    assert stack("pull", "--locked").returncode == 0


@pytest.mark.kernel
def test_whatever_brings_images_here_can_be_held(
    host: Host, store: Store, busybox: Image, serve: Callable[..., Server]
) -> None:
    name = f"{serve().host}/app:1"

    publish(store, name, b"one\n")
    text = f"""
        services:
          app:
            image: {name}
          built:
            build:
              dockerfile_inline: |
                FROM {name}
            pull_policy: build
        """
    stack = host.stack(text)
    stack.ok("lock")
    publish(store, name, b"two\n")

    def newer() -> None:
        stack.ok("pull", "-q", "app")
        assert stack.ok("run", "--rm", "-T", "app") == "two\n"

    newer()
    assert stack.ok("run", "--rm", "-T", "--locked", "app") == "one\n"
    newer()
    stack.ok("create", "--locked", "app")
    stack.ok("start", "app")
    stack.ok("wait", "app")
    assert stack.ok("logs", "--no-log-prefix", "app") == "one\n"
    newer()
    stack.ok("build", "-q", "--locked", "built")
    assert stack.ok("run", "--rm", "-T", "built") == "one\n"
    for words in (("run", "--pull", "always", "--locked", "app"), ("build", "--pull", "--locked")):
        assert stack(*words).returncode == 2
    stack.rewrite(text.replace("build:\n", "build:\n              pull: true\n", 1))
    refused = stack("build", "--locked")
    assert refused.returncode == 2 and "build.pull" in refused.stderr


@pytest.mark.kernel
def test_the_machine_counts_as_well(
    host: Host, store: Store, busybox: Image, serve: Callable[..., Server]
) -> None:
    """One digest is an image for each machine; the one of another machine is not what a lock file means."""
    server, here = serve().host, platform().architecture
    name, foreign = f"{server}/app:1", "s390x" if here != "s390x" else "amd64"
    manifests = []
    for machine in (here, foreign):
        one = parse(f"{server}/app:{machine}")
        store.import_(rootfs(("machine", machine.encode())), str(one), changes=("CMD cat /machine",))
        made = store.entry(str(one))
        assert made is not None
        write_image(
            store, {**store.config(made), "architecture": machine}, store.manifest(made)["layers"], one
        )
        anyio.run(store.push, str(one))
        entry = store.entry(str(one))
        assert entry is not None
        manifests.append({key: entry[key] for key in ("mediaType", "digest", "size", "platform")})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    url, kind = f"http://{server}/v2/app/manifests/1", {"Content-Type": OCI_INDEX}
    httpx2.put(url, content=json.dumps(index), headers=kind).raise_for_status()
    stack = host.stack(f"services: {{app: {{image: '{name}'}}}}")
    stack.ok("lock")
    for _ in range(2):  # at first that digest is here for the other machine only, then for both
        stack.ok("image", "pull", "-q", "--platform", f"linux/{foreign}", name)
        assert stack.ok("run", "--rm", "-T", "app") == foreign
        assert stack.ok("run", "--rm", "-T", "--locked", "app") == here


@pytest.mark.kernel
def test_an_image_that_is_gone_is_told(
    host: Host, store: Store, busybox: Image, serve: Callable[..., Server]
) -> None:
    name = f"{serve().host}/app:1"
    store.tag("example/busybox:1", name)
    anyio.run(store.push, name)
    stack = host.stack(f"services: {{app: {{image: '{name}'}}}}")
    (stack.folder / "compose.lock.yaml").write_text(f"images:\n  {name}: {DIGEST}\n")
    done = stack("up", "-d", "--locked")
    assert done.returncode == 1
    assert "lock file" in done.stderr and DIGEST in done.stderr
    assert stack("up", "--locked", "--pull", "always").returncode == 2
