"""Output on its way to disk: format, order, rotation, and a disk without room."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.keeper.drain import BATCH, Clock, Stream, records
from composer.keeper.logfile import Log
from composer.keeper.loop import Loop


def parsed(data: bytes) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """(time, stream, tag, content) of each record."""
    assert not data or data.endswith(b"\n")
    lines = data.split(b"\n")[:-1]
    for line in lines:
        assert line[19:20] == b"." and line[29:31] == b"Z ", line
        assert line[31:37] in (b"stdout", b"stderr") and line[38:40] in (b"F ", b"P "), line
    return [(line[:30], line[31:37], line[38:39], line[40:]) for line in lines]


def content(data: bytes, stream: bytes = b"stdout") -> bytes:
    """What was printed, for the most part: that an unfinished line ended is written as an end of line."""
    return b"".join(
        text + (b"\n" if tag == b"F" else b"") for _, name, tag, text in parsed(data) if name == stream
    )


@given(st.lists(st.binary(min_size=1, max_size=40).map(lambda data: data.replace(b"\0", b"\n")), max_size=8))
def test_records_hold_what_was_read(batches: list[bytes]) -> None:
    clock = Clock()
    log = b"".join(b"".join(records(clock.stamp() + b" stdout ", data)) for data in batches)
    assert content(log) == b"".join(batches)
    times = [record[0] for record in parsed(log)]
    assert times == sorted(times)


def test_the_clock_always_moves_on() -> None:
    clock = Clock()
    stamps = [clock.stamp() for _ in range(1000)]
    assert all(earlier < later for earlier, later in pairwise(stamps))
    assert {len(stamp) for stamp in stamps} == {30}


class Bench:
    """A stream into a log, with a loop of its own."""

    def __init__(self, path: Path, *, max_size: int = 0, max_file: int = 1) -> None:
        self.loop, self.clock, self.trouble = Loop(), Clock(), list[tuple[int, str, int]]()
        self.log = Log(self.loop, str(path), max_size, max_file, self.clock.stamp)
        self.log.on_trouble = lambda *trouble: self.trouble.append(trouble)
        ours, self.writer = os.pipe()
        self.stream = Stream(self.loop, ours, b"stdout", self.log, self.clock)
        self.stream.on_end = self.end

    def end(self) -> None:
        self.loop.running = False

    def write(self, data: bytes) -> None:
        """Have `data` written, then the end of it, and run until that came through."""

        def feed() -> None:
            with open(self.writer, "wb") as pipe:
                pipe.write(data)

        thread = threading.Thread(target=feed)
        thread.start()
        self.loop.run()
        thread.join()
        self.log.close()


def test_large_output_arrives_whole(tmp_path: Path) -> None:
    data = b"".join(b"%d %s\n" % (number, b"x" * (number % 200)) for number in range(40_000))
    Bench(tmp_path / "log").write(data)
    assert content((tmp_path / "log").read_bytes()) == data


def test_a_line_longer_than_a_batch_is_in_pieces(tmp_path: Path) -> None:
    data = b"x" * (2 * BATCH) + b"\nend"
    Bench(tmp_path / "log").write(data)
    log = (tmp_path / "log").read_bytes()
    assert content(log) == data + b"\n"
    assert parsed(log)[-1][2:] == (b"F", b"")
    assert parsed(log)[-2][2:] == (b"P", b"end")


@pytest.mark.parametrize("max_file", [1, 3, 5])
def test_rotation_keeps_every_file_within_its_size(tmp_path: Path, max_file: int) -> None:
    data = b"".join(b"line %06d\n" % number for number in range(20_000))
    Bench(tmp_path / "log", max_size=100_000, max_file=max_file).write(data)
    names = [f"log.{age}" for age in range(max_file - 1, 0, -1)] + ["log"]
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    files = [(tmp_path / name).read_bytes() for name in names]
    assert all(0 < len(file) <= 100_000 for file in files)
    kept = b"".join(map(content, files))
    assert data.endswith(kept)
    assert len(kept) > (max_file - 1) * 20_000


def test_a_record_larger_than_the_bound_is_written(tmp_path: Path) -> None:
    Bench(tmp_path / "log", max_size=100, max_file=2).write(b"x" * 500 + b"\n" + b"y\n")
    assert content((tmp_path / "log.1").read_bytes()) == b"x" * 500 + b"\n"
    assert content((tmp_path / "log").read_bytes()) == b"y\n"


@pytest.mark.parametrize("torn", [b"", b"2026-01-02T03:04:05.123456789Z std"])
def test_what_a_killed_keeper_left_is_ended(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"2026-01-02T03:04:05.123456789Z stdout P half\n" + torn)
    Bench(path).write(b"new\n")
    lines = path.read_bytes().split(b"\n")
    assert lines[-3].endswith(b" stdout F ")
    assert lines[-2].endswith(b" stdout F new")


def test_a_log_that_was_moved_is_begun_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "log")
    bench.log.write([bench.clock.stamp(), b" stdout F one\n"])
    (tmp_path / "log").rename(tmp_path / "old")
    bench.log.reopen()
    bench.write(b"two\n")
    assert content((tmp_path / "old").read_bytes()) == b"one\n"
    assert content((tmp_path / "log").read_bytes()) == b"two\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.kernel
def test_a_full_disk_loses_nothing_if_there_is_room_soon(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 150_000)
    bench = Bench(small_disk / "log")

    def make_room(*trouble: object) -> None:
        bench.trouble.append(trouble)  # type: ignore[arg-type]
        ballast.unlink(missing_ok=True)

    bench.log.on_trouble = make_room
    data = b"".join(b"line %06d\n" % number for number in range(3_000))
    bench.write(data)
    assert content((small_disk / "log").read_bytes()) == data
    assert [entry[0] for entry in bench.trouble] == [errno.ENOSPC, 0]
    assert bench.trouble[-1][2] == 0


@pytest.mark.kernel
def test_a_full_disk_does_not_hold_the_writer_for_ever(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("composer.keeper.logfile.PATIENCE", 0.5)
    bench = Bench(small_disk / "log")
    bench.write(b"".join(b"line %06d\n" % number for number in range(300_000)))
    whole = parsed((small_disk / "log").read_bytes().rpartition(b"\n")[0] + b"\n")
    assert [text for *_, text in whole] == [b"line %06d" % number for number in range(len(whole))]
    assert bench.trouble[0][0] == errno.ENOSPC
