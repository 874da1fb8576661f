"""Groups on the real kernel, in whatever layout it has."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from composer.runtime import bpf, cgroup, linux
from composer.runtime.cgroup import CgroupError, Group, Layout, devices

pytestmark = pytest.mark.kernel

MIB = 2**20
Program = Callable[..., subprocess.Popen[str]]


def layouts() -> list[Layout]:
    """The host's; a hybrid host can also play one that has no v2."""
    found = cgroup.layout()
    without = found._replace(kind="v1", unified=None, v2=frozenset())
    return [found, without] if found.kind == "hybrid" else [found]


@pytest.fixture(params=layouts(), ids=lambda layout: layout.kind)
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    layout: Layout = request.param
    path = f"/composer-test-{uuid4().hex[:12]}"
    yield cgroup.open(f"{path}/one", layout=layout)
    parent = cgroup.open(path, layout=layout)
    parent.kill()
    parent.remove()
    assert not parent.exists()


@pytest.fixture
def program() -> Iterator[Program]:
    """Starts a Python program whose standard streams are pipes; it is killed afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


IDLE = "import sys; print('up', flush=True); sys.stdin.read()"


def idle(program: Program) -> subprocess.Popen[str]:
    process = program(IDLE)
    assert process.stdout and process.stdout.readline() == "up\n"
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def file(group: Group, *names: str) -> str:
    """The first of the files that exists in any of the group's directories."""
    for directory in group.directories:
        for name in names:
            if (path := Path(directory, name)).exists():
                return path.read_text().strip()
    raise AssertionError(f"none of {names}")


def has(controller: str, v1: str = "") -> bool:
    layout = cgroup.layout()
    return (v1 or controller) in layout.mounts or controller in layout.v2


def need(controller: str, v1: str = "") -> None:
    if not has(controller, v1):
        pytest.skip(f"this kernel has no {controller} controller")


# --- the layout


def test_layout_names_what_is_mounted() -> None:
    layout = cgroup.layout()
    found = [layout.unified] if layout.unified else []
    for point in [*layout.mounts.values(), *found]:
        assert Path(point, "cgroup.procs").exists()
    assert layout.kind == ("v2" if not layout.mounts else "hybrid" if layout.unified else "v1")


def test_group_covers_every_hierarchy(group: Group, program: Program) -> None:
    group.create({})
    process = idle(program)
    group.join(process.pid)
    rows = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
    assert all(row.endswith(f":{group.path}") for row in rows if group.unified or not row.startswith("0::"))
    assert group.pids() == [process.pid]


def test_relative_path_counts_from_the_callers_group(group: Group) -> None:
    if group.layout != cgroup.layout():
        pytest.skip("a caller has a group of its own in the host's layout only")
    source = f"""if 1:
        import json, os
        from composer.runtime import cgroup
        outer = cgroup.open({group.path!r})
        outer.create({{}})
        outer.enter(cloned=False)
        print(json.dumps(cgroup.open('below/it').directories))
    """
    done = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, check=True)
    base = cgroup.open(group.path if cgroup.layout().kind != "v2" else os.path.dirname(group.path))
    assert json.loads(done.stdout) == [f"{directory}/below/it" for directory in base.directories]


@pytest.mark.parametrize("path", ["", "/", ".", "/a/../b", "..", "a\0b", "/" + "x" * 4000])
def test_paths_that_name_no_group(path: str) -> None:
    with pytest.raises(CgroupError, match="cgroupsPath"):
        cgroup.open(path)


# --- limits


LIMITS: list[tuple[str, str, dict[str, Any], tuple[str, ...], str]] = [
    (
        "memory",
        "",
        {"memory": {"limit": 64 * MIB}},
        ("memory.limit_in_bytes", "memory.max"),
        str(64 * MIB),
    ),
    (
        "memory",
        "",
        {"memory": {"reservation": 32 * MIB}},
        ("memory.soft_limit_in_bytes", "memory.low"),
        str(32 * MIB),
    ),
    ("pids", "", {"pids": {"limit": 33}}, ("pids.max",), "33"),
    ("pids", "", {"pids": {"limit": -1}}, ("pids.max",), "max"),
    ("cpu", "", {"cpu": {"idle": 1}}, ("cpu.idle",), "1"),
    ("cpuset", "", {"cpu": {"cpus": "0", "mems": "0"}}, ("cpuset.cpus",), "0"),
]


