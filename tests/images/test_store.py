"""The store: names, ids, house-keeping, and what survives kill -9."""

from __future__ import annotations

import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from composer.errors import ConflictError, ImageError, NotFoundError
from composer.images import config as formats
from composer.images.builtin import BASE
from composer.images.diff import changes, export, header
from composer.images.documents import Descriptor, ImageConfig
from composer.images.image import Image
from composer.images.intake import add_layer, write_image
from composer.images.reference import parse
from composer.images.store import Store
from composer.layered import Layered
from composer.paths import Paths
from tests.images.conftest import rootfs

pytestmark = pytest.mark.kernel


def lower(image: Image) -> Path:
    return Path(image.root[0].lowers[0])


def test_an_import_is_found_by_every_name(store: Store, busybox: Image) -> None:
    digits = busybox.id.removeprefix("sha256:")
    for name in ("example/busybox:1", "docker.io/example/busybox:1", busybox.id, digits, digits[:12]):
        found = store.find(name)
        assert found is not None
        assert found.id == busybox.id
    assert store.find("example/busybox") is None
    assert store.find(digits[:6]) is None
    with pytest.raises(NotFoundError, match="nothing"):
        store.get("nothing")


def test_platforms(store: Store, busybox: Image) -> None:
    assert store.find("example/busybox:1", f"linux/{busybox.config['architecture']}") is not None
    assert store.find("example/busybox:1", "linux/s390x") is None


def test_changes(busybox: Image) -> None:
    process = busybox.config["config"]
    assert process == {"Cmd": ["/bin/sh"], "Env": ["GREETING=hello"], "Labels": {"made.by": "tests"}}


def test_a_name_moves(store: Store, busybox: Image) -> None:
    newer = store.import_(rootfs(("new", b"")), "example/busybox:1")
    assert store.get("example/busybox:1").id == newer.id
    assert store.get(busybox.id).reference == ""
    assert {summary.id: summary.names for summary in store.summaries()} == {
        newer.id: ("example/busybox:1",),
        busybox.id: (),
    }
    swept = store.prune()
    assert swept.images == (busybox.id,)
    assert swept.freed > 1_000_000
    assert store.find(busybox.id) is None
    assert not lower(busybox).exists()
    assert lower(newer).exists()
    assert store.check() == []


def test_prune_spares_what_is_in_use(store: Store, busybox: Image) -> None:
    assert store.prune(all_=True, in_use={busybox.id}).images == ()
    assert store.prune().images == ()
    assert store.prune(all_=True).images == (busybox.id,)


def test_prune_to_a_size_takes_the_longest_unused(store: Store, busybox: Image) -> None:
    newer = store.import_(rootfs(("new", b"")), "newer:1")
    entry = store.entry("example/busybox:1")
    assert entry is not None
    os.utime(store.layout.path(entry["digest"]), (1, 1))
    sizes = {summary.id: summary.size + summary.stored for summary in store.summaries()}
    assert store.prune(keep_size=sum(sizes.values())).images == ()
    assert store.prune(keep_size=sizes[newer.id]).images == (busybox.id,)
    assert store.prune(keep_size=0, in_use={newer.id}).images == ()


def test_removing(store: Store, busybox: Image) -> None:
    store.tag("example/busybox:1", "other:2")
    with pytest.raises(ConflictError, match="2 names"):
        store.remove(busybox.id)
    assert store.remove("other:2") == ["Untagged: other:2"]
    with pytest.raises(ConflictError, match="in use"):
        store.remove("example/busybox:1", in_use={busybox.id})
    lines = store.remove("example/busybox:1")
    assert lines[0] == "Untagged: example/busybox:1"
    assert all(line.startswith("Deleted: sha256:") for line in lines[1:])
    assert store.summaries() == []
    with pytest.raises(NotFoundError):
        store.remove("example/busybox:1")


def test_removing_does_not_wait_for_a_pull(store: Store, busybox: Image) -> None:
    with store.layout.adding():
        assert store.remove("example/busybox:1") == ["Untagged: example/busybox:1"]
        assert lower(busybox).exists()
    assert store.prune().freed > 1_000_000
    assert not lower(busybox).exists()


