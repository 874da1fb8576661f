"""Values that no container can have are told where they stand, and nothing that is well is."""

from __future__ import annotations

import pytest

from composer.model.known import signal_number
from tests.model.test_load import loaded

OF_A_SERVICE = [
    ("image: Owner/App:Tag", "image", "`Owner/App:Tag` cannot be", "only its tag may have capitals"),
    ("image: 'a:b:c'", "image", "`a:b:c` cannot be the name", "as in nginx:1.29"),
    ("image: “nginx”", "image", "`“nginx”` cannot be the name", "as in nginx:1.29"),
    ("stop_signal: SIGTREM", "stop_signal", "`SIGTREM` is no signal", "did you mean `SIGTERM`?"),
    ("stop_signal: '99'", "stop_signal", "`99` is no signal", "name one as"),
    ("ulimits: {nofiles: 5}", "ulimits.nofiles", "there is no ulimit", "did you mean `nofile`?"),
    ("ulimits: {nofile: {soft: 9, hard: 5}}", "ulimits.nofile", "above the hard one", ""),
    ("ulimits: {nofile: {soft: -1, hard: 5}}", "ulimits.nofile", "above the hard one", ""),
    ("sysctls: {vm.swappiness: 5}", "sysctls.vm.swappiness", "whole host's", "sysctl -w vm.swappiness=5"),
    ("sysctls: [net.core.somaxconn]", "sysctls.net.core.somaxconn", "no value", "net.core.somaxconn=VALUE"),
    ("dns: [1.1.1.1, 8.8.8]", "dns[1]", "`8.8.8` is not an IP address", ""),
    ("extra_hosts: ['b=1.2.3.400']", "extra_hosts", "`1.2.3.400` of b", "host-gateway"),
    ("working_dir: app", "working_dir", "`app` is not absolute", "as in /app"),
    ("cap_add: [SYS_TIME, NETADMIN]", "cap_add[1]", "no capability `NETADMIN`", "did you mean `NET_ADMIN`?"),
    ("cap_drop: [cap_chwon]", "cap_drop[0]", "no capability `cap_chwon`", "did you mean `CHOWN`?"),
    ("expose: [80, '80:80']", "expose[1]", "`80:80` is no port of the container", "publish it by `ports`"),
    ("expose: [99999]", "expose[0]", "`99999` is no port", "as in 80"),
    ("mac_address: '02:42'", "mac_address", "is not a MAC address", "02:42:ac"),
    ("tmpfs: ['/a:size=64x']", "tmpfs[0]", "`64x` is not a size", ""),
    ("tmpfs: [run]", "tmpfs[0]", "mounted at /run", ""),
    ("network_mode: hst", "network_mode", "`hst` is not known", "did you mean `host`?"),
    ("network_mode: somewhere", "network_mode", "`somewhere` is not known", "known are bridge"),
    ("pid: shared", "pid", "`shared` is not known", "known are host, private, service:NAME"),
    ("mem_limit: 512", "mem_limit", "512 bytes are too little", "as in 512m"),
    ("mem_limit: 64m, mem_reservation: 1g", "mem_limit", "less than what is reserved", ""),
    (
        "deploy: {resources: {limits: {memory: 64m}, reservations: {memory: 1g}}}",
        "deploy.resources.limits.memory",
        "less than what is reserved",
        "",
    ),
    ("volumes: ['./a:/a', './b:/b:readonly']", "volumes[1]", "`readonly` is no option", "did you mean `ro`?"),
    ("volumes: ['./b:/b:ro,rshraed']", "volumes[0]", "`rshraed` is no option", "did you mean `rshared`?"),
    ("volumes: ['C:\\\\a:/x']", "volumes[0]", "a path of Windows", ""),
    ("volumes: ['/var/run/docker.sock:/s']", "volumes[0]", "no Docker runs these", "as Traefik"),
]


