"""Directories that go back to a point: what they show, and that being killed at any line loses nothing."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from composer import disk
from composer.errors import ConflictError
from composer.syscalls import mount, unmount
from composer.volumes import layers
from composer.volumes.layers import MOST, Directory, referenced, sweep

pytestmark = pytest.mark.kernel


@pytest.fixture
def place(tmp_path: Path) -> Directory:
    folder = tmp_path / "volume"
    (folder / "_data").mkdir(parents=True)
    return Directory(tmp_path / "pool", folder, "_data")


@contextmanager
def shown(place: Directory) -> Iterator[Path]:
    """As a container sees it."""
    place.show()
    try:
        yield place.plain
    finally:
        unmount(place.plain)


def files(place: Directory) -> dict[str, str]:
    with shown(place) as root:
        return {
            str(path.relative_to(root)): path.read_text()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


def write(place: Directory, **texts: str) -> None:
    with shown(place) as root:
        for name, text in texts.items():
            (root / name).write_text(text)


def test_back_to_each_of_several_points(place: Directory) -> None:
    """In any order, and what was written since is given up."""
    write(place, a="1", b="1")
    first = place.keep()
    with shown(place) as root:
        (root / "a").unlink()
        (root / "b").write_text("2")
        (root / "new").mkdir()
        (root / "new" / "c").write_text("2")
    second = place.keep()
    write(place, b="3")
    assert files(place) == {"b": "3", "new/c": "2"}
    place.go(first)
    assert files(place) == {"a": "1", "b": "1"}
    place.go(second)
    assert files(place) == {"b": "2", "new/c": "2"}
    place.go(first)
    write(place, d="4")
    third = place.keep()
    place.go(second)
    place.go(third)
    assert files(place) == {"a": "1", "b": "1", "d": "4"}


def test_a_directory_can_be_renamed_and_attributes_stay(place: Directory) -> None:
    """As in a plain directory: no EXDEV, whatever layer it came from."""
    os.chown(place.plain, 1234, 5678)
    place.plain.chmod(0o2770)
    os.setxattr(place.plain, "user.note", b"kept")
    (place.plain / "dir").mkdir()
    (place.plain / "dir" / "file").write_text("x")
    os.setxattr(place.plain / "dir" / "file", "user.mark", b"m")
    kept = place.keep()
    with shown(place) as root:
        (root / "dir").rename(root / "renamed")
        assert (root / "renamed" / "file").read_text() == "x"
    for layered in (place.keep(), kept):
        place.go(layered)
        with shown(place) as root:
            status = root.stat()
            assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 5678, 0o2770)
            assert os.getxattr(root, "user.note") == b"kept"
            inner = next(root.glob("*/file"))
            assert os.getxattr(inner, "user.mark") == b"m"
    assert inner.parent.name == "dir"


def test_layers_that_nobody_names_are_swept(place: Directory) -> None:
    write(place, a="1")
    first = place.keep()
    write(place, a="2")
    second = place.keep()
    sweep(place.pool, referenced([place.folder]))
    assert {entry.name for entry in place.pool.iterdir()} == {*second}
    place.go(first)
    sweep(place.pool, referenced([place.folder]))
    layers.empty(place.pool)
    assert {entry.name for entry in place.pool.iterdir()} == {*first}
    assert files(place) == {"a": "1"}


def test_layers_are_bounded(place: Directory) -> None:
    """And as many as there may be can be mounted."""
    for number in range(MOST):
        write(place, last=str(number))
        place.keep()
    assert files(place) == {"last": str(MOST - 1)}
    with pytest.raises(ConflictError, match=f"{MOST} layers"):
        place.keep()


@pytest.mark.parametrize("durable", [True, False])
def test_a_damaged_chain(tmp_path: Path, durable: bool) -> None:
    """Of a volume it is an error, and nothing is swept; a container begins with what its image has."""
    folder = tmp_path / "place"
    (folder / "plain").mkdir(parents=True)
    place = Directory(tmp_path / "pool", folder, "plain", durable=durable)
    place.keep()
    place.file.write_text("")
    if durable:
        with pytest.raises(ValueError, match="Expecting value"):
            place.chain()
        with pytest.raises(ValueError, match="Expecting value"):
            referenced([folder])
    else:
        assert place.chain() is None
        assert referenced([folder], durable=False) == set()


WATCHED = {layers.__file__, disk.__file__}


def killed_after(lines: int, work: Callable[[], Any]) -> bool:
    """Run `work` in a process that ends without a word after so many lines; whether it came to its end."""
    child = os.fork()
    if child == 0:
        left = lines

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in WATCHED:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    os._exit(9)
            return trace

        sys.settrace(trace)
        work()
        sys.settrace(None)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def every_line(
    tmp_path: Path, prepare: Callable[[Directory], Any], work: Callable[[Directory, Any], Any]
) -> Iterator[tuple[Directory, Any]]:
    """The directory after `work` was killed at its first line, its second, and so on to its end."""
    lines, done = 0, False
    while not done:
        folder = tmp_path / str(lines) / "volume"
        (folder / "_data").mkdir(parents=True)
        place = Directory(tmp_path / str(lines) / "pool", folder, "_data")
        point = prepare(place)
        done = killed_after(lines, lambda place=place, point=point: work(place, point))  # type: ignore[misc]
        yield place, point
        lines += 1
    assert lines > 20


@pytest.mark.parametrize("earlier", [0, 2])
def test_keeping_can_be_killed_at_any_line(tmp_path: Path, earlier: int) -> None:
    """Nothing is lost, and it can be done again."""

    def prepare(place: Directory) -> None:
        for number in range(earlier):
            write(place, **{f"old{number}": "x"})
            place.keep()
        write(place, a="1")

    expected = {"a": "1"} | {f"old{number}": "x" for number in range(earlier)}
    for place, _ in every_line(tmp_path, prepare, lambda place, _: place.keep()):
        assert files(place) == expected
        point = place.keep()
        write(place, a="2")
        place.go(point)
        assert files(place) == expected


@pytest.mark.parametrize("plain", [False, True], ids=["layered", "plain"])
def test_going_back_can_be_killed_at_any_line(tmp_path: Path, plain: bool) -> None:
    """It is as before or as at the point, never in between, and it can be done again."""

    def prepare(place: Directory) -> tuple[str, ...]:
        write(place, a="1", b="1")
        point = place.keep()
        if plain:  # as a volume that was made anew, or another stack's
            place.file.unlink()
            for old in place.folder.glob("live*"):
                os.rename(old, place.pool / ".removed-x")
        write(place, a="2", c="2")
        return point

    before = {"a": "2", "c": "2"} if plain else {"a": "2", "b": "1", "c": "2"}
    for place, point in every_line(tmp_path, prepare, lambda place, point: place.go(point)):
        assert files(place) in (before, {"a": "1", "b": "1"})
        place.go(point)
        assert files(place) == {"a": "1", "b": "1"}
        assert len(list(place.folder.glob("live*"))) == 1


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """All that is there, as whoever looks sees it."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in (root, *sorted(root.rglob("*"))):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        names = os.listxattr(path, follow_symlinks=False)
        kept = {n: os.getxattr(path, n, follow_symlinks=False) for n in names if "overlay" not in n}
        times = status.st_mtime_ns, status.st_nlink if path.is_file() else 0
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, content, kept, *times)
    return found


