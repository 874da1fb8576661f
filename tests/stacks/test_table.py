"""The rows of `rows.py`, carried out here; and with Docker Compose, where an engine can be run."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.engine import Engine, engine
from tests.host import Host
from tests.network.conftest import own_host
from tests.stacks.rows import SCENARIOS
from tests.stacks.table import IMAGE, Row, Run, carry_out, complaints

pytestmark = pytest.mark.kernel

APPLETS = ["sh", "sleep", "echo", "cat", "true", "false", "id", "pwd", "hostname", "env", "ls", "kill", "seq"]


def box() -> bytes:
    """The smallest image in which the rows can run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(folder)
    return buffer.getvalue()


def carried_out(rows: tuple[Row, ...], folder: Path, run: Run, *, theirs: bool) -> list[str]:
    """Everything that is not as expected."""
    wrong = []
    for row in rows:
        asked = row._replace(command=row.command.replace("{s}", folder.name))
        if theirs and row.theirs:
            asked = asked._replace(**row.theirs)
        found = carry_out(asked, folder, run, look=asked.ps is not None)
        if told := complaints(asked, found, folder.name):
            wrong.append(f"{row.command}: " + "; ".join(told))
    return wrong


@pytest.mark.parametrize("name", SCENARIOS)
def test_here(host: Host, name: str) -> None:
    if not os.path.exists("/bin/busybox"):
        pytest.skip("busybox is not installed")
    text, rows = SCENARIOS[name]
    archive = host.root / "box.tar"
    archive.write_bytes(box())
    assert host.composer("image", "import", str(archive), IMAGE).returncode == 0
    stack = host.stack(text)
    stack.rewrite(text.replace("{name}", stack.name))
    wrong = carried_out(rows, stack.folder, lambda words: stack(*words), theirs=False)
    assert not wrong, "\n\n".join(wrong)


COMPOSE = shutil.which("docker-compose") or str(Path(sys.executable).with_name("docker-compose"))


@pytest.fixture(scope="module")
def theirs() -> Iterator[Engine]:
    """An engine of our own, on a machine of its own."""
    if not os.path.exists(COMPOSE):
        pytest.skip("docker-compose is not installed")
    with tempfile.TemporaryDirectory() as folder, own_host(Path(folder)), engine() as found:
        if found is None:
            pytest.skip("no Docker Engine here")
        with tempfile.TemporaryFile() as file:
            file.write(box())
            file.seek(0)
            found.run("import", "-", IMAGE, stdin=file.fileno())
        yield found


@pytest.mark.parametrize("name", SCENARIOS)
def test_there(theirs: Engine, tmp_path: Path, name: str) -> None:
    text, rows = SCENARIOS[name]
    folder = tmp_path / f"t{os.urandom(4).hex()}"
    folder.mkdir()
    (folder / "compose.yaml").write_text(text.replace("{name}", folder.name))

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_HOST": f"unix://{theirs.sock}"}
        return subprocess.run(
            [COMPOSE, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    try:
        wrong = carried_out(rows, folder, run, theirs=True)
    finally:
        run(["down", "-v", "-t", "0", "--remove-orphans"])
    assert not wrong, "\n\n".join(wrong)
