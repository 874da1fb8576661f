"""Volumes: made once, filled once, removed whole, never under somebody's feet."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.errors import ComposerError, ConflictError, NotFoundError, UsageError
from composer.images.image import Image, RootOverlay
from composer.model.stack import FrozenMap, Mount, Volume
from composer.paths import Paths
from composer.syscalls import unmount
from composer.volumes.local import LocalOptions, local_options
from composer.volumes.store import VolumeStore

pytestmark = pytest.mark.kernel


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VolumeStore]:
    store = VolumeStore(Paths(tmp_path / "run", tmp_path / "state"))
    yield store
    for record in store.list():
        unmount(store.folder(record.name) / "_data")


def volume(name: str, **options: str) -> Volume:
    return Volume(name, name, driver_opts=FrozenMap(options))


def mount(*, nocopy: bool = False, subpath: str = "") -> Mount:
    return Mount("volume", "/data", "v", nocopy=nocopy, subpath=subpath)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Two layers: the upper one hides a file, replaces a directory and adds to another."""
    low, high = tmp_path / "low", tmp_path / "high"
    (low / "data/kept").mkdir(parents=True)
    (low / "data/replaced").mkdir()
    (high / "data/kept").mkdir(parents=True)
    (high / "data/replaced").mkdir()
    (low / "data/kept/low").write_text("low")
    (low / "data/replaced/old").write_text("old")
    (low / "data/gone").write_text("gone")
    (low / "data/over").write_text("low")
    os.mknod(high / "data/gone", stat.S_IFCHR, 0)
    os.setxattr(high / "data/replaced", "trusted.overlay.opaque", b"y")
    (high / "data/over").write_text("high")
    (high / "data/kept/high").write_text("high")
    (high / "data/link").symlink_to("/etc/passwd")
    os.link(high / "data/over", high / "data/same")
    os.setxattr(high / "data/over", "user.name", b"value")
    os.chown(high / "data/over", 5, 6)
    (high / "data/over").chmod(0o4711)
    os.chown(high / "data", 70, 71)
    (high / "data").chmod(0o1770)
    (low / "srv").symlink_to("data/kept")
    return Image("sha256:x", "x", {}, (RootOverlay("/", (str(high), str(low))),))


def test_filled_as_the_image_shows_it(store: VolumeStore, image: Image) -> None:
    store.ensure(volume("v"), "stack")
    data = Path(store.path("v", mount(), image))
    found = sorted(str(path.relative_to(data)) for path in data.rglob("*"))
    assert found == ["kept", "kept/high", "kept/low", "link", "over", "replaced", "same"]
    status, over = data.stat(), (data / "over").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (70, 71, 0o1770)
    assert (over.st_uid, over.st_gid, stat.S_IMODE(over.st_mode), over.st_nlink) == (5, 6, 0o4711, 2)
    assert os.getxattr(data / "over", "user.name") == b"value"
    assert (data / "over").read_text() == "high"
    assert os.readlink(data / "link") == "/etc/passwd"


def test_filled_only_once(store: VolumeStore, image: Image) -> None:
    store.ensure(volume("v"), "stack")
    data = Path(store.path("v", mount(), image))
    (data / "over").write_text("changed")
    store.path("v", mount(), image)
    assert (data / "over").read_text() == "changed"


def test_not_filled_when_asked_or_when_the_image_has_nothing(store: VolumeStore, image: Image) -> None:
    store.ensure(volume("v"), "stack")
    assert os.listdir(store.path("v", mount(nocopy=True), image)) == []
    nothing = Mount("volume", "/nothing", "v")
    assert os.listdir(store.path("v", nothing, image)) == []


def test_a_link_in_the_image_leads_inside_it(store: VolumeStore, image: Image) -> None:
    store.ensure(volume("v"), "stack")
    data = store.path("v", Mount("volume", "/srv", "v"), image)
    assert sorted(os.listdir(data)) == ["high", "low"]


def test_a_broken_filling_begins_anew(store: VolumeStore, image: Image) -> None:
    store.ensure(volume("v"), "stack")
    folder = store.folder("v")
    (folder / "filling").touch()
    (folder / "_data/half").mkdir()
    data = Path(store.path("v", mount(), image))
    assert not (data / "half").exists()
    assert (data / "over").exists()
    assert not (folder / "filling").exists()


def test_subpath_stays_inside(store: VolumeStore, image: Image) -> None:
    store.ensure(volume("v"), "stack")
    data = Path(store.path("v", mount(), image))
    assert store.path("v", mount(subpath="kept"), image) == str(data / "kept")
    (data / "escape").symlink_to("/etc")
    with pytest.raises(NotFoundError):
        store.path("v", mount(subpath="escape"), image)
    with pytest.raises(NotFoundError, match="no missing"):
        store.path("v", mount(subpath="missing"), image)
    assert store.path("v", mount(subpath="../../kept"), image) == str(data / "kept")


