"""What one kernel's tests say, as they say it: progress for people, and the summary at the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

# Seconds without a word after which the test that runs is named.
PATIENCE = 60


class Summary:
    """Results of one machine."""

    def __init__(self, kernel: str, log: Path) -> None:
        self.kernel, self.log = kernel, log
        self.began = self.ended = self._said = time.monotonic()
        self.tests = 0
        self.exit = -1
        self.results: dict[str, tuple[str, str]] = {}
        self.again: list[str] = []
        self.current = ""
        self._file, self._begun = "", list[str]()
        self._since = self.began

    @property
    def status(self) -> int:
        """As pytest's; 125 when the machine ended, or was ended, before its tests did."""
        return self.exit if self.exit != -1 else 125

    def hear(self, line: str) -> None:
        """A line of report.py, or of whatever runs in its place."""
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            self.say(line)
        elif "exit" in said:
            self._end_of_file()
            self.exit, self.ended = said["exit"], time.monotonic()
        elif "tests" in said:
            self.tests = said["tests"]
            self._since = time.monotonic()
            self.say(f"{self.tests} tests, found {self._since - self.began:.0f} s after the start")
        elif "begins" in said:
            self.current = said["test"]
            if (file := self.current.partition("::")[0]) != self._file:
                self._end_of_file()
                self._file, self._since, self._begun = file, time.monotonic(), []
            self._begun.append(self.current)
            if time.monotonic() - self._said > PATIENCE:
                self.say(f"{len(self.results):4}/{self.tests} {self.current}")
        else:
            self._note(said["test"], said["outcome"], said["text"])

    def _note(self, test: str, outcome: str, text: str) -> None:
        """A test may have several results: the worst one counts, and one to be tried again is none."""
        if outcome == "rerun":
            self.again.append(test)
        elif self.results.get(test, ("", ""))[0] != "failed":
            self.results[test] = (outcome, text)
        if outcome in ("failed", "rerun"):
            self.say(f"{outcome.upper()} {test}\n{text}")

    def _end_of_file(self) -> None:
        if not self._file:
            return
        outcomes = [self.results[test][0] for test in self._begun if test in self.results]
        took = time.monotonic() - self._since
        self.say(f"{len(self.results):4}/{self.tests} {self._file}: {_counts(outcomes)}, {took:.0f} s")

    def say(self, text: str) -> None:
        self._said = time.monotonic()
        for line in text.splitlines():
            print(f"{self.kernel:4} | {line}", flush=True)

    def __str__(self) -> str:
        """The end: numbers, then everything that did not pass at once, with its reason."""
        counts = _counts([how for how, _ in self.results.values()])
        took = max(self.ended, self._said) - self.began
        lines = [f"Linux {self.kernel}, cgroup v2: {counts}; {took / 60:.0f} min; log: {self.log}"]
        if self.exit not in (-1, 0, 1):
            lines.append(f"the tests ended with the exit status {self.exit}")
        if self.exit == -1:
            lines.append(f"the machine ended before its tests did; last begun: {self.current or 'none'}")
        skipped = Counter(
            (test.partition("::")[0], why) for test, (how, why) in self.results.items() if how == "skipped"
        )
        lines += [f"skipped {number} of {file}: {why}" for (file, why), number in skipped.items()]
        failed = [test for test, (how, _) in self.results.items() if how == "failed"]
        lines += [f"passed when tried again: {test}" for test in self.again if test not in failed]
        lines += [f"FAILED {test}" for test in failed]
        return "\n  ".join(lines)


def _counts(outcomes: list[str]) -> str:
    counts = Counter(outcomes)
    said = (f"{counts[how]} {how}" for how in ("passed", "failed", "skipped") if counts[how])
    return ", ".join(said) or "nothing"
