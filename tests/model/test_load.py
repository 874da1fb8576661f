"""The whole pipeline on small files: what comes in as YAML goes out as the typed stack."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pytest

from composer.errors import StackFileError
from composer.model.load import Loaded, Request, load
from composer.model.stack import Dependency, Mount, Port, RestartPolicy


class Disk:
    """Files in memory."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = {path: textwrap.dedent(text).encode() for path, text in files.items()}

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files


def loaded(text: str, environment: Mapping[str, str] | None = None, **more: str) -> Loaded:
    """Load one file; further files by name, in the same folder."""
    files = {"/w/compose.yaml": text} | {f"/w/{name}": content for name, content in more.items()}
    request = Request(("/w/compose.yaml",), "/w", environment=environment or {})
    return load(request, Disk(files))


def test_an_ordinary_file_becomes_an_exact_stack() -> None:
    stack = loaded(
        """
        services:
          web:
            image: nginx
            command: echo "a b" c
            ports: ["8080:80"]
            environment: {A: 1.50, B: true}
            depends_on: [db]
            restart: on-failure:3
            tmpfs: /run:size=1m,mode=1777
            healthcheck: {test: curl x, interval: 1m30s}
            deploy: {resources: {limits: {cpus: "0.5", memory: 64m, pids: 10}}}
          db:
            image: postgres
            volumes: ["data:/var/lib", "./conf:/etc/conf:ro"]
        volumes: {data: }
        """
    ).stack
    web, db = stack.services["web"], stack.services["db"]
    assert stack.name == "w"
    assert web.command == ("echo", "a b", "c")
    assert web.ports == (Port(80, "8080"),)
    assert web.environment == {"A": "1.5", "B": "true"}
    assert web.depends_on == {"db": Dependency()}
    assert web.restart == RestartPolicy("on-failure", 3)
    assert web.volumes == (Mount("tmpfs", "/run", tmpfs_size=1 << 20, tmpfs_mode=0o1777),)
    assert web.healthcheck is not None
    assert web.healthcheck.test == ("CMD-SHELL", "curl x")
    assert web.healthcheck.interval == 90 * 10**9
    assert (web.resources.cpus, web.resources.memory, web.resources.pids) == (0.5, 64 << 20, 10)
    assert db.volumes == (
        Mount("volume", "/var/lib", "data"),
        Mount("bind", "/etc/conf", "/w/conf", read_only=True),
    )
    assert stack.volumes["data"].name == "w_data"
    assert stack.networks["default"].name == "w_default"


def test_all_complaints_come_together_with_their_places() -> None:
    with pytest.raises(StackFileError) as caught:
        loaded(
            """
            services:
              web:
                image: x
                networks: [fornt]
                volumes: ["data:/x"]
              db:
                command: y
            networks: {front: }
            """
        )
    told = {str(c.place): (c.message, c.hint) for c in caught.value.complaints}
    assert list(told) == ["/w/compose.yaml:5:16", "/w/compose.yaml:6:15", "/w/compose.yaml:7:3"]
    assert told["/w/compose.yaml:5:16"] == ("the network `fornt` is not declared", "did you mean `front`?")


ENTRIES = [
    (
        'ports: ["80:x", "81:81", "99999:80", {target: y}, {targt: 1}, "1-2:3-5"]',
        ("0", "2", "3.target", "4", "4.targt", "5"),
    ),
    ('volumes: [":::", "aa:/a", {type: x, target: /b}, "cc:/c", 5]', ("0", "1", "2.type", "3", "4")),
    ('environment: ["A =1", B=2, "C =3", 5, {x: y}]', ("0", "2", "3", "4")),
    ("extra_hosts: [a, b=1.1.1.1, c]", ("0", "2")),
    ("networks: [n, 5, m]", (".n", "1", ".m")),
    ("secrets: [a, 5, b]", ("0", "1", "2")),
    (
        "develop: {watch: [{path: a, action: sync, ignore: [1, 2]}, {path: b, action: no}]}",
        ("watch.0.ignore.0",),
    ),
    ("build: {context: ., ssh: [x, default, y]}", ("ssh.0", "ssh.2")),
    (
        "healthcheck: {test: [x], interval: a, timeout: b, retries: c}",
        (".test", ".interval", ".timeout", ".retries"),
    ),
    ("ulimits: {a: x, b: y}", (".a", ".b")),
]


@pytest.mark.parametrize(("line", "wrong"), ENTRIES, ids=[line for line, _ in ENTRIES])
def test_every_entry_that_is_wrong_is_told_under_its_own_number(line: str, wrong: tuple[str, ...]) -> None:
    """A wrong entry hides no other, whichever stage finds it."""
    with pytest.raises(StackFileError) as caught:
        loaded(f"services: {{a: {{image: x, {line}}}}}")
    key = line.partition(":")[0]
    paths = [".".join(map(str, complaint.path[3:])) for complaint in caught.value.complaints]
    assert {complaint.path[:3] for complaint in caught.value.complaints} == {("services", "a", key)}
    assert set(paths) >= {one.removeprefix(".") for one in wrong}
    assert len(paths) == len(set(paths)) and "services.a." + key + "[1]: must be a mapping" not in str(
        caught.value
    )


def test_a_wrong_entry_in_one_of_several_files() -> None:
    files = {
        "/w/compose.yaml": "services: {a: {image: x, ports: ['80', 'x']}}",
        "/w/more.yaml": "services: {a: {ports: ['81', 'y']}}",
    }
    with pytest.raises(StackFileError) as caught:
        load(Request(tuple(files), "/w"), Disk(files))
    assert "`x` is not a port" in str(caught.value) and "`y` is not a port" in str(caught.value)


PLACES = [
    ("services: {a: {extends: {file: no.yml, service: b}}}", "1:16: services.a.extends: /w/no.yml cannot"),
    ("include: [no.yml]\nservices: {}", "1:11: include: /w/no.yml cannot be read: no such file"),
    ("services: {a: {image: x, ports: ['80', 'x']}}", "1:40: services.a.ports[1]: `x`"),
    (
        "services: {a: {extends: {file: other.yml, service: b}}}",
        "other.yml:1:34: services.b.ports[0]: `x`: `x` is not a port or a range of ports",
    ),
    (
        "services: {a: {extends: b, image: x, env_file: [y]}, b: {env_file: z}}",
        "1:38: services.a.env_file[0]: the env file /w/z does not exist",
    ),
    (
        "services: {a: {image: x, links: [b]}}",
        ":1:34: services.a.links[0]: depends on the unknown",
    ),
    (
        "services: {a: {image: x, volumes_from: ['b:ro']}}",
        ":1:41: services.a.volumes_from[0]: depends on the unknown service `b`",
    ),
    (
        "services: {a: {image: x, network_mode: 'service:b'}}",
        ":1:26: services.a.network_mode: depends on the unknown service `b`",
    ),
]


@pytest.mark.parametrize(("text", "told"), PLACES)
def test_a_complaint_stands_where_its_cause_does(text: str, told: str) -> None:
    with pytest.raises(StackFileError) as caught:
        loaded(text, {}, **{"other.yml": "services: {b: {image: x, ports: ['x']}}"})
    assert any(told in str(complaint) for complaint in caught.value.complaints), str(caught.value)
