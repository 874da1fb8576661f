"""Unpacking layers, friendly and hostile."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from composer.errors import ImageError
from composer.images import tar
from composer.images.diff import header, pack
from composer.images.layers import Facts, Limits, overlay_prefix, unpack

pytestmark = pytest.mark.kernel

BLOCK = 512
END = bytes(2 * BLOCK)
OPAQUE = f"{overlay_prefix()}opaque"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Where a layer goes. Whatever happens in a test, nothing beside it may change."""
    around = tmp_path / "around"
    (around / "layer").mkdir(parents=True)
    (around / "beside").write_text("untouched")
    yield around / "layer"
    assert sorted(entry.name for entry in around.iterdir()) == ["beside", "layer"]
    assert (around / "beside").read_text() == "untouched"
    assert (around / "beside").stat().st_nlink == 1


def entry(name: str | bytes, kind: str = "0", data: bytes = b"", mode: int = 0o644, **more: object) -> bytes:
    path = name.encode() if isinstance(name, str) else name
    padding = bytes(-len(data) % BLOCK)
    return header(path, kind, mode, size=len(data), **more) + data + padding  # type: ignore[arg-type]


def put(root: Path, *entries: bytes, **more: object) -> Facts:
    return unpack(io.BytesIO(b"".join(entries) + END).read, root, **more)  # type: ignore[arg-type]


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a directory that a layer carries."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(directory, name)
            status = path.lstat()
            content: object = (
                path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
            )
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            owner = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, int(status.st_mtime))
            found[str(path.relative_to(root))] = (*owner, content, xattrs)
    return found


def test_files_links_owners_modes_times(root: Path) -> None:
    put(
        root,
        entry("d/", "5", mode=0o2750, owner=(1000, 1001), time=86400),
        entry("d/file", data=b"x" * 1000, mode=0o4755, owner=(5, 6), time=1234567890),
        entry("d/same", "1", link=b"d/file"),
        entry("d/link", "2", link=b"/etc/passwd", owner=(7, 8), time=99),
        entry("d/pipe", "6", mode=0o600),
        entry("d/null", "3", mode=0o666, device=os.makedev(1, 3)),
    )
    folder, file, link = (root / "d").stat(), (root / "d/file").stat(), (root / "d/link").lstat()
    assert (folder.st_mode, folder.st_uid, folder.st_gid, folder.st_mtime) == (
        stat.S_IFDIR | 0o2750,
        1000,
        1001,
        86400,
    )
    assert (file.st_mode, file.st_uid, file.st_mtime) == (stat.S_IFREG | 0o4755, 5, 1234567890)
    assert file.st_ino == (root / "d/same").stat().st_ino
    assert (os.readlink(root / "d/link"), link.st_uid, link.st_mtime) == ("/etc/passwd", 7, 99)
    assert stat.S_ISFIFO((root / "d/pipe").stat().st_mode)
    assert (root / "d/null").stat().st_rdev == os.makedev(1, 3)


@pytest.mark.parametrize("seconds", [10**11, 2**80, -(2**80)])
def test_a_time_that_no_clock_shows_is_the_epoch(root: Path, seconds: int) -> None:
    block = bytearray(entry("a"))
    block[136:148] = seconds.to_bytes(12, signed=True)
    block[136] |= 0x80
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    put(root, bytes(block))
    assert (root / "a").stat().st_mtime == 0


def test_modes_do_not_follow_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        put(root, entry("implicit/file", mode=0o666), entry("dir/", "5", mode=0o777))
    finally:
        os.umask(before)
    modes = {name: (root / name).stat().st_mode & 0o7777 for name in ("implicit", "implicit/file", "dir")}
    assert modes == {"implicit": 0o755, "implicit/file": 0o666, "dir": 0o777}


