"""Each field of `process` and of `linux`, as the kernel shows it from inside."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from composer.runtime import cgroup
from composer.runtime.create import Stdio, StepError
from composer.runtime.sysctl import file_of
from tests.runtime.box import NAMESPACES, Box, drain, finish, output

pytestmark = pytest.mark.kernel

STATUS = "cat /proc/self/status"


def fields(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def with_process(box: Box, script: str, **process: Any) -> str:
    spec = box.spec("sh", "-ec", script)
    spec["process"].update(process)
    result = box.run(spec)
    assert result.status == 0, result.output
    return result.output


def test_user_groups_and_umask(box: Box) -> None:
    user = {"uid": 1000, "gid": 100, "additionalGids": [5, 6], "umask": 0o027}
    status = fields(with_process(box, STATUS, user=user))
    assert status["Uid"].split() == ["1000"] * 4
    assert status["Gid"].split() == ["100"] * 4
    assert status["Groups"].split() == ["5", "6"]
    assert status["Umask"] == "0027"


@pytest.mark.parametrize("user", [{"uid": -1}, {"gid": 2**32 - 1}, {"uid": 2**32 - 1}])
def test_a_user_that_the_kernel_takes_for_none_is_not_root(box: Box, user: dict[str, int]) -> None:
    spec = box.spec("true")
    spec["process"]["user"] = user
    with pytest.raises(StepError, match="is no id of a user or group"):
        box.start(spec)


def test_no_group_of_the_caller_remains(box: Box) -> None:
    assert fields(box.shell(STATUS))["Groups"] == ""


def test_capabilities_in_five_sets(box: Box) -> None:
    given = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }
    user = {"uid": 1000, "gid": 1000}
    status = fields(with_process(box, STATUS, capabilities=given, user=user))
    # After exec a user keeps the ambient ones only, capabilities(7).
    kill = f"{1 << 5:016x}"
    assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {kill}
    assert status["CapBnd"] == f"{1 | 1 << 5 | 1 << 13:016x}"


def test_none_without_capabilities(box: Box) -> None:
    status = fields(with_process(box, STATUS, capabilities={}))
    assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd")} == {"0" * 16}


@pytest.mark.parametrize("locked", [True, False])
def test_no_new_privileges(box: Box, locked: bool) -> None:
    assert fields(with_process(box, STATUS, noNewPrivileges=locked))["NoNewPrivs"] == str(int(locked))


@pytest.mark.parametrize("locked", [True, False])
def test_seccomp_with_and_without_no_new_privileges(box: Box, locked: bool) -> None:
    filter_ = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
    }
    spec = box.spec("sh", "-c", f"{STATUS}; mkdir /x", seccomp=filter_)
    spec["process"]["noNewPrivileges"] = locked
    output, status = box.run(spec)
    assert fields(output)["Seccomp"] == "2"
    assert "Function not implemented" in output
    assert status == 1


def limit(name: str, soft: int, hard: int) -> dict[str, Any]:
    return {"type": f"RLIMIT_{name}", "soft": soft, "hard": hard}


def test_rlimits(box: Box) -> None:
    limits = [limit("NOFILE", 100, 200), limit("CORE", 0, 0)]
    text = with_process(box, "cat /proc/self/limits", rlimits=limits)
    rows = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}
    assert rows["Max open files"] == ["100", "200"]
    assert rows["Max core file size"] == ["0", "0"]


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ([{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}], "RLIMIT_FUN: no such limit"),
        ([{"type": "RLIMIT_AS", "soft": 1, "hard": 1}] * 2, "RLIMIT_AS: is given twice"),
    ],
)
def test_wrong_rlimits(box: Box, limits: list[dict[str, Any]], text: str) -> None:
    spec = box.spec("sh")
    spec["process"]["rlimits"] = limits
    with pytest.raises(StepError, match=text):
        box.create(spec)


def test_even_limits_that_would_hinder_the_runtime(box: Box) -> None:
    limits = [limit("NOFILE", 4, 4), limit("AS", 1 << 23, 1 << 23)]
    assert with_process(box, "echo fine", rlimits=limits) == "fine\n"


def test_oom_score(box: Box) -> None:
    assert with_process(box, "cat /proc/self/oom_score_adj", oomScoreAdj=321) == "321\n"


def test_scheduler_and_io_priority(box: Box) -> None:
    process = {
        "scheduler": {"policy": "SCHED_BATCH", "nice": 7},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
    }
    spec = box.spec("sleep", "100")
    spec["process"].update(process)
    container = box.start(spec)
    assert os.sched_getscheduler(container.pid) == os.SCHED_BATCH
    assert os.getpriority(os.PRIO_PROCESS, container.pid) == 7
    with open(f"/proc/{container.pid}/stat") as stat:
        assert stat.read().split()[18] == "7"


def test_who_cannot_be_scheduled_is_ended(box: Box) -> None:
    path = f"/{box.name}"
    spec = box.spec("true", cgroupsPath=path)
    spec["process"]["scheduler"] = {"policy": "SCHED_OF_TOMORROW"}
    with pytest.raises(StepError, match="no such policy"):
        box.create(spec)
    assert cgroup.open(path).pids() == []


def test_personality(box: Box) -> None:
    assert box.shell("uname -m", personality={"domain": "LINUX32"}).strip() in ("i686", "armv8l")


def test_hostname_and_domainname(box: Box) -> None:
    spec = box.spec("sh", "-ec", "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname")
    spec |= {"hostname": "box", "domainname": "example"}
    assert box.run(spec).output.split() == ["box", "example"]


def test_the_machine_keeps_its_hostname(box: Box) -> None:
    spec = box.spec("sh")
    spec["hostname"] = "mine"
    spec["linux"]["namespaces"] = [row for row in spec["linux"]["namespaces"] if row["type"] != "uts"]
    with pytest.raises(StepError, match="hostname: needs a uts namespace"):
        box.create(spec)


def test_sysctl_of_its_own_namespaces(box: Box) -> None:
    values = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "100", "kernel/msgmax": "4096"}
    show = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni /proc/sys/kernel/msgmax"
    assert box.shell(show, sysctl=values).split() == ["1", "100", "4096"]


@pytest.mark.parametrize(
    "name", ["kernel.core_pattern", "vm.swappiness", "kernel.modprobe", "net/../kernel/panic"]
)
def test_sysctl_of_the_machine_is_refused(box: Box, name: str) -> None:
    with pytest.raises(StepError) as caught:
        box.create(box.spec("sh", sysctl={name: "1"}))
    assert caught.value.step == "sysctl"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/mtu", "net/ipv4/conf/eth0.1/mtu"),
        ("net.ipv4.conf.eth0/1.mtu", "net/ipv4/conf/eth0.1/mtu"),
    ],
)
def test_sysctl_names(name: str, file: str) -> None:
    assert file_of(name) == file


def test_time_offsets(box: Box) -> None:
    spec = box.spec("cat", "/proc/uptime", timeOffsets={"boottime": {"secs": 1_000_000}})
    spec["linux"]["namespaces"].append({"type": "time"})
    assert float(box.run(spec).output.split()[0]) > 1_000_000


def test_the_working_directory_is_made(box: Box) -> None:
    assert with_process(box, "pwd", cwd="/srv/new/deep") == "/srv/new/deep\n"


def test_a_directory_that_leads_out_is_refused(box: Box) -> None:
    """CVE-2024-21626: a descriptor of the host by way of /proc."""
    for cwd in ("/proc/self/fd/7", "/proc/self/fd/3/../../../"):
        spec = box.spec("sh")
        spec["process"]["cwd"] = cwd
        with pytest.raises(StepError):
            box.create(spec)


def test_default_devices(box: Box) -> None:
    text = box.shell("cd /dev; for f in null zero full random urandom tty; do stat -c '%n %t %T %a' $f; done")
    assert text.split("\n")[:6] == [
        *("null 1 3 666", "zero 1 5 666", "full 1 7 666"),
        *("random 1 8 666", "urandom 1 9 666", "tty 5 0 666"),
    ]


def test_more_devices(box: Box) -> None:
    devices = [
        {"type": "c", "path": "/dev/mine", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 5, "gid": 6},
        {"type": "p", "path": "/dev/deep/fifo"},
    ]
    text = box.shell("stat -c '%F %t %T %a %u %g' /dev/mine /dev/deep/fifo", devices=devices)
    assert text == "character special file 1 3 600 5 6\nfifo 0 0 666 0 0\n"


def test_masked_and_readonly_paths(box: Box) -> None:
    (box.layer / "secret").write_text("hidden\n")
    (box.layer / "folder").mkdir()
    (box.layer / "folder" / "inside").write_text("hidden\n")
    paths = ["/secret", "/folder", "/proc/kcore", "/absent", "/proc/keys"]
    text = box.shell(
        "cat /secret /proc/keys; ls -A /folder; touch /folder/x 2>&1 || touch /bin/x 2>&1 || echo end",
        maskedPaths=paths,
        readonlyPaths=["/bin", "/proc/sys", "/absent"],
    )
    assert "hidden" not in text
    assert text.count("Read-only file system") == 2


@pytest.mark.parametrize("shared", [("mount",), NAMESPACES])
def test_in_the_mount_namespace_of_the_host_nothing_is_left_there(box: Box, shared: tuple[str, ...]) -> None:
    """The tree is attached nowhere; who joins gets the same root."""
    script = "stat -c %N /proc/self/ns/mnt; ls /; touch /bin/x 2>&1; exec sleep 100"
    spec = box.spec("sh", "-c", script, readonlyPaths=["/bin"], maskedPaths=["/bin/masked"])
    spec["linux"]["namespaces"] = [row for row in spec["linux"]["namespaces"] if row["type"] not in shared]
    (box.layer / "bin" / "masked").write_text("hidden")
    spec["mounts"].append({"destination": "/mark", "type": "tmpfs", "source": box.name})
    with output() as (reader, writer):
        container = box.start(spec, Stdio(-1, writer, writer))
        os.close(writer)
        here = os.readlink("/proc/self/ns/mnt")
        assert os.readlink(f"/proc/{container.pid}/ns/mnt") == here
        inside = box.exec(container, spec, "sh", "-c", "ls /; cat /bin/masked; cat /proc/1/comm")
        assert box.name not in Path("/proc/self/mountinfo").read_text()
        finish(container.pidfd)
        said = drain(reader)
    assert inside.output.split()[:3] == ["bin", "dev", "mark"]
    assert "hidden" not in inside.output
    assert here in said.split("\n")[0]
    assert "Read-only file system" in said


@pytest.mark.parametrize("locked", [True, False])
def test_a_filter_may_know_less_than_the_runtime_uses(box: Box, locked: bool) -> None:
    """A profile as old as Docker's of 2020 refuses what is newer: nothing of that may come after it."""
    newer = ["close_range", "openat2", "clone3", "pidfd_open", "mount_setattr", "faccessat2"]
    rules = [{"names": newer, "action": "SCMP_ACT_ERRNO"}]
    spec = box.spec("true", seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    spec["process"]["noNewPrivileges"] = locked
    assert box.run(spec).status == 0


def test_joining_namespaces_by_path(box: Box) -> None:
    first = box.start(box.spec("sleep", "100"))
    spec = box.spec("sh", "-c", "ls -l /proc/self/ns; ls -d /proc/[0-9]*")
    names = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts"}
    paths = {kind: f"/proc/{first.pid}/ns/{name}" for kind, name in names.items()}
    spec["linux"]["namespaces"] = [
        {"type": row["type"], **({"path": paths[row["type"]]} if row["type"] in paths else {})}
        for row in spec["linux"]["namespaces"]
    ]
    output = box.run(spec).output
    assert {os.readlink(path) for path in paths.values()} <= set(output.split())
    assert "/proc/1\n" in output


def test_joining_a_cgroup_namespace(box: Box) -> None:
    """Of a group that is not above its own, so it sees a way out of that one and into its own."""
    first = box.start(box.spec("sleep", "100", cgroupsPath=f"/{box.name}/first"))
    box.groups.append(f"/{box.name}")
    spec = box.spec("sleep", "100", cgroupsPath=f"/{box.name}/second")
    for row in spec["linux"]["namespaces"]:
        if row["type"] == "cgroup":
            row["path"] = f"/proc/{first.pid}/ns/cgroup"
    second = box.start(spec)
    inside = box.exec(second, spec, "sh", "-c", "ls -l /proc/self/ns/cgroup; cat /proc/self/cgroup").output
    assert os.readlink(f"/proc/{first.pid}/ns/cgroup") in inside
    assert ":/../second" in inside


def test_joining_a_mount_namespace(box: Box) -> None:
    """The container's root comes into it; nothing of that shows outside."""
    ready, wake = os.pipe()
    other = subprocess.Popen(["unshare", "--mount", "cat"], stdin=ready, stdout=subprocess.DEVNULL)
    try:
        place = f"/proc/{other.pid}/ns/mnt"
        deadline = time.monotonic() + 10
        while os.readlink(place) == os.readlink("/proc/self/ns/mnt"):
            assert time.monotonic() < deadline
        spec = box.spec("sh", "-c", "ls -l /proc/self/ns/mnt; ls /bin/busybox")
        for row in spec["linux"]["namespaces"]:
            if row["type"] == "mount":
                row["path"] = place
        result = box.run(spec)
        assert os.readlink(place) in result.output
        assert result.status == 0
    finally:
        os.close(wake)
        os.close(ready)
        other.wait()


def test_rootfs_propagation(box: Box) -> None:
    for propagation, mark in (
        *(("", None), ("private", None), ("shared", "shared"), ("rshared", "shared")),
        *(("unbindable", "unbindable"), ("runbindable", "unbindable")),
    ):
        text = box.shell("cat /proc/self/mountinfo", rootfsPropagation=propagation)
        (row,) = [line for line in text.splitlines() if line.split()[4] == "/"]
        found = re.search(r" (shared|unbindable)\b", row)
        assert (found and found[1]) == mark
    with pytest.raises(StepError, match="'fun' is not known"):
        box.create(box.spec("sh", rootfsPropagation="fun"))


@pytest.mark.parametrize("propagation", ["", "private", "slave", "rslave", "shared", "rshared", "unbindable"])
def test_what_is_mounted_in_a_container_is_not_so_on_the_host(box: Box, propagation: str) -> None:
    """Where the host's root is shared, as systemd has it: here a mount that holds the container's root."""
    root, peer = box.directory / "root", box.directory / "peer"
    peer.mkdir()
    shutil.copytree(box.layer, root, symlinks=True)
    subprocess.run(["mount", "--bind", root, root], check=True)
    subprocess.run(["mount", "--make-shared", root], check=True)
    subprocess.run(["mount", "--bind", root, peer], check=True)
    try:
        spec = box.spec("sleep", "100", rootfsPropagation=propagation)
        container = box.start(spec, overlay=None)
        for place in (root, peer):
            assert list((place / "proc").iterdir()) == []
        (root / "late").mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "late", root / "late"], check=True)
        table = Path(f"/proc/{container.pid}/mountinfo").read_text()
        assert (" /late " in table) == propagation.endswith("slave")
    finally:
        for place in (peer, root):
            subprocess.run(["umount", "--recursive", place], check=True)


def test_an_unbindable_mount_stays_one(box: Box) -> None:
    spec = box.spec("cat", "/proc/self/mountinfo")
    spec["mounts"].append({"destination": "/mnt", "type": "tmpfs", "options": ["unbindable"]})
    (row,) = [line for line in box.run(spec).output.splitlines() if line.split()[4] == "/mnt"]
    assert " unbindable " in row


@pytest.mark.parametrize(
    ("part", "name"),
    [
        *(("linux", name) for name in ("intelRdt", "netDevices", "memoryPolicy")),
        ("process", "execCPUAffinity"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(box: Box, part: str, name: str) -> None:
    """The last three are of later versions of the specification."""
    spec = box.spec("true")
    spec[part][name] = {"a": "b"}
    with pytest.raises(StepError, match=f"{part}.{name}: is not supported"):
        box.create(spec)


def test_labels_are_never_dropped_in_silence(box: Box) -> None:
    spec = box.spec("sh")
    spec["process"]["apparmorProfile"] = "some-profile"
    with pytest.raises(StepError) as caught:
        box.start(spec)
    assert caught.value.step == "labels"
