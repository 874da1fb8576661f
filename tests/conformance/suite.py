"""The programs of opencontainers/runtime-tools `validation/`: built, run one by one, understood.

A program writes TAP (https://testanything.org/tap-specification.html). Everything is bounded: a program that
does not end is killed, and containers that it leaves behind are deleted.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

_TEST = re.compile(r"^(not )?ok\b ?\d*(.*)$", re.MULTILINE)
_PLAN = re.compile(r"^1\.\.(\d+)", re.MULTILINE)
_ERROR = re.compile(r'^ +"?error"?: (.*?),?$', re.MULTILINE)
# Mounts that a runtime leaves behind end with the program. "/" is shared, as with systemd, but with nobody.
_ALONE = (
    *("unshare", "--mount", "--propagation", "slave", "--"),
    *("sh", "-c", 'mount --make-rshared / && exec "$0"'),
)


class Outcome(NamedTuple):
    """What became of one program: descriptions of the tests that failed, and why it ended early."""

    passed: int = 0
    skipped: int = 0
    failed: tuple[str, ...] = ()
    died: str = ""

    @property
    def good(self) -> bool:
        return not self.failed and not self.died

    @property
    def words(self) -> str:
        """For a cell of a table."""
        if self.good:
            return "skip" if self.skipped and not self.passed else "pass"
        count = self.passed + self.skipped + len(self.failed)
        if self.failed:
            return f"{len(self.failed)} of {count} fail"
        return "ends early" if count else "no result"


def understand(output: str, status: int, complaint: str) -> Outcome:
    """Pure: the outcome of a program by what it wrote and how it ended.

    A test marked TODO counts as passed, as TAP has it. Not all programs announce how many tests they have,
    and some have none: they pass by ending well, and fail by writing what was wrong.
    """
    passed = skipped = 0
    failed: list[str] = []
    for bad, rest in _TEST.findall(output):
        text = rest.removeprefix(" - ").strip()
        if text.upper().startswith("# SKIP"):
            skipped += 1
        elif bad and not text.upper().startswith("# TODO"):
            failed.append(text)
        else:
            passed += 1
    count = passed + skipped + len(failed)
    planned = [int(number) for number in _PLAN.findall(output)]
    died = ""
    if status:
        died = complaint.strip() or f"exit status {status}"
    elif planned and sum(planned) != count:
        died = f"{count} tests instead of {sum(planned)}"
    elif not count:
        found = _ERROR.search(output)
        died = found[1] if found else ""
    return Outcome(passed, skipped, tuple(failed), died)


class Suite:
    """A checkout. `build` needs Go (1.21 or newer), but no network: its dependencies are part of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.programs = sorted(path.parent.name for path in self.directory.glob("validation/*/*.go"))
        self.programs = sorted({*self.programs} - {"util"})
        if not self.programs:
            raise SystemExit(f"{directory} is no checkout of opencontainers/runtime-tools")

    def executable(self, program: str) -> Path:
        return self.directory / "validation" / program / f"{program}.t"

    def build(self) -> None:
        """What is missing: the program for inside of containers, which must be static, and all others."""
        inside = self.directory / "runtimetest"
        if not inside.exists():
            static = ["-tags", "netgo osusergo", "-ldflags", "-extldflags -static"]
            self._build(inside, "./cmd/runtimetest", static)
        for program in self.programs:
            if not self.executable(program).exists():
                self._build(self.executable(program), f"./validation/{program}", [])

    def _build(self, target: Path, package: str, flags: list[str]) -> None:
        print(f"building {package}", flush=True)
        command = ["go", "build", "-mod=vendor", *flags, "-o", str(target), package]
        subprocess.run(command, check=True, cwd=self.directory)

    def run(self, program: str, runtime: str, timeout: float) -> Outcome:
        """One program, with a runtime whose state is in a directory of its own."""
        with tempfile.TemporaryDirectory(prefix="composer-conformance-", ignore_cleanup_errors=True) as place:
            wrapper = Path(place, "runtime")
            root = f"{place}/state"
            wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(runtime)} --root {shlex.quote(root)} "$@"\n')
            wrapper.chmod(0o755)
            os.chmod(place, 0o755)  # the way to the bundles, also for the root of a user namespace
            os.mkdir(f"{place}/tmp")
            environment = {**os.environ, "RUNTIME": str(wrapper), "TMPDIR": f"{place}/tmp"}
            try:
                return self._run(program, environment, timeout)
            finally:
                listed = subprocess.run([wrapper, "list", "-q"], capture_output=True, text=True, check=False)
                for name in listed.stdout.split():
                    subprocess.run([wrapper, "delete", "-f", name], capture_output=True, check=False)

    def _run(self, program: str, environment: dict[str, str], timeout: float) -> Outcome:
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
            process = subprocess.Popen(
                [*_ALONE, self.executable(program)],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=complained,
                start_new_session=True,
            )
            try:
                status, late = process.wait(timeout), ""
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status, late = process.wait(), f"does not end within {timeout:.0f} s\n"
            said.seek(0)
            complained.seek(0)
            return understand(said.read(), status, late + complained.read())
