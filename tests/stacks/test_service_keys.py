"""Keys of a service that must act, asked of the kernel from inside the containers. One stack for all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.host import Host, Stack

pytestmark = [pytest.mark.kernel, pytest.mark.xdist_group("service-keys")]

FILE = """
x-base: &base
  image: host
  init: true
  command: [sleep, "100000"]
  stop_grace_period: 1s

services:
  plain: {<<: *base}
  process:
    <<: *base
    environment: {GREETING: "hello $$there", EMPTY: ""}
    env_file: [one.env]
    working_dir: /made/here
    user: "1234:2345"
    group_add: ["3456"]
    hostname: box
    domainname: example.test
    labels: {com.example.role: "front"}
    ulimits: {nofile: {soft: 100, hard: 200}, core: 0}
    sysctls: {net.ipv4.ip_unprivileged_port_start: 0}
    security_opt: ["no-new-privileges:true"]
    oom_score_adj: 500
  limits:
    <<: *base
    mem_limit: 64m
    pids_limit: 33
    cpus: 0.5
    cpu_shares: 512
    shm_size: 3m
  mounts:
    <<: *base
    read_only: true
    tmpfs: ["/scratch:size=2m,mode=1770", /tmp]
    volumes:
      - ./source:/bound:ro
      - named:/named
      - /anonymous
      - {type: bind, source: ./source, target: /writable}
      - {type: tmpfs, target: /small, tmpfs: {size: 1m}}
      - {type: volume, source: named, target: /part, volume: {subpath: inner}}
    secrets: [plain_secret, {source: owned, target: /run/secrets/mine, uid: "1000", gid: "1001", mode: 0440}]
    configs: [{source: inline, target: /etc/inline.conf}]
    depends_on:
      maker: {condition: service_completed_successfully}
  maker:
    image: host
    command: [sh, -c, "mkdir -p /named/inner && echo inside > /named/inner/file"]
    volumes: [named:/named]
  caps:
    <<: *base
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE, CHOWN]
  privileged: {<<: *base, privileged: true, devices: [/dev/kmsg, "/dev/null:/dev/full"]}
  device: {<<: *base, devices: ["/dev/null:/dev/mine:r", "/dev/urandom:/dev/random"]}
  terminal: {<<: *base, tty: true}
  hooks:
    <<: *base
    post_start: [{command: [sh, -c, "echo started > /hook"]}]
    pre_stop: [{command: [sh, -c, "echo stopping >> /kept/hook"]}]
    volumes: [named:/kept]
  entry:
    image: host
    entrypoint: [sh, -c, 'echo "$$0 $$1"; sleep 100000']
    command: [one, two]
    init: true
  sharer: {<<: *base, pid: "service:plain", ipc: "service:plain", network_mode: "service:plain"}
  interrupted:
    image: host
    stop_signal: SIGUSR1
    command: [sh, -c, "trap 'exit 42' USR1; while :; do sleep 0.05; done"]
  hog:
    image: host
    mem_limit: 32m
    command: [python3, -c, "x = bytearray(200 << 20)"]

volumes: {named: }
secrets:
  plain_secret: {file: ./secret.txt}
  owned: {environment: TOKEN}
configs:
  inline: {content: "value=${TOKEN}"}
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    host = Host()
    host.environment["TOKEN"] = "s3cr3t"
    try:
        made = host.stack(
            FILE,
            files={"one.env": "FROM_FILE=yes\n", "secret.txt": "whisper", "source/file": "from the host\n"},
        )
        made.ok("up", "-d")
        yield made
    finally:
        found = host.end()
    assert not found, found


def sh(stack: Stack, service: str, script: str) -> str:
    return stack.ok("exec", "-T", service, "sh", "-c", script).strip()


def test_environment(stack: Stack) -> None:
    assert sh(stack, "process", 'echo "$GREETING|$EMPTY|$FROM_FILE|$HOSTNAME"') == "hello $there||yes|box"


def test_working_dir_is_made(stack: Stack) -> None:
    assert sh(stack, "process", "pwd") == "/made/here"


def test_user_and_groups(stack: Stack) -> None:
    assert sh(stack, "process", "id -u; id -g; id -G").split() == ["1234", "2345", "2345", "3456"]


def test_names_of_the_host(stack: Stack) -> None:
    assert sh(stack, "process", "uname -n; cat /proc/sys/kernel/domainname") == "box\nexample.test"
    assert "box.example.test" in sh(stack, "process", "cat /etc/hosts")


