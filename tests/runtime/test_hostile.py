"""A program that runs as root in a container with everything at its default, and means harm.

Each attack runs in a container of its own, made from the very bundle that a service without options gets.
It says how the kernel answered; "done" is what must not happen. docs/security.md names these tests beside
each decision.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from composer.bundle import spec as bundle
from composer.bundle.inputs import Binding, HostFacts, Place
from composer.model.stack import FrozenMap, Mount, Service, Stack
from composer.runtime import capabilities, cgroup, protect, seccomp
from composer.runtime.create import Stdio, StepError
from tests.runtime.box import Box, Result, output

pytestmark = pytest.mark.kernel

PYTHON = os.path.realpath(sys.executable)
PRELUDE = """\
import ctypes, errno, json, os, socket, stat, sys

libc = ctypes.CDLL(None, use_errno=True)
ARM = os.uname().machine == "aarch64"

def answer(call, *args):
    "The error that the call met, or done."
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def syscall(x86, arm, *args):
    if libc.syscall(arm if ARM else x86, *args) < 0:
        raise OSError(ctypes.get_errno(), "")

def mount(source, target, kind, flags, data=None):
    if libc.mount(source, target, kind, flags, data) < 0:
        raise OSError(ctypes.get_errno(), "")

def writing(path):
    os.close(os.open(path, os.O_WRONLY))

def node(kind, major, minor):
    path = f"/node-{kind}-{major}-{minor}"
    os.mknod(path, kind | 0o666, os.makedev(major, minor))
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
"""


class Hostile:
    """Makes containers as a service of a stack gets them; keywords are the service's fields."""

    def __init__(self, box: Box) -> None:
        self.box = box
        for name in ("lib", "lib64", "sbin"):
            (box.layer / name).symlink_to(f"usr/{name}")
        (box.layer / "inside").touch()

    def spec(self, *args: str, **fields: Any) -> dict[str, Any]:
        service = Service(name="evil", **fields)
        paths = dict.fromkeys(["/usr", *([] if sys.base_prefix == "/usr" else [sys.base_prefix])])
        place = Place(
            id=uuid4().hex,
            name="evil",
            bindings=tuple(Binding(Mount(type="bind", target=path, read_only=True), path) for path in paths),
            seccomp=None if service.privileged else seccomp.default_profile(frozenset(capabilities.DEFAULT)),
        )
        image = {"Env": ["PATH=/bin:/usr/bin"], "Cmd": list(args)}
        stack = Stack(self.box.name, FrozenMap(evil=service))
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        facts = HostFacts(cgroup=cgroup.layout().kind, open_files=files)
        made = cast("dict[str, Any]", bundle(stack, service, place, image, facts))
        made["linux"]["cgroupsPath"] = f"/{self.box.name}-{place.id[:8]}"
        return made

    def run(self, source: str, **fields: Any) -> Result:
        return self.box.run(self.spec(PYTHON, "-ISc", PRELUDE + textwrap.dedent(source), **fields))

    def ask(self, expression: str, **fields: Any) -> Any:
        """The value of a Python expression in the container."""
        result = self.run(f"print(json.dumps({expression}))", **fields)
        assert result.status == 0, result.output
        return json.loads(result.output)


@pytest.fixture
def hostile(box: Box) -> Hostile:
    return Hostile(box)


# --- what the kernel is asked for, and how it must answer