@pytest.mark.parametrize(("controller", "v1", "limits", "files", "content"), LIMITS)
def test_limits_reach_the_kernel(
    group: Group, controller: str, v1: str, limits: dict[str, Any], files: tuple[str, ...], content: str
) -> None:
    need(controller, v1)
    group.create(limits)
    assert file(group, *files) == content


def test_processor_time(group: Group) -> None:
    need("cpu")
    group.create({"cpu": {"shares": 2048, "quota": 50_000, "period": 200_000, "burst": 10_000}})
    assert file(group, "cpu.shares", "cpu.weight") in ("2048", "200")
    if "cpu" in cgroup.layout().mounts:
        assert (file(group, "cpu.cfs_quota_us"), file(group, "cpu.cfs_period_us")) == ("50000", "200000")
    else:
        assert file(group, "cpu.max") == "50000 200000"
    assert file(group, "cpu.cfs_burst_us", "cpu.max.burst") == "10000"


def test_new_period_keeps_the_quota(group: Group) -> None:
    need("cpu")
    group.create({"cpu": {"quota": 50_000, "period": 200_000}})
    group.update({"cpu": {"period": 100_000}})
    if "cpu" in cgroup.layout().mounts:
        assert (file(group, "cpu.cfs_quota_us"), file(group, "cpu.cfs_period_us")) == ("50000", "100000")
    else:
        assert file(group, "cpu.max") == "50000 100000"


@pytest.mark.parametrize("limits", [(64, 128), (256, 512), (32, 32), (512, 512), (16, 1024)])
def test_memory_and_swap_in_any_order(group: Group, limits: tuple[int, int]) -> None:
    need("memory")
    group.create({"memory": {"limit": 128 * MIB, "swap": 128 * MIB}})
    group.update({"memory": {"limit": limits[0] * MIB, "swap": limits[1] * MIB}})
    memory = group.stats()["memory"]
    assert memory["limit"] == limits[0] * MIB
    assert memory["swap_limit"] == (limits[1] - limits[0]) * MIB


def test_limits_swap_is_what_the_kernel_does(group: Group) -> None:
    group.create({"memory": {"limit": 50 * MIB}})
    files = [
        f"{d}/{f}" for d in group.directories for f in ("memory.memsw.limit_in_bytes", "memory.swap.max")
    ]
    assert cgroup.limits_swap(group.layout) == any(os.path.exists(file) for file in files)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((), True),
        (("cgroup.procs", "a/cgroup.procs"), True),
        (("a/memory.max", "a/memory.swap.max"), True),
        (("a/memory.max",), False),
    ],
)
def test_limits_swap_on_v2(tmp_path: Path, files: tuple[str, ...], expected: bool) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert cgroup.limits_swap(Layout("v2", {}, str(tmp_path))) == expected


