"""The OCI command line, as an engine or a hand uses it."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from composer.runtime import cgroup, mounts, remarks
from composer.runtime.describe import default_spec
from tests.runtime.box import DEADLINE, drain

pytestmark = pytest.mark.kernel


class Engine:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.bundle = directory / "bundle"
        (self.bundle / "rootfs" / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.bundle / "rootfs" / "bin" / "busybox")
        for name in ("sh", "sleep", "true", "cat"):
            (self.bundle / "rootfs" / "bin" / name).symlink_to("busybox")
        self.id = f"composer-test-{uuid.uuid4().hex[:12]}"

    def configure(self, *args: str, **process: Any) -> dict[str, Any]:
        spec = default_spec()
        spec["process"] |= {"args": list(args), "terminal": False, **process}
        self.save(spec)
        return spec

    def save(self, spec: dict[str, Any]) -> None:
        (self.bundle / "config.json").write_text(json.dumps(spec))

    def call(self, *words: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "composer.runtime.cli", "--root", str(self.state), *words]
        keywords = {"capture_output": True, "text": True, "timeout": 30, "check": False} | keywords
        return subprocess.run(command, **keywords)

    def ok(self, *words: str, **keywords: Any) -> str:
        done = self.call(*words, **keywords)
        assert done.returncode == 0, done.stderr
        return str(done.stdout or "")

    def create(self, *words: str) -> None:
        # Not into pipes of ours: the container holds on to them.
        self.ok(
            "create",
            "--bundle",
            str(self.bundle),
            *words,
            self.id,
            capture_output=False,
            stdout=-3,
            stderr=-3,
        )

    def status(self) -> str:
        return str(json.loads(self.ok("state", self.id))["status"])

    def end(self) -> None:
        self.call("delete", "--force", self.id)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    try:
        yield engine
    finally:
        engine.end()
        assert not cgroup.open(f"/{engine.id}").exists()
        assert not engine.state.exists() or not list(engine.state.iterdir())


def test_a_whole_life(engine: Engine) -> None:
    engine.configure("sleep", "100")
    pid_file = engine.directory / "pid"
    engine.create("--pid-file", str(pid_file))
    state = json.loads(engine.ok("state", engine.id))
    assert state["status"] == "created"
    assert (state["id"], state["bundle"]) == (engine.id, str(engine.bundle))
    assert state["pid"] == int(pid_file.read_text())
    pidfd = os.pidfd_open(state["pid"])
    engine.ok("start", engine.id)
    assert engine.status() == "running"
    assert json.loads(engine.ok("ps", "--format", "json", engine.id)) == [state["pid"]]
    engine.ok("pause", engine.id)
    assert engine.status() == "paused"
    engine.ok("resume", engine.id)
    assert engine.ok("list", "-q").split() == [engine.id]
    assert "is running" in engine.call("delete", engine.id).stderr
    engine.ok("kill", engine.id, "KILL")
    assert select.select([pidfd], [], [], DEADLINE)[0]
    os.close(pidfd)
    assert engine.status() == "stopped"
    engine.ok("delete", engine.id)
    assert "does not exist" in engine.call("state", engine.id).stderr


@pytest.mark.parametrize("verb", ["start", "delete", "exec", "pause"])
def test_verbs_are_refused_in_the_wrong_state(engine: Engine, verb: str) -> None:
    engine.configure("sleep", "100")
    engine.create()
    if verb == "start":
        engine.ok("start", engine.id)
        assert "is running" in engine.call("start", engine.id).stderr
    elif verb == "delete":
        assert "is created" in engine.call("delete", engine.id).stderr
    else:
        engine.ok("start", engine.id)
        engine.ok("pause", engine.id)
        words = (verb, engine.id, "true") if verb == "exec" else (verb, engine.id)
        assert "is paused" in engine.call(*words).stderr


def test_what_a_killed_create_left_can_be_removed(engine: Engine) -> None:
    """Whatever was written by then: nothing, half a record, or no process yet although there is one."""
    engine.configure("sleep", "100")
    engine.create()
    record = engine.state / engine.id / "state.json"
    pid = json.loads(record.read_text())["pid"]
    known = json.loads(record.read_text()) | {"pid": 0, "born": 0}
    for text, words in (
        (json.dumps(known), ""),
        (json.dumps(known)[:20], "is damaged"),
        (None, "never finished"),
    ):
        record.unlink() if text is None else record.write_text(text)
        assert words in engine.call("state", engine.id).stderr
    (engine.state / "empty").mkdir()
    assert engine.ok("list", "-q") == ""
    pidfd = os.pidfd_open(pid)
    engine.ok("delete", "--force", engine.id, "empty", "absent")
    assert select.select([pidfd], [], [], DEADLINE)[0]
    os.close(pidfd)
    assert not list(engine.state.iterdir())


def test_a_group_in_use_stays_whose_it_is(engine: Engine) -> None:
    spec = engine.configure("sleep", "100")
    spec["linux"]["cgroupsPath"] = f"/{engine.id}"
    engine.save(spec)
    engine.create()
    done = engine.call("run", "--bundle", str(engine.bundle), f"{engine.id}-2")
    assert (done.returncode, "the group is in use" in done.stderr) == (1, True)
    engine.ok("delete", "--force", f"{engine.id}-2")
    assert engine.status() == "created"


def test_an_id_is_taken_once(engine: Engine) -> None:
    engine.configure("sleep", "100")
    engine.create()
    again = engine.call("create", "--bundle", str(engine.bundle), engine.id)
    assert (again.returncode, "exists already" in again.stderr) == (1, True)


@pytest.mark.parametrize("name", ["..", "a/b", "", "x" * 1024, "a b"])
def test_ids_that_are_paths_are_refused(engine: Engine, name: str) -> None:
    assert "cannot be an id" in engine.call("state", name).stderr


def test_run_passes_streams_and_exit_code(engine: Engine) -> None:
    engine.configure("sh", "-c", "cat; echo out; echo err >&2; exit 7")
    done = engine.call("run", "--bundle", str(engine.bundle), engine.id, input="in\n")
    assert (done.stdout, done.stderr, done.returncode) == ("in\nout\n", "err\n", 7)


def test_exec(engine: Engine) -> None:
    engine.configure("sleep", "100")
    engine.create()
    engine.ok("start", engine.id)
    script = "cat; echo $A; pwd; exit 5"
    done = engine.call("exec", "-e", "A=b", "--cwd", "/bin", engine.id, "sh", "-c", script, input="in\n")
    assert (done.stdout, done.returncode) == ("in\nb\n/bin\n", 5)
    (engine.directory / "process").write_text(
        json.dumps({"args": ["true"], "cwd": "/", "env": ["PATH=/bin"]})
    )
    engine.ok("exec", "--process", str(engine.directory / "process"), engine.id)


def test_a_missing_program_leaves_nothing_and_goes_to_the_log(engine: Engine) -> None:
    engine.configure("absent")
    log = engine.directory / "log"
    words = ("--log", str(log), "--log-format", "json", "create", "--bundle", str(engine.bundle), engine.id)
    assert engine.call(*words).returncode == 1
    message = json.loads(log.read_text())
    assert message["level"] == "error"
    assert "absent: executable file not found in $PATH" in message["msg"]


def test_what_is_left_out_is_warned_of(engine: Engine) -> None:
    spec = engine.configure("true")
    spec["process"]["capabilities"]["bounding"] = ["CAP_KILL", "CAP_OF_TOMORROW"]
    spec["mounts"].append({"destination": "/mnt", "source": "rootfs/bin", "options": ["bind", "size=1k"]})
    engine.save(spec)
    done = engine.call("run", "--bundle", str(engine.bundle), engine.id)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "warning: these capabilities cannot be given and are left out: CAP_OF_TOMORROW",
        "warning: the bind mount at /mnt has no use for: size",
    ]


def test_limits_that_linux_no_longer_has_are_warned_of() -> None:
    (text,) = remarks.of_container({"linux": {"resources": {"memory": {"kernel": 1 << 30, "kernelTCP": 5}}}})
    assert text.startswith("linux.resources.memory.kernel has no effect")


def test_warnings_go_to_the_log_alone_as_the_standard_error_is_the_containers(engine: Engine) -> None:
    engine.configure("true", capabilities={"bounding": ["CAP_OF_TOMORROW"]})
    log = engine.directory / "log"
    words = ("--log", str(log), "--log-format=json", "run", "--bundle", str(engine.bundle), engine.id)
    assert engine.call(*words).stderr == ""
    assert json.loads(log.read_text())["level"] == "warning"


def test_the_terminal_goes_to_the_console_socket(engine: Engine) -> None:
    engine.configure("sh", "-c", "echo hello")
    spec = json.loads((engine.bundle / "config.json").read_text())
    spec["process"]["terminal"] = True
    engine.save(spec)
    path = engine.directory / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        # Engines read what `create` says to its end: the container must not hold on to that.
        engine.ok("create", "--console-socket", str(path), "--bundle", str(engine.bundle), engine.id)
        with listener.accept()[0] as line:
            _, (master,), _, _ = socket.recv_fds(line, 100, 1)
    engine.ok("start", engine.id)
    assert drain(master) == "hello\r\n"
    os.close(master)


def test_preserved_descriptors(engine: Engine) -> None:
    engine.configure("sh", "-c", "echo written >&3; ls /proc/self/fd >&3")
    reader, writer = os.pipe()
    script = f'exec 3>&{writer}; exec "$@" --preserve-fds 1 --bundle {engine.bundle} {engine.id}'
    command = [sys.executable, "-m", "composer.runtime.cli", "--root", str(engine.state), "run"]
    subprocess.run(["bash", "-c", script, "bash", *command], pass_fds=(writer,), check=False, timeout=30)
    os.close(writer)
    assert drain(reader).split()[0] == "written"
    os.close(reader)


def test_descriptors_that_are_not_open_cannot_be_preserved(engine: Engine) -> None:
    """What the runtime opens for itself must not take their place."""
    engine.configure("true")
    run = ("run", "--bundle", str(engine.bundle), engine.id)
    assert "and 3 is not open" in engine.call(run[0], "--preserve-fds", "2", *run[1:]).stderr
    assert "'-1' is not a number from 0 on" in engine.call(run[0], "--preserve-fds", "-1", *run[1:]).stderr


@pytest.mark.parametrize(("init", "pid"), [("false", "1"), ("true", "2")])
def test_listening_sockets_go_along_before_other_descriptors(engine: Engine, init: str, pid: str) -> None:
    """sd_listen_fds(3), as runc and crun do it."""
    spec = engine.configure("sh", "-c", "echo $LISTEN_FDS $LISTEN_PID $$; cat <&3; cat <&4")
    spec["annotations"] = {"composer.init": init}
    engine.save(spec)
    for name in ("first", "second"):
        (engine.directory / name).write_text(f"{name}\n")
    command = [sys.executable, "-m", "composer.runtime.cli", "--root", str(engine.state), "run"]
    script = 'cd "$0"; exec 3<first 4<second; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
    words = ["bash", "-c", script, str(engine.directory), "env", f"PYTHONPATH={os.getcwd()}", *command]
    words += ["--preserve-fds", "1", "--bundle", str(engine.bundle), engine.id]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.split("\n") == [f"1 {pid} {pid}", "first", "second", ""], done.stderr


@pytest.mark.parametrize(
    ("passwd", "user", "home"),
    [
        ("root:x:0:0::/root:/bin/sh\nweb:x:33:33::/var/www:\n", 33, "/var/www"),
        ("root:x:0:0::/root:/bin/sh\n", 33, "/"),
        ("33\n33:33\nweb:x:33:33:::\n", 33, "/"),
        (None, 0, "/"),
    ],
)
def test_a_home_comes_from_the_images_users(engine: Engine, passwd: str | None, user: int, home: str) -> None:
    (engine.bundle / "rootfs" / "etc").mkdir()
    if passwd is not None:
        (engine.bundle / "rootfs" / "etc" / "passwd").write_text(passwd)
    spec = engine.configure("sh", "-c", "echo $HOME", user={"uid": user, "gid": 0})
    run = ("run", "--bundle", str(engine.bundle), engine.id)
    assert engine.ok(*run) == f"{home}\n"
    spec["process"]["env"] += ["HOME=/said"]
    engine.save(spec)
    assert engine.ok(*run) == "/said\n"


def test_a_file_of_users_that_is_none_holds_nobody_up_and_leads_nowhere(engine: Engine) -> None:
    passwd = engine.bundle / "rootfs" / "etc" / "passwd"
    passwd.parent.mkdir()
    os.mkfifo(passwd)
    engine.configure("sh", "-c", "echo $HOME")
    run = ("run", "--bundle", str(engine.bundle), engine.id)
    assert engine.ok(*run) == "/\n"
    passwd.unlink()
    passwd.symlink_to("/proc/self/fd/0")  # what is open while the container is made is not its file
    users = engine.directory / "users"
    users.write_text("root:x:0:0::/leaked:/bin/sh\n")
    with users.open() as file:
        assert engine.ok(*run, stdin=file) == "/\n"


def test_what_the_kernel_says_is_written_as_engines_look_for_it(engine: Engine) -> None:
    engine.configure("/bin")
    done = engine.call("run", "--bundle", str(engine.bundle), engine.id)
    assert "exec /bin: permission denied" in done.stderr


def test_update_changes_limits(engine: Engine) -> None:
    engine.configure("sleep", "100")
    engine.create()
    engine.ok("start", engine.id)
    engine.ok("update", "--pids-limit", "33", engine.id)
    engine.ok("update", "--resources", "-", engine.id, input='{"memory": {"limit": 67108864}}')
    files = [*Path("/sys/fs/cgroup").glob(f"*/{engine.id}/*"), *Path("/sys/fs/cgroup").glob(f"{engine.id}/*")]
    found = {
        file.name: file.read_text().strip()
        for file in files
        if re.search(r"pids.max|memory.*limit|memory.max", file.name)
    }
    assert found["pids.max"] == "33"
    assert "67108864" in found.values()


def test_hooks_of_start_and_delete(engine: Engine) -> None:
    spec = engine.configure("true")
    out = engine.directory / "out"
    spec["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} >> {out}; cat >> {out}"]}]
        for kind in ("poststart", "poststop")
    }
    engine.save(spec)
    assert engine.call("run", "--bundle", str(engine.bundle), engine.id).returncode == 0
    text = out.read_text()
    assert re.findall("post[a-z]*", text) == ["poststart", "poststop"]
    assert '"status": "running"' in text
    assert '"status": "stopped"' in text


def test_a_hook_that_fails_when_all_is_done_is_a_warning_and_the_next_one_runs(engine: Engine) -> None:
    spec = engine.configure("true")
    out = engine.directory / "out"
    shell = {"path": "/bin/sh"}
    spec["hooks"] = {
        kind: [{**shell, "args": ["sh", "-c", script]} for script in ("exit 3", f"echo {kind} >> {out}")]
        for kind in ("poststart", "poststop")
    }
    engine.save(spec)
    done = engine.call("run", "--bundle", str(engine.bundle), engine.id)
    assert done.returncode == 0
    assert out.read_text().split() == ["poststart", "poststop"]
    assert done.stderr.splitlines() == [
        f"warning: {kind} hook /bin/sh: exit status 3" for kind in ("poststart", "poststop")
    ]


def test_a_terminal_must_have_somebody_who_serves_it(engine: Engine) -> None:
    engine.configure("sh", terminal=True)
    done = engine.call("create", "--bundle", str(engine.bundle), engine.id)
    assert (done.returncode, "needs --console-socket" in done.stderr) == (1, True)
    engine.configure("sh")
    done = engine.call("run", "--console-socket", "/nowhere", "--bundle", str(engine.bundle), engine.id)
    assert (done.returncode, "is for a terminal" in done.stderr) == (1, True)
    assert engine.ok("list", "-q") == ""


def test_what_is_made_goes_when_it_cannot_be_handed_over(engine: Engine) -> None:
    engine.configure("sleep", "100", terminal=True)
    words = ("create", "--console-socket", str(engine.directory / "absent"), "--bundle", str(engine.bundle))
    assert engine.call(*words, engine.id).returncode == 1
    assert engine.ok("list", "-q") == ""


@pytest.mark.parametrize(
    ("part", "field", "value", "text"),
    [
        ("process", "user", {"uid": -1, "gid": 0}, "process.user.uid: expected 0 to"),
        ("process", "capabilities", ["CAP_KILL"], "process.capabilities: expected an object"),
        ("linux", "cgroupsPath", "../../x", "names no group below the root"),
        ("linux", "timeOffsets", {"monotonic": {"secs": 1}}, "linux.timeOffsets: needs a time namespace"),
        (
            "linux",
            "uidMappings",
            [{"containerID": 0, "hostID": 1, "size": 1}],
            "linux.uidMappings: needs a user namespace",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    engine: Engine, part: str, field: str, value: Any, text: str
) -> None:
    spec = engine.configure("true")
    spec[part][field] = value
    engine.save(spec)
    done = engine.call("run", "--bundle", str(engine.bundle), engine.id)
    assert (done.returncode, text in done.stderr, len(done.stderr.splitlines())) == (1, True, 1), done.stderr
    assert engine.ok("list", "-q") == ""


def test_exec_is_held_to_the_specification_too(engine: Engine) -> None:
    engine.configure("sleep", "100")
    engine.create()
    for words, text in (
        (("--env", "A"), "expected NAME=value"),
        (("--cwd", "tmp"), "expected an absolute path"),
        (("--user", "root"), "'root' is not UID[:GID]"),
        (("--user", str(2**32 - 1)), "is not UID[:GID]"),
        (("--detach", "--tty"), "needs --console-socket"),
        (("--process", "/nowhere"), "a command has no place beside --process"),
        (("--process", "/nowhere", "--user", "5"), "a command has no place beside --process"),
    ):
        assert text in engine.call("exec", *words, engine.id, "true").stderr


def test_documents_that_are_none(engine: Engine) -> None:
    engine.configure("sleep", "100")
    engine.create()
    for text, said in (
        ("x", "-: is not JSON"),
        ("[]", "expected an object, not a list"),
        ("", "is not JSON"),
    ):
        assert said in engine.call("update", "-r", "-", engine.id, input=text).stderr
    assert "/nowhere: no such file" in engine.call("exec", "--process", "/nowhere", engine.id).stderr


def test_spec_and_features(engine: Engine) -> None:
    engine.ok("spec", "--bundle", str(engine.bundle))
    assert json.loads((engine.bundle / "config.json").read_text()) == default_spec()
    assert "exists already" in engine.call("spec", "--bundle", str(engine.bundle)).stderr
    features = json.loads(engine.ok("features"))
    assert features["mountOptions"] == list(mounts.WORDS)
    assert "SCMP_ACT_ERRNO" in features["linux"]["seccomp"]["actions"]
    assert "SCMP_ACT_NOTIFY" not in features["linux"]["seccomp"]["actions"]
    assert "spec: 1.2.0" in engine.ok("--version")


@pytest.mark.parametrize(
    "words",
    [
        ("--systemd-cgroup", "list"),
        ("create", "--no-pivot", "x"),
        ("exec", "--ignore-paused", "x", "true"),
        ("update", "--l3-cache-schema", "x"),
        ("spec", "--rootless"),
        ("checkpoint", "--image-path", "/tmp", "x"),
        ("restore", "x"),
        ("events", "--stats", "x"),
    ],
)
def test_what_is_refused_says_why_and_the_log_has_it(engine: Engine, words: tuple[str, ...]) -> None:
    log = engine.directory / "log"
    done = engine.call("--log", str(log), "--log-format=json", *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "is refused: " in json.loads(log.read_text())["msg"]


def test_a_log_that_cannot_be_written_hides_no_error(engine: Engine) -> None:
    done = engine.call("--log", "/nowhere/log", "state", "x")
    assert done.stderr.splitlines() == [
        "composer-runtime: id: container x does not exist",
        "composer-runtime: --log /nowhere/log: No such file or directory",
    ]


def test_update_takes_sizes(engine: Engine) -> None:
    engine.configure("sleep", "100")
    engine.create()
    engine.ok("update", "--memory", "64MiB", "--memory-swap", "-1", engine.id)
    assert cgroup.open(f"/{engine.id}").stats()["memory"]["limit"] == 64 << 20
    assert "is no size" in engine.call("update", "--memory", "64x", engine.id).stderr


def test_signal_0_asks_whether_it_is_there(engine: Engine) -> None:
    engine.configure("sleep", "100")
    engine.create()
    engine.ok("kill", engine.id, "0")
    assert engine.status() == "created"
    assert engine.call("kill", engine.id, str(65)).returncode == 1


def test_runs_from_an_interpreter_that_nobody_can_write(engine: Engine) -> None:
    """CVE-2019-5736: even with all rights the file behind /proc/PID/exe is on a read-only mount."""
    engine.configure("sleep", "100")
    engine.create()
    pid = json.loads(engine.ok("state", engine.id))["pid"]
    with pytest.raises(OSError, match="Read-only file system"):
        os.utime(f"/proc/{pid}/exe")  # opening is refused as well, but first because it is in use
