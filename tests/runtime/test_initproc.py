"""`composer.init`: a pid 1 that reaps, forwards, and cannot be taken over."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from composer.runtime import initproc
from composer.runtime.create import Stdio
from composer.runtime.errors import StepError
from composer.runtime.initproc import ANNOTATION
from tests.runtime.box import DEADLINE, Box, drain, output, status

pytestmark = pytest.mark.kernel


def with_init(box: Box, *args: str, **linux: Any) -> dict[str, Any]:
    return box.spec(*args, **linux) | {"annotations": {ANNOTATION: "true"}}


def test_the_program_is_the_child_of_pid_1(box: Box) -> None:
    result = box.run(with_init(box, "sh", "-c", "echo $$ $PPID; cat /proc/1/cmdline; exit 9"))
    assert result.output == "2 1\ninit\x002\x00"
    assert result.status == 9


def test_orphans_are_reaped(box: Box) -> None:
    """The orphan has ended when it can be signalled no more, which a zombie still could."""
    script = (
        "sh -c 'true & echo $! > /orphan'; read pid < /orphan; while kill -0 $pid 2> /dev/null; do :; done"
    )
    assert box.run(with_init(box, "sh", "-c", script)).status == 0


def test_signals_are_passed_on(box: Box) -> None:
    with output() as (reader, writer):
        script = "trap 'echo caught; exit 4' TERM; echo ready; while :; do sleep 1; done"
        container = box.start(with_init(box, "sh", "-c", script), Stdio(-1, writer, writer))
        os.close(writer)
        assert select.select([reader], [], [], DEADLINE)[0]
        assert os.read(reader, 100) == b"ready\n"
        signal.pidfd_send_signal(container.pidfd, signal.SIGTERM)
        assert drain(reader) == "caught\n"
        assert status(container) == 4


def test_the_end_by_a_signal_is_told(box: Box) -> None:
    assert box.run(with_init(box, "sh", "-c", "kill -9 $$")).status == 137


def test_a_missing_program_is_told(box: Box) -> None:
    with pytest.raises(StepError) as caught:
        box.start(with_init(box, "absent"))
    assert caught.value.step == "exec"


def test_works_without_anything_in_the_image(box: Box) -> None:
    spec = with_init(box, "/busybox", "true")
    spec["root"]["path"] = "empty"
    (box.directory / "empty").mkdir()
    spec["mounts"] = [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/busybox", "source": "/bin/busybox", "options": ["bind", "ro"]},
    ]
    assert box.run(spec, overlay=None).status == 0


def test_has_a_terminal_with_job_control(box: Box) -> None:
    spec = with_init(box, "sh", "-c", "tty; ps -o pid,pgid,tty 2>&1 | cat; stty size")
    spec["process"] |= {"terminal": True, "consoleSize": {"height": 30, "width": 90}}
    text = drain(box.start(spec).console)
    assert text.startswith("/dev/pts/0")
    assert "30 90" in text


def test_holds_nothing_and_can_do_nothing(box: Box) -> None:
    container = box.start(with_init(box, "sleep", "100"))
    place = Path(f"/proc/{container.pid}")
    assert list((place / "fd").iterdir()) == []
    rows = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
    assert {rows[name] for name in ("CapPrm", "CapEff")} == {f"{1 << 5:016x}"}
    assert rows["NoNewPrivs"] == "1"


def test_cannot_be_written_to_from_inside(box: Box) -> None:
    spec = with_init(box, "sleep", "100")
    container = box.start(spec)
    every_seal = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    with open(f"/proc/{container.pid}/exe", "rb") as program:
        assert fcntl.fcntl(program, fcntl.F_GET_SEALS) & every_seal == every_seal
    assert box.exec(container, spec, "sh", "-c", "echo x > /proc/1/exe").status != 0


def test_holds_next_to_no_memory(box: Box) -> None:
    container = box.start(with_init(box, "sleep", "100"))
    text = Path(f"/proc/{container.pid}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private"))
    assert private <= 64  # KiB


@pytest.mark.skipif(not shutil.which("llvm-mc"), reason="llvm is not installed")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_bytes_are_the_assembled_source(machine: str, tmp_path: Path) -> None:
    source = Path(initproc.__file__).with_name(f"init-{machine}.s")
    made, code = tmp_path / "made.o", tmp_path / "code"
    command = ["llvm-mc", f"-triple={machine}-linux-gnu", "-filetype=obj", str(source), "-o", str(made)]
    subprocess.run(command, check=True)
    subprocess.run(["llvm-objcopy", "-O", "binary", "-j", ".text", str(made), str(code)], check=True)
    assert initproc.program(machine).endswith(code.read_bytes())


def test_no_code_for_other_machines() -> None:
    with pytest.raises(StepError, match="no init for this machine"):
        initproc.program("vax")
