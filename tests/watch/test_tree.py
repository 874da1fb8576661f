"""What changes below some paths: on the real inotify, at once and after storms."""

from __future__ import annotations

import os
import random
import resource
import select
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.errors import ComposerError
from composer.watch.tree import Change, Tree


def everything(path: str, directory: bool) -> bool:
    return True


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "top/old").mkdir(parents=True)
    (tmp_path / "top/a").write_text("a")
    (tmp_path / "top/old/b").write_text("b")
    tree = Tree([str(tmp_path / "top")], everything)
    yield tree
    tree.close()


def taken(tree: Tree, folder: Path) -> dict[str, str]:
    """All that has changed: what each path is now."""
    changes: dict[str, Change] = {}
    while select.select([tree], [], [], 0)[0]:
        changes |= tree.take()
    words = {(False, False): "file", (True, False): "folder", (False, True): "no file", (True, True): "none"}
    return {
        os.path.relpath(path, folder / "top"): words[change.directory, change.gone]
        for path, change in changes.items()
    }


def atomic_save(top: Path) -> None:
    (top / ".a.new").write_text("a2")
    (top / ".a.new").rename(top / "a")


def rename_away_and_back(top: Path) -> None:
    (top / "a").rename(top / "a~")
    (top / "a").write_text("new")
    (top / "a~").unlink()


def move_folder(top: Path) -> None:
    (top / "old").rename(top / "new")


def replace_folder(top: Path) -> None:
    shutil.rmtree(top / "old")
    (top / "old").mkdir()
    (top / "old/c").write_text("c")


def folder_for_file(top: Path) -> None:
    (top / "a").unlink()
    (top / "a").mkdir()
    (top / "a/in").write_text("x")


def swap_folders(top: Path) -> None:
    (top / "two").mkdir()
    (top / "two/z").write_text("z")
    (top / "old").rename(top / "three")
    (top / "two").rename(top / "old")


