"""`composer watch` on real stacks: a save is in the container, and what follows it happens."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host import COMPOSER, Host, Stack

pytestmark = pytest.mark.kernel


class Lines:
    """A command's output, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        self.stream = process.stdout
        os.set_blocking(self.stream.fileno(), False)
        self.seen = ""

    def until(self, *texts: str) -> str:
        """What came, with all of these in it; they count once."""
        deadline = time.monotonic() + 60
        while not all(text in self.seen for text in texts):
            assert select.select([self.stream], [], [], max(deadline - time.monotonic(), 0))[0], self.seen
            data = os.read(self.stream.fileno(), 65536)
            assert data, self.seen
            self.seen += data.decode()
        seen, self.seen = self.seen, ""
        return seen


@contextmanager
def watching(stack: Stack, *words: str) -> Iterator[Lines]:
    process = subprocess.Popen(
        [*COMPOSER, "watch", *words],
        cwd=stack.folder,
        env=stack.host.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = Lines(process)
    try:
        lines.until("⦿ watching")
        yield lines
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130


def inside(stack: Stack, script: str, service: str = "web") -> str:
    return stack.ok("exec", "-T", service, "sh", "-c", script)


SYNC = """
    services:
      web:
        image: host
        init: true
        user: nobody
        command: [sleep, infinity]
        develop:
          watch:
            - {path: src, target: /app/src, action: sync, ignore: ["*.log"]}
            - {path: one.conf, target: /app/etc/two.conf, action: sync}
"""


def test_a_save_is_in_the_container(host: Host) -> None:
    stack = host.stack(SYNC, files={"src/a.py": "one", "one.conf": "1"})
    with watching(stack) as lines:
        (stack.folder / "src/a.py").write_text("two")
        lines.until("web-1  synced /app/src/a.py")
        assert inside(stack, "cat /app/src/a.py; stat -c ' %U %a' /app/src/a.py") == "two nobody 644\n"
        (stack.folder / "src/.new").write_text("three")
        (stack.folder / "src/.new").chmod(0o755)
        (stack.folder / "src/.new").rename(stack.folder / "src/a.py")
        lines.until("synced /app/src/a.py")
        assert inside(stack, "cat /app/src/a.py; stat -c ' %a' /app/src/a.py") == "three 755\n"
        (stack.folder / "one.conf").write_text("2")
        lines.until("synced /app/etc/two.conf")
        assert inside(stack, "cat /app/etc/two.conf") == "2"


def test_folders_links_and_deletes(host: Host) -> None:
    stack = host.stack(SYNC, files={"src/a.py": "one"})
    source = stack.folder / "src"
    with watching(stack) as lines:
        (source / "x.log").write_text("never")
        (source / "deep/er").mkdir(parents=True)
        (source / "deep/er/b").write_text("b")
        (source / "link").symlink_to("/etc/hostname")
        (source / "0done").write_text("1")
        lines.until("synced /app/src/0done")
        assert inside(stack, "cd /app/src; find . -type f | sort; readlink link; cat deep/er/b") == (
            "./0done\n./deep/er/b\n/etc/hostname\nb"
        )
        inside(stack, "touch /app/src/deep/own")
        (source / "deep/er/b").unlink()
        (source / "deep/er").rmdir()
        (source / "deep").rename(source / "moved")
        (source / "link").unlink()
        (source / "0done").write_text("22")
        lines.until("synced /app/src/0done")
        assert inside(stack, "cd /app/src; find . | sort") == ".\n./0done\n./deep\n./deep/own\n./moved\n"


def test_a_link_in_the_container_leads_nowhere_else(host: Host, tmp_path: Path) -> None:
    """A container that puts a link where a folder was gets its files inside its own root."""
    stack = host.stack(SYNC.replace("user: nobody", "user: root"), files={"src/d/a.py": "one"})
    outside = tmp_path / "outside"
    outside.mkdir()
    with watching(stack) as lines:
        inside(stack, f"mkdir -p /app/src; ln -s {outside} /app/src/d; ln -s /etc/passwd /app/src/p")
        inside(stack, "mkdir -p /own/place; ln -s /own/place /app/src/e")
        (stack.folder / "src/e").mkdir()
        (stack.folder / "src/e/b.py").write_text("three")
        (stack.folder / "src/d/a.py").write_text("two")
        (stack.folder / "src/p").write_text("mine")
        lines.until("/app/src/p")
        assert not list(outside.iterdir())
        assert inside(stack, "cat /app/src/p; grep -c root: /etc/passwd") == "mine1\n"
        assert inside(stack, "readlink /app/src/e; cat /own/place/b.py") == "/own/place\nthree"


def test_restart_and_exec_follow(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            init: true
            command: [sh, -c, "cat /conf/a 2>/dev/null; exec sleep infinity"]
            develop:
              watch:
                - {path: conf, target: /conf, action: sync+restart}
                - {path: only, action: restart}
                - path: run
                  target: /run.txt
                  action: sync+exec
                  exec:
                    command: [sh, -c, "id -un; pwd; echo $$NAME; cat /run.txt"]
                    user: nobody
                    working_dir: /etc
                    environment: {NAME: value}
        """,
        files={"conf/a": "old"},
    )
    with watching(stack) as lines:
        for number in range(20):
            (stack.folder / f"conf/{number}").write_text("x")
        (stack.folder / "conf/a").write_text("new\n")
        seen = lines.until("⦿ web  restarted")
        assert seen.count("restarted") == 1
        assert stack.ok("logs", "--no-log-prefix", "web") == "new\n"
        (stack.folder / "run").write_text("ran\n")
        seen = lines.until(": done")
        assert "sh -c '" in seen  # as a shell would take it
        assert [line.split("  ")[-1] for line in seen.splitlines() if "web-1    " in line] == [
            "nobody",
            "/etc",
            "value",
            "ran",
        ]
        (stack.folder / "only").write_text("x")
        lines.until("⦿ web  restarted")


def test_a_rebuild_replaces_containers_and_images(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            build: .
            init: true
            develop:
              watch:
                - {path: data, action: rebuild}
                - {path: live, target: /live, action: sync}
          other: {image: host, command: [sleep, infinity], init: true}
        """,
        files={
            "Dockerfile": "FROM host\nCOPY data /data\nCMD sleep infinity\n",
            ".dockerignore": "data/skip\n",
            "data/a": "one",
            "live/a": "one",
        },
    )
    with watching(stack, "--quiet") as lines:
        before = stack.ps()
        other = before[f"{stack.name}-other-1"]["ID"]
        (stack.folder / "live/a").write_text("two")
        lines.until("synced /live/a")
        (stack.folder / "data/skip").write_text("left out")
        (stack.folder / "data/a").write_text("two")
        lines.until("⦿ web  rebuilt", "synced /live/a")
        assert inside(stack, "cat /data/a /live/a; ls /data") == "twotwoa\n"
        after = stack.ps()
        assert after[f"{stack.name}-other-1"]["ID"] == other
        assert after[f"{stack.name}-web-1"]["ID"] != before[f"{stack.name}-web-1"]["ID"]
        images = stack.ok("image", "ls", "--format", "{{.Repository}}").split()
        assert "<none>" not in images
        (stack.folder / "Dockerfile").write_text("FROM host\nRUN exit 3\n")
        (stack.folder / "data/a").write_text("three")
        lines.until("⦿ web  not rebuilt")
        assert inside(stack, "cat /data/a") == "two"


def test_what_was_saved_meanwhile_is_not_lost(host: Host) -> None:
    """A container that is stopped, and one that is made anew, has everything when it runs."""
    stack = host.stack(SYNC, files={"src/a.py": "one"})
    with watching(stack) as lines:
        (stack.folder / "src/first").write_text("1")
        lines.until("synced /app/src/first")
        stack.ok("stop", "web")
        (stack.folder / "src/second").write_text("2")
        stack.ok("start", "web")
        assert "first" not in lines.until("synced /app/src/second")
        stack.ok("up", "-d", "--force-recreate")
        lines.until("synced /app/src/first, /app/src/second")
        stack.ok("down")
        (stack.folder / "src/third").write_text("3")
        stack.ok("up", "-d", "--scale", "web=2")
        lines.until("web-1  synced", "web-2  synced")
        assert inside(stack, "cat /app/src/*") == "123"


def test_the_first_sync_brings_what_is_missing(host: Host) -> None:
    text = SYNC.replace("action: sync, ", "action: sync, initial_sync: true, ")
    stack = host.stack(text, files={"src/a.py": "one", "src/sub/b.py": "two", "src/no.log": ""})
    with watching(stack) as lines:
        lines.until("web-1  synced /app/src/a.py, /app/src/sub, /app/src/sub/b.py (")
    (stack.folder / "src/a.py").write_text("changed")
    with watching(stack, "--no-up") as lines:
        lines.until("web-1  synced /app/src/a.py (")


def test_a_save_is_served_while_something_else_is_restarted(host: Host) -> None:
    stack = host.stack(
        """
        services:
          slow:
            image: host
            stop_grace_period: 40s
            command: [sh, -c, "trap 'read x < /pipe; exit' TERM; mkfifo /pipe; while :; do sleep 0.1; done"]
            develop: {watch: [{path: slow, action: restart}]}
          web:
            image: host
            init: true
            command: [sleep, infinity]
            develop: {watch: [{path: src, target: /src, action: sync}]}
        """,
        files={"slow": "", "src/a": ""},
    )
    with watching(stack) as lines:
        inside(stack, "while ! [ -p /pipe ]; do sleep 0.05; done", "slow")
        (stack.folder / "slow").write_text("x")
        lines.until("Container", "Stopping")
        (stack.folder / "src/a").write_text("x")
        lines.until("web-1  synced /src/a")
        inside(stack, "echo go > /pipe", "slow")
        lines.until("slow  restarted")


def test_the_stack_file_may_change_under_it(host: Host) -> None:
    """New rules count, those that stay lose nothing; a wrong file changes nothing; no container is replaced
    unasked, but it is told which `up` would replace.
    """
    stack = host.stack(SYNC, files={"src/a": "1", "more/b": "1"})
    with watching(stack) as lines:
        (stack.folder / "src/a").write_text("2")
        lines.until("synced /app/src/a")
        before = stack.ps()[f"{stack.name}-web-1"]["ID"]
        stack.rewrite(SYNC.replace("image: host", "imag: host"))
        assert "line" not in lines.until("goes on as before", "is not a known key")
        (stack.folder / "src/a").write_text("3")
        lines.until("synced /app/src/a")
        more = "- {path: more, target: /more, action: sync, initial_sync: true}\n            - {path: src"
        stack.rewrite(
            SYNC.replace("- {path: src", more).replace("init: true", "init: true\n        tty: true")
        )
        told = lines.until("read again", "watching  web (3)", "synced /more")
        assert f"`composer up -d` would change {stack.name}-web-1" in told
        assert "/app/src" not in told
        assert stack.ps()[f"{stack.name}-web-1"]["ID"] == before
        (stack.folder / "more/b").write_text("2")
        lines.until("synced /more/b")
        stack.ok("up", "-d")
        lines.until("synced", "/app/src/a", "/more/b")
        assert inside(stack, "cat /app/src/a /more/b") == "32"


def test_what_cannot_be_is_told(host: Host) -> None:
    stack = host.stack("services: {web: {image: host, command: [sleep, infinity]}}")
    done = stack("watch")
    assert done.returncode == 1
    assert "no service has anything to watch" in done.stderr
    stack.rewrite(
        """
        services:
          web:
            image: host
            read_only: true
            init: true
            command: [sleep, infinity]
            develop: {watch: [{path: src, target: /src, action: sync}]}
        """
    )
    with watching(stack) as lines:
        (stack.folder / "src").write_text("x")
        lines.until("/src: Read-only file system")
    assert "nothing can be copied" in stack("--dry-run", "watch").stderr
