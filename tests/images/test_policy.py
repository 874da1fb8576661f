"""When `run` and `up` ask a registry again; when not is in tests/plan."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import pytest

from composer.images.store import PULLED, Store
from composer.paths import Paths
from tests.host import Host
from tests.images.conftest import Server, rootfs

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("policy", ["daily", "refresh\n    pull_refresh_after: 90m", "every_1d12h"])
def test_an_old_image_is_fetched_again(
    host: Host, store: Store, serve: Callable[..., Server], policy: str
) -> None:
    name = f"{serve().host}/app:1"

    def publish(text: str) -> None:
        store.import_(rootfs(("greeting", text.encode())), name, changes=('CMD ["/bin/cat", "/greeting"]',))
        anyio.run(store.push, name)

    def said() -> str:
        return stack.ok("run", "--rm", "app").strip()

    publish("one\n")
    stack = host.stack(f"services:\n  app:\n    image: {name}\n    pull_policy: {policy}\n")
    assert said() == "one"
    publish("two\n")
    assert said() == "one"
    stack.ok("down")  # a supervisor knows better when it asked
    here = Store(Paths(host.root / "run", host.root / "state"))
    with here.layout.changing() as entries:
        for entry in entries:
            entry["annotations"][PULLED] = "1000000000"
    assert said() == "two"


def test_never_is_never(host: Host) -> None:
    stack = host.stack("services: {app: {image: '127.0.0.1:1/app:1', pull_policy: never}}")
    done = stack("run", "app")
    assert done.returncode == 1 and "the pull policy is never" in done.stderr


def test_a_tag_that_moved_is_told(host: Host, store: Store, serve: Callable[..., Server]) -> None:
    name = f"{serve().host}/app:1"
    for text in (b"one\n", b"two\n"):
        store.import_(rootfs(("greeting", text)), name, changes=('CMD ["/bin/sh", "-c", "read x"]',))
        anyio.run(store.push, name)
        if text == b"one\n":
            stack = host.stack(f"services: {{app: {{image: '{name}', stdin_open: true}}}}")
            assert "another image" not in stack("up", "-d").stderr
    stack.ok("down")
    here = Store(Paths(host.root / "run", host.root / "state"))
    with here.layout.changing() as entries:
        entries[0]["annotations"][PULLED] = "1000000000"
    assert stack("--offline", "up", "-d").returncode == 0
    assert not (host.root / "state" / "cache" / "tags.json").exists()
    deadline = time.monotonic() + 20
    while "means another image" not in (told := stack("up", "-d").stderr) and time.monotonic() < deadline:
        pass
    assert f"composer image pull {name}" in told
    stack.ok("pull", "-q")
    assert "another image" not in stack("up", "-d", "-t", "0").stderr


def test_old_volumes_over_new_content_are_told(host: Host) -> None:
    dockerfile = "FROM host\nRUN mkdir /app /other; echo >/app/it; echo >/other/it\nVOLUME /other /app\n"
    stack = host.stack(
        "services: {app: {build: ., command: sleep 1000, init: true}}", files={"Dockerfile": dockerfile}
    )
    assert "older than the image" not in stack("up", "-d").stderr
    (stack.folder / "Dockerfile").write_text(dockerfile + "RUN echo new >/app/it\n")
    told = stack("up", "-d", "--build", "-t", "0").stderr
    assert "anonymous volume at /app is older" in told and "/other" not in told
    (stack.folder / "Dockerfile").write_text(dockerfile + "RUN echo newer >/app/it\n")
    assert "older than the image" not in stack("up", "-d", "--build", "-V", "-t", "0").stderr