def written_to(place: Directory) -> dict[str, tuple[Any, ...]]:
    """Layers with all that overlayfs knows; what they show together."""
    with shown(place) as root:
        for name in ("gone", "over", "turned/deep", "kept/low", "kept/inner/x", "emptied/a", "file"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"one {name}")
        os.setxattr(root / "kept", "user.old", b"1")
        (root / "away").symlink_to("/etc")
    place.keep()
    with shown(place) as root:
        (root / "gone").unlink()
        (root / "over").write_text("two")
        os.link(root / "over", root / "same")
        shutil.rmtree(root / "turned")
        (root / "turned").write_text("a file now")
        (root / "kept" / "inner" / "x").unlink()
        (root / "kept" / "inner" / "y").write_text("two")
        shutil.rmtree(root / "emptied")
        (root / "emptied").mkdir(mode=0o700)
        os.chown(root / "emptied", 5, 6)
    place.keep()
    with shown(place) as root:
        (root / "gone").mkdir()
        (root / "gone" / "again").write_text("three")
        (root / "file").unlink()
        (root / "file").symlink_to("/nowhere")
        (root / "away").unlink()
        (root / "away").mkdir()
        (root / "new").mkdir()
        (root / "kept" / "low").rename(root / "new" / "low")
        os.removexattr(root / "kept", "user.old")
        (root / "kept").chmod(0o1777)
        os.utime(root / "kept", ns=(1, 1))
        return tree(root)


