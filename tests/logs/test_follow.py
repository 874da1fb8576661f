"""Following logs that a real writer writes, rotates and begins anew."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from composer.keeper.drain import Clock, records
from composer.keeper.logfile import Log
from composer.keeper.loop import Loop
from composer.logs import Source, follow


class Following:
    """Somebody who follows, in a thread; the test writes."""

    def __init__(self, place: Path, discover: Callable[[], Sequence[Source]], **options: object) -> None:
        self.text = b""
        self.changed = threading.Condition()
        self.ours, self.theirs = os.pipe()
        self.ready = threading.Event()

        def sources() -> Sequence[Source]:
            found = discover()
            self.ready.set()
            return found

        def run() -> None:
            for chunk in follow(place, sources, self.ours, **options):  # type: ignore[arg-type]
                with self.changed:
                    self.text += chunk
                    self.changed.notify()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert self.ready.wait(30)

    def until(self, end: bytes) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.text.endswith(end), 30), self.text[-200:]

    def stop(self) -> bytes:
        os.close(self.theirs)
        self.thread.join(30)
        assert not self.thread.is_alive()
        os.close(self.ours)
        return self.text


class Writer:
    """The keeper's own writer."""

    def __init__(self, path: Path, *, max_size: int = 0, max_file: int = 1) -> None:
        self.clock = Clock()
        self.log = Log(Loop(), str(path), max_size, max_file, self.clock.stamp)

    def write(self, data: bytes) -> None:
        self.log.write(records(self.clock.stamp() + b" stdout ", data))


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    made: list[Writer] = []

    def make(name: str = "web", **options: int) -> Writer:
        made.append(Writer(tmp_path / f"{name}.log", **options))
        return made[-1]

    yield make
    for writer in made:
        writer.log.close()


def sources(place: Path, *names: str) -> Callable[[], list[Source]]:
    return lambda: [
        Source(str(place / f"{name}.log"), name.encode() + b" | ")
        for name in names
        if (place / f"{name}.log").exists()
    ]


def test_what_is_there_and_what_is_added(tmp_path: Path, writers: Callable[..., Writer]) -> None:
    writer = writers()
    writer.write(b"one\ntwo\nthree\n")
    following = Following(tmp_path, sources(tmp_path, "web"), tail=2)
    following.until(b"three\n")
    writer.write(b"four\n")
    following.until(b"four\n")
    writer.write(b"five")
    writer.write(b" more\n")
    following.until(b"five more\n")
    writer.write(b"prompt> ")
    assert following.stop() == b"".join(
        b"web | " + line + b"\n" for line in (b"two", b"three", b"four", b"five more", b"prompt> ")
    )


@pytest.mark.parametrize("max_file", [1, 3])
def test_over_rotation(tmp_path: Path, writers: Callable[..., Writer], max_file: int) -> None:
    """Slow enough to be followed, so nothing may be missing."""
    writer = writers(max_size=2000, max_file=max_file)
    following = Following(tmp_path, sources(tmp_path, "web"))
    for number in range(300):
        writer.write(b"line %d\n" % number)
        following.until(b"line %d\n" % number)
    assert following.stop() == b"".join(b"web | line %d\n" % number for number in range(300))


def test_over_several_rotations_at_once(tmp_path: Path, writers: Callable[..., Writer]) -> None:
    writer = writers(max_size=1000, max_file=50)
    following = Following(tmp_path, sources(tmp_path, "web"))
    lines = [b"line %d\n" % number for number in range(600)]
    for start in range(0, 600, 100):
        writer.write(b"".join(lines[start : start + 100]))
    following.until(b"line 599\n")
    assert following.stop() == b"".join(b"web | " + line for line in lines)


def test_a_container_made_anew_and_a_new_one(tmp_path: Path, writers: Callable[..., Writer]) -> None:
    first = writers()
    following = Following(tmp_path, sources(tmp_path, "web", "db"))
    first.write(b"old\n")
    following.until(b"web | old\n")
    first.log.close()
    again = writers()
    again.write(b"anew\n")
    following.until(b"web | anew\n")
    (tmp_path / "web.log").unlink()
    third = writers()
    third.write(b"third\n")
    following.until(b"web | third\n")
    writers("db").write(b"hello\n")
    following.until(b"db | hello\n")
    following.stop()


def test_nothing_at_first(tmp_path: Path, writers: Callable[..., Writer]) -> None:
    following = Following(tmp_path, sources(tmp_path, "web"))
    writers().write(b"hello\n")
    following.until(b"web | hello\n")
    assert following.stop() == b"web | hello\n"


def test_two_writers_lose_nothing(tmp_path: Path, writers: Callable[..., Writer]) -> None:
    pair = [writers("a"), writers("b", max_size=20_000, max_file=1000)]
    following = Following(tmp_path, sources(tmp_path, "a", "b"))
    for number in range(2000):
        pair[number % 2].write(b"line %d\n" % number)
    text = following.stop()
    for label in (b"a", b"b"):
        mine = [line for line in text.splitlines() if line.startswith(label)]
        odd = label == b"b"
        assert mine == [b"%b | line %d" % (label, number) for number in range(odd, 2000, 2)]
