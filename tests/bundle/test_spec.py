"""Whole specs: what Docker gives a container by default, and how a service changes it."""

from __future__ import annotations

from typing import Any

import pytest

from composer import oci
from composer.bundle import spec
from composer.bundle.inputs import Account, Binding, Device, HostFacts, Place
from composer.errors import UsageError
from composer.model.stack import BlkioConfig, DeviceRate, FrozenMap, Mount, Resources, Service, Stack, Ulimit

IMAGE = {"Env": ["PATH=/bin", "MODE=image"], "Cmd": ["serve"], "WorkingDir": "/srv"}
ID = "0123456789abcdef"


def made(facts: HostFacts | None = None, place: dict[str, Any] | None = None, **fields: Any) -> oci.Spec:
    service = Service(name="web", **fields)
    stack = Stack("s", FrozenMap(web=service))
    return spec(stack, service, Place(id=ID, name="s-web-1", **(place or {})), IMAGE, facts or HostFacts())


def mount(of: oci.Spec, target: str) -> list[str]:
    return next(m["options"] for m in of["mounts"] if m["destination"] == target)


def targets(of: oci.Spec) -> list[str]:
    return [m["destination"] for m in of["mounts"]]


def kinds(of: oci.Spec) -> dict[str, str]:
    return {n["type"]: n.get("path", "") for n in of["linux"]["namespaces"]}


