"""The commands on the real kernel, as users of Docker Compose know them. A stack serves several."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.host import COMPOSER, Host, Stack, Terminal

pytestmark = pytest.mark.kernel

PAIR = """
    services:
      web:
        image: host
        init: true
        command: [sleep, "1000"]
        scale: 2
        volumes: [data:/data]
      cat:
        image: host
        command: [cat]
        stdin_open: true
    volumes: {data: }
"""


@pytest.fixture
def stack(host: Host) -> Stack:
    stack = host.stack(PAIR)
    stack.ok("up", "-d")
    return stack


def test_run_passes_streams_and_exit_code_on(host: Host) -> None:
    """Bytes exactly, with no newline of ours at the end; --rm leaves nothing."""
    stack = host.stack(PAIR)
    assert (
        stack.ok("run", "--rm", "-T", "web", "sh", "-c", "cat; printf '|%s' $0", "x", stdin="a\nb")
        == "a\nb|x"
    )
    done = stack("run", "--rm", "web", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert "err\n" in done.stderr
    assert stack.ps() == {}
    logs = host.root / "state" / "stacks" / stack.name / "logs"
    assert not list(logs.glob("*"))


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/etc/hostname", 126)])
def test_run_of_what_cannot_be_run(host: Host, command: str, code: int) -> None:
    stack = host.stack(PAIR)
    done = stack("run", "--rm", "web", command)
    assert done.returncode == code
    assert command in done.stderr and "Traceback" not in done.stderr
    assert stack.ps() == {}


def test_run_flags_reach_the_container(host: Host) -> None:
    stack = host.stack(PAIR)
    (stack.folder / "shared").mkdir()
    (stack.folder / "vars").write_text("FROM_FILE=f\n")
    script = "pwd; id -u; echo $A $FROM_FILE; ls /mnt; hostname"
    told = stack.ok(
        "run", "--rm", "-w", "/tmp", "-u", "65534", "-e", "A=1", "--env-from-file", "vars",
        "-v", "./shared:/mnt", "--entrypoint", "sh -c", "--name", f"{stack.name}-mine", "web", script,
    ).split()  # fmt: skip
    assert told[:4] == ["/tmp", "65534", "1", "f"]


def test_run_detached_prints_the_name_and_stays(host: Host) -> None:
    stack = host.stack(PAIR)
    name = stack.ok("run", "-d", "--no-deps", "web", "sh", "-c", "echo hello; exec sleep 100").strip()
    row = stack.ps()[name]
    assert (row["State"], row["Service"]) == ("running", "web")
    assert "hello" in stack.ok("logs", "--no-log-prefix", "web")


def test_run_waits_for_conditions_and_says_which_failed(host: Host) -> None:
    stack = host.stack(
        """
        services:
          db:
            image: host
            command: [sh, -c, "exit 3"]
          app:
            image: host
            command: [echo, ran]
            depends_on: {db: {condition: service_completed_successfully}}
        """
    )
    done = stack("run", "--rm", "app")
    assert done.returncode == 1
    assert "db" in done.stderr and "exit 3" in done.stderr
    assert stack.ok("run", "--rm", "--no-deps", "app") == "ran\n"


def test_run_on_a_terminal(host: Host) -> None:
    stack = host.stack(PAIR)
    terminal = Terminal(stack, "--progress", "quiet", "run", "--rm", "web", "sh")
    terminal.type(b"tty && echo $((20+22)); exit 5\n")
    terminal.until(b"/dev/pts/")
    terminal.until(b"42")
    assert terminal.end() == 5


def test_a_last_line_without_an_end_stays_so_on_a_terminal(host: Host) -> None:
    """A prompt that Ctrl-C leaves, for example: where the cursor is, is where it goes on."""
    stack = host.stack(PAIR)
    terminal = Terminal(stack, "--progress", "quiet", "run", "--rm", "web", "printf", "one\\ntwo")
    assert (terminal.end(), terminal.seen) == (0, b"one\r\ntwo")


def test_attach_joins_input_and_output_and_detaches(stack: Stack) -> None:
    client = subprocess.Popen(
        [*COMPOSER, "attach", "cat"],
        cwd=stack.folder,
        env=stack.host.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdin and client.stdout
    client.stdin.write(b"one\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"one\n"
    client.stdin.write(b"two\x10\x11")
    client.stdin.flush()
    assert client.wait(30) == 0
    assert {row["State"] for row in stack.ps("cat").values()} == {"running"}
    client.stdin.close()
    client.stdout.close()


def test_attach_passes_signals_and_the_exit_code_on(stack: Stack) -> None:
    client = stack.start("attach", "--index", "1", "web")
    wait_for_handler(client.pid, signal.SIGTERM)
    client.send_signal(signal.SIGTERM)
    assert client.wait(60) == 143
    client.communicate()
    states = {row["Name"][-1]: row["State"] for row in stack.ps("web").values()}
    assert states == {"1": "exited", "2": "running"}


def wait_for_handler(pid: int, number: int) -> None:
    """Until the process has its own idea of a signal (proc_pid_status(5), SigCgt)."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        caught = re.findall(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())[0]
        if int(caught, 16) >> (number - 1) & 1:
            return
        select.select([], [], [], 0.01)
    raise AssertionError(f"{pid} does not handle signal {number}")


