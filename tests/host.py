"""A test's own corner of the machine: run and state directories, a name that marks everything, the command.

Used through the `host` fixture. `Host.composer(...)` runs the real command line; `Host.end()` brings every
stack down and tells what is still there.
"""

from __future__ import annotations

import json
import os
import pty
import secrets
import select
import shutil
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path
from typing import Any

from tests.leaks import left_behind

COMPOSER = [sys.executable, "-m", "composer"]


class Host:
    """One test's own corner of the machine. `mark` is in the name of everything it makes."""

    def __init__(self) -> None:
        self.mark = f"t{secrets.token_hex(4)}"
        # Not pytest's tmp_path: a unix socket's name has room for 107 bytes only.
        self.root = Path("/tmp") / self.mark
        self.root.mkdir(mode=0o755)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("COMPOSE_", "COMPOSER_"))},
            "COMPOSER_RUN_DIR": str(self.root / "run"),
            "COMPOSER_STATE_DIR": str(self.root / "state"),
            "NO_COLOR": "1",
        }

    def stack(self, text: str, name: str = "s", files: dict[str, str] | None = None) -> Stack:
        """Write a stack file into a folder of its own. Its stack is named after the folder."""
        folder = self.root / f"{self.mark}{name}"
        folder.mkdir(exist_ok=True)
        (folder / "compose.yaml").write_text(textwrap.dedent(text))
        for path, content in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(textwrap.dedent(content))
        return Stack(self, folder)

    def composer(
        self,
        *words: str,
        cwd: Path | None = None,
        stdin: str | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMPOSER, *words],
            cwd=cwd or self.root,
            env=self.environment | (env or {}),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def end(self) -> list[str]:
        """Bring down what is up; what remains anywhere is returned."""
        stacks = self.root / "state" / "stacks"
        bridges = self.bridges()
        for name in sorted(os.listdir(stacks)) if stacks.is_dir() else ():
            self.composer("-p", name, "down", "--volumes", "--remove-orphans", "-t", "0")
        found = left_behind([self.mark])
        found += [f"link {name}" for name in bridges if Path(f"/sys/class/net/{name}").exists()]
        found += [f"file {path}" for path in (self.root / "run").glob("stacks/*")]
        shutil.rmtree(self.root, ignore_errors=True)
        return found

    def bridges(self) -> list[str]:
        """Names of the links that this host's network records speak of."""
        names = []
        for path in (self.root / "state" / "networks").glob("*.json"):
            record = json.loads(path.read_text())
            names += [str(record[key]) for key in ("link",) if record.get(key)]
        return names


class Stack:
    """A stack file in its folder."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder, self.name = host, folder, folder.name

    def __call__(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; any exit code."""
        return self.host.composer(*words, cwd=self.folder, **more)

    def ok(self, *words: str, **more: Any) -> str:
        """Run a command that must end with 0; its standard output."""
        done = self(*words, **more)
        assert done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Run a command and go on."""
        return subprocess.Popen(
            [*COMPOSER, *words],
            cwd=self.folder,
            env=self.host.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def rewrite(self, text: str) -> None:
        (self.folder / "compose.yaml").write_text(textwrap.dedent(text))

    def ps(self, *words: str) -> dict[str, dict[str, Any]]:
        """`ps -a --no-trunc --format json` by container name."""
        lines = self.ok("ps", "-a", "--no-trunc", "--format", "json", *words).splitlines()
        return {row["Name"]: row for row in map(json.loads, lines)}


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, stack: Stack, *words: str, env: dict[str, str] | None = None) -> None:
        self.seen = b""
        environment = stack.host.environment | {"TERM": "xterm"}
        pid, self.master = pty.fork()
        if pid == 0:
            os.chdir(stack.folder)
            os.execve(COMPOSER[0], [*COMPOSER, *words], {**environment, **(env or {})})
        self.pid = pid

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + 60
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
            assert ready, self.seen
            try:
                data = os.read(self.master, 4096)
            except OSError:
                data = b""
            assert data, self.seen
            self.seen += data

    def lines_again(self) -> bool:
        """Whether the terminal gives whole lines and echoes, as a shell leaves it."""
        flags: int = termios.tcgetattr(self.master)[3]
        return flags & (termios.ICANON | termios.ECHO) == termios.ICANON | termios.ECHO

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def end(self) -> int:
        """Its exit code."""
        while True:
            try:
                data = os.read(self.master, 4096)
                self.seen += data
                if not data:
                    break
            except OSError:
                break
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)