def test_the_default_container() -> None:
    found = made()
    assert found["hostname"] == ID[:12]
    assert found["root"] == {"path": "rootfs", "readonly": False}
    assert found["linux"]["cgroupsPath"] == f"/composer/s/{ID}"
    assert found["process"]["args"] == ["serve"]
    assert found["process"]["cwd"] == "/srv"
    assert found["process"]["env"] == ["PATH=/bin", f"HOSTNAME={ID[:12]}", "MODE=image", "HOME=/"]
    assert len(found["process"]["capabilities"]["bounding"]) == 14
    assert targets(found) == [
        *("/proc", "/dev", "/sys", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys/fs/cgroup"),
    ]
    assert set(kinds(found)) == {"mount", "network", "pid", "ipc", "uts", "cgroup"}
    assert "/proc/kcore" in found["linux"]["maskedPaths"]
    assert found["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert found["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"] == "0"


def test_privileged_takes_the_guards_away() -> None:
    sda = Device(path="/dev/sda", type="b", major=8, minor=0)
    found = made(HostFacts(devices=(sda,)), {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}}, privileged=True)
    linux = found["linux"]
    assert "maskedPaths" not in linux and "readonlyPaths" not in linux and "seccomp" not in linux
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert [device["path"] for device in linux["devices"]] == ["/dev/sda"]
    assert len(found["process"]["capabilities"]["bounding"]) == 41
    assert "ro" not in mount(found, "/sys") + mount(found, "/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("fields", "place", "gone", "joined"),
    [
        ({"network_mode": "host"}, {}, {"network"}, {}),
        ({"network_mode": "none"}, {}, set(), {}),
        ({"network_mode": "service:db"}, {"joined": {"network": "/n"}}, set(), {"network": "/n"}),
        ({"pid": "host"}, {}, {"pid"}, {}),
        ({"ipc": "service:db"}, {"joined": {"ipc": "/p"}, "shm": "/run/shm"}, set(), {"ipc": "/p"}),
        ({"uts": "host"}, {}, {"uts"}, {}),
        ({"cgroup": "host"}, {}, {"cgroup"}, {}),
    ],
)
def test_namespaces_follow_the_modes(
    fields: dict[str, Any], place: dict[str, Any], gone: set[str], joined: dict[str, str]
) -> None:
    found = kinds(made(place=place, **fields))
    assert {"mount", "network", "pid", "ipc", "uts", "cgroup"} - found.keys() == gone
    assert {kind: path for kind, path in found.items() if path} == joined


def test_a_host_uts_namespace_gets_no_hostname() -> None:
    assert "hostname" not in made(uts="host")


def test_the_hosts_network_brings_the_hosts_name() -> None:
    found = made(HostFacts(hostname="box"), network_mode="host")
    assert found["hostname"] == "box"
    assert "sysctl" in found["linux"] and not found["linux"]["sysctl"]


def test_a_joined_ipc_namespace_brings_its_shared_memory() -> None:
    found = made(place={"joined": {"ipc": "/p"}, "shm": "/run/shm"}, ipc="service:db")
    assert next(m["source"] for m in found["mounts"] if m["destination"] == "/dev/shm") == "/run/shm"


def test_a_range_of_ids_makes_a_user_namespace() -> None:
    binding = Binding(Mount("bind", "/data", "/src"), "/src")
    found = made(place={"first_id": 1 << 31, "bindings": (binding,)})
    assert "user" in kinds(found)
    assert found["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1 << 31, "size": 65536}]
    assert found["linux"]["gidMappings"] == found["linux"]["uidMappings"]
    assert mount(found, "/data")[:2] == ["rbind", "ridmap"]
    assert found["linux"]["sysctl"]["net.ipv4.ping_group_range"] == "0 65535"


def test_without_a_range_there_is_none() -> None:
    binding = Binding(Mount("bind", "/data", "/src"), "/src")
    found = made(place={"bindings": (binding,)})
    assert "user" not in kinds(found)
    assert "uidMappings" not in found["linux"]
    assert "ridmap" not in mount(found, "/data")


def test_a_user_namespace_is_shared_with_the_others() -> None:
    place = {"first_id": 1 << 31, "joined": {"network": "/p/net", "user": "/p/user"}}
    found = made(place=place, network_mode="service:web")
    assert {"type": "user", "path": "/p/user"} in found["linux"]["namespaces"]


def test_nobody_owns_devices_of_owners_that_a_user_namespace_does_not_have() -> None:
    device = Device(path="/dev/x", type="c", major=1, minor=3, uid=70_000, gid=20)
    (node,) = made(place={"first_id": 1 << 31, "devices": (device,)})["linux"]["devices"]
    assert (node["uid"], node["gid"]) == (65534, 20)


def test_resources() -> None:
    found = made(resources=Resources(cpus=1.5, memory=8 << 20, pids=10, oom_score_adj=5))
    resources = found["linux"]["resources"]
    assert resources["cpu"] == {"period": 100_000, "quota": 150_000}
    assert resources["memory"] == {"limit": 8 << 20, "swap": 16 << 20}
    assert resources["pids"] == {"limit": 10}
    assert found["process"]["oomScoreAdj"] == 5


MEMORY = 100 << 20


@pytest.mark.parametrize(
    ("memory", "swap", "expected"),
    [
        (0, 0, None),
        (MEMORY, 0, {"limit": MEMORY, "swap": 2 * MEMORY}),
        (MEMORY, MEMORY + 9, {"limit": MEMORY, "swap": MEMORY + 9}),
        (MEMORY, -1, {"limit": MEMORY, "swap": -1}),
        (0, -1, {"swap": -1}),
    ],
)
def test_swap_rules(memory: int, swap: int, expected: dict[str, int] | None) -> None:
    found = made(resources=Resources(memory=memory, memory_swap=swap))["linux"]["resources"]
    assert found.get("memory") == expected


def test_a_kernel_that_cannot_limit_swap_can_limit_memory() -> None:
    facts = HostFacts(swap=False)
    assert made(facts, resources=Resources(memory=MEMORY))["linux"]["resources"]["memory"] == {
        "limit": MEMORY
    }
    asked = made(facts, resources=Resources(memory=MEMORY, memory_swap=MEMORY + 9))["linux"]["resources"][
        "memory"
    ]
    assert asked == {"limit": MEMORY, "swap": MEMORY + 9}


@pytest.mark.parametrize(
    "fields",
    [
        {"resources": Resources(memory_swap=10)},
        {"resources": Resources(memory=MEMORY, memory_swap=10)},
        {"cap_add": ("FLY",)},
        {"runtime": "runc", "init": True},
        {"security_opt": ("seccomp",)},
        {"security_opt": ("nonsense=1",)},
        {"sysctls": {"kernel.panic": "1"}},
        {"sysctls": {"net.core.somaxconn": "1"}, "network_mode": "host"},
        {"sysctls": {"net.ipv4/../../kernel.panic": "1"}},
        {"ulimits": {"wishes": Ulimit(3, 3)}},
        {"ulimits": {"nofile": Ulimit(-1, 3)}},
        {"device_cgroup_rules": ("c 1:3",)},
        {"device_cgroup_rules": ("x 1:3 r",)},
        {"network_mode": "carrier-pigeon"},
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        made(**fields)


def test_ulimits_and_the_limit_on_open_files() -> None:
    default = made()["process"]["rlimits"]
    assert default == [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 524_288}]
    own = made(ulimits={"nofile": Ulimit(5, -1), "core": Ulimit(0, 0)})["process"]["rlimits"]
    assert own == [
        {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 2**64 - 1},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]


def test_security_options() -> None:
    found = made(
        security_opt=("no-new-privileges", "apparmor=mine", "systempaths=unconfined", "label:disable")
    )
    assert found["process"]["noNewPrivileges"] is True
    assert found["process"]["apparmorProfile"] == "mine"
    assert "maskedPaths" not in found["linux"]


OWN = "system_u:system_r:unconfined_service_t:s0:c1,c2"


@pytest.mark.parametrize(
    ("options", "process", "files"),
    [
        (("label=type:mine_t",), "system_u:system_r:mine_t:s0:c1,c2", None),
        (("label=level:s0", "label:role:r_r"), "system_u:r_r:unconfined_service_t:s0", None),
        (("label=filetype:mine_file_t",), None, "system_u:object_r:mine_file_t:s0:c1,c2"),
        (("label=disable",), None, None),
    ],
)
def test_labels_where_there_is_selinux(
    options: tuple[str, ...], process: str | None, files: str | None
) -> None:
    found = made(HostFacts(selinux=OWN), security_opt=options)
    assert found["process"].get("selinuxLabel") == process
    assert found["linux"].get("mountLabel") == files
    without = made(HostFacts(), security_opt=options)
    assert "selinuxLabel" not in without["process"] and "mountLabel" not in without["linux"]


def test_unconfined_is_nothing_to_ask_of_a_kernel_without_apparmor() -> None:
    found = made(security_opt=("apparmor:unconfined",))
    assert "apparmorProfile" not in found["process"]


def test_a_seccomp_profile_is_taken_as_given() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW"}
    assert made(place={"seccomp": profile})["linux"]["seccomp"] == profile
    assert "seccomp" not in made()["linux"]


def test_annotations_say_who_it_is() -> None:
    found = made(annotations=FrozenMap(a="b"), init=True)["annotations"]
    assert found["a"] == "b"
    assert found["composer.init"] == "true"
    assert (found["composer.stack"], found["composer.service"], found["composer.number"]) == ("s", "web", "1")


def test_the_account_and_the_parent_group() -> None:
    found = made(place={"account": Account(7, 8, (9,), "/home/u")}, cgroup_parent="/mine/")
    assert found["process"]["user"] == {"uid": 7, "gid": 8, "additionalGids": [9]}
    assert "HOME=/home/u" in found["process"]["env"]
    assert found["linux"]["cgroupsPath"] == f"/mine/{ID}"


def test_mounts_of_the_service_replace_the_defaults() -> None:
    bindings = (
        Binding(Mount("bind", "/srv/deep/down"), "/h/2"),
        Binding(Mount("volume", "/srv"), "/h/1"),
        Binding(Mount("tmpfs", "/dev/shm", tmpfs_size=4096)),
    )
    files = {"/etc/hosts": "/b/hosts"}
    found = made(place={"bindings": bindings, "files": files, "grants": {"/run/secrets/key": "/k"}})
    assert targets(found).count("/dev/shm") == 1
    assert mount(found, "/dev/shm") == ["nosuid", "noexec", "nodev", "rprivate", "size=4096"]
    assert targets(found).index("/srv") < targets(found).index("/srv/deep/down")
    assert mount(found, "/etc/hosts") == ["rbind", "rw", "rprivate"]
    assert "ro" in mount(found, "/run/secrets/key")


def test_a_mount_over_dev_takes_its_children_away() -> None:
    found = made(place={"bindings": (Binding(Mount("bind", "/dev"), "/dev"),)})
    assert [t for t in targets(found) if t.startswith("/dev")] == ["/dev"]


@pytest.mark.parametrize("target", ["/", "/proc", "/srv/../proc/"])
def test_some_places_cannot_be_covered(target: str) -> None:
    with pytest.raises(UsageError):
        made(place={"bindings": (Binding(Mount("bind", target), "/h"),)})


def test_two_mounts_at_one_place_are_refused() -> None:
    with pytest.raises(UsageError, match="two mounts at /a"):
        made(place={"bindings": (Binding(Mount("bind", "/a"), "/h"),), "grants": {"/a/": "/k"}})


@pytest.mark.parametrize(
    ("fields", "kernel", "expected"),
    [
        ({}, (6, 1), ["rbind", "rw", "rprivate"]),
        ({"read_only": True}, (6, 1), ["rbind", "rro", "rprivate"]),
        ({"read_only": True}, (5, 10), ["rbind", "ro", "rprivate"]),
        ({"read_only": True, "recursive": "writable"}, (6, 1), ["rbind", "ro", "rprivate"]),
        ({"read_only": True, "recursive": "disabled"}, (6, 1), ["bind", "ro", "rprivate"]),
        ({"propagation": "rslave"}, (6, 1), ["rbind", "rw", "rslave"]),
    ],
)
def test_bind_options(fields: dict[str, Any], kernel: tuple[int, int], expected: list[str]) -> None:
    place = {"bindings": (Binding(Mount("bind", "/a", **fields), "/h"),)}
    assert mount(made(HostFacts(kernel=kernel), place), "/a") == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["nosuid", "noexec", "nodev", "rprivate"]),
        (("exec",), ["nosuid", "nodev", "rprivate", "exec"]),
        (("size=1m", "size=2m"), ["nosuid", "noexec", "nodev", "rprivate", "size=2m"]),
        (("exec", "noexec"), ["nosuid", "nodev", "rprivate", "noexec"]),
    ],
)
def test_tmpfs_options(options: tuple[str, ...], expected: list[str]) -> None:
    place = {"bindings": (Binding(Mount("tmpfs", "/a", tmpfs_options=options)),)}
    assert mount(made(place=place), "/a") == expected