KERNEL = [
    # mounts, namespaces and processes of others
    ("mount(b'none', b'/inside', b'tmpfs', 0)", "EPERM"),
    ("mount(b'none', b'/sys/fs/cgroup', b'', 32 | 4096)", "EPERM"),
    ("mount(b'none', b'/proc/sys', b'', 32 | 4096)", "EPERM"),
    ("os.unshare(0x10000000) if hasattr(os, 'unshare') else syscall(272, 97, 0x10000000)", "EPERM"),
    ("syscall(272, 97, 0x02000000)", "EPERM"),
    ("syscall(56, 220, 0x10000011, 0, 0, 0, 0)", "EPERM"),
    ("syscall(435, 435, 0, 0)", "ENOSYS"),
    ("syscall(308, 268, os.open('/proc/self/ns/mnt', 0), 0)", "EPERM"),
    ("syscall(155, 41, b'/', b'/')", "EPERM"),
    ("syscall(428, 428, -100, b'/', 1)", "EPERM"),
    ("syscall(430, 430, b'tmpfs', 0)", "EPERM"),
    ("syscall(442, 442, -100, b'/', 0, 0, 0)", "EPERM"),
    ("os.kill(@HOST@, 0)", "ESRCH"),
    # the kernel's own things
    ("syscall(250, 219, 1, 0)", "EPERM"),  # keyctl: keyrings know no namespaces
    ("syscall(248, 217, b'user', b'x', b'y', 1, -3)", "EPERM"),
    ("syscall(321, 280, 0, 0, 0)", "EPERM"),
    ("syscall(298, 241, 0, 0, -1, -1, 0)", "EPERM"),
    ("syscall(323, 282, 0)", "EPERM"),
    ("syscall(425, 425, 1, 0)", "EPERM"),
    ("syscall(304, 265, -100, 0, 0)", "EPERM"),
    ("syscall(175, 105, 0, 0, b'')", "EPERM"),
    ("syscall(246, 104, 0, 0, 0, 0)", "EPERM"),
    ("syscall(167, 224, b'/inside', 0)", "EPERM"),
    ("syscall(169, 142, 0xfee1dead, 672274793, 0, 0)", "EPERM"),
    ("syscall(103, 116, 3, 0, 0)", "EPERM"),
    ("syscall(164, 170, 0, 0)", "EPERM"),
    ("syscall(135, 92, 0x0400000)", "EPERM"),
    ("syscall(163, 89, 0)", "EPERM"),
    ("socket.socket(38, socket.SOCK_SEQPACKET)", "EPERM"),  # AF_ALG
    ("socket.socket(40, socket.SOCK_STREAM)", "EPERM"),  # AF_VSOCK
    # device nodes of its own making: a disk, the kernel's memory and log, fuse, loop devices
    ("node(stat.S_IFBLK, 8, 0)", "EPERM"),
    ("node(stat.S_IFBLK, 254, 0)", "EPERM"),
    ("node(stat.S_IFCHR, 1, 1)", "EPERM"),
    ("node(stat.S_IFCHR, 1, 11)", "EPERM"),
    ("node(stat.S_IFCHR, 10, 229)", "EPERM"),
    ("node(stat.S_IFCHR, 10, 237)", "EPERM"),
    # /proc and /sys
    ("writing('/proc/sys/kernel/core_pattern')", "EROFS"),
    ("writing('/proc/sys/kernel/hostname')", "EROFS"),
    ("writing('/proc/sys/vm/drop_caches')", "EROFS"),
    ("writing('/proc/irq/default_smp_affinity')", "EROFS"),
    ("writing('/sys/kernel/mm/transparent_hugepage/enabled')", "EROFS"),
    ("os.mkdir('/sys/fs/cgroup/mine')", "EROFS"),
    ("os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000')", "EACCES"),
]


@pytest.mark.parametrize(("attack", "expected"), KERNEL, ids=[attack for attack, _ in KERNEL])
def test_kernel_refuses(hostile: Hostile, attack: str, expected: str) -> None:
    attack = attack.replace("@HOST@", str(os.getpid()))
    assert hostile.ask(f"answer(lambda: {attack})") == expected


def test_attacks_can_succeed_where_nothing_guards(hostile: Hostile) -> None:
    """So that the answers above are the guards' and not the attacks' own mistakes."""
    asks = [
        "mount(b'none', b'/proc', b'tmpfs', 0)",
        "syscall(272, 97, 0x02000000)",
        "syscall(250, 219, 1, 0)",
        "node(stat.S_IFCHR, 1, 11)",
        "writing('/proc/sys/kernel/core_pattern')",
    ]
    assert [hostile.ask(f"answer(lambda: {ask})", privileged=True) for ask in asks] == ["done"] * len(asks)