@pytest.mark.parametrize("file", ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"])
def test_limits_swap_on_v1(tmp_path: Path, file: str) -> None:
    (tmp_path / file).touch()
    assert cgroup.limits_swap(Layout("v1", {"memory": str(tmp_path)}, None)) == ("memsw" in file)


def test_update_checks_what_is_in_use(group: Group) -> None:
    need("memory")
    group.create({})
    with pytest.raises(CgroupError, match=r"linux\.resources\.memory\.limit: 1 is below"):
        pid = os.fork()
        if pid == 0:
            group.enter(cloned=False)
            bytearray(4 * MIB)
            os._exit(0)
        os.waitpid(pid, 0)
        group.update({"memory": {"limit": 1, "checkBeforeUpdate": True}})


def test_refused_value_names_field_file_and_reason(group: Group) -> None:
    need("cpuset")
    with pytest.raises(CgroupError) as caught:
        group.create({"cpu": {"cpus": "4000"}})
    error = caught.value
    assert error.field == "cpu.cpus" and error.path.endswith("cpuset.cpus") and error.errno and error.hint
    assert "linux.resources.cpu.cpus" in str(error) and "'4000'" in str(error)


def test_huge_pages(group: Group) -> None:
    if "hugetlb" not in cgroup.layout().mounts and not group.unified:
        pytest.skip("no hugetlb controller in this layout")
    need("hugetlb")
    size = "2MB"
    group.create({"hugepageLimits": [{"pageSize": size, "limit": 4 * MIB}]})
    assert file(group, f"hugetlb.{size}.limit_in_bytes", f"hugetlb.{size}.max") == str(4 * MIB)


def test_group_in_use_is_not_taken_over(group: Group, program: Program) -> None:
    group.create({})
    group.create({})
    group.join(idle(program).pid)
    with pytest.raises(CgroupError, match="in use"):
        group.create({})


# --- processes


def test_enter_needs_no_help_from_outside(group: Group) -> None:
    group.create({})
    reader, writer = os.pipe()
    into = os.open(group.unified, os.O_RDONLY) if group.unified else -1
    pid, descriptor = linux.clone(0, cgroup=into)
    if pid == 0:
        group.enter(cloned=into >= 0)
        os.write(writer, Path("/proc/self/cgroup").read_bytes())
        os._exit(0)
    os.close(writer)
    rows = os.read(reader, 65536).decode().splitlines()
    os.waitpid(pid, 0)
    for each in (reader, descriptor, into):
        if each >= 0:
            os.close(each)
    assert rows
    assert all(row.endswith(f":{group.path}") for row in rows if group.unified or not row.startswith("0::"))


FORKING = """if 1:
    import os, sys
    for _ in range(20):
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            sys.stdin.read()
            os._exit(0)
    sys.stdin.read()
"""


def forking(group: Group, program: Program) -> subprocess.Popen[str]:
    process = program("import sys; sys.stdin.readline()\n" + FORKING)
    group.join(process.pid)
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()
    for _ in range(20):
        line(process)
    return process


def test_kill_ends_everything_at_once(group: Group, program: Program) -> None:
    group.create({})
    process = forking(group, program)
    assert len(group.pids()) == 21
    group.kill()
    assert group.pids() == []
    assert process.wait() == -signal.SIGKILL
    group.remove()
    assert not group.exists()


def test_kill_reaches_what_is_frozen(group: Group, program: Program) -> None:
    group.create({})
    process = forking(group, program)
    group.freeze()
    group.kill()
    assert process.wait() == -signal.SIGKILL


def test_kill_reaches_groups_below(group: Group, program: Program) -> None:
    group.create({})
    below = cgroup.open(f"{group.path}/deeper/still", layout=group.layout)
    below.create({})
    inner = idle(program)
    below.join(inner.pid)
    group.kill()
    assert inner.wait() == -signal.SIGKILL
    group.remove()
    assert not group.exists() and not below.exists()


def test_kill_reaches_strays_in_one_hierarchy(group: Group, program: Program) -> None:
    if len(group.directories) == 1:
        pytest.skip("with one hierarchy nobody can stray")
    group.create({})
    stray = idle(program)
    Path(group.directories[0], "cgroup.procs").write_text(str(stray.pid))
    group.kill()
    assert stray.wait() == -signal.SIGKILL


@pytest.mark.parametrize("lost", [0, -1])
def test_half_made_group_is_killed_and_removed(group: Group, program: Program, lost: int) -> None:
    if len(group.directories) == 1:
        pytest.skip("one directory is there or not")
    group.create({})
    process = idle(program)
    kept = [directory for directory in group.directories if directory != group.directories[lost]]
    os.rmdir(group.directories[lost])
    for directory in kept:
        Path(directory, "cgroup.procs").write_text(str(process.pid))
    group.kill()
    assert process.wait() == -signal.SIGKILL
    group.remove()
    assert not group.exists()


def test_remove_refuses_while_something_runs(group: Group, program: Program) -> None:
    group.create({})
    process = idle(program)
    group.join(process.pid)
    with pytest.raises(CgroupError, match=rf"still holds processes: \[{process.pid}\]"):
        group.remove()


def test_gone_group_is_quiet(group: Group) -> None:
    group.create({})
    group.remove()
    group.kill()
    group.remove()
    assert group.pids() == [] and not group.exists() and group.oom_kills() == 0
    with pytest.raises(CgroupError):
        group.stats()


def test_frozen_processes_stand_still(group: Group, program: Program) -> None:
    group.create({})
    process = program("import sys\nfor line in sys.stdin: print('echo', flush=True)")
    group.join(process.pid)
    assert process.stdin and process.stdout
    group.freeze()
    assert group.frozen
    process.stdin.write("one\n")
    process.stdin.flush()
    before = group.stats().get("cpu", {}).get("usage", 0)
    assert select.select([process.stdout], [], [], 0.05)[0] == []
    assert group.stats().get("cpu", {}).get("usage", 0) == before
    group.thaw()
    assert line(process) == "echo"
    assert file(group, "cgroup.freeze", "freezer.state") in ("0", "THAWED")


def test_joining_a_process_that_ended(group: Group, program: Program) -> None:
    group.create({})
    process = idle(program)
    process.kill()
    process.wait()
    with pytest.raises(CgroupError, match="No such process"):
        group.join(process.pid)


# --- figures


def test_stats_count_processor_memory_and_processes(group: Group, program: Program) -> None:
    need("memory")
    group.create({"memory": {"limit": 256 * MIB}, "pids": {"limit": 10}})
    process = program(
        "import sys, time; sys.stdin.readline(); data = bytearray(b'x') * (32 << 20)\n"
        "while time.process_time() < 0.05: pass\n"
        "print('done', flush=True); sys.stdin.read()"
    )
    group.join(process.pid)
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()
    assert line(process) == "done"
    stats = group.stats()
    assert 20_000_000 < stats["cpu"]["usage"] < 60 * 10**9
    # The split is counted by ticks of the clock.
    assert stats["cpu"]["user"] + stats["cpu"]["system"] > 0
    assert 32 * MIB <= stats["memory"]["anon"] <= stats["memory"]["usage"] <= 256 * MIB
    assert stats["memory"]["limit"] == 256 * MIB and stats["memory"]["oom_kills"] == 0
    assert stats["pids"] == {"current": 1, "limit": 10}


def test_running_out_of_memory_is_told_and_counted(group: Group, program: Program) -> None:
    need("memory")
    group.create({"memory": {"limit": 16 * MIB, "swap": 16 * MIB}})
    event = group.oom_event()
    assert event is not None
    process = program("import sys; sys.stdin.readline(); bytearray(b'x') * (64 << 20)")
    group.join(process.pid)
    assert group.oom_kills() == 0
    process.communicate("go\n")
    poller = select.poll()
    poller.register(event, select.POLLIN)
    assert poller.poll(10_000)
    os.close(event)
    assert process.returncode == -signal.SIGKILL
    assert group.oom_kills() == 1 == group.stats()["memory"]["oom_kills"]


# --- devices

DENY_ALL = {"allow": False, "access": "rwm"}
NULL = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}