def test_layers_are_shared(store: Store, busybox: Image, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc/added").write_text("more")
    image = store.commit(busybox, upper, "grown:1", changes=["ENV MORE=yes"], message="grown", author="me")
    assert image.root[0].lowers[1:] == busybox.root[0].lowers
    assert Path(image.root[0].lowers[0], "etc/added").read_text() == "more"
    assert image.config["config"]["Env"] == ["GREETING=hello", "MORE=yes"]
    assert [step.get("comment") for step in store.history("grown:1")] == ["grown", "Imported from an archive"]
    store.remove("example/busybox:1")
    assert lower(busybox).exists()
    assert store.check() == []
    assert store.usage(in_use={image.id}).reclaimable == 0


def test_damage_is_found_and_does_not_stop_cleaning(store: Store, busybox: Image) -> None:
    entry = store.entry("example/busybox:1")
    assert entry is not None
    layer = store.layout.path(store.manifest(entry)["layers"][0]["digest"])
    layer.write_bytes(layer.read_bytes()[:-1] + b"?")
    assert [complaint.split(":")[0] for complaint in store.check()] == ["docker.io/example/busybox"]
    store.layout.path(entry["digest"]).write_bytes(b"{}")
    with pytest.raises(ImageError):
        store.find("example/busybox:1")
    assert len(store.check()) == 1


@pytest.mark.parametrize("damage", ["bytes", "longer", "gone", "link"])
def test_a_changed_layer_is_found(store: Store, busybox: Image, damage: str) -> None:
    file, link = lower(busybox) / "etc/greeting", lower(busybox) / "bin/ls"
    if damage == "link":
        link.unlink()
        link.symlink_to("/evil")
    elif damage == "gone":
        file.unlink()
    else:
        file.write_text({"bytes": "HELLO\n", "longer": "hello\nmore"}[damage])
    (complaint,) = store.check()
    assert "an unpacked layer was changed" in complaint


def test_export_and_changes(store: Store, busybox: Image, tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc/new").write_text("new")
    os.mknod(upper / "etc/greeting", stat.S_IFCHR, 0)
    os.mknod(upper / "etc/never", stat.S_IFCHR, 0)
    lowers = busybox.root[0].lowers
    assert list(changes(upper, Layered([("/", lowers)]))) == [
        ("C", "/etc"),
        ("D", "/etc/greeting"),
        ("A", "/etc/new"),
    ]
    out = io.BytesIO()
    export(Layered([("/", (str(upper), *lowers))]), out.write)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        names = set(archive.getnames())
    assert {"etc", "etc/new", "bin/busybox", "bin/sh", "tmp"} <= names
    assert "etc/greeting" not in names


def test_a_missing_directory_is_unpacked_again(store: Store, busybox: Image) -> None:
    shutil.rmtree(lower(busybox).parent)
    assert lower(store.get("example/busybox:1")).joinpath("etc/greeting").read_text() == "hello\n"


def test_nobody_else_may_look_into_layers(busybox: Image) -> None:
    """A set-uid file in a stranger's layer is not a set-uid file of this host."""
    layers = lower(busybox).parent.parent
    assert layers.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("oci", [False, True])
def test_saved_and_loaded(store: Store, busybox: Image, tmp_path: Path, oci: bool) -> None:
    store.tag("example/busybox:1", "second:name")
    out = io.BytesIO()
    store.save(["example/busybox:1", "second:name"], out, oci=oci)
    other = Store(Paths(tmp_path / "r", tmp_path / "s"))
    reader, writer = os.pipe()
    if os.fork() == 0:  # a pipe, which cannot be sought in
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(out.getvalue())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        loaded = other.load(pipe)
    os.wait()
    assert {image.id for image in loaded} == {busybox.id}
    assert other.summaries()[0].names == ("example/busybox:1", "second:name")
    assert lower(loaded[0]).joinpath("etc/greeting").read_text() == "hello\n"
    assert other.check() == []


def test_loading_what_is_here_reads_no_layer_again(store: Store, busybox: Image) -> None:
    out = io.BytesIO()
    store.save(["example/busybox:1"], out, oci=True)
    before = lower(busybox).stat().st_ino
    out.seek(0)
    assert [image.id for image in store.load(out)] == [busybox.id]
    assert lower(busybox).stat().st_ino == before


@pytest.mark.parametrize(("transport", "oci"), [("docker-archive", False), ("oci-archive", True)])
def test_skopeo_reads_and_writes_archives(
    store: Store, busybox: Image, tmp_path: Path, transport: str, oci: bool
) -> None:
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    with (tmp_path / "saved").open("wb") as out:
        store.save(["example/busybox:1"], out, oci=oci)
    policy = tmp_path / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    source, target = f"{transport}:{tmp_path}/saved", f"{transport}:{tmp_path}/copied:example/copied:2"
    subprocess.run([skopeo, "--policy", policy, "copy", "-q", source, target], check=True)
    with (tmp_path / "copied").open("rb") as file:
        image = store.load(file)[0]
    assert image.reference == "docker.io/example/copied:2"
    assert image.config["config"]["Env"] == ["GREETING=hello"]
    assert image.root == busybox.root


def test_skopeo_reads_the_store_itself(store: Store, busybox: Image) -> None:
    """The store is an OCI image layout."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed")
    name = f"oci:{store.layout.root}:docker.io/example/busybox:1"
    done = subprocess.run([skopeo, "inspect", "--config", name], capture_output=True, text=True, check=True)
    assert "GREETING=hello" in done.stdout


def test_an_old_archive_of_docker(store: Store, busybox: Image, tmp_path: Path) -> None:
    """Layers in folders, equal layers as links, as `docker save` wrote them for years."""
    diff_id = busybox.config["rootfs"]["diff_ids"][0]
    plain = io.BytesIO()
    store.save(["example/busybox:1"], plain)
    plain.seek(0)
    old = io.BytesIO()
    with tarfile.open(fileobj=plain) as source, tarfile.open(fileobj=old, mode="w") as target:
        for member in source:
            data = source.extractfile(member)
            assert data is not None
            content = data.read()
            if member.name == f"{diff_id[7:]}.tar":
                member.name = "aaa/layer.tar"
                link = tarfile.TarInfo("bbb/layer.tar")
                link.type, link.linkname = tarfile.SYMTYPE, "../aaa/layer.tar"
                target.addfile(link)
            content = content.replace(f"{diff_id[7:]}.tar".encode(), b"bbb/layer.tar")
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    other = Store(Paths(tmp_path / "r", tmp_path / "s"))
    old.seek(0)
    assert [image.id for image in other.load(old)] == [busybox.id]


KIND = b"application/vnd.oci.image.manifest.v1+json"


def test_a_layer_counts_in_another_boot_only_once_it_is_on_the_disk(store: Store, busybox: Image) -> None:
    """After a power cut what was not is unpacked again, whatever is left of it."""
    (note,) = (store.paths.images / "unsettled").iterdir()
    layer = Path(busybox.root[0].lowers[0])
    note.write_text("an earlier boot")
    (layer / "etc/greeting").write_text("")
    (layer.parent / "facts.json").write_text("")
    assert store.summaries()[0].size == 0
    again = store.get("example/busybox:1")
    assert again.root == busybox.root
    assert (layer / "etc/greeting").read_text() == "hello\n"
    assert store.check() == []
    store.unpacked.settle()
    assert not note.exists() and store.unpacked.has(again.config["rootfs"]["diff_ids"][0])
    inode = layer.stat().st_ino
    store.import_(rootfs(("etc/greeting", b"hello\n")), "example/twice:1")
    assert layer.stat().st_ino == inode, "a layer that is there is not replaced"


def test_a_lost_layer_is_pruned_like_any(store: Store, busybox: Image) -> None:
    (note,) = (store.paths.images / "unsettled").iterdir()
    note.write_text("an earlier boot")
    (Path(busybox.root[0].lowers[0]).parent / "facts.json").write_text("")
    assert store.prune(all_=True).images == (busybox.id,)
    assert list((store.paths.images / "layers").iterdir()) == [] and not note.exists()


CONFIG = b'{"rootfs":{"diff_ids":[]}}'
ABSENT = b'{"mediaType":"' + KIND + b'","size":2,"digest":"sha256:' + b"1" * 64 + b'"}'


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"other": b"x"},
        {"manifest.json": b"{}"},
        {"manifest.json": b'[{"Config":"c","Layers":[]}]'},
        {
            "manifest.json": b'[{"Config":"c","Layers":["../../etc/passwd"]}]',
            "c": CONFIG,
        },
        {
            "manifest.json": b'[{"Config":"c","Layers":[]}]',
            "c": b'{"rootfs":{"diff_ids":["sha256:' + b"0" * 64 + b'"]}}',
        },
        {"manifest.json": b"[" * 100_000},
        {"manifest.json": b'[{"Config":"c","Layers":true}]', "c": CONFIG},
        {"manifest.json": b'[{"Config":"c","Layers":[7]}]', "c": CONFIG},
        {"manifest.json": b'[{"Config":"c","Layers":[],"RepoTags":{"x":1}}]', "c": CONFIG},
        {"index.json": b'{"schemaVersion":2,"manifests":[{}]}'},
        {"index.json": b'{"schemaVersion":2,"manifests":[],"layers":[]}'},
        {"index.json": b'{"schemaVersion":2,"manifests":[' + ABSENT + b"]}"},
    ],
)
def test_archives_that_are_none(store: Store, files: dict[str, bytes]) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    out.seek(0)
    with pytest.raises(ImageError):
        store.load(out)
    assert store.summaries() == []


IMPORT = """
import sys
from pathlib import Path
from composer.images.store import Store
from composer.paths import Paths
with open(sys.argv[2], "rb") as archive:
    Store(Paths(Path(sys.argv[1], "run"), Path(sys.argv[1], "state"))).import_(archive, "killed:1")
"""


GET = """
import sys
from pathlib import Path
from composer.images.store import Store
from composer.paths import Paths
Store(Paths(Path(sys.argv[1], "run"), Path(sys.argv[1], "state"))).get("shared:1")
"""


def many_files(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for number in range(1500):
            member = tarfile.TarInfo(f"d{number % 30}/f{number}")
            member.size = 8000
            archive.addfile(member, io.BytesIO(b"%d" % number * 8000))


@pytest.mark.parametrize("steps", [0, 1, 200, 1400])
def test_killed_in_the_middle(paths: Paths, tmp_path: Path, steps: int) -> None:
    """kill -9 while unpacking: the store is whole, the next try succeeds, a prune leaves nothing."""
    many_files(tmp_path / "archive")
    process = subprocess.Popen([sys.executable, "-c", IMPORT, str(tmp_path), str(tmp_path / "archive")])
    unfinished = paths.images / "unfinished"
    while process.poll() is None:  # the moment is "after so many files", seen from outside
        made = sum(len(files) for _, _, files in os.walk(unfinished))
        if made >= steps and unfinished.exists():
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    store = Store(paths)
    assert store.check() == []
    store.prune(all_=True)
    left = [
        path for folder in ("unfinished", "partial", "layers") for path in (paths.images / folder).iterdir()
    ]
    assert left == []
    subprocess.run([sys.executable, "-c", IMPORT, str(tmp_path), str(tmp_path / "archive")], check=True)
    assert lower(store.get("killed:1")).joinpath("d7/f7").stat().st_size == 8000


def test_several_processes_unpack_one_layer_once(paths: Paths, tmp_path: Path) -> None:
    store = Store(paths)
    many_files(tmp_path / "archive")
    with (tmp_path / "archive").open("rb") as archive:
        image = store.import_(archive, "shared:1")
    shutil.rmtree(lower(image).parent)
    workers = [subprocess.Popen([sys.executable, "-c", GET, str(tmp_path)]) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    assert sum(len(files) for _, _, files in os.walk(lower(image))) == 1500
    assert list((paths.images / "unfinished").iterdir()) == []


def test_more_than_a_hundred_layers_are_stacked(store: Store, busybox: Image, tmp_path: Path) -> None:
    entry = store.entry("example/busybox:1")
    assert entry is not None
    layers, config = store.manifest(entry)["layers"], store.config(entry)
    for number in range(120):
        upper = tmp_path / f"upper{number}"
        upper.mkdir()
        (upper / f"file{number}").write_text(str(number))
        layer, diff_id = add_layer(store, upper, move=True)
        layers.append(layer)
        config["rootfs"]["diff_ids"].append(diff_id)
    image = write_image(store, config, layers, parse("tall:1"))
    assert len(image.root[0].lowers) == 121
    names = {name for directory in image.root[0].lowers for name in os.listdir(directory)}
    assert {f"file{number}" for number in range(120)} <= names


def layer_of(store: Store, *names: tuple[str, int, int]) -> tuple[Descriptor, str]:
    """A layer with exactly these entries: name, mode, owner; directories end with a slash."""
    data = b"".join(
        header(n.encode(), "5" if n.endswith("/") else "0", mode, (uid, 0)) for n, mode, uid in names
    )
    with store.layout.scratch() as blob:
        blob.write(data + bytes(1024))
        layer = blob.finish(formats.OCI_LAYER)
    with store.layout.open(layer["digest"]) as reader:
        return layer, store.unpacked.fresh(reader.read).diff_id


def test_directories_without_an_entry_keep_what_is_below(store: Store) -> None:
    pairs = [
        layer_of(store, ("a/", 0o755, 0), ("a/b/", 0o700, 5), ("a/b/c/", 0o1777, 6), ("plain/", 0o755, 0)),
        layer_of(store, ("a/b/c/new", 0o644, 0), ("fresh/new", 0o644, 0)),
    ]
    config: ImageConfig = {
        "architecture": formats.platform().architecture,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in pairs]},
    }
    image = write_image(store, config, [layer for layer, _ in pairs], parse("implicit:1"))
    tree = Layered((overlay.target, overlay.lowers) for overlay in image.root)
    seen = {}
    for path in ("a", "a/b", "a/b/c", "fresh", "a/b/c/new"):
        node = tree.find(path)
        assert node is not None
        seen[path] = (stat.S_IMODE(node.status.st_mode), node.status.st_uid)
    assert seen == {
        "a": (0o755, 0),
        "a/b": (0o700, 5),
        "a/b/c": (0o1777, 6),
        "fresh": (0o755, 0),
        "a/b/c/new": (0o644, 0),
    }
    assert store.get("implicit:1") == image


def test_finding_imports_little() -> None:
    """`find` is on the path of every start."""
    code = "import sys, composer.images.store; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "httpx2",
        "anyio",
        "ctypes",
        "backports.zstd",
        "asyncio",
        "tomllib",
        "tarfile",
        "subprocess",
    }


def test_only_what_was_made_here_stands_on_the_host(store: Store, tmp_path: Path) -> None:
    """A configuration that came in an archive may claim what it likes."""
    config: dict[str, Any] = {
        "architecture": formats.platform().architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
        BASE: "host",
    }
    with store.layout.adding():
        mine = write_image(store, cast(ImageConfig, config), [], parse("mine:1"), on_host=True)
        config["author"] = "them"
        theirs = write_image(store, cast(ImageConfig, config), [], parse("theirs:1"))
    assert "/usr" in [overlay.target for overlay in mine.root]
    assert [overlay.target for overlay in theirs.root] == ["/"]
    assert "/usr" in [overlay.target for overlay in store.get("mine:1").root]
    store.tag("mine:1", "mine:2")
    with (tmp_path / "out").open("wb") as out, pytest.raises(ImageError, match="own /usr"):
        store.save(["mine:2"], out)
    with pytest.raises(ImageError, match="own /usr"):
        anyio.run(store.push, "mine:2")
