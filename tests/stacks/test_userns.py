"""User namespaces: root in a container is nobody on the host, and nothing else changes for its files."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from composer.supervisor import userns
from composer.syscalls import mount, unmount
from tests.host import Host, Stack

pytestmark = pytest.mark.kernel

SLEEPER = """
services:
  web:
    image: host
    userns_mode: private
    command: sleep 1000
    volumes: [./data:/data, kept:/v]
volumes: {kept: {}}
"""


def pid(stack: Stack, service: str = "web") -> int:
    record = json.loads((stack.host.root / "state/stacks" / stack.name / "record.json").read_text())
    return int(next(row["pid"] for row in record["containers"] if row["service"] == service))


def first(stack: Stack, service: str = "web") -> int:
    return int(Path(f"/proc/{pid(stack, service)}/uid_map").read_text().split()[1])


def owners(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_root_is_nobody_on_the_host_and_files_keep_their_owners(host: Host) -> None:
    stack = host.stack(SLEEPER)
    (stack.folder / "data").mkdir()
    stack.ok("up", "-d")
    status = Path(f"/proc/{pid(stack)}/status").read_text()
    assert f"Uid:\t{first(stack)}\t" in status
    assert first(stack) >= userns.FIRST
    script = "cd /data; touch root; touch www; chown 33:34 www; cp /bin/true /v/su; chmod 4755 /v/su; id -u"
    assert stack.ok("exec", "-T", "web", "sh", "-ec", script) == "0\n"
    assert owners(stack.folder / "data/root") == (0, 0)
    assert owners(stack.folder / "data/www") == (33, 34)
    (volume,) = (host.root / "state/volumes").glob("*/_data/su")
    assert owners(volume) == (0, 0)
    assert volume.stat().st_mode & stat.S_ISUID


def test_what_is_the_hosts_stays_the_hosts(host: Host) -> None:
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d")
    assert Path(f"/proc/{pid(stack)}/uid_map").read_text().split() == ["0", str(first(stack)), "65536"]
    for refused in ("mount -t tmpfs none /mnt", "mknod /dev/mem2 c 1 1", "echo 1 > /proc/sys/kernel/panic"):
        assert stack("exec", "-T", "web", "sh", "-c", refused).returncode != 0, refused


def test_programs_that_change_the_user_do(host: Host) -> None:
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d")
    setup = "cp /usr/bin/id /srv/id && chown 33 /srv/id && chmod 4755 /srv/id"
    stack.ok("exec", "-T", "web", "sh", "-c", setup)
    assert "euid=33" in stack.ok("exec", "-T", "-u", "1000:1000", "web", "/srv/id")


def test_capabilities_of_files_are_given_inside(host: Host) -> None:
    stack = host.stack(SLEEPER)
    (stack.folder / "data").mkdir()
    program = stack.folder / "data/busybox"
    shutil.copy("/bin/busybox", program)
    net_raw = 1 << 13
    # Version 2, effective: capabilities(7), struct vfs_cap_data.
    os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, net_raw, 0, 0, 0))
    stack.ok("up", "-d")
    look = ("exec", "-T", "-u", "1000", "web", "/data/busybox", "grep", "CapEff", "/proc/self/status")
    assert int(stack.ok(*look).split()[1], 16) == net_raw


def test_streams_can_be_opened_again_whoever_runs(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            userns_mode: private
            user: "33"
            command: sh -c 'echo out > /dev/stdout; echo err > /dev/stderr'
        """
    )
    stack.ok("up", "-d", "--wait")
    stack.ok("wait", "web")
    assert set(stack.ok("logs", "--no-log-prefix").split()) == {"out", "err"}


SMALL = """
services:
  web:
    image: scratch
    userns_mode: MODE
    network_mode: none
    command: [/bin/busybox, sleep, "1000"]
    volumes: ["./busybox:/bin/busybox:ro", ./data:/data]
"""


@pytest.mark.parametrize("mode", ["host", "private"])
def test_cp_and_export_know_owners(host: Host, mode: str) -> None:
    stack = host.stack(SMALL.replace("MODE", mode))
    shutil.copy("/bin/busybox", stack.folder)
    stack.ok("up", "-d")
    run = ("exec", "-T", "web", "/bin/busybox")
    script = "cd /bin; ./busybox mkdir -p /srv/d; echo hello > /srv/d/f; ./busybox chown 33:34 /srv/d/f"
    stack.ok(*run, "sh", "-ec", script)
    stack.ok("cp", "-a", "web:/srv/d", "kept")
    assert owners(stack.folder / "kept/f") == (33, 34)
    stack.ok("cp", "web:/srv/d", "mine")
    assert owners(stack.folder / "mine/f") == (0, 0)
    stack.ok("cp", "kept", "web:/data/root")
    stack.ok("cp", "-a", "kept", "web:/srv/same")
    listed = stack.ok(*run, "stat", "-c", "%u:%g", "/data/root/f", "/srv/same/f", "/data/root")
    assert listed.split() == ["0:0", "33:34", "0:0"]
    assert owners(stack.folder / "data/root/f") == (0, 0)
    stack.ok("export", "web", "-o", "web.tar")
    with tarfile.open(stack.folder / "web.tar") as archive:
        entry = archive.getmember("./srv/d/f")
        assert (entry.uid, entry.gid) == (33, 34)
        assert archive.getmember("./srv").uid == 0