def test_whiteouts(root: Path) -> None:
    put(
        root,
        entry("a/", "5", mode=0o755),
        entry("a/.wh.gone"),
        entry("b/", "5", mode=0o755),
        entry("b/.wh..wh..opq"),
        entry("b/new"),
        entry(".wh..wh.aufs"),
    )
    gone = (root / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(root / "b", OPAQUE) == b"y"
    assert sorted(os.listdir(root)) == ["a", "b"]


@pytest.mark.parametrize("order", [0, 1])
def test_a_whiteout_hides_only_what_is_below(root: Path, order: int) -> None:
    """A layer may delete a directory of the layers below and bring a new one of the same name."""
    entries = [entry(".wh.d"), entry("d/", "5", mode=0o755) + entry("d/new")]
    put(root, *(entries if order else entries[::-1]))
    assert os.getxattr(root / "d", OPAQUE) == b"y"
    assert (root / "d/new").exists()


def test_the_later_entry_of_a_name_counts(root: Path) -> None:
    put(
        root,
        entry("x/", "5") + entry("x/inner/", "5") + entry("x/inner/file") + entry("x", data=b"now a file"),
        entry("y", data=b"old") + entry("y", data=b"new"),
        entry("z", "2", link=b"y") + entry("z/", "5", mode=0o700),
        entry("w", "2", link=b"y") + entry("w", data=b"not through the link"),
    )
    assert (root / "x").read_bytes() == b"now a file"
    assert (root / "y").read_bytes() == b"new"
    assert (root / "z").is_dir()
    assert not (root / "z").is_symlink()


def test_links_among_the_parents_stay_inside(root: Path) -> None:
    put(
        root,
        entry("usr/", "5", mode=0o755)
        + entry("usr/lib/", "5", mode=0o755)
        + entry("lib", "2", link=b"usr/lib"),
        entry("lib/file", data=b"there"),
        entry("abs", "2", link=b"/") + entry("abs/etc/file", data=b"in the layer"),
        entry("up", "2", link=b"../../../..") + entry("up/climbed", data=b"no"),
        entry("nowhere", "2", link=b"made/late") + entry("nowhere/file", data=b"followed"),
    )
    assert (root / "usr/lib/file").read_bytes() == b"there"
    assert (root / "etc/file").read_bytes() == b"in the layer"
    assert (root / "climbed").read_bytes() == b"no"
    assert (root / "made/late/file").read_bytes() == b"followed"


HOSTILE: dict[str, list[bytes]] = {
    "climbs": [entry("../beside", data=b"evil")],
    "climbs in the middle": [entry("a/../../beside", data=b"evil")],
    "hard link that climbs": [entry("x", "1", link=b"../beside")],
    "hard link to nothing": [entry("x", "1", link=b"nothing")],
    "hard link to the root": [entry("x", "1", link=b".")],
    "hard link to a directory": [entry("d/", "5"), entry("x", "1", link=b"d")],
    "hard link by a link outside": [entry("s", "2", link=b"/etc"), entry("x", "1", link=b"s/passwd")],
    "no name": [entry("", data=b"x")],
    "the root as a file": [entry(".", data=b"x")],
    "below a whiteout": [entry(".wh.d/file")],
    "whiteout of the parent": [entry(".wh...")],
    "whiteout of nothing": [entry(".wh.")],
    "below a file": [entry("f"), entry("f/g")],
    "loop of links": [entry("a", "2", link=b"b"), entry("b", "2", link=b"a"), entry("a/f")],
    "long part": [entry("n" * 256)],
    "long path": [entry("n/" * 2100 + "x")],
    "overlay attribute": [entry("x", xattrs={b"trusted.overlay.redirect": b"/etc"})],
    "overlay attribute for users": [entry("x", xattrs={b"user.overlay.opaque": b"y"})],
    "many attributes": [entry("x", xattrs={b"user.%d" % n: b"v" * 4000 for n in range(20)})],
    "unknown type": [entry("x", "V")],
    "huge size": [header(b"x", "0", size=1 << 50)],
    "size without content": [header(b"x", "0", size=1 << 20)],
    "huge owner": [header(b"x", "0", owner=(1 << 33, 0))],
    "no tar": [b"a" * BLOCK],
    "half a block": [b"a" * 100],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(root: Path, name: str) -> None:
    with pytest.raises(ImageError) as refused:
        put(root, *HOSTILE[name])
    assert refused.value.message


def test_a_link_is_replaced_and_not_written_through(root: Path) -> None:
    put(root, entry("out", "2", link=b"../beside"), entry("out", data=b"inside"))
    assert not (root / "out").is_symlink()


def test_limits(root: Path) -> None:
    with pytest.raises(ImageError, match="more than 3 entries"):
        put(root, *(entry(f"f{number}") for number in range(4)), limits=Limits(entries=3))
    bomb = gzip.compress(entry("zeros", data=bytes(8 << 20)) + END)
    with pytest.raises(ImageError, match="more than 1048576 bytes"):
        unpack(io.BytesIO(bomb).read, root, limits=Limits(size=1 << 20))


def test_a_window_too_large_for_memory_is_refused(root: Path) -> None:
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.window_log: 30, parameter.enable_long_distance_matching: 1}
    data = zstd.ZstdCompressor(options=options)
    bomb = data.compress(entry("x", data=bytes(1 << 20)) + END) + data.flush()
    with pytest.raises(ImageError, match="damaged"):
        unpack(io.BytesIO(bomb).read, root)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress, bz2.compress, lzma.compress])