def test_ulimits_sysctls_privileges(stack: Stack) -> None:
    assert sh(stack, "process", "ulimit -Sn; ulimit -Hn; ulimit -c").split() == ["100", "200", "0"]
    assert sh(stack, "process", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start") == "0"
    assert "NoNewPrivs:\t1" in sh(stack, "process", "cat /proc/self/status")
    assert sh(stack, "process", "cat /proc/self/oom_score_adj") == "500"


def test_labels(stack: Stack) -> None:
    labels = stack.ps()[f"{stack.name}-process-1"]["Labels"]
    assert "com.example.role=front" in labels
    assert f"com.docker.compose.project={stack.name}" in labels
    waits = stack.ps()[f"{stack.name}-mounts-1"]["Labels"]
    assert "com.docker.compose.depends_on=maker:service_completed_successfully:false" in waits
    assert re.search(r"com.docker.compose.image=[^,]+", waits)


def test_limits(stack: Stack) -> None:
    """By the container's own view of its cgroup, whichever version."""
    both = "cat /sys/fs/cgroup/{0} /sys/fs/cgroup/{1} 2>/dev/null | head -1"
    assert sh(stack, "limits", both.format("memory.max", "memory/memory.limit_in_bytes")) == str(64 << 20)
    assert sh(stack, "limits", both.format("pids.max", "pids/pids.max")) == "33"
    quota = sh(stack, "limits", both.format("cpu.max", "cpu/cpu.cfs_quota_us"))
    assert quota in ("50000", "50000 100000")
    assert "3072k" in sh(stack, "limits", "grep ' /dev/shm ' /proc/mounts")


def test_mounts(stack: Stack) -> None:
    assert sh(stack, "mounts", "cat /bound/file") == "from the host"
    assert stack("exec", "-T", "mounts", "touch", "/bound/x").returncode == 1
    assert stack("exec", "-T", "mounts", "touch", "/x").returncode == 1
    sh(stack, "mounts", "echo written > /writable/new && touch /scratch/x /tmp/x /anonymous/x /small/x")
    assert (stack.folder / "source" / "new").read_text() == "written\n"
    assert "size=2048k,mode=1770" in sh(stack, "mounts", "grep ' /scratch ' /proc/mounts")
    assert sh(stack, "mounts", "cat /part/file") == "inside"


def test_secrets_and_configs(stack: Stack) -> None:
    assert sh(stack, "mounts", "cat /run/secrets/plain_secret") == "whisper"
    assert (
        sh(stack, "mounts", "stat -c '%u %g %a' /run/secrets/mine; cat /run/secrets/mine")
        == "1000 1001 440\ns3cr3t"
    )
    assert sh(stack, "mounts", "cat /etc/inline.conf") == "value=s3cr3t"


def test_capabilities(stack: Stack) -> None:
    bounding = sh(stack, "caps", "grep CapBnd /proc/self/status").split()[1]
    assert int(bounding, 16) == 1 << 10 | 1 << 0
    assert int(sh(stack, "plain", "grep CapBnd /proc/self/status").split()[1], 16) == 0xA80425FB


def test_privileged(stack: Stack) -> None:
    mine = int(sh(stack, "privileged", "grep CapEff /proc/self/status").split()[1], 16)
    assert mine >> 21 & 1, "CAP_SYS_ADMIN"
    assert "Seccomp:\t0" in sh(stack, "privileged", "cat /proc/self/status")
    assert "Seccomp:\t2" in sh(stack, "plain", "cat /proc/self/status")
    assert int(sh(stack, "privileged", "ls /dev | wc -l")) > int(sh(stack, "plain", "ls /dev | wc -l"))


def test_devices(stack: Stack) -> None:
    assert sh(stack, "device", "stat -c '%t %T' /dev/mine") == "1 3"
    assert sh(stack, "device", "stat -c '%t %T' /dev/random") == "1 9"
    assert sh(stack, "privileged", "stat -c '%t %T' /dev/full") == "1 3"


def test_terminal(stack: Stack) -> None:
    assert sh(stack, "terminal", "readlink /proc/2/fd/1 || readlink /proc/1/fd/1").startswith("/dev/")


def test_hooks(stack: Stack) -> None:
    assert sh(stack, "hooks", "cat /hook") == "started"
    stack.ok("stop", "hooks")
    assert "stopping" in sh(stack, "mounts", "cat /named/hook")


def test_entrypoint_and_command(stack: Stack) -> None:
    assert stack.ok("logs", "--no-log-prefix", "entry") == "one two\n"


def test_shared_namespaces(stack: Stack) -> None:
    spaces = "readlink /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/net"
    assert sh(stack, "sharer", spaces) == sh(stack, "plain", spaces)
    assert sh(stack, "mounts", spaces) != sh(stack, "plain", spaces)


def test_stop_signal(stack: Stack) -> None:
    stack.ok("stop", "interrupted")
    assert stack.ps()[f"{stack.name}-interrupted-1"]["ExitCode"] == 42


def test_out_of_memory_is_said(stack: Stack) -> None:
    stack("logs", "-f", "hog")  # until it has ended
    row = stack.ps()[f"{stack.name}-hog-1"]
    assert row["ExitCode"] == 137
    assert "out of memory" in row["Reason"]


def test_anonymous_volumes_survive_a_recreate(stack: Stack) -> None:
    sh(stack, "mounts", "echo kept > /anonymous/kept")
    before = stack.ps()[f"{stack.name}-mounts-1"]["ID"]
    stack.ok("up", "-d", "--no-deps", "--force-recreate", "mounts")
    assert stack.ps()[f"{stack.name}-mounts-1"]["ID"] != before
    assert sh(stack, "mounts", "cat /anonymous/kept") == "kept"
    stack.ok("up", "-d", "--no-deps", "--force-recreate", "-V", "mounts")
    assert sh(stack, "mounts", "ls /anonymous") == ""


def test_json_of_ps_can_be_read_by_scripts(stack: Stack) -> None:
    line = stack.ok("ps", "-a", "--format", "json", "plain").strip()
    row = json.loads(line)
    assert (row["Service"], row["State"], row["Image"], row["Project"]) == (
        "plain",
        "running",
        "host",
        stack.name,
    )


def test_ports_that_the_image_exposes_are_told(host: Host) -> None:
    stack = host.stack("""
        services:
          a:
            build: {context: ., dockerfile_inline: "FROM host\\nEXPOSE 6379 80 53/udp\\n"}
            init: true
            command: [sleep, "1000"]
            expose: ["91"]
            ports: ["127.0.0.1::80"]
    """)
    stack.ok("up", "-d")
    (row,) = stack.ps().values()
    (published,) = (each["PublishedPort"] for each in row["Publishers"] if each["PublishedPort"])
    assert row["Ports"] == f"127.0.0.1:{published}->80/tcp, 91/tcp, 6379/tcp, 53/udp"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("dns: [8.8.8]", "dns '8.8.8' is not an IP address"),
        ("extra_hosts: ['b=1.2.3.400']", "extra_hosts: '1.2.3.400' of b is not an IP address"),
        ("working_dir: app", "working_dir 'app' is not absolute"),
        ("mem_limit: 64m, mem_reservation: 1g", "mem_limit is less than mem_reservation"),
        ("mem_limit: 512", "mem_limit: 512 bytes are too little"),
        ("cpuset: 0-4095", "cpuset 0-4095 names processors that this machine does not have"),
        ("expose: ['80:80']", "expose '80:80' is no port"),
        ("cap_add: [NETADMIN]", "there is no capability NETADMIN"),
        ("group_add: [nosuch]", "there is no group nosuch in the container's /etc/group"),
        ("stop_signal: SIGTREM", "stop_signal: SIGTREM is no signal"),
        ("cap_add: [NETADMIN]", "there is no capability NETADMIN"),
        ("ulimits: {nofiles: 5}", "there is no ulimit nofiles"),
        ("security_opt: [no-new-privs]", "security_opt 'no-new-privs' means nothing here"),
        ("security_opt: ['label=tpye:x_t']", "security_opt 'label=tpye:x_t' means nothing here"),
        ("pid: hots", "pid mode 'hots' is not known"),
        ("secrets: [s]", "the variable NOT_SET, of which secret s is made, is not set"),
    ],
)
def test_what_no_container_can_have_is_refused_before_anything_begins(
    host: Host, keys: str, told: str
) -> None:
    stack = host.stack(f"""
        services: {{a: {{image: host, command: ["true"], {keys}}}}}
        secrets: {{s: {{environment: NOT_SET}}}}
    """)
    done = stack("up", "-d")
    assert (done.returncode, "Creating" in done.stderr) == (1, False)
    assert f"error: service a: {told}" in done.stderr
    assert stack.ps() == {}
    if "group" not in keys:
        assert f"service a: {told}" in stack("run", "--rm", "a").stderr
    assert stack("down").returncode == 0


@pytest.mark.parametrize(
    ("source", "target"), [("./missing.conf", "/etc/passwd"), ("./compose.yaml", "/tmp")]
)
def test_a_folder_and_a_file_cannot_be_one(host: Host, source: str, target: str) -> None:
    stack = host.stack(f"services: {{a: {{image: host, command: ['true'], volumes: ['{source}:{target}']}}}}")
    done = stack("up", "-d")
    path = stack.folder / source
    text = (
        f"{path} cannot be mounted at {target}: one is a folder, the other a file (a source that is not there"
    )
    assert (done.returncode, f"error: container {stack.name}-a-1: {text}" in done.stderr) == (1, True)
