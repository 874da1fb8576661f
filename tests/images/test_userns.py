"""Layers unpacked in a user namespace, as rootless users do it."""

from __future__ import annotations

import ctypes
import io
import os
import stat
from pathlib import Path

import pytest

from composer.images import layers
from composer.images.diff import header

pytestmark = pytest.mark.kernel

CLONE_NEWUSER = 0x10000000
ONE_ID = "0 0 1"
MANY_IDS = "0 100000 65536"


def archive(uid: int) -> bytes:
    out = io.BytesIO()
    out.write(header(b"dir/", "5", 0o755))
    out.write(header(b"dir/.wh..wh..opq", "0"))
    out.write(header(b"dir/.wh.gone", "0"))
    out.write(header(b"dir/file", "0", 0o640, (uid, uid)))
    out.write(header(b"dir/null", "3", 0o666, device=os.makedev(1, 3)))
    return out.getvalue() + bytes(1024)


def unpacked(folder: Path, uid: int, mapping: str) -> str:
    """Unpack in a process of a new user namespace whose ids are `mapping`; what it complains about."""
    first = int(mapping.split()[1])
    (folder / "layer").mkdir()
    os.chown(folder / "layer", first, first)
    for parent in (folder, *folder.parents):
        if parent.owner() == "root" and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    separate, mapped = os.pipe(), os.pipe()
    complaint, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ctypes.CDLL(None).unshare(CLONE_NEWUSER)
            os.write(separate[1], b".")
            os.read(mapped[0], 1)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            for known in (layers.overlay_prefix, layers._is_privileged, layers._keeps_owners):
                known.cache_clear()
            layers.unpack(io.BytesIO(archive(uid)).read, folder / "layer")
        except BaseException as error:
            os.write(say, str(error).encode())
        os._exit(0)
    os.close(say)
    os.read(separate[0], 1)
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{kind}").write_text(mapping)
    os.write(mapped[1], b".")
    with os.fdopen(complaint) as reader:
        said = reader.read()
    os.waitpid(child, 0)
    for descriptor in (*separate, *mapped):
        os.close(descriptor)
    return said


def check(layer: Path) -> None:
    gone = (layer / "dir/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(layer / "dir", "user.overlay.opaque") == b"y"
    assert not (layer / "dir/null").exists()  # the kernel allows no devices there


def test_with_one_id_everything_is_ours(tmp_path: Path) -> None:
    assert unpacked(tmp_path, 1000, ONE_ID) == ""
    check(tmp_path / "layer")
    assert (tmp_path / "layer/dir/file").stat().st_uid == 0


def test_with_many_ids_owners_are_kept(tmp_path: Path) -> None:
    assert unpacked(tmp_path, 1000, MANY_IDS) == ""
    check(tmp_path / "layer")
    assert (tmp_path / "layer/dir/file").stat().st_uid == 101000


def test_an_owner_that_is_not_mapped(tmp_path: Path) -> None:
    said = unpacked(tmp_path, 70_000, MANY_IDS)
    assert said == "'dir/file' belongs to 70000:70000, which is not mapped here"