def test_looking(stack: Stack) -> None:
    """top, stats, images, volumes, ls, port, ps --filter."""
    top = stack.ok("top", "web").splitlines()
    assert top[0].split() == ["SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert sum(line.endswith("sleep 1000") for line in top) == 2
    rows = [json.loads(line) for line in stack.ok("stats", "--no-stream", "--format", "json").splitlines()]
    assert [row["Name"] for row in rows] == [f"{stack.name}-{x}" for x in ("cat-1", "web-1", "web-2")]
    assert {"BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs"} == set(
        rows[0]
    )
    assert int(rows[0]["PIDs"]) >= 1
    images = json.loads(stack.ok("images", "--format", "json"))
    assert {row["Repository"] for row in images} == {"host"}
    assert stack.ok("volumes", "-q") == f"{stack.name}_data\n"
    (listed,) = json.loads(stack.ok("ls", "--format", "json"))
    assert (listed["Name"], listed["Status"]) == (stack.name, "running(3)")
    assert listed["ConfigFiles"] == str(stack.folder / "compose.yaml")
    assert stack.ok("ps", "-q", "--filter", "status=exited") == ""
    done = stack("port", "web", "80")
    assert done.returncode == 1 and "publishes none" in done.stderr


def test_lists_tell_what_docker_compose_tells(host: Host) -> None:
    """Ids and mounts are cut unless asked for whole, `ls` counts what is up, `volumes` has the named ones."""
    stack = host.stack("""
        services:
          web:
            {image: host, init: true, command: [sleep, "1000"], expose: ["80"],
             volumes: [data:/data, /anonymous, .:/here]}
          job: {image: host, command: ["true"], expose: ["81"]}
        volumes: {data: }
    """)
    stack.ok("up", "-d")
    stack("wait", "job")
    web = json.loads(cut := stack.ok("ps", "--format", "json"))
    assert '"State":"running"' in cut
    whole = stack.ps()
    assert web["ID"] == whole[web["Name"]]["ID"][:12]
    assert sorted(map(len, web["Mounts"].split(","))) == [15, 15, 15]
    named = f"{stack.name}_data"
    every = {*stack.ok("volume", "ls", "-q").split(), str(stack.folder)}
    assert set(whole[web["Name"]]["Mounts"].split(",")) == every
    assert len(every) == 3 and named in every
    assert [row["Ports"] for row in sorted(whole.values(), key=lambda row: row["Name"])] == ["", "80/tcp"]
    assert stack.ok("volumes", "-q") == f"{named}\n"
    assert json.loads(stack.ok("ls", "--format", "json"))[0]["Status"] == "running(1)"
    assert json.loads(stack.ok("ls", "-a", "--format", "json"))[0]["Status"] == "exited(1), running(1)"


def test_pause_and_unpause(stack: Stack) -> None:
    stack.ok("pause", "web")
    assert {row["State"] for row in stack.ps("web").values()} == {"paused"}
    assert "paused" in stack("exec", "web", "true").stderr
    assert stack("attach", "web").returncode == 1
    stack.ok("unpause")
    assert {row["State"] for row in stack.ps("web").values()} == {"running"}
    done = stack("unpause")
    assert done.returncode == 1 and "no container is paused" in done.stderr


def test_create_scale_rm(host: Host) -> None:
    stack = host.stack(PAIR)
    stack.ok("create")
    assert {row["State"] for row in stack.ps().values()} == {"created"}
    stack.ok("scale", "web=1", "cat=0")
    assert list(stack.ps()) == [f"{stack.name}-web-1"]
    done = stack("rm", "-f")
    assert "No stopped containers" in done.stderr
    stack.ok("rm", "-fsv", "web")
    assert stack.ps() == {}


def test_wait_ends_with_the_exit_code_and_takes_the_stack_down(host: Host) -> None:
    stack = host.stack(
        """
        services:
          job:
            image: host
            command: [sh, -c, "exit 4"]
          web:
            image: host
            init: true
            command: [sleep, "1000"]
        """
    )
    stack.ok("up", "-d")
    done = stack("wait", "--down-project", "job")
    told = f'container "{stack.name}-job-1" exited with status code 4\n'
    assert (done.returncode, done.stdout) == (4, told)
    assert stack.ps() == {}


def test_events_of_the_past_and_of_now(stack: Stack) -> None:
    told = [
        json.loads(x)
        for x in stack.ok("events", "--json", "--since", "1h", "--until", "0s", "web").splitlines()
    ]
    assert [event["action"] for event in told] == ["create", "create", "start", "start"]
    assert {event["service"] for event in told} == {"web"}
    assert set(told[0]) == {"action", "attributes", "id", "service", "time", "type"}
    live = stack.start("events", "--since", "1h", "web")
    assert live.stdout is not None
    # It listens before it tells of the past.
    assert all(word in live.stdout.readline() for word in ("create", "create", "start", "start"))
    stack.ok("kill", "web")
    lines = [live.stdout.readline() for _ in range(4)]
    assert sum(" die " in line and "exitCode=137" in line for line in lines) == 2
    live.send_signal(signal.SIGINT)
    assert live.wait(30) == 130
    live.communicate()


def test_events_of_what_is_executed(stack: Stack) -> None:
    assert stack("exec", "-T", "--index", "1", "web", "sh", "-c", "exit 3").returncode == 3
    lines = stack.ok("events", "--json", "--since", "1h", "--until", "0s", "web").splitlines()
    told = [event for event in map(json.loads, lines) if event["action"].startswith("exec_")]
    assert [event["action"] for event in told] == [
        "exec_create: sh -c exit 3",
        "exec_start: sh -c exit 3",
        "exec_die",
    ]
    assert told[-1]["attributes"]["exitCode"] == "3"
    assert len({event["attributes"]["execID"] for event in told}) == 1


def test_cp_both_ways(stack: Stack) -> None:
    folder = stack.folder
    (folder / "tree/sub").mkdir(parents=True)
    (folder / "tree/file").write_text("one")
    (folder / "tree/sub/run").write_text("two")
    (folder / "tree/sub/run").chmod(0o750)
    (folder / "tree/link").symlink_to("file")
    stack.ok("cp", "tree", "web:/srv")
    for index in ("1", "2"):  # to all containers, as Docker Compose does
        assert stack.ok("exec", "-T", "--index", index, "web", "cat", "/srv/tree/link") == "one"
    stack.ok("cp", "web:/srv/tree", "back")
    assert (folder / "back/link").readlink() == Path("file")
    assert (folder / "back/sub/run").stat().st_mode & 0o7777 == 0o750
    stack.ok("cp", "--index", "1", "tree/.", "web:/opt")
    assert stack.ok("exec", "-T", "web", "ls", "/opt").split() == ["file", "link", "sub"]
    stack.ok("cp", "-L", "web:/opt/link", "followed")
    assert (folder / "followed").read_text() == "one" and not (folder / "followed").is_symlink()
    for words in (["web:/none", "."], ["tree", "web:/none/there"], ["tree/file", "web:/none/"]):
        done = stack("cp", *words)
        assert done.returncode == 1 and "there is no" in done.stderr
    assert stack("cp", "a", "b").returncode == 2


def test_cp_never_leaves_the_container(stack: Stack) -> None:
    """Links of the container lead nowhere but into itself, whoever made them."""
    secret, target = stack.folder / "secret", stack.folder / "target"
    secret.write_text("of the host")
    target.mkdir()
    (stack.folder / "evil").write_text("evil")
    up = "../" * 12
    make = f"ln -s {secret} /abs; ln -s {up}{secret} /rel; ln -s {target} /out; ln -s {up}{target} /outrel"
    stack.ok("exec", "-T", "web", "sh", "-c", make)
    for link in ("abs", "rel"):
        done = stack("cp", "-L", f"web:/{link}", "got")
        assert done.returncode == 1 and "there is no" in done.stderr
    for link in ("out", "outrel"):
        stack("cp", "--index", "1", "evil", f"web:/{link}/evil")
        stack("cp", "--index", "1", "evil", f"web:/{link}")
    assert not list(target.iterdir())
    assert stack("cp", f"web:/{up}{secret}", "got").returncode == 1
    assert not (stack.folder / "got").exists()


def test_cp_of_streams(stack: Stack) -> None:
    (stack.folder / "x").mkdir()
    (stack.folder / "x/y").write_text("in")
    archive = stack.folder / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(stack.folder / "x", "x")
    feed(stack, archive, "cp", "--index", "1", "-", "web:/srv")
    assert stack.ok("exec", "-T", "web", "cat", "/srv/x/y") == "in"
    back = subprocess.run(
        [*COMPOSER, "cp", "web:/srv/x", "-"],
        cwd=stack.folder,
        env=stack.host.environment,
        capture_output=True,
        check=True,
    )
    (stack.folder / "b.tar").write_bytes(back.stdout)
    with tarfile.open(stack.folder / "b.tar") as tar:
        assert tar.getnames() == ["x", "x/y"]
    with tarfile.open(archive, "w") as tar:
        tar.add(stack.folder / "x/y", "../../outside")
    done = feed(stack, archive, "cp", "--index", "1", "-", "web:/srv")
    assert done.returncode == 2 and b"leads out of itself" in done.stderr


def feed(stack: Stack, file: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    with file.open("rb") as source:
        return subprocess.run(
            [*COMPOSER, *words],
            cwd=stack.folder,
            env=stack.host.environment,
            stdin=source,
            capture_output=True,
            check=False,
        )


@pytest.fixture
def small(host: Host) -> Stack:
    """A stack of an image with next to nothing in it."""
    archive = host.root / "root.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
    done = host.composer(
        "image", "import", "-c", 'CMD ["/bin/busybox", "sleep", "1000"]', str(archive), f"{host.mark}/small:1"
    )
    assert done.returncode == 0, done.stderr
    return host.stack(
        f"services: {{web: {{image: '{host.mark}/small:1', volumes: [data:/data]}}}}\nvolumes: {{data: }}"
    )


def test_files_of_a_container_that_does_not_run(small: Stack) -> None:
    """cp both ways, export and commit; what is on a volume is refused with the reason."""
    small.ok("up", "-d")
    small.ok("stop", "-t", "0")
    (small.folder / "new").write_text("new")
    small.ok("cp", "new", "web:/new")
    small.ok("cp", "web:/bin/busybox", "got")
    assert (small.folder / "got").read_bytes()[:4] == b"\x7fELF"
    done = small("cp", "web:/data/x", ".")
    assert done.returncode == 1 and "/data is a volume" in done.stderr
    small.ok("export", "-o", "all.tar", "web")
    with tarfile.open(small.folder / "all.tar") as tar:
        assert {"./bin/busybox", "./new"} <= set(tar.getnames())
    identity = small.ok("commit", "-m", "more", "-c", "ENV A=b", "web", f"{small.host.mark}/small:2").strip()
    (shown,) = json.loads(small.ok("image", "inspect", identity))
    assert shown["RepoTags"] == [f"{small.host.mark}/small:2"]
    assert "A=b" in shown["Config"]["Env"]
    small.ok("start")
    small.ok("cp", "web:/new", "again")
    assert (small.folder / "again").read_text() == "new"


def test_image_group(small: Stack) -> None:
    mark = small.host.mark
    row = json.loads(small.ok("image", "ls", "--format", "json"))
    assert (row["Repository"], row["Tag"]) == (f"{mark}/small", "1")
    small.ok("image", "tag", f"{mark}/small:1", "other:9")
    assert small.ok("image", "ls", "-q").strip() == row["ID"]
    small.ok("image", "save", "-o", "x.tar", "other:9")
    assert "Untagged: other:9" in small.ok("image", "rm", "other:9")
    small.ok("create")
    done = small("image", "rm", f"{mark}/small:1")
    assert done.returncode == 1 and "in use" in done.stderr
    assert small.ok("image", "load", "-i", "x.tar") == "Loaded image: other:9\n"
    assert small.ok("image", "check") == "the store is whole\n"
    small.ok("down")
    small.ok("image", "prune", "-af")
    assert small.ok("image", "ls", "-q") == ""


def test_network_and_volume_groups(host: Host) -> None:
    name = f"{host.mark}net"
    created = host.composer("network", "create", "--internal", "--label", "a=b", name)
    assert re.fullmatch(r"[0-9a-f]{64}\n", created.stdout), created.stderr
    (shown,) = json.loads(host.composer("network", "inspect", name).stdout)
    assert (shown["Name"], shown["Internal"], shown["Labels"]) == (name, True, {"a": "b"})
    assert host.composer("network", "create", name).returncode == 1
    assert host.composer("network", "ls", "-q", "--filter", "label=a=b").stdout.strip() == shown["Id"][:12]
    assert host.composer("network", "rm", name).stdout == f"{name}\n"
    assert host.composer("network", "rm", name).returncode == 1
    assert host.composer("volume", "create", "mine", "--label", "x=1").stdout == "mine\n"
    assert host.composer("volume", "ls", "-q", "--filter", "label=x").stdout == "mine\n"
    stack = host.stack(
        "services: {web: {image: host, volumes: [mine:/m]}}\nvolumes: {mine: {external: true}}", "v"
    )
    stack.ok("create")
    done = stack("volume", "rm", "mine")
    assert done.returncode == 1 and "in use" in done.stderr
    stack.ok("down")
    assert stack.ok("volume", "prune", "-af").splitlines()[:2] == ["Deleted Volumes:", "mine"]


def test_why_goes_to_the_end_of_the_chain(host: Host) -> None:
    stack = host.stack(
        """
        services:
          web:
            image: host
            depends_on: {db: {condition: service_healthy}}
          db:
            image: host
            init: true
            command: [sh, -c, "echo cannot open the disk; exec sleep 1000"]
            healthcheck: {test: [CMD-SHELL, "echo no disk; exit 2"], interval: 50ms, retries: 1}
        """
    )
    assert "has no container" in stack("why", "db").stdout
    stack("up", "-d")
    done = stack("why", "web")
    assert done.returncode == 1
    for text in ("waits for db to be healthy", "ended with 2", "no disk", "cannot open the disk", "try: "):
        assert text in done.stdout


def test_a_reader_that_leaves_is_no_error(stack: Stack) -> None:
    for words in (["logs"], ["ps"], ["stats"], ["--help"], ["graph"]):
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as closed:
            done = subprocess.run(
                [*COMPOSER, *words], cwd=stack.folder, env=stack.host.environment,
                stdin=subprocess.DEVNULL, stdout=closed, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr, words


def test_single_containers(host: Host) -> None:
    """A container outside of a stack is a stack of its own, and goes without a trace."""
    name = f"{host.mark}one"
    done = host.composer("container", "run", "--rm", "-i", "host", "sh", "-c", "cat; exit 3", stdin="a$b")
    assert (done.returncode, done.stdout) == (3, "a$b")
    done = host.composer("container", "run", "-d", "--name", name, "-e", "A=$HOME", "host", "sleep", "1000")
    assert done.returncode == 0, done.stderr
    identity = done.stdout.strip()
    assert host.composer("container", "ls", "-q").stdout.strip() == identity[:12]
    assert host.composer("container", "exec", "-T", identity[:9], "printenv", "A").stdout == "$HOME\n"
    assert host.composer("container", "run", "--name", name, "host", "true").returncode == 1
    (shown,) = json.loads(host.composer("container", "inspect", name).stdout)
    assert (shown["State"]["Status"], shown["Stack"]) == ("running", name)
    assert host.composer("container", "rm", name).returncode == 1
    host.composer("container", "stop", "-t", "0", name)
    assert host.composer("container", "start", name).returncode == 0
    assert host.composer("container", "rm", "-f", name).stdout == f"{name}\n"
    assert host.composer("container", "ls", "-aq").stdout == ""
    assert not list((host.root / "state" / "containers").iterdir())


def test_containers_of_stacks_by_name(stack: Stack) -> None:
    name = f"{stack.name}-web-1"
    assert stack.ok("container", "exec", "-T", name, "echo", "in") == "in\n"
    assert stack.ok("container", "inspect", name, "--format", "{{.Service}}") == "web\n"
    done = stack("container", "rm", "-f", name)
    assert done.returncode == 1 and f"belongs to the stack {stack.name}" in done.stderr


def test_what_run_has_made_is_a_container_like_others(host: Host) -> None:
    """By its name, not mistaken for its service's, and killed when it does not hear."""
    stack = host.stack("""
        services:
          web: {image: host, init: true, command: [sh, -c, "echo service; exec sleep 1000"]}
    """)
    stack.ok("up", "-d")
    deaf = "trap '' TERM; echo oneoff; while :; do sleep 1000; done"
    name = stack.ok("run", "-d", "--name", f"{stack.name}-own", "web", "sh", "-c", deaf).strip()
    until = time.monotonic() + 30
    while (said := stack.ok("container", "logs", name)) != "oneoff\n":
        assert said == "" and time.monotonic() < until
    assert stack.ok("container", "exec", "-T", name, "hostname") != stack.ok("exec", "-T", "web", "hostname")
    assert stack.ok("logs", "--index", "1", "--no-log-prefix", "web") == "service\n"
    assert stack("container", "rm", name).returncode == 1
    assert stack.ok("container", "stop", "-t", "0", name) == ""
    assert {n: row["State"] for n, row in stack.ps().items()} == {
        name: "exited",
        f"{stack.name}-web-1": "running",
    }
    refused = stack("container", "exec", "-T", name, "true")
    assert (refused.returncode, f"container {name} is not running" in refused.stderr) == (1, True)
    assert stack.ok("container", "rm", name) == f"{name}\n"
    other = stack.ok("run", "-d", "web").strip()
    assert stack.ok("container", "rm", "-f", other) == f"{other}\n"
    assert list(stack.ps()) == [f"{stack.name}-web-1"]


def test_ctrl_c_of_up_leaves_things_as_they_are(host: Host) -> None:
    """No traceback, 130, and what had not begun does not begin later."""
    stack = host.stack(
        """
        services:
          slow:
            image: host
            command: [sleep, "1000"]
            init: true
            healthcheck: {test: ["CMD", "false"], interval: 1s, retries: 1000, start_period: 1h}
          web:
            image: host
            command: [sleep, "1000"]
            init: true
            depends_on: {slow: {condition: service_healthy}}
        """
    )
    client = stack.start("up", "-d")
    assert client.stderr is not None
    told = ""
    while "slow-1  Started" not in told:
        line = client.stderr.readline()
        assert line, told
        told += line
    client.send_signal(signal.SIGINT)
    _, rest = client.communicate(timeout=60)
    assert client.returncode == 130 and "Traceback" not in rest
    assert {row["Service"]: row["State"] for row in stack.ps().values()} == {
        "slow": "running",
        "web": "created",
    }
    # The supervisor is free for the next wish at once.
    stack.ok("up", "-d", "--no-deps", "web")
    assert stack.ps("web")[f"{stack.name}-web-1"]["State"] == "running"
