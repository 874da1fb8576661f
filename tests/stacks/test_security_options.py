"""`security_opt` as files have it that were written for Docker."""

from __future__ import annotations

import json
import os

import pytest

from tests.host import Host

pytestmark = pytest.mark.kernel

# Docker's form: the first rule is for others than this container, the second one for it.
PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {
            "names": ["sethostname"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 28,
            "includes": {"caps": ["CAP_SYS_ADMIN"]},
        },
        {
            "names": ["rmdir"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 28,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
        },
    ],
}


def test_a_profile_lies_beside_the_file_and_keeps_its_conditions(host: Host) -> None:
    stack = host.stack(
        """
        services:
          one: {image: host, command: [sleep, "1000"], init: true, security_opt: ["seccomp:./profile.json"]}
        """,
        files={"profile.json": json.dumps(PROFILE)},
    )
    stack.ok("up", "-d")
    for script, said in (("rmdir /tmp", "No space left"), ("hostname x", "must be root")):
        done = stack("exec", "-T", "one", "sh", "-c", script)
        assert said in done.stderr, done.stderr


def test_a_profile_that_is_not_there_is_named(host: Host) -> None:
    stack = host.stack(
        """
        services:
          one: {image: host, command: ["true"], security_opt: ["seccomp=absent.json"]}
        """
    )
    done = stack("up", "-d")
    assert done.returncode == 1
    assert "seccomp profile absent.json: No such file or directory" in done.stderr
    assert "Errno" not in done.stderr


def test_unconfined_needs_no_apparmor(host: Host) -> None:
    stack = host.stack(
        """
        services:
          one: {image: host, command: ["true"], security_opt: ["apparmor:unconfined", "label:disable"]}
        """
    )
    assert "exited with code 0" in stack.ok("up")


@pytest.mark.skipif(os.path.exists("/sys/fs/selinux/enforce"), reason="this kernel has SELinux")
def test_a_label_without_selinux_is_told_by_name(host: Host) -> None:
    stack = host.stack(
        """
        services:
          one: {image: host, command: ["true"], security_opt: ["label=type:mine_t", "label=disable"]}
        """
    )
    told = stack("up", "-d").stderr
    assert "service one: security_opt label=type:mine_t has no effect: this kernel has no SELinux" in told
    assert "disable" not in told


def test_the_hosts_namespaces_all_at_once(host: Host) -> None:
    """Also where the host has no /dev/mqueue to bind."""
    stack = host.stack(
        """
        services:
          one:
            image: host
            command: [sh, -c, "cd /proc/self/ns; readlink pid ipc uts cgroup net; ls /dev/mqueue"]
            pid: host
            ipc: host
            uts: host
            cgroup: host
            network_mode: host
        """
    )
    said = stack.ok("up")
    for kind in ("pid", "ipc", "uts", "cgroup", "net"):
        assert os.readlink(f"/proc/self/ns/{kind}") in said


def test_a_user_beyond_the_ids_of_the_namespace_is_told_the_way_out(host: Host) -> None:
    stack = host.stack(
        """
        services:
          one: {image: host, command: [sleep, "1000"], init: true}
        """
    )
    stack.ok("up", "-d")
    done = stack("exec", "-T", "-u", "99999", "one", "id")
    assert done.returncode != 0
    assert "its user namespace has no row for the id 99999" in done.stderr
    assert "userns_mode: host" in done.stderr