def test_compressions(root: Path, compress: Callable[[bytes], bytes]) -> None:
    plain = entry("file", data=os.urandom(3 << 20)) + END
    facts = unpack(io.BytesIO(compress(plain)).read, root)
    assert facts.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert (root / "file").stat().st_size == 3 << 20


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_several_members_are_one_stream(root: Path, compress: Callable[[bytes], bytes]) -> None:
    plain = entry("file", data=b"x" * 5000) + END
    pieces = b"".join(compress(plain[at : at + 700]) for at in range(0, len(plain), 700))
    assert unpack(io.BytesIO(pieces).read, root).size == len(plain)


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("damage", ["cut", "garbage", "flipped"])
def test_damaged_compression(root: Path, compress: Callable[[bytes], bytes], damage: str) -> None:
    good = compress(entry("file", data=os.urandom(100_000)) + END)
    middle = len(good) // 2
    flipped = good[:middle] + bytes(byte ^ 255 for byte in good[middle : middle + 50]) + good[middle + 50 :]
    bad = {"cut": good[:-20], "garbage": good + b"garbage!", "flipped": flipped}[damage]
    plain = entry("file", data=b"") + END
    with pytest.raises(ImageError):
        unpack(io.BytesIO(bad).read, root, expected=f"sha256:{hashlib.sha256(plain).hexdigest()}")


def test_the_digest_counts_what_follows_the_archive(root: Path) -> None:
    plain = entry("file") + END
    expected = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    with pytest.raises(ImageError, match="the configuration says"):
        unpack(io.BytesIO(plain + b"x").read, root, expected=expected)


def test_attributes(root: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    put(
        root,
        entry(
            "x", owner=(1, 1), mode=0o755, xattrs={b"security.capability": capability, b"user.a": b"\0\n\xff"}
        ),
    )
    assert os.getxattr(root / "x", "security.capability") == capability
    assert os.getxattr(root / "x", "user.a") == b"\0\n\xff"


@pytest.mark.parametrize(
    "style", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0"]
)
def test_holes(root: Path, tmp_path_factory: pytest.TempPathFactory, style: str) -> None:
    """Every sparse format that GNU tar writes."""
    source = tmp_path_factory.mktemp("source")
    with (source / "holes").open("wb") as file:
        for number in range(60):
            file.seek(number * 100_000)
            file.write(b"data %d" % number)
        file.truncate(50_000_000)
    expected = hashlib.sha256((source / "holes").read_bytes()).digest()
    command = ["tar", "-C", str(source), "--sparse", *f"--format={style}".split(), "-c", "holes"]
    unpack(io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout).read, root)
    made = root / "holes"
    assert hashlib.sha256(made.read_bytes()).digest() == expected
    assert made.stat().st_blocks * 512 < 2_000_000


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_writes(root: Path, tmp_path_factory: pytest.TempPathFactory, form: str) -> None:
    source = tmp_path_factory.mktemp("source")
    deep = source if form == "v7" else source / ("d" * 60) / ("e" * 30)
    deep.mkdir(parents=True, exist_ok=True)
    names = [b"plain", b"\xff\xfe not utf-8", "größe".encode()]
    if form in ("gnu", "posix", "oldgnu"):
        names.append(b"n" * 200)
    for name in names:
        Path(os.fsdecode(os.fsencode(deep) + b"/" + name)).write_bytes(name)
    command = ["tar", "-C", str(source), f"--format={form}", "--numeric-owner", "-c", "."]
    unpack(io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout).read, root)
    assert tree(root) == tree(source)


