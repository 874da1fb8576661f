"""The pieces of a spec, one table each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.bundle import accounts, files, limits, process, security
from composer.bundle.inputs import Account, HostFacts
from composer.errors import ComposerError, NotFoundError, UsageError
from composer.model.known import CAPABILITIES
from composer.model.stack import SECOND, Resources, Service
from composer.runtime.capabilities import NAMES

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment
broken line
www:x:33:34:www:/var/www:/usr/sbin/nologin
big:x:99999999999:1::/:
"""
GROUP = "root:x:0:\nstaff:x:50:www,other\nweb:x:34:www\n"


@pytest.mark.parametrize(
    ("text", "add", "expected"),
    [
        ("", (), Account(0, 0, (), "/root")),
        ("0", (), Account(0, 0, (), "/root")),
        ("root", (), Account(0, 0, (), "/root")),
        ("www", (), Account(33, 34, (50,), "/var/www")),
        ("33", (), Account(33, 34, (50,), "/var/www")),
        ("www:staff", (), Account(33, 50, (), "/var/www")),
        ("1234", (), Account(1234, 0, (), "/")),
        ("1234:77", (), Account(1234, 77, (), "/")),
        ("www", ("77", "staff", "77"), Account(33, 34, (50, 77), "/var/www")),
    ],
)
def test_users_are_found_as_docker_finds_them(text: str, add: tuple[str, ...], expected: Account) -> None:
    assert accounts.resolve(text, PASSWD, GROUP, add) == expected


@pytest.mark.parametrize("text", ["nobody", "www:nobody", "big"])
def test_unknown_names_are_errors(text: str) -> None:
    with pytest.raises(NotFoundError):
        accounts.resolve(text, PASSWD, GROUP)


@pytest.mark.parametrize("text", ["4294967295", "99999999999999999999", "0:99999999999"])
def test_numbers_have_bounds(text: str) -> None:
    with pytest.raises(UsageError):
        accounts.resolve(text, PASSWD, GROUP)


@given(st.text(max_size=12), st.text(max_size=200), st.text(max_size=200))
def test_hostile_files_never_surprise(text: str, passwd: str, group: str) -> None:
    try:
        found = accounts.resolve(text, passwd, group)
    except ComposerError:
        return
    assert 0 <= found.uid <= accounts.LARGEST_ID
    assert 0 <= found.gid <= accounts.LARGEST_ID


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, None, ["/entry", "serve"]),
        (None, ("own",), ["/entry", "own"]),
        (None, (), ["/entry"]),
        (("sh",), None, ["sh"]),
        (("sh",), ("-c", "x"), ["sh", "-c", "x"]),
        ((), None, ["serve"]),
        ((), ("own",), ["own"]),
    ],
)
def test_arguments(
    entrypoint: tuple[str, ...] | None, command: tuple[str, ...] | None, expected: list[str]
) -> None:
    service = Service(name="web", entrypoint=entrypoint, command=command)
    assert process.arguments(service, {"Entrypoint": ["/entry"], "Cmd": ["serve"]}) == expected


def test_nothing_to_run_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing to run"):
        process.arguments(Service(name="web"), {})


def test_environment_is_layered() -> None:
    service = Service(name="web", tty=True, environment={"A": "service", "GONE": None, "HOME": "/own"})
    image = {"Env": ["A=image", "B=image", "GONE=1", "WITH=a=b"]}
    assert process.environment(service, image, Account(home="/root"), "box") == [
        f"PATH={process.PATH}",
        "HOSTNAME=box",
        "TERM=xterm",
        "A=service",
        "B=image",
        "WITH=a=b",
        "HOME=/own",
    ]


@pytest.mark.parametrize(
    ("own", "image", "expected"),
    [("", "", "/"), ("", "srv", "/srv"), ("/app/../x", "/srv", "/x")],
)
def test_working_dir(own: str, image: str, expected: str) -> None:
    assert process.working_dir(Service(name="web", working_dir=own), {"WorkingDir": image}) == expected


def test_a_working_dir_is_absolute() -> None:
    with pytest.raises(UsageError, match="service web: working_dir 'app' is not absolute"):
        process.working_dir(Service(name="web", working_dir="app"), {})


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("term", 15), ("15", 15), ("RTMIN+3", 37), ("SIGUSR1", 10), ("64", 64)],
)
def test_signals(text: str, number: int) -> None:
    assert process.signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGNOTHING", "RTMIN+99", "RTMIN+x", "TERM+"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(UsageError):
        process.signal_number(text)