def test_top_tells_the_users_of_the_container(host: Host) -> None:
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d")
    assert stack.ok("top").splitlines()[1].split()[2] == "root"


def test_secrets_and_configs_have_the_owners_they_ask_for(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            userns_mode: private
            command: sleep 1000
            secrets: [{source: s, uid: "33", gid: "34", mode: 0400}]
            configs: [c]
            tmpfs: ["/t:uid=33,mode=700"]
        secrets: {s: {file: ./s}}
        configs: {c: {content: hello}}
        """,
        files={"s": "hidden"},
    )
    stack.ok("up", "-d")
    listed = stack.ok(
        *("exec", "-T", "web", "stat", "-c", "%u:%g:%a", "/run/secrets/s", "/c", "/t", "/etc/hosts")
    )
    assert listed.split() == ["33:34:400", "0:0:444", "33:0:700", "0:0:644"]
    assert stack.ok("exec", "-T", "-u", "33", "web", "cat", "/run/secrets/s") == "hidden"
    assert stack("exec", "-T", "-u", "34", "web", "cat", "/run/secrets/s").returncode != 0


def test_who_shares_a_namespace_shares_the_user_namespace(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web: {image: host, userns_mode: private, command: sleep 1000, ipc: shareable}
          spy:
            image: host
            command: sleep 1000
            network_mode: service:web
            pid: service:web
            ipc: service:web
            userns_mode: private
            cap_add: [SYS_PTRACE]
          alone: {image: host, userns_mode: private, command: sleep 1000}
        """
    )
    stack.ok("up", "-d")
    spaces = {name: os.readlink(f"/proc/{pid(stack, name)}/ns/user") for name in ("web", "spy", "alone")}
    assert spaces["web"] == spaces["spy"] != spaces["alone"]
    assert first(stack, "alone") == first(stack, "web")
    script = "touch /dev/shm/x /srv/y; cat /proc/1/root/etc/hostname > /dev/null; kill -0 1; id -u"
    assert stack.ok("exec", "-T", "spy", "sh", "-ec", script) == "0\n"
    assert stack.ok("exec", "-T", "web", "stat", "-c", "%u", "/dev/shm/x") == "0\n"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"privileged": True}, "it is privileged"),
        ({"network_mode": "host"}, "it is on the host's network"),
        ({"cap_add": ["SYS_TIME"]}, "it has capabilities over the machine"),
        ({"user": "70000"}, "its user has ids above 65535"),
        ({"volumes": ["/proc:/p:ro"]}, "/proc, mounted at /p, belongs to the host's own services"),
    ],
)
def test_who_asks_for_the_host_runs_as_with_docker(host: Host, fields: dict[str, Any], why: str) -> None:
    service = {"image": "host", "command": "sleep 1000", **fields}
    stack = host.stack(json.dumps({"services": {"web": service}}))
    environment = {"COMPOSER_USERNS": "private"}
    stack.ok("up", "-d", env=environment)
    assert first(stack) == 0
    (row,) = json.loads(stack.ok("container", "inspect", f"{stack.name}-web-1"))
    assert row["HostConfig"]["UsernsMode"] == "host"
    assert row["HostConfig"]["UsernsReason"] == why
    stack.ok("down", "-t", "0")
    stack.rewrite(json.dumps({"services": {"web": service | {"userns_mode": "private"}}}))
    done = stack("up", "-d")
    assert done.returncode == 1
    assert why in done.stderr


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that cannot be id-mapped."""
    place = tmp_path / "strange"
    for name in ("strange", "lower", "upper", "work"):
        (tmp_path / name).mkdir()
    mount(
        "overlay", place, "overlay", 0, ",".join(f"{x}dir={tmp_path / x}" for x in ("lower", "upper", "work"))
    )
    yield place
    unmount(place)


def test_what_cannot_be_shown_is_said_and_runs_as_with_docker(host: Host, strange: Path) -> None:
    service = {"image": "host", "command": "sleep 1000", "volumes": [f"{strange}:/data"]}
    stack = host.stack(json.dumps({"services": {"web": service}}))
    done = stack("up", "-d", env={"COMPOSER_USERNS": "private"})
    assert done.returncode == 0
    assert f"{strange}, mounted at /data, {userns.NO_IDMAP}" in done.stderr
    assert first(stack) == 0
    stack.ok("exec", "-T", "web", "touch", "/data/made")
    assert owners(strange / "made") == (0, 0)


def test_what_cannot_be_shown_is_said_once(host: Host, strange: Path) -> None:
    service = {"image": "host", "command": "sleep 1000", "init": True, "volumes": [f"{strange}:/data"]}
    stack = host.stack(json.dumps({"services": {"web": service, "two": service}}))
    private = {"COMPOSER_USERNS": "private"}
    told = [stack("up", "-d", *more, env=private).stderr for more in ((), ("--force-recreate",))]
    stack.ok("down")
    told.append(stack("up", "-d", env=private).stderr)
    assert [text.count("runs without a user namespace") for text in told] == [1, 0, 0]
    for service_name in ("web", "two"):
        (row,) = json.loads(stack.ok("container", "inspect", f"{stack.name}-{service_name}-1"))
        assert userns.NO_IDMAP in json.dumps(row)


def test_the_host_is_asked_once(host: Host) -> None:
    stack = host.stack(SLEEPER)
    stack.ok("up", "-d")
    known = host.root / "run/userns.json"
    asked = json.loads(known.read_text())
    assert asked["obstacle"] == ""
    stack.ok("down", "-t", "0")
    known.write_text(json.dumps(asked | {"obstacle": "the moon is full"}))
    done = stack("up", "-d")
    assert done.returncode == 1
    assert "userns_mode private cannot be: the moon is full" in done.stderr
    (row,) = (
        row for row in json.loads(stack("doctor", "--format", "json").stdout) if "user n" in row["title"]
    )
    assert row["state"] == "warning"
    assert "the moon is full" in row["text"]


def test_stacks_have_ranges_of_their_own(host: Host) -> None:
    one, two = host.stack(SLEEPER, "one"), host.stack(SLEEPER, "two")
    one.ok("up", "-d")
    two.ok("up", "-d")
    assert abs(first(one) - first(two)) >= 65536
    before = first(two)
    two.ok("restart", "-t", "0")
    assert first(two) == before


def test_ranges_of_stacks_that_are_gone_are_given_again(host: Host) -> None:
    one, two = host.stack(SLEEPER, "one"), host.stack(SLEEPER, "two")
    one.ok("up", "-d")
    before = first(one)
    one.ok("down", "-t", "0")
    two.ok("up", "-d")
    assert first(two) == before


OWNER = """
services:
  root:
    image: host
    userns_mode: MODE
    command: sleep 1000
    volumes: [{type: bind, source: ./data, target: /data, bind: {x-owner: true}}]
  other:
    image: host
    userns_mode: MODE
    command: sleep 1000
    volumes: [{type: bind, source: ./data, target: /data, bind: {x-owner: www-data}}]