def test_packing_is_the_inverse(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    put(
        root,
        entry("d/", "5", mode=0o1777, owner=(3, 4), time=7),
        entry("d/" + "long" * 60, data=b"x" * 700, mode=0o4711, owner=(70000, 3_000_000), time=1700000000),
        entry("d/hard", "1", link=b"d/" + b"long" * 60),
        entry(b"d/\xff", "2", link=b"t" * 300),
        entry("d/.wh.gone"),
        entry("e/", "5", mode=0o755) + entry("e/.wh..wh..opq") + entry("e/tty", "3", device=os.makedev(5, 0)),
        entry(
            "x",
            xattrs={b"user.name": b"value\0", b"security.capability": bytes.fromhex("01000002") + bytes(16)},
        ),
    )
    os.utime(root / "d/gone", (7, 7))  # a whiteout is as old as its making
    first, second = io.BytesIO(), io.BytesIO()
    pack(root, first.write)
    again = tmp_path_factory.mktemp("again")
    unpack(io.BytesIO(first.getvalue()).read, again)
    os.utime(again / "d/gone", (7, 7))
    assert tree(again) == tree(root)
    pack(again, second.write)
    assert first.getvalue() == second.getvalue()
    with tarfile.open(fileobj=io.BytesIO(first.getvalue())) as archive:
        assert "d/.wh.gone" in archive.getnames()
        assert "e/.wh..wh..opq" in archive.getnames()


def test_packing_holds_to_the_epoch(root: Path) -> None:
    put(root, entry("new", time=2_000_000_000), entry("old", time=5))
    out = io.BytesIO()
    pack(root, out.write, epoch=1_000_000_000)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert {member.name: member.mtime for member in archive} == {"new": 1_000_000_000, "old": 5}


def test_implicit_directories_are_told(root: Path) -> None:
    facts = put(root, entry("a/b/c"), entry("a/", "5", mode=0o700))
    assert facts.implicit == ("a/b",)


fair = st.lists(st.sampled_from(["a", "b", "c", ".wh.a"]), min_size=1, max_size=3).map("/".join)
foul = st.sampled_from(["../x", "/a", "b/../a", ".wh..wh..opq", "a/.wh..wh..opq", ".", "", "a//b/", "\udcff"])
names = st.one_of(fair, fair, fair, fair, foul)
kinds = st.sampled_from("000000111222255555555367gSxLKV")
blocks = st.builds(
    lambda name, kind, data, link: entry(os.fsencode(name), kind, data, link=os.fsencode(link)),
    names,
    kinds,
    st.binary(max_size=600),
    names,
)
flips: st.SearchStrategy[list[tuple[int, int]]] = st.one_of(
    st.just([]), st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), max_size=3)
)


@settings(
    max_examples=250,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(blocks, max_size=8), flips, st.sampled_from([bytes, gzip.compress, zstd.compress]), st.booleans()
)
def test_any_archive_is_unpacked_or_refused(
    tmp_path: Path,
    entries: list[bytes],
    flips: list[tuple[int, int]],
    compress: Callable[[bytes], bytes],
    fix: bool,
) -> None:
    """Random entries, random damage: an ImageError or a layer, and never a touch outside."""
    data = bytearray(b"".join(entries) + END)
    for place, value in flips:
        data[place % len(data)] = value
        if fix:  # let the damage through to what is behind the checksum
            start = place % len(data) // BLOCK * BLOCK
            block = data[start : start + BLOCK]
            block[148:156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    shutil.rmtree(tmp_path / "layer", ignore_errors=True)
    (tmp_path / "layer").mkdir()
    (tmp_path / "x").write_text("untouched")
    try:
        unpack(io.BytesIO(compress(bytes(data))).read, tmp_path / "layer", limits=Limits(1 << 22, 100))
    except ImageError as error:
        assert error.message
    assert (tmp_path / "x").read_text() == "untouched"
    assert sorted(
        entry.name for entry in tmp_path.iterdir() if entry.name != "home" and entry.name != "xdg"
    ) == ["layer", "x"]


@given(st.binary(max_size=2000))
def test_numbers_and_headers_never_surprise(data: bytes) -> None:
    chunks = iter([data, b""])
    try:
        for member in tar.members(tar.Stream(lambda: next(chunks, b""))):
            assert member.size >= 0
    except ImageError:
        pass


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"     12 ", 0o12),
        (b"\x80\0\0\0\0\0\x01\0", 256),
        (b"\xff" * 8, -1),
        (b"\0" * 8, 0),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert tar.number(field) == value


def test_zlib_streams_are_not_mistaken(root: Path) -> None:
    with pytest.raises(ImageError, match="not a tar archive"):
        unpack(io.BytesIO(zlib.compress(bytes(5000)) * 60).read, root)