# --- what a container is given


def test_capabilities_filter_and_groups(hostile: Hostile) -> None:
    rows = dict(line.split(":\t", 1) for line in hostile.ask("open('/proc/self/status').read()").splitlines())
    default = f"{capabilities.bits(capabilities.DEFAULT):016x}"
    assert [rows[f"Cap{kind}"] for kind in ("Bnd", "Prm", "Eff")] == [default] * 3
    assert [rows[f"Cap{kind}"] for kind in ("Inh", "Amb")] == ["0" * 16] * 2
    assert rows["Seccomp"] == "2"
    assert rows["Groups"].split() == []


def test_no_new_privileges(hostile: Hostile) -> None:
    status = hostile.ask("open('/proc/self/status').read()", security_opt=("no-new-privileges:true",))
    assert "NoNewPrivs:\t1" in status


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"])
def test_masked_files_are_empty(hostile: Hostile, path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"this kernel has no {path}")
    assert hostile.ask(f"open({path!r}).read(1)") == ""


@pytest.mark.parametrize(
    "path", ["/sys/firmware", "/sys/devices/virtual/powercap", "/proc/scsi", "/proc/acpi"]
)
def test_masked_directories_are_empty(hostile: Hostile, path: str) -> None:
    if not Path(path).is_dir():
        pytest.skip(f"this kernel has no {path}")
    assert hostile.ask(f"os.listdir({path!r})") == []
    assert hostile.ask(f"answer(os.mkdir, {path + '/x'!r})") == "EROFS"


def test_no_descriptor_is_left_open(hostile: Hostile) -> None:
    assert hostile.ask("os.listdir('/proc/self/fd')") == ["0", "1", "2", "3"]  # 3: the listing itself


def test_only_devices_that_harm_nobody(hostile: Hostile) -> None:
    found = hostile.ask(
        "sorted(name for name in os.listdir('/dev') if not stat.S_ISDIR(os.stat('/dev/' + name).st_mode)"
        " and not os.path.islink('/dev/' + name))"
    )
    assert found == ["full", "null", "random", "tty", "urandom", "zero"]


def test_release_agents_are_out_of_reach(hostile: Hostile) -> None:
    """CVE-2022-0492: whoever writes one gets a program run by the host's kernel."""
    found = hostile.ask(
        "{top + name: answer(writing, top + '/' + name)"
        " for top, _, names in os.walk('/sys/fs/cgroup') for name in names"
        " if name in ('release_agent', 'notify_on_release', 'cgroup.procs')}"
    )
    assert found
    assert set(found.values()) == {"EROFS"}


def test_own_group_is_the_root_of_what_it_sees(hostile: Hostile) -> None:
    assert {row.split(":")[2] for row in hostile.ask("open('/proc/self/cgroup').read()").splitlines()} == {
        "/"
    }


# --- ways out


def test_chroot_leads_nowhere(hostile: Hostile) -> None:
    """The old trick: a directory held open outside of a new root, then upwards."""
    names = hostile.run(
        """
        os.mkdir("/cell")
        held = os.open("/", os.O_RDONLY)
        os.chroot("/cell")
        os.fchdir(held)
        for _ in range(100):
            os.chdir("..")
        os.chroot(".")
        print(json.dumps([os.path.exists("/inside"), os.path.exists("/cell")]))
        """
    )
    assert json.loads(names.output) == [True, True]


def test_roots_of_processes_lead_nowhere(hostile: Hostile) -> None:
    assert hostile.ask("os.path.exists('/proc/1/root/../../../inside')") is True
    assert hostile.ask("os.path.samestat(os.stat('/proc/self/root'), os.stat('/..'))") is True