# Rules; then (device, mode) → whether opening works.
DEVICE_CASES: list[tuple[list[dict[str, Any]], dict[tuple[str, int], bool]]] = [
    ([], {("null", os.O_RDWR): True, ("zero", os.O_RDWR): True}),
    ([DENY_ALL], {("null", os.O_RDONLY): False, ("zero", os.O_RDWR): False}),
    ([DENY_ALL, NULL], {("null", os.O_RDWR): True, ("zero", os.O_RDONLY): False}),
    (
        [DENY_ALL, {**NULL, "access": "r"}],
        {("null", os.O_RDONLY): True, ("null", os.O_WRONLY): False, ("null", os.O_RDWR): False},
    ),
    (
        [DENY_ALL, {**NULL, "access": "r"}, {**NULL, "access": "w"}],
        {("null", os.O_RDWR): True, ("zero", os.O_RDWR): False},
    ),
    (
        [DENY_ALL, {"allow": True, "type": "c", "major": 1, "access": "rw"}],
        {("null", os.O_RDWR): True, ("zero", os.O_RDWR): True, ("tty", os.O_RDWR): False},
    ),
    ([DENY_ALL, {"allow": True, "type": "b"}], {("null", os.O_RDONLY): False}),
    ([DENY_ALL, NULL, {"allow": True}], {("zero", os.O_RDWR): True}),
    ([{**NULL, "allow": False}], {("null", os.O_RDONLY): False, ("zero", os.O_RDWR): True}),
    (
        [{**NULL, "allow": False, "access": "w"}],
        {("null", os.O_RDONLY): True, ("null", os.O_WRONLY): False, ("null", os.O_RDWR): False},
    ),
    ([DENY_ALL, {"allow": True, "major": 1, "minor": 3}], {("null", os.O_RDWR): True}),
]