def test_records(store: VolumeStore) -> None:
    made = store.ensure(Volume("k", "name", labels=FrozenMap({"a": "b"})), "stack")
    assert store.find("name") == made
    assert store.ensure(Volume("k", "name"), "another") == made
    assert [record.name for record in store.list()] == ["name"]
    seen = store.inspect("name")
    assert (seen["Name"], seen["Labels"], seen["Driver"]) == ("name", {"a": "b"}, "local")
    assert store.find("absent") is None
    with pytest.raises(NotFoundError, match="absent"):
        store.inspect("absent")


def test_what_cannot_be_a_volume(store: VolumeStore) -> None:
    with pytest.raises(NotFoundError, match="external"):
        store.ensure(Volume("e", "e", external=True), "stack")
    with pytest.raises(UsageError, match="driver"):
        store.ensure(Volume("d", "d", driver="cloud"), "stack")
    for name in ("", "..", "a/b", ".hidden", "x" * 300):
        with pytest.raises(UsageError, match="not a volume name"):
            store.find(name)
    assert store.list() == []


def test_in_use(store: VolumeStore) -> None:
    store.ensure(volume("v"), "stack")
    assert store.prune(all_=True, in_use=["v"]) == ()
    with pytest.raises(ConflictError, match="in use"):
        store.remove("v", in_use=["v"])
    store.remove("v")
    store.remove("v")
    assert store.list() == []


def test_a_removed_one_leaves_no_data_to_the_next(store: VolumeStore) -> None:
    store.ensure(volume("v"), "stack")
    (store.folder("v") / "_data/secret").touch()
    store.remove("v")
    store.ensure(volume("v"), "stack")
    assert not any((store.folder("v") / "_data").iterdir())
    assert sorted(entry.name for entry in store.root.iterdir()) == [".lock", "v"]


def test_prune_takes_the_anonymous(store: VolumeStore) -> None:
    store.ensure(volume("named"), "stack")
    store.ensure(volume("a" * 64), "stack", anonymous="web-1")
    (store.root / ".removed-left").mkdir()
    assert store.prune() == ("a" * 64,)
    assert store.prune(all_=True) == ("named",)
    assert sorted(entry.name for entry in store.root.iterdir()) == [".lock"]


def test_tmpfs(store: VolumeStore, image: Image) -> None:
    store.ensure(volume("t", type="tmpfs", device="tmpfs", o="size=1m,mode=1700,noexec"), "stack")
    data = store.path("t", mount(nocopy=True), image)
    assert os.statvfs(data).f_blocks * os.statvfs(data).f_frsize == 1 << 20
    assert stat.S_IMODE(Path(data).stat().st_mode) == 0o1700
    assert store.path("t", mount(nocopy=True), image) == data
    store.remove("t")
    assert not Path(data).exists()


def test_bind(store: VolumeStore, image: Image, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").touch()
    store.ensure(volume("b", type="none", device=str(tmp_path / "host"), o="bind"), "stack")
    assert store.path("b", mount(), image) == str(tmp_path / "host")
    store.remove("b")
    assert (tmp_path / "host/file").exists()
    store.ensure(volume("c", device="/nowhere/at/all", o="bind"), "stack")
    with pytest.raises(NotFoundError, match="/nowhere"):
        store.path("c", mount(), image)


def test_a_mount_that_fails_says_why(store: VolumeStore, image: Image) -> None:
    store.ensure(volume("n", type="ext4", device="/dev/null"), "stack")
    with pytest.raises(ComposerError, match="cannot mount /dev/null of type ext4"):
        store.path("n", mount(), image)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, LocalOptions()),
        ({"type": "tmpfs", "o": "size=1m, ro"}, LocalOptions("tmpfs", "tmpfs", 1, "size=1m")),
        ({"type": "none", "o": "bind,rw", "device": "/x"}, LocalOptions("none", "/x", bind=True)),
        (
            {"type": "nfs", "o": "addr=nas,nolock", "device": ":/x"},
            LocalOptions("nfs", ":/x", 0, "addr=nas,nolock"),
        ),
    ],
)
def test_options(options: dict[str, str], expected: LocalOptions) -> None:
    assert local_options("v", options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "1g"}, "no option 'size'"),
        ({"o": "bind"}, "absolute path"),
        ({"o": "bind", "device": "relative"}, "absolute path"),
        ({"o": "bind,ro", "device": "/x"}, "no option 'ro'"),
        ({"o": "ro"}, "need `type`"),
        ({"type": "nfs"}, "needs `device`"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        local_options("v", options)