@pytest.mark.parametrize("number", range(3, 24))
def test_working_directory_cannot_be_a_leaked_descriptor(hostile: Hostile, number: int) -> None:
    """CVE-2024-21626: the directory of an image names a descriptor that leads to the host."""
    with pytest.raises(StepError) as caught:
        hostile.run("print(os.getcwd())", working_dir=f"/proc/self/fd/{number}")
    assert caught.value.path.endswith(str(number))


def test_host_sockets_are_out_of_reach(hostile: Hostile) -> None:
    """CVE-2020-15257: abstract sockets belong to the network namespace."""
    name = f"\0composer-{uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        call = f"answer(socket.socket(socket.AF_UNIX).connect, {name!r})"
        assert hostile.ask(call) == "ECONNREFUSED"


def test_device_nodes_of_a_layer_do_not_open(hostile: Hostile) -> None:
    os.mknod(hostile.box.layer / "disk", 0o60666, os.makedev(8, 0))
    os.mknod(hostile.box.layer / "kmsg", 0o20666, os.makedev(1, 11))
    assert hostile.ask("[answer(os.open, path, 0) for path in ('/disk', '/kmsg')]") == ["EPERM"] * 2


def test_user_without_privilege_has_none(hostile: Hostile) -> None:
    spec = hostile.spec(
        *(PYTHON, "-ISc"),
        PRELUDE + "print(json.dumps([os.getgroups(), answer(os.setgroups, [0]), answer(os.setuid, 0),"
        " [row for row in open('/proc/self/status') if row.startswith(('CapEff', 'CapPrm', 'CapAmb'))]]))",
    )
    spec["process"]["user"] = {"uid": 1234, "gid": 1234}
    groups, setgroups, setuid, rows = json.loads(hostile.box.run(spec).output)
    assert (groups, setgroups, setuid) == ([], "EPERM", "EPERM")
    assert [int(row.split()[1], 16) for row in rows] == [0, 0, 0]


def test_unknown_label_is_never_ignored(hostile: Hostile) -> None:
    spec = hostile.spec("true")
    spec["process"]["apparmorProfile"] = "composer-has-no-such-profile"
    with pytest.raises(StepError):
        hostile.box.run(spec)


# --- images and mounts that lie


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    place = tmp_path / "outside"
    place.mkdir()
    (place / "kept").write_text("kept")
    return place


def up_to(path: Path) -> str:
    return "../" * 30 + str(path).lstrip("/")


@pytest.mark.parametrize("link", ["absolute", "relative", "magic"])
def test_mount_targets_that_are_links_stay_inside(hostile: Hostile, outside: Path, link: str) -> None:
    """CVE-2021-30465 and its kin."""
    target = {"absolute": str(outside), "relative": up_to(outside), "magic": f"/proc/1/root{outside}"}[link]
    (hostile.box.layer / "data").symlink_to(target)
    spec = hostile.spec(PYTHON, "-ISc", "open('/data/new', 'w').write('x')")
    spec["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs"})
    try:
        hostile.box.run(spec)
    except StepError:
        pass
    assert [entry.name for entry in outside.iterdir()] == ["kept"]


def test_masking_does_not_trust_the_null_device_of_the_image(hostile: Hostile) -> None:
    """CVE-2025-31133: /dev/null of the image is a link to what should be hidden, or worse."""
    (hostile.box.layer / "dev").mkdir()
    (hostile.box.layer / "dev" / "null").symlink_to("/proc/sys/kernel/core_pattern")
    spec = hostile.spec(PYTHON, "-ISc", PRELUDE + "print(open('/proc/kcore').read(1) + '.')")
    spec["mounts"] = [mount for mount in spec["mounts"] if not mount["destination"].startswith("/dev")]
    try:
        result = hostile.box.run(spec)
    except StepError:
        return
    assert result.output in (".\n", "") or "Error" in result.output


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/sys"])
def test_masks_and_guards_hold_where_the_image_puts_links(hostile: Hostile, outside: Path, path: str) -> None:
    """CVE-2019-16884 and its kin: /proc itself as a link of the image."""
    (hostile.box.layer / "proc").symlink_to(up_to(outside))
    spec = hostile.spec(PYTHON, "-ISc", PRELUDE + "print(answer(writing, '/proc/sys/kernel/core_pattern'))")
    try:
        result = hostile.box.run(spec)
    except StepError:
        return
    assert result.output == "EROFS\n"
    assert [entry.name for entry in outside.iterdir()] == ["kept"]