def opens(group: Group, wanted: list[tuple[str, int]]) -> list[bool]:
    """Which of the devices a process in the group can open."""
    pid = os.fork()
    if pid == 0:
        group.enter(cloned=False)
        code = 0
        for place, (name, mode) in enumerate(wanted):
            try:
                os.close(os.open(f"/dev/{name}", mode | os.O_NOCTTY))
                code |= 1 << place
            except PermissionError:
                pass
            except OSError:  # Allowed, but there is no terminal to open.
                code |= 1 << place
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [bool(code & 1 << place) for place in range(len(wanted))]


@pytest.mark.parametrize(("rules", "expected"), DEVICE_CASES)
def test_device_rules(
    group: Group, rules: list[dict[str, Any]], expected: dict[tuple[str, int], bool]
) -> None:
    group.create({"devices": rules})
    assert dict(zip(expected, opens(group, list(expected)), strict=True)) == expected


@pytest.fixture
def bare() -> Iterator[Group]:
    """A group in the v2 hierarchy alone, so that devices are ruled by a program also on a hybrid host."""
    unified = cgroup.layout().unified
    if unified is None:
        pytest.skip("no v2 hierarchy is mounted")
    only = Layout("v2", {}, unified, v2=cgroup.layout().v2)
    made = cgroup.open(f"/composer-test-{uuid4().hex[:12]}", layout=only)
    yield made
    made.remove()


@pytest.mark.parametrize(("rules", "expected"), DEVICE_CASES)
def test_device_program(
    bare: Group, rules: list[dict[str, Any]], expected: dict[tuple[str, int], bool]
) -> None:
    bare.create({"devices": rules})
    assert dict(zip(expected, opens(bare, list(expected)), strict=True)) == expected


def test_device_program_is_replaced_not_added(bare: Group) -> None:
    bare.create({"devices": [DENY_ALL]})
    bare.update({"devices": [DENY_ALL, NULL]})
    assert opens(bare, [("null", os.O_RDWR), ("zero", os.O_RDWR)]) == [True, False]
    assert bare.unified
    directory = os.open(bare.unified, os.O_RDONLY)
    assert len(bpf.device_programs(directory)) == 1
    os.close(directory)


def test_verifier_takes_hundreds_of_rules(bare: Group) -> None:
    many = [{**NULL, "minor": minor, "access": access} for minor in range(200) for access in ("r", "rw")]
    bare.create({"devices": [DENY_ALL, *many]})
    assert opens(bare, [("null", os.O_RDWR), ("tty", os.O_RDWR)]) == [True, False]
    assert len(devices.program(devices.parse(many))) % 8 == 0
