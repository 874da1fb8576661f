"""The example with a database, a cache, a proxy and a build, unchanged, on images from a registry."""

from __future__ import annotations

import shutil
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host import Host, Stack
from tests.images.conftest import serve
from tests.stacks import seed
from tests.stacks.test_guestbook import free_port

pytestmark = [pytest.mark.kernel, pytest.mark.xdist_group("wordcount")]
EXAMPLE = Path(__file__).parents[2] / "examples" / "stacks" / "wordcount"

__all__ = ["serve"]


@pytest.fixture
def registry(serve: Callable[..., Any], tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The stand-ins, in a registry; its address."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    root = seed.archive(Path(request.config.cache.mkdir("seed")))
    address: str = serve().host
    seed.push(address, root, tmp_path / "seed")
    return address


@pytest.fixture
def wordcount(host: Host, registry: str) -> Iterator[tuple[Stack, str]]:
    """The example, up, and where its page is."""
    mirror = host.root / "registries.conf"
    mirror.write_text(f"""
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "{registry}"
    """)
    port = free_port()
    host.environment |= {
        "CONTAINERS_REGISTRIES_CONF": str(mirror),
        "WORDCOUNT_PORT": str(port),
        "COMPOSE_PROJECT_NAME": f"{host.mark}wordcount",
    }
    folder = host.root / "wordcount"
    shutil.copytree(EXAMPLE, folder)
    stack = Stack(host, folder)
    stack.name = f"{host.mark}wordcount"
    stack.ok("up", "-d", "--wait")
    yield stack, f"http://127.0.0.1:{port}/"


def get(url: str) -> tuple[str, str]:
    """The page, and which of the servers made it."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode(), answer.headers["X-Served-By"]


def test_it_counts_scales_and_keeps_what_it_counted(wordcount: tuple[Stack, str]) -> None:
    stack, url = wordcount
    text = urllib.parse.urlencode({"text": "the cat and the hat"}).encode()
    urllib.request.urlopen(url, data=text, timeout=10).close()
    assert "<li>the: 2</li><li>and: 1</li>" in get(url)[0]
    assert {row["Health"] for row in stack.ps().values() if row["Service"] != "proxy"} == {"healthy"}

    words = (
        "exec",
        "-T",
        "db",
        "psql",
        "-U",
        "words",
        "-At",
        "-c",
        "SELECT times FROM counts WHERE word = 'the'",
    )
    assert stack.ok(*words) == "2\n"
    assert stack.ok("exec", "-T", "web", "stat", "-c", "%u %a", "/run/secrets/password") == "65534 400\n"

    stack.ok("up", "-d", "--wait", "--scale", "web=3")
    assert len([name for name in stack.ps() if "-web-" in name]) == 3

    stack.ok("down")
    stack.ok("up", "-d", "--wait")
    assert "<li>the: 2</li>" in get(url)[0]
    stack.ok("down", "-v", "--rmi", "local")


def test_a_replaced_server_is_found_by_its_name(wordcount: tuple[Stack, str]) -> None:
    """nginx goes on, and its next question is answered with the new addresses."""
    stack, url = wordcount
    assert "Word count" in get(url)[0]
    proxy = stack.ps()[f"{stack.name}-proxy-1"]["ID"]
    stack.ok("up", "-d", "--wait", "--force-recreate", "--no-deps", "web")
    assert "Word count" in get(url)[0]
    assert stack.ps()[f"{stack.name}-proxy-1"]["ID"] == proxy
