"""Option words and operations (pure), and mounts in a container."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.runtime import cgroup, linux, mounts
from composer.runtime.errors import StepError
from tests.runtime.box import Box, Result

RO, NOSUID, NOEXEC = linux.MOUNT_ATTR_RDONLY, linux.MOUNT_ATTR_NOSUID, linux.MOUNT_ATTR_NOEXEC
ATIME, NOATIME = linux.MOUNT_ATTR__ATIME, linux.MOUNT_ATTR_NOATIME


@pytest.mark.parametrize(
    ("words", "this", "tree"),
    [
        ([], (0, 0), (0, 0)),
        (["defaults", "silent", "loud", "iversion"], (0, 0), (0, 0)),
        (["ro", "nosuid"], (RO | NOSUID, 0), (0, 0)),
        (["ro", "rw"], (0, RO), (0, 0)),
        (["rro", "noexec"], (NOEXEC, 0), (RO, 0)),
        (["rrw"], (0, 0), (0, RO)),
        (["noatime"], (NOATIME, ATIME), (0, 0)),
        (["noatime", "relatime"], (0, ATIME), (0, 0)),
        (["rstrictatime"], (0, 0), (linux.MOUNT_ATTR_STRICTATIME, ATIME)),
    ],
)
def test_attribute_words(words: list[str], this: tuple[int, int], tree: tuple[int, int]) -> None:
    options = mounts.parse(words)
    assert options.attributes == (this, tree)
    assert options.data == ()


def test_every_word_of_the_specification_is_known() -> None:
    # config.md, "Linux mount options" of runtime-spec 1.2
    table = """async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev
        nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private
        ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime
        rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid
        rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable
        idmap ridmap"""
    assert set(table.split()) <= set(mounts.WORDS)


def test_the_rest_is_for_the_file_system() -> None:
    options = mounts.parse(["size=64k", "sync", "newinstance", "rprivate", "tmpcopyup"])
    assert options.data == (("size", "64k"), ("sync", None), ("newinstance", None))
    assert options.propagation == ((linux.MS_PRIVATE, True),)
    assert options.copyup == 1


@given(st.lists(st.sampled_from(mounts.WORDS)))
def test_no_bit_is_both_set_and_cleared_but_atime(words: list[str]) -> None:
    for on, off in mounts.parse(words).attributes:
        assert not on & off & ~ATIME


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        ({"destination": "data", "type": "tmpfs"}, "must be absolute"),
        ({"destination": "/data"}, "neither a type"),
        ({"destination": "/data", "source": "/x", "options": ["bind", "idmap"]}, "needs mappings"),
        ({"destination": "/data", "type": "tmpfs", "options": ["idmap"]}, "only bind mounts"),
    ],
)
def test_senseless_mounts_are_refused(mount: dict[str, Any], text: str) -> None:
    with pytest.raises(StepError, match=text):
        mounts.operations({"mounts": [mount]}, "/bundle")


def test_a_mount_is_what_its_words_say() -> None:
    spec = {
        "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/data", "source": "data", "options": ["rbind", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup"},
            {"destination": "/data", "options": ["remount", "rw"]},
        ]
    }
    found = mounts.operations(spec, "/bundle")
    assert [(type(one), one.destination) for one in found] == [
        (mounts.Filesystem, "/proc"),
        (mounts.Bind, "/data"),
        (mounts.Cgroup, "/sys/fs/cgroup"),
        (mounts.Remount, "/data"),
    ]
    assert [one.source for one in found if isinstance(one, mounts.Bind)] == ["/bundle/data"]


# --- in a container


def with_mount(box: Box, mount: dict[str, Any], script: str) -> Result:
    spec = box.spec("sh", "-ec", script)
    spec["mounts"].append(mount)
    return box.run(spec)


@pytest.mark.kernel
def test_a_bound_directory_and_file(box: Box) -> None:
    data = box.directory / "data"
    data.mkdir()
    (data / "file").write_text("content\n")
    text, code = with_mount(
        box,
        {"destination": "/a/b", "source": "data", "options": ["bind"]},
        "cat /a/b/file; echo x > /a/b/new",
    )
    assert (text, code) == ("content\n", 0)
    assert (data / "new").read_text() == "x\n"
    one = {"destination": "/a/file", "source": "data/file", "options": ["bind", "ro"]}
    text, code = with_mount(box, one, "cat /a/file; echo x > /a/file")
    assert text.startswith("content\n")
    assert code != 0


@pytest.mark.kernel
def test_attributes_reach_the_mount_table(box: Box) -> None:
    mount = {
        "destination": "/data",
        "source": "layer",
        "options": ["bind", "ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"],
    }
    text, _ = with_mount(box, mount, "cat /proc/self/mountinfo")
    (row,) = [line.split()[5] for line in text.splitlines() if line.split()[4] == "/data"]
    assert set(row.split(",")) == {"ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"}


@pytest.mark.kernel
def test_a_tmpfs_with_size_and_mode_starts_from_what_it_covers(box: Box) -> None:
    (box.layer / "etc").mkdir()
    (box.layer / "etc" / "passwd").write_text("root\n")
    mount = {"destination": "/etc", "type": "tmpfs", "options": ["size=64k", "mode=700", "tmpcopyup"]}
    text, code = with_mount(box, mount, "cat /etc/passwd; cat /proc/self/mountinfo")
    assert code == 0
    assert text.startswith("root\n")
    assert "rw,size=64k,mode=700" in text


@pytest.mark.kernel
def test_links_in_the_image_cannot_lead_out(box: Box) -> None:
    """CVE-2021-30465: the target is resolved in the root, also where it must be made first."""
    outside = box.directory / "outside"
    outside.mkdir()
    (box.layer / "data").symlink_to(outside)
    (box.layer / "up").symlink_to("../../../../../../.." + str(outside))
    for destination in ("/data/mnt", "/up/mnt"):
        mount = {"destination": destination, "type": "tmpfs"}
        text, code = with_mount(box, mount, f"cat /proc/self/mountinfo; ls -d {outside}")
        assert code == 0, text
        assert f" {outside}/mnt " in text
    assert list(outside.iterdir()) == []


@pytest.mark.kernel
def test_a_loop_of_links_ends(box: Box) -> None:
    (box.layer / "a").symlink_to("b")
    (box.layer / "b").symlink_to("a")
    spec = box.spec("sh")
    spec["mounts"].append({"destination": "/a/mnt", "type": "tmpfs"})
    with pytest.raises(StepError) as caught:
        box.create(spec)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.kernel
@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/link/sys"])
def test_nothing_covers_proc(box: Box, destination: str) -> None:
    """CVE-2019-16884, CVE-2023-28642."""
    (box.layer / "link").symlink_to("/proc")
    spec = box.spec("sh")
    spec["mounts"].append({"destination": destination, "source": "layer", "options": ["bind"]})
    with pytest.raises(StepError, match="nothing may be mounted inside /proc"):
        box.create(spec)


@pytest.mark.kernel
def test_single_files_of_proc_may_be_covered(box: Box) -> None:
    (box.directory / "meminfo").write_text("little\n")
    mount = {"destination": "/proc/meminfo", "source": "meminfo", "options": ["bind"]}
    assert with_mount(box, mount, "cat /proc/meminfo") == ("little\n", 0)


@pytest.mark.kernel
def test_the_groups_of_the_container_only(box: Box) -> None:
    spec = box.spec("sh", "-ec", "ls /sys/fs/cgroup; cat /proc/self/mountinfo", cgroupsPath=f"/{box.name}")
    spec["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nosuid"]})
    text = box.run(spec).output
    rows = [line.split() for line in text.splitlines() if " - cgroup" in line]
    assert rows
    assert {(row[3], row[5].split(",")[0]) for row in rows} == {("/", "ro")}


@pytest.mark.kernel
@pytest.mark.skipif(not cgroup.layout().unified, reason="there is no cgroup v2 here")
def test_cgroup2_is_the_unified_hierarchy_alone(box: Box) -> None:
    spec = box.spec("ls", "/sys/fs/cgroup", cgroupsPath=f"/{box.name}")
    spec["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup2"})
    assert "cgroup.procs" in box.run(spec).output.split()


@pytest.mark.kernel
def test_mountinfo_lists_them_in_their_order(box: Box, tmp_path: Path) -> None:
    spec = box.spec("cat", "/proc/self/mountinfo")
    spec["mounts"] = [
        *spec["mounts"],
        {"destination": "/first", "type": "tmpfs"},
        {"destination": "/second", "type": "bind", "source": str(tmp_path), "options": ["bind"]},
        {"destination": "/third", "type": "tmpfs"},
    ]
    listed = [line.split()[4] for line in box.run(spec).output.splitlines()]
    wanted = [mount["destination"] for mount in spec["mounts"]]
    assert [path for path in listed if path in wanted] == wanted