def test_flattened_it_shows_the_same(place: Directory) -> None:
    expected = written_to(place)
    assert place.flatten() and place.chain() is None
    assert tree(place.plain) == expected
    assert not [path for path in place.plain.rglob("*") if _notes(path)]
    assert os.listdir(place.folder) == ["_data"]
    layers.empty(place.pool)
    assert list(place.pool.iterdir()) == []
    assert files(place) and place.flatten()
    point = place.keep()
    write(place, a="1")
    place.go(point)
    with shown(place) as root:
        assert tree(root) == expected


def _notes(path: Path) -> list[str]:
    return [n for n in os.listxattr(path, follow_symlinks=False) if n.startswith("trusted.overlay")]


def test_a_directory_that_was_renamed_keeps_its_layers(place: Directory) -> None:
    """Its content lies at its old place, in a layer below."""
    with shown(place) as root:
        (root / "dir").mkdir()
        (root / "dir" / "a").write_text("1")
    place.keep()
    with shown(place) as root:
        (root / "dir").rename(root / "other")
    assert not place.flatten()
    assert files(place) == {"other/a": "1"}


def test_what_it_hides_is_not_taken_for_its_own(place: Directory) -> None:
    write(place, a="1")
    place.keep()
    place.plain.mkdir()
    (place.plain / "hidden").write_text("by hand")
    assert not place.flatten()
    assert files(place) == {"a": "1"}


def test_flattening_can_be_killed_at_any_line(tmp_path: Path) -> None:
    """It shows the same all the time, and can be done again."""

    def prepare(place: Directory) -> dict[str, tuple[Any, ...]]:
        write(place, a="1", b="1", c="1")
        with shown(place) as root:
            (root / "dir").mkdir()
            (root / "dir" / "x").write_text("1")
        place.keep()
        write(place, a="2")
        place.keep()
        with shown(place) as root:
            (root / "b").unlink()
            shutil.rmtree(root / "dir")
            (root / "dir").mkdir()
            (root / "dir" / "y").write_text("3")
            os.utime(root, ns=(1, 1))
            return tree(root)

    def seen(place: Directory) -> dict[str, tuple[Any, ...]]:
        with shown(place) as root:
            return {path: facts[:4] for path, facts in tree(root).items()}

    for place, expected in every_line(tmp_path, prepare, lambda place, _: place.flatten()):
        before = {path: facts[:4] for path, facts in expected.items()}
        assert seen(place) == before
        assert place.flatten()
        assert seen(place) == before
        assert not place.file.exists() and not list(place.folder.glob("live*"))


def test_what_lies_above_an_image_hides_the_same_of_it(tmp_path: Path) -> None:
    """The writable part of a container: what was deleted of its image stays deleted."""
    image, root = tmp_path / "image", tmp_path / "root"
    for name in ("gone", "dir/old", "kept"):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_text("image")
    (tmp_path / "state" / "upper0").mkdir(parents=True)
    root.mkdir()
    place = Directory(tmp_path / "pool", tmp_path / "state", "upper0", durable=False, above=True)

    @contextmanager
    def run() -> Iterator[Path]:
        chain = place.chain()
        lowers = [*(place.lowers(chain) if chain else ()), str(image)]
        upper, work = (place.upper(chain), place.work(chain)) if chain else (place.plain, tmp_path / "work")
        work.mkdir(exist_ok=True)
        data = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work},{layers.OPTIONS}"
        mount("overlay", root, "overlay", 0, data)
        try:
            yield root
        finally:
            unmount(root)

    with run() as seen:
        (seen / "gone").unlink()
        shutil.rmtree(seen / "dir")
        (seen / "dir").mkdir()
    place.keep()
    with run() as seen:
        (seen / "dir" / "new").write_text("new")
        (seen / "gone").write_text("again")
    place.keep()
    with run() as seen:
        (seen / "gone").unlink()
        expected = tree(seen)
    assert place.flatten() and place.chain() is None
    with run() as seen:
        assert tree(seen) == expected
        assert sorted(expected) == [".", "dir", "dir/new", "kept"]
