"""What the command line has to say besides its results: to people on the standard error, to engines in --log.

The standard error of `create` and `run` is the container's, too; so where there is a log, warnings go there
alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple


class Journal(NamedTuple):
    path: str | None = None
    format: str = "text"

    def error(self, text: str) -> None:
        print(f"composer-runtime: {text}", file=sys.stderr)
        if self.path:
            self._write("error", text)

    def warn(self, texts: Iterable[str]) -> None:
        for text in texts:
            if self.path:
                self._write("warning", text)
            else:
                print(f"warning: {text}", file=sys.stderr)

    def _write(self, level: str, text: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f'time="{now}" level={level} msg={json.dumps(text)}'
        if self.format == "json":
            line = json.dumps({"level": level, "msg": text, "time": now})
        try:
            with open(self.path or "", "a") as file:
                file.write(line + "\n")
        except OSError as error:
            print(f"composer-runtime: --log {self.path}: {error.strerror}", file=sys.stderr)
