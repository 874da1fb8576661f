"""`composer build` and `up --build` as their users drive them, and the example that is built."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from composer.images.store import Store
from composer.paths import Paths
from tests.build.conftest import rootfs
from tests.host import Host, Stack
from tests.images.conftest import Server, serve

__all__ = ["serve"]
pytestmark = pytest.mark.kernel
EXAMPLE = Path(__file__).parents[2] / "examples" / "stacks" / "built"
ONE = """
services:
  web:
    build: .
    command: [cat, /made]
"""


def test_build_and_build_again(host: Host) -> None:
    stack = host.stack(ONE, files={"Dockerfile": "FROM host\nRUN echo hello > /made\n"})
    done = stack("build")
    assert done.returncode == 0, done.stderr
    assert "#1 [web 1/1] RUN echo hello > /made" in done.stderr
    assert f"Image {stack.name}-web  Built" in done.stderr
    assert "#1 CACHED" in stack("build").stderr
    assert stack("build", "-q").stderr == ""


def test_up_builds_what_is_missing_and_with_build_what_changed(host: Host) -> None:
    stack = host.stack(ONE, files={"Dockerfile": "FROM host\nRUN echo one > /made\n"})
    stack.ok("up", "-d")
    stack.ok("wait", "web")
    assert "one" in stack.ok("logs", "--no-log-prefix", "web")
    (stack.folder / "Dockerfile").write_text("FROM host\nRUN echo two > /made\n")
    stack.ok("up", "-d")
    stack.ok("up", "-d", "--build")
    stack.ok("wait", "web")
    assert "two" in stack.ok("logs", "--no-log-prefix", "web")


def test_a_failing_build_says_where_in_both_commands(host: Host) -> None:
    stack = host.stack(ONE, files={"Dockerfile": "FROM host\nRUN echo last words && exit 7\n"})
    for verb in (("build",), ("up", "-d")):
        done = stack(*verb)
        assert done.returncode == 1
        assert (
            "Dockerfile:2:1" in done.stderr and "exit code 7" in done.stderr and "last words" in done.stderr
        )
        assert "Traceback" not in done.stderr
    assert "  2 | RUN echo" in stack("build").stderr


def test_keys_of_build(host: Host) -> None:
    """Arguments, inline text, secrets, contexts of other services, tags, targets, labels."""
    stack = host.stack(
        """
        services:
          base:
            build:
              dockerfile_inline: |
                FROM host
                RUN echo base > /from-base
          web:
            build:
              dockerfile_inline: |
                FROM base AS one
                ARG A
                ARG B
                RUN --mount=type=secret,id=s test "$(cat /run/secrets/s)" = hush && echo $$A $$B > /made
                FROM scratch AS never
                RUN impossible
              target: one
              args: {A: "1", B: two}
              additional_contexts: {base: "service:base"}
              secrets: [s]
              tags: ["other:tag"]
              labels: {made.by: tests}
            command: [cat, /made, /from-base]
        secrets:
          s: {environment: HUSH}
        """
    )
    env = {"HUSH": "hush"}
    stack.ok("build", "--build-arg", "A=9", "web", env=env)
    (row,) = json.loads(stack.ok("image", "inspect", "other:tag"))
    assert row["Config"]["Labels"] == {"made.by": "tests"}
    stack.ok("up", "-d", "--no-build", "web", env=env)
    stack.ok("wait", "web", env=env)
    assert stack.ok("logs", "--no-log-prefix", "web").split() == ["9", "two", "base"]


def test_looking_without_building(host: Host) -> None:
    stack = host.stack(
        ONE, files={"Dockerfile": "FROM host\nCOPY a .\n", "a": "", "b": "", ".dockerignore": "b\n"}
    )
    assert stack.ok("build", "--list-context").split() == [".dockerignore", "Dockerfile", "a", "compose.yaml"]
    assert "nothing is wrong" in stack("build", "--check").stderr
    printed = json.loads(stack.ok("build", "--print"))
    assert printed["target"]["web"]["tags"] == [f"{stack.name}-web"]
    (stack.folder / "Dockerfile").write_text("FROM host\nCOPPY a .\n")
    done = stack("build", "--check")
    assert done.returncode == 1 and "did you mean COPY?" in done.stderr
    assert not (host.root / "state" / "images" / "index.json").exists()


def test_looking_asks_registries_what_base_images_set(
    host: Host, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    name = f"{serve().host}/base:1"
    store = Store(Paths(tmp_path / "run", tmp_path / "state"))
    store.import_(rootfs(), name, changes=("ENV KNOWN=1",))
    anyio.run(store.push, name)
    text = f"FROM {name} AS one\nENV A=$KNOWN\nFROM one\nENV B=$A$KNWON\nFROM 127.0.0.1:1/x\nENV C=$D\n"
    stack = host.stack(
        ONE.replace("build: .", "build: {context: ., target: '1'}"), files={"Dockerfile": text}
    )
    told = stack("build", "--check").stderr
    assert "Dockerfile:4:1: UndefinedVar: $KNWON has no value here: did you mean KNOWN?" in told
    assert told.count("UndefinedVar") == 1
    stack.rewrite(ONE)
    told = stack("build", "--check").stderr
    assert "127.0.0.1:1/x is not known" in told and "UndefinedVar" not in told
    (stack.folder / "Dockerfile").write_text("FROM --platform=linux/s390x host\n")
    assert stack("build", "--check").returncode == 1


def test_progress_as_json(host: Host) -> None:
    stack = host.stack(ONE, files={"Dockerfile": "FROM host\nRUN echo hi\n"})
    rows = [json.loads(line) for line in stack("build", "--progress", "json").stderr.splitlines()]
    assert {"id": "web/0/1", "text": "[web 1/1] RUN echo hi", "status": "output", "details": "hi"} in rows


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_example(host: Host) -> None:
    port = free_port()
    host.environment |= {"BUILT_PORT": str(port), "COMPOSE_PROJECT_NAME": f"{host.mark}built"}
    folder = host.root / "built"
    shutil.copytree(EXAMPLE, folder)
    stack = Stack(host, folder)
    stack.ok("up", "-d", "--wait")
    body = urllib.parse.urlencode({"text": "to be or not to be"}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=body, timeout=5) as answer:
        assert "<li>be: 2<li>to: 2<li>not: 1" in answer.read().decode()
    assert "CACHED" in stack("build").stderr
    assert stack.ok("exec", "-T", "web", "id", "-un").strip() == "nobody"
    (folder / "app" / "words.py").write_text("def count(text): return []\n")
    done = stack("build")
    assert done.returncode == 1 and "test_the_most_frequent_come_first" in done.stderr


def test_an_image_of_many_layers_over_the_hosts_usr(host: Host) -> None:
    """More of them than one option of a mount has room for."""
    lines = "".join(f"RUN echo {n} > /usr/local/{n}\n" for n in range(5))
    stack = host.stack(
        ONE.replace("/made", "/usr/local/0, /usr/local/4"), files={"Dockerfile": "FROM host\n" + lines}
    )
    stack.ok("up", "-d")
    stack.ok("wait", "web")
    assert stack.ok("logs", "--no-log-prefix", "web").split() == ["0", "4"]
