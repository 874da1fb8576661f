"""When `run` and `up` ask a registry again; when not is in tests/plan."""

from __future__ import annotations

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