def test_exposed_ports_are_those_that_can_be() -> None:
    image: dict[str, Any] = {
        "ExposedPorts": {"80": {}, "53/udp": {}, "0/tcp": {}, "1-65535/tcp": {}, "http": {}}
    }
    assert process.exposed(image) == ["80", "53/udp"]
    assert process.exposed({"ExposedPorts": None}) == []


def test_stop_signal_and_grace_prefer_the_service() -> None:
    image = {"StopSignal": "SIGQUIT"}
    assert process.stop_signal(Service(name="web"), {}) == "SIGTERM"
    assert process.stop_signal(Service(name="web"), image) == "SIGQUIT"
    assert process.stop_signal(Service(name="web", stop_signal="SIGINT"), image) == "SIGINT"
    with pytest.raises(UsageError, match="service web: stop_signal: SIGTREM is no signal"):
        process.stop_signal(Service(name="web"), {"StopSignal": "SIGTREM"})
    assert process.stop_grace(Service(name="web")) == 10 * SECOND
    assert process.stop_grace(Service(name="web", stop_grace_period=0)) == 0


def test_capabilities() -> None:
    service = Service(name="web", cap_drop=("ALL",), cap_add=("CAP_KILL", "chown"))
    assert security.capabilities(service, HostFacts()) == ["CAP_CHOWN", "CAP_KILL"]
    with pytest.raises(UsageError, match="service web: there is no capability FLY"):
        security.capabilities(Service(name="web", cap_add=("FLY",)), HostFacts())


def test_the_model_knows_the_capabilities_of_the_runtime() -> None:
    assert {f"CAP_{name}" for name in CAPABILITIES} == set(NAMES)


@pytest.mark.parametrize(
    ("online", "cpuset", "told"),
    [
        ({0, 1}, "0-63", "cpuset 0-63 names processors"),
        ({0, 1}, "0,999999", "names processors"),
        ({0, 2}, "0-2", "names processors"),
        ({0, 1}, "a-b", "'a-b' is no list"),
        ({0, 1}, "0-99999999999", "is no list"),
        ({0, 1}, "0-1", ""),
        ({0, 1, 2}, "0, 2", ""),
        (set(), "0-63", ""),
    ],
)
def test_a_cpuset_names_processors_that_are_there(online: set[int], cpuset: str, told: str) -> None:
    facts = HostFacts(processors=frozenset(online))
    try:
        limits.processors("web", Resources(cpuset=cpuset), facts)
    except UsageError as error:
        assert told and told in error.message
    else:
        assert not told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"memory": 512}, "512 bytes are too little"),
        ({"memory": 64 << 20, "memory_reservation": 1 << 30}, "is less than mem_reservation"),
        ({"memory": 64 << 20, "memory_swap": 32 << 20}, "cannot be below mem_limit"),
        ({"memory": 6 << 20, "memory_reservation": 6 << 20}, ""),
        ({"memory_reservation": 1 << 30}, ""),
    ],
)
def test_memory_that_docker_refuses(given: dict[str, int], told: str) -> None:
    try:
        limits.memory("web", Resources().replace(**given), HostFacts())
    except UsageError as error:
        assert told and told in error.message
    else:
        assert not told


def test_an_old_kernel_knows_fewer_capabilities() -> None:
    found = security.capabilities(Service(name="web", privileged=True), HostFacts(capabilities=38))
    assert found == list(NAMES[:38])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("c 1:3 mr", {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "mr"}),
        ("b 8:* rwm", {"allow": True, "type": "b", "major": 8, "access": "rwm"}),
        ("a *:* rwm", {"allow": True, "type": "a", "access": "rwm"}),
    ],
)
def test_device_rules(text: str, expected: dict[str, Any]) -> None:
    assert limits.device_rule(text) == expected


def test_hosts_file() -> None:
    extra = {"db": ("10.0.0.9",), "host": ("host-gateway",)}
    text = files.hosts("web", "lan", addresses=("10.0.0.2",), extra=extra, gateways=("10.0.0.1", "fd00::1"))
    rows = dict(line.split("\t") for line in text.splitlines())
    assert rows["127.0.0.1"] == "localhost"
    assert rows["10.0.0.9"] == "db"
    assert rows["10.0.0.1"] == rows["fd00::1"] == "host"
    assert rows["10.0.0.2"] == "web.lan web"
    with pytest.raises(UsageError):
        files.hosts("web", extra={"host": ("host-gateway",)})
