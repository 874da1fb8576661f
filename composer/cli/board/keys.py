"""The last line of `composer ui`: keys, as many as there is room for. All of them work on any terminal."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

LEAVING: Final = (
    *("tab('info')", "tab('events')", "tab('logs')"),  # the names of the tabs are on the screen
    *("all_logs", "shell", "up", "pause", "search", "restart", "stop_or_start"),
)
"""What gives way first."""
AROUND: Final = 3
"""Columns around the key and the word of one."""


class Keys(Footer):
    def compose(self) -> ComposeResult:
        keys = [key for key in super().compose() if isinstance(key, FooterKey)]
        room = self.app.size.width
        for action in LEAVING:
            if sum(map(columns, keys)) > room:
                keys = [key for key in keys if key.action != action]
        yield from keys


def columns(key: FooterKey) -> int:
    return len(key.key_display) + len(key.description) + AROUND