CHANGES = [
    (lambda top: (top / "a").write_text("other"), {"a": "file"}),
    (lambda top: (top / "n").write_text(""), {"n": "file"}),
    (lambda top: (top / "a").unlink(), {"a": "no file"}),
    (lambda top: (top / "a").chmod(0o700), {"a": "file"}),
    (lambda top: (top / "a").read_text(), {}),
    (lambda top: (top / "n").symlink_to("a"), {"n": "file"}),
    (lambda top: os.link(top / "a", top / "n"), {"n": "file"}),
    (lambda top: (top / "x/y").mkdir(parents=True), {"x": "folder", "x/y": "folder"}),
    (atomic_save, {"a": "file"}),
    (rename_away_and_back, {"a": "file"}),
    (move_folder, {"old": "none", "old/b": "no file", "new": "folder", "new/b": "file"}),
    (replace_folder, {"old/b": "no file", "old/c": "file"}),
    (folder_for_file, {"a": "folder", "a/in": "file"}),
    (swap_folders, {"old/b": "no file", "old/z": "file", "three": "folder", "three/b": "file"}),
    (lambda top: shutil.rmtree(top), {".": "none", "a": "no file", "old": "none", "old/b": "no file"}),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_change_is_told_once_as_it_is_in_the_end(
    tree: Tree, tmp_path: Path, change: object, expected: dict[str, str]
) -> None:
    change(tmp_path / "top")  # type: ignore[operator]
    assert taken(tree, tmp_path) == expected
    assert taken(tree, tmp_path) == {}


@pytest.mark.parametrize("change", [c for c, _ in CHANGES])
def test_it_goes_on_after_a_change(tree: Tree, tmp_path: Path, change: object) -> None:
    """Whatever has been replaced is watched as what was there before."""
    change(tmp_path / "top")  # type: ignore[operator]
    taken(tree, tmp_path)
    (tmp_path / "top/old/deep").mkdir(parents=True, exist_ok=True)
    (tmp_path / "top/old/deep/er").write_text("1")
    assert taken(tree, tmp_path)["old/deep/er"] == "file"
    (tmp_path / "top/old/deep/er").write_text("22")
    assert taken(tree, tmp_path) == {"old/deep/er": "file"}


def test_a_file_counts_when_its_writer_closes_it(tree: Tree, tmp_path: Path) -> None:
    with open(tmp_path / "top/slow", "w") as file:
        file.write("half")
        file.flush()
        assert taken(tree, tmp_path) == {}
    assert taken(tree, tmp_path) == {"slow": "file"}


def test_a_path_may_come_later_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "top/one/two/file"
    with_file = Tree([str(path)], everything)
    for _ in range(3):
        path.parent.mkdir(parents=True)
        path.write_text("x")
        assert taken(with_file, tmp_path) == {"one/two/file": "file"}
        shutil.rmtree(tmp_path / "top")
        assert taken(with_file, tmp_path) == {"one/two/file": "no file"}
    with_file.close()


def test_neighbours_of_a_file_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    tree = Tree([str(tmp_path / "top/one")], everything)
    (tmp_path / "top/two").write_text("x")
    assert taken(tree, tmp_path) == {}
    tree.close()


def test_what_is_not_wanted_is_not_even_watched(tmp_path: Path) -> None:
    (tmp_path / "top/skip/deep").mkdir(parents=True)
    tree = Tree([str(tmp_path / "top")], lambda path, directory: "skip" not in path)
    assert not [folder for folder in tree.numbers if "skip" in folder]
    (tmp_path / "top/skip/new").write_text("x")
    (tmp_path / "top/skip2").mkdir()
    assert taken(tree, tmp_path) == {}
    tree.close()


def test_what_the_kernel_drops_is_found(tree: Tree, tmp_path: Path) -> None:
    """More events than the queue holds: fs.inotify.max_queued_events."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    (tmp_path / "top/old/b").unlink()
    for number in range(most // 2 + 100):
        # Two that alternate, as the kernel merges an event that is like the one before.
        os.utime(tmp_path / "top/a", ns=(number, number))
        os.utime(tmp_path / "top/old", ns=(number, number))
    (tmp_path / "top/late").mkdir()
    (tmp_path / "top/late/file").write_text("x")
    assert taken(tree, tmp_path) == {
        "a": "file",
        "old/b": "no file",
        "late": "folder",
        "late/file": "file",
    }
    (tmp_path / "top/late/file").write_text("xy")
    assert taken(tree, tmp_path) == {"late/file": "file"}


@pytest.mark.parametrize("seed", range(8))
def test_what_is_told_adds_up(tree: Tree, tmp_path: Path, seed: int) -> None:
    """Any storm of changes, taken now and then: what was told is what there is."""
    chance = random.Random(seed)
    top = tmp_path / "top"
    known = {"a": "file", "old": "folder", "old/b": "file"}
    for _ in range(300):
        folders = [top, *(path for path in top.rglob("*") if path.is_dir())]
        path = chance.choice(folders) / chance.choice("pqr")
        others = list(top.rglob("*"))
        match chance.randrange(6):
            case 0 if not path.exists():
                path.mkdir()
            case 1 if not path.is_dir():
                path.write_text(chance.choice(("", "x", "yy")))
            case 2 if others:
                gone = chance.choice(others)
                shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
            case 3 if others:
                source = chance.choice(others)
                if not path.exists() and source not in (path, *path.parents):
                    source.rename(path)
            case 4:
                known = told(known, taken(tree, tmp_path))
    known = told(known, taken(tree, tmp_path))
    assert known == {
        str(path.relative_to(top)): "folder" if path.is_dir() else "file" for path in top.rglob("*")
    }
    assert set(tree.numbers) >= {str(path) for path in top.rglob("*") if path.is_dir()}


def told(known: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    return {path: what for path, what in {**known, **changes}.items() if what in ("file", "folder")}


def test_a_kernel_that_gives_no_more_says_what_to_raise(tmp_path: Path) -> None:
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(ComposerError, match="cannot watch files") as caught:
            Tree([str(tmp_path)], lambda path, directory: True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "max_user_instances" in str(caught.value.hint)
