"""Reading logs, judged by a plain reading of the same records, line by line."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.logs import Source, read
from composer.logs.format import LONGEST, Joiner, stamp

START = 1_700_000_000_000_000_000

Record = tuple[int, bytes, bytes, bytes]
"""nanoseconds, stream, tag, content"""


def written(record: Record) -> bytes:
    ns, stream, tag, content = record
    return stamp(ns) + b" " + stream + b" " + tag + b" " + content + b"\n"


def plainly(records: list[Record]) -> list[tuple[int, bytes]]:
    """(time, line) of whole lines, the simplest way."""
    lines: list[tuple[int, bytes]] = []
    open_lines: dict[bytes, tuple[int, bytes]] = {}
    for ns, stream, tag, content in records:
        text = open_lines.pop(stream, (0, b""))[1] + content
        if tag == b"P":
            open_lines[stream] = ns, text
        else:
            lines.append((ns, text))
    return lines + sorted(open_lines.values(), key=lambda line: line[0])


contents = st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"n")) | st.just(
    b"stdout P in the text"
)
steps = st.integers(0, 3)
records_of_one = st.lists(
    st.tuples(steps, st.sampled_from([b"stdout", b"stderr"]), st.sampled_from([b"F", b"F", b"P"]), contents),
    max_size=30,
)


def with_times(steps: list[Record]) -> list[Record]:
    now, found = START, []
    for step, stream, tag, content in steps:
        now += step
        found.append((now, stream, tag, content))
    return found


def lay_out(place: Path, name: str, records: list[Record], cuts: list[int]) -> Source:
    """A log in several files, rotated before each of `cuts`."""
    edges = [0, *sorted(min(cut, len(records)) for cut in cuts), len(records)]
    parts = [records[start:end] for start, end in pairwise(edges)]
    for age, part in enumerate(reversed(parts)):
        path = place / (f"{name}.log.{age}" if age else f"{name}.log")
        path.write_bytes(b"".join(map(written, part)))
    return Source(str(place / f"{name}.log"), name.encode() + b" | ")


def output(*args: object, **options: object) -> bytes:
    return b"".join(read(*args, **options))  # type: ignore[arg-type]


@given(
    records_of_one,
    st.lists(st.integers(0, 30), max_size=3),
    st.none() | st.integers(0, 12),
    st.none() | st.integers(-2, 40),
    st.none() | st.integers(-2, 40),
)
def test_one_log_as_a_plain_reading_has_it(
    steps: list[Record], cuts: list[int], tail: int | None, since: int | None, until: int | None
) -> None:
    # Whole lines only: what of a line that began before is shown is for the test below.
    records = [(ns, stream, b"F", content) for ns, stream, _, content in with_times(steps)]
    since_ns = None if since is None else START + since
    until_ns = None if until is None else START + until
    with tempfile.TemporaryDirectory() as place:
        source = lay_out(Path(place), "web", records, cuts)
        got = output([source], tail=tail, since_ns=since_ns, until_ns=until_ns)
    wanted = [
        line
        for ns, line in plainly(records)
        if (since_ns is None or ns >= since_ns) and (until_ns is None or ns < until_ns)
    ]
    if tail is not None:
        wanted = wanted[len(wanted) - min(tail, len(wanted)) :]
    assert got == b"".join(b"web | " + line + b"\n" for line in wanted)


@given(records_of_one, st.lists(st.integers(0, 30), max_size=3))
def test_pieces_are_joined_over_files_and_blocks(steps: list[Record], cuts: list[int]) -> None:
    records = with_times(steps)
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr("composer.logs.reader.BLOCK", 64)
        source = lay_out(Path(place), "web", records, cuts)
        got = output([source])
    assert got == b"".join(b"web | " + line + b"\n" for _, line in plainly(records))


@given(st.lists(records_of_one, min_size=2, max_size=4), st.booleans())
def test_several_logs_are_merged_by_time(logs: list[list[Record]], timestamps: bool) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr("composer.logs.reader.BLOCK", 64)
        sources, wanted = [], []
        for number, steps in enumerate(logs):
            records = [(ns, stream, b"F", content) for ns, stream, _, content in with_times(steps)]
            sources.append(lay_out(Path(place), f"s{number}", records, []))
            for ns, line in plainly(records):
                time = stamp(ns) + b" " if timestamps else b""
                wanted.append((ns, number, b"s%d | %b%b\n" % (number, time, line)))
        got = output(sources, timestamps=timestamps)
    lines = [line + b"\n" for line in got.split(b"\n")[:-1]]
    assert sorted(lines) == sorted(line for _, _, line in wanted)
    for number in range(len(logs)):
        mine = [line for _, n, line in wanted if n == number]
        label = b"s%d | " % number
        assert [line for line in lines if line.startswith(label)] == mine
    if timestamps:
        times = [line.split(b" | ", 1)[1][:30] for line in lines]
        assert times == sorted(times)


@given(st.binary(max_size=400), st.none() | st.integers(0, 5), st.booleans())
def test_any_bytes_at_all_are_read(data: bytes, tail: int | None, timestamps: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "web.log"
        path.write_bytes(data)
        sources = [Source(str(path), b"a"), Source(str(path), b"b")]
        for chosen in (sources[:1], sources):
            output(chosen, tail=tail, timestamps=timestamps)
            output(chosen, since_ns=START, until_ns=START + 1)


def test_timestamps_are_the_records_own(tmp_path: Path) -> None:
    source = lay_out(tmp_path, "web", [(START, b"stdout", b"F", b"one")], [])
    assert output([source], timestamps=True) == b"web | 2023-11-14T22:13:20.000000000Z one\n"


def test_what_is_half_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "web.log"
    path.write_bytes(written((START, b"stdout", b"F", b"one")) + b"2023-11-14T22:13:20.0000")
    assert output([Source(str(path))]) == b"one\n"
    assert output([Source(str(path))], tail=1) == b"one\n"


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert output([Source(str(tmp_path / "absent.log"))]) == b""
    assert output([]) == b""


def test_older_files_are_read_when_the_newest_is_missing(tmp_path: Path) -> None:
    """As a keeper leaves them that is killed while it rotates."""
    first, second = (START, b"stdout", b"F", b"one"), (START + 1, b"stdout", b"F", b"two")
    source = lay_out(tmp_path, "web", [first, second], [1, 2])
    Path(source.path).unlink()
    assert output([source]) == b"web | one\nweb | two\n"


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    piece = b"x" * (LONGEST // 4)
    source = lay_out(tmp_path, "web", [(START, b"stdout", b"P", piece)] * 9, [])
    lines = output([source]).splitlines()
    assert [len(line) for line in lines] == [6 + LONGEST, 6 + LONGEST, 6 + len(piece)]


def test_many_small_pieces_take_linear_time() -> None:
    joiner = Joiner()
    block = written((START, b"stdout", b"P", b"x")) * 200_000
    assert joiner.records(block) == []
    (line,) = joiner.rest()
    assert line.endswith(b"F " + b"x" * 200_000)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    source = lay_out(tmp_path, "web", [(START, b"stdout", b"F", b"x" * 70_000)] * 4, [1, 2])
    before = os.listdir("/proc/self/fd")
    chunks = read([source, source])
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert os.listdir("/proc/self/fd") == before