# --- those who enter

WATCHER = (
    PRELUDE
    + """
import select
print("watching", flush=True)
mine = {os.stat("/proc/self/exe").st_ino, os.stat("/bin/busybox").st_ino}
caught = []
while not select.select([0], [], [], 0)[0]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        for name in ("exe", "cwd", "root", "fd/0", "mem", "environ"):
            try:
                if name in ("mem", "environ"):
                    os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
                    found = os.stat(f"/proc/{pid}/exe").st_ino
                    if found not in mine:
                        caught.append([name, found])
                else:
                    path = os.readlink(f"/proc/{pid}/{name}")
                    if name == "exe" and os.stat(f"/proc/{pid}/{name}").st_ino not in mine:
                        caught.append([name, path])
                    if name in ("cwd", "root") and path != "/":
                        caught.append([name, path])
            except OSError:
                pass
print(json.dumps(caught), flush=True)
"""
)


def watched(reader: int) -> Iterator[str]:
    """Lines as they come."""
    data = b""
    while select.select([reader], [], [], 20)[0]:
        part = os.read(reader, 65536)
        if not part:
            return
        data += part
        while b"\n" in data:
            line, _, data = data.partition(b"\n")
            yield line.decode()


def test_nobody_who_enters_can_be_looked_into(hostile: Hostile) -> None:
    """Its memory, program and descriptors are the host's until it has become the container's program."""
    spec = hostile.spec(PYTHON, "-ISc", WATCHER)
    stop, go = os.pipe()
    with output() as (reader, writer):
        container = hostile.box.start(spec, Stdio(stop, writer, writer))
        os.close(writer)
        lines = watched(reader)
        assert next(lines) == "watching"
        for _ in range(10):
            assert hostile.box.exec(container, spec, "/bin/true").status == 0
        os.write(go, b"x")
        assert json.loads(next(lines)) == []
    os.close(stop)
    os.close(go)


MAKER = """
import sys
from pathlib import Path
from tests.runtime.box import Box
from tests.runtime.test_hostile import Hostile

box = Box(Path(sys.argv[1]))
try:
    hostile = Hostile(box)
    (box.layer / "link").symlink_to("/proc/self/exe")
    (box.layer / "script").write_text("#!/proc/self/exe -IS\\n" + sys.argv[2])
    (box.layer / "script").chmod(0o755)
    print(box.run(hostile.spec("/link", "-ISc", sys.argv[2])).output, end="")
    print(box.run(hostile.spec("/script")).output, end="")
    spec = hostile.spec("sleep", "100")
    print(box.exec(box.start(spec), spec, "/link", "-ISc", sys.argv[2]).output, end="")
finally:
    box.end()
"""
LOOK = """
import os
print("read-only" if os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY else "can be overwritten")
"""


def test_program_of_the_runtime_cannot_be_overwritten(tmp_path: Path) -> None:
    """CVE-2019-5736: an image whose program is /proc/self/exe runs the host's interpreter, and has its file
    in hand.

    Whoever makes containers is therefore started from a mount that nobody can write through.
    """
    program = protect.interpreter()
    command = [sys.executable, "-c", MAKER, str(tmp_path), LOOK]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command,
        executable=f"/proc/self/fd/{program}",
        pass_fds=[program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["read-only"] * 3
