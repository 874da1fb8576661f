"""The example project passes its own tests, alone and by several workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host import Host

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]
EXAMPLE = Path(__file__).parents[2] / "examples/testing"


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "workers"])
def test_the_example_passes(host: Host, options: tuple[str, ...]) -> None:
    project = host.root / f"{host.mark}counter"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    text = (project / "compose.yaml").read_text().replace("name: counter", f"name: {host.mark}")
    (project / "compose.yaml").write_text(text)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        project,
        *options,
    ]
    done = subprocess.run(
        command, cwd=project, env=host.environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
