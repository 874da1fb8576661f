"""--quiet-pull and --quiet-build: that it begins and ends is told, and nothing of what is between."""

from __future__ import annotations

import json
from typing import Any

import pytest

from composer.cli import wish
from composer.cli.render.progress import Update
from tests.host import Host, Stack


class Seen(list[Update]):
    """A display that keeps what it is told."""

    def update(self, update: Update) -> None:
        self.append(update)

    def close(self) -> None:
        """Nothing is shown."""


IMAGE = {"id": "Image x", "state": "working"}
FRAMES: list[dict[str, Any]] = [
    {**IMAGE, "text": "Pulling", "because": "missing"},
    {**IMAGE, "text": "Pulling", "current": 1, "total": 2},
    {**IMAGE, "text": "Building", "because": "missing"},
    {**IMAGE, "text": "Building", "detail": "RUN make"},
    {**IMAGE, "text": "Error", "state": "error", "detail": "no such file"},
]


@pytest.mark.parametrize(
    ("pull", "build", "left"),
    [
        (False, False, [0, 1, 2, 3, 4]),
        (True, False, [0, 2, 3, 4]),
        (False, True, [0, 1, 2, 4]),
        (True, True, [0, 2, 4]),
    ],
)
def test_what_is_left_to_see(pull: bool, build: bool, left: list[int]) -> None:
    seen, everything = Seen(), Seen()
    hidden = wish.shower(seen, untold=wish.untold({"quiet_pull": pull, "quiet_build": build}))
    open_ = wish.shower(everything)
    for frame in FRAMES:
        hidden({"progress": frame})
        open_({"progress": frame})
    assert seen == [everything[number] for number in left]


@pytest.mark.kernel
@pytest.mark.parametrize(
    "words", [("up", "-d", "--build"), ("create", "--build"), ("run", "--rm", "-T", "--build", "web")]
)
def test_a_build_is_not_shown(host: Host, words: tuple[str, ...]) -> None:
    stack = host.stack("""
        services:
          web: {build: {context: ., dockerfile_inline: "FROM host\\nRUN true\\n"}, command: ["true"]}
    """)
    assert details(stack, *words)
    stack.ok("down", "--rmi", "local")
    assert not details(stack, words[0], "--quiet-build", *words[1:])
    stack.ok("down", "--rmi", "local")


def details(stack: Stack, *words: str) -> list[str]:
    """What is told of a build beyond that it begins and ends."""
    told = stack("--progress", "json", *words).stderr.splitlines()
    frames = [json.loads(line) for line in told if line.startswith("{")]
    texts = [frame["text"] for frame in frames if frame["id"].startswith("Image ")]
    assert {*texts} <= {"Building", "Built"}
    return [frame["details"] for frame in frames if frame["text"] == "Building" and "details" in frame]