@pytest.mark.parametrize(("text", "path", "message", "hint"), OF_A_SERVICE)
def test_what_no_container_can_have_is_told_with_its_place(
    text: str, path: str, message: str, hint: str
) -> None:
    image = "" if text.startswith("image:") else "image: x, "
    (told,) = loaded(f"services: {{a: {{{image}{text}}}}}").warnings
    assert f": services.a.{path}: " in str(told) and message in str(told)
    assert hint in (told.hint or "")


FIXED = "{image: x, networks: {n: {ipv4_address: %s}}}"
NETWORK = "networks: {n: {ipam: {config: [{subnet: 10.9.0.0/24}, {subnet: 'fd00::/64'}]}}}"


@pytest.mark.parametrize(
    ("services", "network", "told"),
    [
        (f"{{a: {FIXED % '10.9.0.5'}}}", NETWORK, []),
        ("{a: {image: x, networks: {n: {ipv6_address: 'fd00::5'}}}}", NETWORK, []),
        (
            f"{{a: {FIXED % '10.8.0.5'}}}",
            NETWORK,
            ["services.a.networks.n.ipv4_address: `10.8.0.5` is not in 10.9.0.0/24, which `n` has"],
        ),
        (
            f"{{a: {FIXED % '10.8.0.5'}}}",
            "networks: {n: }",
            ["services.a.networks.n.ipv4_address: `10.8.0.5` needs a subnet, and `n` has none"],
        ),
        (
            f"{{a: {FIXED % '10.9.0.5'}, b: {FIXED % '10.9.0.5'}}}",
            NETWORK,
            ["services.b.networks.n.ipv4_address: `10.9.0.5` is also the address of `a`"],
        ),
        (f"{{a: {FIXED % '10.8.0.5'}}}", "networks: {n: {external: true}}", []),
        (
            "{a: {image: x, networks: [n]}}",
            "networks: {n: {ipam: {config: [{subnet: 10.9.0.0}]}}}",
            ["networks.n.ipam.config[0].subnet: has no prefix length"],
        ),
    ],
)  # fmt: skip
def test_fixed_addresses_fit(services: str, network: str, told: list[str]) -> None:
    found = [str(warning) for warning in loaded(f"services: {services}\n{network}").warnings]
    assert [line.partition(": ")[2] for line in found] == told


def test_a_secret_of_a_variable_that_is_not_set() -> None:
    text = (
        "services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {environment: NOT_SET}, t: {environment: NO}}"
    )
    (told,) = loaded(text).warnings
    assert "secrets.s.environment: the variable NOT_SET is not set" in str(told)


FINE = """
    image: ghcr.io/owner/app-x__y:v1.2-RC@sha256:00aa
    stop_signal: RTMIN+3
    ulimits: {nofile: {soft: 5, hard: -1}, nproc: 5, core: -1}
    sysctls: {net.core.somaxconn: 0, kernel.shmmax: 1}
    dns: ['1.1.1.1', '::1']
    extra_hosts: ['a:1.2.3.4', 'b:host-gateway', 'c=::1']
    working_dir: /app
    mac_address: 02:42:ac:11:00:02
    tmpfs: ['/run', '/tmp:size=10%,mode=1777', '/x:size=64m,noexec']
    network_mode: container:other
    ipc: shareable
    mem_limit: 64m
    mem_reservation: 32m
    volumes: ['./a:/a', '/var/run/docker:/docker', './b:/b:ro,z,cached', '/c']
"""


def test_what_is_well_is_not_told() -> None:
    assert loaded(f"services:\n  a:{FINE}").warnings == ()
    for image in ("localhost:5000/a", "localhost/a", "[::1]:5000/a:B", "sha256:00ff", "host", "a/b/c"):
        assert loaded(f"services: {{a: {{image: '{image}'}}}}").warnings == ()


def test_signals_have_names_and_numbers() -> None:
    assert [signal_number(text) for text in ("TERM", "sigkill", "15", "RTMIN+3")] == [15, 9, 15, 37]
