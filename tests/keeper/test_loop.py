"""Who is served when."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from composer.keeper.loop import CONTROL, EXIT, OUTPUT, Loop


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Read ends of pipes that are always readable."""
    ends = [os.pipe() for _ in range(6)]
    for _, theirs in ends:
        os.write(theirs, b"x")
    yield [ours for ours, _ in ends]
    for end in ends:
        for fd in end:
            os.close(fd)


def test_the_most_urgent_first(pipes: list[int]) -> None:
    loop, served = Loop(), list[int]()
    urgencies = [OUTPUT, CONTROL, EXIT]

    def serve(urgency: int) -> None:
        served.append(urgency)
        loop.running = len(served) < 3

    for fd, urgency in zip(pipes, urgencies, strict=False):
        loop.watch(fd, urgency, lambda urgency=urgency: serve(urgency))  # type: ignore[misc]
    loop.run()
    assert served == sorted(urgencies)


def test_outputs_take_turns_when_there_is_no_time_for_all(
    pipes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("composer.keeper.loop.OUTPUT_SHARE", 0)
    loop, served = Loop(), list[int]()

    def serve(fd: int) -> None:
        served.append(fd)
        loop.running = len(served) < 60

    for fd in pipes:
        loop.watch(fd, OUTPUT, lambda fd=fd: serve(fd))  # type: ignore[misc]
    loop.run()
    assert all(served.count(fd) >= 9 for fd in pipes)


def test_what_fails_is_not_called_again_and_others_are(
    pipes: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    loop, calls = Loop(), list[str]()

    def fail() -> None:
        calls.append("failed")
        raise RuntimeError("on purpose")

    def go_on() -> None:
        calls.append("went on")
        loop.running = calls.count("went on") < 3

    loop.watch(pipes[0], EXIT, fail)
    loop.watch(pipes[1], CONTROL, go_on)
    loop.run()
    assert calls == ["failed", *["went on"] * 3]
    assert "on purpose" in capsys.readouterr().err


def test_a_descriptor_opened_anew_is_not_mistaken_for_the_old_one(pipes: list[int]) -> None:
    loop, calls = Loop(), list[str]()

    def close_other() -> None:
        loop.forget(pipes[1])
        os.dup2(pipes[2], pipes[1])
        loop.watch(pipes[1], CONTROL, lambda: calls.append("new"))
        loop.forget(pipes[0])
        loop.later(0, lambda: setattr(loop, "running", False))

    loop.watch(pipes[0], EXIT, close_other)
    loop.watch(pipes[1], CONTROL, lambda: calls.append("old"))
    loop.run()
    assert "old" not in calls


def test_timers_in_order() -> None:
    loop, calls = Loop(), list[int]()
    loop.later(0.02, lambda: setattr(loop, "running", False))
    for number in (2, 1, 3):
        loop.later(number / 1000, lambda number=number: calls.append(number))  # type: ignore[misc]
    loop.run()
    assert calls == [1, 2, 3]