def test_a_read_only_root_keeps_generated_files_read_only() -> None:
    found = made(place={"files": {"/etc/hosts": "/b/hosts"}}, read_only=True)
    assert found["root"]["readonly"] is True
    assert "ro" in mount(found, "/etc/hosts")


def test_the_hosts_ipc_namespace_brings_the_hosts_directories() -> None:
    found = made(ipc="host")
    assert "ipc" not in kinds(found)
    sources = {m["destination"]: m["source"] for m in found["mounts"]}
    assert (sources["/dev/shm"], sources["/dev/mqueue"]) == (
        "/dev/shm",
        "mqueue",
    )  # a host may have no such path


@pytest.mark.parametrize(("size", "expected"), [(0, "size=67108864"), (4096, "size=4096")])
def test_the_size_of_shared_memory(size: int, expected: str) -> None:
    assert expected in mount(made(shm_size=size), "/dev/shm")


def test_without_ipc_there_is_no_shared_memory() -> None:
    assert "/dev/shm" not in targets(made(ipc="none"))


def test_block_devices_by_number() -> None:
    blkio = BlkioConfig(weight=300, device_read_bps=(DeviceRate("/dev/sda", 1000),))
    found = made(
        place={"block_devices": {"/dev/sda": (8, 0)}},
        resources=Resources(blkio=blkio, memory_swappiness=0, oom_kill_disable=True),
    )
    assert found["linux"]["resources"]["blockIO"] == {
        "weight": 300,
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
    }
    assert found["linux"]["resources"]["memory"] == {"swappiness": 0, "disableOOMKiller": True}


def test_devices_are_made_and_allowed() -> None:
    fuse = Device(path="/dev/fuse", type="c", major=10, minor=229, access="rw")
    found = made(place={"devices": (fuse,)})["linux"]
    assert found["devices"][0]["path"] == "/dev/fuse"
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    assert rule in found["resources"]["devices"]


def test_names_and_sysctls_of_ones_own() -> None:
    found = made(hostname="box", domainname="lan", sysctls={"net.core.somaxconn": "9"})
    assert (found["hostname"], found["domainname"]) == ("box", "lan")
    assert "HOSTNAME=box" in found["process"]["env"]
    assert found["linux"]["sysctl"]["net.core.somaxconn"] == "9"


def test_a_tree_that_cannot_be_made_read_only_is_refused() -> None:
    binding = Binding(Mount("bind", "/a", read_only=True, recursive="readonly"), "/h")
    assert "rro" in mount(made(place={"bindings": (binding,)}), "/a")
    with pytest.raises(UsageError, match=r"5\.12"):
        made(HostFacts(kernel=(5, 10)), {"bindings": (binding,)})
