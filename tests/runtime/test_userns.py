"""User namespaces: root inside is nobody outside, and files keep their owners on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from composer.runtime import idmaps, namespaces
from composer.runtime.create import Stdio
from composer.runtime.errors import StepError
from tests.runtime.box import Box, drain, output, status

pytestmark = pytest.mark.kernel

BASE = 300_000
MAP = [{"containerID": 0, "hostID": BASE, "size": 65536}]

MAPPINGS = {"uidMappings": MAP, "gidMappings": MAP}


def mapped(box: Box, *args: str, **linux: Any) -> dict[str, Any]:
    spec = box.spec(*args, **MAPPINGS, **linux)
    spec["linux"]["namespaces"].append({"type": "user"})
    return spec


def test_root_inside_is_an_unprivileged_id_of_the_host(box: Box) -> None:
    container = box.start(mapped(box, "sleep", "100"))
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert f"Uid:\t{BASE}\t{BASE}\t{BASE}\t{BASE}" in status
    assert f"Gid:\t{BASE}" in status


def test_everything_works_inside(box: Box) -> None:
    script = (
        "id -u; cat /proc/self/uid_map; echo x > /dev/null; echo x > /dev/shm/x; stat -c %u /bin/cat /dev"
    )
    result = box.run(mapped(box, "sh", "-ec", script, cgroupsPath=f"/{box.name}"), network_sockets=True)
    assert result.output.split() == ["0", "0", str(BASE), "65536", "0", "0"]
    assert result.status == 0


def test_layers_keep_their_owners_on_disk(box: Box) -> None:
    overlay = box.overlay()
    script = "echo x > /new; chown 33:34 /new; chmod 600 /bin/busybox"
    assert box.run(mapped(box, "sh", "-ec", script), overlay=overlay).status == 0
    found = os.stat(f"{overlay.upper}/new")
    assert (found.st_uid, found.st_gid) == (33, 34)
    assert os.stat(f"{overlay.upper}/bin/busybox").st_uid == 0


def test_a_volume_keeps_its_owners_on_disk(box: Box) -> None:
    (box.directory / "data").mkdir()
    spec = mapped(box, "sh", "-ec", "stat -c %u /data; echo x > /data/new; chown 33 /data/new")
    mount = {"destination": "/data", "source": "data", "options": ["rbind", "idmap"]}
    spec["mounts"].append(mount)
    assert box.run(spec).output == "0\n"
    assert (box.directory / "data" / "new").stat().st_uid == 33


def test_without_idmap_the_host_owns_the_volume(box: Box) -> None:
    (box.directory / "data").mkdir(mode=0o755)
    spec = mapped(box, "sh", "-c", "stat -c %u /data; echo x > /data/new")
    spec["mounts"].append({"destination": "/data", "source": "data", "options": ["bind"]})
    output, status = box.run(spec)
    assert output.startswith("65534\n")
    assert status == 1


def test_a_mount_may_have_mappings_of_its_own(box: Box) -> None:
    (box.directory / "data").mkdir()
    os.chown(box.directory / "data", 10, 10)
    spec = box.spec("sh", "-ec", "stat -c %u /data")
    own = [{"containerID": 0, "hostID": 1000, "size": 100}]
    mount = {
        "destination": "/data",
        "source": "data",
        "options": ["bind"],
        "uidMappings": own,
        "gidMappings": own,
    }
    spec["mounts"].append(mount)
    assert box.run(spec).output == "1010\n"


def test_exec_joins_the_user_namespace(box: Box) -> None:
    spec = mapped(box, "sleep", "100", cgroupsPath=f"/{box.name}")
    container = box.start(spec)
    script = ("sh", "-c", "id -u; id -g; id -G; ls -l /proc/self/ns/user; cat /proc/1/uid_map")
    output = box.exec(container, spec, *script).output
    assert output.split()[:3] == ["0", "0", "0"]
    assert os.readlink(f"/proc/{container.pid}/ns/user") in output


def test_exec_as_another_user(box: Box) -> None:
    spec = mapped(box, "sleep", "100")
    container = box.start(spec)
    result = box.exec(container, spec, "id", user={"uid": 1000, "gid": 1000, "additionalGids": [7]})
    assert result.output == "uid=1000 gid=1000 groups=7\n"


def test_a_user_namespace_can_be_joined_with_its_mappings(box: Box) -> None:
    first = box.start(mapped(box, "sleep", "100"))
    spec = box.spec("sh", "-ec", "cat /proc/self/uid_map; stat -c %u /bin; echo x > /new", **MAPPINGS)
    rows = spec["linux"]["namespaces"]
    rows[:] = [row for row in rows if row["type"] in ("mount", "uts")]
    rows += [
        {"type": kind, "path": f"/proc/{first.pid}/ns/{file}"}
        for kind, file in (("user", "user"), ("network", "net"), ("pid", "pid"), ("ipc", "ipc"))
    ]
    overlay = box.overlay()
    result = box.run(spec, overlay=overlay)
    assert result.output.split() == ["0", str(BASE), "65536", "0"]
    assert os.stat(f"{overlay.upper}/new").st_uid == 0


def test_without_mappings_the_layers_of_a_joined_one_are_nobodys(box: Box) -> None:
    first = box.start(mapped(box, "sleep", "100"))
    spec = box.spec("sh", "-c", "cat /proc/self/uid_map; stat -c %u /bin")
    spec["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{first.pid}/ns/user"})
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] == "/proc"]
    (box.layer / "proc").mkdir()
    assert box.run(spec).output.split() == ["0", str(BASE), "65536", "65534"]


def test_other_overlays_keep_their_owners_too(box: Box) -> None:
    for name in ("a", "b:c", "upper", "work"):
        (box.directory / name).mkdir()
    (box.directory / "b:c" / "old").touch()
    os.chown(box.directory / "b:c" / "old", 7, 8)
    spec = mapped(box, "sh", "-ec", "stat -c %u:%g /over/old; chown 33:34 /over/old; echo x > /over/new")
    options = ["lowerdir=a:b\\:c", "upperdir=upper", "workdir=work"]
    spec["mounts"].append({"destination": "/over", "type": "overlay", "options": options})
    assert box.run(spec).output == "7:8\n"
    found = [os.stat(box.directory / "upper" / name) for name in ("old", "new")]
    assert [(status.st_uid, status.st_gid) for status in found] == [(33, 34), (0, 0)]


def test_devices_have_their_owners(box: Box) -> None:
    device = {
        "type": "c",
        "path": "/else/zero",
        "major": 1,
        "minor": 5,
        "fileMode": 0o640,
        "uid": 5,
        "gid": 6,
    }
    spec = mapped(box, "stat", "-c", "%u:%g:%a", "/dev/null", "/else/zero", devices=[device])
    assert box.run(spec).output.split() == ["0:0:666", "5:6:640"]


def test_a_leaked_descriptor_of_the_host_gives_no_rights(box: Box) -> None:
    (box.directory / "file").write_text("host")
    box.directory.chmod(0o755)
    script = "cat /proc/self/fd/0/file; echo x > /proc/self/fd/0/file; echo x > /proc/self/fd/0/new"
    with output() as (reader, writer):
        leaked = os.open(box.directory, os.O_RDONLY | os.O_DIRECTORY)
        pending = box.start(mapped(box, "sh", "-c", script), Stdio(leaked, writer, writer))
        os.close(writer)
        os.close(leaked)
        text = drain(reader)
        assert status(pending) != 0
    assert text.count("Permission denied") == 2
    assert not (box.directory / "new").exists()
    assert (box.directory / "file").read_text() == "host"


def test_pipes_can_be_opened_again(box: Box) -> None:
    spec = mapped(box, "sh", "-ec", "echo out > /proc/self/fd/1")
    spec["process"]["user"] = {"uid": 33, "gid": 33}
    assert box.run(spec).output == "out\n"


def test_signals_do_not_leave(box: Box) -> None:
    """Not even to a process of the host that the container is shown."""
    spec = mapped(box, "kill", "-9", str(os.getpid()))
    spec["linux"]["namespaces"] = [row for row in spec["linux"]["namespaces"] if row["type"] != "pid"]
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/proc"]
    assert "Operation not permitted" in box.run(spec).output


def test_a_user_namespace_without_mappings_is_refused(box: Box) -> None:
    spec = box.spec("sh")
    spec["linux"]["namespaces"].append({"type": "user"})
    with pytest.raises(StepError, match="needs mappings"):
        box.create(spec)


def test_the_kernel_is_asked_whether_it_can(tmp_path: Path) -> None:
    assert idmaps.obstacle(str(tmp_path), BASE, 65536) == ""
    assert os.listdir(tmp_path) == []
    assert "/dev" in idmaps.obstacle("/dev", BASE, 65536)
    userns = namespaces.new_userns(MAP, MAP)
    try:
        assert idmaps.shown(userns, str(tmp_path))
        assert not idmaps.shown(userns, "/proc")
    finally:
        os.close(userns)


def test_nested_device_nodes_cannot_be_made(box: Box) -> None:
    output, status = box.run(mapped(box, "sh", "-c", "mknod /dev/mem2 c 1 1"))
    assert status == 1
    assert "Operation not permitted" in output


def test_mappings_that_make_no_sense_name_the_file(box: Box) -> None:
    spec = mapped(box, "sh")
    spec["linux"]["uidMappings"] = [*MAP, *MAP]
    with pytest.raises(StepError, match="uid_map"):
        box.create(spec)