"""


@pytest.mark.parametrize("mode", ["host", "private"])
@pytest.mark.parametrize("developer", [(1000, 1001), (1_234_567, 1_234_568)])
def test_sources_keep_the_developers_ownership(host: Host, mode: str, developer: tuple[int, int]) -> None:
    stack = host.stack(OWNER.replace("MODE", mode), files={"data/mine": "text"})
    for path in (stack.folder / "data", stack.folder / "data/mine"):
        os.chown(path, *developer)
        path.chmod(0o700)
    stack.ok("up", "-d")
    stack.ok("exec", "-T", "root", "sh", "-ec", "cat /data/mine; echo x > /data/made; mkdir /data/folder")
    stack.ok("exec", "-T", "-u", "www-data", "other", "sh", "-ec", "cat /data/mine; echo x > /data/upload")
    listed = stack.ok("exec", "-T", "other", "stat", "-c", "%U:%G", "/data/mine", "/data/made")
    assert listed.split() == ["www-data:www-data"] * 2
    for name in ("made", "folder", "upload"):
        assert owners(stack.folder / "data" / name) == developer


def test_an_owner_must_be_one(host: Host) -> None:
    stack = host.stack(OWNER.replace("MODE", "host").replace("www-data", "nobody-knows"))
    done = stack("up", "-d")
    assert done.returncode == 1
    assert "there is no user nobody-knows" in done.stderr
    stack.rewrite(OWNER.replace("www-data", "[1]"))
    done = stack("config", "-q")
    assert done.returncode == 1
    assert "x-owner: must be true, false, or a user of the container" in done.stderr
