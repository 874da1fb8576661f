"""The last lines of containers' logs, as they come, for whoever looks now and then."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from composer.api.context import Context
from composer.api.project import stamp
from composer.cli.render.prefix import prefixes
from composer.logs import Source, follow
from composer.record import read_record

KEPT: Final = 5000
"""Lines that can be scrolled and searched."""


class Tail:
    """Follows the logs of one container, or with "" of all, on a thread of its own."""

    def __init__(self, context: Context, container: str) -> None:
        self.context, self.container = context, container
        self.lines: deque[str] = deque(maxlen=KEPT)
        self.count = 0
        """Lines that ever came."""
        self.both = threading.Lock()
        """Held while `lines` and `count` do not say the same."""
        self.stop_reading, self.stop_writing = os.pipe()
        self.folder = self.identity()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def identity(self) -> object:
        """Of the directory of logs: another one when the stack was taken down and is up again."""
        found = stamp(str(self.context.stack_paths.logs))
        return found and found[-1]

    @property
    def outdated(self) -> bool:
        return self.folder != self.identity()

    def run(self) -> None:
        rest = b""
        try:
            if self.folder:
                for chunk in follow(
                    self.context.stack_paths.logs, self.sources, self.stop_reading, tail=KEPT
                ):
                    *whole, rest = (rest + chunk).split(b"\n")
                    with self.both:
                        self.lines.extend(line.decode(errors="replace") for line in whole)
                        self.count += len(whole)
        except FileNotFoundError:
            return  # the stack was taken down meanwhile
        finally:
            os.close(self.stop_reading)

    def sources(self) -> Sequence[Source]:
        rows = read_record(self.context.stack_paths)["containers"]
        names = [row["name"] for row in rows if self.container in ("", row["name"])]
        labels = prefixes(names, self.context.stack_name, colour=True)
        place = self.context.stack_paths.log
        return [Source(str(place(name)), b"" if self.container else labels[name]) for name in names]

    def since(self, count: int) -> tuple[list[str], int]:
        """What came after the first `count` lines, as far as it is kept; and how many there are now."""
        with self.both:
            new = min(self.count - count, len(self.lines))
            return list(self.lines)[len(self.lines) - new :], self.count

    def end(self) -> None:
        os.close(self.stop_writing)
